-- sign_in_start_session: Creates the session of a linked member, with its exchange code and entry.
--   $1 workspaceId
--   $2 issuer
--   $3 subject
--   $4 sessionId
--   $5 configVersion
--   $6 idpSessionId
--   $7 idTokenSealed
--   $8 authTime
--   $9 acr
--   $10 amr
--   $11 address
--   $12 userAgent
--   $13 idleMinutes
--   $14 hours
--   $15 sessionExpiry
--   $16 codeHash
--   $17 handoffChallenge
--   $18 returnTo
--   $19 requestId
--   $20 detail
--   $21 codeSealed
--   $22 stateHash
--   $23 stableId
WITH
  person AS (
    SELECT
      id,
      status,
      email_key
    FROM
      members
    WHERE
      workspace_id = $1::uuid
      -- Look-ups instead of a join, so that both rows are read by their keys on any statistics.
      AND id = (
        SELECT
          member_id
        FROM
          identities
        WHERE
          workspace_id = $1::uuid
          AND issuer = $2::text
          AND subject = $3::text
      )
    FOR SHARE
  ),
  session AS (
    INSERT INTO
      sessions (
        workspace_id,
        id,
        member_id,
        issuer,
        subject,
        config_version,
        idp_session_id,
        id_token_sealed,
        auth_time,
        acr,
        amr,
        address,
        user_agent,
        idle_minutes,
        expires_at
      )
    SELECT
      $1::uuid,
      $4::uuid,
      id,
      $2::text,
      $3::text,
      $5::int,
      $6::text,
      $7::bytea,
      to_timestamp($8::float8),
      $9::text,
      $10::TEXT[],
      $11::inet,
      $12::text,
      $13::int,
      least(now() + $14::int * interval '1 hour', to_timestamp($15::float8))
    FROM
      person
    WHERE
      status = 'active'
    RETURNING
      id,
      member_id
  ),
  code AS (
    INSERT INTO
      exchange_codes (workspace_id, code_hash, session_id, handoff_challenge, return_to, expires_at)
    SELECT
      $1::uuid,
      $16::bytea,
      id,
      $17::text,
      $18::text,
      now() + interval '60 seconds'
    FROM
      session
  ),
  signed_in AS (
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
      'sso_sign_in.succeeded',
      'succeeded',
      NULL::text,
      'member',
      session.member_id::text,
      session.member_id,
      'session',
      session.id::text,
      $19::text,
      $20::jsonb
    FROM
      session
    RETURNING
      id
  ),
  closed AS (
    UPDATE sign_in_attempts
    SET
      outcome = 'signed_in',
      outcome_code = $21::bytea,
      outcome_entry_id = signed_in.id
    FROM
      signed_in
    WHERE
      workspace_id = $1::uuid
      AND state_hash = $22::bytea
  ),
  seen AS (
    UPDATE identities
    SET
      last_sign_in_at = now(),
      stable_id = coalesce($23::text, stable_id)
    WHERE
      workspace_id = $1::uuid
      AND issuer = $2::text
      AND subject = $3::text
      AND EXISTS (
        SELECT
        FROM
          session
      )
  )
SELECT
  id AS "memberId",
  status,
  email_key AS "emailKey"
FROM
  person;
