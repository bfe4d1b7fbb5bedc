import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import type { Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { unlinkIdentities } from '../../members/identities.ts'
import { getMember, lockMember, type ManualPolicy, type Member, type MemberKey } from '../../members/members.ts'
import { recomputeAccess, recordAccessChange } from '../derivation/access.ts'
import { endAccess } from '../derivation/end-access.ts'
import { lastOwner } from '../mappings/group-mappings.ts'
import { checkGrantable, checkOutranked } from '../derivation/roles.ts'

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
  const directory = await findDirectory(trx, key)
  if (directory?.active === false) {
    throw new AppError(
      'directory_owned',
      `The directory ${directory.name} says that this person is inactive. Activate them at the identity provider.`,
    )
  }
  await trx
    .updateTable('members')
    .set({
      status: 'active',
      deactivated_by: null,
      reactivated_at: sql`clock_timestamp()`,
      version: sql`version + 1`,
      updated_at: sql`now()`,
    })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .execute()
  const target = { type: 'member', id: memberId }
  const entryId = await recordActivity(trx, { workspaceId, action: 'member.reactivated', actor, memberId, target })
  await recordAccessChange(trx, { workspaceId, memberId, entryId, statusBefore: 'deactivated' })
  return getMember(trx, key)
}

/** The directory that provides a member, and whether it says that they are active. */
async function findDirectory(
  trx: Trx,
  { workspaceId, memberId }: MemberKey,
): Promise<{ name: string; active: boolean } | undefined> {
  return trx
    .selectFrom('scim_users as u')
    .innerJoin('directories as d', join =>
      join.onRef('d.workspace_id', '=', 'u.workspace_id').onRef('d.id', '=', 'u.directory_id'),
    )
    .select(['d.name', 'u.active'])
    .where('u.workspace_id', '=', workspaceId)
    .where('u.member_id', '=', memberId)
    .executeTakeFirst()
}

/**
 * Changes what a member is called here.
 * @throws {AppError} `not_found`, `role_above_own`, `version_conflict`; `directory_owned` where a directory provides the name
 */
export async function renameMember(
  trx: Trx,
  change: MemberChange & { displayName: string; expectedVersion?: number | undefined },
): Promise<Member> {
  const { workspaceId, memberId, displayName, expectedVersion, actor, roles } = change
  const { role, version } = await lockMember(trx, change)
  if (expectedVersion !== undefined && expectedVersion !== version) throw versionConflict()
  checkOutranked(roles, role, actor)
  const directory = await findDirectory(trx, change)
  if (directory) {
    throw new AppError(
      'directory_owned',
      `The directory ${directory.name} provides this name, and would set it again. Change it at the identity provider.`,
    )
  }
  const renamed = await trx
    .updateTable('members')
    .set({ display_name: displayName, version: version + 1, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .where(sql<boolean>`display_name IS DISTINCT FROM ${displayName}`)
    .executeTakeFirst()
  if (renamed.numUpdatedRows > 0n) {
    const target = { type: 'member', id: memberId }
    await recordActivity(trx, {
      workspaceId,
      action: 'member.updated',
      actor,
      memberId,
      target,
      detail: { changed: ['displayName'] },
    })
  }
  return getMember(trx, change)
}

function versionConflict(): AppError {
  return new AppError(
    'version_conflict',
    'The member has changed since you read them. Read them again, and send their ETag with your change.',
  )
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
  if (expectedVersion !== undefined && expectedVersion !== member.version) throw versionConflict()
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
