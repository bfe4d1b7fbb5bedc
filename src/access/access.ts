import { sql, type RawBuilder } from 'kysely'
import type { Trx } from '../db/database.ts'

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

export interface AccessChange {
  memberId: string
  roleBefore: string
  roleAfter: string
  groupsGained: string[]
  groupsLost: string[]
}

export interface RecomputedAccess {
  /** Only members whose role or groups changed. */
  changes: AccessChange[]
  /** Owners whose sources no longer say so, kept because the workspace would be left without one. */
  keptOwners: string[]
}

/**
 * Derives role and Assist groups of members anew from their sources and writes what differs, with its history. The only
 * writer of `members.role` (after the row was made) and of `group_memberships`.
 *
 * Effective role: a locked manual role; else the highest role that a mapping gives, or the workspace's default where none
 * does, and never below a manual floor. Groups: those of every mapping whose scim group the member is in, directly or
 * through nested groups. Status plays no part: a deactivated member keeps what they would come back to.
 *
 * One statement for any number of members, after one that locks them.
 */
export async function recomputeAccess(trx: Trx, recomputation: Recomputation): Promise<RecomputedAccess> {
  const { workspaceId, memberIds, entryId, roles } = recomputation
  if ('length' in memberIds && memberIds.length === 0) return { changes: [], keptOwners: [] }
  await lockOwners(trx, { workspaceId, memberIds })
  const { rows } = await sql<AccessChange & { kept: boolean; changed: boolean }>`
    WITH RECURSIVE target AS (
      SELECT id, role, status, manual_role, manual_policy
        FROM members WHERE workspace_id = ${workspaceId} AND id IN (${idQuery(memberIds)})
    ), reach AS (
      SELECT u.member_id, g.directory_id, g.group_id
        FROM target t
        JOIN scim_users u ON u.workspace_id = ${workspaceId} AND u.member_id = t.id
        JOIN scim_group_members g
          ON g.workspace_id = u.workspace_id AND g.directory_id = u.directory_id AND g.user_id = u.id
       UNION
      SELECT r.member_id, s.directory_id, s.group_id
        FROM reach r
        JOIN scim_group_subgroups s
          ON s.workspace_id = ${workspaceId} AND s.directory_id = r.directory_id AND s.subgroup_id = r.group_id
    ), given AS (
      SELECT r.member_id, m.group_id, array_position(${roles}::text[], m.role) AS rank
        FROM reach r
        JOIN group_mappings m
          ON m.workspace_id = ${workspaceId} AND m.directory_id = r.directory_id AND m.scim_group_id = r.group_id
    ), derived AS (
      SELECT t.id, t.role AS role_before, t.status,
             CASE t.manual_policy WHEN 'locked' THEN t.manual_role
             ELSE (${roles}::text[])[greatest(
                    coalesce(max(v.rank), array_position(${roles}::text[], w.default_role)),
                    array_position(${roles}::text[], t.manual_role))]
             END AS role
        FROM target t
        JOIN workspaces w ON w.id = ${workspaceId}
        LEFT JOIN given v ON v.member_id = t.id
       GROUP BY t.id, t.role, t.status, t.manual_role, t.manual_policy, w.default_role
    ), effective AS (
      SELECT d.id, d.role_before, d.status,
             CASE WHEN k.kept THEN 'owner' ELSE d.role END AS role, k.kept
        FROM derived d
       CROSS JOIN LATERAL (
         SELECT d.role_before = 'owner' AND d.status = 'active' AND d.role <> 'owner'
            AND NOT EXISTS (SELECT FROM derived o WHERE o.role = 'owner' AND o.status = 'active')
            AND NOT EXISTS (SELECT FROM members o
                             WHERE o.workspace_id = ${workspaceId} AND o.role = 'owner' AND o.status = 'active'
                               AND NOT EXISTS (SELECT FROM target t WHERE t.id = o.id)) AS kept
       ) k
    ), difference AS MATERIALIZED (
      SELECT coalesce(h.member_id, w.member_id) AS member_id, coalesce(h.group_id, w.group_id) AS group_id,
             h.member_id IS NULL AS gained
        FROM (SELECT m.member_id, m.group_id FROM group_memberships m JOIN target t ON t.id = m.member_id
               WHERE m.workspace_id = ${workspaceId}) h
        FULL JOIN (SELECT DISTINCT member_id, group_id FROM given WHERE group_id IS NOT NULL) w
          ON w.member_id = h.member_id AND w.group_id = h.group_id
       WHERE h.member_id IS NULL OR w.member_id IS NULL
    ), gained AS (
      INSERT INTO group_memberships (workspace_id, group_id, member_id)
      SELECT ${workspaceId}, group_id, member_id FROM difference WHERE gained
    ), lost AS (
      DELETE FROM group_memberships m USING difference d
       WHERE m.workspace_id = ${workspaceId} AND m.group_id = d.group_id AND m.member_id = d.member_id AND NOT d.gained
    ), promoted AS (
      UPDATE members m SET role = e.role, version = m.version + 1, updated_at = now()
        FROM effective e
       WHERE m.workspace_id = ${workspaceId} AND m.id = e.id AND e.role <> e.role_before
    ), result AS (
      SELECT e.id, e.role_before, e.role, e.status, e.kept,
             coalesce(array_agg(d.group_id) FILTER (WHERE d.gained), '{}') AS groups_gained,
             coalesce(array_agg(d.group_id) FILTER (WHERE NOT d.gained), '{}') AS groups_lost,
             e.role <> e.role_before OR count(d.member_id) > 0 AS changed
        FROM effective e LEFT JOIN difference d ON d.member_id = e.id
       GROUP BY e.id, e.role_before, e.role, e.status, e.kept
    ), history AS (
      INSERT INTO access_changes (workspace_id, member_id, entry_id, status_before, status_after, role_before, role_after, groups_gained, groups_lost)
      SELECT ${workspaceId}, id, ${entryId}, status, status, role_before, role, groups_gained, groups_lost
        FROM result WHERE changed
    )
    SELECT id AS "memberId", role_before AS "roleBefore", role AS "roleAfter", groups_gained AS "groupsGained",
           groups_lost AS "groupsLost", kept, changed
      FROM result WHERE changed OR kept`.execute(trx)
  return {
    changes: rows.filter(row => row.changed).map(({ kept: _kept, changed: _changed, ...change }) => change),
    keptOwners: rows.filter(row => row.kept).map(row => row.memberId),
  }
}

/**
 * Makes changes to the same members wait for each other, so that each derives from what the other has committed; and, where
 * one of the members is an owner, changes to all owners, so that two cannot each leave the other as the last. Members come
 * before the workspace, everywhere, or two of these would wait for each other.
 */
export async function lockOwners(
  trx: Trx,
  { workspaceId, memberIds }: { workspaceId: string; memberIds: MemberIds },
): Promise<void> {
  await sql`
    WITH locked AS MATERIALIZED (
      SELECT role FROM members
       WHERE workspace_id = ${workspaceId} AND id IN (${idQuery(memberIds)})
       ORDER BY id FOR NO KEY UPDATE
    )
    SELECT FROM workspaces
     WHERE id = ${workspaceId} AND EXISTS (SELECT FROM locked WHERE role = 'owner')
       FOR NO KEY UPDATE`.execute(trx)
}

function idQuery(memberIds: MemberIds): RawBuilder<unknown> {
  return 'length' in memberIds ? sql`SELECT unnest(${memberIds}::uuid[])` : memberIds
}

export interface ScimGroupKey {
  workspaceId: string
  directoryId: string
  scimGroupId: string
}

/** The members in a scim group, directly or through groups in it: whom a mapping of the group concerns. */
export function membersOfScimGroup(group: ScimGroupKey): RawBuilder<unknown> {
  const { workspaceId, directoryId } = group
  return sql`
    SELECT u.member_id
      FROM (${groupsInScimGroup(group)}) i
      JOIN scim_group_members g
        ON g.workspace_id = ${workspaceId} AND g.directory_id = ${directoryId} AND g.group_id = i.id
      JOIN scim_users u ON u.workspace_id = g.workspace_id AND u.directory_id = g.directory_id AND u.id = g.user_id`
}

/** A scim group and all groups in it, however deep. */
export function groupsInScimGroup({ workspaceId, directoryId, scimGroupId }: ScimGroupKey): RawBuilder<unknown> {
  return sql`
    WITH RECURSIVE inner_groups AS (
      SELECT ${scimGroupId}::uuid AS id
       UNION
      SELECT s.subgroup_id
        FROM inner_groups i
        JOIN scim_group_subgroups s
          ON s.workspace_id = ${workspaceId} AND s.directory_id = ${directoryId} AND s.group_id = i.id
    )
    SELECT id FROM inner_groups`
}
