import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { Endpoint } from '../connection.ts'

export type ContenderName = 'floor' | 'service'

/** A server that is measured: how to start it, fill it and call it. */
export interface Contender {
  name: ContenderName
  /** Prepares an empty database so that the server can start. */
  prepare: (databaseUrl: string) => Promise<void>
  command: (options: { databaseUrl: string; port: number; folder: string }) => Command
  /** Creates two tenants, through the public API if the contender has one. */
  makeTenants: (options: { origin: string; folder: string; issuer: string }) => Promise<[Tenant, Tenant]>
  /** Tables with rows of a user, in an order that satisfies foreign keys. */
  userTables: string[]
  /** SQL that adds users to totalResults of the first tenant. */
  countUsers: (users: number) => string
}

export interface Command {
  /** Arguments for Node. */
  args: string[]
  environment?: Record<string, string>
  /** Responds with a status below 500 when the server is ready. */
  readyPath: string
}

/** A tenant. It has no origin, because servers change their port with each start. */
export interface Tenant {
  scimPath: string
  token: string
  /** Workspace in which people can sign in with the benchmark provider. */
  workspaceId?: string
}

export function endpointOf(origin: string, { scimPath, token }: Tenant): Endpoint {
  return { baseUrl: `${origin}${scimPath}`, token }
}

export interface RunningServer {
  origin: string
  pid: number
  stop: () => Promise<void>
}

export interface ServerOptions {
  databaseUrl: string
  /** The working folder of the process. */
  folder: string
  /** Additional arguments for Node. */
  nodeArgs?: string[]
}

/** Starts a contender's server in a separate process and waits until it is ready, at most 20 seconds. */
export async function startServer(contender: Contender, options: ServerOptions): Promise<RunningServer> {
  const { databaseUrl, folder, nodeArgs = [] } = options
  const port = await findFreePort()
  const { args, environment, readyPath } = contender.command({ databaseUrl, port, folder })
  const child = spawn(process.execPath, [...nodeArgs, ...args], {
    cwd: folder,
    env: { PATH: process.env['PATH'], ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  // Print errors and fatal errors only.
  createInterface(child.stdout).on('line', line => {
    if (/"level":[56]0/.test(line)) console.error(line)
  })
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))

  const origin = `http://127.0.0.1:${port}`
  await waitUntilReady(child, `${origin}${readyPath}`, contender.name)
  return { origin, pid: child.pid!, stop: () => stop(child) }
}

async function waitUntilReady(child: ChildProcess, url: string, name: string): Promise<void> {
  const deadline = Date.now() + 20_000
  while (Date.now() < deadline) {
    if (child.exitCode !== null)
      throw new Error(`The ${name} did not start: its process exited with ${child.exitCode}.`)
    const answers = await fetch(url).then(
      answer => answer.status < 500,
      () => false,
    )
    if (answers) return
    await delay(50)
  }
  await stop(child)
  throw new Error(`The ${name} did not respond at ${url} within 20 seconds.`)
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(timer)
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
