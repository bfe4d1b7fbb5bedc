import { findSubAttribute } from '../attributes.ts'
import type { Attribute } from '../attributes.ts'
import { matchesEntry } from '../evaluate.ts'
import type { Filter } from '../filter.ts'
import { allow, isObject, refuse } from '../reading.ts'
import type { Place, ScimResource } from '../reading.ts'
import { readSingle, unwrap } from '../value.ts'
import { addEntries, settle } from './add.ts'
import { asArray, ignoreRemoveValue, isClearing, missTarget, noTarget, withAttribute } from './edit.ts'
import type { Edit } from './edit.ts'
import { editSub } from './replace.ts'

/** Operations on the values that a filter in the path selects. */

interface MatchingEdit extends Edit {
  filter: Filter
  sub: Attribute | undefined
}

/** Edits the values that the filter in the path selects. */
export function editMatching(attribute: Attribute, current: unknown, edit: MatchingEdit): unknown {
  const { filter, run } = edit
  const selects = (entry: unknown) =>
    matchesEntry(filter, entry, { attribute, mode: run.mode, leniencies: run.leniencies })
  // Evaluate once without a value so that an invalid filter fails on an empty attribute too.
  selects({})
  const entries = asArray(current).map(entry => ({ entry, touched: selects(entry) }))
  if (!entries.some(({ touched }) => touched)) return createMatching(attribute, asArray(current), edit)
  const edited = entries.map(({ entry, touched }) => ({
    entry: touched ? editEntry(attribute, entry, edit) : entry,
    touched,
  }))
  return settle(
    attribute,
    edited.filter(({ entry }) => entry !== undefined),
    edit,
  )
}

/** Edits one selected value. Undefined when it is removed. */
function editEntry(attribute: Attribute, entry: unknown, edit: MatchingEdit): unknown {
  const { op, sub, run, pointer } = edit
  const before = isObject(entry) ? entry : {}
  if (sub !== undefined) return editSub(sub, before, edit)
  if (op === 'remove') {
    ignoreRemoveValue(edit)
    return undefined
  }
  const value = oneValue(attribute, edit)
  if (isClearing(attribute, value, edit)) return undefined
  const read = readSingle(attribute, value, { reading: run, pointer })
  // A bare string carries only `value`, so the other sub-attributes stay.
  return op === 'replace' && isObject(value) ? read : { ...before, ...(isObject(read) ? read : {}) }
}

/** The value for a path with a filter, which Entra puts into an array. */
function oneValue(attribute: Attribute, { value, run, pointer }: Edit): unknown {
  return unwrap({ ...attribute, multiValued: false }, value, { reading: run, pointer })
}

/**
 * A filter that selects nothing has no target (RFC 7644 §3.5.2.3). Entra sends such a filter to give a user a first
 * telephone number or role, so tolerant mode creates the value that the filter describes. The new value satisfies the
 * filter, because the next operation with the same path must find it.
 */
function createMatching(attribute: Attribute, entries: readonly unknown[], edit: MatchingEdit): unknown {
  const { op, sub, filter, run, pointer, pathPointer } = edit
  const value = op === 'remove' ? undefined : oneValue(sub ?? attribute, edit)
  if (op === 'remove' || value === null || value === '') {
    missTarget(attribute, edit)
    return entries.length === 0 ? undefined : entries
  }
  const place: Place = { reading: run, pointer }
  const template = describedBy(filter, attribute, { reading: run, pointer: pathPointer })
  const read = readSingle(sub ?? attribute, value, place)
  const created =
    sub === undefined ? { ...template, ...(isObject(read) ? read : {}) } : withAttribute(template, sub.name, read)
  if (!matchesEntry(filter, created, { attribute, mode: run.mode, leniencies: run.leniencies })) {
    throw refuse(noTarget(attribute.name, pathPointer))
  }
  allow(run, 'target_created', noTarget(attribute.name, pathPointer))
  return addEntries(attribute, entries, { added: [created], edit })
}

/** The sub-attributes that a filter fixes: its `eq` terms joined by `and`. */
function describedBy(filter: Filter, attribute: Attribute, place: Place): ScimResource {
  if (filter.kind === 'and') {
    return Object.assign({}, ...filter.operands.map(operand => describedBy(operand, attribute, place))) as ScimResource
  }
  if (filter.kind !== 'compare' || filter.operator !== 'eq' || filter.value === null) return {}
  const sub = findSubAttribute(attribute, filter.attribute)
  if (sub === undefined) return {}
  const value = readSingle(sub, filter.value, place)
  return value === undefined ? {} : { [sub.name]: value }
}
