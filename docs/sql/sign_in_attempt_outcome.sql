-- sign_in_attempt_outcome: Reads how the first delivery of a callback ended.
--   $1 workspaceId
--   $2 stateHash
SELECT
  outcome,
  outcome_code AS code,
  (
    SELECT
      request_id
    FROM
      activity_entries e
    WHERE
      e.workspace_id = a.workspace_id
      AND e.id = a.outcome_entry_id
  ) AS ref
FROM
  sign_in_attempts a
WHERE
  workspace_id = $1::uuid
  AND state_hash = $2;
