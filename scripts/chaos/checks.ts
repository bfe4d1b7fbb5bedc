import { runSql } from '../../tools/admin-sql.ts'
import type { Client } from './client.ts'
import type { Fact, Facts } from './facts.ts'
import { bearer, type Workspace } from './workload.ts'

/** What the run has left, compared with what was acknowledged. Returns each difference in words. */
export async function findDifferences(
  { client, facts, workspace }: { client: Client; facts: Facts; workspace: Workspace },
  databaseUrl: string,
): Promise<string[]> {
  const { workspaceId } = workspace
  const query = (text: string) => runSql(databaseUrl, text.replaceAll('$workspace', `'${workspaceId}'`))
  const users = await query(
    `SELECT id, user_name AS key, doc::json->>'displayName' AS name, active FROM scim_users WHERE workspace_id = $workspace`,
  )
  const scimGroups = await query(
    `SELECT id, display_name AS key, '' AS name, true AS active FROM scim_groups WHERE workspace_id = $workspace`,
  )
  const groups = await query(
    `SELECT id, split_part(name, ' ', 1) AS key, name, true AS active FROM groups WHERE workspace_id = $workspace`,
  )
  return [
    ...compare('user', facts.users, users),
    ...compare('SCIM group', facts.scimGroups, scimGroups),
    ...compare('group', facts.groups, groups),
    ...missing(
      'session',
      facts.sessions.map(each => each.id),
      await query(`SELECT id::text FROM sessions WHERE workspace_id = $workspace`),
    ),
    ...missing(
      'activity entry',
      [...facts.entries],
      await query(`SELECT id::text FROM activity_entries WHERE workspace_id = $workspace`),
    ),
    ...(await brokenRules(query)),
    ...(await repaired(client, workspace)),
    ...(await refusedSessions(client, { facts, workspace })),
  ]
}

function compare(kind: string, facts: Fact[], rows: Record<string, unknown>[]): string[] {
  const byKey = Map.groupBy(rows, row => String(row.key))
  return facts.flatMap(({ key, id, created, deleted, names, active }) => {
    const found = byKey.get(key) ?? []
    const [row] = found
    if (found.length > 1) return [`${kind} ${key} exists ${found.length} times`]
    if (row === undefined)
      return created === 'yes' && deleted === 'no' ? [`${kind} ${key} was acknowledged and is lost`] : []
    if (deleted === 'yes') return [`${kind} ${key} was deleted and exists`]
    if (id !== undefined && row.id !== id) return [`${kind} ${key} has another id`]
    if (!names.has(String(row.name)))
      return [`${kind} ${key} is named ${String(row.name)}, not ${[...names].join(' or ')}`]
    return active.has(Boolean(row.active)) ? [] : [`${kind} ${key} has active ${String(row.active)}`]
  })
}

function missing(kind: string, ids: string[], rows: Record<string, unknown>[]): string[] {
  const found = new Set(rows.map(row => row.id))
  return ids.filter(id => !found.has(id)).map(id => `${kind} ${id} was returned and is lost`)
}

const entries = (action: string) =>
  `(SELECT count(*) FROM activity_entries WHERE workspace_id = $workspace AND outcome = 'succeeded' AND action = '${action}')`
const rows = (table: string) => `(SELECT count(*) FROM ${table} WHERE workspace_id = $workspace)`
const counted = (type: string) =>
  `(SELECT coalesce(sum(total), 0) FROM scim_counters WHERE workspace_id = $workspace AND resource_type = '${type}')`

/** Rules between tables, each with the number of rows that break it. */
async function brokenRules(query: (text: string) => Promise<Record<string, unknown>[]>): Promise<string[]> {
  const broken = await query(`
    SELECT rule, off FROM (VALUES
      ('users created less users deleted, by entries', ${entries('scim_user.created')} - ${entries('scim_user.deleted')} - ${rows('scim_users')}),
      ('SCIM groups created, by entries', ${entries('scim_group.created')} - ${rows('scim_groups')}),
      ('groups created, by entries', ${entries('group.created')} - ${rows('groups')}),
      ('counted users', ${counted('User')} - ${rows('scim_users')}),
      ('counted SCIM groups', ${counted('Group')} - ${rows('scim_groups')}),
      ('changes of access without an entry', (SELECT count(*) FROM access_changes c WHERE workspace_id = $workspace AND NOT EXISTS (
        SELECT FROM activity_entries e WHERE e.workspace_id = c.workspace_id AND e.id = c.entry_id))),
      ('members whose newest change is not their role', (SELECT count(*) FROM members m
        JOIN LATERAL (SELECT role_after, status_after FROM access_changes c WHERE c.workspace_id = m.workspace_id
          AND c.member_id = m.id ORDER BY c.id DESC LIMIT 1) c ON true
        WHERE m.workspace_id = $workspace AND (c.role_after, c.status_after) IS DISTINCT FROM (m.role, m.status::text)))
    ) AS rules (rule, off) WHERE off <> 0`)
  return broken.map(({ rule, off }) => `${String(rule)}: off by ${String(off)}`)
}

/** Reconcile derives the access of every member again and reports how many stored results differed. */
async function repaired(client: Client, { baseUrl, workspaceId, adminToken }: Workspace): Promise<string[]> {
  const url = `${baseUrl}/v1/workspaces/${workspaceId}/access/reconcile`
  const reply = await client.send('POST', url, { headers: bearer(adminToken) })
  if (reply?.status !== 200) return [`reconcile answers ${reply?.status}`]
  return reply.body.repaired === 0 ? [] : [`reconcile repaired ${reply.body.repaired} members`]
}

async function refusedSessions(
  client: Client,
  { facts, workspace }: { facts: Facts; workspace: Workspace },
): Promise<string[]> {
  const refused: string[] = []
  for (const { id, cookie } of facts.sessions) {
    const reply = await client.send('GET', `${workspace.baseUrl}/v1/session`, { headers: { cookie } })
    if (reply?.status !== 200) refused.push(`session ${id} gets ${reply?.status ?? 'no reply'}`)
  }
  return refused
}
