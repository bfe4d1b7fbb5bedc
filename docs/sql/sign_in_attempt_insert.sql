-- sign_in_attempt_insert: Stores a started sign-in, within the limit of open attempts per network.
--   $1 workspaceId
--   $2 stateHash
--   $3 browserHash
--   $4 nonce
--   $5 verifierSealed
--   $6 issuer
--   $7 configVersion
--   $8 returnTo
--   $9 handoffChallenge
--   $10 restarts
--   $11 signInTestId
--   $12 network
--   $13 minutes
--   $14 limit
INSERT INTO
  sign_in_attempts (
    workspace_id,
    state_hash,
    browser_hash,
    nonce,
    verifier_sealed,
    issuer,
    config_version,
    return_to,
    handoff_challenge,
    restarts,
    sign_in_test_id,
    address,
    expires_at
  )
SELECT
  $1::uuid,
  $2,
  $3,
  $4,
  $5,
  $6,
  $7::int,
  $8,
  $9,
  $10::smallint,
  $11::uuid,
  $12::inet,
  now() + $13::int * interval '1 minute'
WHERE
  (
    SELECT
      count(*)
    FROM
      (
        SELECT
        FROM
          sign_in_attempts
        WHERE
          address = $12::inet
          AND workspace_id = $1::uuid
          AND taken_at IS NULL
          AND expires_at > now()
        LIMIT
          $14::int
      ) open_attempts
  ) < $14::int
RETURNING
  TRUE AS inserted;
