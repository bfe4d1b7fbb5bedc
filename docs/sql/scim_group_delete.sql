-- scim_group_delete: Deletes a group with its memberships.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 id
--   $5 ifMatch
--   $6 recomputes
--   $7 requestId
--   $8 leniencies
WITH RECURSIVE
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
      g.*
    FROM
      allowed a
      JOIN scim_groups g ON g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = $4::uuid
  ),
  around AS (
    SELECT
      id
    FROM
      page
    UNION
    SELECT
      s.group_id
    FROM
      around o
      CROSS JOIN LATERAL (
        SELECT
          s.group_id
        FROM
          scim_group_subgroups s
        WHERE
          s.workspace_id = $1::uuid
          AND s.directory_id = $2::uuid
          AND s.subgroup_id = o.id
        OFFSET
          0
      ) s
  ),
  verdict AS (
    SELECT
      p.id,
      p.version,
      EXISTS (
        SELECT
        FROM
          around o
          JOIN group_mappings m ON m.workspace_id = $1::uuid
          AND m.directory_id = $2::uuid
          AND m.scim_group_id = o.id
      ) AS is_mapped
    FROM
      page p
  ),
  written AS (
    DELETE FROM scim_groups g USING verdict v
    WHERE
      g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = $4::uuid
      AND g.version = v.version
      AND (v.version = ANY ($5::INT[])) IS NOT FALSE
      AND (
        $6::boolean
        OR NOT v.is_mapped
      )
    RETURNING
      g.workspace_id,
      g.directory_id,
      g.id,
      g.display_name
  ),
  members_gone AS (
    DELETE FROM scim_group_memberships m
    WHERE
      m.workspace_id = $1::uuid
      AND m.directory_id = $2::uuid
      AND m.group_id = $4::uuid
      AND EXISTS (
        SELECT
        FROM
          written
      )
    RETURNING
      m.user_id
  ),
  outer_touched AS (
    UPDATE scim_groups g
    SET
      version = g.version + 1,
      updated_at = now()
    WHERE
      g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = ANY (
        ARRAY(
          SELECT
            s.group_id
          FROM
            written w,
            scim_group_subgroups s
          WHERE
            s.workspace_id = $1::uuid
            AND s.directory_id = $2::uuid
            AND s.subgroup_id = w.id
        )
      )
  ),
  counted AS (
    INSERT INTO
      scim_counters AS c (workspace_id, directory_id, resource_type, slot, total, deleted)
    SELECT
      workspace_id,
      directory_id,
      'Group',
      pg_backend_pid() % 16,
      -1,
      1
    FROM
      written
    ON CONFLICT (workspace_id, directory_id, resource_type, slot) DO UPDATE
    SET
      total = c.total + excluded.total,
      deleted = c.deleted + excluded.deleted
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
      'scim_group.deleted',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      NULL::uuid,
      'scim_group',
      w.id::text,
      $7::text,
      jsonb_build_object(
        'displayName',
        w.display_name,
        'members',
        (
          SELECT
            count(*)
          FROM
            members_gone
        ),
        'mappings',
        (
          SELECT
            count(*)
          FROM
            group_mappings m
          WHERE
            m.workspace_id = $1::uuid
            AND m.directory_id = $2::uuid
            AND m.scim_group_id = w.id
        )
      ) || jsonb_strip_nulls(jsonb_build_object('leniencies', $8::jsonb))
    FROM
      written w
    RETURNING
      id
  ),
  mappings_gone AS (
    INSERT INTO
      group_mapping_versions (
        workspace_id,
        mapping_id,
        entry_id,
        is_deleted,
        directory_id,
        scim_group_id,
        awaited_group,
        claimed_group,
        group_id,
        role
      )
    SELECT
      m.workspace_id,
      m.id,
      e.id,
      TRUE,
      m.directory_id,
      m.scim_group_id,
      m.awaited_group,
      m.claimed_group,
      m.group_id,
      m.role
    FROM
      entry e
      CROSS JOIN written w
      JOIN group_mappings m ON m.workspace_id = $1::uuid
      AND m.directory_id = $2::uuid
      AND m.scim_group_id = w.id
  )
SELECT
  p.id,
  p.version,
  v.is_mapped AS "isMapped",
  w.id AS deleted,
  (
    SELECT
      id
    FROM
      entry
  ) AS "entryId"
FROM
  allowed a
  LEFT JOIN page p ON TRUE
  LEFT JOIN verdict v ON TRUE
  LEFT JOIN written w ON TRUE;
