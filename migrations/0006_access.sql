-- Assist groups: what products inside Assist give rights to.
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

-- The rule "whoever is in this group of a directory gets this role, is in this Assist group, or both". Keyed by the scim
-- group's stable id, so that a rename neither breaks nor widens it. A group that has not come yet is awaited by its name;
-- without a directory the sign-in's groups claim names it.
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
  -- No cascade: deleting an Assist group must not silently take the role that the same mapping gives.
  FOREIGN KEY (workspace_id, group_id) REFERENCES groups,
  CHECK (num_nonnulls(scim_group_id, awaited_group, claimed_group) = 1),
  CHECK ((directory_id IS NULL) = (claimed_group IS NOT NULL)),
  CHECK (group_id IS NOT NULL OR role IS NOT NULL)
);
CREATE UNIQUE INDEX group_mappings_rule ON group_mappings
  (workspace_id, directory_id, scim_group_id, awaited_group, claimed_group, group_id, role) NULLS NOT DISTINCT;
CREATE INDEX group_mappings_group ON group_mappings (workspace_id, group_id) WHERE group_id IS NOT NULL;

-- Append-only: what each mapping said from then on, and the activity entry that made it so.
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

-- Derived: members of Assist groups. Written only by the recomputation in src/access.
CREATE TABLE group_memberships (
  workspace_id uuid NOT NULL,
  group_id     uuid NOT NULL,
  member_id    uuid NOT NULL,
  PRIMARY KEY (workspace_id, group_id, member_id),
  FOREIGN KEY (workspace_id, group_id) REFERENCES groups ON DELETE CASCADE,
  FOREIGN KEY (workspace_id, member_id) REFERENCES members ON DELETE CASCADE
);
CREATE INDEX group_memberships_member ON group_memberships (workspace_id, member_id, group_id);

-- Append-only: what each change did to a member's access, and the activity entry that caused it.
CREATE TABLE access_changes (
  workspace_id  uuid NOT NULL,
  id            bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  member_id     uuid NOT NULL,
  entry_id      bigint NOT NULL,
  -- The clock, not the start of the transaction: read under the member's lock, it never goes back for one member.
  at            timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  status_before text,
  status_after  text NOT NULL,
  role_before   text,
  role_after    text NOT NULL,
  groups_gained uuid[] NOT NULL DEFAULT '{}',
  groups_lost   uuid[] NOT NULL DEFAULT '{}',
  -- After the change: the mappings that reach the member, and what was given by hand. With what the mappings said then
  -- (group_mapping_versions) they tell the whole of a past state.
  rules         uuid[] NOT NULL DEFAULT '{}',
  manual_role   text,
  manual_policy text,
  PRIMARY KEY (workspace_id, id)
);
CREATE INDEX access_changes_member ON access_changes (workspace_id, member_id, id);
