-- Vocabularies are domains where a hot statement writes them: Postgres keeps the check of a domain at hand, and reads the
-- text of a table's CHECK anew at every statement (docs/decisions/0004).
CREATE DOMAIN member_status AS text CHECK (VALUE IN ('invited', 'active', 'deactivated'));
CREATE DOMAIN access_ender AS text CHECK (VALUE IN ('admin', 'directory'));
CREATE DOMAIN manual_policy AS text CHECK (VALUE IN ('floor', 'locked'));
CREATE DOMAIN member_origin AS text CHECK (VALUE IN ('invite', 'sso', 'directory'));

-- People in a workspace. Role and status are derived (src/access): nothing else writes them after the row is made.
-- Without a foreign key, since whoever makes one has locked the workspace to read its default role. What must hold between
-- columns is asked at the end of every test (test/helpers/invariants.ts).
CREATE TABLE members (
  workspace_id          uuid NOT NULL,
  id                    uuid NOT NULL,
  -- As received, and folded for comparison. Absent where a directory sent none, or one that another member holds.
  email                 text,
  -- In the order of its characters, so that the unique index also finds addresses by how they begin.
  email_key             text COLLATE "C",
  display_name          text,
  status                member_status NOT NULL,
  -- Set while deactivated.
  deactivated_by        access_ender,
  role                  text NOT NULL,
  -- Derived with the role: the group mappings that reach this member, ordered.
  rules                 uuid[] NOT NULL DEFAULT '{}',
  -- A role given by hand: 'floor' is never gone below, 'locked' is exactly this.
  manual_role           text,
  manual_policy         manual_policy,
  -- What the groups claim of the last sign-in said, ordered; it counts for whom no directory provides.
  claimed_groups        text[] NOT NULL DEFAULT '{}',
  origin                member_origin NOT NULL,
  -- Set while invited.
  invitation_expires_at timestamptz(3),
  -- Sessions from before are over: also one that a sign-in finished at the moment in which access was ended.
  reactivated_at        timestamptz(3),
  version               integer NOT NULL DEFAULT 1,
  created_at            timestamptz(3) NOT NULL DEFAULT now(),
  updated_at            timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX members_email ON members (workspace_id, email_key) WHERE email_key IS NOT NULL;
-- Whom a mapping of a claimed group concerns.
CREATE INDEX members_claimed_groups ON members (workspace_id, id) WHERE claimed_groups <> '{}';
-- "Is this the last owner" is asked before each demotion and deactivation.
CREATE INDEX members_owners ON members (workspace_id, id) WHERE role = 'owner' AND status = 'active';

-- The proof that a person is a member: what an issuer calls them. Never looked up without the workspace.
CREATE TABLE identities (
  workspace_id    uuid NOT NULL,
  issuer          text NOT NULL CHECK (issuer <> ''),
  subject         text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
  member_id       uuid NOT NULL,
  linked_by       text NOT NULL CHECK (linked_by IN ('provisioned', 'email', 'invitation', 'directory', 'claim', 'member')),
  -- The configured claim that never changes for a person, as the last sign-in had it: it finds them again where the
  -- provider gives another subject, as for a new app registration in Entra.
  stable_id       text CHECK (length(stable_id) BETWEEN 1 AND 255),
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  last_sign_in_at timestamptz(3),
  PRIMARY KEY (workspace_id, issuer, subject),
  FOREIGN KEY (workspace_id, member_id) REFERENCES members ON DELETE CASCADE
);
-- One subject an issuer for each member: a second one is a recycled mailbox or a new app registration, and refused.
CREATE UNIQUE INDEX identities_member ON identities (workspace_id, member_id, issuer);
CREATE INDEX identities_stable_id ON identities (workspace_id, issuer, stable_id) WHERE stable_id IS NOT NULL;

-- A finished sign-in. The token exists once the front-end has redeemed its exchange code; only its hash is kept.
CREATE TABLE sessions (
  workspace_id    uuid NOT NULL,
  id              uuid NOT NULL,
  member_id       uuid NOT NULL,
  token_hash      bytea CHECK (length(token_hash) = 32),
  -- 'recovery': by a code of an owner's, for the SSO settings only, while the identity provider is of no use.
  method          text NOT NULL DEFAULT 'sso' CHECK (method IN ('sso', 'recovery')),
  issuer          text,
  subject         text,
  -- The version of the SSO configuration that this sign-in has proved to work.
  config_version  integer,
  idp_session_id  text,
  id_token_sealed bytea,
  auth_time       timestamptz(3),
  acr             text,
  amr             text[],
  address         inet,
  user_agent      text,
  -- Of the insert, not of its transaction, which may have waited for the member to be deactivated and activated.
  created_at      timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  last_seen_at    timestamptz(3) NOT NULL DEFAULT now(),
  -- Both limits are the session's own, so that checking it reads no other row; a stricter policy shortens them here.
  idle_minutes    integer NOT NULL CHECK (idle_minutes > 0),
  expires_at      timestamptz(3) NOT NULL,
  ended_at        timestamptz(3),
  end_reason      text,
  PRIMARY KEY (workspace_id, id),
  FOREIGN KEY (workspace_id, member_id) REFERENCES members ON DELETE CASCADE,
  CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
  CHECK ((method = 'sso') = (issuer IS NOT NULL AND subject IS NOT NULL))
);
CREATE UNIQUE INDEX sessions_token ON sessions (workspace_id, token_hash) WHERE token_hash IS NOT NULL;
-- The member first, so that no look-up by the whole key of a session takes it for a way to all of the workspace, which is
-- how Postgres plans while the table is new (test/sign-in/plans.test.ts).
CREATE INDEX sessions_member ON sessions (member_id, workspace_id);
-- By what the provider calls its own session, as its logout tokens do.
CREATE INDEX sessions_idp_session ON sessions (workspace_id, idp_session_id) WHERE idp_session_id IS NOT NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);
-- Sign-ins whose exchange code nobody redeemed, for the sweep.
CREATE INDEX sessions_unredeemed ON sessions (created_at) WHERE token_hash IS NULL;

-- What the browser carries from the callback to the front-end: usable once, for a minute, by whoever holds the
-- verifier of the challenge given at the start.
CREATE TABLE exchange_codes (
  workspace_id      uuid NOT NULL,
  code_hash         bytea NOT NULL CHECK (length(code_hash) = 32),
  session_id        uuid NOT NULL,
  handoff_challenge text NOT NULL,
  return_to         text NOT NULL,
  expires_at        timestamptz(3) NOT NULL,
  used_at           timestamptz(3),
  PRIMARY KEY (workspace_id, code_hash),
  FOREIGN KEY (workspace_id, session_id) REFERENCES sessions ON DELETE CASCADE
);
CREATE INDEX exchange_codes_session ON exchange_codes (workspace_id, session_id);
CREATE INDEX exchange_codes_expiry ON exchange_codes (expires_at);

-- One-time codes by which an owner gets at the SSO settings of a workspace that enforces SSO. Only hashes are kept; a new
-- set replaces the old one.
CREATE TABLE recovery_codes (
  workspace_id uuid NOT NULL,
  code_hash    bytea NOT NULL CHECK (length(code_hash) = 32),
  member_id    uuid NOT NULL,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  used_at      timestamptz(3),
  PRIMARY KEY (workspace_id, code_hash),
  FOREIGN KEY (workspace_id, member_id) REFERENCES members ON DELETE CASCADE
);
CREATE INDEX recovery_codes_member ON recovery_codes (workspace_id, member_id);
