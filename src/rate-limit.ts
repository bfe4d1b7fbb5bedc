import { LRUCache } from 'lru-cache'
import { AppError } from './errors.ts'

const minuteMs = 60_000

export interface RateLimit {
  /**
   * Uses up one request of a key's minute. Call it before any work that a stranger can cause.
   * @returns gives the request back, for callers that turn out to be legitimate
   * @throws {AppError} `rate_limited`, with the seconds to wait
   */
  use: (key: string) => () => void
}

export interface RateLimitOptions {
  perMinute: number
  /** What the refused caller reads. */
  message?: string
  /** Keys remembered at a time; the least recently used is forgotten first. */
  maxKeys?: number
  /** Milliseconds of a clock that never steps back, because a wall clock that does would block every key for that long. */
  now?: () => number
}

/**
 * Counts requests per key and minute in this process: a first line against floods that costs no round trip. Limits that must
 * hold over all replicas are counted in the database.
 */
export function createRateLimit(options: RateLimitOptions): RateLimit {
  const { perMinute, message, maxKeys = 10_000, now = () => performance.now() } = options
  const windows = new LRUCache<string, { count: number; endsAt: number }>({ max: maxKeys })
  return {
    use(key) {
      const time = now()
      const known = windows.get(key)
      const window = known && known.endsAt > time ? known : { count: 0, endsAt: time + minuteMs }
      if (window !== known) windows.set(key, window)
      if (window.count >= perMinute) throw createRateLimited(Math.ceil((window.endsAt - time) / 1000), message)
      window.count++
      return () => void window.count--
    },
  }
}

/** @param retryAfter in seconds */
export function createRateLimited(
  retryAfter: number,
  message = 'Your network has started too many sign-ins. Try again after the seconds in Retry-After.',
): AppError {
  return new AppError('rate_limited', message, { retryAfter: Math.max(1, retryAfter) })
}
