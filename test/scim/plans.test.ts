import { sql, type Kysely } from 'kysely'
import t from 'tap'
import { statementNames } from '../../src/db/prepared.ts'
import type { Database } from '../../src/db/tables.ts'
import { makeDirectory, type TestDirectory } from '../helpers/scim.ts'

/**
 * A hot statement is planned once a connection, from what Postgres knows of the tables then. Whatever that is, no plan may
 * read a large table whole; and once the tables have been analysed, which autovacuum does within a minute of their first
 * rows, none reads all of a directory where it asks for less.
 */
const large = 'members|scim_users|scim_groups|scim_group_members|scim_group_subgroups'
/** These walk a directory in the order of ids, up to the end of a page. */
const walks = new Set(['scim_user_page', 'scim_group_page'])

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
    if (label !== 'analysed' || walks.has(name)) continue
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
    INSERT INTO scim_group_members SELECT ${workspaceId}, ${directoryId}, ${id}, id FROM users`.execute(db)
  await sql`
    WITH groups AS (
      INSERT INTO scim_groups (workspace_id, directory_id, id, display_name, display_name_key, doc)
      SELECT ${workspaceId}, ${directoryId}, gen_random_uuid(), 'g' || n, 'g' || n, '{"schemas":[]}'
        FROM generate_series(1, 5000) n RETURNING id
    ), few AS (
      INSERT INTO scim_group_members
      SELECT ${workspaceId}, ${directoryId}, g.id, u.id FROM groups g CROSS JOIN (SELECT id FROM scim_users LIMIT 5) u
    )
    INSERT INTO scim_group_subgroups SELECT ${workspaceId}, ${directoryId}, ${id}, id FROM groups`.execute(db)
}

t.test(
  'no hot statement reads a large table whole, whether it was planned on empty tables, on stale or on true statistics',
  async t => {
    await directory.db.connection().execute(connection => plansOf(connection, 'empty'))
    await fill(directory)
    await directory.db.connection().execute(connection => plansOf(connection, 'stale'))
    await sql`ANALYZE`.execute(directory.db)
    await directory.db.connection().execute(connection => plansOf(connection, 'analysed'))
    t.ok(statements.length >= 15)
  },
)
