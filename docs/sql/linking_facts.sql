-- linking_facts: Reads the input of the linking rules as one JSON value, without locks.
--   $1 workspaceId
--   $2 emailKey
--   $3 stableId
--   $4 issuer
SELECT
  jsonb_build_object(
    'candidates',
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'foundBy',
          f.found_by,
          'memberId',
          m.id,
          'version',
          m.version,
          'status',
          m.status,
          'role',
          m.role,
          'invitationOpen',
          coalesce(m.invitation_expires_at > now(), FALSE),
          'limits',
          ARRAY(
            SELECT
              d.max_linkable_role
            FROM
              (
                SELECT
                  directory_id
                FROM
                  scim_users
                WHERE
                  workspace_id = $1::uuid
                  AND member_id = m.id
                OFFSET
                  0
              ) u
              JOIN directories d ON d.workspace_id = $1::uuid
              AND d.id = u.directory_id
            WHERE
              d.max_linkable_role IS NOT NULL
          ),
          'identities',
          ARRAY(
            SELECT
              jsonb_build_object('issuer', i.issuer, 'subject', i.subject)
            FROM
              identities i
            WHERE
              i.workspace_id = $1::uuid
              AND i.member_id = m.id
            ORDER BY
              i.issuer,
              i.subject
          )
        )
        ORDER BY
          f.found_by,
          m.id
      ),
      '[]'
    ),
    'inactiveInDirectory',
    EXISTS (
      SELECT
      FROM
        (
          SELECT
            workspace_id,
            active
          FROM
            scim_users
          WHERE
            email_keys @> ARRAY[$2]::TEXT[]
          OFFSET
            0
        ) u
      WHERE
        workspace_id = $1::uuid
        AND NOT active
    )
  ) AS facts
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
          AND external_id = $3::text
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
      AND issuer = $4::text
      AND stable_id = $3::text
    UNION
    SELECT
      id,
      'email'
    FROM
      members
    WHERE
      workspace_id = $1::uuid
      AND email_key = $2::text
    OFFSET
      0
  ) f
  CROSS JOIN LATERAL (
    SELECT
      *
    FROM
      members
    WHERE
      workspace_id = $1::uuid
      AND id = f.member_id
    OFFSET
      0
  ) m;
