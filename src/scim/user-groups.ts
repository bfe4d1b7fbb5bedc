import { sql, type RawBuilder } from 'kysely'

interface GroupsOf {
  workspaceId: RawBuilder<string>
  directoryId: RawBuilder<string>
  baseUrl: RawBuilder<string>
  withGroups: RawBuilder<boolean>
}

/**
 * CTEs that give `groups_of (user_id, groups)`, JSON text, for the users of a CTE `page (id)`: their groups, and those
 * around them. Laterals with OFFSET 0 keep the planner to the indexes, however many rows it expects in `page`.
 */
export function groupsOfCtes({ workspaceId, directoryId, baseUrl, withGroups }: GroupsOf): RawBuilder<unknown> {
  const here = sql`workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid`
  return sql`
    reach AS (
      SELECT p.id AS user_id, m.group_id, true AS direct
        FROM page p
       CROSS JOIN LATERAL (SELECT group_id FROM scim_group_members WHERE ${here} AND user_id = p.id OFFSET 0) m
       WHERE ${withGroups}::boolean
       UNION
      SELECT r.user_id, s.group_id, false
        FROM reach r
       CROSS JOIN LATERAL (SELECT group_id FROM scim_group_subgroups WHERE ${here} AND subgroup_id = r.group_id OFFSET 0) s
    ), groups_of AS (
      SELECT r.user_id, json_agg(json_build_object(
               'value', r.group_id, '$ref', ${baseUrl}::text || '/Groups/' || r.group_id, 'display', g.display_name,
               'type', CASE WHEN r.direct THEN 'direct' ELSE 'indirect' END) ORDER BY r.group_id) AS groups
        FROM (SELECT user_id, group_id, bool_or(direct) AS direct FROM reach GROUP BY user_id, group_id) r
       CROSS JOIN LATERAL (SELECT display_name FROM scim_groups WHERE ${here} AND id = r.group_id OFFSET 0) g
       GROUP BY r.user_id
    )`
}
