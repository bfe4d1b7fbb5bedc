-- Assist groups. Products inside Assist give rights to them.
CREATE TABLE groups (
  workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  id           uuid NOT NULL,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  name_key     text NOT NULL,
  version      integer NOT NULL DEFAULT 1,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  updated_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX groups_name ON groups (workspace_id, name_key);

-- Group mappings: users of a SCIM group get a role, an Assist group, or both. A mapping refers to the group's id, so that a
-- rename neither breaks nor widens it. A group that does not exist yet is awaited by name. Without a directory, the mapping
-- refers to a value of the groups claim of sign-ins.
CREATE TABLE group_mappings (
  workspace_id  uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  id            uuid NOT NULL,
  directory_id  uuid,
  scim_group_id uuid,
  awaited_group text CHECK (awaited_group <> ''),
  claimed_group text CHECK (claimed_group <> ''),
  group_id      uuid,
  role          text,
  version       integer NOT NULL DEFAULT 1,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),
  updated_at    timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories ON DELETE CASCADE,
  FOREIGN KEY (workspace_id, directory_id, scim_group_id)
    REFERENCES scim_groups (workspace_id, directory_id, id) ON DELETE CASCADE,
  -- No cascade, because deleting an Assist group must not silently remove the role of the same mapping.
  FOREIGN KEY (workspace_id, group_id) REFERENCES groups,
  CHECK (num_nonnulls(scim_group_id, awaited_group, claimed_group) = 1),
  CHECK ((directory_id IS NULL) = (claimed_group IS NOT NULL)),
  CHECK (group_id IS NOT NULL OR role IS NOT NULL)
);
CREATE UNIQUE INDEX group_mappings_rule ON group_mappings
  (workspace_id, directory_id, scim_group_id, awaited_group, claimed_group, group_id, role) NULLS NOT DISTINCT;
CREATE INDEX group_mappings_group ON group_mappings (workspace_id, group_id) WHERE group_id IS NOT NULL;

-- Append-only history of mappings, each version with the activity entry of its change.
CREATE TABLE group_mapping_versions (
  workspace_id  uuid NOT NULL,
  id            bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  mapping_id    uuid NOT NULL,
  entry_id      bigint NOT NULL,
  at            timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  is_deleted    boolean NOT NULL DEFAULT false,
  directory_id  uuid,
  scim_group_id uuid,
  awaited_group text,
  claimed_group text,
  group_id      uuid,
  role          text,
  PRIMARY KEY (workspace_id, id)
);
CREATE INDEX group_mapping_versions_mapping ON group_mapping_versions (workspace_id, mapping_id, id);

-- Members of Assist groups. Derived and written only by src/access.
CREATE TABLE group_memberships (
  workspace_id uuid NOT NULL,
  group_id     uuid NOT NULL,
  member_id    uuid NOT NULL,
  PRIMARY KEY (workspace_id, group_id, member_id),
  FOREIGN KEY (workspace_id, group_id) REFERENCES groups ON DELETE CASCADE,
  FOREIGN KEY (workspace_id, member_id) REFERENCES members ON DELETE CASCADE
);
CREATE INDEX group_memberships_member ON group_memberships (workspace_id, member_id, group_id);

-- Append-only history of members' access, each change with its activity entry.
CREATE TABLE access_changes (
  workspace_id  uuid NOT NULL,
  id            bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  member_id     uuid NOT NULL,
  entry_id      bigint NOT NULL,
  -- Clock time under the member's lock instead of the start of the transaction, so that it never decreases for a member.
  at            timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  status_before text,
  status_after  text NOT NULL,
  role_before   text,
  role_after    text NOT NULL,
  groups_gained uuid[] NOT NULL DEFAULT '{}',
  groups_lost   uuid[] NOT NULL DEFAULT '{}',
  -- Mappings and manual role after the change. Together with group_mapping_versions they describe the complete state at
  -- that time.
  rules         uuid[] NOT NULL DEFAULT '{}',
  manual_role   text,
  manual_policy text,
  PRIMARY KEY (workspace_id, id)
);
CREATE INDEX access_changes_member ON access_changes (workspace_id, member_id, id);
