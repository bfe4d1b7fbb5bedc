import { sql, type RawBuilder } from 'kysely'
import { lockOwners, recomputeAccess } from '../../access/derivation/access.ts'
import { endAccessCtes, endedAccessHistory } from '../../access/derivation/end-access.ts'
import { retryDeadlocks, type Trx } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { passGuard, removalHeld } from '../../directories/guarded-removals.ts'
import { allowed, callerKey, firstRow, type CallerKey } from '../storage/credential.ts'
import { countSql } from '../storage/counters.ts'
import { userEntrySql } from './user-member.ts'
import { isUser, noUser } from './users.ts'
import { leniencyText, type Context } from '../storage/write.ts'
import { versionConflict } from '../protocol/conditions.ts'
import type { IfMatch } from '../protocol/conditions.ts'

type UserToDelete = CallerKey & { id: string }

interface LockedUser {
  id: string | null
  version: number
  memberId: string
  /** Deleting it ends access, in a directory whose guard is on. */
  isGuarded: boolean
}

/**
 * Locks the user before it is deleted: memberships are added under a lock of the user's row, so the statement after this
 * one sees all there will ever be.
 */
const lockUser = prepared<UserToDelete, LockedUser>(
  'scim_user_lock',
  key => sql`
    WITH ${allowed(key)}, locked AS (
      SELECT u.id, u.version, u.member_id, a.is_guarded
        FROM allowed a
        JOIN scim_users u ON ${isUser(sql`u`, key)}
         FOR UPDATE OF u
    )
    SELECT l.id, l.version, l.member_id AS "memberId",
           l.is_guarded AND (SELECT status FROM members WHERE workspace_id = a.workspace_id AND id = l.member_id) = 'active' AS "isGuarded"
      FROM allowed a LEFT JOIN locked l ON true`,
)

const deleteLockedUser = prepared<
  UserToDelete & { requestId: string; leniencies: string | null },
  { entryId: number; isMapped: boolean }
>('scim_user_delete', ({ workspaceId, directoryId, id, requestId, leniencies }) => {
  const here = (table: RawBuilder<unknown>) =>
    sql`${table}.workspace_id = ${workspaceId}::uuid AND ${table}.directory_id = ${directoryId}::uuid`
  return sql`
      WITH written AS (
        DELETE FROM scim_users u WHERE ${here(sql`u`)} AND u.id = ${id}::uuid
        RETURNING workspace_id, directory_id, id, member_id, external_id
      ), memberships AS (
        DELETE FROM scim_group_memberships m WHERE ${here(sql`m`)} AND m.user_id = ${id}::uuid RETURNING group_id
      ), touched AS (
        UPDATE scim_groups g SET version = g.version + 1, updated_at = now()
          FROM memberships m WHERE ${here(sql`g`)} AND g.id = m.group_id
      ), counted AS (${countSql('User', 'deleted', sql`written`)}),
      remembered AS (
        INSERT INTO scim_former_users (workspace_id, directory_id, external_id, member_id)
        SELECT workspace_id, directory_id, external_id, member_id FROM written WHERE external_id IS NOT NULL
        ON CONFLICT (workspace_id, directory_id, external_id) DO UPDATE SET member_id = excluded.member_id, deleted_at = now()
      ), leaving AS (
        SELECT w.member_id FROM written w JOIN members m ON m.workspace_id = w.workspace_id AND m.id = w.member_id AND m.status <> 'deactivated'
      ),
      ${endAccessCtes({ workspaceId: sql`${workspaceId}::uuid`, by: sql`'directory'`, reason: sql`'scim_user.deleted'` })},
      entry AS (${userEntrySql(
        { requestId },
        {
          action: sql`'scim_user.deleted'`,
          detail: sql`jsonb_build_object(
          'groupsLeft', (SELECT count(*) FROM memberships),
          'sessionsEnded', CASE WHEN EXISTS (SELECT FROM ended) THEN (SELECT count(*) FROM ended_sessions) END,
          'keptLastOwner', CASE WHEN EXISTS (SELECT FROM leaving) AND NOT EXISTS (SELECT FROM ended) THEN true END,
          'leniencies', ${leniencies}::jsonb)`,
          from: sql`written w`,
        },
      )}),
      history AS (${endedAccessHistory(sql`${workspaceId}::uuid`)})
      SELECT entry.id AS "entryId",
             EXISTS (SELECT FROM memberships) AND EXISTS (SELECT FROM group_mappings g WHERE ${here(sql`g`)})
               -- Without a directory, what they claimed when they signed in counts again.
               OR EXISTS (SELECT FROM members m JOIN written w ON w.member_id = m.id
                           WHERE m.workspace_id = ${workspaceId}::uuid AND m.claimed_groups <> '{}') AS "isMapped"
        FROM entry`
})

/**
 * Deletes a user: its names are free at once, its memberships gone, its member's access ended. The member stays, so that
 * whoever comes back finds their work.
 * @throws {AppError} `not_found`, `version_conflict`, `scim_removal_held`
 */
export async function deleteUser(context: Context, { id, ifMatch }: { id: string; ifMatch: IfMatch }): Promise<void> {
  const retryAfter = await retryDeadlocks(() =>
    context.db.transaction().execute(trx => deleteUserIn(trx, context, { id, ifMatch })),
  )
  if (retryAfter !== undefined) throw removalHeld(retryAfter)
}

async function deleteUserIn(
  trx: Trx,
  context: Context,
  { id, ifMatch }: { id: string; ifMatch: IfMatch },
): Promise<number | undefined> {
  const { caller, roles, requestId } = context
  const { workspaceId, directoryId } = caller
  const user = firstRow(await lockUser(trx, { ...callerKey(caller), id }))
  if (user.id === null) throw noUser(id)
  if (ifMatch !== null && !ifMatch.includes(user.version)) throw versionConflict()
  const { memberId } = user
  if (user.isGuarded) {
    const removal = { workspaceId, directoryId, userId: id, memberId, operation: 'delete', requestId } as const
    const retryAfter = await passGuard(trx, removal)
    if (retryAfter !== undefined) return retryAfter
  }
  const memberIds = [memberId]
  await lockOwners(trx, { workspaceId, memberIds })
  const leniencies = leniencyText([], context)
  const [deleted] = await deleteLockedUser(trx, { ...callerKey(caller), id, requestId, leniencies })
  if (deleted?.isMapped) await recomputeAccess(trx, { workspaceId, memberIds, entryId: deleted.entryId, roles })
  return undefined
}
