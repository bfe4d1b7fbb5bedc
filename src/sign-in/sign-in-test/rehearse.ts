import { sql } from 'kysely'
import { roleReason, type RoleReason } from '../../access/derivation/roles.ts'
import type { Db, Trx } from '../../db/database.ts'
import { deactivated } from '../linking/linking.ts'
import type { Linked, Linking } from '../linking/link-person.ts'
import { admit, readClaiming } from '../admission/sign-in.ts'
import type { ProvenSignIn } from '../../oidc/provider.ts'

/** What a sign-in would do. */
export interface Rehearsal extends Linked {
  memberId: string
  role: string
  why: RoleReason
  groupIds: string[]
}

/** Takes a transaction back whose result is all that was wanted. */
class Rehearsed extends Error {
  override readonly name = 'Rehearsed'
}

/**
 * Does all that a first sign-in does, reads what came of it, and takes it back: so that the answer is that of the sign-in
 * itself and of no copy of its rules.
 * @throws {AppError} the refusals of linking.ts, and those of the groups claim
 */
export async function rehearse(db: Db, linking: Linking, proven: ProvenSignIn): Promise<Rehearsal> {
  const claiming = readClaiming(proven, linking)
  let rehearsal: Rehearsal | undefined
  await db
    .transaction()
    .execute(async trx => {
      const linked = await admit(trx, { ...linking, claiming })
      rehearsal = { ...linked, ...(await readOutcome(trx, linking)) }
      throw new Rehearsed()
    })
    .catch((error: unknown) => {
      if (!(error instanceof Rehearsed)) throw error
    })
  if (!rehearsal) throw new Error('A rehearsal ends by being taken back.')
  return rehearsal
}

interface OutcomeRow {
  memberId: string
  status: string
  role: string
  manualRole: string | null
  manualPolicy: 'floor' | 'locked' | null
  rules: { id: string; role: string | null }[]
  defaultRole: string
  groupIds: string[]
}

async function readOutcome(
  trx: Trx,
  { person, signInConfig, config }: Linking,
): Promise<Omit<Rehearsal, keyof Linked>> {
  const { rows } = await sql<OutcomeRow>`
    SELECT m.id AS "memberId", m.status, m.role, m.manual_role AS "manualRole", m.manual_policy AS "manualPolicy",
           w.default_role AS "defaultRole",
           (SELECT coalesce(jsonb_agg(jsonb_build_object('id', g.id, 'role', g.role)), '[]') FROM group_mappings g
             WHERE g.workspace_id = m.workspace_id AND g.id = ANY (m.rules)) AS rules,
           ARRAY(SELECT b.group_id FROM group_memberships b
                  WHERE b.workspace_id = m.workspace_id AND b.member_id = m.id ORDER BY b.group_id) AS "groupIds"
      FROM identities i
      JOIN members m ON m.workspace_id = i.workspace_id AND m.id = i.member_id
      JOIN workspaces w ON w.id = m.workspace_id
     WHERE i.workspace_id = ${signInConfig.workspaceId} AND i.issuer = ${person.issuer} AND i.subject = ${person.subject}`.execute(
    trx,
  )
  const [row] = rows
  if (row?.status !== 'active') throw deactivated(row?.memberId)
  const { memberId, role, rules, defaultRole, manualRole, manualPolicy, groupIds } = row
  const manual = manualRole === null || manualPolicy === null ? null : { role: manualRole, policy: manualPolicy }
  return { memberId, role, groupIds, why: roleReason({ roles: config.roles, role, rules, manual, defaultRole }) }
}
