import { sql } from 'kysely'
import { lockOwners } from '../access/derivation/access.ts'
import { endAccessCtes, endedAccessHistory } from '../access/derivation/end-access.ts'
import { checkOutranked } from '../access/derivation/roles.ts'
import type { Actor } from '../actor.ts'
import { recordActivity, recordRefusal } from '../activity/activity.ts'
import type { Db, Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { toPage, type Page } from '../page.ts'
import { getDirectory, type DirectoryKey, type DirectoryPage } from './directories.ts'

/**
 * The guard against mass deprovisioning: a provider that is set up wrongly, or a script that is, can ask for everybody to go.
 * Over the directory's limit a removal is refused with a time to come back, so that the provider asks again and nothing
 * is lost, and held for an admin, who accepts or releases it, so that nobody is silently kept.
 */

/** A removal that an admin has to decide on. */
export interface HeldRemoval {
  userId: string
  userName: string | null
  memberId: string
  operation: 'deactivate' | 'delete'
  attempts: number
  firstAt: string
  lastAt: string
}

/** The removals that are held now, by the user's id. @throws {AppError} `not_found` */
export async function listHeldRemovals(db: Db, page: DirectoryPage & DirectoryKey): Promise<Page<HeldRemoval>> {
  const { workspaceId, directoryId, limit, after } = page
  await getDirectory(db, page)
  let query = db
    .selectFrom('guarded_removals as r')
    .leftJoin('scim_users as u', join =>
      join
        .onRef('u.workspace_id', '=', 'r.workspace_id')
        .onRef('u.directory_id', '=', 'r.directory_id')
        .onRef('u.id', '=', 'r.user_id'),
    )
    .select(['r.user_id as userId', 'u.user_name as userName', 'r.member_id as memberId', 'r.operation', 'r.attempts'])
    .select(['r.first_at as firstAt', 'r.last_at as lastAt'])
    .where('r.workspace_id', '=', workspaceId)
    .where('r.directory_id', '=', directoryId)
    .where('r.state', '=', 'held')
    .orderBy('r.user_id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('r.user_id', '>', after)
  return toPage(await query.execute(), limit, last => last.userId)
}

export interface GuardedRemoval extends DirectoryKey {
  userId: string
  memberId: string
  operation: 'deactivate' | 'delete'
  requestId: string
}

/**
 * Counts a removal within the directory's window, in the transaction that does it. Removals of one directory go one after
 * the other while its guard is on: a count that two read at once lets both through.
 * @returns seconds after which the provider may ask again, where it is held; the transaction must be committed all the same
 */
export async function passGuard(trx: Trx, removal: GuardedRemoval): Promise<number | undefined> {
  const { workspaceId, directoryId, userId, memberId, operation, requestId } = removal
  const key = { workspace_id: workspaceId, directory_id: directoryId, user_id: userId }
  await sql`SELECT FROM directories WHERE workspace_id = ${workspaceId} AND id = ${directoryId} FOR NO KEY UPDATE`.execute(
    trx,
  )
  const { rows } = await sql<{ before: string | null; allowed: boolean; retryAfter: number }>`
    WITH window_of AS (
      SELECT guard_people, guard_percent, guard_minutes * interval '1 minute' AS length
        FROM directories WHERE workspace_id = ${workspaceId} AND id = ${directoryId}
    ), passed AS (
      SELECT count(*) AS count, min(r.last_at) AS oldest
        FROM window_of w
        JOIN guarded_removals r ON r.workspace_id = ${workspaceId} AND r.directory_id = ${directoryId}
         AND r.state = 'passed' AND r.last_at > now() - w.length AND r.user_id <> ${userId}
    ), users AS (
      SELECT coalesce(sum(total), 0) AS count FROM scim_counters
       WHERE workspace_id = ${workspaceId} AND directory_id = ${directoryId} AND resource_type = 'User'
    )
    SELECT (SELECT state FROM guarded_removals
             WHERE workspace_id = ${workspaceId} AND directory_id = ${directoryId} AND user_id = ${userId}) AS before,
           -- A percentage of few users is one person at least, or nobody could ever leave.
           p.count < least(w.guard_people, CASE WHEN w.guard_percent IS NOT NULL THEN greatest(1, floor(u.count * w.guard_percent / 100.0)) END) AS allowed,
           least(3600, greatest(60, ceil(extract(epoch FROM coalesce(p.oldest, now()) + w.length - now()))))::int AS "retryAfter"
      FROM window_of w, passed p, users u`.execute(trx)
  const [guard] = rows
  if (!guard) return undefined
  const passes = guard.allowed
  const isAgain = guard.before === 'held' && !passes
  await trx
    .insertInto('guarded_removals')
    .values({ ...key, member_id: memberId, operation, state: passes ? 'passed' : 'held' })
    .onConflict(conflict =>
      conflict.columns(['workspace_id', 'directory_id', 'user_id']).doUpdateSet({
        member_id: memberId,
        operation,
        state: passes ? 'passed' : 'held',
        attempts: isAgain ? sql`guarded_removals.attempts + 1` : 1,
        first_at: isAgain ? sql`guarded_removals.first_at` : sql`now()`,
        last_at: sql`now()`,
      }),
    )
    .execute()
  if (passes) return undefined
  if (!isAgain) {
    await recordRefusal(trx, {
      workspaceId,
      action: 'scim_user.removal_held',
      reason: 'scim_removal_held',
      actor: { type: 'directory', id: directoryId, requestId },
      memberId,
      target: { type: 'scim_user', id: userId },
      detail: { operation, directoryId },
    })
  }
  return guard.retryAfter
}

export function removalHeld(retryAfter: number): AppError {
  return new AppError(
    'scim_removal_held',
    'More people would lose access than this directory allows at once. An admin of the workspace sees this removal and decides; ask again later.',
    { retryAfter },
  )
}

export interface HeldDecision extends DirectoryKey {
  /** Absent: all that are held. */
  userIds: string[] | undefined
  /** `accepted`: they leave now. `released`: they stay, and the guard counts anew should the directory ask again. */
  state: 'accepted' | 'released'
  actor: Actor
  roles: readonly string[]
}

/**
 * Decides on held removals. Those accepted lose access here and now, whether the provider asks again or not; when it does,
 * it finds them gone.
 * @throws {AppError} `not_found` for a directory, or where none of these is held; `role_above_own`; `last_owner`
 */
export async function decideHeldRemovals(trx: Trx, decision: HeldDecision): Promise<{ people: number }> {
  const { workspaceId, directoryId, userIds, state, actor, roles } = decision
  await getDirectory(trx, decision)
  const these = userIds === undefined ? sql`true` : sql`r.user_id = ANY (${userIds}::uuid[])`
  const { rows: decided } = await sql<{ memberId: string; role: string }>`
    WITH decided AS (
      UPDATE guarded_removals r SET state = ${state}
       WHERE r.workspace_id = ${workspaceId} AND r.directory_id = ${directoryId} AND r.state = 'held' AND ${these}
      RETURNING r.member_id
    )
    SELECT m.id AS "memberId", m.role FROM decided d JOIN members m ON m.workspace_id = ${workspaceId} AND m.id = d.member_id`.execute(
    trx,
  )
  if (decided.length === 0) throw new AppError('not_found', 'None of these removals is held.')
  for (const role of new Set(decided.map(each => each.role))) checkOutranked(roles, role, actor)
  const action = state === 'accepted' ? 'scim_user.removal_accepted' : 'scim_user.removal_released'
  const target = { type: 'directory', id: directoryId }
  const detail = { people: decided.length }
  const entryId = await recordActivity(trx, { workspaceId, action, actor, target, detail })
  if (state === 'accepted') await endAll(trx, { workspaceId, entryId, memberIds: decided.map(each => each.memberId) })
  return { people: decided.length }
}

async function endAll(
  trx: Trx,
  { workspaceId, entryId, memberIds }: { workspaceId: string; entryId: number; memberIds: string[] },
): Promise<void> {
  await lockOwners(trx, { workspaceId, memberIds })
  const workspace = sql<string>`${workspaceId}::uuid`
  const { rows } = await sql<{ kept: number }>`
    WITH leaving AS (SELECT unnest(${memberIds}::uuid[]) AS member_id),
    ${endAccessCtes({ workspaceId: workspace, by: sql`'directory'`, reason: sql`'scim_user.removal_accepted'` })},
    entry AS (SELECT ${entryId}::bigint AS id),
    history AS (${endedAccessHistory(workspace)})
    SELECT count(*)::int AS kept
      FROM leaving l JOIN members m ON m.workspace_id = ${workspaceId} AND m.id = l.member_id AND m.status <> 'deactivated'
     WHERE l.member_id NOT IN (SELECT member_id FROM ended)`.execute(trx)
  if ((rows[0]?.kept ?? 0) === 0) return
  throw new AppError(
    'last_owner',
    'Among them is the last active owner. Give another member the role owner first, or release that one.',
  )
}
