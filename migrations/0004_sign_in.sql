-- A workspace's OpenID Connect settings: one row, versioned; a sign-in attempt pins the version it began with.
CREATE TABLE sso_configs (
  workspace_id           uuid PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
  issuer                 text NOT NULL CHECK (issuer <> ''),
  client_id              text NOT NULL CHECK (client_id <> ''),
  -- Absent: chosen from the provider's metadata (Discovery 1.0 section 3).
  token_auth_method      text CHECK (token_auth_method IN ('client_secret_basic', 'client_secret_post', 'private_key_jwt')),
  auto_provision         boolean NOT NULL DEFAULT false,
  allowed_domains        text[] NOT NULL DEFAULT '{}',
  -- The workspace's own, logged decision to let in addresses that the provider calls unverified.
  trust_unverified_email boolean NOT NULL DEFAULT false,
  -- The immutable claim that equals a directory's externalId (Okta: sub, Entra: oid): it finds a member before their
  -- e-mail address does. Absent: only the address does.
  external_id_claim        text CHECK (external_id_claim IN ('sub', 'oid')),
  -- The claim of the ID token whose values group mappings may name. Absent: sign-ins say nothing about groups.
  groups_claim           text CHECK (groups_claim <> ''),
  enabled                boolean NOT NULL DEFAULT false,
  -- Until when members who are linked at another issuer are linked anew by an address that is vouched for.
  relink_by_email_until  timestamptz(3),
  -- Since when nobody may enter the workspace by anything else.
  enforced_at            timestamptz(3),
  -- The highest role that a sign-in by these settings can newly link or give: the role of the person who saved them, because an
  -- admin could otherwise let a provider of their own name anyone an owner. Absent: every role; an owner or Assist saved them.
  max_linkable_role      text CHECK (max_linkable_role <> ''),
  -- The endpoints found by the last discovery, shown to the admin; sign-in reads its own fresh copy.
  metadata               jsonb NOT NULL,
  version                integer NOT NULL DEFAULT 1,
  -- Since which version the settings are what they are: enforcing and lifting make a version, and prove or disprove nothing.
  settings_version       integer NOT NULL DEFAULT 1,
  created_at             timestamptz(3) NOT NULL DEFAULT now(),
  updated_at             timestamptz(3) NOT NULL DEFAULT now(),
  CHECK (settings_version <= version)
);

-- What proves to the provider who we are: a secret of the provider's making, or a private key of ours (RFC 7523). Sealed
-- with the key named in the envelope (src/secret-box.ts); never returned, logged or shown. Of each kind two can be live:
-- the newer is tried first and, where the provider refuses it, the older, until the newer has worked.
CREATE TABLE sso_client_credentials (
  workspace_id  uuid NOT NULL REFERENCES sso_configs ON DELETE CASCADE,
  id            uuid NOT NULL,
  sealed        bytea NOT NULL,
  -- The published half of a key; absent for a secret.
  public_jwk    jsonb,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),
  -- When the provider stops taking it, as the admin says.
  expires_at    timestamptz(3),
  -- How many days before that the last reminder was; 0: the day itself has passed.
  reminded_days smallint CHECK (reminded_days BETWEEN 0 AND 30),
  -- When the provider first took it, and since when it refuses it.
  accepted_at   timestamptz(3),
  refused_at    timestamptz(3),
  PRIMARY KEY (workspace_id, id)
);
CREATE INDEX sso_client_credentials_expiry ON sso_client_credentials (expires_at)
  WHERE expires_at IS NOT NULL AND reminded_days IS DISTINCT FROM 0;

-- A real sign-in that ends in a report instead of a session, of the saved configuration or of one that is not saved yet.
CREATE TABLE sso_sign_in_tests (
  workspace_id   uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  id             uuid NOT NULL,
  -- Hash of the token in the start URL, which works once.
  start_hash     bytea NOT NULL CHECK (length(start_hash) = 32),
  -- S256 of the verifier that the creator's browser keeps, so that no other browser can use the result (RFC 9700 section 4.7).
  challenge      text NOT NULL CHECK (challenge ~ '^[A-Za-z0-9_-]{43}$'),
  -- Hash of the code that the browser which signed in received, and when the creator's browser presented both.
  code_hash      bytea CHECK (length(code_hash) = 32),
  confirmed_at   timestamptz(3),
  -- The settings under test and, where they are not the saved ones, the secret that came with them, sealed.
  settings       jsonb NOT NULL,
  sealed_secret  bytea,
  -- The version of the saved configuration that is tested, or as which a draft was saved.
  config_version integer,
  -- The settings_version that it was made beside, which a draft may replace; absent: nothing was saved.
  base_version   integer,
  is_draft       boolean NOT NULL,
  actor_type     text NOT NULL,
  actor_id       text NOT NULL,
  -- The admin who runs the test, where they are known as a member.
  admin_id       uuid,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  expires_at     timestamptz(3) NOT NULL,
  started_at     timestamptz(3),
  finished_at    timestamptz(3),
  passed         boolean,
  report         jsonb,
  -- The claims and the key of the e-mail address, sealed; the report masks them.
  claims_sealed  bytea,
  subject        text,
  -- The member that the sign-in belongs to, or would belong to.
  member_id      uuid,
  -- max_linkable_role of the settings under test.
  max_linkable_role text CHECK (max_linkable_role <> ''),
  PRIMARY KEY (workspace_id, id),
  CHECK ((finished_at IS NULL) = (report IS NULL)),
  CHECK ((finished_at IS NULL) = (passed IS NULL)),
  CHECK (confirmed_at IS NULL OR code_hash IS NOT NULL)
);
CREATE UNIQUE INDEX sso_sign_in_tests_start ON sso_sign_in_tests (workspace_id, start_hash);
CREATE INDEX sso_sign_in_tests_expiry ON sso_sign_in_tests (created_at);

-- How strict a workspace is about sign-ins and the sessions that come of them. No row: the operator's lifetimes, and the
-- provider's own judgement of the authentication.
CREATE TABLE sign_in_policies (
  workspace_id         uuid PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
  session_hours        integer NOT NULL CHECK (session_hours BETWEEN 1 AND 720),
  session_idle_minutes integer NOT NULL CHECK (session_idle_minutes BETWEEN 5 AND 10080),
  -- How long ago the person may have authenticated at the provider (Core 1.0 section 3.1.2.1). Absent: however long.
  max_age_seconds      integer CHECK (max_age_seconds >= 0),
  -- One of these must have been reached, the most wanted first. Empty: whatever the provider does.
  acr_values           text[] NOT NULL DEFAULT '{}',
  version              integer NOT NULL DEFAULT 1,
  created_at           timestamptz(3) NOT NULL DEFAULT now(),
  updated_at           timestamptz(3) NOT NULL DEFAULT now()
);

-- A started sign-in. Nothing about it lives in process memory, so any replica can finish it.
CREATE TABLE sign_in_attempts (
  workspace_id      uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  state_hash        bytea NOT NULL CHECK (length(state_hash) = 32),
  browser_hash      bytea NOT NULL CHECK (length(browser_hash) = 32),
  nonce             text NOT NULL,
  verifier_sealed   bytea NOT NULL,
  issuer            text NOT NULL,
  config_version    integer NOT NULL,
  return_to         text NOT NULL,
  handoff_challenge text NOT NULL,
  -- How often this chain was restarted after an answer such as login_required.
  restarts          smallint NOT NULL DEFAULT 0,
  -- The sign-in test that this attempt is for; absent for a sign-in.
  sign_in_test_id     uuid,
  -- The network that counts as one visitor: an IPv4 address, or the /64 of an IPv6 one.
  address           inet NOT NULL,
  created_at        timestamptz(3) NOT NULL DEFAULT now(),
  expires_at        timestamptz(3) NOT NULL,
  taken_at          timestamptz(3),
  -- How the first delivery of the callback ended, so that a second one lands where it did: 'signed_in', 'restarted',
  -- 'tested' or the code of the refusal; with it the exchange code, or the entry that says why.
  outcome           text,
  outcome_code      bytea,
  outcome_entry_id  bigint,
  PRIMARY KEY (workspace_id, state_hash),
  -- A sign-in always ends with a code, a sign-in test does when a person signed in, nothing else does.
  CHECK (outcome IS DISTINCT FROM 'signed_in' OR outcome_code IS NOT NULL),
  CHECK (outcome_code IS NULL OR outcome IN ('signed_in', 'tested'))
);
CREATE INDEX sign_in_attempts_expiry ON sign_in_attempts (expires_at);
CREATE INDEX sign_in_attempts_address ON sign_in_attempts (address, expires_at) WHERE taken_at IS NULL;

-- Logout tokens that were obeyed (Back-Channel Logout 1.0 section 2.6): each works once, kept while it could come again.
CREATE TABLE logout_tokens (
  workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  issuer       text NOT NULL,
  jti_hash     bytea NOT NULL CHECK (length(jti_hash) = 32),
  expires_at   timestamptz(3) NOT NULL,
  PRIMARY KEY (workspace_id, issuer, jti_hash)
);
CREATE INDEX logout_tokens_expiry ON logout_tokens (expires_at);

-- The keys that sign access tokens (ES256), shared by all replicas. Belongs to the service, not to a workspace.
CREATE TABLE signing_keys (
  kid            text PRIMARY KEY,
  public_jwk     jsonb NOT NULL,
  private_sealed bytea NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  -- Signs until retires_at, is published until expires_at.
  retires_at     timestamptz(3) NOT NULL,
  expires_at     timestamptz(3) NOT NULL,
  CHECK (created_at < retires_at AND retires_at < expires_at)
);
