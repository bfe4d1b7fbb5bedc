-- sign_in_provision: Creates a member with identity and session, if the input of the linking rules is unchanged.
--   $1 workspaceId
--   $2 roles
--   $3 emailKey
--   $4 stableId
--   $5 issuer
--   $6 facts
--   $7 memberId
--   $8 email
--   $9 displayName
--   $10 subject
--   $11 linkedBy
--   $12 requestId
--   $13 provisionedDetail
--   $14 sessionId
--   $15 configVersion
--   $16 idpSessionId
--   $17 idTokenSealed
--   $18 authTime
--   $19 acr
--   $20 amr
--   $21 address
--   $22 userAgent
--   $23 idleMinutes
--   $24 hours
--   $25 sessionExpiry
--   $26 codeHash
--   $27 handoffChallenge
--   $28 returnTo
--   $29 detail
--   $30 codeSealed
--   $31 stateHash
WITH
  workspace AS MATERIALIZED (
    SELECT
      id,
      default_role
    FROM
      workspaces
    WHERE
      id = $1::uuid
      AND default_role = ANY ($2::TEXT[])
      AND (
        SELECT
          jsonb_build_object(
            'candidates',
            coalesce(
              jsonb_agg(
                jsonb_build_object(
                  'foundBy',
                  f.found_by,
                  'memberId',
                  m.id,
                  'version',
                  m.version,
                  'status',
                  m.status,
                  'role',
                  m.role,
                  'invitationOpen',
                  coalesce(m.invitation_expires_at > now(), FALSE),
                  'limits',
                  ARRAY(
                    SELECT
                      d.max_linkable_role
                    FROM
                      (
                        SELECT
                          directory_id
                        FROM
                          scim_users
                        WHERE
                          workspace_id = $1::uuid
                          AND member_id = m.id
                        OFFSET
                          0
                      ) u
                      JOIN directories d ON d.workspace_id = $1::uuid
                      AND d.id = u.directory_id
                    WHERE
                      d.max_linkable_role IS NOT NULL
                  ),
                  'identities',
                  ARRAY(
                    SELECT
                      jsonb_build_object('issuer', i.issuer, 'subject', i.subject)
                    FROM
                      identities i
                    WHERE
                      i.workspace_id = $1::uuid
                      AND i.member_id = m.id
                    ORDER BY
                      i.issuer,
                      i.subject
                  )
                )
                ORDER BY
                  f.found_by,
                  m.id
              ),
              '[]'
            ),
            'inactiveInDirectory',
            EXISTS (
              SELECT
              FROM
                (
                  SELECT
                    workspace_id,
                    active
                  FROM
                    scim_users
                  WHERE
                    email_keys @> ARRAY[$3]::TEXT[]
                  OFFSET
                    0
                ) u
              WHERE
                workspace_id = $1::uuid
                AND NOT active
            )
          ) AS facts
        FROM
          (
            SELECT
              u.member_id,
              'directory' AS found_by
            FROM
              directories d
              CROSS JOIN LATERAL (
                SELECT
                  member_id
                FROM
                  scim_users
                WHERE
                  workspace_id = $1::uuid
                  AND directory_id = d.id
                  AND external_id = $4::text
                OFFSET
                  0
              ) u
            WHERE
              d.workspace_id = $1::uuid
            UNION
            SELECT
              member_id,
              'identity'
            FROM
              identities
            WHERE
              workspace_id = $1::uuid
              AND issuer = $5::text
              AND stable_id = $4::text
            UNION
            SELECT
              id,
              'email'
            FROM
              members
            WHERE
              workspace_id = $1::uuid
              AND email_key = $3::text
            OFFSET
              0
          ) f
          CROSS JOIN LATERAL (
            SELECT
              *
            FROM
              members
            WHERE
              workspace_id = $1::uuid
              AND id = f.member_id
            OFFSET
              0
          ) m
      ) = $6::jsonb
      -- A change of the default waits for us.
    FOR SHARE
      SKIP LOCKED
  ),
  person AS (
    INSERT INTO
      members (workspace_id, id, email, email_key, display_name, status, role, origin)
    SELECT
      id,
      $7::uuid,
      $8::text,
      $3::text,
      $9::text,
      'active',
      default_role,
      'sso'
    FROM
      workspace
    RETURNING
      workspace_id,
      id,
      status,
      role
  ),
  identity AS (
    INSERT INTO
      identities (workspace_id, issuer, subject, member_id, linked_by, stable_id, last_sign_in_at)
    SELECT
      $1::uuid,
      $5::text,
      $10::text,
      id,
      $11::text,
      $4::text,
      now()
    FROM
      person
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
      'member.provisioned',
      'succeeded',
      NULL::text,
      'member',
      person.id::text,
      person.id,
      'member',
      person.id::text,
      $12::text,
      $13::jsonb
    FROM
      person
    RETURNING
      id
  ),
  history AS (
    INSERT INTO
      access_changes (workspace_id, member_id, entry_id, status_after, role_after)
    SELECT
      m.workspace_id,
      m.id,
      entry.id,
      m.status,
      m.role
    FROM
      person m
      CROSS JOIN entry
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
      $14::uuid,
      id,
      $5::text,
      $10::text,
      $15::int,
      $16::text,
      $17::bytea,
      to_timestamp($18::float8),
      $19::text,
      $20::TEXT[],
      $21::inet,
      $22::text,
      $23::int,
      least(now() + $24::int * interval '1 hour', to_timestamp($25::float8))
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
      $26::bytea,
      id,
      $27::text,
      $28::text,
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
      $12::text,
      $29::jsonb
    FROM
      session
      CROSS JOIN entry
    RETURNING
      id
  ),
  closed AS (
    UPDATE sign_in_attempts
    SET
      outcome = 'signed_in',
      outcome_code = $30::bytea,
      outcome_entry_id = signed_in.id
    FROM
      signed_in
    WHERE
      workspace_id = $1::uuid
      AND state_hash = $31::bytea
  )
SELECT
  id
FROM
  person;
