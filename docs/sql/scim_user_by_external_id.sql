-- scim_user_by_external_id: Finds users by externalId, counted and paged.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 value
--   $5 after
--   $6 skip
--   $7 count
--   $8 baseUrl
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
  matched AS MATERIALIZED (
    SELECT
      u.id
    FROM
      scim_users u
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND u.external_id = $4::text
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
  (
    SELECT
      count(*)
    FROM
      matched
  )::int AS total,
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
  LEFT JOIN page p ON TRUE
ORDER BY
  p.position;
