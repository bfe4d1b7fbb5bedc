import { sql, type RawBuilder } from 'kysely'
import { insertEntrySql, type Action } from '../../activity/activity.ts'
import type { Actor } from '../../actor.ts'
import type { Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { lockOwners } from './access.ts'

/**
 * The one end to access, as CTEs for any statement that ends some: the member is deactivated and every session is over,
 * and with the sessions their exchange codes and the power to refresh, since each use checks the session's row.
 *
 * Needs a CTE `leaving (member_id uuid)` before it; a member who is deactivated already, and the last active owner, are
 * passed over. Gives `ended (member_id, status_before, role, …)` and `ended_sessions (member_id)`. Whoever may end an owner's
 * access must hold `lockOwners`, in an earlier statement of the transaction.
 */
export function endAccessCtes(sources: {
  workspaceId: RawBuilder<string>
  by: RawBuilder<string>
  reason: RawBuilder<string>
  /** What else of the member `m` the statement sets, as `, column = value`: it can update a row only once. */
  also?: RawBuilder<unknown>
}): RawBuilder<unknown> {
  const { workspaceId } = sources
  return sql`
    ending AS (
      SELECT m.id AS member_id, m.status
        FROM leaving l JOIN members m ON m.workspace_id = ${workspaceId} AND m.id = l.member_id
       WHERE m.status <> 'deactivated'
         AND (m.role <> 'owner' OR m.status <> 'active' OR EXISTS (
               SELECT FROM members o
                WHERE o.workspace_id = ${workspaceId} AND o.role = 'owner' AND o.status = 'active'
                  AND o.id NOT IN (SELECT member_id FROM leaving)))
    ),
    ${endCtes({ ...sources, from: sql`ending` })}`
}

/**
 * The same for those of whom the statement has seen that none is an owner and none deactivated: `leaving (member_id, status)`.
 */
export function endAccessOfNoOwnersCtes(sources: {
  workspaceId: RawBuilder<string>
  by: RawBuilder<string>
  reason: RawBuilder<string>
}): RawBuilder<unknown> {
  return endCtes({ ...sources, from: sql`leaving` })
}

function endCtes(sources: {
  workspaceId: RawBuilder<string>
  by: RawBuilder<string>
  reason: RawBuilder<string>
  also?: RawBuilder<unknown>
  from: RawBuilder<unknown>
}): RawBuilder<unknown> {
  const { workspaceId, by, reason, also = sql``, from } = sources
  return sql`
    ended AS (
      UPDATE members m
         SET status = 'deactivated', deactivated_by = ${by}, invitation_expires_at = NULL,
             version = m.version + 1, updated_at = now()${also}
        FROM ${from} e
       WHERE m.workspace_id = ${workspaceId} AND m.id = e.member_id AND m.status <> 'deactivated'
      RETURNING m.id AS member_id, e.status AS status_before, m.role, m.rules, m.manual_role, m.manual_policy
    ), ended_sessions AS (
      UPDATE sessions s SET ended_at = now(), end_reason = ${reason}
        FROM ended e
       WHERE s.workspace_id = ${workspaceId} AND s.member_id = e.member_id AND s.ended_at IS NULL
      RETURNING s.member_id
    )`
}

/** The history of what `endAccessCtes` ended, as a CTE body; needs a CTE `entry (id)`. */
export function endedAccessHistory(workspaceId: RawBuilder<string>): RawBuilder<unknown> {
  return statusHistory(workspaceId, sql`(SELECT e.*, 'deactivated' AS status FROM ended e)`)
}

/**
 * The history of members whose status has changed and nothing else, as a CTE body: `changed (member_id, status_before, status,
 * role, rules, manual_role, manual_policy)`. Needs a CTE `entry (id)`.
 */
export function statusHistory(workspaceId: RawBuilder<string>, changed: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
    INSERT INTO access_changes (workspace_id, member_id, entry_id, status_before, status_after, role_before, role_after, rules,
                                manual_role, manual_policy)
    SELECT ${workspaceId}, c.member_id, entry.id, c.status_before, c.status, c.role, c.role, c.rules, c.manual_role, c.manual_policy
      FROM ${changed} c, entry`
}

export interface EndAccess {
  workspaceId: string
  memberId: string
  by: 'admin' | 'directory'
  action: Action
  actor: Actor
}

/**
 * Ends one member's access, with its entry and history, before the caller's reply is sent.
 * @returns how many sessions ended
 * @throws {AppError} `last_owner` where nobody else could run the workspace; `not_found`; `conflict` if already ended
 */
export async function endAccess(trx: Trx, { workspaceId, memberId, by, action, actor }: EndAccess): Promise<number> {
  await lockOwners(trx, { workspaceId, memberIds: [memberId] })
  const workspace = sql<string>`${workspaceId}::uuid`
  const { rows } = await sql<{ sessionsEnded: number }>`
    WITH leaving AS (SELECT ${memberId}::uuid AS member_id),
    ${endAccessCtes({ workspaceId: workspace, by: sql`${by}`, reason: sql`${action}` })},
    entry AS (${insertEntrySql({
      workspaceId: workspace,
      action: sql`${action}`,
      actorType: sql`${actor.type}`,
      actorId: sql`${actor.id}`,
      requestId: sql`${actor.requestId ?? null}::text`,
      memberId: sql`ended.member_id`,
      targetType: sql`'member'`,
      targetId: sql`ended.member_id::text`,
      detail: sql`jsonb_build_object('sessionsEnded', (SELECT count(*) FROM ended_sessions))`,
      from: sql`ended`,
    })}),
    history AS (${endedAccessHistory(workspace)})
    SELECT (SELECT count(*) FROM ended_sessions)::int AS "sessionsEnded" FROM entry`.execute(trx)
  const [row] = rows
  if (row) return row.sessionsEnded
  const member = await trx
    .selectFrom('members')
    .select(['status'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .executeTakeFirst()
  if (!member) throw new AppError('not_found', 'There is no such member in this workspace.')
  if (member.status === 'deactivated') throw new AppError('conflict', 'This member is deactivated already.')
  throw new AppError(
    'last_owner',
    'This is the last active owner. Give another member the role owner first: a workspace must never be without one.',
  )
}
