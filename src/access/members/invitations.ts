import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import type { Db, Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import type { Email } from '../../members/email.ts'
import { getMember, lockMember, type Member, type MemberKey } from '../../members/members.ts'
import { uuid7 } from '../../uuid7.ts'
import { recomputeAccess, recordAccessChange } from '../derivation/access.ts'
import { checkGrantable, checkOutranked } from '../derivation/roles.ts'

export interface Invitation {
  workspaceId: string
  email: Email
  displayName?: string | undefined
  /** A floor under whatever else gives them a role. */
  role?: string | undefined
  /** Days until the invitation ends. */
  days: number
  actor: Actor
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/**
 * Invites an address: whoever proves it by signing in, or is sent with it by a directory, becomes this member.
 * @throws {AppError} `role_unknown`, `role_above_own`; `conflict` where the address is a member's or invited already
 */
export async function inviteMember(trx: Trx, invitation: Invitation): Promise<Member> {
  const { workspaceId, email, displayName, role, days, actor, roles } = invitation
  if (role !== undefined) checkGrantable(roles, role, actor)
  const memberId = uuid7()
  const invited = await trx
    .insertInto('members')
    .values({
      workspace_id: workspaceId,
      id: memberId,
      email: email.text,
      email_key: email.key,
      display_name: displayName ?? null,
      status: 'invited',
      // Locked, so that a change of the default waits for us, or we for it and read what it set.
      role: sql`(SELECT default_role FROM workspaces WHERE id = ${workspaceId} FOR SHARE)`,
      manual_role: role ?? null,
      manual_policy: role === undefined ? null : 'floor',
      origin: 'invite',
      invitation_expires_at: sql`now() + ${days}::int * interval '1 day'`,
    })
    .onConflict(conflict => conflict.doNothing())
    .returning('id')
    .executeTakeFirst()
  if (!invited) throw await refuseKnownAddress(trx, workspaceId, email)
  const entryId = await recordActivity(trx, {
    workspaceId,
    action: 'member.invited',
    actor,
    memberId,
    target: { type: 'member', id: memberId },
    detail: { role },
  })
  await recordAccessChange(trx, { workspaceId, memberId, entryId, statusBefore: null, roleBefore: null })
  await recomputeAccess(trx, { workspaceId, memberIds: [memberId], entryId, roles })
  return getMember(trx, { workspaceId, memberId })
}

const remedies = {
  invited: 'is invited already. Withdraw that invitation first, if it has expired or should be another',
  active: 'is a member already. Change their role instead',
  deactivated: 'is a deactivated member. Reactivate them instead',
}

async function refuseKnownAddress(db: Db, workspaceId: string, email: Email): Promise<AppError> {
  const known = await db
    .selectFrom('members')
    .select(['id', 'status'])
    .where('workspace_id', '=', workspaceId)
    .where('email_key', '=', email.key)
    .executeTakeFirstOrThrow()
  return new AppError('conflict', `This address ${remedies[known.status]}: member ${known.id}.`)
}

/**
 * Takes an invitation back: the member that it made is gone.
 * @throws {AppError} `not_found`, `role_above_own`; `conflict` for a member who has come in
 */
export async function withdrawInvitation(
  trx: Trx,
  { workspaceId, memberId, actor, roles }: MemberKey & Pick<Invitation, 'actor' | 'roles'>,
): Promise<void> {
  const { status, role } = await lockMember(trx, { workspaceId, memberId })
  checkOutranked(roles, role, actor)
  if (status !== 'invited') {
    throw new AppError(
      'conflict',
      'Only invitations are deleted. Deactivate a member, so that their work stays theirs.',
    )
  }
  await trx.deleteFrom('members').where('workspace_id', '=', workspaceId).where('id', '=', memberId).execute()
  const entryId = await recordActivity(trx, {
    workspaceId,
    action: 'member.invitation_withdrawn',
    actor,
    memberId,
    target: { type: 'member', id: memberId },
  })
  await trx
    .insertInto('access_changes')
    .values({
      workspace_id: workspaceId,
      member_id: memberId,
      entry_id: entryId,
      status_before: 'invited',
      status_after: 'withdrawn',
      role_before: role,
      role_after: role,
    })
    .execute()
}
