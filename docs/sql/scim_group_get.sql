-- scim_group_get: Reads a group, with its members if wanted.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 id
--   $5 withMembers
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
  page AS (
    SELECT
      g.*
    FROM
      allowed a
      JOIN scim_groups g ON g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = $4::uuid
  )
SELECT
  p.id,
  p.version,
  p.created_at AS "createdAt",
  p.updated_at AS "updatedAt",
  p.doc,
  CASE
    WHEN EXISTS (
      SELECT
      FROM
        page
    )
    AND $5::boolean THEN (
      SELECT
        string_agg(user_id::text, ',')
      FROM
        scim_group_memberships
      WHERE
        workspace_id = $1::uuid
        AND directory_id = $2::uuid
        AND group_id = $4::uuid
    )
  END AS users,
  CASE
    WHEN EXISTS (
      SELECT
      FROM
        page
    )
    AND $5::boolean THEN (
      SELECT
        string_agg(subgroup_id::text, ',')
      FROM
        scim_group_subgroups
      WHERE
        workspace_id = $1::uuid
        AND directory_id = $2::uuid
        AND group_id = $4::uuid
    )
  END AS groups
FROM
  allowed a
  LEFT JOIN page p ON TRUE;
