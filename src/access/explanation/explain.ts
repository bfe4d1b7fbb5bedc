import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { readInstant } from './instant.ts'
import { roleReason, type RoleReason } from '../derivation/roles.ts'

/** The entry that made something what it is. */
export interface CausingEntry {
  id: string
  at: string
  action: string
  actor: { type: Actor['type']; id: string | null }
  requestId: string | null
}

/** A mapping that reaches the member, and what came of it. */
export interface ExplainedRule {
  mappingId: string
  directoryId: string | null
  scimGroupId: string | null
  scimGroupName: string | null
  claimedGroup: string | null
  role: string | null
  groupId: string | null
  /** For its role: gives it, is outranked by a higher one, or gives none. */
  outcome: 'gives_role' | 'outranked' | 'gives_no_role'
  /** The entry that last changed the mapping. */
  changedBy: CausingEntry | null
}

export interface ExplainedAccess {
  memberId: string
  at: string
  status: { value: string; changedBy: CausingEntry | null }
  role: { value: string; why: RoleReason; changedBy: CausingEntry | null }
  groups: { id: string; name: string | null; mappingIds: string[]; changedBy: CausingEntry | null }[]
  rules: ExplainedRule[]
  manual: { role: string; policy: 'floor' | 'locked'; changedBy: CausingEntry | null } | null
  defaultRole: { role: string; changedBy: CausingEntry | null }
}

export interface AccessQuestion {
  workspaceId: string
  memberId: string
  /** ISO 8601; absent: now. */
  at?: string | undefined
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

interface Past {
  status: string
  role: string
  rules: string[]
  manualRole: string | null
  manualPolicy: 'floor' | 'locked' | null
  statusEntry: number | null
  roleEntry: number | null
  manualEntry: number | null
}

interface RuleVersion extends Omit<ExplainedRule, 'outcome' | 'changedBy'> {
  entryId: number
}

/**
 * Why a member has the role and groups that they have, or had at an instant: the rule that gives each, those that lost, and
 * for each the entry that last changed it. Read from the append-only history, so that an answer about the past stays what it was.
 * @throws {AppError} `not_found`, also for whom was no member yet; `at_in_future`, `at_before_history`
 */
export async function explainAccess(db: Db, question: AccessQuestion): Promise<ExplainedAccess> {
  const { workspaceId, memberId, roles } = question
  const { at, until } = await readInstant(db, workspaceId, question.at)
  const past = await readPast(db, { workspaceId, memberId, until })
  if (!past) throw new AppError('not_found', `There was no such member in this workspace at ${at}.`)
  const rules = await readRules(db, { workspaceId, ids: past.rules, until })
  const defaultRole = await readDefaultRole(db, { workspaceId, until })
  const groupIds = [...new Set(rules.flatMap(rule => rule.groupId ?? []))]
  const joined = await readJoined(db, { workspaceId, memberId, groupIds, until })
  const ids = [
    past.statusEntry,
    past.roleEntry,
    past.manualEntry,
    defaultRole.entryId,
    ...rules.map(rule => rule.entryId),
  ]
  const entries = await readEntries(db, workspaceId, [...ids, ...joined.map(each => each.entryId)])
  const entryOf = (id: number | null | undefined) => entries.get(Number(id)) ?? null

  const manual =
    past.manualRole === null || past.manualPolicy === null ? null : { role: past.manualRole, policy: past.manualPolicy }
  const given = rules.map(rule => ({ id: rule.mappingId, role: rule.role }))
  const why = roleReason({ roles, role: past.role, rules: given, manual, defaultRole: defaultRole.role })
  return {
    memberId,
    at,
    status: { value: past.status, changedBy: entryOf(past.statusEntry) },
    role: { value: past.role, why, changedBy: entryOf(past.roleEntry) },
    groups: joined.map(group => ({
      id: group.id,
      name: group.name,
      mappingIds: rules.filter(rule => rule.groupId === group.id).map(rule => rule.mappingId),
      changedBy: entryOf(group.entryId),
    })),
    rules: rules.map(({ entryId, ...rule }) => ({
      ...rule,
      outcome:
        rule.role === null ? 'gives_no_role' : why.mappingIds.includes(rule.mappingId) ? 'gives_role' : 'outranked',
      changedBy: entryOf(entryId),
    })),
    manual: manual && { ...manual, changedBy: entryOf(past.manualEntry) },
    defaultRole: { role: defaultRole.role, changedBy: entryOf(defaultRole.entryId) },
  }
}

interface Until {
  workspaceId: string
  until: string
}

/** What a member was by their last change until an instant, and which changes made each part so. */
async function readPast(
  db: Db,
  { workspaceId, memberId, until }: Until & { memberId: string },
): Promise<Past | undefined> {
  const { rows } = await sql<Past>`
    WITH history AS (
      SELECT id, entry_id, status_before, status_after, role_before, role_after, rules, manual_role, manual_policy,
             (manual_role, manual_policy) IS DISTINCT FROM (lag(manual_role) OVER steps, lag(manual_policy) OVER steps) AS manual_changed
        FROM access_changes
       WHERE workspace_id = ${workspaceId} AND member_id = ${memberId} AND at <= ${until}
      WINDOW steps AS (ORDER BY id)
    )
    SELECT h.status_after AS status, h.role_after AS role, h.rules, h.manual_role AS "manualRole", h.manual_policy AS "manualPolicy",
           (SELECT entry_id FROM history WHERE status_before IS DISTINCT FROM status_after ORDER BY id DESC LIMIT 1) AS "statusEntry",
           (SELECT entry_id FROM history WHERE role_before IS DISTINCT FROM role_after ORDER BY id DESC LIMIT 1) AS "roleEntry",
           (SELECT entry_id FROM history WHERE manual_changed ORDER BY id DESC LIMIT 1) AS "manualEntry"
      FROM history h WHERE h.status_after <> 'withdrawn' ORDER BY h.id DESC LIMIT 1`.execute(db)
  return rows[0]
}

/** What mappings said at an instant. A group's name is the one that it has now, or had last. */
async function readRules(db: Db, { workspaceId, ids, until }: Until & { ids: string[] }): Promise<RuleVersion[]> {
  const { rows } = await sql<RuleVersion>`
    SELECT DISTINCT ON (v.mapping_id) v.mapping_id AS "mappingId", v.directory_id AS "directoryId", v.scim_group_id AS "scimGroupId",
           v.claimed_group AS "claimedGroup", v.role, v.group_id AS "groupId", v.entry_id AS "entryId",
           coalesce(
             (SELECT s.display_name FROM scim_groups s
               WHERE s.workspace_id = v.workspace_id AND s.directory_id = v.directory_id AND s.id = v.scim_group_id),
             (SELECT e.detail ->> 'displayName' FROM activity_entries e
               WHERE e.workspace_id = v.workspace_id AND e.action = 'scim_group.deleted' AND e.target_id = v.scim_group_id::text
               LIMIT 1)) AS "scimGroupName"
      FROM group_mapping_versions v
     WHERE v.workspace_id = ${workspaceId} AND v.mapping_id = ANY (${ids}::uuid[]) AND v.at <= ${until} AND NOT v.is_deleted
     ORDER BY v.mapping_id, v.id DESC`.execute(db)
  return rows
}

/** The groups that the rules gave, and the change by which the member came into each. */
async function readJoined(
  db: Db,
  { workspaceId, memberId, groupIds, until }: Until & { memberId: string; groupIds: string[] },
): Promise<{ id: string; name: string | null; entryId: number | null }[]> {
  const { rows } = await sql<{ id: string; name: string | null; entryId: number | null }>`
    SELECT g.id, ${groupNameAt(sql`g.id`, { workspaceId, until })} AS name,
           (SELECT entry_id FROM access_changes c
             WHERE c.workspace_id = ${workspaceId} AND c.member_id = ${memberId} AND c.at <= ${until} AND g.id = ANY (c.groups_gained)
             ORDER BY c.id DESC LIMIT 1) AS "entryId"
      FROM unnest(${groupIds}::uuid[]) AS g (id) ORDER BY name, g.id`.execute(db)
  return rows
}

/** What an Assist group was called at an instant, by the log: it may be gone since. */
export function groupNameAt(id: ReturnType<typeof sql>, { workspaceId, until }: Until) {
  return sql<string | null>`coalesce(
    (SELECT e.detail ->> 'name' FROM activity_entries e
      WHERE e.workspace_id = ${workspaceId} AND e.action IN ('group.created', 'group.updated') AND e.target_id = ${id}::text
        AND e.at <= ${until}
      ORDER BY e.id DESC LIMIT 1),
    (SELECT name FROM groups WHERE workspace_id = ${workspaceId} AND id = ${id}))`
}

async function readDefaultRole(
  db: Db,
  { workspaceId, until }: Until,
): Promise<{ role: string; entryId: number | null }> {
  const { rows } = await sql<{ role: string; entryId: number | null }>`
    SELECT coalesce(e.role, w.default_role) AS role, e.id AS "entryId"
      FROM workspaces w
      LEFT JOIN LATERAL (
        SELECT id, detail ->> 'defaultRole' AS role,
               lag(detail ->> 'defaultRole') OVER (ORDER BY id) AS before
          FROM activity_entries
         WHERE workspace_id = w.id AND action = 'workspace.saved' AND detail ? 'defaultRole' AND at <= ${until}) e
        ON e.role IS DISTINCT FROM e.before
     WHERE w.id = ${workspaceId} ORDER BY e.id DESC NULLS LAST LIMIT 1`.execute(db)
  const [row] = rows
  if (!row) throw new AppError('not_found', 'There is no such workspace.')
  return row
}

async function readEntries(
  db: Db,
  workspaceId: string,
  ids: readonly (number | null)[],
): Promise<Map<number, CausingEntry>> {
  const wanted = ids.filter(id => id !== null)
  const { rows } = await sql<{
    id: number
    at: string
    action: string
    actorType: Actor['type']
    actorId: string | null
    requestId: string | null
  }>`
    SELECT id, at, action, actor_type AS "actorType", actor_id AS "actorId", request_id AS "requestId"
      FROM activity_entries WHERE workspace_id = ${workspaceId} AND id = ANY (${wanted}::bigint[])`.execute(db)
  return new Map(
    rows.map(({ id, at, action, actorType, actorId, requestId }) => [
      id,
      { id: String(id), at, action, actor: { type: actorType, id: actorId }, requestId },
    ]),
  )
}
