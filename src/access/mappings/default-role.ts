import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import type { Db, Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { lockOwners, recomputeAccess } from '../derivation/access.ts'
import { finishChange } from './group-mappings.ts'
import type { SourceChange } from '../derivation/preview.ts'
import { checkGrantable, checkOutranked } from '../derivation/roles.ts'

export interface DefaultRoleChange {
  workspaceId: string
  role: string
  actor: Actor
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/** @throws {AppError} `not_found` */
export async function getDefaultRole(db: Db, workspaceId: string): Promise<string> {
  const { default_role: role } = await db
    .selectFrom('workspaces')
    .select('default_role')
    .where('id', '=', workspaceId)
    .executeTakeFirstOrThrow(() => new AppError('not_found', 'There is no such workspace.'))
  return role
}

/**
 * Another default role, as a change of sources: it concerns everybody to whom nothing else gives a role.
 * @throws {AppError} `role_unknown`; `role_above_own` where the old or the new one is above the actor's
 */
export async function defaultRoleChange(
  db: Db,
  { workspaceId, role, actor, roles }: DefaultRoleChange,
): Promise<SourceChange> {
  checkOutranked(roles, await getDefaultRole(db, workspaceId), actor)
  checkGrantable(roles, role, actor)
  return {
    workspaceId,
    subject: { defaultRole: role },
    members: sql`SELECT id FROM members WHERE workspace_id = ${workspaceId}`,
    defaultRole: sql<string>`${role}::text`,
  }
}

/**
 * Sets the default role and derives everybody's access anew, in the same transaction. One that is set already changes and
 * records nothing.
 * @throws {AppError} as `defaultRoleChange`; `preview_stale`, `last_owner`
 */
export async function setDefaultRole(
  trx: Trx,
  change: DefaultRoleChange & { previewVersion?: string | undefined },
): Promise<void> {
  const { workspaceId, role, actor, roles, previewVersion } = change
  const { subject, members } = await defaultRoleChange(trx, change)
  await lockOwners(trx, { workspaceId, memberIds: members })
  const changed = await trx
    .updateTable('workspaces')
    .set({ default_role: role, version: sql`version + 1`, updated_at: sql`now()` })
    .where('id', '=', workspaceId)
    .where('default_role', '<>', role)
    .returning('name')
    .executeTakeFirst()
  if (!changed) return
  const entryId = await recordActivity(trx, {
    workspaceId,
    action: 'workspace.saved',
    actor,
    target: { type: 'workspace', id: workspaceId },
    detail: { name: changed.name, defaultRole: role },
  })
  // Whoever became a member since the members were locked holds a lock of the workspace's row, and so has committed.
  const recomputed = await recomputeAccess(trx, { workspaceId, memberIds: members, entryId, roles })
  finishChange(recomputed, { previewVersion, subject })
}
