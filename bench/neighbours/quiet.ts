import { setTimeout as delay } from 'node:timers/promises'
import { openConnection, type Connection, type Endpoint, type RequestOptions } from '../connection.ts'
import { quantile } from '../measure.ts'

/** One kind of request of the quiet workspace, sent at a fixed rate. */
export interface QuietRequest {
  name: string
  perSecond: number
  endpoint: Endpoint
  next: () => { line: string; options?: RequestOptions }
}

export interface QuietResult {
  name: string
  p50Ms: number
  p99Ms: number
  requests: number
  /** Responses with another status than 200, and requests without a response. */
  failed: number
}

/** Connections for each kind, enough for a second of silence. */
const CONNECTIONS = 32

/**
 * Sends each kind of request at its rate, however slow the responses are. Latencies count from the time at which a request
 * was due, so that requests that wait for a free connection count in full.
 */
export async function measureQuiet(kinds: QuietRequest[], seconds: number): Promise<QuietResult[]> {
  return Promise.all(kinds.map(kind => measureKind(kind, seconds)))
}

async function measureKind({ name, perSecond, endpoint, next }: QuietRequest, seconds: number): Promise<QuietResult> {
  const opened = await Promise.all(Array.from({ length: CONNECTIONS }, () => openConnection(endpoint)))
  const latencies: number[] = []
  const requests = Math.round(perSecond * seconds)
  const start = performance.now()
  let failed = 0
  let begun = 0
  const sendDue = async (connection: Connection) => {
    while (begun < requests) {
      const due = start + (begun++ * 1000) / perSecond
      await delay(Math.max(0, due - performance.now()))
      const { line, options } = next()
      const isOk = await connection.request(line, options).then(
        answer => answer.status === 200,
        () => false,
      )
      latencies.push(performance.now() - due)
      if (!isOk) failed++
    }
  }
  await Promise.all(opened.map(sendDue))
  for (const connection of opened) connection.close()
  return { name, requests, failed, p50Ms: quantile(latencies, 0.5), p99Ms: quantile(latencies, 0.99) }
}
