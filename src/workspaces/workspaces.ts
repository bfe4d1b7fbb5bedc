import { sql } from 'kysely'
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

const findWorkspace = prepared<{ workspaceId: string }, { exists: boolean }>(
  'workspace_exists',
  ({ workspaceId }) => sql`SELECT EXISTS (SELECT FROM workspaces WHERE id = ${workspaceId}::uuid) AS "exists"`,
)

export async function workspaceExists(db: Db, workspaceId: string): Promise<boolean> {
  const [row] = await findWorkspace(db, { workspaceId })
  return row?.exists === true
}

export interface WorkspaceInput {
  id: string
  name: string
  defaultRole: string
}

/** Creates a workspace or brings it to the given state; saving what is there already changes and records nothing. */
export async function saveWorkspace(trx: Trx, input: WorkspaceInput, actor: Actor): Promise<Workspace> {
  const saved = await trx
    .insertInto('workspaces')
    .values({ id: input.id, name: input.name, default_role: input.defaultRole })
    .onConflict(conflict =>
      conflict
        .column('id')
        .doUpdateSet({
          name: input.name,
          default_role: input.defaultRole,
          version: sql`workspaces.version + 1`,
          updated_at: sql`now()`,
        })
        .where(({ eb, or }) =>
          or([eb('workspaces.name', '<>', input.name), eb('workspaces.default_role', '<>', input.defaultRole)]),
        ),
    )
    .returning(columns)
    .executeTakeFirst()
  if (!saved) return getWorkspace(trx, input.id)
  await recordActivity(trx, {
    workspaceId: input.id,
    action: 'workspace.saved',
    actor,
    target: { type: 'workspace', id: input.id },
    detail: { name: input.name, defaultRole: input.defaultRole },
  })
  return saved
}
