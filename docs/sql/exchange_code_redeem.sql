-- exchange_code_redeem: Redeems an exchange code, gives its session a token and ends the session that it replaces.
--   $1 workspaceId
--   $2 codeHash
--   $3 challenge
--   $4 tokenHash
--   $5 replacedWorkspaceId
--   $6 replacedHash
--   $7 requestId
WITH
  code AS (
    UPDATE exchange_codes
    SET
      used_at = now()
    WHERE
      workspace_id = $1::uuid
      AND code_hash = $2::bytea
      AND used_at IS NULL
    RETURNING
      session_id,
      return_to,
      expires_at > now()
      AND handoff_challenge = $3::text AS fits
  ),
  holder AS (
    -- Look-ups instead of a join, so that each row is read by its key on any statistics.
    SELECT
      id,
      email,
      display_name,
      role
    FROM
      members
    WHERE
      workspace_id = $1::uuid
      AND status = 'active'
      AND id = (
        SELECT
          member_id
        FROM
          sessions
        WHERE
          workspace_id = $1::uuid
          AND id = (
            SELECT
              session_id
            FROM
              code
            WHERE
              fits
          )
          -- "Not redeemed yet", said so that the sweep's index is not taken for the way to one session.
          AND coalesce(token_hash, '') = ''
          AND ended_at IS NULL
          AND expires_at > now()
      )
  ),
  session AS (
    UPDATE sessions s
    SET
      token_hash = $4::bytea,
      last_seen_at = now()
    FROM
      holder m,
      code c
    WHERE
      s.workspace_id = $1::uuid
      AND s.id = (
        SELECT
          session_id
        FROM
          code
        WHERE
          fits
      )
      AND coalesce(s.token_hash, '') = ''
      AND s.ended_at IS NULL
    RETURNING
      s.workspace_id,
      s.id,
      s.member_id,
      s.method,
      m.email,
      m.display_name,
      m.role,
      s.auth_time,
      s.acr,
      s.amr,
      s.created_at,
      s.expires_at,
      c.return_to
  ),
  replaced AS (
    UPDATE sessions
    SET
      ended_at = now(),
      end_reason = 'replaced'
    WHERE
      workspace_id = $5::uuid
      AND token_hash = $6::bytea
      AND ended_at IS NULL
      AND EXISTS (
        SELECT
        FROM
          session
      )
    RETURNING
      workspace_id,
      id,
      member_id
  ),
  entry AS (
    INSERT INTO
      activity_entries (
        workspace_id,
        action,
        outcome,
        reason,
        actor_type,
        actor_id,
        member_id,
        target_type,
        target_id,
        request_id,
        detail
      )
    SELECT
      replaced.workspace_id,
      'session.ended',
      'succeeded',
      NULL::text,
      'member',
      replaced.member_id::text,
      replaced.member_id,
      'session',
      replaced.id::text,
      $7::text,
      '{"reason": "replaced"}'::jsonb
    FROM
      replaced
    RETURNING
      id
  )
SELECT
  workspace_id AS "workspaceId",
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
  expires_at AS "expiresAt",
  return_to AS "returnTo"
FROM
  session;
