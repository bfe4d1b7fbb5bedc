import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'

/**
 * What one directory may ask of one replica, so that no directory takes the service from the others: requests a second on
 * average with a burst above it (a token bucket), and requests at a time. Memory suffices: the bound is there for the replica.
 */
export interface Limits {
  /**
   * Counts a request in.
   * @returns what to call when it is over
   * @throws {AppError} `rate_limited`, with the seconds after which there is room again
   */
  enter: (directoryId: string) => () => void
  /** Counts further operations of a request that has many, after the fact. */
  charge: (directoryId: string, operations: number) => void
}

interface Usage {
  /** Requests that could be made at once at the time. */
  tokens: number
  at: number
  inFlight: number
}

type Settings = Pick<Config, 'scimRequestsPerSecond' | 'scimBurstRequests' | 'scimConcurrentRequests'>

export function createLimits(
  { scimRequestsPerSecond, scimBurstRequests, scimConcurrentRequests }: Settings,
  now: () => number = Date.now,
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
      if (usage.tokens < 1) throw tooMany(Math.ceil((1 - usage.tokens) / scimRequestsPerSecond))
      if (usage.inFlight >= scimConcurrentRequests) throw tooMany(1)
      usage.tokens -= 1
      usage.inFlight += 1
      let isIn = true
      return () => {
        if (!isIn) return
        isIn = false
        usage.inFlight -= 1
      }
    },
    charge(directoryId, operations) {
      usageOf(directoryId).tokens -= operations
    },
  }
}

function tooMany(retryAfter: number): AppError {
  const message = 'This directory sends more than it may at once. Go on after the seconds in Retry-After.'
  return new AppError('rate_limited', message, { retryAfter: Math.max(1, retryAfter) })
}
