import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import {
  exists,
  findPlace,
  findSocketParent,
  makePrivate,
  moveInto,
  processOptions,
  run,
} from './embedded-postgres-place.ts'
import type { Place } from './embedded-postgres-place.ts'

export type EmbeddedPostgresOptions = {
  /** Where the data lives; made at the first start, with the folders above it. */
  dataDir: string
  /** `false` trades what a power cut would lose for speed: for data that nobody will miss. */
  durable: boolean
  /** Told what a person should know: where the data went, and why a server ended that nobody had stopped. */
  log: (line: string) => void
}

export type EmbeddedPostgres = {
  /** Names the database `postgres`, through a socket in a folder that only its account can enter. */
  url: string
  /** Where the data lies: the folder asked for, or one that the server's account can reach. */
  dataDir: string
  /** Ends open connections, writes everything to disk, and resolves when the server is gone. */
  stop: () => Promise<void>
}

/** How long the server of a process that has just died may still hold the data folder. */
const inUseRetryMs = 5_000

/**
 * Starts Postgres from the `@embedded-postgres` package of this platform: the real one, without an installation, a port
 * or a password. It ends with this process, however this process ends: `stop`, exit, crash or kill -9.
 * @throws {Error} when the package is missing or does not run here, or another server holds `dataDir` for 5 seconds
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const place = await findPlace(options)
  if (!(await exists(place.dataDir))) await createCluster(place)

  const deadline = Date.now() + inUseRetryMs
  for (;;) {
    const server = await startServer(place, options)
    if (server !== 'in use') return server
    if (Date.now() > deadline) {
      throw new Error(`Another Postgres uses ${place.dataDir}: stop the process that started it, or set DATABASE_URL.`)
    }
    await delay(200)
  }
}

/** `initdb` under another name, then a rename: a first start that is broken off leaves no half cluster. */
async function createCluster({ account, bin, dataDir }: Place): Promise<void> {
  const partial = `${dataDir}.${process.pid}`
  await mkdir(partial)
  await makePrivate(account, partial)
  const locale = ['--no-locale', '--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  const args = ['-D', partial, '-U', 'postgres', '--auth=trust', '--no-sync', ...locale]
  try {
    await run(join(bin, 'initdb'), args, processOptions(account))
    await moveInto(dataDir, partial)
  } finally {
    await rm(partial, { recursive: true, force: true })
  }
}

/**
 * Becomes the given command, Postgres, beside a watcher of the pipe on standard input. That pipe closes when Node
 * closes it or is no more; then the watcher removes the socket's folder and asks Postgres for a fast shutdown.
 * The watcher reads descriptor 3, as a shell gives its background jobs an empty standard input, and is forked twice, as
 * Postgres would wait for a child of its own.
 */
const runWatched = `
  socket_dir=$1; shift
  exec 3<&0 </dev/null
  ( ( cat <&3; rm -rf "$socket_dir"; kill -INT $$ ) >/dev/null 2>&1 & )
  exec 3<&-
  exec "$@"
`

async function startServer(
  { account, bin, dataDir }: Place,
  { durable, log }: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres | 'in use'> {
  const socketDir = await mkdtemp(join(await findSocketParent(account), 'assist-postgres-'))
  await makePrivate(account, socketDir)
  const settings = {
    listen_addresses: '',
    unix_socket_directories: socketDir,
    max_connections: 200,
    timezone: 'UTC',
    log_timezone: 'UTC',
    // What the server says must repeat no statement: statements hold people's addresses.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    ...(durable ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn('/bin/sh', ['-c', runWatched, 'sh', socketDir, join(bin, 'postgres'), '-D', dataDir, ...flags], {
    ...processOptions(account),
    stdio: ['pipe', 'ignore', 'pipe'],
    // A group of its own: Ctrl-C reaches this process alone, which can finish its requests before it stops the server.
    detached: true,
  })

  const said: string[] = []
  const ready = new Promise<'ready'>(resolve => {
    createInterface(child.stderr).on('line', line => {
      said.push(line)
      if (said.length > 20) said.shift()
      if (line.includes('ready to accept connections')) resolve('ready')
    })
  })
  const ended = new Promise<'ended'>((resolve, reject) => {
    child.once('close', () => resolve('ended'))
    child.once('error', reject)
  })

  if ((await Promise.race([ready, ended])) === 'ended') {
    if (said.some(line => line.includes('"postmaster.pid" already exists'))) return 'in use'
    throw new Error(`Postgres did not start in ${dataDir}:\n${said.join('\n')}`)
  }

  let stopping = false
  void ended.then(() => {
    if (!stopping) log(`Postgres ended by itself:\n${said.join('\n')}`)
  })
  return {
    url: `postgres://postgres@localhost/postgres?host=${encodeURIComponent(socketDir)}`,
    dataDir,
    stop: async () => {
      stopping = true
      child.stdin.destroy()
      await ended
    },
  }
}
