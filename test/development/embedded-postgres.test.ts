import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import t from 'tap'
import { makeDemoFolder } from '../../scripts/demo/folder.ts'
import { startEmbeddedPostgres } from '../../src/development/embedded-postgres.ts'
import { runSql } from '../../tools/admin-sql.ts'

// Open, in a folder that is open, to the account that root lends to Postgres.
const folder = await mkdtemp('/tmp/assist-identity-test-')
await chmod(folder, 0o755)
t.teardown(() => rm(folder, { recursive: true, force: true }))

const dataDir = join(folder, 'kept', 'postgres')

function start() {
  return startEmbeddedPostgres({ dataDir, durable: true, log: line => t.fail(line) })
}

function socketDir(url: string): string {
  return new URL(url).searchParams.get('host')!
}

t.test('a stop keeps the data, and leaves neither a socket nor a half-made folder', async t => {
  const first = await start()
  await runSql(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer')
  await first.stop()
  await t.rejects(stat(socketDir(first.url)), { code: 'ENOENT' })
  t.strictSame(await readdir(dirname(dataDir)), ['postgres'])

  const second = await start()
  t.teardown(second.stop)
  t.strictSame(await runSql(second.url, 'SELECT answer FROM kept'), [{ answer: 42 }])
})

t.test('an open connection does not hold up a stop', async t => {
  const server = await start()
  const sleeping = runSql(server.url, 'SELECT pg_sleep(60)')
  // It is told so (57P01), unless the end of the process is heard first.
  const ended = t.rejects(sleeping, { code: /^(?:57P01|ECONNRESET)$/ })
  await runSql(server.url, 'SELECT 1')
  await server.stop()
  await ended
})

t.test(
  'the server speaks UTC and UTF-8, is reached through a private socket only, and is durable if asked',
  async t => {
    const server = await start()
    t.teardown(server.stop)
    const [settings] = await runSql(
      server.url,
      `SELECT current_setting('TimeZone') AS timezone, current_setting('server_encoding') AS encoding,
      current_setting('listen_addresses') AS addresses, current_setting('fsync') AS fsync`,
    )
    t.strictSame(settings, { timezone: 'UTC', encoding: 'UTF8', addresses: '', fsync: 'on' })
    t.equal((await stat(socketDir(server.url))).mode & 0o777, 0o700)
  },
)

t.test('a server ends with the process that started it, and a successor finds all that was committed', async t => {
  const program = `
    import { startEmbeddedPostgres } from './src/development/embedded-postgres.ts'
    const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, durable: true, log() {} })
    console.log(server.url)
    setInterval(() => {}, 1_000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  await runSql(line.toString().trim(), 'CREATE TABLE committed AS SELECT 1 AS one')
  child.kill('SIGKILL')

  const successor = await start()
  t.teardown(successor.stop)
  t.strictSame(await runSql(successor.url, 'SELECT one FROM committed'), [{ one: 1 }])
})

const skip = process.getuid?.() !== 0 && 'only root lends the server another account'
t.test(
  'data asked for in a folder closed to the account of the server goes elsewhere, which is logged',
  { skip },
  async t => {
    const closed = join(folder, 'closed')
    await mkdir(closed, { mode: 0o700 })
    const lines: string[] = []
    const log = (line: string) => lines.push(line)
    const server = await startEmbeddedPostgres({ dataDir: join(closed, 'postgres'), durable: false, log })
    t.teardown(() => rm(server.dataDir, { recursive: true }))
    t.teardown(server.stop)
    t.match(lines, [`Postgres keeps its data in ${server.dataDir}: `])
    t.strictSame(await readdir(closed), [])
    t.strictSame(await runSql(server.url, 'SELECT 1 AS one'), [{ one: 1 }])
  },
)

t.test('a data folder in use is refused with advice, and its server is left alone', async t => {
  const server = await start()
  t.teardown(server.stop)
  await t.rejects(start(), /Another Postgres uses .*: stop the process that started it, or set DATABASE_URL\./)
  t.strictSame(await runSql(server.url, 'SELECT 1 AS one'), [{ one: 1 }])
})

t.test('a failed start repeats what Postgres said', async t => {
  const broken = join(folder, 'broken')
  const server = await startEmbeddedPostgres({ dataDir: broken, durable: false, log: line => t.fail(line) })
  await server.stop()
  await rm(join(broken, 'PG_VERSION'))
  await t.rejects(startEmbeddedPostgres({ dataDir: broken, durable: false, log() {} }), /PG_VERSION/)
})

t.test('the end of a server that nobody stopped is logged', async t => {
  const { promise: logged, resolve: log } = Promise.withResolvers<string>()
  const server = await startEmbeddedPostgres({ dataDir: join(folder, 'ending'), durable: false, log })
  const [row] = await runSql(server.url, `SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int AS pid`)
  process.kill(Number(row?.pid), 'SIGINT')
  t.match(await logged, /^Postgres ended by itself:\n/)
  await server.stop()
})

t.test('a demo removes what demos that were killed have left, and nothing of those that run', async t => {
  const { TMPDIR: before } = process.env
  process.env['TMPDIR'] = join(folder, 'temporary')
  t.teardown(() => (before === undefined ? delete process.env['TMPDIR'] : (process.env['TMPDIR'] = before)))
  const dead = spawn('true')
  await once(dead, 'exit')
  const [left, running] = [`assist-identity-demo-${dead.pid}-abcdef`, `assist-identity-demo-${process.ppid}-abcdef`]
  for (const name of [left, running, 'assist-identity-demo-', 'other']) {
    await mkdir(join(folder, 'temporary', name, 'postgres'), { recursive: true })
  }
  const made = await makeDemoFolder()
  const names = await readdir(join(folder, 'temporary'))
  t.same(names.toSorted(), [running, 'assist-identity-demo-', 'other', basename(made)].toSorted())
})
