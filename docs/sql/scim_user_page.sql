-- scim_user_page: Reads a page of users by position.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 after
--   $5 anchorId
--   $6 anchorEpoch
--   $7 skip
--   $8 count
--   $9 baseUrl
--   $10 withRelation
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
      AND resource_type = 'User'
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
          scim_users
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
          scim_users
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = k.id
        OFFSET
          0
      ) r
  )
SELECT
  plan.total,
  plan.epoch,
  p.position = 0 AS "isLead",
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
          $9::text || '/Groups/' || r.group_id,
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
          AND $10::boolean
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
  CROSS JOIN plan
  LEFT JOIN page p ON TRUE
ORDER BY
  p.position;
