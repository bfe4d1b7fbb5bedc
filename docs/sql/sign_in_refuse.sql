-- sign_in_refuse: Records a refused sign-in and ends its attempt.
--   $1 code
--   $2 memberId
--   $3 requestId
--   $4 detail
--   $5 workspaceId
--   $6 stateHash
WITH
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
      'sso_sign_in.refused',
      'refused',
      $1,
      'system',
      'sign-in',
      $2::uuid,
      'sso_config',
      w.workspace_id::text,
      $3,
      $4::jsonb
    FROM
      sso_configs w
    WHERE
      w.workspace_id = $5::uuid
    RETURNING
      id
  ),
  closed AS (
    UPDATE sign_in_attempts
    SET
      outcome = $1,
      outcome_entry_id = entry.id
    FROM
      entry
    WHERE
      workspace_id = $5::uuid
      AND state_hash = $6::bytea
  )
SELECT
  id
FROM
  entry;
