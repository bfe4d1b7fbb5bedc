-- scim_credential_check: Checks that a cached directory token is still valid.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
WITH
  allowed AS (
    SELECT
      workspace_id,
      directory_id,
      is_guarded,
      nests_groups
    FROM
      directory_credentials
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND id = $3::uuid
      AND enabled
      AND revoked_at IS NULL
      AND (
        expires_at IS NULL
        OR expires_at > now()
      )
  )
SELECT
FROM
  allowed;
