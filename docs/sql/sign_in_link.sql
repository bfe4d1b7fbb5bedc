-- sign_in_link: Links an existing member and creates the session, if the input of the linking rules is unchanged.
--   $1 workspaceId
--   $2 memberId
--   $3 version
--   $4 status
--   $5 emailKey
--   $6 stableId
--   $7 issuer
--   $8 facts
--   $9 displayName
--   $10 subject
--   $11 linkedBy
--   $12 requestId
--   $13 linkedDetail
--   $14 openedDetail
--   $15 sessionId
--   $16 configVersion
--   $17 idpSessionId
--   $18 idTokenSealed
--   $19 authTime
--   $20 acr
--   $21 amr
--   $22 address
--   $23 userAgent
--   $24 idleMinutes
--   $25 hours
--   $26 sessionExpiry
--   $27 codeHash
--   $28 handoffChallenge
--   $29 returnTo
--   $30 detail
--   $31 codeSealed
--   $32 stateHash
WITH
  candidate AS MATERIALIZED (
    SELECT
      id,
      status
    FROM
      members
    WHERE
      workspace_id = $1::uuid
      AND id = $2::uuid
      AND version = $3::int
      AND status = $4::text
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
                    email_keys @> ARRAY[$5]::TEXT[]
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
                  AND external_id = $6::text
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
              AND issuer = $7::text
              AND stable_id = $6::text
            UNION
            SELECT
              id,
              'email'
            FROM
              members
            WHERE
              workspace_id = $1::uuid
              AND email_key = $5::text
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
      ) = $8::jsonb
    FOR UPDATE
      SKIP LOCKED
  ),
  opened AS (
    UPDATE members m
    SET
      status = 'active',
      invitation_expires_at = NULL,
      display_name = coalesce(m.display_name, $9::text),
      version = m.version + 1,
      updated_at = now()
    WHERE
      m.workspace_id = $1::uuid
      AND m.id = $2::uuid
      AND EXISTS (
        SELECT
        FROM
          candidate
        WHERE
          status = 'invited'
      )
    RETURNING
      m.id AS member_id,
      'invited' AS status_before,
      m.status,
      m.role,
      m.rules,
      m.manual_role,
      m.manual_policy
  ),
  person AS (
    SELECT
      id,
      status
    FROM
      candidate
    WHERE
      status = 'active'
    UNION ALL
    SELECT
      member_id,
      status
    FROM
      opened
  ),
  identity AS (
    INSERT INTO
      identities (workspace_id, issuer, subject, member_id, linked_by, stable_id, last_sign_in_at)
    SELECT
      $1::uuid,
      $7::text,
      $10::text,
      id,
      $11::text,
      $6::text,
      now()
    FROM
      person
  ),
  linked AS (
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
      'identity.linked',
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
      'member.activated',
      'succeeded',
      NULL::text,
      'member',
      person.id::text,
      person.id,
      'member',
      person.id::text,
      $12::text,
      $14::jsonb
    FROM
      opened
      JOIN person ON person.id = opened.member_id
      CROSS JOIN linked
    RETURNING
      id
  ),
  history AS (
    INSERT INTO
      access_changes (
        workspace_id,
        member_id,
        entry_id,
        status_before,
        status_after,
        role_before,
        role_after,
        rules,
        manual_role,
        manual_policy
      )
    SELECT
      $1::uuid,
      c.member_id,
      entry.id,
      c.status_before,
      c.status,
      c.role,
      c.role,
      c.rules,
      c.manual_role,
      c.manual_policy
    FROM
      opened c,
      entry
  ),
  told AS MATERIALIZED (
    SELECT
      max(id)
    FROM
      (
        SELECT
          id
        FROM
          linked
        UNION ALL
        SELECT
          id
        FROM
          entry
      ) each
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
      $15::uuid,
      id,
      $7::text,
      $10::text,
      $16::int,
      $17::text,
      $18::bytea,
      to_timestamp($19::float8),
      $20::text,
      $21::TEXT[],
      $22::inet,
      $23::text,
      $24::int,
      least(now() + $25::int * interval '1 hour', to_timestamp($26::float8))
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
      $27::bytea,
      id,
      $28::text,
      $29::text,
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
      $30::jsonb
    FROM
      session
      CROSS JOIN told
    RETURNING
      id
  ),
  closed AS (
    UPDATE sign_in_attempts
    SET
      outcome = 'signed_in',
      outcome_code = $31::bytea,
      outcome_entry_id = signed_in.id
    FROM
      signed_in
    WHERE
      workspace_id = $1::uuid
      AND state_hash = $32::bytea
  )
SELECT
  id
FROM
  person;
