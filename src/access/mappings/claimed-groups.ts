import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import { retryDeadlocks, type Db, type Trx } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { recomputeAccess } from '../derivation/access.ts'
import { countsSql } from '../derivation/derive.ts'
import { lockClaims } from './group-mappings.ts'
import { isAbove, notConfirmed } from '../derivation/roles.ts'

interface IdentityKey {
  workspaceId: string
  issuer: string
  subject: string
}

interface Holder {
  memberId: string
  role: string
  /** A directory says what groups they are in, and what they claim plays no part. */
  isProvided: boolean
  claimed: string[]
}

const findHolder = prepared<IdentityKey, Holder>(
  'claimed_groups_find',
  ({ workspaceId, issuer, subject }) => sql`
    SELECT m.id AS "memberId", m.role, m.claimed_groups AS claimed,
           EXISTS (SELECT FROM scim_users u JOIN directories d ON d.workspace_id = u.workspace_id AND d.id = u.directory_id
                    WHERE u.workspace_id = m.workspace_id AND u.member_id = m.id AND ${countsSql}) AS "isProvided"
      FROM identities i
      JOIN members m ON m.workspace_id = i.workspace_id AND m.id = i.member_id AND m.status = 'active'
     WHERE i.workspace_id = ${workspaceId}::uuid AND i.issuer = ${issuer}::text AND i.subject = ${subject}::text`,
)

export interface ClaimingSignIn extends IdentityKey {
  /** Reads the values of the claim, in order; throws where they cannot be told. Not asked of whom a directory provides. */
  values: () => string[]
  requestId: string
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
  /** The highest role that claims may give, being that of whoever set where they come from; null: every one. */
  maxLinkableRole: string | null
}

/**
 * Has the mappings of claimed groups follow what a known person claims, before their session begins. One look-up where nothing
 * has changed.
 * @throws {AppError} as `claimGroups`
 */
export async function followClaimedGroups(db: Db, signIn: ClaimingSignIn): Promise<void> {
  const [holder] = await findHolder(db, signIn)
  if (!holder || holder.isProvided || isSame(holder.claimed, signIn.values())) return
  await retryDeadlocks(() =>
    db.transaction().execute(async trx => {
      await lockClaims(trx, { workspaceId: signIn.workspaceId, mode: 'shared' })
      await claimGroups(trx, signIn)
    }),
  )
}

/**
 * The same in the transaction that has made or linked the member; it must hold `lockClaims`.
 * @throws {AppError} what `values` throws; `sso_not_confirmed` where the claims would give a role above their limit
 */
export async function claimGroups(trx: Trx, signIn: ClaimingSignIn): Promise<void> {
  const { workspaceId, requestId, roles, maxLinkableRole } = signIn
  const [holder] = await findHolder(trx, signIn)
  if (!holder || holder.isProvided) return
  const { memberId, claimed } = holder
  const values = signIn.values()
  if (isSame(claimed, values)) return
  await trx
    .updateTable('members')
    .set({ claimed_groups: values })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .execute()
  const actor: Actor = { type: 'member', id: memberId, requestId }
  const target = { type: 'member', id: memberId }
  const detail = {
    gained: values.filter(each => !claimed.includes(each)).slice(0, 100),
    lost: claimed.filter(each => !values.includes(each)).slice(0, 100),
  }
  const entryId = await recordActivity(trx, {
    workspaceId,
    action: 'member.groups_claimed',
    actor,
    memberId,
    target,
    detail,
  })
  await recomputeAccess(trx, { workspaceId, memberIds: [memberId], entryId, roles })
  const [after] = await findHolder(trx, signIn)
  if (after && after.role !== holder.role && isAbove(roles, after.role, maxLinkableRole)) {
    throw notConfirmed({ memberId, role: after.role, by: 'sso_config' })
  }
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((each, at) => each === other[at])
}
