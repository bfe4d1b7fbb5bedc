-- claimed_groups_find: Reads the groups that the last sign-in of a member claimed, and whether a directory provides the member.
--   $1 workspaceId
--   $2 issuer
--   $3 subject
SELECT
  m.id AS "memberId",
  m.role,
  m.claimed_groups AS claimed,
  EXISTS (
    SELECT
    FROM
      scim_users u
      JOIN directories d ON d.workspace_id = u.workspace_id
      AND d.id = u.directory_id
    WHERE
      u.workspace_id = m.workspace_id
      AND u.member_id = m.id
      AND (
        enabled
        OR when_off = 'keep'
      )
  ) AS "isProvided"
FROM
  identities i
  JOIN members m ON m.workspace_id = i.workspace_id
  AND m.id = i.member_id
  AND m.status = 'active'
WHERE
  i.workspace_id = $1::uuid
  AND i.issuer = $2::text
  AND i.subject = $3::text;
