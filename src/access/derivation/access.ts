import { sql, type RawBuilder } from 'kysely'
import { insertEntrySql } from '../../activity/activity.ts'
import type { Db, Trx } from '../../db/database.ts'
import { derivedAccessCtes, differenceDigest } from './derive.ts'

/** Members by their ids, or by a query of their ids, which then never leave the database. It is run more than once. */
export type MemberIds = readonly string[] | RawBuilder<unknown>

export interface Recomputation {
  workspaceId: string
  memberIds: MemberIds
  /** The activity entry that caused it. */
  entryId: number
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/** What a recomputation did, in numbers: a group of 100,000 never comes into this process. */
export interface RecomputedAccess {
  /** Members of whom anything changed, be it only which mappings reach them. */
  changed: number
  /** Members whose role or groups are others now. */
  differing: number
  /** Owners whose sources no longer say so, kept because the workspace would be left without one. */
  keptOwners: number
  /** Of the difference (derive.ts), to compare with that of a preview. */
  digest: string
}

/** The digest where nothing differs. */
export const NO_DIFFERENCE = '0/0/0'

const nothing: RecomputedAccess = { changed: 0, differing: 0, keptOwners: 0, digest: NO_DIFFERENCE }

/**
 * Derives role, rules and Assist groups of members anew from their sources (derive.ts) and writes what differs, with its
 * history. The only writer of `members.role` and `rules` (after the row was made) and of `group_memberships`.
 *
 * An owner who is kept gets the role by hand, as a floor, with an entry of their own: so what is stored is again what the
 * sources say, and an admin can take it back once there is another owner. Admins are refused instead (`lastOwner`).
 *
 * One statement for any number of members, after one that locks them.
 */
export async function recomputeAccess(trx: Trx, recomputation: Recomputation): Promise<RecomputedAccess> {
  const { workspaceId, memberIds, entryId, roles } = recomputation
  if ('length' in memberIds && memberIds.length === 0) return nothing
  const count = await lockOwners(trx, { workspaceId, memberIds })
  if (count === 0) return nothing
  if (count > MANY) await planForMany(trx)
  const { rows } = await sql<RecomputedAccess>`
    WITH RECURSIVE ${derivedAccessCtes({ workspaceId, members: idQuery(memberIds), roles })},
    gained AS (
      INSERT INTO group_memberships (workspace_id, group_id, member_id)
      SELECT ${workspaceId}, group_id, member_id FROM difference WHERE is_gained
    ), lost AS (
      DELETE FROM group_memberships m USING difference d
       WHERE m.workspace_id = ${workspaceId} AND m.group_id = d.group_id AND m.member_id = d.member_id AND NOT d.is_gained
    ), written AS (
      UPDATE members m
         SET role = r.role, rules = r.rules, version = m.version + 1, updated_at = now(),
             manual_role = CASE WHEN r.is_kept THEN 'owner' ELSE m.manual_role END,
             manual_policy = CASE WHEN r.is_kept THEN 'floor' ELSE m.manual_policy END
        FROM result r
       WHERE m.workspace_id = ${workspaceId} AND m.id = r.id AND r.changed
    ), kept AS (${insertEntrySql({
      workspaceId: sql`${workspaceId}::uuid`,
      action: sql`'member.owner_kept'`,
      actorType: sql`'system'`,
      actorId: sql`'access'`,
      requestId: sql`NULL::text`,
      memberId: sql`r.id`,
      targetType: sql`'member'`,
      targetId: sql`r.id::text`,
      detail: sql`jsonb_build_object('cause', ${String(entryId)}::text, 'manualRole', jsonb_build_object(
        'before', jsonb_build_object('role', r.manual_role, 'policy', r.manual_policy),
        'after', jsonb_build_object('role', 'owner', 'policy', 'floor')))`,
      from: sql`result r WHERE r.is_kept`,
    })}), history AS (
      INSERT INTO access_changes (workspace_id, member_id, entry_id, at, status_before, status_after, role_before, role_after,
                                  groups_gained, groups_lost, rules, manual_role, manual_policy)
      SELECT ${workspaceId}, id, ${entryId}, (SELECT clock_timestamp()), status, status, role_before, role, groups_gained, groups_lost, rules,
             CASE WHEN is_kept THEN 'owner' ELSE manual_role END, CASE WHEN is_kept THEN 'floor' ELSE manual_policy END
        FROM result WHERE changed
    )
    SELECT count(*) FILTER (WHERE changed)::int AS changed, count(*) FILTER (WHERE differs)::int AS differing,
           count(*) FILTER (WHERE is_kept)::int AS "keptOwners", ${differenceDigest} AS digest
      FROM result`.execute(trx)
  return rows[0] ?? nothing
}

/**
 * Makes changes to the same members wait for each other, so that each derives from what the other has committed; and, where
 * one of the members is an owner, changes to all owners, so that two cannot each leave the other as the last. Members come
 * before the workspace, everywhere, or two of these would wait for each other.
 * @returns how many members there are
 */
export async function lockOwners(
  trx: Trx,
  { workspaceId, memberIds }: { workspaceId: string; memberIds: MemberIds },
): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    WITH locked AS MATERIALIZED (
      SELECT role FROM members
       WHERE workspace_id = ${workspaceId} AND id IN (${idQuery(memberIds)})
       ORDER BY id FOR NO KEY UPDATE
    ), owners AS MATERIALIZED (
      SELECT FROM workspaces
       WHERE id = ${workspaceId} AND EXISTS (SELECT FROM locked WHERE role = 'owner')
         FOR NO KEY UPDATE
    )
    SELECT (SELECT count(*) FROM locked)::int AS count, (SELECT count(*) FROM owners) AS owners`.execute(trx)
  return rows[0]?.count ?? 0
}

/** From here on a set is planned as a large one. */
export const MANY = 1_000

/**
 * For the rest of the transaction: hash, with memory for it, and never loop. The planner cannot know how many members there
 * are, nor has anybody told it of a directory that was filled a minute ago; a loop over 100,000 is quadratic.
 */
export async function planForMany(db: Db): Promise<void> {
  await sql`
    SELECT set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true), set_config('jit', 'off', true)`.execute(
    db,
  )
}

export function idQuery(memberIds: MemberIds): RawBuilder<unknown> {
  return 'length' in memberIds ? sql`SELECT unnest(${memberIds}::uuid[])` : memberIds
}

/**
 * Appends to a member's history what they are now, after a statement that changed their status or manual role by itself.
 * @param before what differed; what it leaves out is as it was
 */
export async function recordAccessChange(
  trx: Trx,
  change: {
    workspaceId: string
    memberId: string
    entryId: number
    statusBefore?: string | null
    roleBefore?: string | null
  },
): Promise<void> {
  const { workspaceId, memberId, entryId, statusBefore, roleBefore } = change
  await sql`
    INSERT INTO access_changes (workspace_id, member_id, entry_id, status_before, status_after, role_before, role_after, rules,
                                manual_role, manual_policy)
    SELECT workspace_id, id, ${entryId}, ${valueOr(statusBefore, sql`status`)}, status, ${valueOr(roleBefore, sql`role`)}, role, rules,
           manual_role, manual_policy
      FROM members WHERE workspace_id = ${workspaceId} AND id = ${memberId}`.execute(trx)
}

/**
 * The same for members who were made by the statement itself, as the body of a CTE: `made (workspace_id, id, status, role)`. Needs a
 * CTE `entry (id)`.
 */
export function accessHistoryOfNew(made: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
    INSERT INTO access_changes (workspace_id, member_id, entry_id, status_after, role_after)
    SELECT m.workspace_id, m.id, entry.id, m.status, m.role FROM ${made} m CROSS JOIN entry`
}

function valueOr(value: string | null | undefined, column: RawBuilder<unknown>): RawBuilder<unknown> {
  return value === undefined ? column : sql`${value}::text`
}
