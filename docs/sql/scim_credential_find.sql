-- scim_credential_find: Finds a directory token by its hash, with the settings of the directory that a request needs.
--   $1 workspaceId
--   $2 hash
--   $3 isBare
WITH
  found AS (
    SELECT
      c.workspace_id,
      c.directory_id,
      c.id,
      d.mode,
      c.enabled,
      c.nests_groups,
      c.revoked_at IS NOT NULL AS revoked,
      coalesce(c.expires_at <= now(), FALSE) AS expired,
      coalesce(c.last_used_at < now() - interval '1 minute', TRUE) AS note
    FROM
      directory_credentials c
      JOIN directories d ON d.workspace_id = c.workspace_id
      AND d.id = c.directory_id
    WHERE
      c.workspace_id = $1::uuid
      AND c.token_hash = $2::bytea
  ),
  used AS (
    UPDATE directory_credentials c
    SET
      last_used_at = now()
    FROM
      found f
    WHERE
      c.workspace_id = f.workspace_id
      AND c.directory_id = f.directory_id
      AND c.id = f.id
      AND f.note
      AND f.enabled
      AND NOT f.revoked
      AND NOT f.expired
      AND NOT (
        $3::boolean
        AND f.mode = 'strict'
      )
  )
SELECT
  workspace_id AS "workspaceId",
  directory_id AS "directoryId",
  id AS "credentialId",
  mode,
  enabled,
  nests_groups AS "nestsGroups",
  revoked,
  expired
FROM
  found;
