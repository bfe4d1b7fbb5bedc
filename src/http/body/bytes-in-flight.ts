import { AppError } from '../../errors.ts'

/** The memory that large request bodies take, limited for the replica and within it for each owner, such as a workspace. */
export interface BytesInFlight {
  /**
   * Refuses a body that says it has so many bytes, before any is read.
   * @throws {AppError} `rate_limited`
   */
  requireRoom: (owner: string, bytes: number) => void
  begin: (owner: string) => BodyBytes
}

/** One large body. */
export interface BodyBytes {
  /**
   * Counts what has come so far.
   * @throws {AppError} `rate_limited`
   */
  grow: (bytes: number) => void
  /**
   * Waits until the owner has no other large body in work.
   * @throws {AppError} `request_aborted` where the request ended meanwhile
   */
  takeTurn: () => Promise<void>
  /** Runs the work when no other large body of the replica is parsed. */
  alone: <Result>(work: () => Promise<Result>) => Promise<Result>
  /** The request is over. */
  end: () => void
}

interface Use {
  bytes: number
  bodies: number
  /** Settles when the large body of this owner that came last is over. */
  last: Promise<void>
}

/**
 * Bytes count from when they come until the request is answered, because the values that were parsed live as long. Two
 * large bodies of one owner never are in work at once, and so an owner has one place at most in the queue for the parser.
 * @param max in bytes
 */
export function createBytesInFlight(max: { replica: number; owner: number }): BytesInFlight {
  const uses = new Map<string, Use>()
  let total = 0
  let parsing: Promise<unknown> = Promise.resolve()

  function requireRoom(owner: string, bytes: number): void {
    const held = uses.get(owner)?.bytes ?? 0
    if (held + bytes > max.owner) throw full(`${max.owner} bytes of a workspace`)
    if (total + bytes > max.replica) throw full(`${max.replica} bytes`)
  }

  return {
    requireRoom,
    begin(owner) {
      const use = uses.get(owner) ?? { bytes: 0, bodies: 0, last: Promise.resolve() }
      uses.set(owner, use)
      use.bodies += 1
      let held = 0
      let isOver = false
      let leave: (() => void) | undefined
      return {
        grow(bytes) {
          if (isOver) return
          requireRoom(owner, bytes - held)
          use.bytes += bytes - held
          total += bytes - held
          held = bytes
        },
        async takeTurn() {
          const before = use.last
          const mine = new Promise<void>(resolve => {
            leave = resolve
          })
          use.last = before.then(() => mine)
          if (isOver) leave?.()
          await before
          if (isOver) {
            throw new AppError('request_aborted', 'The connection ended before the request had its turn.')
          }
        },
        alone(work) {
          const run = parsing.then(work)
          parsing = run.catch(() => {})
          return run
        },
        end() {
          if (isOver) return
          isOver = true
          leave?.()
          use.bytes -= held
          total -= held
          use.bodies -= 1
          if (use.bodies === 0) uses.delete(owner)
        },
      }
    },
  }
}

function full(limit: string): AppError {
  const message = `Large request bodies take at most ${limit} at a time. Send them one after another, this one after the seconds in Retry-After.`
  return new AppError('rate_limited', message, { retryAfter: 1 })
}
