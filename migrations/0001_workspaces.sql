-- The tenant. Its id is chosen by Assist, so creating one is a repeatable upsert.
CREATE TABLE workspaces (
  id           uuid PRIMARY KEY,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  default_role text NOT NULL,
  version      integer NOT NULL DEFAULT 1,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  updated_at   timestamptz(3) NOT NULL DEFAULT now()
);

-- E-mail domains that a workspace has proved to be its own. A proof is exclusive: the index below is the one unique
-- key that must not lead with the workspace, because it is a statement about all of them.
CREATE TABLE domains (
  workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
  domain       text NOT NULL CHECK (domain = lower(domain) AND domain <> ''),
  verified_at  timestamptz(3),
  verified_by  text CHECK (verified_by IN ('operator', 'dns')),
  -- What the workspace publishes in DNS to prove that the domain is its own. Absent where only the operator says so.
  challenge    text CHECK (challenge <> ''),
  -- The last time that DNS was asked, and since when the record of a proved domain has been gone.
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
-- Which proofs have not been looked at for longest.
CREATE INDEX domains_checks ON domains (checked_at) WHERE verified_by = 'dns';
