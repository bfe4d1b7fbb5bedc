-- scim_group_next: Reads the page of groups after an id.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 from
--   $5 fromEpoch
--   $6 count
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
  )
SELECT
  c.total,
  c.epoch,
  FALSE AS "isLead",
  p.id,
  p.version,
  p.created_at AS "createdAt",
  p.updated_at AS "updatedAt",
  p.doc,
  NULL AS users,
  NULL AS groups,
  a.nests_groups AS "nestsGroups"
FROM
  allowed a
  CROSS JOIN counts c
  LEFT JOIN LATERAL (
    SELECT
      *
    FROM
      scim_groups
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND id > $4::uuid
    ORDER BY
      id
    LIMIT
      CASE
        WHEN c.epoch <> $5::int THEN 0
        ELSE $6::int
      END
  ) p ON TRUE;
