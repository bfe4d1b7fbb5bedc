import { sql, type Kysely } from 'kysely'
import t from 'tap'
import { statementNames } from '../../src/db/prepared.ts'
import type { Database } from '../../src/db/tables.ts'
import { makeDatabase } from '../helpers/database.ts'

// Names the statements of the whole service.
await import('../../src/app.ts')
const { db } = await makeDatabase(t)
const statements = new Map([...statementNames].map(([text, name]) => [name, text]))

/** Tables of which a workspace has one row, or as many as its admins have made by hand. */
const fewInAWorkspace = / on (sso_configs|sign_in_policies|domains|sso_client_credentials|directories|workspaces)/

/** What each use of a session and each step of a sign-in costs, however many of them the workspace has. */
for (const name of [
  'session_by_token',
  'session_by_id',
  'exchange_code_redeem',
  'sign_in_attempt_take',
  'sign_in_attempt_outcome',
  'sign_in_start_session',
  'linking_facts',
  'linking_lock',
  'sign_in_provision',
  'sign_in_link',
]) {
  t.test(`${name} reads each table by a whole key, also where it was planned on empty tables`, async t => {
    const scans = await db.connection().execute(connection => indexScans(connection, name))
    t.ok(scans.length > 0)
    const read = scans.filter(scan => !fewInAWorkspace.test(scan))
    for (const scan of read) t.match(scan, / AND |email_keys @>/, 'not by the workspace alone')
  })
}

/** Each scan of an index with its condition. */
async function indexScans(connection: Kysely<Database>, name: string): Promise<string[]> {
  const text = statements.get(name)!
  const parameters = new Set(text.match(/\$\d+/g)).size
  await sql.raw(`PREPARE ${name} AS ${text}`).execute(connection)
  const values = Array<string>(parameters).fill('NULL').join(', ')
  const plan = await sql.raw<{ 'QUERY PLAN': string }>(`EXPLAIN EXECUTE ${name} (${values})`).execute(connection)
  const lines = plan.rows.map(row => row['QUERY PLAN'])
  return lines.flatMap((line, at) => (line.includes('Index Cond:') ? [`${lines[at - 1]} ${line.trim()}`] : []))
}
