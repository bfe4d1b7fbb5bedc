import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  findPlace,
  makePrivate,
  processOptions,
  run,
  type Place,
} from '../../src/development/embedded-postgres-place.ts'
import { runSql } from '../../tools/admin-sql.ts'
import { freePort } from './free-port.ts'

/** A Postgres on loopback that can be hurt. */
export interface PostgresServer {
  place: Place
  port: number
  url: string
  /** Starts and waits until it takes connections. */
  start: () => Promise<void>
  /** SIGINT, the fast shutdown: ends connections and writes a checkpoint. */
  stop: () => Promise<void>
  /** SIGKILL for the server and all of its processes, like a power cut of the machine. */
  kill: () => Promise<void>
  /** SIGSTOP for all of its processes: connections stay open and nothing replies. */
  freeze: () => Promise<void>
  thaw: () => void
}

/** How long a start may take, crash recovery included. */
const startMs = 60_000

export async function createPostgresServer(folder: string, name: string): Promise<PostgresServer> {
  const place = await findPlace({ dataDir: join(folder, name), log: () => {} })
  const port = await freePort()
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const log = openSync(join(folder, `${name}.log`), 'a')
  const flags = Object.entries({
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: 200,
    max_wal_senders: 4,
    wal_keep_size: '256MB',
    wal_retrieve_retry_interval: '500ms',
    timezone: 'UTC',
  }).flatMap(([setting, value]) => ['-c', `${setting}=${value}`])
  let child: ChildProcess | undefined
  let frozen: number[] = []

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const closed = once(child, 'close')
    const backends = signal === 'SIGKILL' ? await childrenOf(child.pid) : []
    for (const pid of [child.pid, ...backends]) send(pid, signal)
    await closed
  }

  return {
    place,
    port,
    url,
    start: async () => {
      const options = { ...processOptions(place.account), stdio: ['ignore', log, log] as ('ignore' | number)[] }
      child = spawn(join(place.bin, 'postgres'), ['-D', place.dataDir, ...flags], options)
      await waitUntilReady(url, child)
    },
    stop: () => end('SIGINT'),
    kill: () => end('SIGKILL'),
    freeze: async () => {
      if (child?.pid === undefined) return
      frozen = [child.pid, ...(await childrenOf(child.pid))]
      for (const pid of frozen) send(pid, 'SIGSTOP')
    },
    thaw: () => {
      for (const pid of frozen.splice(0)) send(pid, 'SIGCONT')
    },
  }
}

/** An empty cluster that trusts loopback, replication included. */
export async function initCluster({ place }: PostgresServer): Promise<void> {
  const { account, bin, dataDir } = place
  await mkdir(dataDir)
  await makePrivate(account, dataDir)
  const locale = ['--no-locale', '--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  const args = ['-D', dataDir, '-U', 'postgres', '--auth=trust', '--no-sync', ...locale]
  await run(join(bin, 'initdb'), args, processOptions(account))
}

async function waitUntilReady(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + startMs
  for (;;) {
    try {
      await runSql(url, 'SELECT 1')
      return
    } catch (error) {
      if (child.exitCode !== null || Date.now() > deadline) throw error
      await delay(100)
    }
  }
}

/** Signals to the process group miss the backends, because each calls setsid(). Linux lists the children of a process here. */
async function childrenOf(pid: number): Promise<number[]> {
  const list = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return list.split(' ').filter(Boolean).map(Number)
}

/** A process may have ended a moment ago. */
function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
