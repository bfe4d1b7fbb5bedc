-- session_by_token: Checks a session by its token.
--   $1 workspaceId
--   $2 tokenHash
WITH
  found AS MATERIALIZED (
    SELECT
      id,
      member_id,
      method,
      auth_time,
      acr,
      amr,
      created_at,
      expires_at,
      last_seen_at
    FROM
      sessions
    WHERE
      workspace_id = $1::uuid
      AND token_hash = $2::bytea
      AND ended_at IS NULL
      AND expires_at > now()
      AND last_seen_at > now() - idle_minutes * interval '1 minute'
  ),
  holder AS MATERIALIZED (
    SELECT
      email,
      display_name,
      role
    FROM
      members
    WHERE
      workspace_id = $1::uuid
      AND id = (
        SELECT
          member_id
        FROM
          found
      )
      AND status = 'active'
      AND (
        reactivated_at IS NULL
        OR reactivated_at <= (
          SELECT
            created_at
          FROM
            found
        )
      )
  ),
  seen AS (
    UPDATE sessions
    SET
      last_seen_at = now()
    WHERE
      workspace_id = $1::uuid
      AND id = (
        SELECT
          id
        FROM
          found
        WHERE
          last_seen_at < now() - interval '1 minute'
      )
      AND EXISTS (
        SELECT
        FROM
          holder
      )
  )
SELECT
  $1::uuid AS "workspaceId",
  id,
  member_id AS "memberId",
  method,
  email,
  display_name AS "displayName",
  role,
  auth_time AS "authTime",
  acr,
  amr,
  created_at AS "createdAt",
  expires_at AS "expiresAt"
FROM
  found,
  holder;
