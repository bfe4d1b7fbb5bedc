import { findSubAttribute, isStorable, resourceTypes } from './attributes.ts'
import type { Attribute } from './attributes.ts'
import type { Filter } from './filter.ts'
import { allow, allowUnknown, at, invalid, isObject, listValues, refuse } from './value.ts'
import type { Place } from './value.ts'

/**
 * Members of a group never stand in the resource: a group of a hundred thousand is changed by sets of ids, and nothing
 * reads it to do so.
 */

/** What a body does to the members: the whole new set, or two sets without overlap. */
export type MemberChanges = { replace: string[] } | { add: string[]; remove: string[] }

/** One operation on the set. */
export interface MemberStep {
  op: 'add' | 'remove' | 'replace'
  ids: readonly string[]
}

/** At most so many members in one value. */
export const MAX_MEMBERS = 200_000

const members = membersAttribute()

function membersAttribute(): Attribute {
  const attribute = resourceTypes.Group.attributes.find(({ name }) => name === 'members')
  if (attribute === undefined) throw new TypeError('The attribute table has no members.')
  return attribute
}

/**
 * Reads the ids of members: `[{ "value": id }]`, and in tolerant mode a single object or bare ids. Null and an empty
 * array are no members. What else a member says ($ref, type, display) follows from its id.
 * @returns each id once, in the order sent
 * @throws {AppError} `scim_invalid_value` for a member without an id, or more than 200,000 of them
 */
export function readMemberIds(value: unknown, place: Place): string[] {
  if (value === null || value === undefined) return []
  const { reading, pointer } = place
  const entries = listValues(members, value, place)
  if (entries.length > MAX_MEMBERS) throw invalid(members, pointer, `takes at most ${MAX_MEMBERS} values at a time`)
  const ids = new Set<string>()
  for (const [index, entry] of entries.entries()) {
    const id = isObject(entry) ? entry.value : undefined
    // The common case costs no pointer: groups have tens of thousands of these.
    const plain = typeof id === 'string' && id !== '' && isObject(entry) && isPlain(entry, id)
    ids.add(
      plain
        ? checkId(id, pointer)
        : readMemberId(entry, { reading, pointer: Array.isArray(value) ? at(pointer, index) : pointer }),
    )
  }
  return [...ids]
}

const known = new Set(members.subAttributes?.map(({ name }) => name))

/** Whether there is nothing to say about a member: it has no other keys, and what it says of itself is so. */
function isPlain(entry: Record<string, unknown>, id: string): boolean {
  for (const key in entry) if (!known.has(key)) return false
  return contradiction(entry, id) === undefined
}

/** The key of a member that speaks of another one than its id does. */
function contradiction({ type, $ref }: Record<string, unknown>, id: string): 'type' | '$ref' | undefined {
  if (type === undefined && $ref === undefined) return undefined
  const types = ['User', 'Group'].filter(each => type === undefined || type === null || type === each)
  if (types.length === 0) return 'type'
  if ($ref === undefined || $ref === null || $ref === '') return undefined
  return typeof $ref === 'string' && types.some(each => $ref.endsWith(`${each}s/${id}`)) ? undefined : '$ref'
}

function readMemberId(entry: unknown, place: Place): string {
  const { reading, pointer } = place
  if (typeof entry === 'string' && entry !== '') {
    const message = 'A member must be an object: {"value": "id"}.'
    allow(reading, 'string_for_complex', { code: 'scim_invalid_value', message, pointer })
    return checkId(entry, pointer)
  }
  if (!isObject(entry)) throw invalid(members, pointer, 'must be objects such as {"value": "id"}')
  let id: unknown
  for (const [key, inner] of Object.entries(entry)) {
    const sub = findSubAttribute(members, key)
    if (sub === undefined) allowUnknown(`members.${key}`, { reading, pointer: at(pointer, key) })
    if (sub?.name === 'value') id = inner
  }
  if (typeof id !== 'string' || id === '')
    throw invalid(members, at(pointer, 'value'), 'need the id of a user or group as value')
  const contradicting = contradiction(entry, id)
  if (contradicting !== undefined) {
    const message = `The ${contradicting} of a member must be of the resource in value, or left out.`
    const refusal = { code: 'scim_invalid_value', message, pointer: at(pointer, contradicting) } as const
    allow(reading, 'member_detail_ignored', refusal)
  }
  return checkId(id, at(pointer, 'value'))
}

function checkId(id: string, pointer: string): string {
  if (id.length > 512 || !isStorable(id)) throw invalid(members, pointer, 'have ids of this service as values')
  return id
}

/**
 * The ids that a filter in brackets names: `value eq "a"`, several joined by `or`, each perhaps with its type.
 * @throws {AppError} `scim_invalid_path` for any other filter, which only reading the whole group could answer
 */
export function idsOfMemberFilter(filter: Filter, pointer: string): string[] {
  const ids = findIds(filter)
  if (ids !== undefined) return ids
  const message = 'Members are named by their id: members[value eq "id"], several of them joined by or.'
  throw refuse({ code: 'scim_invalid_path', message, pointer })
}

function findIds(filter: Filter): string[] | undefined {
  if (filter.kind === 'or') {
    const found = filter.operands.map(findIds)
    return found.every(ids => ids !== undefined) ? found.flat() : undefined
  }
  if (filter.kind === 'and') {
    const rest = filter.operands.filter(operand => !isComparisonOf(operand, 'type'))
    return rest.length === 1 && rest[0] ? findIds(rest[0]) : undefined
  }
  return isComparisonOf(filter, 'value') && typeof filter.value === 'string' ? [filter.value] : undefined
}

function isComparisonOf(filter: Filter, name: string): filter is Filter & { kind: 'compare' } {
  return filter.kind === 'compare' && filter.operator === 'eq' && filter.attribute.toLowerCase() === name
}

/** Folds operations, in their order, into one change: for each id the last word counts. */
export function foldMemberSteps(steps: readonly MemberStep[]): MemberChanges | undefined {
  if (steps.length === 0) return undefined
  let whole = false
  const present = new Map<string, boolean>()
  for (const { op, ids } of steps) {
    if (op === 'replace') {
      whole = true
      present.clear()
    }
    for (const id of ids) present.set(id, op !== 'remove')
  }
  const idsWhere = (wanted: boolean) => [...present].filter(([, is]) => is === wanted).map(([id]) => id)
  return whole ? { replace: idsWhere(true) } : { add: idsWhere(true), remove: idsWhere(false) }
}
