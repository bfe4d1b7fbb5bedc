-- scim_group_change_checked: Changes memberships and reports ids that are neither users nor groups.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 id
--   $5 add
--   $6 remove
--   $7 saidUsers
--   $8 saidGroups
--   $9 targetIds
--   $10 targetPointers
--   $11 ifMatch
--   $12 expected
--   $13 isStrict
--   $14 doc
--   $15 recomputes
--   $16 displayName
--   $17 displayNameKey
--   $18 externalId
--   $19 requestId
--   $20 leniencies
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
  difference AS MATERIALIZED (
    SELECT
      w.id,
      TRUE AS is_added,
      NULL AS kind,
      NULL::tid AS place
    FROM
      (
        SELECT DISTINCT
          id
        FROM
          unnest($5::UUID[]) AS w (id)
      ) w
      LEFT JOIN LATERAL (
        SELECT
          TRUE AS held
        FROM
          scim_group_memberships
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND group_id = $4::uuid
          AND user_id = w.id
        UNION ALL
        SELECT
          TRUE
        FROM
          scim_group_subgroups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND group_id = $4::uuid
          AND subgroup_id = w.id
        OFFSET
          0
      ) h ON TRUE
    WHERE
      h.held IS NULL
    UNION ALL
    SELECT
      user_id,
      FALSE,
      'User',
      ctid
    FROM
      scim_group_memberships
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND group_id = $4::uuid
      AND user_id = ANY ($6::UUID[])
    UNION ALL
    SELECT
      subgroup_id,
      FALSE,
      'Group',
      ctid
    FROM
      scim_group_subgroups
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND group_id = $4::uuid
      AND subgroup_id = ANY ($6::UUID[])
  ),
  adding AS (
    SELECT
      id
    FROM
      difference
    WHERE
      is_added
  ),
  found_users AS (
    SELECT
      u.id
    FROM
      adding w
      CROSS JOIN LATERAL (
        SELECT
          id
        FROM
          scim_users
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = w.id
        OFFSET
          0
        FOR KEY SHARE
      ) u
  ),
  found_groups AS (
    SELECT
      g.id
    FROM
      adding w
      CROSS JOIN LATERAL (
        SELECT
          id
        FROM
          scim_groups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = w.id
          AND id <> $4::uuid
        OFFSET
          0
        FOR KEY SHARE
      ) g
  ),
  contradicted AS (
    SELECT
      g.id,
      'Group' AS kind
    FROM
      (
        SELECT
          id
        FROM
          found_groups
        UNION ALL
        SELECT
          subgroup_id
        FROM
          scim_group_subgroups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND group_id = $4::uuid
      ) g
    WHERE
      (
        g.id IN (
          SELECT
            unnest($7::UUID[])
        )
      ) IS TRUE
    UNION ALL
    SELECT
      u.id,
      'User'
    FROM
      unnest($8::UUID[]) AS w (id)
      CROSS JOIN LATERAL (
        SELECT
          id
        FROM
          scim_users
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = w.id
        OFFSET
          0
      ) u
  ),
  missed AS (
    SELECT
      t.pointer
    FROM
      unnest($9::UUID[], $10::TEXT[]) AS t (id, pointer)
      LEFT JOIN LATERAL (
        SELECT
          TRUE AS held
        FROM
          scim_group_memberships
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND group_id = $4::uuid
          AND user_id = t.id
        UNION ALL
        SELECT
          TRUE
        FROM
          scim_group_subgroups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND group_id = $4::uuid
          AND subgroup_id = t.id
        OFFSET
          0
      ) h ON TRUE
    GROUP BY
      t.pointer
    HAVING
      bool_or(h.held) IS NULL
  ),
  numbers AS (
    SELECT
      (
        SELECT
          count(*)
        FROM
          difference
        WHERE
          is_added
      ) AS added,
      (
        SELECT
          count(*)
        FROM
          difference
        WHERE
          NOT is_added
      ) AS removed,
      (
        SELECT
          count(*)
        FROM
          found_users
      ) AS users,
      (
        SELECT
          count(*)
        FROM
          found_groups
      ) AS groups,
      EXISTS (
        SELECT
        FROM
          difference d
        WHERE
          d.kind = 'Group'
      ) AS ungroups,
      EXISTS (
        SELECT
        FROM
          found_groups f
          JOIN around o ON o.id = f.id
      ) AS is_cycle,
      EXISTS (
        SELECT
        FROM
          around o
          JOIN group_mappings m ON m.workspace_id = $1::uuid
          AND m.directory_id = $2::uuid
          AND m.scim_group_id = o.id
      ) AS is_mapped
  ),
  verdict AS (
    SELECT
      p.id,
      p.version,
      p.reach_version,
      n.is_mapped,
      CASE
        WHEN p.version <> ALL ($11::INT[]) THEN 'version'
        WHEN p.version <> $12::int THEN 'raced'
        WHEN EXISTS (
          SELECT
          FROM
            contradicted
        ) THEN 'contradicted'
        WHEN $13::boolean
        AND EXISTS (
          SELECT
          FROM
            missed
        ) THEN 'missed'
        WHEN n.added > n.users + n.groups THEN 'unknown'
        WHEN n.is_cycle THEN 'cycle'
        WHEN n.added + n.removed = 0
        AND (
          NOT ($14::text IS NOT NULL)
          OR p.doc::text = $14::text
        ) THEN 'same'
        WHEN NOT $15::boolean
        AND n.added + n.removed > 0
        AND (
          n.is_mapped
          OR n.groups > 0
          OR n.ungroups
        ) THEN 'recompute'
        ELSE 'write'
      END AS verdict
    FROM
      page p
      CROSS JOIN numbers n
  ),
  written AS (
    UPDATE scim_groups g
    SET
      display_name = CASE
        WHEN ($14::text IS NOT NULL) THEN $16::text
        ELSE g.display_name
      END,
      display_name_key = CASE
        WHEN ($14::text IS NOT NULL) THEN CASE
          WHEN g.display_name = $16::text THEN g.display_name_key
          ELSE $17::text
        END
        ELSE g.display_name_key
      END,
      external_id = CASE
        WHEN ($14::text IS NOT NULL) THEN $18::text
        ELSE g.external_id
      END,
      doc = CASE
        WHEN ($14::text IS NOT NULL) THEN $14::text::json
        ELSE g.doc
      END,
      version = g.version + 1,
      updated_at = now()
    FROM
      verdict v
    WHERE
      v.verdict = 'write'
      AND g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = $4::uuid
      AND g.reach_version = v.reach_version
      AND (
        g.version = v.version
        OR (
          $12::int IS NULL
          AND $11::INT[] IS NULL
        )
      )
    RETURNING
      g.*
  ),
  added AS (
    INSERT INTO
      scim_group_memberships (workspace_id, directory_id, group_id, user_id)
    SELECT
      w.workspace_id,
      w.directory_id,
      w.id,
      u.id
    FROM
      written w
      CROSS JOIN found_users u
    ON CONFLICT DO NOTHING
    RETURNING
      user_id
  ),
  nested AS (
    INSERT INTO
      scim_group_subgroups (workspace_id, directory_id, group_id, subgroup_id)
    SELECT
      w.workspace_id,
      w.directory_id,
      w.id,
      u.id
    FROM
      written w
      CROSS JOIN found_groups u
    ON CONFLICT DO NOTHING
    RETURNING
      subgroup_id
  ),
  removed AS (
    DELETE FROM scim_group_memberships m
    WHERE
      m.ctid = ANY (
        ARRAY(
          SELECT
            d.place
          FROM
            difference d,
            written
          WHERE
            d.kind = 'User'
        )
      )
    RETURNING
      m.user_id
  ),
  freed AS (
    DELETE FROM scim_group_subgroups s
    WHERE
      s.ctid = ANY (
        ARRAY(
          SELECT
            d.place
          FROM
            difference d,
            written
          WHERE
            d.kind = 'Group'
        )
      )
    RETURNING
      s.subgroup_id
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
      'scim_group.updated',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      NULL::uuid,
      'scim_group',
      w.id::text,
      $19::text,
      jsonb_strip_nulls(
        jsonb_build_object(
          'displayName',
          CASE
            WHEN ($14::text IS NOT NULL) THEN w.display_name
          END,
          'membersAdded',
          nullif(
            (
              SELECT
                count(*)
              FROM
                added
            ) + (
              SELECT
                count(*)
              FROM
                nested
            ),
            0
          ),
          'membersRemoved',
          nullif(
            (
              SELECT
                count(*)
              FROM
                removed
            ) + (
              SELECT
                count(*)
              FROM
                freed
            ),
            0
          ),
          'leniencies',
          nullif(
            coalesce($20::jsonb, '[]') || coalesce(
              (
                SELECT
                  jsonb_agg(jsonb_build_object('name', 'target_missed', 'pointer', m.pointer))
                FROM
                  (
                    SELECT
                      pointer
                    FROM
                      missed
                    LIMIT
                      100
                  ) m
              ),
              '[]'
            ),
            '[]'
          )
        )
      )
    FROM
      written w
    RETURNING
      id
  )
SELECT
  CASE
    WHEN v.verdict = 'write'
    AND w.id IS NULL THEN 'raced'
    ELSE v.verdict
  END AS verdict,
  p.id,
  coalesce(w.version, p.version) AS version,
  p.created_at AS "createdAt",
  coalesce(w.updated_at, p.updated_at) AS "updatedAt",
  coalesce(w.doc, p.doc) AS doc,
  NULL::text AS groups,
  (
    SELECT
      id
    FROM
      entry
  ) AS "entryId",
  v.is_mapped AS "isMapped",
  (
    SELECT
      jsonb_object_agg(id, kind)
    FROM
      contradicted
  ) AS contradicted,
  ARRAY(
    SELECT
      pointer
    FROM
      missed
  ) AS missed,
  CASE
    WHEN $15::boolean THEN ARRAY(
      SELECT
        user_id
      FROM
        added
      UNION ALL
      SELECT
        user_id
      FROM
        removed
    )
  END AS "changedUsers",
  CASE
    WHEN $15::boolean THEN ARRAY(
      SELECT
        subgroup_id
      FROM
        nested
      UNION ALL
      SELECT
        subgroup_id
      FROM
        freed
    )
  END AS "changedGroups"
FROM
  allowed a
  LEFT JOIN page p ON TRUE
  LEFT JOIN verdict v ON TRUE
  LEFT JOIN written w ON TRUE;
