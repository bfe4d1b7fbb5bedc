-- linking_lock: Locks the members that the claims of a first sign-in point to.
--   $1 workspaceId
--   $2 stableId
--   $3 issuer
--   $4 emailKey
SELECT
FROM
  members
WHERE
  workspace_id = $1::uuid
  AND id = ANY (
    ARRAY(
      SELECT
        member_id
      FROM
        (
          SELECT
            u.member_id,
            'directory' AS found_by
          FROM
            directories d
            CROSS JOIN LATERAL (
              SELECT
                member_id
              FROM
                scim_users
              WHERE
                workspace_id = $1::uuid
                AND directory_id = d.id
                AND external_id = $2::text
              OFFSET
                0
            ) u
          WHERE
            d.workspace_id = $1::uuid
          UNION
          SELECT
            member_id,
            'identity'
          FROM
            identities
          WHERE
            workspace_id = $1::uuid
            AND issuer = $3::text
            AND stable_id = $2::text
          UNION
          SELECT
            id,
            'email'
          FROM
            members
          WHERE
            workspace_id = $1::uuid
            AND email_key = $4::text
        ) f
    )
  )
ORDER BY
  id
FOR UPDATE;
