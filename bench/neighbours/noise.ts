import { setTimeout as delay } from 'node:timers/promises'
import { openConnection, type Endpoint, type RequestOptions } from '../connection.ts'

/** A load of the noisy workspace: clients that send the next request as soon as they have a response. */
export interface Noise {
  name: string
  clients: number
  endpoint: Endpoint
  next: (round: number) => { line: string; options?: RequestOptions }
}

/** Pause after 429 and 413 in milliseconds: far less than Retry-After says, as of a client that ignores it. */
const PAUSE_MS = 100

/** Runs a load until `stop`. Returns a function that stops it, waits for its requests and counts the responses by status. */
export function startNoise({ clients, endpoint, next }: Noise): () => Promise<Map<string, number>> {
  const statuses = new Map<string, number>()
  const loop = { over: false }
  const count = (status: string) => statuses.set(status, (statuses.get(status) ?? 0) + 1)
  const send = async () => {
    let connection = await openConnection(endpoint)
    for (let round = 0; !loop.over; round++) {
      try {
        const { line, options } = next(round)
        const { status } = await connection.request(line, options)
        count(String(status))
        if (status >= 400) await delay(PAUSE_MS)
      } catch {
        count('closed')
        connection.close()
        await delay(PAUSE_MS)
        connection = await openConnection(endpoint)
      }
    }
    connection.close()
  }
  const sending = Promise.all(Array.from({ length: clients }, send))
  return async () => {
    loop.over = true
    await sending
    return statuses
  }
}
