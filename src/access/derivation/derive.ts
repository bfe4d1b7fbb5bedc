import { sql, type RawBuilder } from 'kysely'

/**
 * What access derives from. All but the members and the roles default to what is stored; whoever asks "what if" gives the
 * others, as SQL, and nothing else changes.
 */
export interface AccessSources {
  workspaceId: string
  /** A query of the ids of the members to derive. It is run more than once. */
  members: RawBuilder<unknown>
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
  /** A query of `id, directory_id, scim_group_id, claimed_group, group_id, role`. */
  mappings?: RawBuilder<unknown> | undefined
  defaultRole?: RawBuilder<string> | undefined
  /** A query of the ids of the directories whose groups count. */
  directories?: RawBuilder<unknown> | undefined
}

/** The columns of a mapping that the derivation reads. */
export const mappingColumns = sql`id, directory_id, scim_group_id, claimed_group, group_id, role`

/** The directories whose groups count: those in sync, and those that were switched off to keep what they gave. */
export const countsSql = sql<boolean>`(enabled OR when_off = 'keep')`

/**
 * The one derivation of access, as CTEs for a `WITH RECURSIVE`. Recomputing writes what it gives, preview and
 * reconciliation compare it.
 *
 * Role: a locked manual role; else the highest role of the mappings that reach the member, or the workspace's default
 * where none gives one, and never below a manual floor. Groups: those of every mapping that reaches the member. A mapping
 * reaches whoever is in its scim group, directly or through nested groups; one of a claimed group whoever brought it at
 * their last sign-in, unless a directory provides them. Status plays no part: a deactivated member keeps what they would
 * come back to.
 *
 * Gives `target`, the members as they are, and `result`: for each of them `id, email, display_name, status, role_before, role,
 * rules_before, rules, manual_role, manual_policy, groups_gained, groups_lost, is_kept, differs, changed`. `is_kept` marks owners
 * whose sources no longer say so, but without whom the workspace would have none; `differs` a role or group that is
 * another, `changed` any difference to what is stored. `difference` has the groups by row.
 */
export function derivedAccessCtes(sources: AccessSources): RawBuilder<unknown> {
  const { workspaceId, members, roles } = sources
  const {
    mappings = sql`SELECT ${mappingColumns} FROM group_mappings WHERE workspace_id = ${workspaceId}`,
    defaultRole = sql<string>`(SELECT default_role FROM workspaces WHERE id = ${workspaceId})`,
    directories = sql`SELECT id FROM directories WHERE workspace_id = ${workspaceId} AND ${countsSql}`,
  } = sources
  const rank = (role: RawBuilder<unknown>) => sql`array_position(${roles}::text[], ${role})`
  return sql`
    target AS MATERIALIZED (
      SELECT m.id, m.status, m.role, m.rules, m.manual_role, m.manual_policy, m.claimed_groups
        FROM members m WHERE m.workspace_id = ${workspaceId} AND m.id IN (${members})
    ), rule AS MATERIALIZED (
      SELECT id, directory_id, scim_group_id, claimed_group, group_id, ${rank(sql`role`)} AS rank FROM (${mappings}) m
    ), counting AS MATERIALIZED (${directories}),
    -- Nesting is followed once for each group that anybody is in, not once for each person.
    direct AS MATERIALIZED (
      SELECT t.id AS member_id, g.directory_id, g.group_id
        FROM target t
        JOIN scim_users u ON u.workspace_id = ${workspaceId} AND u.member_id = t.id
        JOIN scim_group_memberships g
          ON g.workspace_id = ${workspaceId} AND g.directory_id = u.directory_id AND g.user_id = u.id
       WHERE u.directory_id IN (SELECT id FROM counting)
    ), around AS (
      SELECT DISTINCT directory_id, group_id, group_id AS outer_id FROM direct
       UNION
      SELECT a.directory_id, a.group_id, s.group_id
        FROM around a
        JOIN scim_group_subgroups s
          ON s.workspace_id = ${workspaceId} AND s.directory_id = a.directory_id AND s.subgroup_id = a.outer_id
    ), reached AS MATERIALIZED (
      SELECT d.member_id, r.id AS rule_id, r.group_id, r.rank
        FROM direct d
        JOIN around a ON a.directory_id = d.directory_id AND a.group_id = d.group_id
        JOIN rule r ON r.directory_id = a.directory_id AND r.scim_group_id = a.outer_id
       UNION ALL
      SELECT t.id, r.id, r.group_id, r.rank
        FROM target t JOIN rule r ON r.claimed_group = ANY (t.claimed_groups)
       WHERE t.claimed_groups <> '{}'
         AND NOT EXISTS (SELECT FROM scim_users u
                          WHERE u.workspace_id = ${workspaceId} AND u.member_id = t.id
                            AND u.directory_id IN (SELECT id FROM counting))
    ), derived AS MATERIALIZED (
      SELECT t.id, t.status, t.role AS role_before, t.rules AS rules_before, t.manual_role, t.manual_policy,
             coalesce(v.rules, '{}') AS rules,
             CASE t.manual_policy WHEN 'locked' THEN t.manual_role
             ELSE (${roles}::text[])[coalesce(greatest(coalesce(v.rank, ${rank(defaultRole)}), ${rank(sql`t.manual_role`)}), 1)]
             END AS role
        FROM target t
        LEFT JOIN (SELECT member_id, max(rank) AS rank, array_agg(DISTINCT rule_id ORDER BY rule_id) AS rules
                     FROM reached GROUP BY member_id) v ON v.member_id = t.id
    ), effective AS (
      SELECT d.id, d.status, d.role_before, d.rules_before, d.rules, d.manual_role, d.manual_policy,
             CASE WHEN k.is_kept THEN 'owner' ELSE d.role END AS role, k.is_kept
        FROM derived d
       CROSS JOIN LATERAL (
         SELECT d.role_before = 'owner' AND d.status = 'active' AND d.role <> 'owner'
            AND NOT EXISTS (SELECT FROM derived o WHERE o.role = 'owner' AND o.status = 'active')
            AND NOT EXISTS (SELECT FROM members o
                             WHERE o.workspace_id = ${workspaceId} AND o.role = 'owner' AND o.status = 'active'
                               AND o.id NOT IN (SELECT id FROM target)) AS is_kept
       ) k
    ), difference AS MATERIALIZED (
      SELECT coalesce(h.member_id, w.member_id) AS member_id, coalesce(h.group_id, w.group_id) AS group_id,
             h.member_id IS NULL AS is_gained
        FROM (SELECT m.member_id, m.group_id FROM group_memberships m JOIN target t ON t.id = m.member_id
               WHERE m.workspace_id = ${workspaceId}) h
        FULL JOIN (SELECT DISTINCT member_id, group_id FROM reached WHERE group_id IS NOT NULL) w
          ON w.member_id = h.member_id AND w.group_id = h.group_id
       WHERE h.member_id IS NULL OR w.member_id IS NULL
    ), result AS MATERIALIZED (
      SELECT e.id, e.status, e.role_before, e.role, e.rules_before, e.rules, e.manual_role, e.manual_policy, e.is_kept,
             coalesce(d.gained, '{}') AS groups_gained, coalesce(d.lost, '{}') AS groups_lost,
             e.role <> e.role_before OR d.member_id IS NOT NULL AS differs,
             e.role <> e.role_before OR d.member_id IS NOT NULL OR e.rules <> e.rules_before OR e.is_kept AS changed
        FROM effective e
        LEFT JOIN (SELECT member_id,
                          coalesce(array_agg(group_id ORDER BY group_id) FILTER (WHERE is_gained), '{}') AS gained,
                          coalesce(array_agg(group_id ORDER BY group_id) FILTER (WHERE NOT is_gained), '{}') AS lost
                     FROM difference GROUP BY member_id) d ON d.member_id = e.id
    )`
}

/**
 * A number that two differences share only if they are the same, whatever the order of their rows; an aggregate over
 * `result`. What it says of each member is what a preview shows of them.
 */
export const differenceDigest = sql<string>`
  coalesce(sum(uuid_hash_extended(id, hash_array_extended(groups_gained, hash_array_extended(groups_lost,
    hashtextextended(status || ' ' || role_before || ' ' || role, 0))))) FILTER (WHERE differs), 0) || '/' || count(*) FILTER (WHERE differs) || '/' || count(*) FILTER (WHERE is_kept)`

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
      JOIN scim_group_memberships g
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
