import { sql, type RawBuilder } from 'kysely'
import type { Db } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import type { CallerKey } from '../storage/credential.ts'
import { heldLateral, type GroupKey } from './memberships.ts'
import type { MembershipTarget } from '../protocol/membership-values.ts'
import type { MembershipType, MembershipTypes } from '../protocol/reading.ts'
import { isResourceId, joinResourceIds } from '../protocol/resource-id.ts'
import { retryOnConflict } from '../storage/write.ts'

/**
 * What a request takes for granted of members and only the database knows: that they are what is said of them, and that a
 * filter selects one. It is checked in the statement that writes.
 */

/** What only the database knows to be so of the members that a request speaks of. */
export interface Checked {
  /** Ids that are said to be of users, and of groups, each as Postgres writes an array. */
  saidUsers: string
  saidGroups: string
  /** Filters, each as often as it has ids, beside the id. */
  targetIds: readonly string[]
  targetPointers: readonly string[]
}

const NOBODY = '00000000-0000-0000-0000-000000000000'

export async function checksOf({ said }: MembershipTypes, targets: readonly MembershipTarget[] = []): Promise<Checked> {
  const written = async (kind: MembershipType) => {
    const ids = [...said[kind]]
    const joined = await joinResourceIds(ids)
    return `{${joined ?? ids.filter(isResourceId).join(',')}}`
  }
  const flat = targets.flatMap(({ ids, pointer }) => ids.map(id => ({ id: isResourceId(id) ? id : NOBODY, pointer })))
  return {
    saidUsers: await written('User'),
    saidGroups: await written('Group'),
    targetIds: flat.map(({ id }) => id),
    targetPointers: flat.map(({ pointer }) => pointer),
  }
}

/** A part of a statement that checks, and what stands there in one that does not. */
type IfChecked = (part: RawBuilder<unknown>, otherwise?: RawBuilder<unknown>) => RawBuilder<unknown>

/** A statement with checks, and one without for all those requests that have nothing to check. */
export function whereNeeded<Values extends Checked, Row>(
  name: string,
  build: (ifChecked: IfChecked) => (values: Params<Values>) => RawBuilder<Row>,
): (db: Db, values: Values) => Promise<Row[]> {
  const checked = prepared<Values, Row>(
    `${name}_checked`,
    build(part => part),
  )
  const plain = prepared<Values, Row>(
    name,
    build((_part, otherwise = sql``) => otherwise),
  )
  return (db, values) => {
    const { saidUsers, saidGroups, targetIds } = values
    const isChecked = saidUsers !== '{}' || saidGroups !== '{}' || targetIds.length > 0
    return (isChecked ? checked : plain)(db, values)
  }
}

/**
 * A CTE of the ids that are something else than was said. Members are people for the most part, who say so by the thousand:
 * of those only the groups that are inside or come, which are few, are looked for. Not pulled up into a join, IN is a hash
 * table whatever Postgres estimates.
 */
export function contradictedCte(
  { workspaceId, directoryId, saidUsers, saidGroups }: Params<CallerKey & Checked>,
  groups: RawBuilder<unknown>,
): RawBuilder<unknown> {
  return sql`
    contradicted AS (
      SELECT g.id, 'Group' AS kind FROM ${groups} g WHERE (g.id IN (SELECT unnest(${saidUsers}::uuid[]))) IS TRUE
       UNION ALL
      SELECT u.id, 'User' FROM unnest(${saidGroups}::uuid[]) AS w (id)
       CROSS JOIN LATERAL (
         SELECT id FROM scim_users
          WHERE workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid AND id = w.id OFFSET 0) u
    )`
}

/** What the ids of that CTE are; null where there are none. */
export interface Contradicted {
  contradicted: Record<string, MembershipType> | null
}

export const contradictedColumn = sql`(SELECT jsonb_object_agg(id, kind) FROM contradicted) AS contradicted`

/** A CTE of the filters of which no member is in the group. */
export function missedCte(values: Params<GroupKey & Checked>): RawBuilder<unknown> {
  return sql`
    missed AS (
      SELECT t.pointer FROM unnest(${values.targetIds}::uuid[], ${values.targetPointers}::text[]) AS t (id, pointer)
        LEFT JOIN ${heldLateral(values, sql`t.id`)} h ON true
       GROUP BY t.pointer HAVING bool_or(h.held) IS NULL
    )`
}

/** Leniencies for an entry, with those filters. */
export function withMissed(leniencies: RawBuilder<string | null>): RawBuilder<unknown> {
  return sql`nullif(coalesce(${leniencies}::jsonb, '[]') || coalesce((
    SELECT jsonb_agg(jsonb_build_object('name', 'target_missed', 'pointer', m.pointer))
      FROM (SELECT pointer FROM missed LIMIT 100) m), '[]'), '[]')`
}

/**
 * Runs a write that is decided again with what the database has told of its members. Asking first would be a round trip for
 * every request, and what a member says that it is, is seldom wrong.
 */
export async function untilKnown<Result>(
  write: (kinds: MembershipTypes) => Promise<Result | 'raced'>,
): Promise<Result> {
  const known = new Map<string, MembershipType>()
  return retryOnConflict(() => write({ said: { User: new Set(), Group: new Set() }, known }))
}

export function learnKinds({ known }: MembershipTypes, contradicted: Record<string, MembershipType>): 'raced' {
  for (const [id, kind] of Object.entries(contradicted)) known.set(id, kind)
  return 'raced'
}
