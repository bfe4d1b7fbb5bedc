import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import type { Trx } from '../../db/database.ts'
import { lockOwners, recomputeAccess } from './access.ts'

export interface Reconciliation {
  /** Members whose access was derived anew. */
  members: number
  /** Of them, those whose stored role, groups or rules were not what the sources say; they are now. Expected: none. */
  repaired: number
}

/** Derives everybody's access anew, and so proves that what is stored follows from its sources, or makes it so. */
export async function reconcileAccess(
  trx: Trx,
  { workspaceId, actor, roles }: { workspaceId: string; actor: Actor; roles: readonly string[] },
): Promise<Reconciliation> {
  const memberIds = sql`SELECT id FROM members WHERE workspace_id = ${workspaceId}`
  const members = await lockOwners(trx, { workspaceId, memberIds })
  const entry = {
    workspaceId,
    action: 'access.reconciled',
    actor,
    target: { type: 'workspace', id: workspaceId },
  } as const
  const entryId = await recordActivity(trx, entry)
  const { changed } = await recomputeAccess(trx, { workspaceId, memberIds, entryId, roles })
  return { members, repaired: changed }
}
