-- scim_group_by_display_name: Finds groups by displayName, counted and paged.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 value
--   $5 after
--   $6 skip
--   $7 count
--   $8 withRelation
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
  matched AS MATERIALIZED (
    SELECT
      g.id
    FROM
      scim_groups g
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND g.display_name_key = $4::text
  ),
  keys AS MATERIALIZED (
    SELECT
      m.*,
      row_number() OVER (
        ORDER BY
          m.id
      ) AS position
    FROM
      matched m
    WHERE
      $5::uuid IS NULL
      OR m.id > $5::uuid
    ORDER BY
      m.id
    OFFSET
      $6::int
    LIMIT
      $7::int
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
      $8::boolean
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
  (
    SELECT
      count(*)
    FROM
      matched
  )::int AS total,
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
  LEFT JOIN page p ON TRUE
  LEFT JOIN users_of u ON u.id = p.id
  LEFT JOIN LATERAL (
    SELECT
      string_agg(subgroup_id::text, ',') AS groups
    FROM
      scim_group_subgroups
    WHERE
      $8::boolean
      AND workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND group_id = p.id
    OFFSET
      0
  ) s ON TRUE
ORDER BY
  p.position;
