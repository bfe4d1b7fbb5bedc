-- scim_user_document: Stores a changed document without changing other columns.
--   $1 workspaceId
--   $2 directoryId
--   $3 credentialId
--   $4 userName
--   $5 userNameKey
--   $6 externalId
--   $7 emailKeys
--   $8 doc
--   $9 id
--   $10 expected
--   $11 email
--   $12 displayName
--   $13 requestId
--   $14 leniencies
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
  written AS (
    UPDATE scim_users u
    SET
      user_name = $4::text,
      user_name_key = CASE
        WHEN u.user_name = $4::text THEN u.user_name_key
        ELSE $5::text
      END,
      external_id = $6::text,
      email_keys = $7::TEXT[],
      doc = $8::json,
      version = u.version + 1,
      updated_at = now()
    FROM
      allowed a,
      members m
    WHERE
      u.workspace_id = $1::uuid
      AND u.directory_id = $2::uuid
      AND u.id = $9::uuid
      AND u.version = $10::int
      AND m.workspace_id = $1::uuid
      AND m.id = u.member_id
      AND m.status = CASE
        WHEN u.active THEN 'active'
        ELSE 'deactivated'
      END
      AND (m.email, m.display_name) IS NOT DISTINCT FROM ($11::text, $12::text)
    RETURNING
      u.workspace_id,
      u.directory_id,
      u.id,
      u.member_id,
      u.version,
      u.updated_at
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
      'scim_user.updated',
      'succeeded',
      NULL::text,
      'directory',
      w.directory_id::text,
      w.member_id,
      'scim_user',
      w.id::text,
      $13::text,
      jsonb_strip_nulls(jsonb_build_object('leniencies', $14::jsonb))
    FROM
      written w
    RETURNING
      id
  )
SELECT
  w.version,
  w.updated_at AS "updatedAt"
FROM
  allowed a
  LEFT JOIN written w ON TRUE;
