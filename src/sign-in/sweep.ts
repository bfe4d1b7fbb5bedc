import { sql, type RawBuilder } from 'kysely'
import { retryDeadlocks, type Db } from '../db/database.ts'

/** Rows a statement, so that none holds locks for long. */
const batch = 2_000

/** What is over, each by the index that finds it. */
const expired: { table: string; where: RawBuilder<unknown> }[] = [
  // An attempt outlives its end by the minute in which a second delivery may come.
  { table: 'sign_in_attempts', where: sql`expires_at < now() - interval '2 minutes'` },
  { table: 'exchange_codes', where: sql`expires_at < now()` },
  // Sign-ins whose exchange code nobody redeemed.
  { table: 'sessions', where: sql`token_hash IS NULL AND created_at < now() - interval '5 minutes'` },
  // A month in which an admin can see who was signed in.
  { table: 'sessions', where: sql`expires_at < now() - interval '30 days'` },
  { table: 'logout_tokens', where: sql`expires_at < now()` },
  // A week in which an admin can read a report, and apply or enforce what was tested.
  { table: 'sso_sign_in_tests', where: sql`created_at < now() - interval '7 days'` },
  { table: 'signing_keys', where: sql`expires_at < now()` },
]

/**
 * Deletes what has expired, in batches, outside of any request. Several replicas may do it at once: each takes the rows
 * that no other is at.
 * @returns how many rows went
 */
export async function sweepExpired(db: Db): Promise<number> {
  let total = 0
  for (const { table, where } of expired) {
    let deleted: number
    do {
      const { numAffectedRows = 0n } = await retryDeadlocks(() =>
        sql`
          DELETE FROM ${sql.table(table)}
           WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${sql.table(table)} WHERE ${where} LIMIT ${batch} FOR UPDATE SKIP LOCKED))
        `.execute(db),
      )
      deleted = Number(numAffectedRows)
      total += deleted
    } while (deleted === batch)
  }
  return total
}
