import { sql } from 'kysely'
import type { Db } from '../../src/db/database.ts'

/**
 * Checks rules between columns that hot statements must keep, because a CHECK or foreign key would slow down each statement
 * (docs/decisions/0004). Runs on the database of each test when the test ends.
 * @throws {Error} names the broken rules
 */
export async function assertInvariants(db: Db): Promise<void> {
  const { rows } = await sql<{ rule: string; broken: number }>`
    SELECT 'deactivated_by is set if and only if the member is deactivated' AS rule, count(*)::int AS broken
      FROM members WHERE (status = 'deactivated') <> (deactivated_by IS NOT NULL)
    UNION ALL
    SELECT 'invitation_expires_at is set if and only if the member is invited', count(*)::int
      FROM members WHERE (status = 'invited') <> (invitation_expires_at IS NOT NULL)
    UNION ALL
    SELECT 'a manual role has a policy', count(*)::int FROM members WHERE (manual_role IS NULL) <> (manual_policy IS NULL)
    UNION ALL
    SELECT 'email and email_key are set together', count(*)::int FROM members WHERE (email IS NULL) <> (email_key IS NULL)
    UNION ALL
    SELECT 'the workspace of a member exists', count(*)::int
      FROM members m WHERE NOT EXISTS (SELECT FROM workspaces w WHERE w.id = m.workspace_id)
    UNION ALL
    SELECT 'the member of a SCIM user exists', count(*)::int
      FROM scim_users u WHERE NOT EXISTS (SELECT FROM members m WHERE m.workspace_id = u.workspace_id AND m.id = u.member_id)
    UNION ALL
    SELECT 'an entry has a reason unless its outcome is succeeded', count(*)::int
      FROM activity_entries WHERE (outcome = 'succeeded') <> (reason IS NULL)`.execute(db)
  const broken = rows.filter(each => each.broken > 0)
  if (broken.length > 0) throw new Error(`Broken: ${broken.map(each => `${each.rule} (${each.broken})`).join('; ')}`)
}
