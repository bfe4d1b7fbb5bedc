-- scim_user_save_nested: Stores any change of a user and its effects on the member.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 id
--   $5 doc
--   $6 email
--   $7 emailKey
--   $8 displayName
--   $9 ifMatch
--   $10 expected
--   $11 active
--   $12 guardPassed
--   $13 ownersLocked
--   $14 userName
--   $15 userNameKey
--   $16 externalId
--   $17 emailKeys
--   $18 requestId
--   $19 leniencies
--   $20 withGroups
--   $21 baseUrl
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
  page AS (
    SELECT
      u.*
    FROM
      allowed a
      JOIN scim_users u ON u.workspace_id = $1::uuid
      AND u.directory_id = $2::uuid
      AND u.id = $4::uuid
  ),
  verdict AS (
    SELECT
      p.id,
      p.version,
      m.id AS member_id,
      m.status,
      m.deactivated_by,
      p.active AS was_active,
      c.email_conflict,
      CASE
        WHEN NOT ($5::text IS NOT NULL)
        OR (
          coalesce(m.role = 'owner', FALSE)
          AND m.email_key IS NOT NULL
          AND EXISTS (
            SELECT
            FROM
              directories d
            WHERE
              d.workspace_id = a.workspace_id
              AND d.id = a.directory_id
              AND d.max_linkable_role IS NOT NULL
          )
        ) THEN m.email
        WHEN NOT c.email_conflict THEN $6::text
      END AS email,
      CASE
        WHEN NOT ($5::text IS NOT NULL)
        OR (
          coalesce(m.role = 'owner', FALSE)
          AND m.email_key IS NOT NULL
          AND EXISTS (
            SELECT
            FROM
              directories d
            WHERE
              d.workspace_id = a.workspace_id
              AND d.id = a.directory_id
              AND d.max_linkable_role IS NOT NULL
          )
        ) THEN m.email_key
        WHEN NOT c.email_conflict THEN $7::text
      END AS email_key,
      (
        ($5::text IS NOT NULL)
        AND coalesce(m.role = 'owner', FALSE)
        AND m.email_key IS NOT NULL
        AND EXISTS (
          SELECT
          FROM
            directories d
          WHERE
            d.workspace_id = a.workspace_id
            AND d.id = a.directory_id
            AND d.max_linkable_role IS NOT NULL
        )
        AND m.email_key IS DISTINCT FROM $7::text
      ) AS keeps_address,
      CASE
        WHEN NOT ($5::text IS NOT NULL) THEN m.display_name
        ELSE $8::text
      END AS display_name,
      CASE
        WHEN p.version <> ALL ($9::INT[]) THEN 'version'
        WHEN p.version <> $10::int THEN 'raced'
        WHEN p.active = coalesce($11::boolean, p.active)
        AND (
          NOT ($5::text IS NOT NULL)
          OR p.doc::text = $5::text
        ) THEN 'same'
        WHEN NOT coalesce($11::boolean, p.active)
        AND m.status = 'active'
        AND a.is_guarded
        AND NOT $12::boolean THEN 'guard'
        WHEN NOT coalesce($11::boolean, p.active)
        AND m.role = 'owner'
        AND m.status = 'active'
        AND NOT $13::boolean THEN 'lock'
        ELSE 'write'
      END AS verdict
    FROM
      allowed a
      CROSS JOIN page p
      JOIN members m ON m.workspace_id = p.workspace_id
      AND m.id = p.member_id
      CROSS JOIN LATERAL (
        SELECT
          EXISTS (
            SELECT
            FROM
              members o
            WHERE
              o.workspace_id = p.workspace_id
              AND o.email_key = $7::text
              AND o.id <> m.id
          ) AS email_conflict
      ) c
  ),
  written AS (
    UPDATE scim_users u
    SET
      user_name = CASE
        WHEN ($5::text IS NOT NULL) THEN $14::text
        ELSE u.user_name
      END,
      user_name_key = CASE
        WHEN ($5::text IS NOT NULL) THEN CASE
          WHEN u.user_name = $14::text THEN u.user_name_key
          ELSE $15::text
        END
        ELSE u.user_name_key
      END,
      external_id = CASE
        WHEN ($5::text IS NOT NULL) THEN $16::text
        ELSE u.external_id
      END,
      email_keys = CASE
        WHEN ($5::text IS NOT NULL) THEN $17::TEXT[]
        ELSE u.email_keys
      END,
      doc = CASE
        WHEN ($5::text IS NOT NULL) THEN $5::text::json
        ELSE u.doc
      END,
      active = coalesce($11::boolean, u.active),
      version = u.version + 1,
      updated_at = now()
    FROM
      verdict v
    WHERE
      v.verdict = 'write'
      AND u.workspace_id = $1::uuid
      AND u.directory_id = $2::uuid
      AND u.id = v.id
      AND u.version = v.version
    RETURNING
      u.*
  ),
  leaving AS (
    SELECT
      w.member_id
    FROM
      written w
      JOIN verdict v ON v.status <> 'deactivated'
    WHERE
      NOT w.active
  ),
  ending AS (
    SELECT
      m.id AS member_id,
      m.status
    FROM
      leaving l
      JOIN members m ON m.workspace_id = $1::uuid
      AND m.id = l.member_id
    WHERE
      m.status <> 'deactivated'
      AND (
        m.role <> 'owner'
        OR m.status <> 'active'
        OR EXISTS (
          SELECT
          FROM
            members o
          WHERE
            o.workspace_id = $1::uuid
            AND o.role = 'owner'
            AND o.status = 'active'
            AND o.id NOT IN (
              SELECT
                member_id
              FROM
                leaving
            )
        )
      )
  ),
  ended AS (
    UPDATE members m
    SET
      status = 'deactivated',
      deactivated_by = 'directory',
      invitation_expires_at = NULL,
      version = m.version + 1,
      updated_at = now(),
      (email, email_key, display_name) = (
        SELECT
          v.email,
          v.email_key,
          v.display_name
        FROM
          verdict v
      )
    FROM
      ending e
    WHERE
      m.workspace_id = $1::uuid
      AND m.id = e.member_id
      AND m.status <> 'deactivated'
    RETURNING
      m.id AS member_id,
      e.status AS status_before,
      m.role,
      m.rules,
      m.manual_role,
      m.manual_policy
  ),
  ended_sessions AS (
    UPDATE sessions s
    SET
      ended_at = now(),
      end_reason = 'scim_user.deactivated'
    FROM
      ended e
    WHERE
      s.workspace_id = $1::uuid
      AND s.member_id = e.member_id
      AND s.ended_at IS NULL
    RETURNING
      s.member_id
  ),
  followed AS (
    UPDATE members m
    SET
      status = CASE
        WHEN (
          w.active
          AND (
            m.status = 'invited'
            OR m.deactivated_by = 'directory'
          )
        ) THEN 'active'
        ELSE m.status
      END,
      reactivated_at = CASE
        WHEN w.active
        AND m.deactivated_by = 'directory' THEN clock_timestamp()
        ELSE m.reactivated_at
      END,
      deactivated_by = CASE
        WHEN (
          w.active
          AND (
            m.status = 'invited'
            OR m.deactivated_by = 'directory'
          )
        ) THEN NULL
        ELSE m.deactivated_by
      END,
      invitation_expires_at = CASE
        WHEN (
          w.active
          AND (
            m.status = 'invited'
            OR m.deactivated_by = 'directory'
          )
        ) THEN NULL
        ELSE m.invitation_expires_at
      END,
      (email, email_key, display_name) = (
        SELECT
          v.email,
          v.email_key,
          v.display_name
        FROM
          verdict v
      ),
      version = m.version + 1,
      updated_at = now()
    FROM
      written w,
      verdict v
    WHERE
      m.workspace_id = $1::uuid
      AND m.id = w.member_id
      AND m.id NOT IN (
        SELECT
          member_id
        FROM
          ending
      )
      AND (
        (
          w.active
          AND (
            m.status = 'invited'
            OR m.deactivated_by = 'directory'
          )
        )
        OR (m.email, m.display_name) IS DISTINCT FROM (v.email, v.display_name)
      )
    RETURNING
      m.id AS member_id,
      m.status,
      m.role,
      m.rules,
      m.manual_role,
      m.manual_policy
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
      w.workspace_id,
      CASE
        WHEN w.active = v.was_active THEN 'scim_user.updated'
        WHEN w.active THEN 'scim_user.reactivated'
        ELSE 'scim_user.deactivated'
      END,
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      w.member_id,
      'scim_user',
      w.id::text,
      $18::text,
      jsonb_strip_nulls(
        '{}'::jsonb || jsonb_build_object(
          'emailConflict',
          CASE
            WHEN v.email_conflict THEN TRUE
          END,
          'ownerKeepsAddress',
          CASE
            WHEN v.keeps_address THEN TRUE
          END,
          'sessionsEnded',
          CASE
            WHEN EXISTS (
              SELECT
              FROM
                ended
            ) THEN (
              SELECT
                count(*)
              FROM
                ended_sessions
            )
          END,
          'keptLastOwner',
          CASE
            WHEN EXISTS (
              SELECT
              FROM
                leaving
            )
            AND NOT EXISTS (
              SELECT
              FROM
                ended
            ) THEN TRUE
          END,
          'deactivatedByAdmin',
          CASE
            WHEN w.active
            AND v.status = 'deactivated'
            AND v.deactivated_by = 'admin' THEN TRUE
          END,
          'leniencies',
          $19::jsonb
        )
      )
    FROM
      written w
      JOIN verdict v ON TRUE
    RETURNING
      id
  ),
  history_of_end AS (
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
      (
        SELECT
          e.*,
          'deactivated' AS status
        FROM
          ended e
      ) c,
      entry
  ),
  history_of_return AS (
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
      (
        SELECT
          f.*,
          v.status AS status_before
        FROM
          followed f
          JOIN verdict v ON v.member_id = f.member_id
          AND v.status <> f.status
      ) c,
      entry
  )
SELECT
  CASE
    WHEN v.verdict = 'write'
    AND w.id IS NULL THEN 'raced'
    ELSE v.verdict
  END AS verdict,
  v.member_id AS "memberId",
  p.id,
  coalesce(w.active, p.active) AS active,
  coalesce(w.version, p.version) AS version,
  p.created_at AS "createdAt",
  coalesce(w.updated_at, p.updated_at) AS "updatedAt",
  coalesce(w.doc, p.doc) AS doc,
  (
    WITH RECURSIVE
      reach AS (
        SELECT
          group_id,
          TRUE AS is_direct
        FROM
          scim_group_memberships
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND user_id = p.id
          AND $20::boolean
        UNION
        SELECT
          s.group_id,
          FALSE
        FROM
          reach r
          CROSS JOIN LATERAL (
            SELECT
              group_id
            FROM
              scim_group_subgroups
            WHERE
              workspace_id = $1::uuid
              AND directory_id = $2::uuid
              AND subgroup_id = r.group_id
            OFFSET
              0
          ) s
      )
    SELECT
      json_agg(
        json_build_object(
          'value',
          r.group_id,
          '$ref',
          $21::text || '/Groups/' || r.group_id,
          'display',
          g.display_name,
          'type',
          r.type
        )
        ORDER BY
          r.group_id
      )
    FROM
      (
        SELECT
          group_id,
          CASE
            WHEN bool_or(is_direct) THEN 'direct'
            ELSE 'indirect'
          END AS type
        FROM
          reach
        GROUP BY
          group_id
        ORDER BY
          group_id
        OFFSET
          0
      ) r
      CROSS JOIN LATERAL (
        SELECT
          display_name
        FROM
          scim_groups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = r.group_id
        OFFSET
          0
      ) g
  ) AS groups,
  a.nests_groups AS "nestsGroups"
FROM
  allowed a
  LEFT JOIN page p ON TRUE
  LEFT JOIN verdict v ON TRUE
  LEFT JOIN written w ON TRUE;
