import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { MemberKey } from './members.ts'

/**
 * Forgets by which subjects a member is known to issuers, so that their next sign-in links anew: for a recycled mailbox or
 * a new app registration. Their sessions rest on what is forgotten, and end. Without links nothing changes.
 */
export async function unlinkIdentities(
  trx: Trx,
  { workspaceId, memberId, actor }: MemberKey & { actor: Actor },
): Promise<void> {
  const { rows } = await sql<{ issuer: string; sessionsEnded: number }>`
    WITH unlinked AS (
      DELETE FROM identities WHERE workspace_id = ${workspaceId} AND member_id = ${memberId} RETURNING issuer
    ), ended AS (
      UPDATE sessions SET ended_at = now(), end_reason = 'identity.unlinked'
       WHERE workspace_id = ${workspaceId} AND member_id = ${memberId} AND ended_at IS NULL
         AND EXISTS (SELECT FROM unlinked)
      RETURNING id
    )
    SELECT issuer, (SELECT count(*) FROM ended)::int AS "sessionsEnded" FROM unlinked ORDER BY issuer`.execute(trx)
  const [first] = rows
  if (!first) return
  await recordActivity(trx, {
    workspaceId,
    action: 'identity.unlinked',
    actor,
    memberId,
    target: { type: 'member', id: memberId },
    detail: { issuers: rows.map(row => row.issuer), sessionsEnded: first.sessionsEnded },
  })
}

export interface LinkedAccount extends MemberKey {
  issuer: string
  subject: string
  /** The sign-in test that has proved the account. */
  testId: string
  actor: Actor
}

/**
 * Links an account to a member by their own word. Linking it again changes nothing.
 * @throws {AppError} `sso_identity_conflict` where it is somebody else's, or the member has another one at this issuer
 */
export async function linkIdentity(trx: Trx, account: LinkedAccount): Promise<void> {
  const { workspaceId, memberId, issuer, subject, actor, testId } = account
  const linked = await trx
    .insertInto('identities')
    .values({ workspace_id: workspaceId, issuer, subject, member_id: memberId, linked_by: 'member' })
    .onConflict(conflict => conflict.doNothing())
    .returning('subject')
    .executeTakeFirst()
  if (linked) {
    await recordActivity(trx, {
      workspaceId,
      action: 'identity.linked',
      actor,
      memberId,
      target: { type: 'member', id: memberId },
      detail: { issuer, subject, linkedBy: 'member', trust: 'sign_in_test', testId },
    })
    return
  }
  const known = await trx
    .selectFrom('identities')
    .select('member_id as memberId')
    .where('workspace_id', '=', workspaceId)
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .executeTakeFirst()
  if (known?.memberId === memberId) return
  throw new AppError(
    'sso_identity_conflict',
    known
      ? 'This account is linked to another member. Reset their identities first, if it is yours.'
      : 'You are linked to another account of this issuer. Reset your identities first, if that one is over.',
  )
}
