import type { Config } from '../../config.ts'
import { AppError } from '../../errors.ts'

/**
 * What one directory may ask of one replica, so that no directory takes the service from the others: requests a second on
 * average with a burst above it (a token bucket), and requests at a time. Memory suffices: the bound is there for the replica.
 *
 * A request that comes a little early waits for its turn, since a client that is told to come again loses more time than
 * that, and many told so at once come at once again. Only who would wait too long is refused.
 */
export interface Limits {
  /**
   * Counts a request in.
   * @returns how long it has to wait for its turn, in milliseconds, and what to call when it is over
   * @throws {AppError} `rate_limited`, with the seconds after which there is room again
   */
  enter: (directoryId: string) => { waitMs: number; leave: () => void }
  /** Counts further operations of a request that has many, after the fact; they do not hold up others for longer than a wait. */
  charge: (directoryId: string, operations: number) => void
}

/** The longest wait for a turn. */
const MAX_WAIT_MS = 2_000

interface Usage {
  /** Requests that could be made at once at the time; below zero, those that wait. */
  tokens: number
  at: number
  inFlight: number
}

type Settings = Pick<Config, 'scimRequestsPerSecond' | 'scimBurstRequests' | 'scimConcurrentRequests'>

export function createLimits(
  { scimRequestsPerSecond, scimBurstRequests, scimConcurrentRequests }: Settings,
  // Never steps back: a wall clock that does would stop every directory for the length of the step.
  now: () => number = () => performance.now(),
): Limits {
  const usages = new Map<string, Usage>()

  function usageOf(directoryId: string): Usage {
    const usage = usages.get(directoryId) ?? { tokens: scimBurstRequests, at: now(), inFlight: 0 }
    usage.tokens = Math.min(scimBurstRequests, usage.tokens + ((now() - usage.at) / 1000) * scimRequestsPerSecond)
    usage.at = now()
    usages.set(directoryId, usage)
    return usage
  }

  return {
    enter(directoryId) {
      const usage = usageOf(directoryId)
      const waitMs = Math.max(0, Math.ceil(((1 - usage.tokens) / scimRequestsPerSecond) * 1000))
      if (waitMs > MAX_WAIT_MS) throw tooMany(Math.ceil(waitMs / 1000))
      if (usage.inFlight >= scimConcurrentRequests) throw tooMany(1)
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
    charge(directoryId, operations) {
      const usage = usageOf(directoryId)
      const longestDebt = 1 - (MAX_WAIT_MS / 1000) * scimRequestsPerSecond
      usage.tokens = Math.min(usage.tokens, Math.max(usage.tokens - operations, longestDebt))
    },
  }
}

function tooMany(retryAfter: number): AppError {
  const message = 'This directory sends more than it may at once. Go on after the seconds in Retry-After.'
  return new AppError('rate_limited', message, { retryAfter: Math.max(1, retryAfter) })
}
