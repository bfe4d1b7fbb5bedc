import { mkdtemp, rm } from 'node:fs/promises'
import { createConnection, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { databaseRefusal, openDatabase } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/development/embedded-postgres.ts'
import { migrate } from '../../src/db/migrate.ts'
import { makeApp, makeWorkspace, type TestApp } from '../helpers/app.ts'

/** A Postgres of this test's own, behind a port that stays the same when the server is stopped and started. */
async function makeServer(t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'assist-identity-loss-'))
  const start = () => startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), durable: false, log: () => {} })
  let server = await start()
  const open = new Set<Socket>()
  let isSilent = false
  const proxy = createServer(client => {
    if (isSilent) return void open.add(client)
    const path = join(new URL(server.url).searchParams.get('host') ?? '', '.s.PGSQL.5432')
    const upstream = createConnection(path)
    for (const socket of [client, upstream]) open.add(socket.on('error', () => {}))
    client.pipe(upstream).on('close', () => client.destroy())
    upstream.pipe(client).on('close', () => upstream.destroy())
  })
  await new Promise<void>(listening => void proxy.listen(0, '127.0.0.1', listening))
  const { port } = proxy.address() as AddressInfo
  t.teardown(async () => {
    for (const socket of open) socket.destroy()
    proxy.close()
    await server.stop()
    for (const path of [server.dataDir, folder]) await rm(path, { recursive: true, force: true })
  })
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  await migrate(url)
  return {
    url,
    stop: () => server.stop(),
    /** As when its host is gone: nothing is answered, and nothing is refused. */
    silence: () => {
      isSilent = true
      for (const socket of open) socket.pause().unpipe()
    },
    hangUp: () => {
      for (const socket of open) socket.destroy()
    },
    start: async () => void (server = await start()),
  }
}

t.test(
  'while the database is away every edge says 503 and when to come back; afterwards all is well by itself',
  async t => {
    const server = await makeServer(t)
    const test = await makeApp(t, { replicaOf: { databaseUrl: server.url } as TestApp })
    const { app } = test
    const { url, headers } = await makeWorkspace(test)
    const { id } = (
      await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { name: 'Okta' } })
    ).json()
    const tokens = `${url}/directories/${id}/tokens`
    const { token } = (await app.inject({ method: 'POST', url: tokens, headers })).json()
    const scim = { url: `/scim/v2/${id}/Users`, headers: { authorization: `Bearer ${token}` } }
    t.equal((await app.inject(scim)).statusCode, 200)

    await server.stop()
    const [admin, ready] = [await app.inject({ url: `${url}/members`, headers }), await app.inject({ url: '/readyz' })]
    for (const reply of [admin, ready]) {
      t.match(reply.json(), { status: 503, code: 'unavailable' })
      t.ok(Number(reply.headers['retry-after']) > 0)
    }
    for (const request of [scim, { ...scim, headers: { authorization: `Bearer ${token.slice(0, -4)}AAAA` } }]) {
      const reply = await app.inject(request)
      t.equal(reply.statusCode, 503, 'never 401 or 404, on which identity providers give up')
      t.match(reply.headers['content-type'], /^application\/scim\+json/)
      t.match(reply.json(), { status: '503', schemas: ['urn:ietf:params:scim:api:messages:2.0:Error'] })
      t.ok(Number(reply.headers['retry-after']) > 0)
    }
    t.equal((await app.inject({ url: '/healthz' })).statusCode, 200, 'the process is alive')

    await server.start()
    t.equal((await app.inject({ url: `${url}/members`, headers })).statusCode, 200)
    t.equal((await app.inject(scim)).statusCode, 200)
    t.equal((await app.inject({ url: '/readyz' })).statusCode, 200)
  },
)

t.test('a connection lost or silent between two statements ends their transaction, and not the process', async t => {
  const server = await makeServer(t)
  const lost: Error[] = []
  const db = openDatabase({
    url: server.url,
    statementTimeoutMs: 100,
    onConnectionLost: event => void lost.push(event),
  })
  const { app } = await makeApp(t, { replicaOf: { databaseUrl: server.url } as TestApp })
  t.teardown(() => db.destroy())
  const failureOf = (interrupt: () => unknown) =>
    db
      .transaction()
      .execute(async trx => {
        await sql`SELECT 1`.execute(trx)
        await interrupt()
        await sql`SELECT 1`.execute(trx)
      })
      .catch((error: unknown) => error)

  t.match(databaseRefusal(await failureOf(server.stop)), { code: 'unavailable' })
  t.ok(lost.length > 0, 'the log hears of it')
  await server.start()
  t.same((await sql`SELECT 1 AS one`.execute(db)).rows, [{ one: 1 }])
  t.equal((await app.inject({ url: '/readyz' })).statusCode, 200)

  const silent = Promise.withResolvers<void>()
  const failure = failureOf(() => {
    server.silence()
    silent.resolve()
  })
  await silent.promise
  t.match((await app.inject({ url: '/readyz' })).json(), { status: 503, code: 'unavailable' })
  t.match(databaseRefusal(await failure), { code: 'unavailable' })
  server.hangUp()
})

t.test('a database without the tables of this release is not ready, and says which migrations are pending', async t => {
  const server = await makeServer(t)
  const db = openDatabase({ url: server.url })
  await db.deleteFrom('schema_migrations' as never).execute()
  await db.destroy()
  const { app } = await makeApp(t, { replicaOf: { databaseUrl: server.url } as TestApp })
  t.match((await app.inject({ url: '/readyz' })).json(), { code: 'unavailable', detail: /0001_workspaces/ })
})

t.test('a request that needs what migrations have yet to bring is told to come back', async t => {
  const test = await makeApp(t)
  const { app, db } = test
  const { url, headers } = await makeWorkspace(test)
  const { id } = (
    await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { name: 'Okta' } })
  ).json()
  const { token } = (await app.inject({ method: 'POST', url: `${url}/directories/${id}/tokens`, headers })).json()
  const scim = { url: `/scim/v2/${id}/Users`, headers: { authorization: `Bearer ${token}` } }
  const admin = { url: `${url}/members`, headers }
  for (const change of [
    sql`ALTER TABLE members RENAME COLUMN role TO former_role`,
    sql`ALTER TABLE members RENAME TO former_members`,
  ]) {
    await change.execute(db)
    for (const request of [admin, { ...scim, method: 'POST' as const, payload: { userName: 'ana@example.com' } }]) {
      const reply = await app.inject(request)
      t.equal(reply.statusCode, 503, reply.body)
      t.ok(Number(reply.headers['retry-after']) > 0)
    }
  }
})
