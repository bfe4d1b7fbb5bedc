-- sso_config_find: Reads the SSO configuration with its sealed credentials, domains and policy.
--   $1 workspaceId
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
  c.workspace_id = $1::uuid;
