import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { migrate } from '../src/db/migrate.ts'
import { onDatabase, runSql } from '../tools/admin-sql.ts'
import { makeApp } from './helpers/app.ts'
import { makeDatabase } from './helpers/database.ts'
import { makeDirectory } from './helpers/scim.ts'
import { tableTypes } from '../tools/table-types.ts'

const root = join(import.meta.dirname, '..')
const files = (await readdir(join(root, 'migrations'))).filter(name => name.endsWith('.sql'))
const names = files.map(name => name.replace(/\.sql$/, '')).toSorted()

t.test('of three processes that migrate an empty database at once, one does and two wait', async t => {
  const url = await makeEmptyDatabase(t)
  const env = { ...process.env, DATABASE_URL: url }
  const script = join(root, 'scripts/migrate.ts')
  const runs = await Promise.all([1, 2, 3].map(() => promisify(execFile)(process.execPath, [script], { env })))
  t.same(runs.map(({ stdout }) => stdout.trim()).toSorted(), [
    `Applied ${names.join(', ')}.`,
    'Nothing to do.',
    'Nothing to do.',
  ])
})

t.test('a database that is away or unknown is one sentence without the password, and exit code 1', async t => {
  const unknown = new URL(onDatabase(process.env['TEST_ADMIN_URL']!, 'no_such_database'))
  unknown.password = 'known-to-us'
  for (const url of ['postgres://me:known-to-us@127.0.0.1:1/there', unknown.href]) {
    const env = { ...process.env, DATABASE_URL: url }
    const run = promisify(execFile)(process.execPath, [join(root, 'scripts/migrate.ts')], { env })
    const { code, stderr } = await run.then(
      () => ({ code: 0, stderr: '' }),
      (error: { code: number; stderr: string }) => error,
    )
    t.equal(code, 1)
    t.match(stderr, /^The database at [^\n]+ cannot be reached: [^\n]+\.\n$/)
    t.notMatch(stderr, 'known-to-us')
  }
})

t.test('a migration that fails leaves nothing behind, and the next attempt does it all', async t => {
  const url = await makeEmptyDatabase(t)
  // In the way of the last file that makes a table: all those before it have been applied when it fails.
  const texts = await Promise.all(names.map(async name => readFile(join(root, `migrations/${name}.sql`), 'utf8')))
  const table = texts.flatMap(file => /CREATE TABLE (\w+)/.exec(file)?.[1] ?? []).at(-1)
  await runSql(url, `CREATE TABLE ${table} (obstacle boolean)`)
  await t.rejects(migrate(url), { message: 'The migration failed and nothing of it was kept.' })
  const tables = await runSql(url, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
  t.same(new Set(tables.map(each => each.tablename)), new Set([table, 'schema_migrations', 'schema_migrations_lock']))
  await runSql(url, `DROP TABLE ${table}`)
  t.same(await migrate(url), names)
})

t.test('src/db/tables.ts is what the migrated database says: `npm run db:types`', async t => {
  const { db } = await makeDatabase(t)
  t.equal(await readFile(join(root, 'src/db/tables.ts'), 'utf8'), await tableTypes(db))
})

t.test('migrations are numbered without a gap and only ever go forward', async t => {
  t.same(
    names.map(name => name.slice(0, 5)),
    names.map((_name, index) => `${String(index + 1).padStart(4, '0')}_`),
  )
  t.ok(names.every(name => /^\d{4}_[a-z_]+$/.test(name)))
})

t.test('a merged migration is never edited: each file has the checksum of migrations/SHA256SUMS', async t => {
  const sums = (await readFile(join(root, 'migrations/SHA256SUMS'), 'utf8')).trim().split('\n').toSorted()
  const actual = names.map(async name => {
    const text = await readFile(join(root, `migrations/${name}.sql`))
    return `${createHash('sha256').update(text).digest('hex')}  ${name}.sql`
  })
  t.same((await Promise.all(actual)).toSorted(), sums, 'add new files with `sha256sum *.sql > SHA256SUMS`; edit none')
})

t.test('a database of another line of versions is refused in one sentence and left as it is', async t => {
  const made = await makeApp(t)
  await sql`UPDATE schema_migrations SET name = '0004_of_another_line' WHERE name = ${names[3]}`.execute(made.db)
  const before = await sql`SELECT name FROM schema_migrations ORDER BY name`.execute(made.db)
  await t.rejects(migrate(made.databaseUrl), { message: /0004_of_another_line.* lacks 0004_.*new database/ })
  t.same((await sql`SELECT name FROM schema_migrations ORDER BY name`.execute(made.db)).rows, before.rows)
})

t.test('a release starts and runs on a database that the next one has migrated already', async t => {
  const made = await makeApp(t)
  await sql`INSERT INTO schema_migrations (name, timestamp) VALUES ('9999_of_the_next_release', '')`.execute(made.db)
  t.same(await migrate(made.databaseUrl), [])
  t.equal((await made.app.inject('/readyz')).statusCode, 200)
})

t.test('a replica whose database lacks a migration is not ready, and says which', async t => {
  const made = await makeApp(t)
  await sql`DELETE FROM schema_migrations WHERE name = ${names.at(-1)}`.execute(made.db)
  const reply = await made.app.inject('/readyz')
  t.equal(reply.statusCode, 503)
  t.match(reply.json(), { code: 'unavailable', detail: new RegExp(names.at(-1)!) })
})

async function makeEmptyDatabase(t: Test): Promise<string> {
  const { TEST_ADMIN_URL: adminUrl, TEST_TEMPLATE: template } = process.env
  const name = `${template}_${randomBytes(6).toString('hex')}`
  await runSql(adminUrl!, `CREATE DATABASE ${name}`)
  t.teardown(() => runSql(adminUrl!, `DROP DATABASE ${name} WITH (FORCE)`))
  return onDatabase(adminUrl!, name)
}

t.test(
  '0007 gives names their comparison key; of two that look the same both stay, and an entry names them',
  async t => {
    const { createUser, get, patch, db, directoryId, workspaceId, send } = await makeDirectory(t)
    const first = await createUser({ userName: 'jos\u00e9' })
    const second = await createUser({ userName: 'temporary' })
    const alone = await createUser({ userName: 'fullwidth' })
    const stored = async (id: string, name: string, key: string) =>
      sql`UPDATE scim_users SET user_name = ${name}, user_name_key = ${key},
               doc = jsonb_set(doc::jsonb, '{userName}', to_jsonb(${name}::text))::json WHERE id = ${id}`.execute(db)
    await stored(second.id, 'jose\u0301', 'jose\u0301')
    await stored(alone.id, '\uff21nn', '\uff41nn')
    const text = await readFile(join(root, 'migrations/0007_comparison_keys.sql'), 'utf8')
    await db.connection().execute(async connection => sql.raw(text).execute(connection))
    const keys = await db
      .selectFrom('scim_users')
      .select(['id', 'user_name_key'])
      .where('directory_id', '=', directoryId)
      .execute()
    const keyOf = (id: string) => keys.find(each => each.id === id)?.user_name_key
    t.equal(keyOf(first.id), 'jos\u00e9')
    t.equal(keyOf(second.id), 'jose\u0301', 'the second keeps its key')
    t.equal(keyOf(alone.id), 'ann')
    t.match(await get('/Users?filter=userName%20eq%20%22ann%22'), { totalResults: 1 })
    const conflicts = await db
      .selectFrom('activity_entries')
      .selectAll()
      .where('action', '=', 'scim_user.name_conflict')
      .execute()
    t.match(conflicts, [{ workspace_id: workspaceId, target_id: second.id, detail: { sameNameAs: first.id } }])
    t.equal((await patch(`/Users/${second.id}`, { op: 'replace', path: 'title', value: 'x' })).statusCode, 200)
    t.equal((await patch(`/Users/${second.id}`, { op: 'replace', path: 'active', value: false })).statusCode, 200)
    const renamed = await patch(`/Users/${second.id}`, { op: 'replace', path: 'userName', value: 'joseph' })
    t.equal(renamed.statusCode, 200)
    t.match(await get('/Users?filter=userName%20eq%20%22JOSEPH%22'), { totalResults: 1 })
    t.equal((await send('DELETE', `/Users/${second.id}`)).statusCode, 204)
  },
)
