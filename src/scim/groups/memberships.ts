import { sql, type RawBuilder } from 'kysely'
import type { Db, Trx } from '../../db/database.ts'
import type { Params } from '../../db/prepared.ts'
import { AppError } from '../../errors.ts'
import { isResourceId, joinResourceIds } from '../protocol/resource-id.ts'
import type { MemberIds } from '../protocol/serialize.ts'
import type { Caller, CallerKey } from '../storage/credential.ts'

/** Members of groups in SQL: found, locked, told apart, and followed to the members of the workspace behind them. */

export interface GroupKey extends CallerKey {
  id: string
}

export function inGroup({ workspaceId, directoryId, id }: Params<GroupKey>): RawBuilder<unknown> {
  return sql`workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid AND group_id = ${id}::uuid`
}

/** Whether the id of a row is in the group: a lateral of at most one row. */
export function heldLateral(key: Params<GroupKey>, id: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`LATERAL (
    SELECT true AS held FROM scim_group_memberships WHERE ${inGroup(key)} AND user_id = ${id}
     UNION ALL
    SELECT true FROM scim_group_subgroups WHERE ${inGroup(key)} AND subgroup_id = ${id} OFFSET 0)`
}

const MAX_NAMED = 10

/**
 * Refuses ids that cannot be ours: Postgres would not read them as such.
 * @returns the ids joined by commas
 */
export async function joinIds(ids: readonly string[]): Promise<string> {
  const joined = await joinResourceIds(ids)
  if (joined !== undefined) return joined
  const unknown = ids.filter(id => !isResourceId(id))
  throw unknownMembers({ named: unknown.slice(0, MAX_NAMED), total: unknown.length })
}

/**
 * A member that this directory does not have is refused rather than left out: "200 and ignored" would look like access
 * given. The provider sends the rest again once it has created, or dropped, the member.
 */
export function unknownMembers({ named: ids, total }: Unknown): AppError {
  const named = ids.map(id => id.slice(0, 64).replace(/[^\x20-\x7e]/g, '?'))
  const more = total > ids.length ? `, and ${total - ids.length} more` : ''
  const message = `members names no user or other group of this directory: ${named.join(', ')}${more}. Create it first, or leave it out.`
  return new AppError('scim_invalid_value', message, { errors: [{ pointer: '/members', message }] })
}

/** Ids that a directory does not have: the first ones, and how many there are. */
interface Unknown {
  named: readonly string[]
  total: number
}

/** In a circle everybody would be in every group of it, which nobody means. */
export function groupCycle(): AppError {
  const message =
    'A group among members contains this group, directly or through others. Take one of the two out first.'
  return new AppError('scim_group_cycle', message, { errors: [{ pointer: '/members', message }] })
}

export async function findUnknown(
  db: Db,
  { caller, id, ids }: { caller: Caller; id: string; ids: readonly string[] },
): Promise<Unknown> {
  const { workspaceId, directoryId } = caller
  const wanted = `{${await joinIds(ids)}}`
  const here = sql`workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid`
  const { rows } = await sql<{ id: string; total: number }>`
    SELECT u.id, count(*) OVER ()::int AS total
      FROM (
        SELECT w.id FROM unnest(${wanted}::uuid[]) AS w (id)
        EXCEPT SELECT id FROM scim_users WHERE ${here} AND id = ANY (${wanted}::uuid[])
        EXCEPT SELECT id FROM scim_groups WHERE ${here} AND id = ANY (${wanted}::uuid[]) AND id <> ${id}::uuid) u
     LIMIT ${MAX_NAMED}`.execute(db)
  return { named: rows.map(row => row.id), total: rows[0]?.total ?? 0 }
}

/**
 * CTEs that find and lock the ids of `source` among users and groups. The lock of a user's row keeps a concurrent deletion
 * waiting, which then removes this membership too: there is no foreign key to do so. Laterals with OFFSET 0 make each a
 * look-up by key: a plan made on stale estimates would compare everybody with everybody.
 */
export function foundCtes(
  { workspaceId, directoryId, id }: Params<GroupKey>,
  source: RawBuilder<unknown>,
): RawBuilder<unknown> {
  const here = sql`workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid`
  return sql`
    found_users AS (
      SELECT u.id FROM ${source} w
       CROSS JOIN LATERAL (SELECT id FROM scim_users WHERE ${here} AND id = w.id OFFSET 0 FOR KEY SHARE) u
    ), found_groups AS (
      SELECT g.id FROM ${source} w
       CROSS JOIN LATERAL (
         SELECT id FROM scim_groups WHERE ${here} AND id = w.id AND id <> ${id}::uuid OFFSET 0 FOR KEY SHARE) g
    )`
}

/** The ids that were sent, told apart by those of them that are groups. */
export async function sentMembers(ids: readonly string[], groups: string | null): Promise<MemberIds> {
  const nested = new Set(groups?.split(','))
  const users = nested.size === 0 ? ids : ids.filter(id => !nested.has(id))
  return { users: users.length === 0 ? null : await joinIds(users), groups }
}

interface Reach {
  caller: Caller
  id: string
  /** As Postgres writes an array: the driver would escape each of a hundred thousand. */
  ids: string
  all: boolean
}

/**
 * Marks groups, and all that is inside them, so that a membership change under way there is decided again; and again while
 * more is found, since others may nest groups until we hold the locks.
 */
export async function markReach(trx: Trx, reach: Reach): Promise<void> {
  let held: bigint | undefined
  for (let found = 0n; found !== held;) {
    held = found
    found = await markInside(trx, reach)
  }
}

/** Gives how many groups were marked. */
async function markInside(trx: Trx, { caller, id, ids, all }: Reach): Promise<bigint> {
  const { workspaceId, directoryId } = caller
  const here = (table: string) =>
    sql`${sql.ref(table)}.workspace_id = ${workspaceId}::uuid AND ${sql.ref(table)}.directory_id = ${directoryId}::uuid`
  // In the order of ids, as everybody who locks several groups does; the group itself changes next, and needs no mark.
  const { numAffectedRows = 0n } = await sql`
    WITH RECURSIVE inside AS (
      SELECT g.id FROM scim_groups g
       WHERE ${here('g')} AND (
         g.id = ANY (${ids}::uuid[])
         OR ${all}::boolean AND g.id IN (SELECT s.subgroup_id FROM scim_group_subgroups s WHERE ${here('s')} AND s.group_id = ${id}::uuid))
       UNION
      SELECT s.subgroup_id FROM inside i JOIN scim_group_subgroups s ON ${here('s')} AND s.group_id = i.id
    ), locked AS (
      SELECT g.id FROM scim_groups g
       WHERE ${here('g')} AND (g.id = ${id}::uuid OR g.id IN (SELECT id FROM inside)) ORDER BY g.id FOR NO KEY UPDATE
    )
    UPDATE scim_groups g SET reach_version = g.reach_version + 1
      FROM locked l WHERE ${here('g')} AND g.id = l.id AND g.id <> ${id}::uuid`.execute(trx)
  return numAffectedRows
}

/** The members that users stand for, and all in groups, however deep. */
export async function membersBehind(
  trx: Trx,
  { caller, userIds, groupIds }: { caller: Caller; userIds: readonly string[]; groupIds: readonly string[] },
): Promise<string[]> {
  const { workspaceId, directoryId } = caller
  const here = (table: string) =>
    sql`${sql.ref(table)}.workspace_id = ${workspaceId}::uuid AND ${sql.ref(table)}.directory_id = ${directoryId}::uuid`
  const { rows } = await sql<{ memberId: string }>`
    WITH RECURSIVE inside AS (
      SELECT g.id FROM unnest(${groupIds}::uuid[]) AS g (id)
       UNION
      SELECT s.subgroup_id FROM inside i JOIN scim_group_subgroups s ON ${here('s')} AND s.group_id = i.id
    )
    SELECT u.member_id AS "memberId" FROM scim_users u WHERE ${here('u')} AND u.id = ANY (${userIds}::uuid[])
     UNION
    SELECT u.member_id FROM inside i
      JOIN scim_group_memberships m ON ${here('m')} AND m.group_id = i.id
      JOIN scim_users u ON ${here('u')} AND u.id = m.user_id`.execute(trx)
  return rows.map(row => row.memberId)
}
