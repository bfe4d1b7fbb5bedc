-- session_provider_logout: Records a logout token and ends the sessions that it names.
--   $1 workspaceId
--   $2 issuer
--   $3 jtiHash
--   $4 idpSessionId
--   $5 subject
--   $6 requestId
WITH
  token AS (
    INSERT INTO
      logout_tokens (workspace_id, issuer, jti_hash, expires_at)
    VALUES
      ($1::uuid, $2::text, $3::bytea, now() + interval '11 minutes')
    ON CONFLICT DO NOTHING
    RETURNING
      TRUE
  ),
  meant AS (
    SELECT
      s.id
    FROM
      sessions s,
      token
    WHERE
      s.workspace_id = $1::uuid
      AND s.issuer = $2::text
      AND s.idp_session_id = $4::text
      AND (
        $5::text IS NULL
        OR s.subject = $5::text
      )
    UNION
    SELECT
      s.id
    FROM
      sessions s,
      token
    WHERE
      s.workspace_id = $1::uuid
      AND s.member_id = (
        SELECT
          member_id
        FROM
          identities
        WHERE
          workspace_id = $1::uuid
          AND issuer = $2::text
          AND subject = $5::text
      )
      AND s.issuer = $2::text
      AND s.subject = $5::text
      AND (
        $4::text IS NULL
        OR s.idp_session_id IS NULL
      )
  ),
  ended AS (
    UPDATE sessions
    SET
      ended_at = now(),
      end_reason = 'signed_out_at_provider'
    WHERE
      workspace_id = $1::uuid
      AND id IN (
        SELECT
          id
        FROM
          meant
      )
      AND ended_at IS NULL
      AND expires_at > now()
    RETURNING
      member_id
  ),
  counted AS (
    SELECT
      count(*)::int AS sessions,
      min(member_id::text)::uuid AS member_id
    FROM
      ended
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
      $1::uuid,
      'session.ended_by_provider',
      'succeeded',
      NULL::text,
      'system',
      'sign-out',
      counted.member_id,
      'member',
      counted.member_id::text,
      $6::text,
      jsonb_build_object('reason', 'signed_out_at_provider'::text, 'sessionsEnded', counted.sessions)
    FROM
      counted
    WHERE
      sessions > 0
    RETURNING
      id
  )
SELECT
  sessions AS "sessionsEnded"
FROM
  counted;
