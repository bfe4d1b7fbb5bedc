import { createRateLimited } from '../rate-limit.ts'
import { retryDeadlocks, type Db, type Trx } from './database.ts'

/**
 * Database work that a tenant can make expensive, on connections of its own. Look-ups by key (session checks, sign-ins,
 * credential checks, writes by key) have the main pool and never wait for it.
 */
export interface WorkClass {
  /**
   * Runs work for a workspace when its turn comes. Waiting workspaces take turns, and each has one piece of work running, so
   * that one workspace delays the others by one piece at most.
   * @throws {AppError} `rate_limited` when too much is waiting, or the turn does not come in time
   */
  run: <Result>(workspaceId: string, work: (db: Db) => Promise<Result>) => Promise<Result>
  /**
   * Runs further work for a response that has already begun, such as the next page of a long report. It takes its turn like
   * other work but is never refused, because the response can no longer become a 429. Callers bound how many responses run.
   */
  continue: <Result>(workspaceId: string, work: (db: Db) => Promise<Result>) => Promise<Result>
  /** The same as `run` for a transaction, which runs again when Postgres chose it as the victim of a deadlock. */
  transact: <Result>(workspaceId: string, work: (trx: Trx) => Promise<Result>) => Promise<Result>
}

export interface WorkClassOptions {
  db: Db
  /** Pieces of work at a time; no more than `db` has connections. */
  slots: number
  /** Pieces of work that may wait, per workspace. */
  waitingPerWorkspace?: number
  /** How long a piece of work may wait, in milliseconds. */
  maxWaitMs?: number
}

interface Waiter {
  start: () => void
}

export function createWorkClass(options: WorkClassOptions): WorkClass {
  const { db, slots, waitingPerWorkspace = 8, maxWaitMs = 10_000 } = options
  /** In the order of turns: a workspace that has had its turn goes to the end. */
  const waiting = new Map<string, Waiter[]>()
  const running = new Set<string>()

  function startNext(): void {
    while (running.size < slots) {
      const next = [...waiting].find(([workspaceId]) => !running.has(workspaceId))
      if (next === undefined) return
      const [workspaceId, queue] = next
      const waiter = queue.shift()
      waiting.delete(workspaceId)
      if (queue.length > 0) waiting.set(workspaceId, queue)
      running.add(workspaceId)
      waiter?.start()
    }
  }

  function takeTurn(workspaceId: string, { canRefuse }: { canRefuse: boolean }): Promise<void> {
    const queue = waiting.get(workspaceId) ?? []
    if (canRefuse && queue.length >= waitingPerWorkspace) throw tooMuch(waitingPerWorkspace)
    return new Promise((resolve, reject) => {
      const waiter = {
        start: () => {
          clearTimeout(timer)
          resolve()
        },
      }
      const giveUp = () => {
        const left = queue.filter(each => each !== waiter)
        queue.splice(0, queue.length, ...left)
        if (left.length === 0) waiting.delete(workspaceId)
        reject(tooMuch(waitingPerWorkspace))
      }
      const timer = canRefuse ? setTimeout(giveUp, maxWaitMs) : undefined
      queue.push(waiter)
      waiting.set(workspaceId, queue)
      startNext()
    })
  }

  async function runInTurn<Result>(
    workspaceId: string,
    work: (on: Db) => Promise<Result>,
    turn: { canRefuse: boolean },
  ): Promise<Result> {
    await takeTurn(workspaceId, turn)
    try {
      return await work(db)
    } finally {
      running.delete(workspaceId)
      startNext()
    }
  }

  const run: WorkClass['run'] = (workspaceId, work) => runInTurn(workspaceId, work, { canRefuse: true })

  return {
    run,
    continue: (workspaceId, work) => runInTurn(workspaceId, work, { canRefuse: false }),
    transact: (workspaceId, work) => run(workspaceId, on => retryDeadlocks(() => on.transaction().execute(work))),
  }
}

function tooMuch(waiting: number) {
  return createRateLimited(
    5,
    `This workspace runs one search, report or recalculation at a time, and ${waiting} more may wait. Try again after the seconds in Retry-After.`,
  )
}

/** The work classes of a process. */
export interface Work {
  /** Reads that scan: filters without an index, orders, reports, previews. */
  scans: WorkClass
  /** Writes that recompute the access of many people. */
  batches: WorkClass
}
