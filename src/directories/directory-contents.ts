import type { Db } from '../db/database.ts'
import { toPage, type Page } from '../page.ts'
import { getDirectory, type DirectoryKey, type DirectoryPage } from './directories.ts'

/** A group as the directory sent it, for an admin who picks what to map. */
export interface DirectoryGroup {
  id: string
  displayName: string
  externalId: string | null
  updatedAt: string
}

/** A person as the directory sent them, with the member whom they became. */
export interface DirectoryUser {
  id: string
  userName: string
  externalId: string | null
  active: boolean
  memberId: string
  updatedAt: string
}

/** The groups of a directory, in the order in which they came. @throws {AppError} `not_found` */
export async function listDirectoryGroups(db: Db, page: DirectoryPage & DirectoryKey): Promise<Page<DirectoryGroup>> {
  const { workspaceId, directoryId, limit, after } = page
  await getDirectory(db, page)
  let query = db
    .selectFrom('scim_groups')
    .select(['id', 'display_name as displayName', 'external_id as externalId', 'updated_at as updatedAt'])
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .orderBy('id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

/** The users of a directory, in the order in which they came. @throws {AppError} `not_found` */
export async function listDirectoryUsers(db: Db, page: DirectoryPage & DirectoryKey): Promise<Page<DirectoryUser>> {
  const { workspaceId, directoryId, limit, after } = page
  await getDirectory(db, page)
  let query = db
    .selectFrom('scim_users')
    .select(['id', 'user_name as userName', 'external_id as externalId', 'active', 'member_id as memberId'])
    .select('updated_at as updatedAt')
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .orderBy('id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}
