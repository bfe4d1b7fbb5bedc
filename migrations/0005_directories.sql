-- One SCIM source of a workspace. Its id is in the endpoint URL.
CREATE TABLE directories (
  workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  id           uuid NOT NULL,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  -- tolerant accepts what identity providers really send and records each leniency; strict refuses by the RFC.
  mode         text NOT NULL DEFAULT 'tolerant' CHECK (mode IN ('tolerant', 'strict')),
  enabled      boolean NOT NULL DEFAULT true,
  -- What its groups give while it is off: what they gave ('keep'), or nothing ('release').
  when_off     text NOT NULL DEFAULT 'keep' CHECK (when_off IN ('keep', 'release')),
  -- Names of groups that a mapping was made for before they came. In this row, so that whoever brings such a group reads
  -- them under a lock of it, and neither side misses the other.
  awaited_groups text[] NOT NULL DEFAULT '{}',
  -- The guard against mass deprovisioning: how many people, or what part of its users, may lose access within the window.
  guard_people  integer CHECK (guard_people > 0),
  guard_percent integer CHECK (guard_percent BETWEEN 1 AND 100),
  guard_minutes integer NOT NULL DEFAULT 60 CHECK (guard_minutes BETWEEN 1 AND 10080),
  is_guarded    boolean NOT NULL GENERATED ALWAYS AS (guard_people IS NOT NULL OR guard_percent IS NOT NULL) STORED,
  -- Whether a group has ever been put into another: where none has, nobody looks around a group for those it is in.
  nests_groups  boolean NOT NULL DEFAULT false,
  -- The highest role whose members its users may be newly linked to: the role of the person who created the directory or a
  -- token of it. Absent: every role.
  max_linkable_role text CHECK (max_linkable_role <> ''),
  version      integer NOT NULL DEFAULT 1,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  updated_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  -- What the credentials carry.
  UNIQUE (workspace_id, id, enabled, is_guarded, nests_groups)
);
-- A refused token must still leave an entry with the workspace whose endpoint was called.
CREATE INDEX directories_id ON directories (id);

-- Bearer tokens of a directory: shown once, kept as SHA-256. Each statement of SCIM begins with this row, which says all that
-- a request must know of its directory; the foreign key keeps that true.
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

-- Keys of what a directory holds have the order (directory_id, value, workspace_id). The planner does not know that a directory
-- belongs to one workspace: two indexes that both begin with (workspace_id, directory_id) look equally selective to it, and it
-- picks one by chance (docs/decisions/0017).

-- A person as the directory sent them: what is looked up, joined or changed alone in columns, the rest in doc as the
-- exact JSON text that an answer carries.
CREATE TABLE scim_users (
  workspace_id  uuid NOT NULL,
  directory_id  uuid NOT NULL,
  id            uuid NOT NULL,
  user_name     text NOT NULL,
  user_name_key text NOT NULL,
  external_id   text,
  -- Folded e-mail values: what identity providers match on beside userName and externalId.
  email_keys    text[] NOT NULL DEFAULT '{}',
  active        boolean NOT NULL,
  member_id     uuid NOT NULL,
  version       integer NOT NULL DEFAULT 1,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),
  updated_at    timestamptz(3) NOT NULL DEFAULT now(),
  doc           json NOT NULL,
  -- Ids are UUIDv7: the key is also the paging order.
  PRIMARY KEY (directory_id, id, workspace_id),
  -- None to members, whom nothing deletes: the check would cost each new user 15 µs.
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories
);
CREATE UNIQUE INDEX scim_users_user_name ON scim_users (directory_id, user_name_key, workspace_id);
CREATE INDEX scim_users_external_id ON scim_users (directory_id, external_id, workspace_id) WHERE external_id IS NOT NULL;
CREATE INDEX scim_users_email ON scim_users USING gin (email_keys) WITH (fastupdate = off);
-- A member follows one directory user at most: of two that have one address, the second gets a member of its own.
CREATE UNIQUE INDEX scim_users_member ON scim_users (workspace_id, member_id);

-- Whose member a deleted user was, so that a rehire with the same externalId gets their work back.
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
  -- Raised by whoever changes what the group is mapped to or nested in: a membership change that was decided before
  -- that finds the row changed, and is decided again.
  reach_version    integer NOT NULL DEFAULT 1,
  created_at       timestamptz(3) NOT NULL DEFAULT now(),
  updated_at       timestamptz(3) NOT NULL DEFAULT now(),
  doc              json NOT NULL,
  PRIMARY KEY (directory_id, id, workspace_id),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories
);
CREATE UNIQUE INDEX scim_groups_display_name ON scim_groups (directory_id, display_name_key, workspace_id);
CREATE INDEX scim_groups_external_id ON scim_groups (directory_id, external_id, workspace_id) WHERE external_id IS NOT NULL;

-- Who is in a group: one row each, so that adding one person costs the same in a group of ten and of a hundred thousand.
-- Written only by statements that join the user and the group of the same directory under a row lock, in place of
-- foreign keys, whose per-row check would cost more than the row (docs/decisions).
CREATE TABLE scim_group_memberships (
  workspace_id uuid NOT NULL,
  directory_id uuid NOT NULL,
  group_id     uuid NOT NULL,
  user_id      uuid NOT NULL,
  PRIMARY KEY (directory_id, group_id, user_id, workspace_id)
);
CREATE INDEX scim_group_memberships_user ON scim_group_memberships (directory_id, user_id, group_id, workspace_id);

-- Groups in groups; access flows from the inner group's people to what the outer group is mapped to.
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

-- totalResults without counting: several slots each, so that concurrent creates rarely wait for one row.
CREATE TABLE scim_counters (
  workspace_id  uuid NOT NULL,
  directory_id  uuid NOT NULL,
  resource_type text NOT NULL CHECK (resource_type IN ('User', 'Group')),
  slot          smallint NOT NULL,
  total         bigint NOT NULL,
  -- Deletions so far: while their sum stays, the resource at a position stays there, since creation only appends.
  deleted       bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace_id, directory_id, resource_type, slot),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories
) WITH (fillfactor = 50);

-- Deactivations and deletions that met the guard while it was on: who may leave within its window, and who is held until an
-- admin decides.
CREATE TABLE guarded_removals (
  workspace_id uuid NOT NULL,
  directory_id uuid NOT NULL,
  user_id      uuid NOT NULL,
  -- Of the directory's user, which may be gone.
  member_id    uuid NOT NULL,
  operation    text NOT NULL CHECK (operation IN ('deactivate', 'delete')),
  -- 'passed' within the limit; 'held' over it, until an admin has 'accepted' that they leave, or 'released' them from it.
  state        text NOT NULL CHECK (state IN ('passed', 'held', 'accepted', 'released')),
  attempts     integer NOT NULL DEFAULT 1,
  first_at     timestamptz(3) NOT NULL DEFAULT now(),
  last_at      timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (directory_id, user_id, workspace_id),
  FOREIGN KEY (workspace_id, directory_id) REFERENCES directories ON DELETE CASCADE
);
CREATE INDEX guarded_removals_state ON guarded_removals (directory_id, state, last_at, workspace_id);
