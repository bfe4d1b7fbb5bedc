-- scim_group_page: Reads a page of groups by position.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 after
--   $5 anchorId
--   $6 anchorEpoch
--   $7 skip
--   $8 count
--   $9 withRelation
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
  counts AS (
    SELECT
      coalesce(sum(total), 0)::int AS total,
      coalesce(sum(deleted), 0)::int AS epoch
    FROM
      scim_counters
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND resource_type = 'Group'
  ),
  plan AS (
    SELECT
      total,
      epoch,
      (
        $4::uuid IS NOT NULL
        OR $5::uuid IS NOT NULL
        AND epoch = $6::int
      ) AS is_warm,
      greatest($7::int - 1, 0) AS walk,
      CASE
        WHEN $7::int > 0 THEN 1
        ELSE 0
      END AS lead,
      CASE
        WHEN $7::int > total THEN 0
        ELSE $8::int
      END AS wanted
    FROM
      counts
  ),
  keys AS MATERIALIZED (
    SELECT
      id,
      row_number() OVER (
        ORDER BY
          id
      ) - (
        SELECT
          CASE
            WHEN is_warm THEN 0
            ELSE lead
          END
        FROM
          plan
      ) AS position
    FROM
      (
        SELECT
          id
        FROM
          scim_groups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id > (
            SELECT
              CASE
                WHEN is_warm THEN coalesce($4::uuid, $5::uuid)
                ELSE '00000000-0000-0000-0000-000000000000'
              END
            FROM
              plan
          )
        ORDER BY
          id
        OFFSET
          (
            SELECT
              CASE
                WHEN is_warm THEN 0
                ELSE walk
              END
            FROM
              plan
          )
        LIMIT
          (
            SELECT
              CASE
                WHEN is_warm
                OR wanted = 0 THEN wanted
                ELSE wanted + lead
              END
            FROM
              plan
          )
      ) walked
  ),
  page AS (
    SELECT
      r.*,
      k.position
    FROM
      keys k
      CROSS JOIN LATERAL (
        SELECT
          *
        FROM
          scim_groups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = k.id
        OFFSET
          0
      ) r
  ),
  member_rows AS (
    SELECT
      p.id,
      m.user_id
    FROM
      (
        SELECT
          id
        FROM
          page
        WHERE
          position > 0
        ORDER BY
          position
        OFFSET
          0
      ) p
      CROSS JOIN LATERAL (
        SELECT
          user_id
        FROM
          scim_group_memberships
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND group_id = p.id
        OFFSET
          0
      ) m
    WHERE
      $9::boolean
    LIMIT
      50001
  ),
  users_of AS (
    SELECT
      id,
      string_agg(user_id::text, ',') AS users
    FROM
      member_rows
    GROUP BY
      id
  )
SELECT
  plan.total,
  plan.epoch,
  p.position = 0 AS "isLead",
  p.id,
  p.version,
  p.created_at AS "createdAt",
  p.updated_at AS "updatedAt",
  p.doc,
  u.users,
  s.groups,
  a.nests_groups AS "nestsGroups"
FROM
  allowed a
  CROSS JOIN plan
  LEFT JOIN page p ON TRUE
  LEFT JOIN users_of u ON u.id = p.id
  LEFT JOIN LATERAL (
    SELECT
      string_agg(subgroup_id::text, ',') AS groups
    FROM
      scim_group_subgroups
    WHERE
      $9::boolean
      AND workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND group_id = p.id
    OFFSET
      0
  ) s ON TRUE
ORDER BY
  p.position;
