import { sql } from 'kysely'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'

/** An instant that is asked about. */
export interface Instant {
  at: string
  /** What was written until then counts: all of it, where the question is about now. */
  until: string
}

/**
 * The instant that a question about the past means; now, where it names none.
 * @param at ISO 8601
 * @throws {AppError} `at_in_future`; `at_before_history` before the workspace was made; `not_found`
 */
export async function readInstant(db: Db, workspaceId: string, at: string | undefined): Promise<Instant> {
  const { rows } = await sql<{ now: string; start: string; isLater: boolean; isEarlier: boolean }>`
    SELECT date_trunc('milliseconds', clock_timestamp()) + interval '1 ms' AS now, created_at AS start,
           coalesce(${at ?? null}::timestamptz > clock_timestamp(), false) AS "isLater",
           coalesce(${at ?? null}::timestamptz < created_at, false) AS "isEarlier"
      FROM workspaces WHERE id = ${workspaceId}`.execute(db)
  const [row] = rows
  if (!row) throw new AppError('not_found', 'There is no such workspace.')
  if (row.isLater) throw new AppError('at_in_future', `at is in the future: it is ${row.now} here.`)
  if (row.isEarlier) throw new AppError('at_before_history', `at is before this workspace was made, at ${row.start}.`)
  return { at: at ?? row.now, until: at ?? 'infinity' }
}
