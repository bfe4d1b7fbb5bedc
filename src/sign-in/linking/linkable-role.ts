import { sql } from 'kysely'
import { isAbove, notConfirmed } from '../../access/derivation/roles.ts'
import type { Trx } from '../../db/database.ts'
import type { Linked, Linking } from './link-person.ts'
import { limitsSql } from './linking-facts.ts'

interface ReachRow {
  memberId: string
  role: string
  /** Of the directories that provide the member: where they come from decides whom an address or a claim finds. */
  limits: string[]
}

/**
 * Refuses that somebody is newly linked to a role above that of whoever set what the link rests on: who could set it could
 * have named themselves. Whoever was linked before goes in as ever. Last in the transaction, when the role is known.
 * @throws {AppError} `sso_not_confirmed`
 */
export async function checkReach(
  trx: Trx,
  { person, signInConfig, config: { roles } }: Linking,
  { trust }: Linked,
): Promise<void> {
  if (trust === 'identity') return
  const { rows } = await sql<ReachRow>`
    SELECT m.id AS "memberId", m.role, ${limitsSql({ workspaceId: sql`m.workspace_id`, memberId: sql`m.id` })} AS limits
      FROM identities i
      JOIN members m ON m.workspace_id = i.workspace_id AND m.id = i.member_id
     WHERE i.workspace_id = ${signInConfig.workspaceId} AND i.issuer = ${person.issuer} AND i.subject = ${person.subject}`.execute(
    trx,
  )
  const [row] = rows
  if (!row) return
  const { memberId, role } = row
  const by = findLimit(row, { roles, maxLinkableRole: signInConfig.maxLinkableRole })
  if (by) throw notConfirmed({ memberId, role, by })
}

/** What sets a limit below a member's role, if anything does. */
export function findLimit(
  { role, limits }: Pick<ReachRow, 'role' | 'limits'>,
  { roles, maxLinkableRole }: { roles: readonly string[]; maxLinkableRole: string | null },
): 'sso_config' | 'directory' | undefined {
  if (isAbove(roles, role, maxLinkableRole)) return 'sso_config'
  return limits.some(limit => isAbove(roles, role, limit)) ? 'directory' : undefined
}
