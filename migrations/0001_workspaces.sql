-- Tenants. Assist chooses the id, so that creating a workspace is a repeatable upsert.
CREATE TABLE workspaces (
  id           uuid PRIMARY KEY,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  default_role text NOT NULL,
  version      integer NOT NULL DEFAULT 1,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  updated_at   timestamptz(3) NOT NULL DEFAULT now()
);

-- E-mail domains that a workspace has claimed or proved. A proof is exclusive across workspaces, so the unique index below
-- does not start with the workspace.
CREATE TABLE domains (
  workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  domain       text NOT NULL CHECK (domain = lower(domain) AND domain <> ''),
  verified_at  timestamptz(3),
  verified_by  text CHECK (verified_by IN ('operator', 'dns')),
  -- Value of the DNS record that proves the domain. Absent if the operator confirmed the domain.
  challenge    text CHECK (challenge <> ''),
  -- Time of the last DNS query, and time since which the record of a proved domain is missing.
  checked_at   timestamptz(3),
  missing_since timestamptz(3),
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, domain),
  CHECK ((verified_at IS NULL) = (verified_by IS NULL)),
  CHECK (verified_by IS NOT NULL OR challenge IS NOT NULL),
  CHECK (verified_by IS DISTINCT FROM 'dns' OR (challenge IS NOT NULL AND checked_at IS NOT NULL)),
  CHECK (missing_since IS NULL OR verified_by = 'dns')
);
CREATE UNIQUE INDEX domains_verified_once ON domains (domain) WHERE verified_at IS NOT NULL;
-- Finds the proofs with the oldest check.
CREATE INDEX domains_checks ON domains (checked_at) WHERE verified_by = 'dns';
