import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { Endpoint } from '../connection.ts'

export type ContenderName = 'limit' | 'service'

/** What is measured: how to run it, to fill it, and to speak to it. */
export interface Contender {
  name: ContenderName
  /** Brings an empty database to where the server can start on it. */
  prepare: (databaseUrl: string) => Promise<void>
  command: (options: { databaseUrl: string; port: number; folder: string }) => Command
  /** Makes two tenants, through the public API where there is one. */
  makeTenants: (options: { origin: string; folder: string; issuer: string }) => Promise<[Tenant, Tenant]>
  /** The tables that have rows of a user, in the order in which foreign keys let them be filled. */
  userTables: string[]
  /** Adds users to what lists answer as totalResults in the first tenant. */
  countUsers: (users: number) => string
}

export interface Command {
  /** Arguments of Node. */
  args: string[]
  environment?: Record<string, string>
  /** Answers once the server can serve. */
  readyPath: string
}

/** Tenants outlive the process that they were made with, and so its port. */
export interface Tenant {
  scimPath: string
  token: string
  /** Where people can sign in, at the provider given. */
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
  /** Further arguments of Node. */
  nodeArgs?: string[]
}

/** Starts a contender's server as a process of its own and waits until it serves, 20 seconds at most. */
export async function startServer(contender: Contender, options: ServerOptions): Promise<RunningServer> {
  const { databaseUrl, folder, nodeArgs = [] } = options
  const port = await findFreePort()
  const { args, environment, readyPath } = contender.command({ databaseUrl, port, folder })
  const child = spawn(process.execPath, [...nodeArgs, ...args], {
    cwd: folder,
    env: { PATH: process.env['PATH'], ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  // What explains a fault; the rest of the log is nobody's business here.
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
    if (child.exitCode !== null) throw new Error(`The ${name} did not start: its process ended with ${child.exitCode}.`)
    const answers = await fetch(url).then(
      answer => answer.status < 500,
      () => false,
    )
    if (answers) return
    await delay(50)
  }
  await stop(child)
  throw new Error(`The ${name} did not answer ${url} within 20 seconds.`)
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
