import { sql } from 'kysely'
import type { Db } from '../../src/db/database.ts'

/**
 * What must hold of rows that hot statements write, where a CHECK or a foreign key would cost each of them more than it may
 * (docs/decisions/0004). Asked of each test's database when the test is over.
 * @throws {Error} that names the rules that some rows break
 */
export async function assertInvariants(db: Db): Promise<void> {
  const { rows } = await sql<{ rule: string; broken: number }>`
    SELECT 'a deactivated member has been deactivated by somebody, and no other' AS rule, count(*)::int AS broken
      FROM members WHERE (status = 'deactivated') <> (deactivated_by IS NOT NULL)
    UNION ALL
    SELECT 'an invitation ends, and nothing else does', count(*)::int
      FROM members WHERE (status = 'invited') <> (invitation_expires_at IS NOT NULL)
    UNION ALL
    SELECT 'a role given by hand has a policy', count(*)::int FROM members WHERE (manual_role IS NULL) <> (manual_policy IS NULL)
    UNION ALL
    SELECT 'an address has its key', count(*)::int FROM members WHERE (email IS NULL) <> (email_key IS NULL)
    UNION ALL
    SELECT 'a member is of a workspace', count(*)::int
      FROM members m WHERE NOT EXISTS (SELECT FROM workspaces w WHERE w.id = m.workspace_id)
    UNION ALL
    SELECT 'a user has a member', count(*)::int
      FROM scim_users u WHERE NOT EXISTS (SELECT FROM members m WHERE m.workspace_id = u.workspace_id AND m.id = u.member_id)
    UNION ALL
    SELECT 'an entry has a reason unless it tells of a success', count(*)::int
      FROM activity_entries WHERE (outcome = 'succeeded') <> (reason IS NULL)`.execute(db)
  const broken = rows.filter(each => each.broken > 0)
  if (broken.length > 0) throw new Error(`Broken: ${broken.map(each => `${each.rule} (${each.broken})`).join('; ')}`)
}
