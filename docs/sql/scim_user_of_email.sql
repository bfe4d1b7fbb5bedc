-- scim_user_of_email: Finds the one user with an e-mail address.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 baseUrl
--   $5 withRelation
--   $6 email
--   $7 emailType
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
  )
SELECT
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
  LEFT JOIN LATERAL (
    SELECT
      *
    FROM
      (
        SELECT
          *
        FROM
          scim_users
        WHERE
          email_keys @> ARRAY[$6]::TEXT[]
        OFFSET
          0
      ) u
    WHERE
      workspace_id = $1::uuid
      AND directory_id = $2::uuid
      AND (
        $7::text IS NULL
        OR EXISTS (
          SELECT
          FROM
            json_array_elements(u.doc -> 'emails') e
          WHERE
            btrim(
              normalize(
                translate(
                  lower(
                    regexp_replace(
                      regexp_replace(
                        normalize((e ->> 'value'), NFKC),
                        '[\u0001-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]',
                        '',
                        'g'
                      ),
                      '[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]',
                      ' ',
                      'g'
                    )
                  ),
                  'ς',
                  'σ'
                ),
                NFKC
              )
            ) = $6::text
            AND lower(e ->> 'type') = $7::text
        )
      )
  ) p ON TRUE
LIMIT
  $8::int + 1;
