-- scim_user_delete: Deletes a user, its memberships and the member’s access.
--   $1 workspaceId
--   $2 directoryId
--   $3 id
--   $4 requestId
--   $5 leniencies
WITH
  written AS (
    DELETE FROM scim_users u
    WHERE
      u.workspace_id = $1::uuid
      AND u.directory_id = $2::uuid
      AND u.id = $3::uuid
    RETURNING
      workspace_id,
      directory_id,
      id,
      member_id,
      external_id
  ),
  memberships AS (
    DELETE FROM scim_group_memberships m
    WHERE
      m.workspace_id = $1::uuid
      AND m.directory_id = $2::uuid
      AND m.user_id = $3::uuid
    RETURNING
      group_id
  ),
  touched AS (
    UPDATE scim_groups g
    SET
      version = g.version + 1,
      updated_at = now()
    FROM
      memberships m
    WHERE
      g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
      AND g.id = m.group_id
  ),
  counted AS (
    INSERT INTO
      scim_counters AS c (workspace_id, directory_id, resource_type, slot, total, deleted)
    SELECT
      workspace_id,
      directory_id,
      'User',
      pg_backend_pid() % 16,
      -1,
      1
    FROM
      written
    ON CONFLICT (workspace_id, directory_id, resource_type, slot) DO UPDATE
    SET
      total = c.total + excluded.total,
      deleted = c.deleted + excluded.deleted
  ),
  remembered AS (
    INSERT INTO
      scim_former_users (workspace_id, directory_id, external_id, member_id)
    SELECT
      workspace_id,
      directory_id,
      external_id,
      member_id
    FROM
      written
    WHERE
      external_id IS NOT NULL
    ON CONFLICT (workspace_id, directory_id, external_id) DO UPDATE
    SET
      member_id = excluded.member_id,
      deleted_at = now()
  ),
  leaving AS (
    SELECT
      w.member_id
    FROM
      written w
      JOIN members m ON m.workspace_id = w.workspace_id
      AND m.id = w.member_id
      AND m.status <> 'deactivated'
  ),
  ending AS (
    SELECT
      m.id AS member_id,
      m.status
    FROM
      leaving l
      JOIN members m ON m.workspace_id = $1::uuid
      AND m.id = l.member_id
    WHERE
      m.status <> 'deactivated'
      AND (
        m.role <> 'owner'
        OR m.status <> 'active'
        OR EXISTS (
          SELECT
          FROM
            members o
          WHERE
            o.workspace_id = $1::uuid
            AND o.role = 'owner'
            AND o.status = 'active'
            AND o.id NOT IN (
              SELECT
                member_id
              FROM
                leaving
            )
        )
      )
  ),
  ended AS (
    UPDATE members m
    SET
      status = 'deactivated',
      deactivated_by = 'directory',
      invitation_expires_at = NULL,
      version = m.version + 1,
      updated_at = now()
    FROM
      ending e
    WHERE
      m.workspace_id = $1::uuid
      AND m.id = e.member_id
      AND m.status <> 'deactivated'
    RETURNING
      m.id AS member_id,
      e.status AS status_before,
      m.role,
      m.rules,
      m.manual_role,
      m.manual_policy
  ),
  ended_sessions AS (
    UPDATE sessions s
    SET
      ended_at = now(),
      end_reason = 'scim_user.deleted'
    FROM
      ended e
    WHERE
      s.workspace_id = $1::uuid
      AND s.member_id = e.member_id
      AND s.ended_at IS NULL
    RETURNING
      s.member_id
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
      'scim_user.deleted',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      w.member_id,
      'scim_user',
      w.id::text,
      $4::text,
      jsonb_strip_nulls(
        jsonb_build_object(
          'groupsLeft',
          (
            SELECT
              count(*)
            FROM
              memberships
          ),
          'sessionsEnded',
          CASE
            WHEN EXISTS (
              SELECT
              FROM
                ended
            ) THEN (
              SELECT
                count(*)
              FROM
                ended_sessions
            )
          END,
          'keptLastOwner',
          CASE
            WHEN EXISTS (
              SELECT
              FROM
                leaving
            )
            AND NOT EXISTS (
              SELECT
              FROM
                ended
            ) THEN TRUE
          END,
          'leniencies',
          $5::jsonb
        )
      )
    FROM
      written w
    RETURNING
      id
  ),
  history AS (
    INSERT INTO
      access_changes (
        workspace_id,
        member_id,
        entry_id,
        status_before,
        status_after,
        role_before,
        role_after,
        rules,
        manual_role,
        manual_policy
      )
    SELECT
      $1::uuid,
      c.member_id,
      entry.id,
      c.status_before,
      c.status,
      c.role,
      c.role,
      c.rules,
      c.manual_role,
      c.manual_policy
    FROM
      (
        SELECT
          e.*,
          'deactivated' AS status
        FROM
          ended e
      ) c,
      entry
  )
SELECT
  entry.id AS "entryId",
  EXISTS (
    SELECT
    FROM
      memberships
  )
  AND EXISTS (
    SELECT
    FROM
      group_mappings g
    WHERE
      g.workspace_id = $1::uuid
      AND g.directory_id = $2::uuid
  )
  -- Without a directory, what they claimed when they signed in counts again.
  OR EXISTS (
    SELECT
    FROM
      members m
      JOIN written w ON w.member_id = m.id
    WHERE
      m.workspace_id = $1::uuid
      AND m.claimed_groups <> '{}'
  ) AS "isMapped"
FROM
  entry;
