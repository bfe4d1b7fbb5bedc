import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { unlinkIdentities } from '../members/identities.ts'
import { getMember, lockMember, type ManualPolicy, type Member, type MemberKey } from '../members/members.ts'
import { recomputeAccess, recordAccessChange } from './access.ts'
import { endAccess } from './end-access.ts'
import { lastOwner } from './group-mappings.ts'
import { checkGrantable, checkOutranked } from './roles.ts'

export interface MemberChange extends MemberKey {
  actor: Actor
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/**
 * Ends a member's access by an admin's word, which no directory overrules.
 * @throws {AppError} `not_found`, `role_above_own`, `last_owner`, `conflict` where it has ended already
 */
export async function deactivateMember(trx: Trx, { roles, ...key }: MemberChange): Promise<Member> {
  const { role } = await lockMember(trx, key)
  checkOutranked(roles, role, key.actor)
  await endAccess(trx, { ...key, by: 'admin', action: 'member.deactivated' })
  return getMember(trx, key)
}

/**
 * Lets a member in again, with the role and groups that they have by now. Sessions stay over.
 * @throws {AppError} `not_found`, `role_above_own`, `conflict` unless deactivated; `directory_owned` where a directory says
 *   that they are inactive
 */
export async function reactivateMember(trx: Trx, { roles, actor, ...key }: MemberChange): Promise<Member> {
  const { workspaceId, memberId } = key
  const { status, role } = await lockMember(trx, key)
  checkOutranked(roles, role, actor)
  if (status !== 'deactivated') throw new AppError('conflict', 'This member is not deactivated.')
  const directory = await trx
    .selectFrom('scim_users as u')
    .innerJoin('directories as d', join =>
      join.onRef('d.workspace_id', '=', 'u.workspace_id').onRef('d.id', '=', 'u.directory_id'),
    )
    .select('d.name')
    .where('u.workspace_id', '=', workspaceId)
    .where('u.member_id', '=', memberId)
    .where('u.active', '=', false)
    .executeTakeFirst()
  if (directory) {
    throw new AppError(
      'directory_owned',
      `The directory ${directory.name} says that this person is inactive. Activate them at the identity provider.`,
    )
  }
  await trx
    .updateTable('members')
    .set({ status: 'active', deactivated_by: null, version: sql`version + 1`, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .execute()
  const target = { type: 'member', id: memberId }
  const entryId = await recordActivity(trx, { workspaceId, action: 'member.reactivated', actor, memberId, target })
  await recordAccessChange(trx, { workspaceId, memberId, entryId, statusBefore: 'deactivated' })
  return getMember(trx, key)
}

export interface ManualRoleChange extends MemberChange {
  /** Absent: nothing is given by hand any more. */
  manual?: { role: string; policy: ManualPolicy } | undefined
  /** The version that must still be the stored one. */
  expectedVersion?: number | undefined
}

/**
 * Gives or takes a role by hand, and derives the member's access anew.
 * @throws {AppError} `not_found`, `version_conflict`, `role_unknown`, `role_above_own`, `last_owner`
 */
export async function changeManualRole(trx: Trx, change: ManualRoleChange): Promise<Member> {
  const { workspaceId, memberId, manual, expectedVersion, actor, roles } = change
  const member = await lockMember(trx, change)
  if (expectedVersion !== undefined && expectedVersion !== member.version) {
    throw new AppError(
      'version_conflict',
      'The member has changed since you read them. Read them again, and send their ETag with your change.',
    )
  }
  checkOutranked(roles, member.role, actor)
  if (manual) checkGrantable(roles, manual.role, actor)
  const before = { role: member.manualRole, policy: member.manualPolicy }
  const after = { role: manual?.role ?? null, policy: manual?.policy ?? null }
  if (before.role === after.role && before.policy === after.policy) return getMember(trx, change)
  await trx
    .updateTable('members')
    .set({ manual_role: after.role, manual_policy: after.policy, version: member.version + 1, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .execute()
  const target = { type: 'member', id: memberId }
  const detail = { manualRole: { before, after } }
  const entryId = await recordActivity(trx, { workspaceId, action: 'member.updated', actor, memberId, target, detail })
  const { keptOwners, changed } = await recomputeAccess(trx, { workspaceId, memberIds: [memberId], entryId, roles })
  if (keptOwners > 0) throw lastOwner()
  if (changed === 0) await recordAccessChange(trx, { workspaceId, memberId, entryId })
  return getMember(trx, change)
}

/** Resets how a member is known to issuers. @throws {AppError} `not_found`, `role_above_own` */
export async function resetIdentities(trx: Trx, { roles, ...key }: MemberChange): Promise<void> {
  const { role } = await lockMember(trx, key)
  checkOutranked(roles, role, key.actor)
  await unlinkIdentities(trx, key)
}
