-- scim_group_add_member: Adds one user to a group.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 id
--   $5 userId
--   $6 ifMatch
--   $7 requestId
--   $8 leniencies
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
  plain AS (
    SELECT
      g.version,
      g.reach_version
    FROM
      allowed a
      JOIN scim_groups g ON g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = $4::uuid
      CROSS JOIN LATERAL (
        SELECT
        FROM
          scim_users
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = $5::uuid
          AND NOT EXISTS (
            SELECT
            FROM
              scim_group_memberships
            WHERE
              workspace_id = $1::uuid
              AND directory_id = $2::uuid
              AND group_id = $4::uuid
              AND user_id = $5::uuid
          )
        FOR KEY SHARE
      ) change
    WHERE
      NOT a.nests_groups
      AND (g.version = ANY ($6::INT[])) IS NOT FALSE
      AND NOT EXISTS (
        SELECT
        FROM
          group_mappings m
        WHERE
          m.workspace_id = $1::uuid
          AND m.directory_id = $2::uuid
          AND m.scim_group_id = $4::uuid
      )
  ),
  written AS (
    UPDATE scim_groups g
    SET
      version = g.version + 1,
      updated_at = now()
    FROM
      plain p
    WHERE
      g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = $4::uuid
      AND g.reach_version = p.reach_version
      AND (
        g.version = p.version
        OR $6::INT[] IS NULL
      )
    RETURNING
      g.*
  ),
  changed AS (
    INSERT INTO
      scim_group_memberships (workspace_id, directory_id, group_id, user_id)
    SELECT
      workspace_id,
      directory_id,
      id,
      $5::uuid
    FROM
      written
    ON CONFLICT DO NOTHING
    RETURNING
      TRUE
  ),
  entry AS (
    INSERT INTO
      activity_entries (
        workspace_id,
        action,
        outcome,
        reason,
        actor_type,
        actor_id,
        member_id,
        target_type,
        target_id,
        request_id,
        detail
      )
    SELECT
      w.workspace_id,
      'scim_group.updated',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      NULL::uuid,
      'scim_group',
      w.id::text,
      $7::text,
      jsonb_strip_nulls(
        jsonb_build_object(
          'membersAdded',
          nullif(
            (
              SELECT
                count(*)
              FROM
                changed
            ),
            0
          ),
          'leniencies',
          $8::jsonb
        )
      )
    FROM
      written w
    RETURNING
      id
  )
SELECT
  w.id,
  w.version,
  w.created_at AS "createdAt",
  w.updated_at AS "updatedAt",
  w.doc
FROM
  allowed a
  LEFT JOIN written w ON TRUE;
