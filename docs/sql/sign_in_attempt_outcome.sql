-- sign_in_attempt_outcome: Reads how the first delivery of a callback ended.
--   $1 workspaceId
--   $2 stateHash
SELECT
  outcome,
  outcome_code AS code,
  outcome_entry_id AS "entryId"
FROM
  sign_in_attempts
WHERE
  workspace_id = $1::uuid
  AND state_hash = $2;
