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
  /** Members of the group that the step works on. */
  members?: number
  round: number
  requests: number
  perSecond: number
  p50Ms: number
  p99Ms: number
  serverUs: number
  postgresUs: number
  /** Bytes of an answer's body. */
  bytes: number
  /** Why the step was broken off; its figures then mean nothing. */
  fault?: string
}

/** A contender that runs, filled with users, in one round. */
export interface Session {
  contender: ContenderName
  round: number
  /** Users seeded in `endpoint`'s tenant. */
  users: number
  endpoint: Endpoint
  userId: (index: number) => string
  /** Another tenant, with a few users. */
  neighbour: { endpoint: Endpoint; userIds: string[] }
  /** Where these users sign in, if they can. */
  signIn?: SignIn
  /** Seconds that a step is measured for. */
  seconds: number
  serverPid: number
  postgresPid: number
  /** An index beyond the seeded ones, each given once. */
  nextIndex: () => number
  /** Brings the planner's statistics up to date. */
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
  /** Requests at most, over all connections. */
  most?: number
  /** Milliseconds that each connection waits between two requests. */
  pauseMs?: number
  endpoint?: Endpoint
  /** `none` for what is to be seen cold, or what cannot be repeated. */
  warmUp?: 'none'
}

/** A request of a load, or several that count as one; undefined when there is nothing left to ask. */
export type Work = (connection: Connection) => Promise<Answer> | undefined

/** Runs work on its connections until the session's seconds or `most` requests are over. The first fault ends it. */
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
    const broken = fault ?? (requests === 0 ? 'Nothing was asked.' : undefined)
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

/** The step of a workload that asks nothing: what the process weighs now. */
export function weigh(session: Session, step: string): Measurement {
  const { contender, users, round } = session
  const nothing = { requests: 0, perSecond: 0, p50Ms: 0, p99Ms: 0, serverUs: 0, postgresUs: 0, bytes: 0 }
  return { contender, step, users, round, ...nothing, ...memoryOf(session.serverPid) }
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

/** Sends a request and refuses any answer but the expected one: speed without the work is none. */
export async function ask(
  connection: Connection,
  line: string,
  { expect = 200, ...options }: RequestOptions & { expect?: number } = {},
): Promise<Answer> {
  const answer = await connection.request(line, options)
  if (answer.status === expect) return answer
  throw new Error(`${line.slice(0, 100)} answered ${answer.status}: ${answer.text().slice(0, 300)}`)
}

export function idOf(answer: Answer): string {
  return /"id" *: *"([^"]+)"/.exec(answer.text())?.[1] ?? ''
}

function quantile(values: number[], part: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0
}
