-- sign_in_options: Finds the workspace that proved an e-mail domain.
--   $1 workspaceId
--   $2 domain
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
  sso_configs c
WHERE
  c.workspace_id = coalesce(
    $1::uuid,
    (
      SELECT
        workspace_id
      FROM
        domains
      WHERE
        domain = $2::text
        AND verified_at IS NOT NULL
    )
  );
