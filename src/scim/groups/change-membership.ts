import { sql, type RawBuilder } from 'kysely'
import { prepared, type Params } from '../../db/prepared.ts'
import type { IfMatch } from '../protocol/conditions.ts'
import type { MembershipChanges, MembershipTarget } from '../protocol/membership-values.ts'
import type { Leniency, MembershipTypes } from '../protocol/reading.ts'
import { isResourceId } from '../protocol/resource-id.ts'
import type { GroupAnswer, StoredRow } from '../protocol/serialize.ts'
import { allowed, callerKey, firstRow } from '../storage/credential.ts'
import { groupUpdatedSql } from './group-entry.ts'
import { inGroup, type GroupKey } from './memberships.ts'
import { leniencyText, type Context } from '../storage/write.ts'

/**
 * One person who joins or leaves a group that gives no access: what a sync does all day, with nothing in the statement for
 * whatever else a change of a group may mean (docs/decisions/0004). It writes only where it is enough, and the general
 * statement (groups.ts) decides whatever it leaves.
 */

interface MemberValues extends GroupKey {
  userId: string
  ifMatch: IfMatch
  requestId: string
  leniencies: string | null
}

type WrittenRow = { [Column in keyof StoredRow]: StoredRow[Column] | null }

interface Change {
  name: string
  /** Gives a row where there is something to change: joined to the group `g`. */
  changes: (values: Params<MemberValues>) => RawBuilder<unknown>
  /** Changes the row of a membership, where there is a row of `written`. */
  change: (values: Params<MemberValues>) => RawBuilder<unknown>
  /** Name of their number in the entry. */
  counted: RawBuilder<unknown>
}

/**
 * The group's row is changed first: who deletes, maps or nests the group at the same moment changes that row too, so that
 * one of the two finds it changed, and is decided again.
 */
function memberStatement({ name, changes, change, counted }: Change) {
  return prepared<MemberValues, WrittenRow>(name, values => {
    const { workspaceId, directoryId, id, ifMatch } = values
    const here = (table: RawBuilder<unknown>) =>
      sql`${table}.workspace_id = ${workspaceId}::uuid AND ${table}.directory_id = ${directoryId}::uuid`
    return sql`
      WITH ${allowed(values)},
      plain AS (
        SELECT g.version, g.reach_version
          FROM allowed a JOIN scim_groups g ON ${here(sql`g`)} AND g.id = ${id}::uuid
         CROSS JOIN LATERAL (${changes(values)}) change
         WHERE NOT a.nests_groups AND (g.version = ANY (${ifMatch}::int[])) IS NOT FALSE
           AND NOT EXISTS (SELECT FROM group_mappings m WHERE ${here(sql`m`)} AND m.scim_group_id = ${id}::uuid)
      ), written AS (
        UPDATE scim_groups g SET version = g.version + 1, updated_at = now()
          FROM plain p
         WHERE ${here(sql`g`)} AND g.id = ${id}::uuid AND g.reach_version = p.reach_version
           AND (g.version = p.version OR ${ifMatch}::int[] IS NULL)
        RETURNING g.*
      ), changed AS (${change(values)} RETURNING true),
      entry AS (${groupUpdatedSql({
        requestId: values.requestId,
        detail: sql`${counted}, nullif((SELECT count(*) FROM changed), 0)`,
        leniencies: sql`${values.leniencies}::jsonb`,
      })})
      SELECT w.id, w.version, w.created_at AS "createdAt", w.updated_at AS "updatedAt", w.doc
        FROM allowed a LEFT JOIN written w ON true`
  })
}

function isMember(values: Params<MemberValues>): RawBuilder<unknown> {
  return sql`${inGroup(values)} AND user_id = ${values.userId}::uuid`
}

/** The lock of the user's row keeps a deletion of them waiting, which then finds this membership (docs/decisions/0006). */
const addMember = memberStatement({
  name: 'scim_group_add_member',
  changes: values => sql`
    SELECT FROM scim_users
     WHERE workspace_id = ${values.workspaceId}::uuid AND directory_id = ${values.directoryId}::uuid
       AND id = ${values.userId}::uuid AND NOT EXISTS (SELECT FROM scim_group_memberships WHERE ${isMember(values)})
       FOR KEY SHARE`,
  change: ({ userId }) => sql`
    INSERT INTO scim_group_memberships (workspace_id, directory_id, group_id, user_id)
    SELECT workspace_id, directory_id, id, ${userId}::uuid FROM written ON CONFLICT DO NOTHING`,
  counted: sql`'membersAdded'`,
})

const removeMember = memberStatement({
  name: 'scim_group_remove_member',
  changes: values => sql`SELECT FROM scim_group_memberships WHERE ${isMember(values)}`,
  change: values => sql`DELETE FROM scim_group_memberships WHERE ${isMember(values)} AND EXISTS (SELECT FROM written)`,
  counted: sql`'membersRemoved'`,
})

/** Undefined where it has written nothing. */
export async function changeOneMembership(
  context: Context,
  {
    id,
    memberChanges,
    memberTargets,
    ifMatch,
    leniencies,
    kinds,
  }: {
    id: string
    memberChanges: MembershipChanges | undefined
    memberTargets: readonly MembershipTarget[]
    ifMatch: IfMatch
    leniencies: readonly Leniency[]
    kinds: MembershipTypes
  },
): Promise<GroupAnswer | undefined> {
  const { db, caller, requestId } = context
  if (caller.nestsGroups || kinds.said.Group.size > 0) return undefined
  if (memberChanges === undefined || 'replace' in memberChanges) return undefined
  const { add, remove } = memberChanges
  const [userId, ...others] = [...add, ...remove]
  if (userId === undefined || others.length > 0 || !isResourceId(userId)) return undefined
  // Who is removed first and then added must have been there.
  if (add.length > 0 && memberTargets.length > 0) return undefined
  const run = add.length > 0 ? addMember : removeMember
  const values = { ...callerKey(caller), id, userId, ifMatch, requestId, leniencies: leniencyText(leniencies, context) }
  const row = firstRow(await run(db, values))
  return row.id === null ? undefined : (row as StoredRow)
}
