import { LRUCache } from 'lru-cache'
import { sql, type RawBuilder } from 'kysely'
import type { Db } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import type { WorkClass } from '../../db/work-class.ts'
import { AppError } from '../../errors.ts'
import { comparisonKey, findAttribute, isStorable } from '../protocol/attributes.ts'
import type { ResourceTypeName } from '../protocol/attributes.ts'
import { parseFilter } from '../protocol/filter.ts'
import type { Comparison, Filter } from '../protocol/filter.ts'
import type { ListQuery } from '../protocol/list-query.ts'
import { countIds } from '../protocol/serialize.ts'
import type { GroupAnswer, MemberIds, StoredRow, UserAnswer } from '../protocol/serialize.ts'
import { allowed, callerKey, firstRow, type Caller, type CallerKey } from '../storage/credential.ts'
import { comparisonKeySql, filterToSql, sortKey } from './filter-sql.ts'
import { getGroup, groupColumns } from '../groups/groups.ts'
import { allGroups, preparedWithGroups, type GroupsKey, type GroupsOf } from '../users/user-groups.ts'
import { userColumns } from '../users/users.ts'
import type { Context } from '../storage/write.ts'

/**
 * Lists of users and groups. Without a filter `startIndex` is exact and yet costs no walk: positions are remembered by
 * the id that stands before them, which stays right while resources only come and none has gone (the order is that of
 * ids, which grow). With a filter all that match are found first, since the total must be told.
 */

/** How long a filter that no index serves may search, in milliseconds: well within the patience of providers. */
const FILTER_MS = 10_000

/** Before every id. */
const BEFORE_ALL = '00000000-0000-0000-0000-000000000000'

/** The most members that one page of groups carries; a page that would have more ends before. */
const MAX_PAGE_MEMBERS = 50_000

export interface Listed<Answer> {
  totalResults: number
  resources: (Answer & Ordered)[]
  /** The page ends before its count for what its resources carry, and there are more. */
  isCut: boolean
}

interface Ordered {
  /** By what it has its place, as text, where the client asked for an order; null where it has no value there. */
  sortKey?: string | null
}

export interface PageQuery extends Pick<ListQuery, 'filter' | 'sortBy' | 'descending' | 'startIndex' | 'count'> {
  /** Only what comes after this resource, in the order asked for, else in that of ids. */
  after?: string | undefined
  /** Its `sortKey`, where an order is asked for. */
  afterKey?: string | null | undefined
}

interface ListContext extends Pick<Context, 'db' | 'caller' | 'baseUrl'> {
  anchors: Anchors
  /** Where filters and orders that no index serves run. */
  scans: WorkClass
  /** Whether the answer shows `groups` of users, `members` of groups. */
  withRelation: boolean
}

export async function listUsers(context: ListContext, query: PageQuery): Promise<Listed<UserAnswer>> {
  const { rows, totalResults } = await listRows<UserAnswer & Ordered>('User', context, query)
  return { totalResults, resources: rows, isCut: false }
}

export async function listGroups(context: ListContext, query: PageQuery): Promise<Listed<GroupAnswer>> {
  const { rows, totalResults } = await listRows<StoredRow & MemberIds & Ordered>('Group', context, query)
  const { withRelation } = context
  const resources = rows.map(({ users, groups, ...row }) => ({
    ...row,
    ...(withRelation && { members: { users, groups } }),
  }))
  const left = withRelation ? await cutAtMembers(context, resources) : resources
  return { totalResults, resources: left, isCut: left.length < resources.length }
}

/**
 * The statement reads one member more than a page may carry: then the group that it stopped in is left for the next page,
 * or read alone where it is the first.
 */
async function cutAtMembers<Group extends GroupAnswer>(context: ListContext, groups: Group[]): Promise<Group[]> {
  let total = 0
  const last = groups.findIndex(({ members }) => (total += countIds(members?.users ?? null)) > MAX_PAGE_MEMBERS)
  if (last === -1) return groups
  const [first] = groups
  if (last !== 0 || first === undefined) return groups.slice(0, last)
  return [{ ...first, ...(await getGroup(context, { id: first.id, withMembers: true })) }]
}

// ---- rows

interface PageKey extends CallerKey {
  baseUrl: string
  withRelation: boolean
  skip: number
  count: number
  /** Null for the list from its start. */
  after: string | null
}

type Listing<Row> = Row & { total: number; isLead: boolean; epoch: number }
type MaybeListing<Row> = { [Column in keyof Listing<Row>]: Listing<Row>[Column] | null } & {
  total: number
  nestsGroups: boolean
}

interface Rows<Row> {
  rows: Row[]
  totalResults: number
}

async function listRows<Row extends StoredRow>(
  type: ResourceTypeName,
  context: ListContext,
  query: PageQuery,
): Promise<Rows<Row>> {
  const { db, caller, baseUrl, withRelation } = context
  const { filter, sortBy, startIndex, count, after = null, afterKey = null } = query
  const key = { ...callerKey(caller), baseUrl, withRelation, skip: startIndex - 1, count, after }
  const order = sortBy === undefined ? undefined : orderOf(type, { ...query, sortBy })
  if (filter === undefined && order === undefined) return listUnfiltered<Row>(type, context, key)
  const tree = filter === undefined ? undefined : parseFilter(filter)
  const lookUp = order === undefined && tree !== undefined ? findLookUp(type, tree) : undefined
  if (lookUp) return lookUp(db, caller, key)
  const condition = tree ? filterToSql(tree, { type, mode: caller.mode, ...callerKey(caller) }).condition : sql`true`
  const emailKey = type === 'User' && tree ? requiredEmail(tree) : undefined
  const source = emailKey === undefined ? aliases[type] : usersByEmail(sql.val(emailKey))
  const matching = { source, condition, order: order && { ...order, afterKey }, groupsOf: allGroups }
  const statement = matchingStatement<Row>(type, constants(key), matching)
  if (emailKey !== undefined) return readPage<Row>(statement.execute(db).then(({ rows }) => rows))
  const run = context.scans.run(caller.workspaceId, scans =>
    scans
      .transaction()
      .setAccessMode('read only')
      .execute(async trx => {
        await sql`SELECT set_config('statement_timeout', ${String(FILTER_MS)}, true)`.execute(trx)
        return (await statement.execute(trx)).rows
      }),
  )
  return readPage<Row>(run).catch(refuseTooMany)
}

async function readPage<Row extends StoredRow>(run: Promise<MaybeListing<Row>[]>): Promise<Rows<Row>> {
  const rows = await run
  const { total } = firstRow(rows)
  return { totalResults: total, rows: rows.filter(row => row.id !== null) as unknown as Row[] }
}

/** Values as the places of a statement that is built for one run. */
function constants<Values extends object>(values: Values): Params<Values> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, sql.val(value)])) as Params<Values>
}

function refuseTooMany(error: unknown): never {
  if ((error as { code?: string }).code !== '57014') throw error
  const advice =
    'Compare userName, externalId, displayName, emails.value or meta.lastModified, or ask for less at once.'
  throw new AppError('scim_too_many', `The filter takes too long over this directory. ${advice}`, { cause: error })
}

/** What to order by, in SQL (RFC 7644 §3.4.2.3): resources without the attribute come last, or first when descending. */
function orderOf(type: ResourceTypeName, { sortBy, descending }: { sortBy: string; descending: boolean }) {
  const key = sortKey(type, sortBy)
  if (key === undefined) {
    throw new AppError(
      'scim_invalid_value',
      `sortBy must be a single value to order a ${type} by, such as meta.created.`,
    )
  }
  return { key, descending, direction: descending ? sql`DESC NULLS FIRST` : sql`ASC NULLS LAST` }
}

/** With the key of the resource that the page is to begin after. */
type Order = ReturnType<typeof orderOf> & { afterKey: string | null }

/**
 * Whether a row `m (sort_key, id)` comes after the one that a cursor names: by its key, and among equals by its id. The text
 * of a key is read by Postgres as what it is compared with.
 */
function comesAfter(after: RawBuilder<unknown>, { descending, afterKey }: Order): RawBuilder<unknown> {
  const isLater = sql`m.id > ${after}::uuid`
  if (afterKey === null) {
    return descending ? sql`(m.sort_key IS NOT NULL OR ${isLater})` : sql`(m.sort_key IS NULL AND ${isLater})`
  }
  const isEqual = sql`(m.sort_key = ${afterKey} AND ${isLater})`
  return descending
    ? sql`(m.sort_key < ${afterKey} OR ${isEqual})`
    : sql`(m.sort_key IS NULL OR m.sort_key > ${afterKey} OR ${isEqual})`
}

const aliases = { User: sql`scim_users u`, Group: sql`scim_groups g` }
const ids = { User: sql`u.id`, Group: sql`g.id` }
const tables = { User: sql`scim_users`, Group: sql`scim_groups` }

function inDirectory({ workspaceId, directoryId }: Params<CallerKey>): RawBuilder<unknown> {
  return sql`workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid`
}

function groupsKey({ workspaceId, directoryId, baseUrl, withRelation }: Params<PageKey>): Params<GroupsKey> {
  return { workspaceId, directoryId, baseUrl, withGroups: withRelation }
}

/** Of rows `p`, beside `allowed a`; of groups without members. */
function plainColumns(type: ResourceTypeName, key: Params<PageKey>, groupsOf: GroupsOf): RawBuilder<unknown> {
  const columns =
    type === 'User'
      ? sql`${userColumns}, ${groupsOf(groupsKey(key))} AS groups`
      : sql`${groupColumns}, NULL AS users, NULL AS groups`
  return sql`${columns}, a.nests_groups AS "nestsGroups"`
}

/** From a CTE `keys (id, position)`, positions of the page from 1 on, the rows of an answer, with what belongs to them; the parts of each list statement. */
function pageParts(
  type: ResourceTypeName,
  key: Params<PageKey>,
  groupsOf: GroupsOf,
  carried: RawBuilder<unknown> = sql``,
): { ctes: RawBuilder<unknown>; columns: RawBuilder<unknown>; joins: RawBuilder<unknown> } {
  const here = inDirectory(key)
  const { withRelation } = key
  const page = sql`page AS (
    SELECT r.*, k.position${carried}
      FROM keys k CROSS JOIN LATERAL (SELECT * FROM ${tables[type]} WHERE ${here} AND id = k.id OFFSET 0) r)`
  if (type === 'User') {
    return {
      ctes: page,
      columns: plainColumns('User', key, groupsOf),
      joins: sql``,
    }
  }
  // A nested loop over the page in its order, cut where the members are too many for one answer.
  return {
    ctes: sql`${page}, member_rows AS (
        SELECT p.id, m.user_id
          FROM (SELECT id FROM page WHERE position > 0 ORDER BY position OFFSET 0) p
         CROSS JOIN LATERAL (SELECT user_id FROM scim_group_memberships WHERE ${here} AND group_id = p.id OFFSET 0) m
         WHERE ${withRelation}::boolean
         LIMIT ${sql.lit(MAX_PAGE_MEMBERS + 1)}
      ), users_of AS (
        SELECT id, string_agg(user_id::text, ',') AS users FROM member_rows GROUP BY id
      )`,
    columns: sql`${groupColumns}, u.users, s.groups, a.nests_groups AS "nestsGroups"`,
    joins: sql`
      LEFT JOIN users_of u ON u.id = p.id
      LEFT JOIN LATERAL (
        SELECT string_agg(subgroup_id::text, ',') AS groups
          FROM scim_group_subgroups WHERE ${withRelation}::boolean AND ${here} AND group_id = p.id OFFSET 0) s ON true`,
  }
}

// ---- with a filter

/** Rows of users `u`, or groups `g`, that meet a condition. */
interface Matching {
  source: RawBuilder<unknown>
  condition: RawBuilder<unknown>
  order?: Order | undefined
  groupsOf: GroupsOf
}

/** One page of all rows that meet a condition, and how many do. */
function matchingStatement<Row>(
  type: ResourceTypeName,
  key: Params<PageKey>,
  { source, condition, order, groupsOf }: Matching,
): RawBuilder<MaybeListing<Row>> {
  const { ctes, columns, joins } = pageParts(type, key, groupsOf, order ? sql`, k.sort_key::text AS sort_key` : sql``)
  const isAfter = order ? comesAfter(key.after, order) : sql`m.id > ${key.after}::uuid`
  const sorted = order ? sql`m.sort_key ${order.direction}, m.id` : sql`m.id`
  return sql`
    WITH ${allowed(key)},
    matched AS MATERIALIZED (
      SELECT ${ids[type]}${order ? sql`, ${order.key} AS sort_key` : sql``}
        FROM ${source}
       WHERE ${inDirectory(key)} AND ${condition}
    ), keys AS MATERIALIZED (
      SELECT m.*, row_number() OVER (ORDER BY ${sorted}) AS position
        FROM matched m
       WHERE ${key.after}::uuid IS NULL OR ${isAfter}
       ORDER BY ${sorted} OFFSET ${key.skip}::int LIMIT ${key.count}::int
    ), ${ctes}
    SELECT (SELECT count(*) FROM matched)::int AS total, ${columns}${order ? sql`, p.sort_key AS "sortKey"` : sql``}
      FROM allowed a LEFT JOIN page p ON true ${joins}
     ORDER BY p.position`
}

/**
 * The address that a user must have to meet a filter, folded: `emails.value eq "x"`, `emails[type eq "work"].value eq "x"`,
 * alone or with more. Entra ID finds people so.
 */
function requiredEmail(filter: Filter): string | undefined {
  if (filter.kind === 'and') return filter.operands.map(requiredEmail).find(key => key !== undefined)
  if (filter.kind !== 'compare' && filter.kind !== 'values') return undefined
  const path = findAttribute('User', filter.attribute)
  if (path?.names[0] !== 'emails') return undefined
  if (filter.kind === 'compare')
    return path.names.length === 1 || path.names[1] === 'value' ? equalKey(filter) : undefined
  const inner = filter.filter.kind === 'and' ? filter.filter.operands : [filter.filter]
  const values = inner.map(each =>
    each.kind === 'compare' && each.attribute.toLowerCase() === 'value' ? equalKey(each) : undefined,
  )
  return values.find(key => key !== undefined)
}

function equalKey({ operator, value }: Comparison): string | undefined {
  return operator === 'eq' && typeof value === 'string' && isStorable(value) ? comparisonKey(value) : undefined
}

/** Users with an address, in whatever directory: found by it first, whatever the planner thinks of the directory's size. */
function usersByEmail(emailKey: RawBuilder<string>): RawBuilder<unknown> {
  return sql`(SELECT * FROM scim_users WHERE email_keys @> ARRAY[${emailKey}]::text[] OFFSET 0) u`
}

/** Runs a named statement: planning one for each request costs ten times more. */
type List<Values> = (db: Db, caller: Caller, values: Values) => Promise<MaybeListing<StoredRow>[]>

function preparedList<Values extends object>(
  type: ResourceTypeName,
  name: string,
  build: (values: Params<Values>, groupsOf: GroupsOf) => RawBuilder<MaybeListing<StoredRow>>,
): List<Values> {
  if (type === 'User') return preparedWithGroups(name, build).read
  const run = prepared<Values, MaybeListing<StoredRow>>(name, values => build(values, allGroups))
  return (db, _caller, values) => run(db, values)
}

type LookUp<Values> = (db: Db, caller: Caller, values: Values) => Promise<Rows<never>>

interface LookUpOf<Values> {
  type: ResourceTypeName
  /** Of its statements, after `scim_user_` or `scim_group_`. */
  name: string
  source?: (values: Params<Values>) => RawBuilder<unknown>
  condition: (values: Params<Values>) => RawBuilder<unknown>
}

/**
 * One of those that a sync makes before each change. It finds one resource, or none: reading one more than fits the page is
 * cheaper than to count, to order and to skip, and only where there is one more all of that is done.
 */
function lookUpBy<Values extends PageKey>({ type, name, source, condition }: LookUpOf<Values>): LookUp<Values> {
  const parts = (values: Params<Values>) => ({
    source: source?.(values) ?? aliases[type],
    condition: condition(values),
  })
  const page = preparedList<Values>(type, `scim_${type.toLowerCase()}_by_${name}`, (values, groupsOf) =>
    matchingStatement(type, values, { ...parts(values), groupsOf }),
  )
  const few = preparedList<Values>(type, `scim_${type.toLowerCase()}_of_${name}`, (values, groupsOf) =>
    fewStatement(type, values, { ...parts(values), groupsOf }),
  )
  return async (db, caller, values) => {
    const { skip, count, after, withRelation } = values
    if (skip === 0 && after === null && (type === 'User' || !withRelation)) {
      const rows = await few(db, caller, values)
      const isFound = firstRow(rows).id !== null
      if (!isFound) return { rows: [], totalResults: 0 }
      if (rows.length <= count) return { rows: rows.toSorted(inOrder) as never[], totalResults: rows.length }
    }
    return readPage<never>(page(db, caller, values))
  }
}

/** What meets a condition, in no order, up to one more than the page may have; of groups without members. */
function fewStatement(
  type: ResourceTypeName,
  key: Params<PageKey>,
  { source, condition, groupsOf }: Matching,
): RawBuilder<MaybeListing<StoredRow>> {
  return sql`
    WITH ${allowed(key)}
    SELECT ${plainColumns(type, key, groupsOf)}
      FROM allowed a
      LEFT JOIN LATERAL (SELECT * FROM ${source} WHERE ${inDirectory(key)} AND ${condition}) p ON true
     LIMIT ${key.count}::int + 1`
}

function inOrder(one: { id: string | null }, other: { id: string | null }): number {
  return String(one.id) < String(other.id) ? -1 : 1
}

type ByValue = PageKey & { value: string }

const byColumn = (type: ResourceTypeName, name: string, column: RawBuilder<unknown>): LookUp<ByValue> =>
  lookUpBy({ type, name, condition: ({ value }) => sql`${column} = ${value}::text` })

const lookUps = {
  User: {
    userName: { run: byColumn('User', 'user_name', sql`u.user_name_key`), fold: true },
    externalId: { run: byColumn('User', 'external_id', sql`u.external_id`), fold: false },
  },
  Group: {
    displayName: { run: byColumn('Group', 'display_name', sql`g.display_name_key`), fold: true },
    externalId: { run: byColumn('Group', 'external_id', sql`g.external_id`), fold: false },
  },
}

/** By an address, of a type or of any; both folded. */
const lookUpByEmail = lookUpBy<PageKey & { email: string; emailType: string | null }>({
  type: 'User',
  name: 'email',
  source: ({ email }) => usersByEmail(email),
  condition: ({ email, emailType }) => sql`(${emailType}::text IS NULL OR EXISTS (
    SELECT FROM json_array_elements(u.doc -> 'emails') e
     WHERE ${comparisonKeySql(sql`(e ->> 'value')`)} = ${email}::text AND lower(e ->> 'type') = ${emailType}::text))`,
})

function findLookUp(type: ResourceTypeName, filter: Filter): LookUp<PageKey> | undefined {
  const address = type === 'User' ? addressOf(filter) : undefined
  if (address) return (db, caller, key) => lookUpByEmail(db, caller, { ...key, ...address })
  if (filter.kind !== 'compare' || filter.operator !== 'eq' || typeof filter.value !== 'string') return undefined
  const path = findAttribute(type, filter.attribute)
  const byName: Partial<Record<string, { run: LookUp<ByValue>; fold: boolean }>> = lookUps[type]
  const lookUp = path?.parents.length === 0 ? byName[path.attribute.name] : undefined
  if (lookUp === undefined || !isStorable(filter.value)) return undefined
  const value = lookUp.fold ? comparisonKey(filter.value) : filter.value
  return (db, caller, key) => lookUp.run(db, caller, { ...key, value })
}

/** The address that a filter asks for, where it asks for nothing else: `emails.value eq "x"`, `emails[type eq "work"].value eq "x"`. */
function addressOf(filter: Filter): { email: string; emailType: string | null } | undefined {
  const email = filter.kind === 'and' ? undefined : requiredEmail(filter)
  if (email === undefined || filter.kind === 'compare')
    return email === undefined ? undefined : { email, emailType: null }
  if (filter.kind !== 'values') return undefined
  const parts = filter.filter.kind === 'and' ? filter.filter.operands : [filter.filter]
  const named = (name: string) =>
    parts.find((each): each is Comparison => each.kind === 'compare' && each.attribute.toLowerCase() === name)
  const [value, kind] = [named('value'), named('type')]
  if (!value || parts.length !== (kind ? 2 : 1)) return undefined
  const emailType = kind ? equalKey(kind) : null
  return emailType === undefined ? undefined : { email, emailType }
}

// ---- without a filter

function countsCte(type: ResourceTypeName, key: Params<CallerKey>): RawBuilder<unknown> {
  return sql`counts AS (
      SELECT coalesce(sum(total), 0)::int AS total, coalesce(sum(deleted), 0)::int AS epoch
        FROM scim_counters WHERE ${inDirectory(key)} AND resource_type = ${type === 'User' ? sql`'User'` : sql`'Group'`})`
}

interface NextKey extends PageKey {
  /** The id before the page. */
  from: string
  /** How many resources had been deleted when that was its place; null where it is for certain. */
  fromEpoch: number | null
}

/** The page after an id, in its order by the index, and nothing of it where the place has changed since; of groups without members. */
function nextStatement<Row>(
  type: ResourceTypeName,
  key: Params<NextKey>,
  groupsOf: GroupsOf,
): RawBuilder<MaybeListing<Row>> {
  return sql`
    WITH ${allowed(key)}, ${countsCte(type, key)}
    SELECT c.total, c.epoch, false AS "isLead", ${plainColumns(type, key, groupsOf)}
      FROM allowed a CROSS JOIN counts c
      LEFT JOIN LATERAL (
        SELECT * FROM ${tables[type]} WHERE ${inDirectory(key)} AND id > ${key.from}::uuid
         ORDER BY id LIMIT CASE WHEN c.epoch <> ${key.fromEpoch}::int THEN 0 ELSE ${key.count}::int END) p ON true`
}

const next = {
  User: preparedList<NextKey>('User', 'scim_user_next', (key, groupsOf) => nextStatement('User', key, groupsOf)),
  Group: preparedList<NextKey>('Group', 'scim_group_next', (key, groupsOf) => nextStatement('Group', key, groupsOf)),
}

interface WalkKey extends PageKey {
  anchorId: string | null
  anchorEpoch: number | null
}

/**
 * A page by position. An anchor that is still right replaces the walk to it; without one the row before the page is read
 * as well, as position 0, to be the anchor of the next time.
 */
function walkStatement<Row>(
  type: ResourceTypeName,
  key: Params<WalkKey>,
  groupsOf: GroupsOf,
): RawBuilder<MaybeListing<Row>> {
  const { ctes, columns, joins } = pageParts(type, key, groupsOf)
  const { skip, count, after, anchorId, anchorEpoch } = key
  return sql`
    WITH ${allowed(key)}, ${countsCte(type, key)},
    plan AS (
      SELECT total, epoch, (${after}::uuid IS NOT NULL OR ${anchorId}::uuid IS NOT NULL AND epoch = ${anchorEpoch}::int) AS is_warm,
             greatest(${skip}::int - 1, 0) AS walk, CASE WHEN ${skip}::int > 0 THEN 1 ELSE 0 END AS lead,
             CASE WHEN ${skip}::int > total THEN 0 ELSE ${count}::int END AS wanted
        FROM counts
    ), keys AS MATERIALIZED (
      SELECT id, row_number() OVER (ORDER BY id) - (SELECT CASE WHEN is_warm THEN 0 ELSE lead END FROM plan) AS position
        FROM (
          SELECT id FROM ${tables[type]}
           WHERE ${inDirectory(key)}
             AND id > (SELECT CASE WHEN is_warm THEN coalesce(${after}::uuid, ${anchorId}::uuid) ELSE ${sql.lit(BEFORE_ALL)} END FROM plan)
           ORDER BY id
          OFFSET (SELECT CASE WHEN is_warm THEN 0 ELSE walk END FROM plan)
           LIMIT (SELECT CASE WHEN is_warm OR wanted = 0 THEN wanted ELSE wanted + lead END FROM plan)) walked
    ), ${ctes}
    SELECT plan.total, plan.epoch, p.position = 0 AS "isLead", ${columns}
      FROM allowed a CROSS JOIN plan LEFT JOIN page p ON true ${joins}
     ORDER BY p.position`
}

const walks = {
  User: preparedList<WalkKey>('User', 'scim_user_page', (key, groupsOf) => walkStatement('User', key, groupsOf)),
  Group: preparedList<WalkKey>('Group', 'scim_group_page', (key, groupsOf) => walkStatement('Group', key, groupsOf)),
}

async function listUnfiltered<Row extends StoredRow>(
  type: ResourceTypeName,
  { db, caller, anchors }: ListContext,
  key: PageKey,
): Promise<Rows<Row>> {
  const { skip, after, withRelation } = key
  const place = `${key.directoryId}:${type}`
  const anchor = skip > 0 ? anchors.find(place, skip) : undefined
  const readNext = async (): Promise<MaybeListing<StoredRow>[] | undefined> => {
    if (type === 'Group' && withRelation) return undefined
    const from = after ?? (skip === 0 ? BEFORE_ALL : anchor?.id)
    if (from === undefined) return undefined
    const fromEpoch = after === null && skip > 0 ? (anchor?.epoch ?? null) : null
    const rows = await next[type](db, caller, { ...key, from, fromEpoch })
    return fromEpoch === null || firstRow(rows).epoch === fromEpoch ? rows.toSorted(inOrder) : undefined
  }
  const walk = async () =>
    walks[type](db, caller, { ...key, anchorId: anchor?.id ?? null, anchorEpoch: anchor?.epoch ?? null })
  const all = (await readNext()) ?? (await walk())
  const { total, epoch } = firstRow(all)
  const read = all.filter(row => row.id !== null) as unknown as Listing<Row>[]
  const rows = read.filter(row => !row.isLead)
  const lead = read.find(row => row.isLead)
  if (lead) anchors.set(place, skip, { id: lead.id, epoch: epoch ?? 0 })
  const last = rows.at(-1)
  if (last && after === null) anchors.set(place, skip + rows.length, { id: last.id, epoch: epoch ?? 0 })
  return { rows, totalResults: total }
}

interface Anchor {
  /** Of the resource before the position. */
  id: string
  /** How many resources had been deleted then. */
  epoch: number
}

export interface Anchors {
  find: (place: string, position: number) => Anchor | undefined
  set: (place: string, position: number, anchor: Anchor) => void
}

const MAX_ANCHORS = 10_000

/** Remembered positions of this replica, the oldest going first. */
export function createAnchors(): Anchors {
  const anchors = new LRUCache<string, Anchor>({ max: MAX_ANCHORS })
  return {
    find: (place, position) => anchors.get(`${place}:${position}`),
    set: (place, position, anchor) => void anchors.set(`${place}:${position}`, anchor),
  }
}
