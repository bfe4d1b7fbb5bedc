-- scim_group_create: Creates a group with its memberships.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 members
--   $5 id
--   $6 displayName
--   $7 displayNameKey
--   $8 externalId
--   $9 doc
--   $10 binds
--   $11 requestId
--   $12 leniencies
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
  wanted AS (
    SELECT DISTINCT
      w.id
    FROM
      allowed,
      unnest($4::UUID[]) AS w (id)
  ),
  found_users AS (
    SELECT
      u.id
    FROM
      wanted w
      CROSS JOIN LATERAL (
        SELECT
          id
        FROM
          scim_users
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = w.id
        OFFSET
          0
        FOR KEY SHARE
      ) u
  ),
  found_groups AS (
    SELECT
      g.id
    FROM
      wanted w
      CROSS JOIN LATERAL (
        SELECT
          id
        FROM
          scim_groups
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND id = w.id
          AND id <> $5::uuid
        OFFSET
          0
        FOR KEY SHARE
      ) g
  ),
  verdict AS (
    SELECT
      a.workspace_id,
      a.directory_id,
      (
        SELECT
          count(*)
        FROM
          wanted
      ) = (
        SELECT
          count(*)
        FROM
          found_users
      ) + (
        SELECT
          count(*)
        FROM
          found_groups
      ) AS is_known,
      d.is_awaited
    FROM
      allowed a
      -- Locked, so that an admin who maps this name waits for us, or we for them and read what they await.
      CROSS JOIN LATERAL (
        SELECT
          $6::text = ANY (awaited_groups) AS is_awaited
        FROM
          directories
        WHERE
          workspace_id = a.workspace_id
          AND id = a.directory_id
        FOR SHARE
      ) d
  ),
  written AS (
    INSERT INTO
      scim_groups (workspace_id, directory_id, id, display_name, display_name_key, external_id, doc)
    SELECT
      v.workspace_id,
      v.directory_id,
      $5::uuid,
      $6::text,
      $7::text,
      $8::text,
      $9::json
    FROM
      verdict v
    WHERE
      v.is_known
      AND (
        $10::boolean
        OR NOT v.is_awaited
      )
    ON CONFLICT (workspace_id, directory_id, display_name_key) DO NOTHING
    RETURNING
      workspace_id,
      directory_id,
      id,
      created_at
  ),
  counted AS (
    INSERT INTO
      scim_counters AS c (workspace_id, directory_id, resource_type, slot, total, deleted)
    SELECT
      workspace_id,
      directory_id,
      'Group',
      pg_backend_pid() % 16,
      1,
      0
    FROM
      written
    ON CONFLICT (workspace_id, directory_id, resource_type, slot) DO UPDATE
    SET
      total = c.total + excluded.total,
      deleted = c.deleted + excluded.deleted
  ),
  added AS (
    INSERT INTO
      scim_group_memberships (workspace_id, directory_id, group_id, user_id)
    SELECT
      w.workspace_id,
      w.directory_id,
      w.id,
      u.id
    FROM
      written w
      CROSS JOIN found_users u
  ),
  nested AS (
    INSERT INTO
      scim_group_subgroups (workspace_id, directory_id, group_id, subgroup_id)
    SELECT
      w.workspace_id,
      w.directory_id,
      w.id,
      g.id
    FROM
      written w
      CROSS JOIN found_groups g
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
      'scim_group.created',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      NULL::uuid,
      'scim_group',
      w.id::text,
      $11::text,
      jsonb_strip_nulls(
        jsonb_build_object(
          'displayName',
          $6::text,
          'members',
          (
            SELECT
              count(*)
            FROM
              wanted
          ),
          'leniencies',
          $12::jsonb
        )
      )
    FROM
      written w
    RETURNING
      id
  )
SELECT
  v.is_known AS "isKnown",
  v.is_awaited AS "isAwaited",
  w.id,
  w.created_at AS "createdAt",
  (
    SELECT
      string_agg(id::text, ',')
    FROM
      found_groups
  ) AS groups
FROM
  verdict v
  LEFT JOIN written w ON TRUE;
