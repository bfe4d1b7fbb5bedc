import { sql } from 'kysely'
import t from 'tap'
import { retryDeadlocks } from '../../src/db/database.ts'
import { prepared } from '../../src/db/prepared.ts'
import { makeDatabase } from '../helpers/database.ts'

t.test('a hot statement is one named statement, its parameters numbered once however often they are used', async t => {
  const { db } = await makeDatabase(t)
  const add = prepared<{ left: number; right: number }, { sum: number }>(
    'test_add',
    ({ left, right }) => sql`SELECT ${left}::int + ${right}::int + ${left}::int AS sum`,
  )
  await db.connection().execute(async connection => {
    t.same(await add(connection, { right: 2, left: 1 }), [{ sum: 4 }])
    const { rows } = await sql`SELECT name, statement FROM pg_prepared_statements`.execute(connection)
    t.same(rows, [{ name: 'test_add', statement: 'SELECT $1::int + $2::int + $1::int AS sum' }])
  })
  t.throws(() => prepared('test_add', () => sql`SELECT 2`), { message: /test_add is taken/ })
  t.throws(() => prepared('test_value', () => sql`SELECT ${5}`), { message: /not one of its parameters/ })
})

t.test('a hot statement gives the same rows each time: nulls, many, none, and none to give', async t => {
  const { db } = await makeDatabase(t)
  const count = prepared<{ from: number; to: number | null }, { n: number; text: string | null; at: string }>(
    'test_count',
    ({ from, to }) => sql`
      SELECT n, CASE WHEN n > 1 THEN 'n' || n END AS text, '2026-01-02 03:04:05.6+02'::timestamptz AS at
        FROM generate_series(${from}::int, ${to}::int) n`,
  )
  const nothing = prepared<{ name: string }, never>(
    'test_nothing',
    ({ name }) => sql`DELETE FROM workspaces WHERE name = ${name}`,
  )
  await db.connection().execute(async connection => {
    for (let time = 1; time <= 2; time++) {
      const at = '2026-01-02T01:04:05.600Z'
      t.same(await count(connection, { from: 1, to: 2 }), [
        { n: 1, text: null, at },
        { n: 2, text: 'n2', at },
      ])
      t.same(await count(connection, { from: 1, to: null }), [])
      t.same(await nothing(connection, { name: 'nobody' }), [])
    }
  })
})

t.test('a hot statement that fails, in Postgres or before, leaves its connection as it was', async t => {
  const { db } = await makeDatabase(t)
  const divide = prepared<{ by: number }, { result: number }>(
    'test_divide',
    ({ by }) => sql`SELECT 6 / ${by}::int AS result`,
  )
  const keep = prepared<{ doc: object }, { doc: string }>('test_keep', ({ doc }) => sql`SELECT ${doc}::json AS doc`)
  const circular: { self?: object } = {}
  circular.self = circular
  await db.connection().execute(async connection => {
    await t.rejects(divide(connection, { by: 0 }), { code: '22012' })
    t.same(await divide(connection, { by: 3 }), [{ result: 2 }])
    await t.rejects(divide(connection, { by: 0 }), { code: '22012' })
    t.same(await divide(connection, { by: 2 }), [{ result: 3 }])
    await t.rejects(keep(connection, { doc: circular }), { message: /circular/ })
    t.same(await keep(connection, { doc: { a: 1 } }), [{ doc: '{"a":1}' }])
  })
})

t.test(
  'a migration that changes what a hot statement gives is refused by connections that know it, never misread',
  async t => {
    const { db } = await makeDatabase(t)
    await sql`CREATE TABLE changing (value int); INSERT INTO changing VALUES (7)`.execute(db)
    const read = prepared<object, { value: number | string }>('test_changing', () => sql`SELECT value FROM changing`)
    await db.connection().execute(async connection => {
      t.same(await read(connection, {}), [{ value: 7 }])
      await sql`ALTER TABLE changing ALTER value TYPE text`.execute(db)
      await t.rejects(read(connection, {}), { code: '0A000' })
      await db.connection().execute(async another => t.same(await read(another, {}), [{ value: '7' }]))
    })
  },
)

t.test('json arrives as the text that was stored, instants as ISO 8601 in UTC, big numbers as numbers', async t => {
  const { db } = await makeDatabase(t)
  const { rows } = await sql`
    SELECT '{"b": 1,  "a":2}'::json AS doc, '2026-01-02 03:04:05.6+02'::timestamptz(3) AS at, 5000000000::bigint AS big`.execute(
    db,
  )
  t.same(rows, [{ doc: '{"b": 1,  "a":2}', at: '2026-01-02T01:04:05.600Z', big: 5_000_000_000 }])
})

t.test('a deadlock is tried again three times at most, anything else not at all', async t => {
  let attempts = 0
  const fail = (code: string, times: number) => async () => {
    attempts++
    if (attempts <= times) throw Object.assign(new Error('victim'), { code })
    return 'done'
  }
  t.equal(await retryDeadlocks(fail('40P01', 3)), 'done')
  t.equal(attempts, 4)
  attempts = 0
  await t.rejects(retryDeadlocks(fail('40P01', 4)), { code: '40P01' })
  attempts = 0
  await t.rejects(retryDeadlocks(fail('23505', 1)), { code: '23505' })
  t.equal(attempts, 1)
})

t.test('of two transactions that Postgres finds in a deadlock both are done in the end', async t => {
  const { db } = await makeDatabase(t)
  const bothHoldOne = Promise.withResolvers<undefined>()
  let holding = 0
  let attempts = 0
  const lockBoth = async (first: number, second: number) =>
    retryDeadlocks(async () => {
      attempts++
      return db.transaction().execute(async trx => {
        await sql`SELECT pg_advisory_xact_lock(${first}::bigint)`.execute(trx)
        if (++holding === 2) bothHoldOne.resolve(undefined)
        await bothHoldOne.promise
        await sql`SELECT pg_advisory_xact_lock(${second}::bigint)`.execute(trx)
        return `${first}, ${second}`
      })
    })
  t.same(await Promise.all([lockBoth(1, 2), lockBoth(2, 1)]), ['1, 2', '2, 1'])
  t.ok(attempts > 2, 'one of them was the victim, and ran again')
})
