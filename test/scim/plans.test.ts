import { sql, type Kysely } from 'kysely'
import t from 'tap'
import { statementNames } from '../../src/db/prepared.ts'
import type { Database } from '../../src/db/tables.ts'
import { makeDirectory, type TestDirectory } from '../helpers/scim.ts'

/**
 * A hot statement is planned once a connection, from what Postgres knows of the tables then. Whatever that is, no plan may
 * read a large table whole, nor all of a directory where it asks for less (docs/decisions/0017).
 */
const large = 'members|scim_users|scim_groups|scim_group_memberships|scim_group_subgroups'
/**
 * These walk a directory in the order of ids, up to the end of a page; and those that touch the groups around somebody read
 * the keys of all groups, where the directories of a database have fewer on average than they look for.
 */
const walks = new Set(['scim_user_page', 'scim_group_page', 'scim_group_delete', 'scim_user_delete'])

const directory = await makeDirectory(t)
const statements = [...statementNames].filter(([, name]) => name.startsWith('scim_'))

async function plansOf(connection: Kysely<Database>, label: string): Promise<void> {
  for (const [text, name] of statements) {
    const values = Array.from({ length: new Set(text.match(/\$\d+/g)).size }, () => 'NULL').join(', ')
    await sql.raw(`PREPARE ${label}_${name} AS ${text}`).execute(connection)
    const call = `EXECUTE ${label}_${name}${values === '' ? '' : ` (${values})`}`
    const plan = await sql.raw<{ 'QUERY PLAN': string }>(`EXPLAIN ${call}`).execute(connection)
    const lines = plan.rows.map(row => row['QUERY PLAN'])
    const whole = lines.filter(line => new RegExp(`Seq Scan on (?:${large})\\b`).test(line))
    t.same(whole, [], `${label}: ${name} reads no large table whole`)
    if (label === 'empty' || walks.has(name)) continue
    // Of members who are owners, or whose sign-ins claimed groups, an index of their own has them, and they are few.
    const conditions = lines.flatMap((line, index) => {
      const isLarge = new RegExp(`Index (?:Only )?Scan using \\S+ on (?:${large})\\b`).test(line)
      return isLarge && !/using members_(?:owners|claimed_groups)/.test(line) ? [lines[index + 1] ?? ''] : []
    })
    for (const condition of conditions) {
      t.match(condition, /Index Cond: .*\b(?:id|\w+_id|\w+_key|\w+_keys)\b/, `${label}: ${name} has a key`)
      const others = condition.replaceAll(/\(?\b(?:workspace_id|directory_id)\b = [^)]+\)?/g, '')
      t.match(others, /\b(?:id|\w+_id|\w+_key|\w+_keys|ctid)\b/, `${label}: ${name} asks for more than the directory`)
    }
  }
}

async function fill({ db, workspaceId, directoryId, createGroup }: TestDirectory): Promise<void> {
  const { id } = await createGroup('Everybody')
  await sql`
    WITH people AS (
      INSERT INTO members (workspace_id, id, status, role, origin)
      SELECT ${workspaceId}, gen_random_uuid(), 'active', 'member', 'directory' FROM generate_series(1, 30000) RETURNING id
    ), users AS (
      INSERT INTO scim_users (workspace_id, directory_id, id, user_name, user_name_key, active, member_id, doc)
      SELECT ${workspaceId}, ${directoryId}, id, id::text, id::text, true, id, '{"schemas":[]}' FROM people RETURNING id
    )
    INSERT INTO scim_group_memberships SELECT ${workspaceId}, ${directoryId}, ${id}, id FROM users`.execute(db)
  await sql`
    WITH groups AS (
      INSERT INTO scim_groups (workspace_id, directory_id, id, display_name, display_name_key, doc)
      SELECT ${workspaceId}, ${directoryId}, gen_random_uuid(), 'g' || n, 'g' || n, '{"schemas":[]}'
        FROM generate_series(1, 5000) n RETURNING id
    ), few AS (
      INSERT INTO scim_group_memberships
      SELECT ${workspaceId}, ${directoryId}, g.id, u.id FROM groups g CROSS JOIN (SELECT id FROM scim_users LIMIT 5) u
    )
    INSERT INTO scim_group_subgroups SELECT ${workspaceId}, ${directoryId}, ${id}, id FROM groups`.execute(db)
}

/** Many small directories: each key of a directory is then rare, as seen from the whole table. */
async function fillOthers({ db, workspaceId, directoryId }: TestDirectory): Promise<void> {
  await sql`
    WITH others AS (
      INSERT INTO workspaces (id, name, default_role) SELECT gen_random_uuid(), 'Other', 'member' FROM generate_series(1, 2000) RETURNING id
    )
    INSERT INTO directories (workspace_id, id, name) SELECT id, gen_random_uuid(), 'Other' FROM others`.execute(db)
  const others = sql`(SELECT workspace_id, id FROM directories WHERE (workspace_id, id) <> (${workspaceId}, ${directoryId}))`
  await sql`
    WITH people AS (
      INSERT INTO members (workspace_id, id, status, role, origin)
      SELECT workspace_id, gen_random_uuid(), 'active', 'member', 'directory' FROM ${others} d, generate_series(1, 10) RETURNING workspace_id, id
    ), users AS (
      INSERT INTO scim_users (workspace_id, directory_id, id, user_name, user_name_key, active, member_id, doc)
      SELECT d.workspace_id, d.id, p.id, p.id::text, p.id::text, true, p.id, '{"schemas":[]}'
        FROM ${others} d JOIN people p ON p.workspace_id = d.workspace_id
      RETURNING workspace_id, directory_id, id
    ), groups AS (
      INSERT INTO scim_groups (workspace_id, directory_id, id, display_name, display_name_key, doc)
      SELECT workspace_id, id, gen_random_uuid(), 'g' || n, 'g' || n, '{"schemas":[]}' FROM ${others} d, generate_series(1, 3) n
      RETURNING workspace_id, directory_id, id
    )
    INSERT INTO scim_group_memberships (workspace_id, directory_id, group_id, user_id)
    SELECT g.workspace_id, g.directory_id, g.id, u.id FROM groups g JOIN users u ON u.directory_id = g.directory_id`.execute(
    db,
  )
}

t.test(
  'no hot statement reads a large table or directory whole, whether planned on empty tables, on stale or on true statistics',
  async t => {
    await directory.db.connection().execute(connection => plansOf(connection, 'empty'))
    await fill(directory)
    await directory.db.connection().execute(connection => plansOf(connection, 'stale'))
    await sql`ANALYZE`.execute(directory.db)
    await directory.db.connection().execute(connection => plansOf(connection, 'analysed'))
    await fillOthers(directory)
    await sql`ANALYZE`.execute(directory.db)
    await directory.db.connection().execute(connection => plansOf(connection, 'crowded'))
    t.ok(statements.length >= 15)
  },
)
