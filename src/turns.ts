import { setImmediate as nextTurn } from 'node:timers/promises'

/**
 * Work at one stretch before other requests have their turn, in milliseconds. A small request needs several turns of the
 * event loop (its own data, then each response of Postgres), and waits for a stretch at each.
 */
const STRETCH_MS = 1

interface Turns {
  /** Whether this work has held the event loop long enough to let others in. Costs a reading of the clock. */
  isOver: () => boolean
  /** Lets everything else that waits for the event loop go first. */
  next: () => Promise<void>
}

/** Divides long work into stretches, so that no request holds up the others. */
function takeTurns(): Turns {
  let since = performance.now()
  return {
    isOver: () => performance.now() - since >= STRETCH_MS,
    next: async () => {
      await nextTurn()
      since = performance.now()
    },
  }
}

/** Runs a generator to its end in stretches; its steps must be short. */
export async function inStretches<Result>(steps: Generator<void, Result>): Promise<Result> {
  const turns = takeTurns()
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
    if (turns.isOver()) await turns.next()
  }
}
