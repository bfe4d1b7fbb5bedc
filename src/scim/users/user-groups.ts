import { sql, type RawBuilder } from 'kysely'
import type { Db } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import type { Caller, CallerKey } from '../storage/credential.ts'

/** `groups` of a user (RFC 7643 §4.1.2), which is derived: the groups that they are in, and those around these. */

export interface GroupsKey extends Pick<CallerKey, 'workspaceId' | 'directoryId'> {
  /** URL of the directory's endpoint. */
  baseUrl: string
  withGroups: boolean
}

/** Gives an expression for the `groups` of the user that a row `p (id)` is, as JSON text; null where there are none. */
export type GroupsOf = (key: Params<GroupsKey>) => RawBuilder<string | null>

/** The group that a row `r (group_id, type)` is, whatever the planner expects: OFFSET 0 keeps it to the indexes, whose order it is. */
function describeGroups({ workspaceId, directoryId, baseUrl }: Params<GroupsKey>, reached: RawBuilder<unknown>) {
  return sql<string | null>`
    SELECT json_agg(json_build_object('value', r.group_id, '$ref', ${baseUrl}::text || '/Groups/' || r.group_id,
                                      'display', g.display_name, 'type', r.type) ORDER BY r.group_id)
      FROM (${reached} ORDER BY group_id OFFSET 0) r
     CROSS JOIN LATERAL (
       SELECT display_name FROM scim_groups
        WHERE workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid AND id = r.group_id OFFSET 0) g`
}

function joined({ workspaceId, directoryId, withGroups }: Params<GroupsKey>): RawBuilder<unknown> {
  return sql`scim_group_memberships
     WHERE workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid AND user_id = p.id AND ${withGroups}::boolean`
}

const directGroups: GroupsOf = key =>
  sql`(${describeGroups(key, sql`SELECT group_id, 'direct' AS type FROM ${joined(key)}`)})`

export const allGroups: GroupsOf = key => {
  const { workspaceId, directoryId } = key
  const reached = sql`
    SELECT group_id, CASE WHEN bool_or(is_direct) THEN 'direct' ELSE 'indirect' END AS type FROM reach GROUP BY group_id`
  return sql`(
    WITH RECURSIVE reach AS (
      SELECT group_id, true AS is_direct FROM ${joined(key)}
      UNION
      SELECT s.group_id, false
        FROM reach r
       CROSS JOIN LATERAL (
         SELECT group_id FROM scim_group_subgroups
          WHERE workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid AND subgroup_id = r.group_id OFFSET 0) s
    ) ${describeGroups(key, reached)})`
}

/** Rows of a statement that answers with users; each says `"nestsGroups"`, as `allowed` does. */
interface Nesting {
  nestsGroups: boolean
}

export interface PreparedWithGroups<Values, Row> {
  /** Once, as far as is remembered of the directory: where a row says that it nests groups after all, some may be missing. */
  run: (db: Db, caller: Caller, values: Values) => Promise<Row[]>
  /** For what may be run again. */
  read: (db: Db, caller: Caller, values: Values) => Promise<Row[]>
}

/**
 * A named statement (src/db/prepared.ts) that answers with users, in two forms: to look for the groups around groups costs as
 * much as to read the user, and most directories never put one into another.
 */
export function preparedWithGroups<Values extends object, Row extends Nesting>(
  name: string,
  build: (params: Params<Values>, groupsOf: GroupsOf) => RawBuilder<Row>,
): PreparedWithGroups<Values, Row> {
  const plain = prepared<Values, Row>(name, params => build(params, directGroups))
  const nested = prepared<Values, Row>(`${name}_nested`, params => build(params, allGroups))
  return {
    run: (db, caller, values) => (caller.nestsGroups ? nested : plain)(db, values),
    read: async (db, caller, values) => {
      if (caller.nestsGroups) return nested(db, values)
      const rows = await plain(db, values)
      return rows[0]?.nestsGroups ? nested(db, values) : rows
    },
  }
}
