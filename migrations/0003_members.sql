-- Enumerations that hot statements write are domains. Postgres caches the check of a domain, but parses a table's CHECK for
-- every statement (docs/decisions/0004).
CREATE DOMAIN member_status AS text CHECK (VALUE IN ('invited', 'active', 'deactivated'));
CREATE DOMAIN access_ender AS text CHECK (VALUE IN ('admin', 'directory'));
CREATE DOMAIN manual_policy AS text CHECK (VALUE IN ('floor', 'locked'));
CREATE DOMAIN member_origin AS text CHECK (VALUE IN ('invite', 'sso', 'directory'));

-- People in a workspace. src/access derives role and status and is their only writer after the insert.
-- No foreign key to workspaces, because each insert locks the workspace row to read the default role. Rules between columns
-- are checked at the end of every test (test/helpers/invariants.ts).
CREATE TABLE members (
  workspace_id          uuid NOT NULL,
  id                    uuid NOT NULL,
  -- As received. Absent if a directory sent none, or one that another member has.
  email                 text,
  -- Folded for comparison. COLLATE "C", so that the unique index also finds addresses by prefix.
  email_key             text COLLATE "C",
  display_name          text,
  status                member_status NOT NULL,
  -- Set while deactivated.
  deactivated_by        access_ender,
  role                  text NOT NULL,
  -- The group mappings that apply to this member, ordered. Derived together with the role.
  rules                 uuid[] NOT NULL DEFAULT '{}',
  -- A manual role: with 'floor' it is the minimum, with 'locked' the exact role.
  manual_role           text,
  manual_policy         manual_policy,
  -- Groups claim of the last sign-in, ordered. It counts only for members without a directory.
  claimed_groups        text[] NOT NULL DEFAULT '{}',
  origin                member_origin NOT NULL,
  -- Set while invited.
  invitation_expires_at timestamptz(3),
  -- Sessions created before this time are invalid, including a session that a sign-in created while access was being ended.
  reactivated_at        timestamptz(3),
  version               integer NOT NULL DEFAULT 1,
  created_at            timestamptz(3) NOT NULL DEFAULT now(),
  updated_at            timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX members_email ON members (workspace_id, email_key) WHERE email_key IS NOT NULL;
-- Members whom a mapping of a claimed group can affect.
CREATE INDEX members_claimed_groups ON members (workspace_id, id) WHERE claimed_groups <> '{}';
-- Each demotion and deactivation checks whether another active owner remains.
CREATE INDEX members_owners ON members (workspace_id, id) WHERE role = 'owner' AND status = 'active';

-- Issuer and subject by which a provider identifies a member. Look-ups always include the workspace.
CREATE TABLE identities (
  workspace_id    uuid NOT NULL,
  issuer          text NOT NULL CHECK (issuer <> ''),
  subject         text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
  member_id       uuid NOT NULL,
  linked_by       text NOT NULL CHECK (linked_by IN ('provisioned', 'email', 'invitation', 'directory', 'claim', 'member')),
  -- Value of the configured immutable claim at the last sign-in. It finds the member if the provider sends a new subject,
  -- for example after a new app registration in Entra.
  stable_id       text CHECK (length(stable_id) BETWEEN 1 AND 255),
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  last_sign_in_at timestamptz(3),
  PRIMARY KEY (workspace_id, issuer, subject),
  FOREIGN KEY (workspace_id, member_id) REFERENCES members ON DELETE CASCADE
);
-- One subject per issuer and member. A second one is rejected: a reassigned mailbox or a new app registration.
CREATE UNIQUE INDEX identities_member ON identities (workspace_id, member_id, issuer);
CREATE INDEX identities_stable_id ON identities (workspace_id, issuer, stable_id) WHERE stable_id IS NOT NULL;

-- Finished sign-ins. The token is created when the front-end redeems the exchange code; only its hash is stored.
CREATE TABLE sessions (
  workspace_id    uuid NOT NULL,
  id              uuid NOT NULL,
  member_id       uuid NOT NULL,
  token_hash      bytea CHECK (length(token_hash) = 32),
  -- 'recovery': created by an owner's recovery code, and limited to the SSO settings.
  method          text NOT NULL DEFAULT 'sso' CHECK (method IN ('sso', 'recovery')),
  issuer          text,
  subject         text,
  -- The version of the SSO configuration with which the sign-in succeeded.
  config_version  integer,
  idp_session_id  text,
  id_token_sealed bytea,
  auth_time       timestamptz(3),
  acr             text,
  amr             text[],
  address         inet,
  user_agent      text,
  -- Time of the insert, because its transaction may have started before the member was deactivated and reactivated.
  created_at      timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  last_seen_at    timestamptz(3) NOT NULL DEFAULT now(),
  -- Copies of the policy's lifetimes, so that checking a session does not read the policy. A stricter policy updates them.
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
-- member_id first, because on a new table Postgres would otherwise use this index for look-ups of one session and scan all
-- sessions of the workspace (test/sign-in/plans.test.ts).
CREATE INDEX sessions_member ON sessions (member_id, workspace_id);
-- Look-ups by the provider's session id (sid) in logout tokens.
CREATE INDEX sessions_idp_session ON sessions (workspace_id, idp_session_id) WHERE idp_session_id IS NOT NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);
-- Sessions whose exchange code was not redeemed, for the sweep.
CREATE INDEX sessions_unredeemed ON sessions (created_at) WHERE token_hash IS NULL;

-- Exchange codes that the browser carries from the callback to the front-end. A code is valid once, for one minute, and only
-- together with the verifier of the challenge from the start.
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

-- Single-use codes that give an owner access to the SSO settings while SSO is enforced. Only hashes are stored. A new set
-- replaces the old one.
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
