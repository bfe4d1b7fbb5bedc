import { sql, type RawBuilder } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import { type Db, type Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { toPage, type Page } from '../../page.ts'
import { uuid7 } from '../../uuid7.ts'
import { recomputeAccess, type RecomputedAccess } from '../derivation/access.ts'
import { groupsInScimGroup, mappingColumns, membersOfScimGroup } from '../derivation/derive.ts'
import { requirePreviewed, type SourceChange } from '../derivation/preview.ts'
import { checkGrantable, checkOutranked, isAbove, notConfirmed } from '../derivation/roles.ts'

/**
 * The rule "whoever is in this group is in this Assist group, has this role, or both". It names a directory's group by its
 * id, so that a rename at the identity provider neither breaks nor widens it; one that has not come yet by its name, until
 * it comes; and a group of the sign-in's claim by the claim's value.
 */
export interface GroupMapping {
  id: string
  directoryId: string | null
  scimGroupId: string | null
  /** As the directory calls it now, or as it will be called when it comes. */
  scimGroupName: string | null
  /** The directory has not sent such a group yet. */
  isAwaited: boolean
  claimedGroup: string | null
  groupId: string | null
  groupName: string | null
  role: string | null
  version: number
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

export interface MappingKey {
  workspaceId: string
  mappingId: string
}

/** @throws {AppError} `not_found` */
export async function getMapping(db: Db, { workspaceId, mappingId }: MappingKey): Promise<GroupMapping> {
  return selectMappings(db, workspaceId).where('p.id', '=', mappingId).executeTakeFirstOrThrow(noMapping)
}

function selectMappings(db: Db, workspaceId: string) {
  return db
    .selectFrom('group_mappings as p')
    .leftJoin('scim_groups as s', join =>
      join
        .onRef('s.workspace_id', '=', 'p.workspace_id')
        .onRef('s.directory_id', '=', 'p.directory_id')
        .onRef('s.id', '=', 'p.scim_group_id'),
    )
    .leftJoin('groups as g', join =>
      join.onRef('g.workspace_id', '=', 'p.workspace_id').onRef('g.id', '=', 'p.group_id'),
    )
    .select(['p.id', 'p.directory_id as directoryId', 'p.scim_group_id as scimGroupId', 'p.role', 'p.version'])
    .select(['p.claimed_group as claimedGroup', 'p.group_id as groupId', 'g.name as groupName'])
    .select([
      sql<string | null>`coalesce(s.display_name, p.awaited_group)`.as('scimGroupName'),
      sql<boolean>`p.awaited_group IS NOT NULL`.as('isAwaited'),
    ])
    .select('p.created_at as createdAt')
    .where('p.workspace_id', '=', workspaceId)
}

// ---- what a mapping maps

/** As an admin names it. */
export type MappingSource =
  | { directoryId: string; scimGroupId: string }
  | { directoryId: string; scimGroupName: string }
  | { claimedGroup: string }

/** As it is stored: the group, or what will tell it when it comes. */
interface Source {
  directory_id: string | null
  scim_group_id: string | null
  awaited_group: string | null
  claimed_group: string | null
}

const noSource: Source = { directory_id: null, scim_group_id: null, awaited_group: null, claimed_group: null }

/**
 * Finds what a source names: a name is that of a group already there, or else awaited.
 * @throws {AppError} `not_found` for a directory, `scim_group_unknown` for a group, that the workspace does not have
 */
async function findSource(db: Db, workspaceId: string, named: MappingSource): Promise<Source> {
  if ('claimedGroup' in named) return { ...noSource, claimed_group: named.claimedGroup }
  const { directoryId } = named
  const groups = db
    .selectFrom('scim_groups')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
  if ('scimGroupId' in named) {
    const group = await groups.where('id', '=', named.scimGroupId).executeTakeFirst()
    if (!group) throw noScimGroup()
    return { ...noSource, directory_id: directoryId, scim_group_id: group.id }
  }
  const group = await groups.where('display_name', '=', named.scimGroupName).executeTakeFirst()
  if (group) return { ...noSource, directory_id: directoryId, scim_group_id: group.id }
  const directory = await db
    .selectFrom('directories')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .executeTakeFirst()
  if (!directory) throw new AppError('not_found', 'There is no such directory in this workspace.')
  return { ...noSource, directory_id: directoryId, awaited_group: named.scimGroupName }
}

/** The members whom a mapping of this source concerns: none, while its group is awaited. */
function membersOf(workspaceId: string, source: Source): RawBuilder<unknown> {
  const { directory_id: directoryId, scim_group_id: scimGroupId, claimed_group: claimed } = source
  if (directoryId !== null && scimGroupId !== null) return membersOfScimGroup({ workspaceId, directoryId, scimGroupId })
  return sql`
    SELECT id FROM members
     WHERE workspace_id = ${workspaceId} AND claimed_groups <> '{}' AND ${claimed}::text = ANY (claimed_groups)`
}

/**
 * Holds up whatever could bring somebody into a source, and has what is under way be decided again by what the source is
 * mapped to then: so no change of members misses the mapping while the mapping misses it. Statements that come after it
 * see all that went before. What came into one of the groups while we waited for its lock is found by looking again, until
 * nothing more is.
 */
async function lockSources(trx: Trx, workspaceId: string, sources: readonly Source[]): Promise<void> {
  if (sources.some(source => source.claimed_group !== null)) await lockClaims(trx, { workspaceId, mode: 'exclusive' })
  const directories = [
    ...new Set(sources.flatMap(each => (each.scim_group_id === null ? (each.directory_id ?? []) : []))),
  ]
  // Whoever brings a new group reads the awaited names of this row under a lock of it.
  await sql`SELECT FROM directories WHERE workspace_id = ${workspaceId} AND id = ANY (${directories}::uuid[]) ORDER BY id FOR NO KEY UPDATE`.execute(
    trx,
  )
  for (const { directory_id: directoryId, scim_group_id: scimGroupId } of sources) {
    if (directoryId === null || scimGroupId === null) continue
    let held: bigint | undefined
    for (let found = 0n; found !== held;) {
      held = found
      found = await lockInside(trx, { workspaceId, directoryId, scimGroupId })
    }
  }
}

/** Locks and marks a group and those inside it. Gives how many there were. */
async function lockInside(
  trx: Trx,
  { workspaceId, directoryId, scimGroupId }: { workspaceId: string; directoryId: string; scimGroupId: string },
): Promise<bigint> {
  const { numAffectedRows = 0n } = await sql`
    WITH locked AS (
      SELECT id FROM scim_groups
       WHERE workspace_id = ${workspaceId} AND directory_id = ${directoryId}
         AND id IN (${groupsInScimGroup({ workspaceId, directoryId, scimGroupId })})
       ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE scim_groups g SET reach_version = g.reach_version + 1
      FROM locked l
     WHERE g.workspace_id = ${workspaceId} AND g.directory_id = ${directoryId} AND g.id = l.id`.execute(trx)
  return numAffectedRows
}

/**
 * Sign-ins that change what their member claims share it; a mapping of a claimed group is alone with it. Taken before any
 * row is locked.
 */
export async function lockClaims(
  trx: Trx,
  { workspaceId, mode }: { workspaceId: string; mode: 'shared' | 'exclusive' },
): Promise<void> {
  const key = sql`hashtextextended(${`claimed groups of ${workspaceId}`}::text, 0)`
  const lock = mode === 'shared' ? sql`pg_advisory_xact_lock_shared(${key})` : sql`pg_advisory_xact_lock(${key})`
  await sql`SELECT ${lock}`.execute(trx)
}

/** Has the directory's row say which groups are awaited. */
async function noteAwaited(trx: Trx, workspaceId: string, directoryId: string | null): Promise<void> {
  if (directoryId === null) return
  await sql`
    UPDATE directories d
       SET awaited_groups = ARRAY(SELECT DISTINCT m.awaited_group FROM group_mappings m
                                   WHERE m.workspace_id = d.workspace_id AND m.directory_id = d.id AND m.awaited_group IS NOT NULL)
     WHERE d.workspace_id = ${workspaceId} AND d.id = ${directoryId}`.execute(trx)
}

// ---- changing

interface ByAdmin {
  workspaceId: string
  actor: Actor
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/** The version of the preview that this must turn out to be; absent: it is applied unseen. */
interface Previewed {
  previewVersion?: string | undefined
}

export interface NewMapping extends ByAdmin {
  source: MappingSource
  groupId?: string | undefined
  role?: string | undefined
}

/** Stands for the id of a mapping that is only thought of. */
const NOT_YET = '00000000-0000-0000-0000-000000000000'

/**
 * A new mapping as a change of sources.
 * @throws {AppError} `not_found`, `scim_group_unknown`, `group_unknown`, `role_unknown`, `role_above_own`, `sso_not_confirmed`,
 *   `mapping_exists`
 */
export async function newMappingChange(db: Db, input: NewMapping): Promise<SourceChange> {
  const { workspaceId } = input
  const source = await checkNewMapping(db, input)
  const rule = { ...source, group_id: input.groupId ?? null, role: input.role ?? null }
  return {
    workspaceId,
    subject: { create: rule },
    members: membersOf(workspaceId, source),
    mappings: sql`
      SELECT ${mappingColumns} FROM group_mappings WHERE workspace_id = ${workspaceId}
       UNION ALL
      SELECT ${NOT_YET}::uuid, ${rule.directory_id}::uuid, ${rule.scim_group_id}::uuid, ${rule.claimed_group}::text,
             ${rule.group_id}::uuid, ${rule.role}::text`,
  }
}

async function checkNewMapping(
  db: Db,
  { workspaceId, source, groupId, role, actor, roles }: NewMapping,
): Promise<Source> {
  if (role !== undefined) checkGrantable(roles, role, actor)
  if (groupId !== undefined) await requireGroup(db, workspaceId, groupId)
  const found = await findSource(db, workspaceId, source)
  if (role !== undefined) await checkSourceReach(db, { workspaceId, source: found, role, roles })
  await refuseTwin(db, workspaceId, { ...found, group_id: groupId ?? null, role: role ?? null })
  return found
}

/**
 * Gives no role by groups that somebody below it decides on: whoever has the role first confirms what the groups come from.
 * @throws {AppError} `sso_not_confirmed`
 */
async function checkSourceReach(
  db: Db,
  { workspaceId, source, role, roles }: { workspaceId: string; source: Source; role: string; roles: readonly string[] },
): Promise<void> {
  const isDirectory = source.directory_id !== null
  const { rows } = await sql<{ limit: string }>`
    SELECT max_linkable_role AS "limit" FROM directories
     WHERE workspace_id = ${workspaceId} AND id = ${source.directory_id}::uuid AND max_linkable_role IS NOT NULL
     UNION ALL
    SELECT max_linkable_role FROM sso_configs
     WHERE workspace_id = ${workspaceId} AND NOT ${isDirectory}::boolean AND max_linkable_role IS NOT NULL`.execute(db)
  if (rows.some(({ limit }) => isAbove(roles, role, limit))) {
    throw notConfirmed({ role, by: isDirectory ? 'directory' : 'sso_config' })
  }
}

interface Rule extends Source {
  group_id: string | null
  role: string | null
}

async function requireGroup(db: Db, workspaceId: string, groupId: string): Promise<void> {
  // Locked, in a transaction, so that it is still there when the mapping is.
  const { rows } =
    await sql`SELECT FROM groups WHERE workspace_id = ${workspaceId} AND id = ${groupId} FOR KEY SHARE`.execute(db)
  if (rows.length === 0)
    throw new AppError('group_unknown', 'There is no such Assist group in this workspace. See /groups.')
}

async function refuseTwin(db: Db, workspaceId: string, rule: Rule, mappingId: string = NOT_YET): Promise<void> {
  const twin = await findTwin(db, workspaceId, rule, mappingId)
  if (twin !== undefined) throw mappingExists(twin)
}

async function findTwin(
  db: Db,
  workspaceId: string,
  rule: Rule,
  mappingId: string = NOT_YET,
): Promise<string | undefined> {
  const { rows } = await sql<{ id: string }>`
    SELECT id FROM group_mappings
     WHERE workspace_id = ${workspaceId} AND id <> ${mappingId}
       AND (directory_id, scim_group_id, awaited_group, claimed_group, group_id, role) IS NOT DISTINCT FROM
           (${rule.directory_id}::uuid, ${rule.scim_group_id}::uuid, ${rule.awaited_group}::text, ${rule.claimed_group}::text,
            ${rule.group_id}::uuid, ${rule.role}::text)`.execute(db)
  return rows[0]?.id
}

function mappingExists(id: string): AppError {
  return new AppError('mapping_exists', `The mapping ${id} says the same already.`)
}

/**
 * Adds a mapping and derives the access of everybody in its group anew, in the same transaction.
 * @throws {AppError} as `newMappingChange`; `preview_stale`
 */
export async function createMapping(trx: Trx, input: NewMapping & Previewed): Promise<GroupMapping> {
  const { workspaceId, actor, roles, previewVersion } = input
  // Found twice: what was awaited may have come before the lock was ours.
  await lockSources(trx, workspaceId, [await findSource(trx, workspaceId, input.source)])
  const { subject, members } = await newMappingChange(trx, input)
  const rule = subject.create as Rule
  const { directory_id: directoryId, scim_group_id: scimGroupId, claimed_group: claimedGroup } = rule
  const mappingId = uuid7()
  const created = await trx
    .insertInto('group_mappings')
    .values({ workspace_id: workspaceId, id: mappingId, ...rule })
    .onConflict(conflict => conflict.doNothing())
    .returning('id')
    .executeTakeFirst()
  // An equal one that was made in the meantime, of a group that no lock was taken of.
  if (!created) throw mappingExists('that another admin has just made')
  const awaitedGroup = rule.awaited_group
  await noteAwaited(trx, workspaceId, awaitedGroup === null ? null : directoryId)
  const named = { directoryId, scimGroupId, awaitedGroup, claimedGroup, groupId: rule.group_id, role: rule.role }
  const entryId = await recordMapping(trx, {
    workspaceId,
    mappingId,
    actor,
    action: 'group_mapping.created',
    detail: named,
  })
  const recomputed = await recomputeAccess(trx, { workspaceId, memberIds: members, entryId, roles })
  finishChange(recomputed, { previewVersion, subject })
  return getMapping(trx, { workspaceId, mappingId })
}

export interface MappingChange extends ByAdmin, MappingKey {
  /** What it gives from now on; null takes that part away, an absent one stays. */
  groupId?: string | null | undefined
  role?: string | null | undefined
}

interface StoredMapping extends Rule {
  id: string
  version: number
}

/**
 * A change of what a mapping gives, as a change of sources.
 * @throws {AppError} `not_found`, `group_unknown`, `role_unknown`, `role_above_own`, `sso_not_confirmed`, `mapping_exists`,
 *   `invalid` where it would give nothing
 */
export async function mappingChange(
  db: Db,
  change: MappingChange,
): Promise<SourceChange & { stored: StoredMapping; given: Gives }> {
  const { workspaceId, mappingId, actor, roles } = change
  const stored = await findMapping(db, change)
  const given = {
    group_id: change.groupId === undefined ? stored.group_id : change.groupId,
    role: change.role === undefined ? stored.role : change.role,
  }
  if (stored.role !== null) checkOutranked(roles, stored.role, actor)
  if (given.role !== null) {
    checkGrantable(roles, given.role, actor)
    if (given.role !== stored.role) await checkSourceReach(db, { workspaceId, source: stored, role: given.role, roles })
  }
  if (given.group_id === null && given.role === null) {
    throw new AppError('invalid', 'A mapping gives a groupId, a role, or both. Delete one that should give nothing.')
  }
  if (given.group_id !== null) await requireGroup(db, workspaceId, given.group_id)
  await refuseTwin(db, workspaceId, { ...stored, ...given }, mappingId)
  return {
    workspaceId,
    stored,
    given,
    subject: { change: mappingId, ...given },
    members: membersOf(workspaceId, stored),
    mappings: sql`
      SELECT id, directory_id, scim_group_id, claimed_group,
             CASE WHEN id = ${mappingId} THEN ${given.group_id}::uuid ELSE group_id END AS group_id,
             CASE WHEN id = ${mappingId} THEN ${given.role}::text ELSE role END AS role
        FROM group_mappings WHERE workspace_id = ${workspaceId}`,
  }
}

interface Gives {
  group_id: string | null
  role: string | null
}

async function findMapping(db: Db, { workspaceId, mappingId }: MappingKey): Promise<StoredMapping> {
  return db
    .selectFrom('group_mappings')
    .select(['id', 'version', 'directory_id', 'scim_group_id', 'awaited_group', 'claimed_group', 'group_id', 'role'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', mappingId)
    .executeTakeFirstOrThrow(noMapping)
}

/**
 * Changes what a mapping gives, and derives the access of everybody in its group anew, in the same transaction.
 * @throws {AppError} as `mappingChange`; `version_conflict`, `preview_stale`, `last_owner`
 */
export async function changeMapping(
  trx: Trx,
  change: MappingChange & Previewed & { expectedVersion?: number | undefined },
): Promise<GroupMapping> {
  const { workspaceId, mappingId, actor, roles, previewVersion, expectedVersion } = change
  await lockSources(trx, workspaceId, [await findMapping(trx, change)])
  const { stored, given, subject, members } = await mappingChange(trx, change)
  if (expectedVersion !== undefined && expectedVersion !== stored.version) throw versionConflict()
  if (stored.group_id === given.group_id && stored.role === given.role) return getMapping(trx, change)
  await trx
    .updateTable('group_mappings')
    .set({ ...given, version: stored.version + 1, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', mappingId)
    .execute()
  const detail = {
    before: { groupId: stored.group_id, role: stored.role },
    after: { groupId: given.group_id, role: given.role },
  }
  const entryId = await recordMapping(trx, { workspaceId, mappingId, actor, action: 'group_mapping.updated', detail })
  const recomputed = await recomputeAccess(trx, { workspaceId, memberIds: members, entryId, roles })
  finishChange(recomputed, { previewVersion, subject })
  return getMapping(trx, change)
}

export type MappingDeletion = ByAdmin & MappingKey

/**
 * The end of a mapping, as a change of sources.
 * @throws {AppError} `not_found`; `role_above_own` where it gives a role above the actor's
 */
export async function mappingDeletion(
  db: Db,
  deletion: MappingDeletion,
): Promise<SourceChange & { stored: StoredMapping }> {
  const { workspaceId, mappingId, actor, roles } = deletion
  const stored = await findMapping(db, deletion)
  if (stored.role !== null) checkOutranked(roles, stored.role, actor)
  return {
    workspaceId,
    stored,
    subject: { delete: mappingId },
    members: membersOf(workspaceId, stored),
    mappings: sql`SELECT ${mappingColumns} FROM group_mappings WHERE workspace_id = ${workspaceId} AND id <> ${mappingId}`,
  }
}

/**
 * Removes a mapping and derives the access of everybody in its group anew, in the same transaction.
 * @throws {AppError} as `mappingDeletion`; `preview_stale`; `last_owner` where the workspace would be left without an owner
 */
export async function deleteMapping(trx: Trx, deletion: MappingDeletion & Previewed): Promise<void> {
  const { workspaceId, mappingId, actor, roles, previewVersion } = deletion
  await lockSources(trx, workspaceId, [await findMapping(trx, deletion)])
  const { stored, subject, members } = await mappingDeletion(trx, deletion)
  const { directory_id: directoryId, scim_group_id: scimGroupId, claimed_group: claimedGroup } = stored
  const { awaited_group: awaitedGroup, group_id: groupId, role } = stored
  const detail = { directoryId, scimGroupId, awaitedGroup, claimedGroup, groupId, role }
  const entryId = await recordMapping(trx, { workspaceId, mappingId, actor, action: 'group_mapping.deleted', detail })
  await trx.deleteFrom('group_mappings').where('workspace_id', '=', workspaceId).where('id', '=', mappingId).execute()
  await noteAwaited(trx, workspaceId, awaitedGroup === null ? null : directoryId)
  const recomputed = await recomputeAccess(trx, { workspaceId, memberIds: members, entryId, roles })
  finishChange(recomputed, { previewVersion, subject })
}

/** What recomputeAccess prevents for a directory is refused to an admin; and so is what no preview has shown. */
export function finishChange(
  { keptOwners, digest }: RecomputedAccess,
  { previewVersion, subject }: Previewed & { subject: Record<string, unknown> },
): void {
  if (keptOwners > 0) throw lastOwner()
  requirePreviewed(previewVersion, subject, digest)
}

interface MappingEntry extends MappingKey {
  actor: Actor
  action: 'group_mapping.created' | 'group_mapping.updated' | 'group_mapping.deleted' | 'group_mapping.bound'
  detail: Record<string, unknown>
}

/** Appends the entry, and to the mapping's history what it says: as it is stored, so before it is deleted. */
async function recordMapping(
  trx: Trx,
  { workspaceId, mappingId, actor, action, detail }: MappingEntry,
): Promise<number> {
  const target = { type: 'group_mapping', id: mappingId }
  const entryId = await recordActivity(trx, { workspaceId, action, actor, target, detail })
  const isDeleted = action === 'group_mapping.deleted'
  await sql`${mappingHistory({ entryId: sql`${entryId}`, isDeleted, from: sql`group_mappings m WHERE m.workspace_id = ${workspaceId} AND m.id = ${mappingId}` })}`.execute(
    trx,
  )
  return entryId
}

/** The append to the history of mappings `m`, as a statement or CTE body. */
export function mappingHistory({
  entryId,
  isDeleted,
  from,
}: {
  entryId: RawBuilder<unknown>
  isDeleted: boolean
  from: RawBuilder<unknown>
}): RawBuilder<unknown> {
  const ended = isDeleted ? sql`true` : sql`false`
  return sql`
    INSERT INTO group_mapping_versions (workspace_id, mapping_id, entry_id, is_deleted, directory_id, scim_group_id, awaited_group,
                                        claimed_group, group_id, role)
    SELECT m.workspace_id, m.id, ${entryId}, ${ended}, m.directory_id, m.scim_group_id, m.awaited_group, m.claimed_group, m.group_id,
           m.role
      FROM ${from}`
}

// ---- a group that was awaited

export interface NewScimGroup {
  workspaceId: string
  directoryId: string
  scimGroupId: string
  displayName: string
  actor: Actor
  roles: readonly string[]
}

/**
 * Binds the mappings that awaited a group by its name to the group itself, now that it has come, and derives the access of
 * its people. From here on its name plays no part. A group that is renamed to an awaited name binds nothing: whoever
 * may rename a group could otherwise give all of it what was meant for another.
 */
export async function bindAwaitedMappings(trx: Trx, group: NewScimGroup): Promise<void> {
  const { workspaceId, directoryId, scimGroupId, displayName, actor, roles } = group
  const bound = await trx
    .updateTable('group_mappings')
    .set({ scim_group_id: scimGroupId, awaited_group: null, version: sql`version + 1`, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .where('awaited_group', '=', displayName)
    .returning('id')
    .execute()
  await noteAwaited(trx, workspaceId, directoryId)
  let entryId: number | undefined
  for (const { id: mappingId } of bound) {
    const detail = { directoryId, scimGroupId, displayName }
    entryId = await recordMapping(trx, { workspaceId, mappingId, actor, action: 'group_mapping.bound', detail })
  }
  if (entryId === undefined) return
  const memberIds = membersOfScimGroup({ workspaceId, directoryId, scimGroupId })
  await recomputeAccess(trx, { workspaceId, memberIds, entryId, roles })
}

// ---- an Assist group that goes

/**
 * The end of an Assist group, as a change of sources: mappings that give a role as well go on giving it.
 */
export function groupDeletion({ workspaceId, groupId }: { workspaceId: string; groupId: string }): SourceChange {
  return {
    workspaceId,
    subject: { deleteGroup: groupId },
    members: sql`SELECT member_id FROM group_memberships WHERE workspace_id = ${workspaceId} AND group_id = ${groupId}`,
    mappings: sql`
      SELECT id, directory_id, scim_group_id, claimed_group, nullif(group_id, ${groupId}::uuid) AS group_id, role
        FROM group_mappings WHERE workspace_id = ${workspaceId}`,
  }
}

/** Takes an Assist group out of all mappings, ending those that give nothing else, and empties it. */
export async function unmapGroup(
  trx: Trx,
  { workspaceId, groupId, actor, roles, previewVersion }: ByAdmin & Previewed & { groupId: string },
): Promise<void> {
  const { subject, members } = groupDeletion({ workspaceId, groupId })
  const mappings = await trx
    .selectFrom('group_mappings')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('group_id', '=', groupId)
    .orderBy('scim_group_id')
    .execute()
  await lockSources(trx, workspaceId, mappings)
  let entryId = 0
  for (const { id: mappingId, ...rule } of mappings) {
    const { role } = rule
    const isTwin = (await findTwin(trx, workspaceId, { ...rule, group_id: null })) !== undefined
    const entry = {
      workspaceId,
      mappingId,
      actor,
      detail: { before: { groupId, role }, after: { groupId: null, role } },
    }
    const here = sql`workspace_id = ${workspaceId} AND id = ${mappingId}`
    if (role === null || isTwin) {
      entryId = await recordMapping(trx, { ...entry, action: 'group_mapping.deleted' })
      await sql`DELETE FROM group_mappings WHERE ${here}`.execute(trx)
    } else {
      await sql`UPDATE group_mappings SET group_id = NULL, version = version + 1, updated_at = now() WHERE ${here}`.execute(
        trx,
      )
      entryId = await recordMapping(trx, { ...entry, action: 'group_mapping.updated' })
    }
    await noteAwaited(trx, workspaceId, rule.awaited_group === null ? null : rule.directory_id)
  }
  const recomputed = await recomputeAccess(trx, { workspaceId, memberIds: members, entryId, roles })
  finishChange(recomputed, { previewVersion, subject })
}

// ---- refusals

function noMapping(): AppError {
  return new AppError('not_found', 'There is no such group mapping in this workspace.')
}

function noScimGroup(): AppError {
  return new AppError(
    'scim_group_unknown',
    'There is no such group in this directory. See what it has sent under /directories/{directoryId}/groups, or give scimGroupName to await one.',
  )
}

function versionConflict(): AppError {
  return new AppError(
    'version_conflict',
    'The mapping has changed since you read it. Read it again, and send its ETag with your change.',
  )
}

/** What recomputeAccess prevents for a directory is refused to an admin, who can do something about it. */
export function lastOwner(): AppError {
  return new AppError(
    'last_owner',
    'This would leave the workspace without an active owner. Give another member the role owner first.',
  )
}
