-- scim_user_create: Creates a user and decides which member follows it.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 emailKey
--   $5 externalId
--   $6 newMemberId
--   $7 email
--   $8 displayName
--   $9 active
--   $10 ownersLocked
--   $11 id
--   $12 userName
--   $13 userNameKey
--   $14 emailKeys
--   $15 doc
--   $16 requestId
--   $17 leniencies
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
  holder AS (
    SELECT
      m.id,
      EXISTS (
        SELECT
        FROM
          scim_users o
        WHERE
          o.workspace_id = m.workspace_id
          AND o.member_id = m.id
      ) AS is_linked
    FROM
      allowed a
      JOIN members m ON m.workspace_id = $1::uuid
      AND m.email_key = $4::text
  ),
  former AS (
    SELECT
      f.member_id
    FROM
      allowed a
      JOIN scim_former_users f ON f.workspace_id = $1::uuid
      AND f.directory_id = $2::uuid
      AND f.external_id = $5::text
    WHERE
      NOT EXISTS (
        SELECT
        FROM
          scim_users o
        WHERE
          o.workspace_id = f.workspace_id
          AND o.member_id = f.member_id
      )
  ),
  verdict AS (
    SELECT
      a.workspace_id,
      a.directory_id,
      coalesce(m.id, $6::uuid) AS member_id,
      m.id IS NULL AS is_new,
      m.status,
      m.deactivated_by,
      c.email_conflict,
      CASE
        WHEN NOT TRUE
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
        WHEN NOT c.email_conflict THEN $7::text
      END AS email,
      CASE
        WHEN NOT TRUE
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
        WHEN NOT c.email_conflict THEN $4::text
      END AS email_key,
      (
        TRUE
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
        AND m.email_key IS DISTINCT FROM $4::text
      ) AS keeps_address,
      CASE
        WHEN NOT TRUE THEN m.display_name
        ELSE $8::text
      END AS display_name,
      CASE
        WHEN (
          NOT $9::boolean
          AND m.role = 'owner'
          AND m.status = 'active'
          OR m.claimed_groups <> '{}'
        )
        AND NOT $10::boolean THEN 'lock'
        ELSE 'write'
      END AS verdict
    FROM
      allowed a
      LEFT JOIN members m ON m.workspace_id = $1::uuid
      AND m.id = coalesce(
        (
          SELECT
            member_id
          FROM
            former
        ),
        (
          SELECT
            id
          FROM
            holder
          WHERE
            NOT is_linked
        )
      )
      CROSS JOIN LATERAL (
        SELECT
          EXISTS (
            SELECT
            FROM
              holder h
            WHERE
              h.id IS DISTINCT FROM m.id
          ) AS email_conflict
      ) c
  ),
  written AS (
    INSERT INTO
      scim_users (
        workspace_id,
        directory_id,
        id,
        user_name,
        user_name_key,
        external_id,
        email_keys,
        active,
        member_id,
        doc
      )
    SELECT
      workspace_id,
      directory_id,
      $11::uuid,
      $12::text,
      $13::text,
      $5::text,
      $14::TEXT[],
      $9::boolean,
      v.member_id,
      $15::json
    FROM
      verdict v
    WHERE
      v.verdict = 'write'
    ON CONFLICT (workspace_id, directory_id, user_name_key) DO NOTHING
    RETURNING
      workspace_id,
      directory_id,
      id,
      member_id,
      active,
      created_at
  ),
  counted AS (
    INSERT INTO
      scim_counters AS c (workspace_id, directory_id, resource_type, slot, total, deleted)
    SELECT
      workspace_id,
      directory_id,
      'User',
      pg_backend_pid() % 16,
      1,
      0
    FROM
      written
    ON CONFLICT (workspace_id, directory_id, resource_type, slot) DO UPDATE
    SET
      total = c.total + excluded.total,
      deleted = c.deleted + excluded.deleted
  ),
  joined AS (
    INSERT INTO
      members (workspace_id, id, email, email_key, display_name, status, deactivated_by, role, origin)
    SELECT
      workspace_id,
      member_id,
      n.email,
      n.email_key,
      $8::text,
      CASE
        WHEN active THEN 'active'
        ELSE 'deactivated'
      END,
      CASE
        WHEN NOT active THEN 'directory'
      END,
      default_role,
      'directory'
    FROM
      (
        SELECT
          w.*,
          s.default_role,
          v.email,
          v.email_key
        FROM
          written w
          JOIN verdict v ON v.is_new
          CROSS JOIN LATERAL (
            SELECT
              default_role
            FROM
              workspaces
            WHERE
              id = w.workspace_id
            FOR SHARE
          ) s
      ) n
    RETURNING
      workspace_id,
      id,
      status,
      role
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
      'scim_user.created',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      w.member_id,
      'scim_user',
      w.id::text,
      $16::text,
      jsonb_strip_nulls(
        jsonb_build_object(
          'member',
          CASE
            WHEN v.is_new THEN 'created'
            ELSE 'linked'
          END
        ) || jsonb_build_object(
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
          $17::jsonb
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
  ),
  history_of_start AS (
    INSERT INTO
      access_changes (workspace_id, member_id, entry_id, status_after, role_after)
    SELECT
      m.workspace_id,
      m.id,
      entry.id,
      m.status,
      m.role
    FROM
      joined m
      CROSS JOIN entry
  )
SELECT
  v.verdict,
  v.member_id AS "memberId",
  w.id,
  w.created_at AS "createdAt",
  (
    SELECT
      id
    FROM
      entry
  ) AS "entryId"
FROM
  verdict v
  LEFT JOIN written w ON TRUE;
