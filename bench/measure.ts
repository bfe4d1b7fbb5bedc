import { performance } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { openConnection, type Answer, type Connection, type Endpoint, type RequestOptions } from './connection.ts'
import type { ContenderName } from './contenders/contender.ts'
import { cpuMicroseconds, memoryOf, type Memory } from './usage.ts'

/** One step of a workload on one contender in one round. Times are per request and in the unit of their name. */
export interface Measurement extends Memory {
  contender: ContenderName
  step: string
  users: number
  /** Users in the group of the step. */
  members?: number
  round: number
  requests: number
  perSecond: number
  p50Ms: number
  p99Ms: number
  serverUs: number
  postgresUs: number
  /** Mean bytes of a response body. */
  bytes: number
  /** Why the step was aborted. Its figures are then meaningless. */
  fault?: string
}

/** A running contender with its users, in one round. */
export interface Session {
  contender: ContenderName
  round: number
  /** Number of users seeded in the tenant of `endpoint`. */
  users: number
  endpoint: Endpoint
  userId: (index: number) => string
  /** Another tenant, with a few users. */
  neighbour: { endpoint: Endpoint; userIds: string[] }
  /** Workspace in which the users of `neighbour` sign in, if the contender supports it. */
  signIn?: SignIn
  /** Duration of a step in seconds. */
  seconds: number
  serverPid: number
  postgresPid: number
  /** Returns an unused index beyond the seeded ones. */
  nextIndex: () => number
  /** Runs ANALYZE on the database. */
  analyze: () => Promise<void>
}

export interface SignIn {
  origin: string
  workspaceId: string
}

export interface Load {
  step: string
  members?: number
  /** Requests in flight. */
  connections?: number
  /** Maximum number of requests over all connections. */
  most?: number
  /** Pause of each connection between two requests, in milliseconds. */
  pauseMs?: number
  endpoint?: Endpoint
  /** `none` for steps that measure a cold start or cannot be repeated. */
  warmUp?: 'none'
}

/** Sends a request, or several that count as one. Returns undefined when no work is left. */
export type Work = (connection: Connection) => Promise<Answer> | undefined

/** Runs `work` on the connections for the session's seconds, at most `most` times. The first fault ends the step. */
export async function measure(session: Session, load: Load, work: Work): Promise<Measurement> {
  const { connections = 1, endpoint = session.endpoint, most = Number.POSITIVE_INFINITY } = load
  const opened = await Promise.all(Array.from({ length: connections }, () => openConnection(endpoint)))
  try {
    if (load.warmUp !== 'none') {
      await drive({ ...load, opened, seconds: Math.max(0.1, session.seconds / 3), most: Math.ceil(most / 3), work })
    }
    const cpu = () => [cpuMicroseconds(session.serverPid), cpuMicroseconds(session.postgresPid)] as const
    const before = cpu()
    const began = performance.now()
    const { latencies, bytes, fault } = await drive({ ...load, opened, seconds: session.seconds, most, work })
    const seconds = (performance.now() - began) / 1000
    const after = cpu()
    const requests = latencies.length
    const broken = fault ?? (requests === 0 ? 'No request was sent.' : undefined)
    return {
      contender: session.contender,
      step: load.step,
      users: session.users,
      ...(load.members !== undefined && { members: load.members }),
      round: session.round,
      requests,
      perSecond: requests / seconds,
      p50Ms: quantile(latencies, 0.5),
      p99Ms: quantile(latencies, 0.99),
      serverUs: (after[0] - before[0]) / requests,
      postgresUs: (after[1] - before[1]) / requests,
      bytes: bytes / requests,
      ...memoryOf(session.serverPid),
      ...(broken !== undefined && { fault: broken }),
    }
  } finally {
    for (const connection of opened) connection.close()
  }
}

/** Returns a measurement that contains only the memory of the process. */
export function measureMemory(session: Session, step: string): Measurement {
  const { contender, users, round } = session
  const none = { requests: 0, perSecond: 0, p50Ms: 0, p99Ms: 0, serverUs: 0, postgresUs: 0, bytes: 0 }
  return { contender, step, users, round, ...none, ...memoryOf(session.serverPid) }
}

interface Drive {
  opened: Connection[]
  seconds: number
  most: number
  pauseMs?: number
  work: Work
}

async function drive({ opened, seconds, most, pauseMs, work }: Drive) {
  const end = performance.now() + seconds * 1000
  const latencies: number[] = []
  let begun = 0
  let bytes = 0
  let fault: string | undefined
  await Promise.all(
    opened.map(async connection => {
      while (begun < most && fault === undefined && performance.now() < end) {
        begun++
        const start = performance.now()
        try {
          const answer = await work(connection)
          if (!answer) return
          bytes += answer.bytes
        } catch (error) {
          fault ??= (error as Error).message
          return
        }
        latencies.push(performance.now() - start)
        if (pauseMs !== undefined) await delay(pauseMs)
      }
    }),
  )
  return { latencies, bytes, fault }
}

/** Sends a request. Throws on any other status than `expect`, so that a fast wrong response is not counted. */
export async function ask(
  connection: Connection,
  line: string,
  { expect = 200, ...options }: RequestOptions & { expect?: number } = {},
): Promise<Answer> {
  const answer = await connection.request(line, options)
  if (answer.status === expect) return answer
  throw new Error(`${line.slice(0, 100)} returned ${answer.status}: ${answer.text().slice(0, 300)}`)
}

export function idOf(answer: Answer): string {
  return /"id" *: *"([^"]+)"/.exec(answer.text())?.[1] ?? ''
}

export function quantile(values: number[], part: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0
}
