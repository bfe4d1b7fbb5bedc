-- scim_user_create_new: Creates a user whose address no member and no former user has.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 emailKey
--   $5 externalId
--   $6 id
--   $7 userName
--   $8 userNameKey
--   $9 emailKeys
--   $10 active
--   $11 newMemberId
--   $12 doc
--   $13 email
--   $14 displayName
--   $15 requestId
--   $16 leniencies
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
  new_person AS (
    SELECT
      a.workspace_id,
      a.directory_id,
      s.default_role
    FROM
      allowed a
      CROSS JOIN LATERAL (
        SELECT
          default_role
        FROM
          workspaces
        WHERE
          id = a.workspace_id
        FOR SHARE
      ) s
    WHERE
      NOT EXISTS (
        SELECT
        FROM
          members
        WHERE
          workspace_id = $1::uuid
          AND email_key = $4::text
      )
      AND NOT EXISTS (
        SELECT
        FROM
          scim_former_users
        WHERE
          workspace_id = $1::uuid
          AND directory_id = $2::uuid
          AND external_id = $5::text
      )
  ),
  written AS (
    INSERT INTO
      scim_users (
        workspace_id,
        directory_id,
        id,
        user_name,
        user_name_key,
        external_id,
        email_keys,
        active,
        member_id,
        doc
      )
    SELECT
      workspace_id,
      directory_id,
      $6::uuid,
      $7::text,
      $8::text,
      $5::text,
      $9::TEXT[],
      $10::boolean,
      $11::uuid,
      $12::json
    FROM
      new_person
    ON CONFLICT (workspace_id, directory_id, user_name_key) DO NOTHING
    RETURNING
      workspace_id,
      directory_id,
      id,
      member_id,
      active,
      created_at
  ),
  counted AS (
    INSERT INTO
      scim_counters AS c (workspace_id, directory_id, resource_type, slot, total, deleted)
    SELECT
      workspace_id,
      directory_id,
      'User',
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
  joined AS (
    INSERT INTO
      members (workspace_id, id, email, email_key, display_name, status, deactivated_by, role, origin)
    SELECT
      workspace_id,
      member_id,
      $13::text,
      $4::text,
      $14::text,
      CASE
        WHEN active THEN 'active'
        ELSE 'deactivated'
      END,
      CASE
        WHEN NOT active THEN 'directory'
      END,
      default_role,
      'directory'
    FROM
      (
        SELECT
          w.*,
          p.default_role
        FROM
          written w
          CROSS JOIN new_person p
      ) n
    RETURNING
      workspace_id,
      id,
      status,
      role
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
      'scim_user.created',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      w.member_id,
      'scim_user',
      w.id::text,
      $15::text,
      jsonb_strip_nulls(jsonb_build_object('member', 'created', 'leniencies', $16::jsonb))
    FROM
      written w
    RETURNING
      id
  ),
  history_of_start AS (
    INSERT INTO
      access_changes (workspace_id, member_id, entry_id, status_after, role_after)
    SELECT
      m.workspace_id,
      m.id,
      entry.id,
      m.status,
      m.role
    FROM
      joined m
      CROSS JOIN entry
  )
SELECT
  n.workspace_id IS NOT NULL AS "isNew",
  w.id,
  w.created_at AS "createdAt"
FROM
  allowed a
  LEFT JOIN new_person n ON TRUE
  LEFT JOIN written w ON TRUE;
