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
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, domain),
  CHECK ((verified_at IS NULL) = (verified_by IS NULL))
);
CREATE UNIQUE INDEX domains_verified_once ON domains (domain) WHERE verified_at IS NOT NULL;
