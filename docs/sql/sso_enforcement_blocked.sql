-- sso_enforcement_blocked: Records, at most once an hour, that an access token was refused because SSO is enforced.
--   $1 workspaceId
--   $2 actorType
--   $3 actorId
--   $4 requestId
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
  $1::uuid,
  'sso_enforcement.blocked',
  'refused',
  'sso_required',
  $2::text,
  $3::text,
  NULL::uuid,
  'workspace',
  $1::text,
  $4::text,
  '{}'::jsonb
FROM
  (
    SELECT
  ) once
WHERE
  NOT EXISTS (
    SELECT
    FROM
      activity_entries
    WHERE
      workspace_id = $1::uuid
      AND actor_id = $3::text
      AND actor_type <> 'directory'
      AND action = 'sso_enforcement.blocked'
      AND at > now() - interval '1 hour'
  )
RETURNING
  id;
