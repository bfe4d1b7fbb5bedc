import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from './free-port.ts'

export interface Replica {
  port: number
  end: (signal: 'SIGKILL' | 'SIGTERM') => Promise<void>
}

export interface Replicas {
  all: Replica[]
  /** The ports in turn, the next one first. */
  inTurn: () => number[]
  waitUntilReady: () => Promise<void>
  stop: () => Promise<void>
}

const root = join(import.meta.dirname, '../..')

/** Real processes of the service, each started again when it ends, as an orchestrator would. */
export async function startReplicas(
  count: number,
  { folder, settings }: { folder: string; settings: Record<string, string> },
): Promise<Replicas> {
  const log = openSync(join(folder, 'replicas.log'), 'a')
  let stopping = false
  let turn = 0

  async function keepRunning(): Promise<Replica> {
    const port = await freePort()
    const env = { PATH: process.env.PATH, ...settings, PORT: String(port) }
    let child: ChildProcess
    const launch = () => {
      const script = [join(root, 'scripts/run.mjs'), join(root, 'src/server.ts')]
      child = spawn(process.execPath, script, { cwd: folder, env, stdio: ['ignore', log, log] })
      child.once('close', () => {
        if (!stopping) setTimeout(launch, 300)
      })
    }
    launch()
    const end = async (signal: NodeJS.Signals) => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const closed = once(child, 'close')
      child.kill(signal)
      await closed
    }
    return { port, end }
  }

  const all: Replica[] = []
  for (let index = 0; index < count; index++) all.push(await keepRunning())
  return {
    all,
    inTurn: () => {
      turn++
      return all.map((_replica, index) => all[(turn + index) % all.length]!.port)
    },
    waitUntilReady: async () => void (await Promise.all(all.map(({ port }) => waitUntilReady(port)))),
    stop: async () => {
      stopping = true
      await Promise.all(all.map(each => each.end('SIGTERM')))
    },
  }
}

async function waitUntilReady(port: number): Promise<void> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await delay(200)) {
    const reply = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined)
    if (reply?.status === 200) return
  }
  throw new Error(`The replica on port ${port} was not ready within 60 s.`)
}
