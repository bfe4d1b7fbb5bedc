import { sql } from 'kysely'
import { NO_DIFFERENCE, recomputeAccess } from '../access/derivation/access.ts'
import { countsSql } from '../access/derivation/derive.ts'
import { finishChange, mappingHistory } from '../access/mappings/group-mappings.ts'
import { requirePreviewed, type SourceChange } from '../access/derivation/preview.ts'
import { isAbove, roleLimitOf } from '../access/derivation/roles.ts'
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
  /** What its groups give while it is off: what they gave, or nothing. */
  whenOff: 'keep' | 'release'
  /** The guard against mass deprovisioning: over either limit within the window, more removals are held. */
  guard: Guard
  /** The highest role whose members its users may be newly linked to at a sign-in; null: every one. */
  maxLinkableRole: string | null
  version: number
  createdAt: string
  updatedAt: string
}

/** Off where both limits are null. */
export interface Guard {
  people: number | null
  /** Of the directory's users. */
  percent: number | null
  /** The window, in minutes. */
  minutes: number
}

/** Directories per workspace. Each has limits, tokens and memory of its own. */
export const MAX_DIRECTORIES = 20

export interface DirectoryKey {
  workspaceId: string
  directoryId: string
}

const columns = [
  'id',
  'name',
  'mode',
  'enabled',
  'when_off as whenOff',
  sql<Guard>`jsonb_build_object('people', guard_people, 'percent', guard_percent, 'minutes', guard_minutes)`.as(
    'guard',
  ),
  'max_linkable_role as maxLinkableRole',
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
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/** @throws {AppError} `directory_limit` */
export async function createDirectory(
  trx: Trx,
  { workspaceId, name, mode, actor, roles }: NewDirectory,
): Promise<Directory> {
  // The lock makes concurrent requests count each other's directories.
  await sql`SELECT FROM workspaces WHERE id = ${workspaceId} FOR UPDATE`.execute(trx)
  const { count } = await trx
    .selectFrom('directories')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('workspace_id', '=', workspaceId)
    .executeTakeFirstOrThrow()
  if (count >= MAX_DIRECTORIES) {
    throw new AppError(
      'directory_limit',
      `A workspace can have ${MAX_DIRECTORIES} directories. Delete one that is no longer used.`,
    )
  }
  const directory = await trx
    .insertInto('directories')
    .values({ workspace_id: workspaceId, id: uuid7(), name, mode, max_linkable_role: roleLimitOf(roles, actor) })
    .returning(columns)
    .executeTakeFirstOrThrow()
  const target = { type: 'directory', id: directory.id }
  await recordActivity(trx, { workspaceId, action: 'directory.created', actor, target, detail: { name, mode } })
  return directory
}

interface Changes {
  name?: string | undefined
  mode?: DirectoryMode | undefined
  enabled?: boolean | undefined
  whenOff?: 'keep' | 'release' | undefined
  guard?: { [Key in keyof Guard]?: Guard[Key] | undefined } | undefined
}

export interface DirectoryChange extends DirectoryKey {
  changes: Changes
  /** The version that must still be the stored one. */
  expectedVersion?: number | undefined
  actor: Actor
}

/**
 * What a change of a directory means for access: its groups count while it is on, and after it is off too where it was told
 * to keep what they gave. Groups of a sign-in's claim take over for people whose directory no longer counts.
 */
export function directoryChange(directory: Directory, { workspaceId }: DirectoryKey, changes: Changes): SourceChange {
  const counts = isCounting({ ...directory, ...withoutAbsent(changes) })
  return {
    workspaceId,
    subject: { directory: directory.id, counts },
    members: sql`SELECT member_id FROM scim_users WHERE workspace_id = ${workspaceId} AND directory_id = ${directory.id}`,
    directories: sql`
      SELECT id FROM directories
       WHERE workspace_id = ${workspaceId} AND CASE WHEN id = ${directory.id} THEN ${counts}::boolean ELSE ${countsSql} END`,
  }
}

function isCounting({ enabled, whenOff }: { enabled: boolean; whenOff: 'keep' | 'release' }): boolean {
  return enabled || whenOff === 'keep'
}

/** A key that is there and undefined would overwrite what it is spread over. */
function withoutAbsent<Some extends object>(some: Some): { [Key in keyof Some]?: Exclude<Some[Key], undefined> } {
  return Object.fromEntries(Object.entries(some).filter(([, value]) => value !== undefined)) as never
}

/**
 * Changes a directory; one that is switched off answers every SCIM request with 401, and its people keep their access
 * unless `whenOff` says to release it. A change to what it is already writes and records nothing.
 * @throws {AppError} `not_found`, `version_conflict`, `last_owner`, `preview_stale`
 */
export async function changeDirectory(
  trx: Trx,
  change: DirectoryChange & { roles: readonly string[]; previewVersion?: string | undefined },
): Promise<Directory> {
  const { workspaceId, directoryId, changes, expectedVersion, actor, roles, previewVersion } = change
  // No user can be added under this lock, and so none be missed by the recomputation.
  const directory = await trx
    .selectFrom('directories')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .forUpdate()
    .executeTakeFirstOrThrow(noDirectory)
  if (expectedVersion !== undefined && expectedVersion !== directory.version) throw versionConflict()
  const guard = { ...directory.guard, ...withoutAbsent(changes.guard ?? {}) }
  // Who has the token of a directory says who its people are: an owner who saves it confirms whoever made one.
  const own = roleLimitOf(roles, actor)
  const maxLinkableRole =
    own === null || isAbove(roles, own, directory.maxLinkableRole) ? own : directory.maxLinkableRole
  const wanted = { ...directory, ...withoutAbsent(changes), guard, maxLinkableRole }
  const { subject, members } = directoryChange(directory, change, changes)
  if (JSON.stringify(wanted) === JSON.stringify(directory)) {
    requirePreviewed(previewVersion, subject, NO_DIFFERENCE)
    return directory
  }
  const { name, mode, enabled, whenOff } = wanted
  await trx
    .updateTable('directories')
    .set({ name, mode, enabled, when_off: whenOff, version: sql`version + 1`, updated_at: sql`now()` })
    .set({ guard_people: guard.people, guard_percent: guard.percent, guard_minutes: guard.minutes })
    .set({ max_linkable_role: maxLinkableRole })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .execute()
  const target = { type: 'directory', id: directoryId }
  const entryId = await recordActivity(trx, {
    workspaceId,
    action: 'directory.updated',
    actor,
    target,
    detail: {
      ...changes,
      ...(maxLinkableRole !== directory.maxLinkableRole && { maxLinkableRole: maxLinkableRole ?? roles.at(-1) }),
    },
  })
  if (isCounting(wanted) === isCounting(directory)) requirePreviewed(previewVersion, subject, NO_DIFFERENCE)
  else {
    const recomputed = await recomputeAccess(trx, { workspaceId, memberIds: members, entryId, roles })
    finishChange(recomputed, { previewVersion, subject })
  }
  return getDirectory(trx, change)
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
  const target = { type: 'directory', id: directoryId }
  const detail = { name: directory.name }
  const entryId = await recordActivity(trx, { workspaceId, action: 'directory.deleted', actor, target, detail })
  const mappings = sql`group_mappings m WHERE m.workspace_id = ${workspaceId} AND m.directory_id = ${directoryId}`
  await sql`${mappingHistory({ entryId: sql`${entryId}::bigint`, isDeleted: true, from: mappings })}`.execute(trx)
  await trx
    .deleteFrom('scim_groups')
    .where(eb => eb.and(key))
    .execute()
  await trx
    .deleteFrom('scim_counters')
    .where(eb => eb.and(key))
    .execute()
  await trx.deleteFrom('directories').where('workspace_id', '=', workspaceId).where('id', '=', directoryId).execute()
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
