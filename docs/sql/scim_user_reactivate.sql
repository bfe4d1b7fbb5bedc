-- scim_user_reactivate: Sets active to true and restores access.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 id
--   $5 ifMatch
--   $6 requestId
--   $7 leniencies
--   $8 baseUrl
--   $9 withGroups
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
  written AS (
    UPDATE scim_users u
    SET
      active = TRUE,
      version = u.version + 1,
      updated_at = now()
    FROM
      allowed a,
      members m
    WHERE
      u.workspace_id = $1::uuid
      AND u.directory_id = $2::uuid
      AND u.id = $4::uuid
      AND u.active <> TRUE
      AND (
        $5::INT[] IS NULL
        OR u.version = ANY ($5::INT[])
      )
      AND m.workspace_id = $1::uuid
      AND m.id = u.member_id
      AND m.status = 'deactivated'
      AND m.deactivated_by = 'directory'
    RETURNING
      u.*,
      m.status
  ),
  returned AS (
    UPDATE members m
    SET
      status = 'active',
      reactivated_at = clock_timestamp(),
      deactivated_by = NULL,
      version = m.version + 1,
      updated_at = now()
    FROM
      written w
      -- Asked again of the row that is locked: an admin who ends the access at this moment prevails.
    WHERE
      m.workspace_id = $1::uuid
      AND m.id = w.member_id
      AND m.deactivated_by = 'directory'
    RETURNING
      m.id AS member_id,
      w.status AS status_before,
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
      'scim_user.reactivated',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      w.member_id,
      'scim_user',
      w.id::text,
      $6::text,
      jsonb_strip_nulls(jsonb_build_object('leniencies', $7::jsonb))
    FROM
      written w
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
      returned c,
      entry
  ),
  page AS (
    SELECT
      id,
      active,
      version,
      created_at,
      updated_at,
      doc
    FROM
      written
    UNION ALL
    SELECT
      id,
      active,
      version,
      created_at,
      updated_at,
      doc
    FROM
      scim_users u
    WHERE
      NOT EXISTS (
        SELECT
        FROM
          written
      )
      AND u.workspace_id = $1::uuid
      AND u.directory_id = $2::uuid
      AND u.id = $4::uuid
      AND u.active = TRUE
      AND (
        $5::INT[] IS NULL
        OR u.version = ANY ($5::INT[])
      )
  )
SELECT
  p.id,
  p.active,
  p.version,
  p.created_at AS "createdAt",
  p.updated_at AS "updatedAt",
  p.doc,
  (
    SELECT
      json_agg(
        json_build_object(
          'value',
          r.group_id,
          '$ref',
          $8::text || '/Groups/' || r.group_id,
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
          'direct' AS type
        FROM
          scim_group_memberships
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND user_id = p.id
          AND $9::boolean
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
  LEFT JOIN page p ON TRUE;
