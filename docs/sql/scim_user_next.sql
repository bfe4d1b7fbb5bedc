-- scim_user_next: Reads the page of users after an id.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 baseUrl
--   $5 withRelation
--   $6 from
--   $7 fromEpoch
--   $8 count
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
  )
SELECT
  c.total,
  c.epoch,
  FALSE AS "isLead",
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
          $4::text || '/Groups/' || r.group_id,
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
          AND $5::boolean
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
  CROSS JOIN counts c
  LEFT JOIN LATERAL (
    SELECT
      *
    FROM
      scim_users
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND id > $6::uuid
    ORDER BY
      id
    LIMIT
      CASE
        WHEN c.epoch <> $7::int THEN 0
        ELSE $8::int
      END
  ) p ON TRUE;
