import type { Actor } from '../actor.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { parseEmail } from './email.ts'

/** The person who is calling, as a member of the workspace. */
export interface ActingMember {
  memberId: string
  role: string
}

/**
 * Which member a caller is: the one of their session or, with an access token of Assist, the one who holds the address that
 * Assist vouches for in it; an owner is nobody whom Assist does not call one, since who is in charge of an address need not be.
 * @returns undefined for back-ends, and for people who are no active member
 */
export async function findActingMember(
  db: Db,
  { workspaceId, actor }: { workspaceId: string; actor: Actor },
): Promise<ActingMember | undefined> {
  const emailKey = actor.email === undefined ? undefined : parseEmail(actor.email)?.key
  const found = db
    .selectFrom('members')
    .select(['id as memberId', 'role'])
    .where('workspace_id', '=', workspaceId)
    .where('status', '=', 'active')
  if (actor.type === 'member') return found.where('id', '=', actor.id).executeTakeFirst()
  if (actor.type !== 'user' || emailKey === undefined) return undefined
  const byAddress = found.where('email_key', '=', emailKey)
  return (actor.role === 'owner' ? byAddress : byAddress.where('role', '<>', 'owner')).executeTakeFirst()
}

/** @throws {AppError} `admin_not_member` */
export async function getActingMember(db: Db, caller: { workspaceId: string; actor: Actor }): Promise<ActingMember> {
  const member = await findActingMember(db, caller)
  if (member) return member
  throw new AppError(
    'admin_not_member',
    'This is for a person who is an active member: sign in by SSO, or with an account of Assist whose token carries the ' +
      'e-mail address of the member.',
  )
}
