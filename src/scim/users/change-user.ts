import { sql, type RawBuilder } from 'kysely'
import { endAccessOfNoOwnersCtes, endedAccessHistory, statusHistory } from '../../access/derivation/end-access.ts'
import { isUniqueViolation } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import { versionConflict } from '../protocol/conditions.ts'
import type { IfMatch } from '../protocol/conditions.ts'
import { applyPatchInStretches } from '../protocol/patch/apply.ts'
import { touchedAttributes } from '../protocol/patch/message.ts'
import type { Operation } from '../protocol/patch/message.ts'
import type { Leniency, ScimResource } from '../protocol/reading.ts'
import { fromRow, toUserRow } from '../protocol/resource.ts'
import type { UserRow } from '../protocol/resource.ts'
import type { UserAnswer } from '../protocol/serialize.ts'
import { allowed, callerKey, firstRow, type CallerKey } from '../storage/credential.ts'
import { withOwnerLock } from './with-owner-lock.ts'
import { profileOf, type Profile } from './profile.ts'
import { preparedWithGroups, type PreparedWithGroups } from './user-groups.ts'
import { entryCte, followedColumns, historyCtes, memberCtes, userEntrySql, type ProfileValues } from './user-member.ts'
import { getUser, isUser, noUser, userColumns, userNameTaken, type UserKey } from './users.ts'
import { leniencyText, retryOnConflict, type Context } from '../storage/write.ts'

// ---- what a sync does all day

/** Where this is the version, if one is asked for. */
function isVersion(ifMatch: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`(${ifMatch}::int[] IS NULL OR u.version = ANY (${ifMatch}::int[]))`
}

interface PlainValues extends UserKey {
  ifMatch: IfMatch
  requestId: string
  leniencies: string | null
}

type PlainRow = { [Column in keyof UserAnswer]: UserAnswer[Column] | null } & { nestsGroups: boolean }

/** The entry about what a plain statement has `written`. */
function plainEntryCte(
  values: Params<Pick<PlainValues, 'requestId' | 'leniencies'>>,
  { action, detail = sql`` }: { action: RawBuilder<string>; detail?: RawBuilder<unknown> },
): RawBuilder<unknown> {
  return sql`
    entry AS (${userEntrySql(values, {
      action,
      detail: sql`jsonb_build_object('leniencies', ${values.leniencies}::jsonb${detail})`,
      from: sql`written w`,
    })})`
}

/**
 * Sets `active` of a user whose member is no owner and has the opposite status; a user who has it already is only read. No row
 * of a user: the general statement decides.
 */
function preparedActivation(
  name: string,
  { active, when, ctes }: Activation,
): PreparedWithGroups<PlainValues, PlainRow> {
  return preparedWithGroups(name, (values, groupsOf) => {
    const { workspaceId, ifMatch } = values
    return sql`
      WITH ${allowed(values)},
      written AS (
        UPDATE scim_users u SET active = ${active}, version = u.version + 1, updated_at = now()
          FROM allowed a, members m
         WHERE ${isUser(sql`u`, values)} AND u.active <> ${active} AND ${isVersion(ifMatch)}
           AND m.workspace_id = ${workspaceId}::uuid AND m.id = u.member_id AND ${when}
        RETURNING u.*, m.status
      ),
      ${ctes(values)},
      page AS (
        SELECT id, active, version, created_at, updated_at, doc FROM written
         UNION ALL
        SELECT id, active, version, created_at, updated_at, doc FROM scim_users u
         WHERE NOT EXISTS (SELECT FROM written) AND ${isUser(sql`u`, values)} AND u.active = ${active} AND ${isVersion(ifMatch)}
      )
      SELECT ${userColumns}, ${groupsOf(values)} AS groups, a.nests_groups AS "nestsGroups"
        FROM allowed a LEFT JOIN page p ON true`
  })
}

interface Activation {
  active: RawBuilder<boolean>
  /** Of the member `m`, in a directory `a`. */
  when: RawBuilder<unknown>
  /** What becomes of the member and is told of it, from `written`. */
  ctes: (values: Params<PlainValues>) => RawBuilder<unknown>
}

const deactivate = preparedActivation('scim_user_deactivate', {
  active: sql`false`,
  when: sql`m.status <> 'deactivated' AND m.role <> 'owner' AND NOT a.is_guarded`,
  ctes: values => {
    const workspaceId = sql<string>`${values.workspaceId}::uuid`
    return sql`
      leaving AS (SELECT member_id, status FROM written),
      ${endAccessOfNoOwnersCtes({ workspaceId, by: sql`'directory'`, reason: sql`'scim_user.deactivated'` })},
      ${plainEntryCte(values, {
        action: sql`'scim_user.deactivated'`,
        detail: sql`, 'sessionsEnded', (SELECT count(*) FROM ended_sessions)`,
      })},
      history AS (${endedAccessHistory(workspaceId)})`
  },
})

const reactivate = preparedActivation('scim_user_reactivate', {
  active: sql`true`,
  when: sql`m.status = 'deactivated' AND m.deactivated_by = 'directory'`,
  ctes: values => sql`
    returned AS (
      UPDATE members m
         SET status = 'active', reactivated_at = clock_timestamp(), deactivated_by = NULL, version = m.version + 1, updated_at = now()
        FROM written w
       -- Asked again of the row that is locked: an admin who ends the access at this moment prevails.
       WHERE m.workspace_id = ${values.workspaceId}::uuid AND m.id = w.member_id AND m.deactivated_by = 'directory'
      RETURNING m.id AS member_id, w.status AS status_before, m.status, m.role, m.rules, m.manual_role, m.manual_policy
    ),
    ${plainEntryCte(values, { action: sql`'scim_user.reactivated'` })},
    history AS (${statusHistory(sql`${values.workspaceId}::uuid`, sql`returned`)})`,
})

interface DocumentValues extends CallerKey, Omit<UserRow, 'active'>, Pick<Profile, 'email' | 'displayName'> {
  id: string
  requestId: string
  leniencies: string | null
  /** The version that the document was made from. */
  expected: number
}

/** A user who keeps the name keeps the key: migration 0007 left the key of a user whose name another user has. */
function keptKey({ userName, userNameKey }: Record<'userName' | 'userNameKey', RawBuilder<string | null>>) {
  return sql`CASE WHEN u.user_name = ${userName}::text THEN u.user_name_key ELSE ${userNameKey}::text END`
}

/** Replaces the document of a user whose member stays as it is. No row: the general statement decides. */
const replaceDocument = prepared<DocumentValues, { version: number | null; updatedAt: string }>(
  'scim_user_document',
  values => sql`
    WITH ${allowed(values)},
    written AS (
      UPDATE scim_users u
         SET user_name = ${values.userName}::text, user_name_key = ${keptKey(values)}, external_id = ${values.externalId}::text,
             email_keys = ${values.emailKeys}::text[], doc = ${values.doc}::json, version = u.version + 1, updated_at = now()
        FROM allowed a, members m
       WHERE ${isUser(sql`u`, values)} AND u.version = ${values.expected}::int
         AND m.workspace_id = ${values.workspaceId}::uuid AND m.id = u.member_id
         AND m.status = CASE WHEN u.active THEN 'active' ELSE 'deactivated' END
         AND (m.email, m.display_name) IS NOT DISTINCT FROM (${values.email}::text, ${values.displayName}::text)
      RETURNING u.workspace_id, u.directory_id, u.id, u.member_id, u.version, u.updated_at
    ),
    ${plainEntryCte(values, { action: sql`'scim_user.updated'` })}
    SELECT w.version, w.updated_at AS "updatedAt" FROM allowed a LEFT JOIN written w ON true`,
)

// ---- whatever else

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
    WITH ${allowed(values)},
    page AS (SELECT u.* FROM allowed a JOIN scim_users u ON ${isUser(sql`u`, values)}),
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
             user_name_key = ${whole(sql`user_name_key`, keptKey(values))},
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
  const full = { ...values, leniencies: leniencyText(leniencies, context) }
  const {
    verdict,
    memberId: _memberId,
    nestsGroups,
    ...answer
  } = await withOwnerLock(context, (db, held) => updateUser.run(db, caller, { ...full, ...held })).catch(
    refuseTakenName,
  )
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
  return retryOnConflict(() => saveUser(context, replacement))
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
  const { resource, leniencies } = await applyPatchInStretches({}, patch.operations, {
    type: 'User',
    mode: context.caller.mode,
  })
  const { active } = resource
  if (typeof active !== 'boolean') return patchWholeUser(context, patch)
  return setActive(context, { ...patch, active, leniencies: [...patch.leniencies, ...leniencies] })
}

type SetActive = Required<Pick<Save, 'id' | 'ifMatch' | 'leniencies'>> & { active: boolean }

async function setActive(context: Context, { id, active, ifMatch, leniencies }: SetActive): Promise<UserAnswer> {
  const { db, caller, baseUrl, withGroups, requestId } = context
  const values = {
    ...callerKey(caller),
    id,
    ifMatch,
    baseUrl,
    withGroups,
    requestId,
    leniencies: leniencyText(leniencies, context),
  }
  return retryOnConflict(async () => {
    const row = firstRow(await (active ? reactivate : deactivate).run(db, caller, values))
    if (row.id === null) return saveUser(context, { id, active, ifMatch, leniencies })
    const { nestsGroups, ...user } = row
    return nestsGroups && !caller.nestsGroups ? getUser(context, id) : (user as UserAnswer)
  })
}

/** To the user as it is, and to what it has become where another was faster. */
async function patchWholeUser(context: Context, patch: UserPatch): Promise<UserAnswer> {
  const { id, operations, ifMatch } = patch
  return retryOnConflict(async () => {
    const user = await getUser(context, id)
    if (ifMatch !== null && !ifMatch.includes(user.version)) throw versionConflict()
    const patched = await applyPatchInStretches(fromRow(user), operations, { type: 'User', mode: context.caller.mode })
    if (!patched.changed) return user
    const leniencies = [...patch.leniencies, ...patched.leniencies]
    const save = { id, resource: patched.resource, ifMatch, expected: user.version, leniencies }
    return (await saveDocument(context, user, save)) ?? saveUser(context, save)
  })
}

/** Where nothing but the document changes: the user as it has become. */
async function saveDocument(
  context: Context,
  user: UserAnswer,
  { resource, expected, leniencies }: { resource: ScimResource; expected: number; leniencies: readonly Leniency[] },
): Promise<UserAnswer | undefined> {
  const { db, caller, requestId } = context
  const { active = user.active, ...document } = toUserRow(resource)
  if (active !== user.active) return undefined
  const { email, displayName } = profileOf(resource)
  const rows = await replaceDocument(db, {
    ...callerKey(caller),
    ...document,
    email,
    displayName,
    id: user.id,
    requestId,
    expected,
    leniencies: leniencyText(leniencies, context),
  }).catch(refuseTakenName)
  const { version, updatedAt } = firstRow(rows)
  if (version === null) return undefined
  return { ...user, version, updatedAt, doc: document.doc }
}

function refuseTakenName(error: unknown): never {
  throw isUniqueViolation(error, 'scim_users_user_name') ? userNameTaken() : error
}
