import { at } from '../../json-pointer.ts'
import { inStretches } from '../../turns.ts'
import { findSubAttribute, isStorable, resourceTypes } from './attributes.ts'
import type { Attribute } from './attributes.ts'
import type { Filter } from './filter.ts'
import { allow, allowUnknown, isObject, printable, refuse } from './reading.ts'
import type { MembershipType, Place, Reading } from './reading.ts'
import { invalid, listValues } from './value.ts'

/**
 * Memberships are not part of the stored group. Sets of ids change a group, so that no change reads all members of a group
 * of a hundred thousand.
 */

/** The change that a body makes to the memberships: the whole new set, or two disjoint sets. */
export type MembershipChanges = { replace: string[] } | { add: string[]; remove: string[] }

/** One operation on the set. */
export interface MembershipStep {
  op: 'add' | 'remove' | 'replace'
  ids: readonly string[]
  /** Pointer to the filter that named the ids. */
  filterAt?: string
}

/** A filter and the members that it selects if they are in the group. */
export interface MembershipTarget {
  pointer: string
  ids: readonly string[]
}

/** Most members in one value. */
export const MAX_MEMBERSHIPS = 200_000

const members = membersAttribute()

function membersAttribute(): Attribute {
  const attribute = resourceTypes.Group.attributes.find(({ name }) => name === 'members')
  if (attribute === undefined) throw new TypeError('The attribute table has no members.')
  return attribute
}

/**
 * Reads the ids of members: `[{ "value": id }]`, and in tolerant mode a single object or bare ids. Null and an empty
 * array mean no members. The id decides `$ref`, `type` and `display`, so they are not stored. A claimed type goes into
 * `kinds`, and the statement that writes the membership verifies it.
 * @returns each id once, in the order sent
 * @throws {AppError} `scim_invalid_value` for a member without an id, or more than 200,000 of them
 */
export function readMembershipIds(value: unknown, place: Place): string[] {
  const { ids, steps } = readingOfIds(value, place)
  while (!steps.next().done);
  return [...ids]
}

/** As `readMembershipIds`, in stretches so that other requests run in between: a group may have 200,000 members. */
export async function readManyMembershipIds(value: unknown, place: Place): Promise<string[]> {
  const { ids, steps } = readingOfIds(value, place)
  await inStretches(steps)
  return [...ids]
}

function readingOfIds(value: unknown, place: Place): { ids: Set<string>; steps: Generator<void, void> } {
  const ids = new Set<string>()
  return { ids, steps: value === null || value === undefined ? nothing() : addIds(ids, value, place) }
}

function* nothing(): Generator<void, void> {}

/** Members read before the clock is checked again. */
const STEP_MEMBERS = 1_000

function* addIds(ids: Set<string>, value: unknown, place: Place): Generator<void, void> {
  const { reading, pointer } = place
  const entries = listValues(members, value, place)
  if (entries.length > MAX_MEMBERSHIPS)
    throw invalid(members, pointer, `takes at most ${MAX_MEMBERSHIPS} values at a time`)
  for (const [index, entry] of entries.entries()) {
    const id = isObject(entry) ? entry.value : undefined
    // The common case costs no pointer: groups have tens of thousands of these.
    const plain = typeof id === 'string' && id !== '' && isObject(entry) && isPlain(entry, { id, reading })
    ids.add(
      plain
        ? checkId(id, pointer)
        : readMemberId(entry, { reading, pointer: Array.isArray(value) ? at(pointer, index) : pointer }),
    )
    if (index % STEP_MEMBERS === STEP_MEMBERS - 1) yield
  }
}

const known = new Set(members.subAttributes?.map(({ name }) => name))

/** Reports whether a member has only known keys and a plausible type. */
function isPlain(entry: Record<string, unknown>, { id, reading }: { id: string; reading: Reading }): boolean {
  for (const key in entry) if (!known.has(key)) return false
  return checkKind(entry, { id, reading }) === undefined
}

const memberKinds: readonly MembershipType[] = ['User', 'Group']

interface Contradiction {
  key: 'type' | '$ref'
  message: string
}

/** Finds a `type` or `$ref` that contradicts the id. Records a claim that only the database can verify. */
function checkKind(
  { type, $ref }: Record<string, unknown>,
  { id, reading }: { id: string; reading: Reading },
): Contradiction | undefined {
  const isTyped = type !== undefined && type !== null
  const isReferred = $ref !== undefined && $ref !== null && $ref !== ''
  if (!isTyped && !isReferred) return undefined
  // The fast path: a sync sends tens of thousands of these.
  if ((type === 'User' || type === 'Group') && !isReferred && reading.kinds?.known.size === 0) {
    reading.kinds.said[type].add(id)
    return undefined
  }
  const possible = memberKinds.filter(each => !isTyped || type === each)
  if (possible.length === 0)
    return { key: 'type', message: `The type of a member must be User or Group, not ${shown(type)}.` }
  const kind = isReferred ? possible.find(each => refersTo($ref, `${each}s/${id}`)) : possible[0]
  if (kind === undefined) {
    const message = `The $ref of a member must be the URL of the ${possible.join(' or ')} in value, not ${shown($ref)}.`
    return { key: '$ref', message }
  }
  const actual = reading.kinds?.known.get(id)
  if (actual !== undefined && actual !== kind) {
    const [key, sent] = isTyped ? (['type', type] as const) : (['$ref', $ref] as const)
    return { key, message: `The ${key} of a member says ${shown(sent)}, but ${printable(id)} is a ${actual}.` }
  }
  if (actual === undefined) reading.kinds?.said[kind].add(id)
  return undefined
}

function refersTo($ref: unknown, end: string): boolean {
  return typeof $ref === 'string' && $ref.endsWith(end)
}

/** Shortens text from the left because the end of a URL names the resource. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return printable(text.length > 100 ? `...${text.slice(-97)}` : text)
}

function readMemberId(entry: unknown, place: Place): string {
  const { reading, pointer } = place
  if (typeof entry === 'string' && entry !== '') {
    const message = 'A member must be an object: {"value": "id"}.'
    allow(reading, 'string_for_complex', { code: 'scim_invalid_value', message, pointer })
    return checkId(entry, pointer)
  }
  if (!isObject(entry)) throw invalid(members, pointer, 'must be objects such as {"value": "id"}')
  const named: Record<string, unknown> = {}
  for (const [key, inner] of Object.entries(entry)) {
    const sub = findSubAttribute(members, key)
    if (sub === undefined) allowUnknown(`members.${key}`, { reading, pointer: at(pointer, key) })
    else named[sub.name] = inner
  }
  const { value: id } = named
  if (typeof id !== 'string' || id === '')
    throw invalid(members, at(pointer, 'value'), 'need the id of a user or group in value')
  const contradiction = checkKind(named, { id, reading })
  if (contradiction !== undefined) {
    const { key, message } = contradiction
    allow(reading, 'member_detail_ignored', { code: 'scim_invalid_value', message, pointer: at(pointer, key) })
  }
  return checkId(id, at(pointer, 'value'))
}

function checkId(id: string, pointer: string): string {
  if (id.length > 512 || !isStorable(id)) throw invalid(members, pointer, 'must have ids of users or groups as values')
  return id
}

/**
 * The ids that a filter in brackets names: `value eq "a"`, several joined by `or`, each optionally with a type. An id known
 * to have another type is not selected.
 * @throws {AppError} `scim_invalid_path` for other filters because evaluating them would read the whole group
 */
export function idsOfMembershipFilter(filter: Filter, { reading, pointer }: Place): string[] {
  const selected = findSelected(filter)
  if (selected === undefined) {
    const message = 'Select members by id: members[value eq "id"], joined by or for several.'
    throw refuse({ code: 'scim_invalid_path', message, pointer })
  }
  return selected.filter(({ id, kinds }) => mayBe(kinds, { id, reading })).map(({ id }) => id)
}

/** A member that a filter names, with the types that the filter allows. */
interface Selected {
  id: string
  kinds: readonly MembershipType[]
}

function findSelected(filter: Filter): Selected[] | undefined {
  if (filter.kind === 'or') {
    const found = filter.operands.map(findSelected)
    return found.every(selected => selected !== undefined) ? found.flat() : undefined
  }
  if (filter.kind === 'and') {
    const types = filter.operands.filter(operand => isComparisonOf(operand, 'type')).map(({ value }) => value)
    const [named, ...rest] = filter.operands.filter(operand => !isComparisonOf(operand, 'type'))
    const selected = named && rest.length === 0 ? findSelected(named) : undefined
    const isOf = (kind: MembershipType) =>
      types.every(type => typeof type === 'string' && type.toLowerCase() === kind.toLowerCase())
    return selected?.map(({ id, kinds }) => ({ id, kinds: kinds.filter(isOf) }))
  }
  return isComparisonOf(filter, 'value') && typeof filter.value === 'string'
    ? [{ id: filter.value, kinds: memberKinds }]
    : undefined
}

/** Reports whether an id may have one of these types. Records unknown ids so that the statement can verify their type. */
function mayBe(kinds: readonly MembershipType[], { id, reading }: { id: string; reading: Reading }): boolean {
  const [only, other] = kinds
  if (only === undefined || other !== undefined) return only !== undefined
  const actual = reading.kinds?.known.get(id)
  if (actual === undefined) reading.kinds?.said[only].add(id)
  return actual === undefined || actual === only
}

function isComparisonOf(filter: Filter, name: string): filter is Filter & { kind: 'compare' } {
  return filter.kind === 'compare' && filter.operator === 'eq' && filter.attribute.toLowerCase() === name
}

/** The combined effect of all operations. */
interface Folded {
  changes: MembershipChanges
  /** Filters that have a target only if at least one of their members is in the stored group. */
  targets: MembershipTarget[]
  /** Pointers to filters that have no target for any stored group. */
  missed: string[]
}

/** Folds operations in order into one change. The last operation on an id wins. */
export function foldMembershipSteps(steps: readonly MembershipStep[]): Folded | undefined {
  if (steps.length === 0) return undefined
  let whole = false
  const present = new Map<string, boolean>()
  const targets: MembershipTarget[] = []
  const missed: string[] = []
  for (const { op, ids, filterAt } of steps) {
    if (op === 'replace') {
      whole = true
      present.clear()
    }
    if (filterAt !== undefined && !ids.some(id => present.get(id))) {
      const stored = whole ? [] : ids.filter(id => !present.has(id))
      if (stored.length === 0) missed.push(filterAt)
      else targets.push({ pointer: filterAt, ids: stored })
    }
    for (const id of ids) present.set(id, op !== 'remove')
  }
  const idsWhere = (wanted: boolean) => [...present].filter(([, is]) => is === wanted).map(([id]) => id)
  const changes = whole ? { replace: idsWhere(true) } : { add: idsWhere(true), remove: idsWhere(false) }
  return { changes, targets, missed }
}
