import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'
import { LRUCache } from 'lru-cache'
import { createRateLimited } from '../rate-limit.ts'

/**
 * What one tenant may ask of one replica, so that no tenant takes the service from the others: requests a second on average
 * with a burst above it (a token bucket), and requests at a time. Each replica counts for itself, because the bound protects
 * the replica.
 *
 * A request that comes a little early waits for its turn: rejected clients retry together and make the spike worse. Only a
 * request that would wait too long is refused.
 */
export interface RequestLimits {
  /**
   * Counts a request of a key in.
   * @returns how long it has to wait for its turn, in milliseconds, and what to call when it is over
   * @throws {AppError} `rate_limited`, with the seconds after which there is room again
   */
  enter: (key: string) => { waitMs: number; leave: () => void }
  /** Counts further operations of a request that has many, after the fact. They delay others by one wait at most. */
  charge: (key: string, operations: number) => void
}

export interface RequestLimitOptions {
  requestsPerSecond: number
  burst: number
  concurrent: number
  /** Who is limited, for the message: "This directory". */
  subject: string
  /** Milliseconds of a clock that never steps back: a wall clock that does would stop every tenant for the length of the step. */
  now?: () => number
}

/** The longest wait for a turn, in milliseconds. */
const MAX_WAIT_MS = 2_000

/** Keys remembered; a forgotten one begins with a full burst. */
const MAX_KEYS = 20_000

interface Usage {
  /** Requests that could be made at once at the time; below zero, those that wait. */
  tokens: number
  at: number
  inFlight: number
}

export function createRequestLimits(options: RequestLimitOptions): RequestLimits {
  const { requestsPerSecond, burst, concurrent, subject, now = () => performance.now() } = options
  const usages = new LRUCache<string, Usage>({ max: MAX_KEYS })

  function usageOf(key: string): Usage {
    const usage = usages.get(key) ?? { tokens: burst, at: now(), inFlight: 0 }
    usage.tokens = Math.min(burst, usage.tokens + ((now() - usage.at) / 1000) * requestsPerSecond)
    usage.at = now()
    usages.set(key, usage)
    return usage
  }

  return {
    enter(key) {
      const usage = usageOf(key)
      const waitMs = Math.max(0, Math.ceil(((1 - usage.tokens) / requestsPerSecond) * 1000))
      if (waitMs > MAX_WAIT_MS) {
        const message = `${subject} may send ${requestsPerSecond} requests a second on average. Continue after the seconds in Retry-After.`
        throw createRateLimited(Math.ceil(waitMs / 1000), message)
      }
      if (usage.inFlight >= concurrent) {
        throw createRateLimited(
          1,
          `${subject} may have ${concurrent} requests open at a time. Continue after the seconds in Retry-After.`,
        )
      }
      usage.tokens -= 1
      usage.inFlight += 1
      let isIn = true
      const leave = () => {
        if (!isIn) return
        isIn = false
        usage.inFlight -= 1
      }
      return { waitMs, leave }
    },
    charge(key, operations) {
      const usage = usageOf(key)
      const longestDebt = 1 - (MAX_WAIT_MS / 1000) * requestsPerSecond
      usage.tokens = Math.min(usage.tokens, Math.max(usage.tokens - operations, longestDebt))
    },
  }
}

/** Calls `done` when the response is over, whichever way: a client may hang up at any time, also before this call. */
export function onEnd({ raw }: FastifyReply, done: () => void): void {
  raw.once('finish', done).once('close', done)
  if (raw.destroyed) done()
}

/**
 * Counts a request in until its response is over, and waits for its turn.
 * @throws {AppError} `rate_limited`
 */
export async function enterUntilEnd(reply: FastifyReply, entries: [RequestLimits, string][]): Promise<void> {
  let longestMs = 0
  for (const [limits, key] of entries) {
    const { waitMs, leave } = limits.enter(key)
    onEnd(reply, leave)
    longestMs = Math.max(longestMs, waitMs)
  }
  if (longestMs > 0) await delay(longestMs)
}

/**
 * Lets each key have a few requests running at a time; the others wait in their order. A tenant with many open requests then
 * leaves database connections to the others.
 */
export function createTurns(perKey: number): { take: (key: string) => Promise<() => void> } {
  const keys = new Map<string, { running: number; waiting: (() => void)[] }>()
  return {
    async take(key) {
      const state = keys.get(key) ?? { running: 0, waiting: [] }
      keys.set(key, state)
      if (state.running < perKey) state.running++
      else await new Promise<void>(resolve => state.waiting.push(resolve))
      let isHeld = true
      return () => {
        if (!isHeld) return
        isHeld = false
        const next = state.waiting.shift()
        // The turn goes on to the next one, so `running` stays.
        if (next) next()
        else if (--state.running === 0) keys.delete(key)
      }
    },
  }
}
