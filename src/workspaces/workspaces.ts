import { sql } from 'kysely'
import { setDefaultRole } from '../access/mappings/default-role.ts'
import { checkGrantable } from '../access/derivation/roles.ts'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Db, Trx } from '../db/database.ts'
import { prepared } from '../db/prepared.ts'
import { AppError } from '../errors.ts'

export interface Workspace {
  id: string
  name: string
  defaultRole: string
  version: number
  createdAt: string
  updatedAt: string
}

const columns = [
  'id',
  'name',
  'default_role as defaultRole',
  'version',
  'created_at as createdAt',
  'updated_at as updatedAt',
] as const

/** @throws {AppError} `not_found` */
export async function getWorkspace(db: Db, workspaceId: string): Promise<Workspace> {
  return db
    .selectFrom('workspaces')
    .select(columns)
    .where('id', '=', workspaceId)
    .executeTakeFirstOrThrow(() => new AppError('not_found', 'There is no such workspace.'))
}

const findGuarded = prepared<{ workspaceId: string }, { isEnforced: boolean }>(
  'workspace_gate',
  ({ workspaceId }) => sql`
    SELECT EXISTS (SELECT FROM sso_configs WHERE workspace_id = ${workspaceId}::uuid AND enforced_at IS NOT NULL)
             AS "isEnforced"
      FROM workspaces WHERE id = ${workspaceId}::uuid`,
)

/** Holds up whoever is about to enforce SSO, and waits for whoever does. */
export async function isEnforcedNow(trx: Trx, workspaceId: string): Promise<boolean> {
  const config = await trx
    .selectFrom('sso_configs')
    .select('enforced_at')
    .where('workspace_id', '=', workspaceId)
    .forShare()
    .executeTakeFirst()
  return (config?.enforced_at ?? null) !== null
}

/** What the guard of a workspace's routes asks; undefined where there is no such workspace. */
export async function findGatedWorkspace(db: Db, workspaceId: string): Promise<{ isEnforced: boolean } | undefined> {
  const [row] = await findGuarded(db, { workspaceId })
  return row
}

export interface WorkspaceInput {
  id: string
  name: string
  /** Absent: as it is, or the configuration's for a new workspace. */
  defaultRole?: string | undefined
  actor: Actor
  config: { roles: readonly string[]; defaultRole: string }
}

/**
 * Creates a workspace or brings it to the given state; saving what is there already changes and records nothing.
 * @throws {AppError} `role_unknown`; `last_owner` where another default role would leave it without an owner
 */
export async function saveWorkspace(trx: Trx, input: WorkspaceInput): Promise<Workspace> {
  const { id: workspaceId, name, defaultRole, actor, config } = input
  const { roles } = config
  if (defaultRole !== undefined) checkGrantable(roles, defaultRole, actor)
  const firstRole = defaultRole ?? config.defaultRole
  const created = await trx
    .insertInto('workspaces')
    .values({ id: workspaceId, name, default_role: firstRole })
    .onConflict(conflict => conflict.doNothing())
    .returning(columns)
    .executeTakeFirst()
  if (created) {
    await recordSaved(trx, input, firstRole)
    return created
  }
  const renamed = await trx
    .updateTable('workspaces')
    .set({ name, version: sql`version + 1`, updated_at: sql`now()` })
    .where('id', '=', workspaceId)
    .where('name', '<>', name)
    .returning('default_role')
    .executeTakeFirst()
  if (renamed) await recordSaved(trx, input, renamed.default_role)
  if (defaultRole !== undefined) await setDefaultRole(trx, { workspaceId, role: defaultRole, actor, roles })
  return getWorkspace(trx, workspaceId)
}

async function recordSaved(trx: Trx, { id, name, actor }: WorkspaceInput, defaultRole: string): Promise<void> {
  const target = { type: 'workspace', id }
  await recordActivity(trx, {
    workspaceId: id,
    action: 'workspace.saved',
    actor,
    target,
    detail: { name, defaultRole },
  })
}
