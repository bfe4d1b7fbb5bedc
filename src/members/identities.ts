import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Trx } from '../db/database.ts'
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
