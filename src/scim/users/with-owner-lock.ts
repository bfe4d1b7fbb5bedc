import { lockOwners } from '../../access/derivation/access.ts'
import type { Db, Trx } from '../../db/database.ts'
import { passGuard, removalHeld } from '../../directories/guarded-removals.ts'
import { firstRow } from '../storage/credential.ts'
import type { Context } from '../storage/write.ts'

/** What a transaction holds before it runs a statement again. */
interface Held {
  ownersLocked: boolean
  guardPassed: boolean
}

const nothingHeld: Held = { ownersLocked: false, guardPassed: false }

/**
 * Runs a statement that answers with a verdict; and again where it asks for the lock of owners, or for the word of the guard
 * against mass deprovisioning.
 * @throws {AppError} `scim_removal_held`
 */
export async function withOwnerLock<Row extends { id: string | null; verdict: string | null; memberId: string | null }>(
  { db, caller: { workspaceId, directoryId }, requestId }: Context,
  run: (db: Db, held: Held) => Promise<Row[]>,
  afterwards: (trx: Trx, row: Row) => Promise<void> = async () => {},
): Promise<Row> {
  const row = firstRow(await run(db, nothingHeld))
  const { id, verdict, memberId } = row
  if ((verdict !== 'lock' && verdict !== 'guard') || memberId === null) return row
  const again = await db.transaction().execute(async trx => {
    if (verdict === 'guard' && id !== null) {
      const removal = { workspaceId, directoryId, userId: id, memberId, operation: 'deactivate', requestId } as const
      const retryAfter = await passGuard(trx, removal)
      if (retryAfter !== undefined) return retryAfter
    }
    await lockOwners(trx, { workspaceId, memberIds: [memberId] })
    const won = firstRow(await run(trx, { ownersLocked: true, guardPassed: true }))
    await afterwards(trx, won)
    return won
  })
  if (typeof again === 'number') throw removalHeld(again)
  return again
}
