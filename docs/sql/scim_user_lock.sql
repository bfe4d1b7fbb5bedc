-- scim_user_lock: Reads a user for a change.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 id
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
  ),
  locked AS (
    SELECT
      u.id,
      u.version,
      u.member_id,
      a.is_guarded
    FROM
      allowed a
      JOIN scim_users u ON u.workspace_id = $1::uuid
      AND u.directory_id = $2::uuid
      AND u.id = $4::uuid
    FOR UPDATE OF
      u
  )
SELECT
  l.id,
  l.version,
  l.member_id AS "memberId",
  l.is_guarded
  AND (
    SELECT
      status
    FROM
      members
    WHERE
      workspace_id = a.workspace_id
      AND id = l.member_id
  ) = 'active' AS "isGuarded"
FROM
  allowed a
  LEFT JOIN locked l ON TRUE;
