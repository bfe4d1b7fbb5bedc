-- scim_group_of_external_id: Finds the one group with an externalId.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 value
--   $5 count
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
  )
SELECT
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
  LEFT JOIN LATERAL (
    SELECT
      *
    FROM
      scim_groups g
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND g.external_id = $4::text
  ) p ON TRUE
LIMIT
  $5::int + 1;
