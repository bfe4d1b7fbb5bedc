-- workspace_gate: Reads whether a workspace exists and enforces SSO.
--   $1 workspaceId
SELECT
  EXISTS (
    SELECT
    FROM
      sso_configs
    WHERE
      workspace_id = $1::uuid
      AND enforced_at IS NOT NULL
  ) AS "isEnforced"
FROM
  workspaces
WHERE
  id = $1::uuid;
