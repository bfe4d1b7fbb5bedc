import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import { isForeignKeyViolation, isUniqueViolation, type Db, type Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { toPage, type Page } from '../../page.ts'
import { uuid7 } from '../../uuid7.ts'
import { unmapGroup } from './group-mappings.ts'

/** An Assist group: products inside Assist give rights to it. Who is in it follows from group mappings alone. */
export interface Group {
  id: string
  name: string
  version: number
  createdAt: string
  updatedAt: string
}

export interface GroupMember {
  id: string
  email: string | null
  displayName: string | null
  status: 'invited' | 'active' | 'deactivated'
  role: string
  /** The mappings by which they came in, each with the group that it maps. */
  through: { mappingId: string; scimGroupName: string | null; claimedGroup: string | null }[]
}

export interface GroupKey {
  workspaceId: string
  groupId: string
}

interface IdPage {
  limit: number
  after?: string | undefined
}

const columns = ['id', 'name', 'version', 'created_at as createdAt', 'updated_at as updatedAt'] as const

/** The Assist groups of a workspace, oldest first. */
export async function listGroups(db: Db, page: { workspaceId: string } & IdPage): Promise<Page<Group>> {
  const { workspaceId, limit, after } = page
  let query = db
    .selectFrom('groups')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .orderBy('id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

/** @throws {AppError} `not_found` */
export async function getGroup(db: Db, { workspaceId, groupId }: GroupKey): Promise<Group> {
  return db
    .selectFrom('groups')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', groupId)
    .executeTakeFirstOrThrow(noGroup)
}

/** Who is in a group, in the order in which they became members. @throws {AppError} `not_found` */
export async function listGroupMembers(db: Db, page: GroupKey & IdPage): Promise<Page<GroupMember>> {
  const { workspaceId, groupId, limit, after } = page
  await getGroup(db, page)
  let query = db
    .selectFrom('group_memberships as g')
    .innerJoin('members as m', join =>
      join.onRef('m.workspace_id', '=', 'g.workspace_id').onRef('m.id', '=', 'g.member_id'),
    )
    .select(['m.id', 'm.email', 'm.display_name as displayName', 'm.status', 'm.role'])
    .select(
      sql<GroupMember['through']>`(
        SELECT coalesce(jsonb_agg(jsonb_build_object('mappingId', p.id, 'scimGroupName', s.display_name, 'claimedGroup', p.claimed_group)
                                  ORDER BY p.id), '[]')
          FROM group_mappings p
          LEFT JOIN scim_groups s ON s.workspace_id = p.workspace_id AND s.directory_id = p.directory_id AND s.id = p.scim_group_id
         WHERE p.workspace_id = g.workspace_id AND p.group_id = g.group_id AND p.id = ANY (m.rules))`.as('through'),
    )
    .where('g.workspace_id', '=', workspaceId)
    .where('g.group_id', '=', groupId)
    .orderBy('g.member_id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('g.member_id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

/** @throws {AppError} `conflict` where the workspace has a group of that name, in any case */
export async function createGroup(
  trx: Trx,
  { workspaceId, name, actor }: { workspaceId: string; name: string; actor: Actor },
): Promise<Group> {
  const group = await trx
    .insertInto('groups')
    .values({ workspace_id: workspaceId, id: uuid7(), name, name_key: nameKey(name) })
    .returning(columns)
    .executeTakeFirstOrThrow()
    .catch(refuseTakenName)
  const target = { type: 'group', id: group.id }
  await recordActivity(trx, { workspaceId, action: 'group.created', actor, target, detail: { name } })
  return group
}

export interface GroupChange extends GroupKey {
  /** The version that must still be the stored one. */
  expectedVersion?: number | undefined
  actor: Actor
}

/** @throws {AppError} `not_found`, `version_conflict`, `conflict` where the name is taken */
export async function renameGroup(
  trx: Trx,
  { workspaceId, groupId, expectedVersion, actor, name }: GroupChange & { name: string },
): Promise<Group> {
  let query = trx
    .updateTable('groups')
    .set({ name, name_key: nameKey(name), version: sql`version + 1`, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', groupId)
    .where('name', '<>', name)
  if (expectedVersion !== undefined) query = query.where('version', '=', expectedVersion)
  const renamed = await query.returning(columns).executeTakeFirst().catch(refuseTakenName)
  if (!renamed) {
    const group = await getGroup(trx, { workspaceId, groupId })
    if (expectedVersion !== undefined && expectedVersion !== group.version) throw versionConflict()
    return group
  }
  const target = { type: 'group', id: groupId }
  await recordActivity(trx, { workspaceId, action: 'group.updated', actor, target, detail: { name } })
  return renamed
}

/** @param previewVersion of the preview of the deletion, which shows what goes with the group */
export type GroupDeletion = GroupChange & { roles: readonly string[]; previewVersion?: string | undefined }

/**
 * Removes a group. One that mappings still name goes only by the version of a preview: with it the mappings give it up.
 * @throws {AppError} `not_found`, `version_conflict`, `group_mapped` where a mapping names it; `preview_stale`
 */
export async function deleteGroup(trx: Trx, deletion: GroupDeletion): Promise<void> {
  const { workspaceId, groupId, expectedVersion, actor, previewVersion } = deletion
  if (previewVersion !== undefined) await unmapGroup(trx, { ...deletion, previewVersion })
  let query = trx.deleteFrom('groups').where('workspace_id', '=', workspaceId).where('id', '=', groupId)
  if (expectedVersion !== undefined) query = query.where('version', '=', expectedVersion)
  const deleted = await query
    .returning('name')
    .executeTakeFirst()
    .catch((error: unknown) => {
      throw isForeignKeyViolation(error, 'group_mappings') ? groupMapped() : error
    })
  if (!deleted) {
    await getGroup(trx, { workspaceId, groupId })
    throw versionConflict()
  }
  const target = { type: 'group', id: groupId }
  await recordActivity(trx, { workspaceId, action: 'group.deleted', actor, target, detail: deleted })
}

function noGroup(): AppError {
  return new AppError('not_found', 'There is no such group in this workspace.')
}

function nameKey(name: string): string {
  return name.normalize('NFC').toLowerCase()
}

function refuseTakenName(error: unknown): never {
  if (!isUniqueViolation(error, 'groups_name')) throw error
  throw new AppError('conflict', 'The workspace has a group of that name. Choose another name.')
}

function groupMapped(): AppError {
  return new AppError(
    'group_mapped',
    'Group mappings still name this group. Delete them first, or look at the preview of the deletion and send its version.',
  )
}

function versionConflict(): AppError {
  return new AppError(
    'version_conflict',
    'The group has changed since you read it. Read it again, and send its ETag with your change.',
  )
}
