-- sign_in_options_enforced: Reports whether a workspace or domain enforces SSO.
--   $1 domains
SELECT
  c.workspace_id AS "workspaceId",
  c.enforced_at IS NOT NULL AS "isEnforced",
  c.enabled
  AND EXISTS (
    SELECT
    FROM
      sso_client_credentials s
    WHERE
      s.workspace_id = c.workspace_id
      AND (s.public_jwk IS NOT NULL) = (c.token_auth_method IS NOT DISTINCT FROM 'private_key_jwt')
  ) AS "isOpen"
FROM
  domains d
  JOIN sso_configs c ON c.workspace_id = d.workspace_id
  AND c.enforced_at IS NOT NULL
WHERE
  d.domain = ANY ($1::TEXT[])
  AND d.verified_at IS NOT NULL
LIMIT
  1;
