import { AppError } from '../../errors.ts'

const minute = 60_000

export interface RateLimit {
  /** @throws {AppError} `rate_limited`, with the seconds to wait */
  use: (network: string) => void
}

export interface RateLimitOptions {
  perMinute: number
  /** Networks remembered at a time; beyond it the one seen longest ago is forgotten. */
  networks?: number
  /** Milliseconds since the epoch. */
  now?: () => number
}

/**
 * Counts requests by network and minute, in this process: a first line against floods that costs no round trip. What must
 * hold over all replicas is counted in the database.
 */
export function createRateLimit({ perMinute, networks = 10_000, now = Date.now }: RateLimitOptions): RateLimit {
  const windows = new Map<string, { count: number; endsAt: number }>()
  return {
    use(network) {
      const time = now()
      const known = windows.get(network)
      const window = known && known.endsAt > time ? known : { count: 0, endsAt: time + minute }
      window.count++
      windows.delete(network)
      windows.set(network, window)
      const [oldest] = windows.keys()
      if (windows.size > networks && oldest !== undefined) windows.delete(oldest)
      if (window.count > perMinute) throw tooMany(Math.ceil((window.endsAt - time) / 1000))
    },
  }
}

export function tooMany(retryAfter: number): AppError {
  return new AppError('rate_limited', 'Too many sign-ins were started from your network. Try again in a minute.', {
    retryAfter,
  })
}
