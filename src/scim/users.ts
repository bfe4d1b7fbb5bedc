import { sql, type RawBuilder } from 'kysely'
import { lockOwners, recomputeAccess } from '../access/access.ts'
import { endAccessCtes, endedAccessHistory } from '../access/end-access.ts'
import { insertEntrySql } from '../activity/activity.ts'
import { isUniqueViolation, retryDeadlocks, type Db, type Trx } from '../db/database.ts'
import { prepared, type Params } from '../db/prepared.ts'
import { passGuard, removalHeld } from '../directories/guarded-removals.ts'
import { AppError } from '../errors.ts'
import { uuid7 } from '../uuid7.ts'
import type { UserAnswer } from './answer.ts'
import { allowed, callerKey, firstRow, type CallerKey } from './credential.ts'
import { countSql } from './counters.ts'
import { applyPatch, touchedAttributes, type Operation } from './patch.ts'
import { profileOf, type Profile } from './profile.ts'
import { fromRow, toUserRow, type UserRow } from './resource.ts'
import { preparedWithGroups, type GroupsKey } from './user-groups.ts'
import { entryCte, followedColumns, historyCtes, memberCtes, type ProfileValues } from './user-member.ts'
import type { Leniency, ScimResource } from './value.ts'
import { leniencyText, untilWon, versionConflict, type Context, type IfMatch } from './write.ts'

/**
 * Users of a directory and the members they stand for. Each write is one statement that holds the user, the member, the
 * end or return of access, the history and the activity entry. Two cases take a transaction: ending the access of an
 * owner, under the lock that keeps a workspace from losing its last one, and deleting a user.
 */

// ---- reading

export const userColumns = sql`p.id, p.active, p.version, p.created_at AS "createdAt", p.updated_at AS "updatedAt", p.doc`

interface UserKey extends CallerKey, GroupsKey {
  id: string
}

/** The user of this id, as CTE `page`. */
function pageOfOne({ workspaceId, directoryId, id }: Params<UserKey>): RawBuilder<unknown> {
  return sql`page AS (
    SELECT u.* FROM allowed a
      JOIN scim_users u ON u.workspace_id = ${workspaceId}::uuid AND u.directory_id = ${directoryId}::uuid AND u.id = ${id}::uuid)`
}

type MaybeUser = { [Column in keyof UserAnswer]: UserAnswer[Column] | null } & { nestsGroups: boolean }

const selectUser = preparedWithGroups<UserKey, MaybeUser>(
  'scim_user_get',
  (key, groupsOf) => sql`
    WITH ${allowed(key)}
    SELECT ${userColumns}, ${groupsOf(key)} AS groups, a.nests_groups AS "nestsGroups"
      FROM allowed a
      LEFT JOIN scim_users p ON p.workspace_id = ${key.workspaceId}::uuid AND p.directory_id = ${key.directoryId}::uuid AND p.id = ${key.id}::uuid`,
)

/** @throws {AppError} `not_found` */
export async function getUser({ db, caller, baseUrl, withGroups }: Context, id: string): Promise<UserAnswer> {
  const row = firstRow(await selectUser.read(db, caller, { ...callerKey(caller), id, baseUrl, withGroups }))
  if (row.id === null) throw noUser(id)
  const { nestsGroups: _nestsGroups, ...user } = row
  return user as UserAnswer
}

function noUser(id: string): AppError {
  return new AppError('not_found', `There is no user ${id} in this directory.`)
}

function userNameTaken(): AppError {
  return new AppError(
    'scim_uniqueness',
    'userName belongs to another user of this directory: change that one, or delete it.',
  )
}

/** What a transaction holds before it runs a statement again. */
interface Held {
  ownersLocked: boolean
  guardPassed: boolean
}

const nothingHeld: Held = { ownersLocked: false, guardPassed: false }

/**
 * Runs a statement that answers with a verdict; and again where it asks for the lock of owners, or for the word of the guard
 * against mass deprovisioning.
 * @throws {AppError} `scim_removal_held`
 */
async function lockingOwners<Row extends { id: string | null; verdict: string | null; memberId: string | null }>(
  { db, caller: { workspaceId, directoryId }, requestId }: Context,
  run: (db: Db, held: Held) => Promise<Row[]>,
  afterwards: (trx: Trx, row: Row) => Promise<void> = async () => {},
): Promise<Row> {
  const row = firstRow(await run(db, nothingHeld))
  const { id, verdict, memberId } = row
  if ((verdict !== 'lock' && verdict !== 'guard') || memberId === null) return row
  const again = await db.transaction().execute(async trx => {
    if (verdict === 'guard' && id !== null) {
      const removal = { workspaceId, directoryId, userId: id, memberId, operation: 'deactivate', requestId } as const
      const retryAfter = await passGuard(trx, removal)
      if (retryAfter !== undefined) return retryAfter
    }
    await lockOwners(trx, { workspaceId, memberIds: [memberId] })
    const won = firstRow(await run(trx, { ownersLocked: true, guardPassed: true }))
    await afterwards(trx, won)
    return won
  })
  if (typeof again === 'number') throw removalHeld(again)
  return again
}

// ---- creating

interface CreateValues extends CallerKey, ProfileValues, Omit<UserRow, 'active'> {
  id: string
  active: boolean
  /** The id of the member, where a new one is made. */
  newMemberId: string
}

interface CreatedRow {
  /** `lock` also for a member whose sign-ins have claimed groups, which the directory's now take the place of. */
  verdict: 'lock' | 'write'
  memberId: string
  id: string | null
  createdAt: string
  entryId: number | null
}

/**
 * The member of a new user: the one that an earlier user of this externalId had, else the one with this address, each
 * only while no other user has it; else a new one, without the address where another holds it.
 */
const insertUser = prepared<CreateValues, CreatedRow>(
  'scim_user_create',
  values => sql`
    WITH ${allowed(values)},
    holder AS (
      SELECT m.id,
             EXISTS (SELECT FROM scim_users o WHERE o.workspace_id = m.workspace_id AND o.member_id = m.id) AS is_linked
        FROM allowed a JOIN members m ON m.workspace_id = ${values.workspaceId}::uuid AND m.email_key = ${values.emailKey}::text
    ), former AS (
      SELECT f.member_id
        FROM allowed a
        JOIN scim_former_users f ON f.workspace_id = ${values.workspaceId}::uuid AND f.directory_id = ${values.directoryId}::uuid
         AND f.external_id = ${values.externalId}::text
       WHERE NOT EXISTS (SELECT FROM scim_users o WHERE o.workspace_id = f.workspace_id AND o.member_id = f.member_id)
    ), verdict AS (
      SELECT a.workspace_id, a.directory_id, coalesce(m.id, ${values.newMemberId}::uuid) AS member_id, m.id IS NULL AS is_new,
             m.status, m.deactivated_by, c.email_conflict, ${followedColumns(values, sql<boolean>`true`)},
             CASE WHEN (NOT ${values.active}::boolean AND m.role = 'owner' AND m.status = 'active' OR m.claimed_groups <> '{}')
                       AND NOT ${values.ownersLocked}::boolean
                  THEN 'lock' ELSE 'write' END AS verdict
        FROM allowed a
        LEFT JOIN members m ON m.workspace_id = ${values.workspaceId}::uuid
         AND m.id = coalesce((SELECT member_id FROM former), (SELECT id FROM holder WHERE NOT is_linked))
       CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM holder h WHERE h.id IS DISTINCT FROM m.id) AS email_conflict) c
    ), written AS (
      INSERT INTO scim_users (workspace_id, directory_id, id, user_name, user_name_key, external_id, email_keys, active, member_id, doc)
      SELECT v.workspace_id, v.directory_id, ${values.id}::uuid, ${values.userName}::text, ${values.userNameKey}::text,
             ${values.externalId}::text, ${values.emailKeys}::text[], ${values.active}::boolean, v.member_id, ${values.doc}::json
        FROM verdict v WHERE v.verdict = 'write'
      ON CONFLICT (workspace_id, directory_id, user_name_key) DO NOTHING
      RETURNING workspace_id, directory_id, id, member_id, active, created_at
    ), counted AS (${countSql('User', 'created', sql`written`)}),
    joined AS (
      INSERT INTO members (workspace_id, id, email, email_key, display_name, status, deactivated_by, role, origin)
      SELECT w.workspace_id, w.member_id, v.email, v.email_key, v.display_name,
             CASE WHEN w.active THEN 'active' ELSE 'deactivated' END, CASE WHEN NOT w.active THEN 'directory' END,
             s.default_role, 'directory'
        FROM written w JOIN verdict v ON v.is_new
       -- Locked, so that a change of the default waits for us, or we for it and read what it set.
       CROSS JOIN LATERAL (SELECT default_role FROM workspaces WHERE id = w.workspace_id FOR SHARE) s
      RETURNING id AS member_id, status, role
    ),
    ${memberCtes(values)},
    ${entryCte(values, {
      action: sql`'scim_user.created'`,
      detail: sql`jsonb_build_object('member', CASE WHEN v.is_new THEN 'created' ELSE 'linked' END)`,
    })},
    ${historyCtes(values)},
    history_of_start AS (
      INSERT INTO access_changes (workspace_id, member_id, entry_id, status_after, role_after)
      SELECT ${values.workspaceId}::uuid, j.member_id, entry.id, j.status, j.role FROM joined j CROSS JOIN entry
    )
    SELECT v.verdict, v.member_id AS "memberId", w.id, w.created_at AS "createdAt", (SELECT id FROM entry) AS "entryId"
      FROM verdict v LEFT JOIN written w ON true`,
)

/**
 * Creates a user and links it to its member.
 * @throws {AppError} `scim_uniqueness` where the userName is taken
 */
export async function createUser(
  context: Context,
  { resource, leniencies }: { resource: ScimResource; leniencies: readonly Leniency[] },
): Promise<UserAnswer> {
  const { active = true, ...user } = toUserRow(resource)
  const values = {
    ...callerKey(context.caller),
    ...user,
    ...profileOf(resource),
    active,
    id: uuid7(),
    newMemberId: uuid7(),
    requestId: context.requestId,
    leniencies: leniencyText(leniencies),
  }
  const { workspaceId } = context.caller
  const recompute = async (trx: Trx, { entryId, memberId }: CreatedRow) => {
    if (entryId === null) return
    await recomputeAccess(trx, { workspaceId, memberIds: [memberId], entryId, roles: context.roles })
  }
  const row = await untilWon(() =>
    lockingOwners(context, (db, held) => insertUser(db, { ...values, ...held }), recompute),
  )
  if (row.id === null) throw userNameTaken()
  const { id, doc } = values
  return { id, active, version: 1, createdAt: row.createdAt, updatedAt: row.createdAt, doc, groups: null }
}

// ---- changing

/** Null for all that belongs to the document where only `active` is set. */
type Document = { [Name in keyof Omit<UserRow, 'active'>]: UserRow[Name] | null } & Profile

interface SaveValues extends UserKey, ProfileValues, Document {
  active: boolean | null
  ifMatch: IfMatch
  /** The version that the new document was made from; null where it does not depend on the old one. */
  expected: number | null
}

interface SavedRow extends UserAnswer {
  nestsGroups: boolean
  verdict: 'version' | 'raced' | 'same' | 'guard' | 'lock' | 'write' | null
  memberId: string | null
}

/** Replaces the document, sets `active`, or both; whatever does not differ is not written and leaves no entry. */
const updateUser = preparedWithGroups<SaveValues, SavedRow>('scim_user_save', (values, groupsOf) => {
  const { active, doc, ownersLocked, guardPassed } = values
  const replaced = sql<boolean>`(${doc}::text IS NOT NULL)`
  const whole = (column: RawBuilder<unknown>, value: RawBuilder<unknown>) =>
    sql`CASE WHEN ${replaced} THEN ${value} ELSE u.${column} END`
  return sql`
    WITH ${allowed(values)}, ${pageOfOne(values)},
    verdict AS (
      SELECT p.id, p.version, m.id AS member_id, m.status, m.deactivated_by, p.active AS was_active, c.email_conflict,
             ${followedColumns(values, replaced)},
             CASE WHEN p.version <> ALL (${values.ifMatch}::int[]) THEN 'version'
                  WHEN p.version <> ${values.expected}::int THEN 'raced'
                  WHEN p.active = coalesce(${active}::boolean, p.active)
                       AND (NOT ${replaced} OR p.doc::text = ${doc}::text) THEN 'same'
                  WHEN NOT coalesce(${active}::boolean, p.active) AND m.status = 'active' AND a.is_guarded
                       AND NOT ${guardPassed}::boolean THEN 'guard'
                  WHEN NOT coalesce(${active}::boolean, p.active) AND m.role = 'owner' AND m.status = 'active'
                       AND NOT ${ownersLocked}::boolean THEN 'lock'
                  ELSE 'write' END AS verdict
        FROM allowed a CROSS JOIN page p JOIN members m ON m.workspace_id = p.workspace_id AND m.id = p.member_id
       CROSS JOIN LATERAL (
         SELECT EXISTS (SELECT FROM members o
                         WHERE o.workspace_id = p.workspace_id AND o.email_key = ${values.emailKey}::text AND o.id <> m.id) AS email_conflict) c
    ), written AS (
      UPDATE scim_users u
         SET user_name = ${whole(sql`user_name`, sql`${values.userName}::text`)},
             user_name_key = ${whole(sql`user_name_key`, sql`${values.userNameKey}::text`)},
             external_id = ${whole(sql`external_id`, sql`${values.externalId}::text`)},
             email_keys = ${whole(sql`email_keys`, sql`${values.emailKeys}::text[]`)},
             doc = ${whole(sql`doc`, sql`${doc}::text::json`)},
             active = coalesce(${active}::boolean, u.active), version = u.version + 1, updated_at = now()
        FROM verdict v
       WHERE v.verdict = 'write' AND u.workspace_id = ${values.workspaceId}::uuid AND u.directory_id = ${values.directoryId}::uuid
         AND u.id = v.id AND u.version = v.version
      RETURNING u.*
    ),
    ${memberCtes(values)},
    ${entryCte(values, {
      action: sql`CASE WHEN w.active = v.was_active THEN 'scim_user.updated'
                       WHEN w.active THEN 'scim_user.reactivated' ELSE 'scim_user.deactivated' END`,
      detail: sql`'{}'::jsonb`,
    })},
    ${historyCtes(values)}
    SELECT CASE WHEN v.verdict = 'write' AND w.id IS NULL THEN 'raced' ELSE v.verdict END AS verdict, v.member_id AS "memberId",
           p.id, coalesce(w.active, p.active) AS active, coalesce(w.version, p.version) AS version,
           p.created_at AS "createdAt", coalesce(w.updated_at, p.updated_at) AS "updatedAt", coalesce(w.doc, p.doc) AS doc,
           ${groupsOf(values)} AS groups, a.nests_groups AS "nestsGroups"
      FROM allowed a LEFT JOIN page p ON true LEFT JOIN verdict v ON true LEFT JOIN written w ON true`
})

interface Save {
  id: string
  /** The new document; absent where it stays. */
  resource?: ScimResource
  /** Absent where it stays. */
  active?: boolean | undefined
  ifMatch: IfMatch
  expected?: number
  leniencies: readonly Leniency[]
}

const unchanged: Document = {
  userName: null,
  userNameKey: null,
  externalId: null,
  emailKeys: null,
  doc: null,
  email: null,
  emailKey: null,
  displayName: null,
}

/** One attempt at a change. */
async function saveUser(context: Context, save: Save): Promise<UserAnswer | 'raced'> {
  const { id, resource, ifMatch, expected = null, leniencies } = save
  const { active = save.active, ...document } = resource
    ? { ...toUserRow(resource), ...profileOf(resource) }
    : { ...unchanged, active: undefined }
  const { caller, baseUrl, withGroups, requestId } = context
  const values = {
    ...callerKey(caller),
    ...document,
    id,
    active: active ?? null,
    ifMatch,
    expected,
    baseUrl,
    withGroups,
    requestId,
  }
  const full = { ...values, leniencies: leniencyText(leniencies) }
  const {
    verdict,
    memberId: _memberId,
    nestsGroups,
    ...answer
  } = await lockingOwners(context, (db, held) => updateUser.run(db, caller, { ...full, ...held })).catch((error: unknown) => {
    throw isUniqueViolation(error, 'scim_users_user_name') ? userNameTaken() : error
  })
  switch (verdict) {
    case null:
      throw noUser(id)
    case 'version':
      throw versionConflict()
    case 'raced':
      return 'raced'
    case 'same':
    case 'guard':
    case 'lock':
    case 'write':
      return nestsGroups && !caller.nestsGroups ? getUser(context, id) : answer
  }
}

/**
 * Replaces a user (RFC 7644 §3.5.1).
 * @throws {AppError} `not_found`, `version_conflict`, `scim_uniqueness`
 */
export async function replaceUser(
  context: Context,
  replacement: { id: string; resource: ScimResource; ifMatch: IfMatch; leniencies: readonly Leniency[] },
): Promise<UserAnswer> {
  return untilWon(() => saveUser(context, replacement))
}

export interface UserPatch {
  id: string
  operations: readonly Operation[]
  ifMatch: IfMatch
  leniencies: readonly Leniency[]
}

/**
 * Applies a PATCH. One that only sets `active`, the most frequent of all, needs not read the user.
 * @throws {AppError} `not_found`, `version_conflict`, `scim_uniqueness`, and what `applyPatch` refuses
 */
export async function patchUser(context: Context, patch: UserPatch): Promise<UserAnswer> {
  const touched = touchedAttributes('User', patch.operations)
  if (touched?.size !== 1 || !touched.has('active')) return patchWholeUser(context, patch)
  const { resource, leniencies } = applyPatch({}, patch.operations, { type: 'User', mode: context.caller.mode })
  const { active } = resource
  if (typeof active !== 'boolean') return patchWholeUser(context, patch)
  const { id, ifMatch } = patch
  return untilWon(() => saveUser(context, { id, active, ifMatch, leniencies: [...patch.leniencies, ...leniencies] }))
}

/** To the user as it is, and to what it has become where another was faster. */
async function patchWholeUser(context: Context, patch: UserPatch): Promise<UserAnswer> {
  const { id, operations, ifMatch } = patch
  return untilWon(async () => {
    const user = await getUser(context, id)
    if (ifMatch !== null && !ifMatch.includes(user.version)) throw versionConflict()
    const patched = applyPatch(fromRow(user), operations, { type: 'User', mode: context.caller.mode })
    if (!patched.changed) return user
    const leniencies = [...patch.leniencies, ...patched.leniencies]
    return saveUser(context, { id, resource: patched.resource, ifMatch, expected: user.version, leniencies })
  })
}

// ---- deleting

type UserToDelete = CallerKey & { id: string }

interface LockedUser {
  id: string | null
  version: number
  memberId: string
  /** Deleting it ends access, in a directory whose guard is on. */
  isGuarded: boolean
}

/**
 * Locks the user before it is deleted: memberships are added under a lock of the user's row, so the statement after this
 * one sees all there will ever be.
 */
const lockUser = prepared<UserToDelete, LockedUser>(
  'scim_user_lock',
  key => sql`
    WITH ${allowed(key)}, locked AS (
      SELECT u.id, u.version, u.member_id, a.is_guarded
        FROM allowed a
        JOIN scim_users u ON u.workspace_id = ${key.workspaceId}::uuid AND u.directory_id = ${key.directoryId}::uuid AND u.id = ${key.id}::uuid
         FOR UPDATE OF u
    )
    SELECT l.id, l.version, l.member_id AS "memberId",
           l.is_guarded AND (SELECT status FROM members WHERE workspace_id = a.workspace_id AND id = l.member_id) = 'active' AS "isGuarded"
      FROM allowed a LEFT JOIN locked l ON true`,
)

const deleteLockedUser = prepared<UserToDelete & { requestId: string }, { entryId: number; isMapped: boolean }>(
  'scim_user_delete',
  ({ workspaceId, directoryId, id, requestId }) => {
    const here = (table: RawBuilder<unknown>) =>
      sql`${table}.workspace_id = ${workspaceId}::uuid AND ${table}.directory_id = ${directoryId}::uuid`
    return sql`
      WITH written AS (
        DELETE FROM scim_users u WHERE ${here(sql`u`)} AND u.id = ${id}::uuid
        RETURNING workspace_id, directory_id, id, member_id, external_id
      ), memberships AS (
        DELETE FROM scim_group_members m WHERE ${here(sql`m`)} AND m.user_id = ${id}::uuid RETURNING group_id
      ), touched AS (
        UPDATE scim_groups g SET version = g.version + 1, updated_at = now()
          FROM memberships m WHERE ${here(sql`g`)} AND g.id = m.group_id
      ), counted AS (${countSql('User', 'deleted', sql`written`)}),
      remembered AS (
        INSERT INTO scim_former_users (workspace_id, directory_id, external_id, member_id)
        SELECT workspace_id, directory_id, external_id, member_id FROM written WHERE external_id IS NOT NULL
        ON CONFLICT (workspace_id, directory_id, external_id) DO UPDATE SET member_id = excluded.member_id, deleted_at = now()
      ), leaving AS (
        SELECT w.member_id FROM written w JOIN members m ON m.workspace_id = w.workspace_id AND m.id = w.member_id AND m.status <> 'deactivated'
      ),
      ${endAccessCtes({ workspaceId: sql`${workspaceId}::uuid`, by: sql`'directory'`, reason: sql`'scim_user.deleted'` })},
      entry AS (${insertEntrySql({
        workspaceId: sql`w.workspace_id`,
        action: sql`'scim_user.deleted'`,
        actorType: sql`'directory'`,
        actorId: sql`w.directory_id::text`,
        requestId: sql`${requestId}::text`,
        memberId: sql`w.member_id`,
        targetType: sql`'scim_user'`,
        targetId: sql`w.id::text`,
        detail: sql`jsonb_strip_nulls(jsonb_build_object(
          'groupsLeft', (SELECT count(*) FROM memberships),
          'sessionsEnded', CASE WHEN EXISTS (SELECT FROM ended) THEN (SELECT count(*) FROM ended_sessions) END,
          'keptLastOwner', CASE WHEN EXISTS (SELECT FROM leaving) AND NOT EXISTS (SELECT FROM ended) THEN true END))`,
        from: sql`written w`,
      })}),
      history AS (${endedAccessHistory(sql`${workspaceId}::uuid`)})
      SELECT entry.id AS "entryId",
             EXISTS (SELECT FROM memberships) AND EXISTS (SELECT FROM group_mappings g WHERE ${here(sql`g`)})
               -- Without a directory, what they claimed when they signed in counts again.
               OR EXISTS (SELECT FROM members m JOIN written w ON w.member_id = m.id
                           WHERE m.workspace_id = ${workspaceId}::uuid AND m.claimed_groups <> '{}') AS "isMapped"
        FROM entry`
  },
)

/**
 * Deletes a user: its names are free at once, its memberships gone, its member's access ended. The member stays, so that
 * whoever comes back finds their work.
 * @throws {AppError} `not_found`, `version_conflict`, `scim_removal_held`
 */
export async function deleteUser(context: Context, { id, ifMatch }: { id: string; ifMatch: IfMatch }): Promise<void> {
  const retryAfter = await retryDeadlocks(() =>
    context.db.transaction().execute(trx => deleteUserIn(trx, context, { id, ifMatch })),
  )
  if (retryAfter !== undefined) throw removalHeld(retryAfter)
}

async function deleteUserIn(
  trx: Trx,
  context: Context,
  { id, ifMatch }: { id: string; ifMatch: IfMatch },
): Promise<number | undefined> {
  const { caller, roles, requestId } = context
  const { workspaceId, directoryId } = caller
  const user = firstRow(await lockUser(trx, { ...callerKey(caller), id }))
  if (user.id === null) throw noUser(id)
  if (ifMatch !== null && !ifMatch.includes(user.version)) throw versionConflict()
  const { memberId } = user
  if (user.isGuarded) {
    const removal = { workspaceId, directoryId, userId: id, memberId, operation: 'delete', requestId } as const
    const retryAfter = await passGuard(trx, removal)
    if (retryAfter !== undefined) return retryAfter
  }
  const memberIds = [memberId]
  await lockOwners(trx, { workspaceId, memberIds })
  const [deleted] = await deleteLockedUser(trx, { ...callerKey(caller), id, requestId })
  if (deleted?.isMapped) await recomputeAccess(trx, { workspaceId, memberIds, entryId: deleted.entryId, roles })
  return undefined
}
