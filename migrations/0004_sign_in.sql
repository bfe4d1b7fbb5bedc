-- OpenID Connect settings of a workspace: one versioned row. A sign-in attempt uses the version with which it began.
CREATE TABLE sso_configs (
  workspace_id           uuid PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
  issuer                 text NOT NULL CHECK (issuer <> ''),
  client_id              text NOT NULL CHECK (client_id <> ''),
  -- Absent: selected from the provider's metadata (Discovery 1.0 section 3).
  token_auth_method      text CHECK (token_auth_method IN ('client_secret_basic', 'client_secret_post', 'private_key_jwt')),
  auto_provision         boolean NOT NULL DEFAULT false,
  allowed_domains        text[] NOT NULL DEFAULT '{}',
  -- The workspace accepts addresses with email_verified false. The activity log records this decision.
  trust_unverified_email boolean NOT NULL DEFAULT false,
  -- The immutable claim that equals a directory's externalId (Okta: sub, Entra: oid). It is matched before the e-mail
  -- address. Absent: only the address is matched.
  external_id_claim        text CHECK (external_id_claim IN ('sub', 'oid')),
  -- The claim of the ID token with the names of groups for mappings. Absent: sign-ins have no groups.
  groups_claim           text CHECK (groups_claim <> ''),
  enabled                boolean NOT NULL DEFAULT false,
  -- Until this time, a trusted address also links members who are linked at another issuer.
  relink_by_email_until  timestamptz(3),
  -- Time since which members can sign in only by SSO. Absent: SSO is not enforced.
  enforced_at            timestamptz(3),
  -- The highest role that a sign-in with these settings can link or give: the role of the person who saved them. Otherwise an
  -- admin could configure their own provider and sign in as an owner. Absent: every role, because an owner or Assist saved them.
  max_linkable_role      text CHECK (max_linkable_role <> ''),
  -- Endpoints of the last discovery, shown to admins. Sign-ins do not use this copy.
  metadata               jsonb NOT NULL,
  version                integer NOT NULL DEFAULT 1,
  -- The version in which the settings last changed. Enforcing SSO and lifting it create a version but change no settings.
  settings_version       integer NOT NULL DEFAULT 1,
  created_at             timestamptz(3) NOT NULL DEFAULT now(),
  updated_at             timestamptz(3) NOT NULL DEFAULT now(),
  CHECK (settings_version <= version)
);

-- Client credentials: secrets issued by the provider, or private keys of this service (RFC 7523). Sealed with the key named in
-- the envelope (src/secret-box.ts); never returned or logged. Two of each kind can be live. A sign-in tries the newer one first.
-- If the provider rejects it, the sign-in tries the older one, until the newer one has worked.
CREATE TABLE sso_client_credentials (
  workspace_id  uuid NOT NULL REFERENCES sso_configs ON DELETE CASCADE,
  id            uuid NOT NULL,
  sealed        bytea NOT NULL,
  -- Public key of a private key. Absent for a secret.
  public_jwk    jsonb,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),
  -- Expiry at the provider, as entered by the admin.
  expires_at    timestamptz(3),
  -- Days before expiry of the last reminder. 0: the credential has expired.
  reminded_days smallint CHECK (reminded_days BETWEEN 0 AND 30),
  -- Time of the first success, and time since which the provider rejects the credential.
  accepted_at   timestamptz(3),
  refused_at    timestamptz(3),
  PRIMARY KEY (workspace_id, id)
);
CREATE INDEX sso_client_credentials_expiry ON sso_client_credentials (expires_at)
  WHERE expires_at IS NOT NULL AND reminded_days IS DISTINCT FROM 0;

-- Sign-in tests: real sign-ins that end in a report instead of a session, with saved or unsaved settings.
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
  -- The tested settings. For unsaved settings also their secret, sealed.
  settings       jsonb NOT NULL,
  sealed_secret  bytea,
  -- The tested version of the saved configuration, or the version that saving a draft created.
  config_version integer,
  -- The settings_version when the draft was created. The draft may replace only this version. Absent: nothing was saved.
  base_version   integer,
  is_draft       boolean NOT NULL,
  actor_type     text NOT NULL,
  actor_id       text NOT NULL,
  -- The member who created the test, if known.
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
  -- The member whom the sign-in identified, or would link.
  member_id      uuid,
  -- max_linkable_role of the tested settings.
  max_linkable_role text CHECK (max_linkable_role <> ''),
  PRIMARY KEY (workspace_id, id),
  CHECK ((finished_at IS NULL) = (report IS NULL)),
  CHECK ((finished_at IS NULL) = (passed IS NULL)),
  CHECK (confirmed_at IS NULL OR code_hash IS NOT NULL)
);
CREATE UNIQUE INDEX sso_sign_in_tests_start ON sso_sign_in_tests (workspace_id, start_hash);
CREATE INDEX sso_sign_in_tests_expiry ON sso_sign_in_tests (created_at);

-- Session lifetimes and required authentication of a workspace. No row: the operator's lifetimes, and any authentication that
-- the provider accepts.
CREATE TABLE sign_in_policies (
  workspace_id         uuid PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
  session_hours        integer NOT NULL CHECK (session_hours BETWEEN 1 AND 720),
  session_idle_minutes integer NOT NULL CHECK (session_idle_minutes BETWEEN 5 AND 10080),
  -- Maximum age of the authentication at the provider (Core 1.0 section 3.1.2.1). Absent: unlimited.
  max_age_seconds      integer CHECK (max_age_seconds >= 0),
  -- Accepted values of acr, preferred first. Empty: any.
  acr_values           text[] NOT NULL DEFAULT '{}',
  version              integer NOT NULL DEFAULT 1,
  created_at           timestamptz(3) NOT NULL DEFAULT now(),
  updated_at           timestamptz(3) NOT NULL DEFAULT now()
);

-- Started sign-ins. Their whole state is in this table, so that any replica can finish them.
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
  -- Number of restarts, for example after login_required.
  restarts          smallint NOT NULL DEFAULT 0,
  -- The sign-in test of this attempt. Absent for a sign-in.
  sign_in_test_id     uuid,
  -- Network for the limit of open attempts: an IPv4 address, or the /64 of an IPv6 address.
  address           inet NOT NULL,
  created_at        timestamptz(3) NOT NULL DEFAULT now(),
  expires_at        timestamptz(3) NOT NULL,
  taken_at          timestamptz(3),
  -- Outcome of the first delivery of the callback, so that a second one gets the same redirect: 'signed_in', 'restarted',
  -- 'tested' or the error code. outcome_code is the exchange code; outcome_entry_id is the entry of a refusal.
  outcome           text,
  outcome_code      bytea,
  outcome_entry_id  bigint,
  PRIMARY KEY (workspace_id, state_hash),
  -- Successful sign-ins have a code. Sign-in tests have one if a person signed in. Other outcomes have none.
  CHECK (outcome IS DISTINCT FROM 'signed_in' OR outcome_code IS NOT NULL),
  CHECK (outcome_code IS NULL OR outcome IN ('signed_in', 'tested'))
);
CREATE INDEX sign_in_attempts_expiry ON sign_in_attempts (expires_at);
CREATE INDEX sign_in_attempts_address ON sign_in_attempts (address, expires_at) WHERE taken_at IS NULL;

-- Used logout tokens (Back-Channel Logout 1.0 section 2.6). Each works once and is kept as long as a repeat would be valid.
CREATE TABLE logout_tokens (
  workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  issuer       text NOT NULL,
  jti_hash     bytea NOT NULL CHECK (length(jti_hash) = 32),
  expires_at   timestamptz(3) NOT NULL,
  PRIMARY KEY (workspace_id, issuer, jti_hash)
);
CREATE INDEX logout_tokens_expiry ON logout_tokens (expires_at);

-- Keys that sign access tokens (ES256), shared by all replicas. They belong to the service, not to a workspace.
CREATE TABLE signing_keys (
  kid            text PRIMARY KEY,
  public_jwk     jsonb NOT NULL,
  private_sealed bytea NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  -- The key signs until retires_at and is published until expires_at.
  retires_at     timestamptz(3) NOT NULL,
  expires_at     timestamptz(3) NOT NULL,
  CHECK (created_at < retires_at AND retires_at < expires_at)
);
