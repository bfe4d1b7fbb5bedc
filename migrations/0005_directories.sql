-- SCIM directories of a workspace. The endpoint URL contains the id.
CREATE TABLE directories (
  workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  id           uuid NOT NULL,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  -- tolerant accepts common deviations of identity providers and records each leniency. strict follows the RFC.
  mode         text NOT NULL DEFAULT 'tolerant' CHECK (mode IN ('tolerant', 'strict')),
  enabled      boolean NOT NULL DEFAULT true,
  -- Access from its groups while it is disabled: unchanged ('keep') or none ('release').
  when_off     text NOT NULL DEFAULT 'keep' CHECK (when_off IN ('keep', 'release')),
  -- Names of groups that a mapping awaits. They are in this row so that the statement that creates a group reads them under
  -- its lock. Then neither a new mapping nor a new group misses the other.
  awaited_groups text[] NOT NULL DEFAULT '{}',
  -- The guard against mass deprovisioning: number or percentage of users who may lose access within guard_minutes.
  guard_people  integer CHECK (guard_people > 0),
  guard_percent integer CHECK (guard_percent BETWEEN 1 AND 100),
  guard_minutes integer NOT NULL DEFAULT 60 CHECK (guard_minutes BETWEEN 1 AND 10080),
  is_guarded    boolean NOT NULL GENERATED ALWAYS AS (guard_people IS NOT NULL OR guard_percent IS NOT NULL) STORED,
  -- Whether a group has ever contained another group. If not, statements skip the search for parent groups.
  nests_groups  boolean NOT NULL DEFAULT false,
  -- The highest role of members whom its users can be linked to: the role of the person who created the directory or a token
  -- of it. Absent: every role.
  max_linkable_role text CHECK (max_linkable_role <> ''),
  version      integer NOT NULL DEFAULT 1,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  updated_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  -- Target of the foreign key of directory_credentials.
  UNIQUE (workspace_id, id, enabled, is_guarded, nests_groups)
);
-- Finds the workspace of an endpoint, so that a rejected token leaves an entry there.
CREATE INDEX directories_id ON directories (id);

-- Bearer tokens of a directory, returned once and stored as SHA-256. Each SCIM statement starts with this row. It copies the
-- directory's settings that a request needs, and the foreign key keeps the copies current.
CREATE TABLE directory_credentials (
  workspace_id uuid NOT NULL,
  directory_id uuid NOT NULL,
  id           uuid NOT NULL,
  enabled      boolean NOT NULL,
  is_guarded   boolean NOT NULL,
  nests_groups boolean NOT NULL,
  token_hash   bytea NOT NULL CHECK (length(token_hash) = 32),
  hint         text NOT NULL,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  expires_at   timestamptz(3),
  revoked_at   timestamptz(3),
  last_used_at timestamptz(3),
  PRIMARY KEY (workspace_id, directory_id, id),
  FOREIGN KEY (workspace_id, directory_id, enabled, is_guarded, nests_groups)
    REFERENCES directories (workspace_id, id, enabled, is_guarded, nests_groups) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX directory_credentials_carried ON directory_credentials (workspace_id, directory_id, enabled, is_guarded, nests_groups);
CREATE UNIQUE INDEX directory_credentials_token ON directory_credentials (workspace_id, token_hash);

-- Keys of directory tables have the order (directory_id, value, workspace_id). The planner does not know that a directory
-- belongs to one workspace. Two indexes that both start with (workspace_id, directory_id) look equally selective, so its choice
-- would be arbitrary (docs/decisions/0017).

-- SCIM users as the directory sent them. Attributes that statements look up, join or change alone are columns. doc has the
-- other attributes as the JSON text of a response.
CREATE TABLE scim_users (
  workspace_id  uuid NOT NULL,
  directory_id  uuid NOT NULL,
  id            uuid NOT NULL,
  user_name     text NOT NULL,
  user_name_key text NOT NULL,
  external_id   text,
  -- Folded e-mail addresses, because some identity providers match users by them.
  email_keys    text[] NOT NULL DEFAULT '{}',
  active        boolean NOT NULL,
  member_id     uuid NOT NULL,
  version       integer NOT NULL DEFAULT 1,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),
  updated_at    timestamptz(3) NOT NULL DEFAULT now(),
  doc           json NOT NULL,
  -- Ids are UUIDv7, so the key is also the order of pages.
  PRIMARY KEY (directory_id, id, workspace_id),
  -- No foreign key to members, because members are never deleted and the check would cost each new user 15 µs.
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories
);
CREATE UNIQUE INDEX scim_users_user_name ON scim_users (directory_id, user_name_key, workspace_id);
CREATE INDEX scim_users_external_id ON scim_users (directory_id, external_id, workspace_id) WHERE external_id IS NOT NULL;
CREATE INDEX scim_users_email ON scim_users USING gin (email_keys) WITH (fastupdate = off);
-- A member has at most one SCIM user. Of two users with the same address, the second gets a separate member.
CREATE UNIQUE INDEX scim_users_member ON scim_users (workspace_id, member_id);

-- Members of deleted users, so that a person who is hired again with the same externalId finds their work.
CREATE TABLE scim_former_users (
  workspace_id uuid NOT NULL,
  directory_id uuid NOT NULL,
  external_id  text NOT NULL,
  member_id    uuid NOT NULL,
  deleted_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, directory_id, external_id),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories ON DELETE CASCADE,
  FOREIGN KEY (workspace_id, member_id) REFERENCES members ON DELETE CASCADE
);
CREATE INDEX scim_former_users_member ON scim_former_users (workspace_id, member_id);

CREATE TABLE scim_groups (
  workspace_id     uuid NOT NULL,
  directory_id     uuid NOT NULL,
  id               uuid NOT NULL,
  display_name     text NOT NULL,
  display_name_key text NOT NULL,
  external_id      text,
  version          integer NOT NULL DEFAULT 1,
  -- Incremented when the mappings or parent groups of the group change. A concurrent membership change then finds a new version
  -- and retries.
  reach_version    integer NOT NULL DEFAULT 1,
  created_at       timestamptz(3) NOT NULL DEFAULT now(),
  updated_at       timestamptz(3) NOT NULL DEFAULT now(),
  doc              json NOT NULL,
  PRIMARY KEY (directory_id, id, workspace_id),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories
);
CREATE UNIQUE INDEX scim_groups_display_name ON scim_groups (directory_id, display_name_key, workspace_id);
CREATE INDEX scim_groups_external_id ON scim_groups (directory_id, external_id, workspace_id) WHERE external_id IS NOT NULL;

-- Memberships of users in groups, one row each, so that adding a user costs the same in a group of 10 and of 100,000.
-- Instead of foreign keys, whose check per row would cost more than the row, all statements that insert rows join the user and
-- the group of the same directory under a row lock (docs/decisions/0006).
CREATE TABLE scim_group_memberships (
  workspace_id uuid NOT NULL,
  directory_id uuid NOT NULL,
  group_id     uuid NOT NULL,
  user_id      uuid NOT NULL,
  PRIMARY KEY (directory_id, group_id, user_id, workspace_id)
);
CREATE INDEX scim_group_memberships_user ON scim_group_memberships (directory_id, user_id, group_id, workspace_id);

-- Memberships of groups in groups. Mappings of the outer group also apply to users of the inner group.
CREATE TABLE scim_group_subgroups (
  workspace_id uuid NOT NULL,
  directory_id uuid NOT NULL,
  group_id     uuid NOT NULL,
  subgroup_id  uuid NOT NULL,
  PRIMARY KEY (directory_id, group_id, subgroup_id, workspace_id),
  FOREIGN KEY (workspace_id, directory_id, group_id)
    REFERENCES scim_groups (workspace_id, directory_id, id) ON DELETE CASCADE,
  FOREIGN KEY (workspace_id, directory_id, subgroup_id)
    REFERENCES scim_groups (workspace_id, directory_id, id) ON DELETE CASCADE
);
CREATE INDEX scim_group_subgroups_inner ON scim_group_subgroups (directory_id, subgroup_id, group_id, workspace_id);

CREATE FUNCTION note_nesting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE directories SET nests_groups = true
   WHERE workspace_id = NEW.workspace_id AND id = NEW.directory_id AND NOT nests_groups;
  RETURN NULL;
END $$;
CREATE TRIGGER note_nesting AFTER INSERT ON scim_group_subgroups FOR EACH ROW EXECUTE FUNCTION note_nesting();

-- Counters for totalResults. Several slots each, so that concurrent creates rarely wait for one row.
CREATE TABLE scim_counters (
  workspace_id  uuid NOT NULL,
  directory_id  uuid NOT NULL,
  resource_type text NOT NULL CHECK (resource_type IN ('User', 'Group')),
  slot          smallint NOT NULL,
  total         bigint NOT NULL,
  -- Number of deletions. While their sum is unchanged, positions are stable, because a create only appends.
  deleted       bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace_id, directory_id, resource_type, slot),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories
) WITH (fillfactor = 50);

-- Deactivations and deletions that the guard has counted. Those above its threshold are held until an admin decides.
CREATE TABLE guarded_removals (
  workspace_id uuid NOT NULL,
  directory_id uuid NOT NULL,
  user_id      uuid NOT NULL,
  -- The user's member, because the user may be deleted.
  member_id    uuid NOT NULL,
  operation    text NOT NULL CHECK (operation IN ('deactivate', 'delete')),
  -- 'passed' within the threshold; 'held' above it, until an admin has 'accepted' or 'released' the removal.
  state        text NOT NULL CHECK (state IN ('passed', 'held', 'accepted', 'released')),
  attempts     integer NOT NULL DEFAULT 1,
  first_at     timestamptz(3) NOT NULL DEFAULT now(),
  last_at      timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (directory_id, user_id, workspace_id),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories ON DELETE CASCADE
);
CREATE INDEX guarded_removals_state ON guarded_removals (directory_id, state, last_at, workspace_id);
