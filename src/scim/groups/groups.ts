import { sql, type RawBuilder } from 'kysely'
import { recomputeAccess } from '../../access/derivation/access.ts'
import { bindAwaitedMappings, mappingHistory } from '../../access/mappings/group-mappings.ts'
import { insertEntrySql } from '../../activity/activity.ts'
import type { Actor } from '../../actor.ts'
import { isUniqueViolation, type Db } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import { AppError } from '../../errors.ts'
import { uuid7 } from '../../uuid7.ts'
import { versionConflict } from '../protocol/conditions.ts'
import type { IfMatch } from '../protocol/conditions.ts'
import type { MembershipChanges, MembershipTarget } from '../protocol/membership-values.ts'
import { applyPatchInStretches } from '../protocol/patch/apply.ts'
import { noTarget } from '../protocol/patch/edit.ts'
import { touchedAttributes } from '../protocol/patch/message.ts'
import type { Operation } from '../protocol/patch/message.ts'
import { refuse } from '../protocol/reading.ts'
import type { Leniency, MembershipTypes, ScimResource } from '../protocol/reading.ts'
import { isResourceId } from '../protocol/resource-id.ts'
import { fromRow, readGroup, toGroupRow } from '../protocol/resource.ts'
import type { GroupRow } from '../protocol/resource.ts'
import type { GroupAnswer, MemberIds, StoredRow } from '../protocol/serialize.ts'
import { changeOneMembership } from './change-membership.ts'
import { countSql } from '../storage/counters.ts'
import { allowed, callerKey, firstRow } from '../storage/credential.ts'
import { groupUpdatedSql } from './group-entry.ts'
import { findUnknown, foundCtes, groupCycle, heldLateral, inGroup, joinIds, markReach } from './memberships.ts'
import { membersBehind, sentMembers, unknownMembers, type GroupKey } from './memberships.ts'
import {
  checksOf,
  contradictedColumn,
  contradictedCte,
  learnKinds,
  missedCte,
  untilKnown,
} from './membership-checks.ts'
import { whereNeeded, withMissed, type Checked, type Contradicted } from './membership-checks.ts'
import { leniencyText, pointerWithin, retryOnConflict, type Context } from '../storage/write.ts'

/**
 * Groups of a directory. Members are rows, and every change of them is a set operation in one statement that touches only
 * what changes: adding one person costs the same in a group of ten and of a hundred thousand.
 *
 * Where a group, or one around it, is mapped to a role or an Assist group, the change and the recomputation of access of
 * the people it touches share a transaction.
 */

// ---- reading

export const groupColumns = sql`p.id, p.version, p.created_at AS "createdAt", p.updated_at AS "updatedAt", p.doc`

interface ReadGroup extends GroupKey {
  withMembers: boolean
}

function pageOfOne({ workspaceId, directoryId, id }: Params<GroupKey>): RawBuilder<unknown> {
  return sql`page AS (
    SELECT g.* FROM allowed a
      JOIN scim_groups g ON g.workspace_id = ${workspaceId}::uuid AND g.directory_id = ${directoryId}::uuid AND g.id = ${id}::uuid)`
}

const selectGroup = prepared<ReadGroup, { [Column in keyof StoredRow]: StoredRow[Column] | null } & MemberIds>(
  'scim_group_get',
  key => {
    const asked = sql`EXISTS (SELECT FROM page) AND ${key.withMembers}::boolean`
    return sql`
      WITH ${allowed(key)}, ${pageOfOne(key)}
      SELECT ${groupColumns},
             CASE WHEN ${asked} THEN (SELECT string_agg(user_id::text, ',') FROM scim_group_memberships WHERE ${inGroup(key)}) END AS users,
             CASE WHEN ${asked} THEN (SELECT string_agg(subgroup_id::text, ',') FROM scim_group_subgroups WHERE ${inGroup(key)}) END AS groups
        FROM allowed a LEFT JOIN page p ON true`
  },
)

/** @throws {AppError} `not_found` */
export async function getGroup(
  { db, caller }: Pick<Context, 'db' | 'caller'>,
  { id, withMembers }: { id: string; withMembers: boolean },
): Promise<GroupAnswer> {
  const { users, groups, ...row } = firstRow(await selectGroup(db, { ...callerKey(caller), id, withMembers }))
  if (row.id === null) throw noGroup(id)
  return { ...(row as StoredRow), ...(withMembers && { members: { users, groups } }) }
}

function noGroup(id: string): AppError {
  return new AppError('not_found', `There is no group ${id} in this directory.`)
}

function displayNameTaken(): AppError {
  return new AppError(
    'scim_uniqueness',
    'displayName belongs to another group of this directory: change that one, or delete it.',
  )
}

// ---- creating

interface CreateValues extends GroupKey, GroupRow, Checked {
  /** As Postgres writes an array: the driver would escape each id, twice. */
  members: string
  /** In a transaction that binds the mappings which await the group. */
  binds: boolean
  requestId: string
  leniencies: string | null
}

interface CreatedRow extends Partial<Contradicted> {
  isKnown: boolean
  /** A mapping was made for a group of this name before it came. */
  isAwaited: boolean
  id: string | null
  createdAt: string
  groups: string | null
}

const insertGroup = whereNeeded<CreateValues, CreatedRow>('scim_group_create', ifChecked => values => {
  return sql`
    WITH ${allowed(values)},
    wanted AS (SELECT DISTINCT w.id FROM allowed, unnest(${values.members}::uuid[]) AS w (id)),
    ${foundCtes(values, sql`wanted`)},
    ${ifChecked(sql`${contradictedCte(values, sql`found_groups`)},`)}
    verdict AS (
      SELECT a.workspace_id, a.directory_id,
             (SELECT count(*) FROM wanted) = (SELECT count(*) FROM found_users) + (SELECT count(*) FROM found_groups) AS is_known,
             d.is_awaited
        FROM allowed a
       -- Locked, so that an admin who maps this name waits for us, or we for them and read what they await.
       CROSS JOIN LATERAL (
         SELECT ${values.displayName}::text = ANY (awaited_groups) AS is_awaited
           FROM directories WHERE workspace_id = a.workspace_id AND id = a.directory_id FOR SHARE) d
    ), written AS (
      INSERT INTO scim_groups (workspace_id, directory_id, id, display_name, display_name_key, external_id, doc)
      SELECT v.workspace_id, v.directory_id, ${values.id}::uuid, ${values.displayName}::text, ${values.displayNameKey}::text,
             ${values.externalId}::text, ${values.doc}::json
        FROM verdict v WHERE v.is_known ${ifChecked(sql`AND NOT EXISTS (SELECT FROM contradicted)`)} AND (${values.binds}::boolean OR NOT v.is_awaited)
      ON CONFLICT (workspace_id, directory_id, display_name_key) DO NOTHING
      RETURNING workspace_id, directory_id, id, created_at
    ), counted AS (${countSql('Group', 'created', sql`written`)}),
    added AS (
      INSERT INTO scim_group_memberships (workspace_id, directory_id, group_id, user_id)
      SELECT w.workspace_id, w.directory_id, w.id, u.id FROM written w CROSS JOIN found_users u
    ), nested AS (
      INSERT INTO scim_group_subgroups (workspace_id, directory_id, group_id, subgroup_id)
      SELECT w.workspace_id, w.directory_id, w.id, g.id FROM written w CROSS JOIN found_groups g
    ), entry AS (${insertEntrySql({
      workspaceId: sql`w.workspace_id`,
      action: sql`'scim_group.created'`,
      actorType: sql`'directory'`,
      actorId: sql`w.directory_id::text`,
      requestId: sql`${values.requestId}::text`,
      targetType: sql`'scim_group'`,
      targetId: sql`w.id::text`,
      detail: sql`jsonb_strip_nulls(jsonb_build_object(
        'displayName', ${values.displayName}::text, 'members', (SELECT count(*) FROM wanted), 'leniencies', ${values.leniencies}::jsonb))`,
      from: sql`written w`,
    })})
    SELECT v.is_known AS "isKnown", v.is_awaited AS "isAwaited", w.id, w.created_at AS "createdAt", (SELECT string_agg(id::text, ',') FROM found_groups) AS groups
           ${ifChecked(sql`, ${contradictedColumn}`)}
      FROM verdict v LEFT JOIN written w ON true`
})

/**
 * Creates a group with its members. Access changes only where an admin has mapped its name before it came.
 * @throws {AppError} `scim_uniqueness`; `scim_invalid_value` for members that the directory does not have
 */
export async function createGroup(
  context: Context,
  { body, leniencies }: { body: unknown; leniencies: readonly Leniency[] },
): Promise<GroupAnswer> {
  const { db, caller, requestId } = context
  const id = uuid7()
  return untilKnown(async kinds => {
    const { resource, members = [], ...read } = await readGroup(body, caller.mode, kinds)
    const sent = await joinIds(members)
    const values = {
      ...callerKey(caller),
      ...toGroupRow(resource),
      ...(await checksOf(kinds)),
      id,
      members: `{${sent}}`,
      requestId,
      leniencies: leniencyText([...leniencies, ...read.leniencies], context),
    }
    const first = firstRow(await insertGroup(db, { ...values, binds: false }))
    if (first.contradicted) return learnKinds(kinds, first.contradicted)
    const row = first.isKnown && first.isAwaited ? await createAwaitedGroup(context, values) : first
    if (!row.isKnown) throw unknownMembers(await findUnknown(db, { caller, id, ids: members }))
    if (row.id === null) throw displayNameTaken()
    const { createdAt } = row
    const answered = await sentMembers(members, row.groups)
    return { id, version: 1, createdAt, updatedAt: createdAt, doc: values.doc, members: answered }
  })
}

/** The group and the access that was waiting for it, in one transaction. */
async function createAwaitedGroup(
  { db, caller, roles, requestId }: Context,
  values: Omit<CreateValues, 'binds'>,
): Promise<CreatedRow> {
  const { workspaceId, directoryId } = caller
  return db.transaction().execute(async trx => {
    const row = firstRow(await insertGroup(trx, { ...values, binds: true }))
    if (row.id === null) return row
    const actor: Actor = { type: 'directory', id: directoryId, requestId }
    const { displayName } = values
    await bindAwaitedMappings(trx, { workspaceId, directoryId, scimGroupId: row.id, displayName, actor, roles })
    return row
  })
}

// ---- changing

/** Null for all of it where the document stays. */
type Document = { [Name in keyof GroupRow]: GroupRow[Name] | null }

interface SaveValues extends GroupKey, Document, Checked {
  /** Refuses filters that select no member, rather than recording them. */
  isStrict: boolean
  ifMatch: IfMatch
  expected: number | null
  /** In a transaction that recomputes access after it. */
  recomputes: boolean
  requestId: string
  leniencies: string | null
}

interface SavedRow extends StoredRow, Partial<Contradicted> {
  verdict: 'version' | 'raced' | 'contradicted' | 'missed' | 'unknown' | 'cycle' | 'same' | 'recompute' | 'write' | null
  /** Of the members that were sent, those that are groups. */
  groups: string | null
  entryId: number | null
  /** Pointers to filters that select no member; absent where nothing was checked. */
  missed?: string[]
  isMapped: boolean
  /** Who came or went; null outside of a transaction that recomputes. */
  changedUsers: string[] | null
  changedGroups: string[] | null
}

/**
 * How a statement is told what changes: a CTE `difference (id, is_added, kind, place)`. Kind and place, the `ctid` of the
 * row, are those of what is removed: by its place a row is deleted without looking for it again.
 */
interface ChangeOf<Values> {
  name: string
  difference: (values: Params<SaveValues & Values>) => RawBuilder<unknown>
  /** The ids that were sent to be members, for the answer. */
  sent: (values: Params<SaveValues & Values>) => RawBuilder<unknown>
}

/**
 * Saves the document, the members or both. Whatever does not differ is not written, and leaves version, time and log as
 * they are (RFC 7644 §3.5.2.1).
 *
 * Concurrent changes of members both count: the statement waits for the group's row and does not ask for the version that
 * it began with, unless the client does. It does ask whether what the group is mapped to has changed meanwhile.
 */
function saveStatement<Values>({ name, difference, sent }: ChangeOf<Values>) {
  return whereNeeded<SaveValues & Values, SavedRow>(name, ifChecked => all => {
    const values = all as Params<SaveValues>
    const { workspaceId, directoryId, doc } = values
    const here = (table: RawBuilder<unknown>) =>
      sql`${table}.workspace_id = ${workspaceId}::uuid AND ${table}.directory_id = ${directoryId}::uuid`
    const replaced = sql`(${doc}::text IS NOT NULL)`
    const insideOrComing = sql`(
      SELECT id FROM found_groups
       UNION ALL
      SELECT subgroup_id FROM scim_group_subgroups WHERE ${inGroup(values)})`
    const whole = (column: RawBuilder<unknown>, value: RawBuilder<unknown>) =>
      sql`CASE WHEN ${replaced} THEN ${value} ELSE g.${column} END`
    return sql`
      WITH RECURSIVE ${allowed(values)}, ${pageOfOne(values)},
      around AS (
        SELECT id FROM page
         UNION
        SELECT s.group_id
          FROM around o
         CROSS JOIN LATERAL (SELECT s.group_id FROM scim_group_subgroups s WHERE ${here(sql`s`)} AND s.subgroup_id = o.id OFFSET 0) s
      ),
      ${difference(all)},
      adding AS (SELECT id FROM difference WHERE is_added),
      ${foundCtes(values, sql`adding`)},
      ${ifChecked(sql`${contradictedCte(values, insideOrComing)}, ${missedCte(values)},`)}
      numbers AS (
        SELECT (SELECT count(*) FROM difference WHERE is_added) AS added,
               (SELECT count(*) FROM difference WHERE NOT is_added) AS removed,
               (SELECT count(*) FROM found_users) AS users, (SELECT count(*) FROM found_groups) AS groups,
               EXISTS (SELECT FROM difference d WHERE d.kind = 'Group') AS ungroups,
               EXISTS (SELECT FROM found_groups f JOIN around o ON o.id = f.id) AS is_cycle,
               EXISTS (SELECT FROM around o
                         JOIN group_mappings m ON m.workspace_id = ${workspaceId}::uuid AND m.directory_id = ${directoryId}::uuid AND m.scim_group_id = o.id) AS is_mapped
      ), verdict AS (
        SELECT p.id, p.version, p.reach_version, n.is_mapped,
               CASE WHEN p.version <> ALL (${values.ifMatch}::int[]) THEN 'version'
                    WHEN p.version <> ${values.expected}::int THEN 'raced'
                    ${ifChecked(sql`
                    WHEN EXISTS (SELECT FROM contradicted) THEN 'contradicted'
                    WHEN ${values.isStrict}::boolean AND EXISTS (SELECT FROM missed) THEN 'missed'`)}
                    WHEN n.added > n.users + n.groups THEN 'unknown'
                    WHEN n.is_cycle THEN 'cycle'
                    WHEN n.added + n.removed = 0 AND (NOT ${replaced} OR p.doc::text = ${doc}::text) THEN 'same'
                    WHEN NOT ${values.recomputes}::boolean AND n.added + n.removed > 0
                         AND (n.is_mapped OR n.groups > 0 OR n.ungroups) THEN 'recompute'
                    ELSE 'write' END AS verdict
          FROM page p CROSS JOIN numbers n
      ), written AS (
        UPDATE scim_groups g
           SET display_name = ${whole(sql`display_name`, sql`${values.displayName}::text`)},
               display_name_key = ${whole(
                 sql`display_name_key`,
                 // A group that keeps its name keeps its key: see migration 0007.
                 sql`CASE WHEN g.display_name = ${values.displayName}::text THEN g.display_name_key ELSE ${values.displayNameKey}::text END`,
               )},
               external_id = ${whole(sql`external_id`, sql`${values.externalId}::text`)},
               doc = ${whole(sql`doc`, sql`${doc}::text::json`)},
               version = g.version + 1, updated_at = now()
          FROM verdict v
         WHERE v.verdict = 'write' AND ${here(sql`g`)} AND g.id = ${values.id}::uuid AND g.reach_version = v.reach_version
           AND (g.version = v.version OR (${values.expected}::int IS NULL AND ${values.ifMatch}::int[] IS NULL))
        RETURNING g.*
      ), added AS (
        INSERT INTO scim_group_memberships (workspace_id, directory_id, group_id, user_id)
        SELECT w.workspace_id, w.directory_id, w.id, u.id FROM written w CROSS JOIN found_users u
        ON CONFLICT DO NOTHING RETURNING user_id
      ), nested AS (
        INSERT INTO scim_group_subgroups (workspace_id, directory_id, group_id, subgroup_id)
        SELECT w.workspace_id, w.directory_id, w.id, u.id FROM written w CROSS JOIN found_groups u
        ON CONFLICT DO NOTHING RETURNING subgroup_id
      ), removed AS (
        DELETE FROM scim_group_memberships m
         WHERE m.ctid = ANY (ARRAY(SELECT d.place FROM difference d, written WHERE d.kind = 'User'))
        RETURNING m.user_id
      ), freed AS (
        DELETE FROM scim_group_subgroups s
         WHERE s.ctid = ANY (ARRAY(SELECT d.place FROM difference d, written WHERE d.kind = 'Group'))
        RETURNING s.subgroup_id
      ), entry AS (${groupUpdatedSql({
        requestId: values.requestId,
        detail: sql`
          'displayName', CASE WHEN ${replaced} THEN w.display_name END,
          'membersAdded', nullif((SELECT count(*) FROM added) + (SELECT count(*) FROM nested), 0),
          'membersRemoved', nullif((SELECT count(*) FROM removed) + (SELECT count(*) FROM freed), 0)`,
        leniencies: ifChecked(withMissed(values.leniencies), sql`${values.leniencies}::jsonb`),
      })})
      SELECT CASE WHEN v.verdict = 'write' AND w.id IS NULL THEN 'raced' ELSE v.verdict END AS verdict,
             p.id, coalesce(w.version, p.version) AS version, p.created_at AS "createdAt",
             coalesce(w.updated_at, p.updated_at) AS "updatedAt", coalesce(w.doc, p.doc) AS doc,
             ${sent(all)} AS groups, (SELECT id FROM entry) AS "entryId", v.is_mapped AS "isMapped",
             ${ifChecked(sql`${contradictedColumn}, ARRAY(SELECT pointer FROM missed) AS missed,`)}
             CASE WHEN ${values.recomputes}::boolean THEN
               ARRAY(SELECT user_id FROM added UNION ALL SELECT user_id FROM removed) END AS "changedUsers",
             CASE WHEN ${values.recomputes}::boolean THEN
               ARRAY(SELECT subgroup_id FROM nested UNION ALL SELECT subgroup_id FROM freed) END AS "changedGroups"
        FROM allowed a LEFT JOIN page p ON true LEFT JOIN verdict v ON true LEFT JOIN written w ON true`
  })
}

/** Adds some and removes others: looks up only those, each by the key of its row. */
const changeGroup = saveStatement<{ add: readonly string[]; remove: readonly string[] }>({
  name: 'scim_group_change',
  difference: values => sql`
    difference AS MATERIALIZED (
      SELECT w.id, true AS is_added, NULL AS kind, NULL::tid AS place
        FROM (SELECT DISTINCT id FROM unnest(${values.add}::uuid[]) AS w (id)) w
        LEFT JOIN ${heldLateral(values, sql`w.id`)} h ON true
       WHERE h.held IS NULL
       UNION ALL
      SELECT user_id, false, 'User', ctid FROM scim_group_memberships WHERE ${inGroup(values)} AND user_id = ANY (${values.remove}::uuid[])
       UNION ALL
      SELECT subgroup_id, false, 'Group', ctid FROM scim_group_subgroups WHERE ${inGroup(values)} AND subgroup_id = ANY (${values.remove}::uuid[])
    )`,
  sent: () => sql`NULL::text`,
})

/**
 * Makes the members these and no others. A FULL JOIN can only be hashed or merged, so no row estimate, however stale, makes
 * it quadratic.
 */
const replaceMembers = saveStatement<{ members: string }>({
  name: 'scim_group_replace',
  difference: values => sql`
    difference AS MATERIALIZED (
      SELECT coalesce(h.id, w.id) AS id, h.id IS NULL AS is_added, h.kind, h.place
        FROM (SELECT user_id AS id, 'User' AS kind, ctid AS place FROM scim_group_memberships WHERE ${inGroup(values)}
              UNION ALL
              SELECT subgroup_id, 'Group', ctid FROM scim_group_subgroups WHERE ${inGroup(values)}) h
        FULL JOIN (SELECT DISTINCT id FROM unnest(${values.members}::uuid[]) AS w (id)) w ON w.id = h.id
       WHERE h.id IS NULL OR w.id IS NULL
    )`,
  sent: values => sql`(
    SELECT string_agg(id::text, ',') FROM (
      SELECT id FROM found_groups
       UNION ALL
      SELECT subgroup_id FROM scim_group_subgroups WHERE ${inGroup(values)} AND subgroup_id = ANY (${values.members}::uuid[])) nested_ones (id))`,
})

interface Save {
  id: string
  /** The new document; absent where it stays. */
  resource?: ScimResource | undefined
  memberChanges?: MembershipChanges | undefined
  memberTargets?: readonly MembershipTarget[]
  ifMatch: IfMatch
  expected?: number
  leniencies: readonly Leniency[]
  kinds: MembershipTypes
}

const unchanged: Document = { displayName: null, displayNameKey: null, externalId: null, doc: null }

/** One attempt at a change. */
async function saveGroup(context: Context, save: Save): Promise<GroupAnswer | 'raced'> {
  const { caller, requestId } = context
  const {
    id,
    resource,
    memberChanges = { add: [], remove: [] },
    memberTargets = [],
    ifMatch,
    expected = null,
    leniencies,
    kinds,
  } = save
  const document = resource ? toGroupRow(resource) : unchanged
  const values = {
    ...callerKey(caller),
    ...document,
    ...(await checksOf(
      kinds,
      memberTargets.map(({ ids, pointer }) => ({ ids, pointer: pointerWithin(context, pointer) })),
    )),
    isStrict: caller.mode === 'strict',
    id,
    ifMatch,
    expected,
    requestId,
    leniencies: leniencyText(leniencies, context),
  }
  const wanted = 'replace' in memberChanges ? memberChanges.replace : memberChanges.add
  const sent = await joinIds(wanted)
  const run = async (db: Db, recomputes: boolean): Promise<SavedRow> =>
    firstRow(
      'replace' in memberChanges
        ? await replaceMembers(db, { ...values, recomputes, members: `{${sent}}` })
        : await changeGroup(db, {
            ...values,
            recomputes,
            add: wanted,
            remove: memberChanges.remove.filter(isResourceId),
          }),
    )
  let row = await run(context.db, false).catch(refuseTaken)
  if (row.verdict === 'recompute') row = await recomputing(context, { id, memberChanges, run }).catch(refuseTaken)
  const { verdict, groups, contradicted, id: _id, version, createdAt, updatedAt, doc } = row
  switch (verdict) {
    case null:
      throw noGroup(id)
    case 'version':
      throw versionConflict()
    case 'unknown':
      throw unknownMembers(await findUnknown(context.db, { caller, id, ids: wanted }))
    case 'cycle':
      throw groupCycle()
    case 'contradicted':
      return learnKinds(kinds, contradicted ?? {})
    case 'missed':
      throw missedTarget(memberTargets, pointer => row.missed?.includes(pointerWithin(context, pointer)))
    case 'raced':
      return 'raced'
    case 'same':
    case 'recompute':
    case 'write':
      return {
        id,
        version,
        createdAt,
        updatedAt,
        doc,
        ...('replace' in memberChanges && { members: await sentMembers(wanted, groups) }),
      }
  }
}

function missedTarget(
  targets: readonly MembershipTarget[],
  isMissed: (pointer: string) => boolean | undefined,
): AppError {
  return refuse(noTarget('members', targets.find(({ pointer }) => isMissed(pointer))?.pointer ?? ''))
}

function refuseTaken(error: unknown): never {
  throw isUniqueViolation(error, 'scim_groups_display_name') ? displayNameTaken() : error
}

/**
 * A change that may give or take access, with the recomputation of it. Groups that come or go are marked first, with all
 * that is inside them, so that a membership change under way in one of them is decided again on what we leave behind.
 */
async function recomputing(
  { db, caller, roles }: Context,
  {
    id,
    memberChanges,
    run,
  }: { id: string; memberChanges: MembershipChanges; run: (db: Db, recomputes: boolean) => Promise<SavedRow> },
): Promise<SavedRow> {
  const { workspaceId } = caller
  return db.transaction().execute(async trx => {
    const ids =
      'replace' in memberChanges
        ? memberChanges.replace
        : [...memberChanges.add, ...memberChanges.remove.filter(isResourceId)]
    await markReach(trx, { caller, id, ids: `{${await joinIds(ids)}}`, all: 'replace' in memberChanges })
    const row = await run(trx, true)
    const { entryId, isMapped, changedUsers, changedGroups } = row
    if (entryId === null || !isMapped) return row
    const memberIds = await membersBehind(trx, { caller, userIds: changedUsers ?? [], groupIds: changedGroups ?? [] })
    await recomputeAccess(trx, { workspaceId, memberIds, entryId, roles })
    return row
  })
}

/**
 * Replaces a group (RFC 7644 §3.5.1). Members that the body does not speak of stay: a client that only renames must not
 * empty a group.
 * @throws {AppError} `not_found`, `version_conflict`, `scim_uniqueness`, `scim_invalid_value`
 */
export async function replaceGroup(
  context: Context,
  { id, body, ifMatch, leniencies }: { id: string; body: unknown; ifMatch: IfMatch; leniencies: readonly Leniency[] },
): Promise<GroupAnswer> {
  return untilKnown(async kinds => {
    const { resource, members, ...read } = await readGroup(body, context.caller.mode, kinds)
    const memberChanges = members && { replace: members }
    const used = [...leniencies, ...read.leniencies]
    return saveGroup(context, { id, resource, memberChanges, ifMatch, leniencies: used, kinds })
  })
}

/**
 * Applies a PATCH. One that speaks of members alone reads nothing of the group.
 * @throws {AppError} `not_found`, `version_conflict`, `scim_uniqueness`, `scim_invalid_value`, and what `applyPatch` refuses
 */
export async function patchGroup(
  context: Context,
  patch: { id: string; operations: readonly Operation[]; ifMatch: IfMatch; leniencies: readonly Leniency[] },
): Promise<GroupAnswer> {
  const { id, operations, ifMatch } = patch
  const { mode } = context.caller
  const touched = touchedAttributes('Group', operations)
  if (touched !== undefined && [...touched].every(name => name === 'members')) {
    return untilKnown(async kinds => {
      const { memberChanges, memberTargets, ...patched } = await applyPatchInStretches({}, operations, {
        type: 'Group',
        mode,
        kinds,
      })
      const leniencies = [...patch.leniencies, ...patched.leniencies]
      const change = { id, memberChanges, memberTargets, ifMatch, leniencies, kinds }
      return (await changeOneMembership(context, change)) ?? saveGroup(context, change)
    })
  }
  return untilKnown(async kinds => {
    const group = await getGroup(context, { id, withMembers: false })
    if (ifMatch !== null && !ifMatch.includes(group.version)) throw versionConflict()
    const patched = await applyPatchInStretches(fromRow(group), operations, { type: 'Group', mode, kinds })
    const { changed, memberChanges, memberTargets } = patched
    if (!changed && memberChanges === undefined) return group
    const resource = changed ? patched.resource : undefined
    const leniencies = [...patch.leniencies, ...patched.leniencies]
    const expected = group.version
    return saveGroup(context, { id, resource, memberChanges, memberTargets, ifMatch, expected, leniencies, kinds })
  })
}

// ---- deleting

interface DeletedRow {
  id: string | null
  version: number
  isMapped: boolean
  isNested: boolean
  deleted: string | null
  entryId: number | null
}

interface DeleteValues extends GroupKey {
  ifMatch: IfMatch
  recomputes: boolean
  requestId: string
  leniencies: string | null
}

/** The version in the condition makes a membership that was added meanwhile a lost race, rather than a row left behind. */
const removeGroup = prepared<DeleteValues, DeletedRow>('scim_group_delete', values => {
  const { workspaceId, directoryId } = values
  const here = (table: RawBuilder<unknown>) =>
    sql`${table}.workspace_id = ${workspaceId}::uuid AND ${table}.directory_id = ${directoryId}::uuid`
  return sql`
    WITH RECURSIVE ${allowed(values)}, ${pageOfOne(values)},
    around AS (
      SELECT id FROM page
       UNION
      SELECT s.group_id
        FROM around o
       CROSS JOIN LATERAL (SELECT s.group_id FROM scim_group_subgroups s WHERE ${here(sql`s`)} AND s.subgroup_id = o.id OFFSET 0) s
    ), verdict AS (
      SELECT p.id, p.version,
             EXISTS (SELECT FROM around o
                       JOIN group_mappings m ON m.workspace_id = ${workspaceId}::uuid AND m.directory_id = ${directoryId}::uuid AND m.scim_group_id = o.id) AS is_mapped
        FROM page p
    ), written AS (
      DELETE FROM scim_groups g USING verdict v
       WHERE ${here(sql`g`)} AND g.id = ${values.id}::uuid AND g.version = v.version AND (v.version = ANY (${values.ifMatch}::int[])) IS NOT FALSE
         AND (${values.recomputes}::boolean OR NOT v.is_mapped)
      RETURNING g.workspace_id, g.directory_id, g.id, g.display_name
    ), members_gone AS (
      DELETE FROM scim_group_memberships m
       WHERE ${here(sql`m`)} AND m.group_id = ${values.id}::uuid AND EXISTS (SELECT FROM written) RETURNING m.user_id
    ), outer_touched AS (
      UPDATE scim_groups g SET version = g.version + 1, updated_at = now()
       WHERE ${here(sql`g`)} AND g.id = ANY (ARRAY(
         SELECT s.group_id FROM written w, scim_group_subgroups s WHERE ${here(sql`s`)} AND s.subgroup_id = w.id))
    ), counted AS (${countSql('Group', 'deleted', sql`written`)}),
    entry AS (${insertEntrySql({
      workspaceId: sql`w.workspace_id`,
      action: sql`'scim_group.deleted'`,
      actorType: sql`'directory'`,
      actorId: sql`w.directory_id::text`,
      requestId: sql`${values.requestId}::text`,
      targetType: sql`'scim_group'`,
      targetId: sql`w.id::text`,
      detail: sql`jsonb_build_object('displayName', w.display_name, 'members', (SELECT count(*) FROM members_gone), 'mappings', (
        SELECT count(*) FROM group_mappings m WHERE ${here(sql`m`)} AND m.scim_group_id = w.id))
        || jsonb_strip_nulls(jsonb_build_object('leniencies', ${values.leniencies}::jsonb))`,
      from: sql`written w`,
    })}), mappings_gone AS (${mappingHistory({
      entryId: sql`e.id`,
      isDeleted: true,
      from: sql`entry e CROSS JOIN written w JOIN group_mappings m ON ${here(sql`m`)} AND m.scim_group_id = w.id`,
    })})
    SELECT p.id, p.version, v.is_mapped AS "isMapped", w.id AS deleted, (SELECT id FROM entry) AS "entryId"
      FROM allowed a LEFT JOIN page p ON true LEFT JOIN verdict v ON true LEFT JOIN written w ON true`
})

/**
 * Deletes a group with its memberships; its members stay, and lose what they had through it.
 * @throws {AppError} `not_found`, `version_conflict`
 */
export async function deleteGroup(context: Context, { id, ifMatch }: { id: string; ifMatch: IfMatch }): Promise<void> {
  const { db, caller, roles, requestId } = context
  const values = { ...callerKey(caller), id, ifMatch, requestId, leniencies: leniencyText([], context) }
  await retryOnConflict(async () => {
    const row = firstRow(await removeGroup(db, { ...values, recomputes: false }))
    if (row.id === null) throw noGroup(id)
    if (ifMatch !== null && !ifMatch.includes(row.version)) throw versionConflict()
    if (row.deleted !== null) return 'deleted'
    if (!row.isMapped) return 'raced'
    return db.transaction().execute(async trx => {
      await markReach(trx, { caller, id, ids: '{}', all: true })
      const memberIds = await membersBehind(trx, { caller, userIds: [], groupIds: [id] })
      const { deleted, entryId } = firstRow(await removeGroup(trx, { ...values, recomputes: true }))
      if (deleted === null || entryId === null) return 'raced'
      await recomputeAccess(trx, { workspaceId: caller.workspaceId, memberIds, entryId, roles })
      return 'deleted'
    })
  })
}
