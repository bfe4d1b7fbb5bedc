import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Db, Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { toPage, type Page } from '../page.ts'
import { uuid7 } from '../uuid7.ts'

export type DirectoryMode = 'tolerant' | 'strict'

/** One SCIM source of a workspace. */
export interface Directory {
  id: string
  name: string
  mode: DirectoryMode
  enabled: boolean
  version: number
  createdAt: string
  updatedAt: string
}

export interface DirectoryKey {
  workspaceId: string
  directoryId: string
}

const columns = [
  'id',
  'name',
  'mode',
  'enabled',
  'version',
  'created_at as createdAt',
  'updated_at as updatedAt',
] as const

export interface DirectoryPage {
  workspaceId: string
  limit: number
  after?: string | undefined
}

/** The directories of a workspace, oldest first. */
export async function listDirectories(db: Db, { workspaceId, limit, after }: DirectoryPage): Promise<Page<Directory>> {
  let query = db
    .selectFrom('directories')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .orderBy('id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

/** @throws {AppError} `not_found` */
export async function getDirectory(db: Db, { workspaceId, directoryId }: DirectoryKey): Promise<Directory> {
  return db
    .selectFrom('directories')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .executeTakeFirstOrThrow(noDirectory)
}

export interface NewDirectory {
  workspaceId: string
  name: string
  mode: DirectoryMode
  actor: Actor
}

export async function createDirectory(trx: Trx, { workspaceId, name, mode, actor }: NewDirectory): Promise<Directory> {
  const directory = await trx
    .insertInto('directories')
    .values({ workspace_id: workspaceId, id: uuid7(), name, mode })
    .returning(columns)
    .executeTakeFirstOrThrow()
  const target = { type: 'directory', id: directory.id }
  await recordActivity(trx, { workspaceId, action: 'directory.created', actor, target, detail: { name, mode } })
  return directory
}

export interface DirectoryChange extends DirectoryKey {
  changes: { name?: string | undefined; mode?: DirectoryMode | undefined; enabled?: boolean | undefined }
  /** The version that must still be the stored one. */
  expectedVersion?: number | undefined
  actor: Actor
}

/**
 * Changes a directory; one that is switched off answers every SCIM request with 401, and its people keep their access. A
 * change to what it is already writes and records nothing.
 * @throws {AppError} `not_found`, `version_conflict`
 */
export async function changeDirectory(trx: Trx, change: DirectoryChange): Promise<Directory> {
  const { workspaceId, directoryId, changes, expectedVersion, actor } = change
  const { name, mode, enabled } = changes
  const wanted = {
    name: sql<string>`coalesce(${name ?? null}, name)`,
    mode: sql<DirectoryMode>`coalesce(${mode ?? null}, mode)`,
    enabled: sql<boolean>`coalesce(${enabled ?? null}::boolean, enabled)`,
  }
  let query = trx
    .updateTable('directories')
    .set({ ...wanted, version: sql`version + 1`, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .where(sql<boolean>`(name, mode, enabled) IS DISTINCT FROM (${wanted.name}, ${wanted.mode}, ${wanted.enabled})`)
  if (expectedVersion !== undefined) query = query.where('version', '=', expectedVersion)
  const changed = await query.returning(columns).executeTakeFirst()
  if (!changed) {
    const directory = await getDirectory(trx, change)
    if (expectedVersion !== undefined && expectedVersion !== directory.version) throw versionConflict()
    return directory
  }
  const target = { type: 'directory', id: directoryId }
  await recordActivity(trx, { workspaceId, action: 'directory.updated', actor, target, detail: changes })
  return changed
}

/**
 * Removes a directory that holds no users, with its tokens, groups and their mappings: an empty group gives nobody access.
 * @throws {AppError} `not_found`, `version_conflict`, `conflict` where it holds users
 */
export async function deleteDirectory(
  trx: Trx,
  { workspaceId, directoryId, expectedVersion, actor }: Omit<DirectoryChange, 'changes'>,
): Promise<void> {
  const key = { workspace_id: workspaceId, directory_id: directoryId }
  // Under this lock no user can be added.
  const directory = await trx
    .selectFrom('directories')
    .select(['name', 'version'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .forUpdate()
    .executeTakeFirstOrThrow(noDirectory)
  if (expectedVersion !== undefined && expectedVersion !== directory.version) throw versionConflict()
  const user = await trx
    .selectFrom('scim_users')
    .select('id')
    .where(eb => eb.and(key))
    .limit(1)
    .executeTakeFirst()
  if (user) throw holdsUsers()
  await trx
    .deleteFrom('scim_groups')
    .where(eb => eb.and(key))
    .execute()
  await trx
    .deleteFrom('scim_counters')
    .where(eb => eb.and(key))
    .execute()
  await trx.deleteFrom('directories').where('workspace_id', '=', workspaceId).where('id', '=', directoryId).execute()
  const target = { type: 'directory', id: directoryId }
  const detail = { name: directory.name }
  await recordActivity(trx, { workspaceId, action: 'directory.deleted', actor, target, detail })
}

function holdsUsers(): AppError {
  return new AppError(
    'conflict',
    'The directory still holds users. Take them out of the application at the identity provider, which deactivates and ' +
      'removes them here, or switch the directory off by setting enabled to false.',
  )
}

export function noDirectory(): AppError {
  return new AppError('not_found', 'There is no such directory in this workspace.')
}

function versionConflict(): AppError {
  return new AppError(
    'version_conflict',
    'The directory has changed since you read it. Read it again, and send its ETag with your change.',
  )
}

/** What the admin enters at the identity provider. */
export function scimEndpoint(publicUrl: string, directoryId: string): string {
  return `${publicUrl}/scim/v2/${directoryId}`
}
