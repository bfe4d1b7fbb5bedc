import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startEmbeddedPostgres } from '../../src/db/embedded-postgres.ts'
import { runSql } from '../helpers/admin-sql.ts'

const folder = await mkdtemp(join(tmpdir(), 'assist-identity-test-'))
await chmod(folder, 0o755)
t.teardown(() => rm(folder, { recursive: true, force: true }))

t.test('data outlives a stop, and the socket and all partial folders are gone after it', async t => {
  const dataDir = join(folder, 'kept', 'postgres')
  const first = await startEmbeddedPostgres({ dataDir, durable: true, log: line => t.fail(line) })
  await runSql(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer')
  await first.stop()
  await t.rejects(runSql(first.url, 'SELECT 1'), { code: 'ENOENT' })

  const second = await startEmbeddedPostgres({ dataDir, durable: true, log: line => t.fail(line) })
  t.strictSame(await runSql(second.url, 'SELECT answer FROM kept'), [{ answer: 42 }])
  await second.stop()
  t.strictSame(await readdir(join(folder, 'kept')), ['postgres'])
})
