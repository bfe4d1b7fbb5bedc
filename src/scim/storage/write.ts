import { isUniqueViolation, retryDeadlocks, type Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import type { Caller } from './credential.ts'
import type { Leniency } from '../protocol/reading.ts'

/** What writes of users and of groups share. */

/** What a write needs beside what it writes. */
export interface Context {
  db: Db
  caller: Caller
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
  /** URL of the directory's endpoint, for the `$ref` of groups. */
  baseUrl: string
  requestId: string
  /** Whether the answer shows `groups`. */
  withGroups: boolean
  /** Set for an operation of a bulk request: where in it the data stands, and what was overlooked around that. */
  within?: { pointer: string; leniencies: readonly Leniency[] }
}

/** How often a write that lost a race is decided again. */
const ATTEMPTS = 8

/**
 * Runs a write until it has won: a race for a row, a member or an address is decided again on what is there then.
 * @throws {AppError} `unavailable` where others were always faster
 */
export async function retryOnConflict<Result>(write: () => Promise<Result | 'raced'>): Promise<Result> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const result = await retryDeadlocks(write).catch((error: unknown) => {
      if (isLostRace(error)) return 'raced' as const
      throw error
    })
    if (result !== 'raced') return result
    await new Promise(resolve => setTimeout(resolve, Math.random() * 5 * attempt))
  }
  throw new AppError('unavailable', 'Others are changing the same resource at once. Try again.', { retryAfter: 1 })
}

function isLostRace(error: unknown): boolean {
  return isUniqueViolation(error, 'members_email') || isUniqueViolation(error, 'scim_users_member')
}

/** As an entry of the activity log holds them; null where none was used. */
export function leniencyText(
  leniencies: readonly Leniency[],
  context: Pick<Context, 'caller' | 'within'>,
): string | null {
  const { caller, within } = context
  // In a header, so no pointer leads there.
  const header: Leniency[] = caller.isBare ? [{ name: 'bearer_missing', pointer: '' }] : []
  const used = leniencies.map(({ name, pointer }) => ({ name, pointer: pointerWithin(context, pointer) }))
  const all = [...header, ...(within?.leniencies ?? []), ...used]
  return all.length === 0 ? null : JSON.stringify(all)
}

/** A pointer into the data of an operation as one into the body of the request. */
export function pointerWithin({ within }: Pick<Context, 'within'>, pointer: string): string {
  return `${within?.pointer ?? ''}${pointer}`
}
