-- sign_in_attempt_take: Takes a started sign-in once and reads the configuration as it is now.
--   $1 browserHash
--   $2 workspaceId
--   $3 stateHash
WITH
  found AS MATERIALIZED (
    SELECT
      *,
      coalesce(browser_hash = $1::bytea, FALSE) AS same_browser
    FROM
      sign_in_attempts
    WHERE
      workspace_id = $2::uuid
      AND state_hash = $3
  ),
  taken AS (
    UPDATE sign_in_attempts
    SET
      taken_at = now()
    WHERE
      workspace_id = $2::uuid
      AND state_hash = $3
      AND browser_hash = $1::bytea
      -- "Not taken yet", said so that the index of open attempts is not taken for the way to one.
      AND coalesce(taken_at, 'infinity') = 'infinity'
      AND expires_at > now()
    RETURNING
      TRUE
  )
SELECT
  f.state_hash AS "stateHash",
  f.nonce,
  f.verifier_sealed AS "verifierSealed",
  f.issuer AS "attemptIssuer",
  f.config_version AS "configVersion",
  f.return_to AS "returnTo",
  f.handoff_challenge AS "handoffChallenge",
  f.restarts,
  f.created_at AS "startedAt",
  f.sign_in_test_id AS "signInTestId",
  CASE
    WHEN EXISTS (
      SELECT
      FROM
        taken
    ) THEN 'first'
    WHEN f.taken_at IS NULL
    AND f.expires_at <= now() THEN 'expired'
    WHEN NOT f.same_browser THEN 'other_browser'
    -- Without a time it was taken while this statement ran, by the same callback delivered twice at once.
    WHEN f.taken_at IS NULL
    OR f.taken_at > now() - interval '60 seconds' THEN 'repeated'
    ELSE 'used'
  END AS delivery,
  c.*
FROM
  found f
  LEFT JOIN (
    SELECT
      c.workspace_id AS "workspaceId",
      c.issuer,
      c.client_id AS "clientId",
      c.token_auth_method AS "tokenAuthMethod",
      c.auto_provision AS "autoProvision",
      c.allowed_domains AS "allowedDomains",
      c.trust_unverified_email AS "trustUnverifiedEmail",
      c.external_id_claim AS "externalIdClaim",
      c.relink_by_email_until AS "relinkByEmailUntil",
      c.groups_claim AS "groupsClaim",
      c.enabled,
      c.enforced_at AS "enforcedAt",
      c.max_linkable_role AS "maxLinkableRole",
      c.version,
      s.credentials,
      ARRAY(
        SELECT
          d.domain
        FROM
          domains d
        WHERE
          d.workspace_id = c.workspace_id
          AND d.verified_at IS NOT NULL
      ) AS "verifiedDomains",
      p.session_hours AS "sessionHours",
      p.session_idle_minutes AS "sessionIdleMinutes",
      p.max_age_seconds AS "maxAgeSeconds",
      coalesce(p.acr_values, '{}') AS "acrValues"
    FROM
      sso_configs c
      LEFT JOIN sign_in_policies p ON p.workspace_id = c.workspace_id
      CROSS JOIN LATERAL (
        SELECT
          coalesce(
            jsonb_agg(
              jsonb_build_object(
                'id',
                s.id,
                'sealed',
                encode(s.sealed, 'base64'),
                'isAccepted',
                s.accepted_at IS NOT NULL,
                'isRefused',
                s.refused_at IS NOT NULL
              )
              ORDER BY
                s.id DESC
            ),
            '[]'
          ) AS credentials
        FROM
          sso_client_credentials s
        WHERE
          s.workspace_id = c.workspace_id
          AND (s.public_jwk IS NOT NULL) = (c.token_auth_method IS NOT DISTINCT FROM 'private_key_jwt')
      ) s
    WHERE
      c.workspace_id = $2::uuid
  ) c ON TRUE;
