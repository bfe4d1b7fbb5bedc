import { copyFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { makePrivate, run } from '../../src/development/embedded-postgres-place.ts'
import { runSql } from '../../tools/admin-sql.ts'
import type { PostgresServer } from './postgres-server.ts'

/** Folders whose content belongs to the running primary alone (Postgres manual, "Making a Base Backup"). */
const emptied = new Set([
  'pg_wal',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
])
/** Files of the running primary, and its settings, which the standby replaces. */
const left = new Set(['postmaster.pid', 'postmaster.opts', 'postgresql.auto.conf', 'backup_label'])

/**
 * Makes `standby` a streaming, synchronous standby of `primary` by the low-level backup API, because the embedded binaries
 * have no pg_basebackup. From then on an acknowledged commit is on both servers.
 */
export async function attachStandby(primary: PostgresServer, standby: PostgresServer): Promise<void> {
  const { dataDir, account } = standby.place
  await rm(dataDir, { recursive: true, force: true })
  const label = await copyCluster(primary, dataDir)
  await writeFile(join(dataDir, 'backup_label'), label)
  await writeFile(join(dataDir, 'standby.signal'), '')
  const connection = `host=127.0.0.1 port=${primary.port} user=postgres application_name=standby`
  await writeFile(join(dataDir, 'postgresql.auto.conf'), `primary_conninfo = '${connection}'\n`)
  await makePrivate(account, dataDir)
  if (account) await run('chown', ['-R', `${account.uid}:${account.gid}`, dataDir])
  await standby.start()
  await waitUntilStreaming(primary)
  await runSql(primary.url, `ALTER SYSTEM SET synchronous_standby_names = 'standby'`)
  await runSql(primary.url, 'SELECT pg_reload_conf()')
}

/** Ends the primary like a power cut and promotes its standby. */
export async function failOver(primary: PostgresServer, standby: PostgresServer): Promise<void> {
  await primary.kill()
  const [row] = await runSql(standby.url, 'SELECT pg_promote(true, 60) AS promoted')
  if (row?.promoted !== true) throw new Error('The standby was not promoted within 60 s.')
}

/** Copies the files between pg_backup_start and pg_backup_stop, in one session. Returns the backup label. */
async function copyCluster(primary: PostgresServer, target: string): Promise<string> {
  const client = new pg.Client({ connectionString: primary.url })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query(`SELECT pg_backup_start('chaos', true)`)
    await copyFolder(primary.place.dataDir, target, '')
    const { rows } = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)')
    return rows[0]!.labelfile
  } finally {
    await client.end()
  }
}

async function copyFolder(source: string, target: string, path: string): Promise<void> {
  await mkdir(join(target, path), { recursive: true, mode: 0o700 })
  for (const entry of await readdir(join(source, path), { withFileTypes: true })) {
    const name = join(path, entry.name)
    if (entry.isDirectory()) {
      if (emptied.has(name)) await mkdir(join(target, name), { mode: 0o700 })
      else await copyFolder(source, target, name)
    } else if (!left.has(name)) {
      await copyFile(join(source, name), join(target, name)).catch(unlessGone)
    }
  }
}

/** Files come and go while the primary works; the write-ahead log makes up for it. */
function unlessGone(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}

async function waitUntilStreaming(primary: PostgresServer): Promise<void> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await delay(200)) {
    const rows = await runSql(primary.url, `SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'`)
    if (rows.length > 0) return
  }
  throw new Error('The standby did not stream within 60 s.')
}
