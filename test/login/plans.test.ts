import { sql, type Kysely } from 'kysely'
import t from 'tap'
import { statementNames } from '../../src/db/prepared.ts'
import type { Database } from '../../src/db/tables.ts'
import { makeDatabase } from '../helpers/database.ts'

// Names the statements of the whole service.
await import('../../src/app.ts')
const { db } = await makeDatabase(t)
const statements = new Map([...statementNames].map(([text, name]) => [name, text]))

/** What each use of a session and each step of a sign-in costs, however many of them the workspace has. */
for (const name of [
  'session_by_token',
  'session_by_id',
  'exchange_code_redeem',
  'login_attempt_take',
  'login_attempt_outcome',
  'login_start_session',
]) {
  t.test(`${name} reads each table by a whole key, also where it was planned on empty tables`, async t => {
    const conditions = await db.connection().execute(connection => indexConditions(connection, name))
    t.ok(conditions.length > 0)
    for (const condition of conditions) t.match(condition, / AND /, 'not by the workspace alone')
  })
}

async function indexConditions(connection: Kysely<Database>, name: string): Promise<string[]> {
  const text = statements.get(name)!
  const parameters = new Set(text.match(/\$\d+/g)).size
  await sql.raw(`PREPARE ${name} AS ${text}`).execute(connection)
  const values = Array<string>(parameters).fill('NULL').join(', ')
  const plan = await sql.raw<{ 'QUERY PLAN': string }>(`EXPLAIN EXECUTE ${name} (${values})`).execute(connection)
  return plan.rows.map(row => row['QUERY PLAN']).filter(line => line.includes('Index Cond:'))
}
