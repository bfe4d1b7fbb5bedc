-- The minimum for the workloads: no members, no access, no credentials, and no unused keys.
CREATE TABLE users (
  workspace   integer NOT NULL,
  id          uuid NOT NULL,
  user_name   text NOT NULL,
  external_id text,
  active      boolean NOT NULL,
  version     integer NOT NULL DEFAULT 1,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  doc         json NOT NULL,
  PRIMARY KEY (workspace, id)
);
CREATE UNIQUE INDEX users_user_name ON users (workspace, lower(user_name));
CREATE UNIQUE INDEX users_external_id ON users (workspace, external_id) WHERE external_id IS NOT NULL;

-- One row per address. A look-up costs half as much as with a GIN index over an array; an insert costs the same.
CREATE TABLE user_emails (
  workspace integer NOT NULL,
  email     text NOT NULL,
  user_id   uuid NOT NULL,
  PRIMARY KEY (workspace, email, user_id)
);

CREATE TABLE groups (
  workspace    integer NOT NULL,
  id           uuid NOT NULL,
  display_name text NOT NULL,
  version      integer NOT NULL DEFAULT 1,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  updated_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace, id)
);
CREATE INDEX groups_display_name ON groups (workspace, lower(display_name));

CREATE TABLE group_members (
  workspace integer NOT NULL,
  group_id  uuid NOT NULL,
  user_id   uuid NOT NULL,
  PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id, group_id);

CREATE TABLE activity (
  workspace integer NOT NULL,
  id        bigint GENERATED ALWAYS AS IDENTITY,
  at        timestamptz NOT NULL DEFAULT now(),
  action    text NOT NULL,
  target    uuid,
  detail    jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (workspace, id)
);

-- Counters for totalResults, so that lists need no count(*). Several slots, so that concurrent creates rarely wait for one row.
CREATE TABLE counters (
  workspace integer NOT NULL,
  slot      integer NOT NULL,
  total     bigint NOT NULL,
  PRIMARY KEY (workspace, slot)
) WITH (fillfactor = 50);

CREATE TABLE providers (
  workspace integer PRIMARY KEY,
  issuer    text NOT NULL,
  keys      jsonb NOT NULL
);

CREATE TABLE sign_in_attempts (
  workspace   integer NOT NULL,
  state_hash  bytea NOT NULL,
  secret_hash bytea NOT NULL,
  nonce       text NOT NULL,
  verifier    text NOT NULL,
  challenge   text NOT NULL,
  taken       boolean NOT NULL DEFAULT false,
  PRIMARY KEY (workspace, state_hash)
);

CREATE TABLE sessions (
  workspace  integer NOT NULL,
  id         uuid NOT NULL,
  user_id    uuid NOT NULL,
  code_hash  bytea NOT NULL,
  challenge  text NOT NULL,
  token_hash bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace, id)
);
CREATE UNIQUE INDEX sessions_code ON sessions (code_hash);
