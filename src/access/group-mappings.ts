import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import { isForeignKeyViolation, type Db, type Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { toPage, type Page } from '../page.ts'
import { uuid7 } from '../uuid7.ts'
import { groupsInScimGroup, membersOfScimGroup, recomputeAccess, type ScimGroupKey } from './access.ts'
import { noGroup } from './groups.ts'
import { checkGrantable, checkOutranked } from './roles.ts'

/**
 * The rule "whoever is in this scim group is in this Assist group, has this role, or both". It names the scim group by its
 * id, so that a rename at the identity provider neither breaks nor widens it.
 */
export interface GroupMapping {
  id: string
  directoryId: string
  scimGroupId: string
  /** As the directory calls it now. */
  scimGroupName: string
  groupId: string | null
  groupName: string | null
  role: string | null
  createdAt: string
}

interface MappingFilter {
  workspaceId: string
  directoryId?: string | undefined
  groupId?: string | undefined
  limit: number
  after?: string | undefined
}

/** The mappings of a workspace, oldest first. */
export async function listMappings(db: Db, filter: MappingFilter): Promise<Page<GroupMapping>> {
  const { workspaceId, directoryId, groupId, limit, after } = filter
  let query = selectMappings(db, workspaceId)
    .orderBy('p.id')
    .limit(limit + 1)
  if (directoryId !== undefined) query = query.where('p.directory_id', '=', directoryId)
  if (groupId !== undefined) query = query.where('p.group_id', '=', groupId)
  if (after !== undefined) query = query.where('p.id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

/** @throws {AppError} `not_found` */
export async function getMapping(
  db: Db,
  { workspaceId, mappingId }: { workspaceId: string; mappingId: string },
): Promise<GroupMapping> {
  return selectMappings(db, workspaceId).where('p.id', '=', mappingId).executeTakeFirstOrThrow(noMapping)
}

function selectMappings(db: Db, workspaceId: string) {
  return db
    .selectFrom('group_mappings as p')
    .innerJoin('scim_groups as s', join =>
      join
        .onRef('s.workspace_id', '=', 'p.workspace_id')
        .onRef('s.directory_id', '=', 'p.directory_id')
        .onRef('s.id', '=', 'p.scim_group_id'),
    )
    .leftJoin('groups as g', join =>
      join.onRef('g.workspace_id', '=', 'p.workspace_id').onRef('g.id', '=', 'p.group_id'),
    )
    .select(['p.id', 'p.directory_id as directoryId', 'p.scim_group_id as scimGroupId', 'p.role'])
    .select(['s.display_name as scimGroupName', 'p.group_id as groupId', 'g.name as groupName'])
    .select('p.created_at as createdAt')
    .where('p.workspace_id', '=', workspaceId)
}

export interface NewMapping extends ScimGroupKey {
  groupId?: string | undefined
  role?: string | undefined
  actor: Actor
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/**
 * Adds a mapping and derives the access of everybody in the scim group anew, in the same transaction.
 * @throws {AppError} `not_found`, `role_unknown`, `role_above_own`; `conflict` where the same mapping exists
 */
export async function createMapping(trx: Trx, input: NewMapping): Promise<GroupMapping> {
  const { workspaceId, directoryId, scimGroupId, groupId, role, actor, roles } = input
  if (role !== undefined) checkGrantable(roles, role, actor)
  await lockScimGroup(trx, input)
  const rule = { directory_id: directoryId, scim_group_id: scimGroupId, group_id: groupId ?? null, role: role ?? null }
  const created = await trx
    .insertInto('group_mappings')
    .values({ workspace_id: workspaceId, id: uuid7(), ...rule })
    .onConflict(conflict => conflict.doNothing())
    .returning('id')
    .executeTakeFirst()
    .catch((error: unknown) => {
      throw isForeignKeyViolation(error, 'group_mappings') ? noGroup() : error
    })
  if (!created) throw new AppError('conflict', 'This mapping exists already.')
  const entryId = await recordActivity(trx, {
    workspaceId,
    action: 'group_mapping.created',
    actor,
    target: { type: 'group_mapping', id: created.id },
    detail: { directoryId, scimGroupId, groupId, role },
  })
  await recomputeAccess(trx, { workspaceId, memberIds: membersOfScimGroup(input), entryId, roles })
  return getMapping(trx, { workspaceId, mappingId: created.id })
}

/**
 * Removes a mapping and derives the access of everybody in the scim group anew, in the same transaction.
 * @throws {AppError} `not_found`; `role_above_own` where it gives a role above the actor's; `last_owner` where the workspace
 *   would be left without an owner
 */
export async function deleteMapping(
  trx: Trx,
  {
    workspaceId,
    mappingId,
    actor,
    roles,
  }: { workspaceId: string; mappingId: string } & Pick<NewMapping, 'actor' | 'roles'>,
): Promise<void> {
  const { directoryId, scimGroupId, groupId, role } = await getMapping(trx, { workspaceId, mappingId })
  if (role !== null) checkOutranked(roles, role, actor)
  const scimGroup = { workspaceId, directoryId, scimGroupId }
  await lockScimGroup(trx, scimGroup)
  const { numDeletedRows } = await trx
    .deleteFrom('group_mappings')
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', mappingId)
    .executeTakeFirst()
  if (numDeletedRows === 0n) throw noMapping()
  const entryId = await recordActivity(trx, {
    workspaceId,
    action: 'group_mapping.deleted',
    actor,
    target: { type: 'group_mapping', id: mappingId },
    detail: { ...scimGroup, groupId, role },
  })
  const memberIds = membersOfScimGroup(scimGroup)
  const { keptOwners } = await recomputeAccess(trx, { workspaceId, memberIds, entryId, roles })
  if (keptOwners.length > 0) throw lastOwner()
}

/**
 * Holds up changes to who is in a scim group, and has those under way be decided again by what it is mapped to then: so none
 * of them misses the mapping while the mapping misses it.
 * @throws {AppError} `not_found`
 */
async function lockScimGroup(trx: Trx, key: ScimGroupKey): Promise<void> {
  const { workspaceId, directoryId, scimGroupId } = key
  const { rows } = await sql<{ id: string }>`
    WITH locked AS (
      SELECT id FROM scim_groups
       WHERE workspace_id = ${workspaceId} AND directory_id = ${directoryId} AND id IN (${groupsInScimGroup(key)})
       ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE scim_groups g SET reach_version = g.reach_version + 1
      FROM locked l
     WHERE g.workspace_id = ${workspaceId} AND g.directory_id = ${directoryId} AND g.id = l.id
    RETURNING g.id`.execute(trx)
  if (rows.some(row => row.id === scimGroupId)) return
  throw new AppError(
    'not_found',
    'There is no such group in this directory. See what it has sent under /directories/{directoryId}/groups.',
  )
}

function noMapping(): AppError {
  return new AppError('not_found', 'There is no such group mapping in this workspace.')
}

/** What recomputeAccess prevents for a directory is refused to an admin, who can do something about it. */
export function lastOwner(): AppError {
  return new AppError(
    'last_owner',
    'This would leave the workspace without an active owner. Give another member the role owner first.',
  )
}
