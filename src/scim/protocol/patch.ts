import { AppError } from '../../errors.ts'
import { inStretches } from '../../turns.ts'
import { findAttribute, findSubAttribute, foldKey, resourceTypes } from './attributes.ts'
import type { Attribute, Mode, ResourceTypeName } from './attributes.ts'
import { matchesEntry } from './evaluate.ts'
import { parsePath } from './filter.ts'
import type { Filter, Path } from './filter.ts'
import { foldMembershipSteps, idsOfMembershipFilter, readMembershipIds } from './membership-values.ts'
import type { MembershipChanges, MembershipStep, MembershipTarget } from './membership-values.ts'
import { allow, allowUnknown, asComplex, at, checkOpaque, invalid, isExtensionName, isInKnownSchema } from './value.ts'
import { isObject, isPrimary, isRelation, listValues, MAX_VALUES, namesSchema, printable, readKeys } from './value.ts'
import { readSingle, readValue, refuse, resolveName, resolvePath, unwrap, withSchemas } from './value.ts'
import type { Leniency, MembershipTypes, Place, Reading, Refusal, ScimResource } from './value.ts'

/**
 * PATCH (RFC 7644 §3.5.2) as one pure function for users and groups. A resource is never changed in place: either all
 * operations apply, or an error leaves the one that was given.
 *
 * Where the RFC leaves a choice:
 *
 * - `add` of a value that is there (same `value` and `type`, or all the same) merges into it.
 * - A value that becomes primary takes that from the one that was.
 * - When `value` of an entry goes and nothing but `type`, `primary` or `display` is left, the entry goes.
 * - `replace` of a complex attribute keeps sub-attributes that are not sent (RFC 7644 §3.5.2.3); strict mode drops them,
 *   as the interoperability profile wants.
 * - When the `value` of a reference changes, its old `$ref` goes with it.
 */

export interface Operation {
  op: 'add' | 'replace' | 'remove'
  /** Absent: `value` is an object whose keys are the paths. */
  path?: Path
  value?: unknown
  /** Where the operation stands in the message, such as `/Operations/0`. */
  pointer: string
}

export interface Patched {
  resource: ScimResource
  /** Whether the resource differs from what was given, members aside. */
  changed: boolean
  /** What happens to the members of a group; absent when no operation speaks of them. */
  memberChanges?: MembershipChanges
  /** Filters that have a target only if one of their members is in the group. */
  memberTargets: readonly MembershipTarget[]
  leniencies: Leniency[]
}

export const MAX_OPERATIONS = 5000

/** A PATCH under way. */
interface Run extends Reading {
  steps: MembershipStep[]
}

/** One edit of one attribute. */
interface Edit {
  op: Operation['op']
  value: unknown
  /** Of the value in the body. */
  pointer: string
  /** Of the path in the body, for faults of the target. */
  pathPointer: string
  run: Run
}

// ---- the message

/**
 * Reads a PatchOp message.
 * @throws {AppError} `scim_invalid_syntax`, `scim_invalid_path`, `scim_invalid_value`; `scim_no_target` for a `remove`
 * without path; `body_too_large` above 5,000 operations
 */
export function readPatch(
  type: ResourceTypeName,
  body: unknown,
  mode: Mode,
): { operations: Operation[]; leniencies: Leniency[] } {
  const reading: Reading = { type, mode, leniencies: [] }
  const { schemas, operations } = readKeys(body, ['schemas', 'Operations'], { reading, pointer: '' })
  if (!namesSchema(schemas, PATCH_OP)) {
    const message = `schemas must be ["${PATCH_OP}"].`
    allow(reading, 'schemas_missing', { code: 'scim_invalid_syntax', message, pointer: '/schemas' })
  }
  if (!Array.isArray(operations)) {
    throw refuse({ code: 'scim_invalid_syntax', message: 'Operations must be an array.', pointer: '/Operations' })
  }
  if (operations.length === 0) {
    const message = 'Operations is empty: send at least one operation.'
    allow(reading, 'operations_empty', { code: 'scim_invalid_syntax', message, pointer: '/Operations' })
  }
  if (operations.length > MAX_OPERATIONS) {
    throw new AppError('body_too_large', `A PATCH takes at most ${MAX_OPERATIONS} operations: send several.`)
  }
  const read = operations.map((operation: unknown, index) =>
    readOperation(operation, { reading, pointer: `/Operations/${index}` }),
  )
  return { operations: read, leniencies: reading.leniencies }
}

const PATCH_OP = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'

function readOperation(sent: unknown, place: Place): Operation {
  const { pointer } = place
  const { op: verb, path, value } = readKeys(sent, ['op', 'path', 'value'], place)
  const op = typeof verb === 'string' ? verbs.find(known => known === verb.toLowerCase()) : undefined
  if (op === undefined) {
    throw refuse({
      code: 'scim_invalid_syntax',
      message: 'op must be add, replace or remove.',
      pointer: at(pointer, 'op'),
    })
  }
  if (op !== 'remove' && value === undefined) {
    throw refuse({ code: 'scim_invalid_value', message: `${op} needs a value.`, pointer: at(pointer, 'value') })
  }
  const operation: Operation = { op, pointer, ...(value === undefined ? {} : { value }) }
  if (path !== undefined && path !== null && path !== '')
    return { ...operation, path: readPath(path, at(pointer, 'path')) }
  if (op === 'remove') {
    throw refuse({ code: 'scim_no_target', message: 'remove needs a path.', pointer: at(pointer, 'path') })
  }
  if (!isObject(value)) {
    const message = `${op} without a path needs an object of attributes as value.`
    throw refuse({ code: 'scim_invalid_value', message, pointer: at(pointer, 'value') })
  }
  const message = `${op} needs a path.`
  allow(place.reading, 'path_missing', { code: 'scim_invalid_syntax', message, pointer })
  return operation
}

const verbs = ['add', 'replace', 'remove'] as const

function readPath(path: unknown, pointer: string): Path {
  if (typeof path !== 'string') throw refuse({ code: 'scim_invalid_path', message: 'path must be text.', pointer })
  try {
    return parsePath(path)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw refuse({ code: error.code, message: error.message, pointer })
  }
}

/**
 * The attributes, by canonical name, that operations name at the top of the resource; undefined when one of them cannot
 * be told so simply. With it a caller sees that only `active` or only `members` change, and needs not read the rest:
 * `applyPatch({}, …)` is then enough.
 */
export function touchedAttributes(
  type: ResourceTypeName,
  operations: readonly Operation[],
): ReadonlySet<string> | undefined {
  const touched = new Set<string>()
  for (const { path, value } of operations) {
    const names = path === undefined ? Object.keys(isObject(value) ? value : {}) : [path.attribute]
    for (const name of names) {
      const found = findAttribute(type, name)
      if (found?.names[0] === undefined) return undefined
      touched.add(found.names[0])
    }
  }
  return touched
}

// ---- operations

/**
 * Applies the operations in their order, all or none.
 * @param resource as stored, with `id` if a client's repetition of it is to be checked; `{}` suffices for operations that
 * touch `active` or `members` alone
 * @throws {AppError} `scim_no_target`, `scim_invalid_path`, `scim_mutability`, `scim_invalid_value`,
 * `scim_invalid_filter`, with the JSON pointer of the fault
 */
export function applyPatch(resource: ScimResource, operations: readonly Operation[], options: PatchOptions): Patched {
  const steps = patchSteps(resource, operations, options)
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
  }
}

/** The same in stretches, between which other requests have their turn: thousands of operations may change large values. */
export async function applyPatchInStretches(
  resource: ScimResource,
  operations: readonly Operation[],
  options: PatchOptions,
): Promise<Patched> {
  return inStretches(patchSteps(resource, operations, options))
}

interface PatchOptions {
  type: ResourceTypeName
  mode: Mode
  kinds?: MembershipTypes
}

function* patchSteps(
  resource: ScimResource,
  operations: readonly Operation[],
  { type, mode, kinds }: PatchOptions,
): Generator<void, Patched> {
  const run: Run = { type, mode, leniencies: [], steps: [], ...(kinds && { kinds }) }
  let patched = resource
  for (const operation of operations) patched = yield* applyOperation(patched, operation, run)
  const changed = !sameJson(resource, patched)
  const folded = foldMembershipSteps(run.steps)
  for (const pointer of folded?.missed ?? []) allow(run, 'target_missed', noTarget('members', pointer))
  return {
    resource: changed ? withSchemas(type, patched) : resource,
    changed,
    ...(folded && { memberChanges: folded.changes }),
    memberTargets: folded?.targets ?? [],
    leniencies: run.leniencies,
  }
}

/** Puts the value of a key such as `name.givenName`, met in the body of a POST or PUT, where it belongs. */
export function putPath(
  resource: ScimResource,
  { key, value }: { key: string; value: unknown },
  place: Place,
): ScimResource {
  const run: Run = { ...place.reading, steps: [] }
  return applyKey(resource, key, { op: 'add', value, pointer: place.pointer, pathPointer: place.pointer, run })
}

function* applyOperation(
  resource: ScimResource,
  { op, path, value, pointer }: Operation,
  run: Run,
): Generator<void, ScimResource> {
  yield
  const valuePointer = at(pointer, 'value')
  if (path !== undefined) {
    return applyPath(resource, path, { op, value, pointer: valuePointer, pathPointer: at(pointer, 'path'), run })
  }
  const entries = Object.entries(isObject(value) ? value : {})
  let patched = resource
  for (const [key, inner] of entries) {
    const place = at(valuePointer, key)
    patched = applyKey(patched, key, { op, value: inner, pointer: place, pathPointer: place, run })
    yield
  }
  return patched
}

/** One key of a value without path. What strict mode refuses in a path is ignored here and recorded, if it must be. */
function applyKey(resource: ScimResource, key: string, edit: Edit): ScimResource {
  const { run, pointer } = edit
  const place: Place = { reading: run, pointer }
  const found = resolveName(key, place)
  if (found !== undefined && found.parents.length === 0) {
    const { attribute } = found
    if (attribute.mutability === 'readOnly') return ignoreReadOnly(resource, attribute, edit)
    return applyPath(resource, { attribute: key }, edit)
  }
  if (key.toLowerCase() === 'password') {
    const message = 'password is not accepted: people sign in at their identity provider.'
    allow(run, 'password_ignored', { code: 'scim_invalid_path', message, pointer })
    return resource
  }
  if (found === undefined && isForeign(run.type, key)) return putExtension(resource, key, edit)
  if (found === undefined && !/[.[]/.test(key)) {
    allowUnknown(key, place)
    return resource
  }
  const path = readPath(key, pointer)
  if (resolveName(path.attribute, place) === undefined) {
    allowUnknown(key, place)
    return resource
  }
  const message = `${printable(key)} is a path: send it as the path of an operation, or as nested objects.`
  allow(run, 'path_as_key', { code: 'scim_invalid_syntax', message, pointer })
  return applyPath(resource, path, edit)
}

// Okta repeats the id of what it renames, authentik the whole object. A different id is another matter.
function ignoreReadOnly(resource: ScimResource, attribute: Attribute, { value, pointer, run }: Edit): ScimResource {
  const refusal: Refusal = { code: 'scim_mutability', message: `${attribute.name} cannot be changed.`, pointer }
  if (attribute.name === 'id' && resource.id !== undefined && resource.id !== value) throw refuse(refusal)
  allow(run, 'read_only_ignored', refusal)
  return resource
}

function applyPath(resource: ScimResource, path: Path, edit: Edit): ScimResource {
  const { run, pathPointer } = edit
  const found = resolvePath(path.attribute, { reading: run, pointer: pathPointer })
  if (found === undefined) {
    if (path.filter === undefined && isForeign(run.type, path.attribute))
      return putExtension(resource, path.attribute, edit)
    throw invalidPath(`${printable(path.attribute)} is no attribute of a ${run.type}: see /Schemas.`, pathPointer)
  }
  const { attribute, parents } = found
  const sub = path.subAttribute === undefined ? undefined : findSubAttribute(attribute, path.subAttribute)
  if (path.subAttribute !== undefined && sub === undefined) {
    throw invalidPath(
      `${printable(path.subAttribute)} is no attribute of ${attribute.name}: see /Schemas.`,
      pathPointer,
    )
  }
  const fixed = [...parents, attribute, ...(sub ? [sub] : [])].find(({ mutability }) => mutability !== 'readWrite')
  if (fixed !== undefined) {
    throw refuse({ code: 'scim_mutability', message: `${fixed.name} cannot be changed.`, pointer: pathPointer })
  }
  if (isRelation(attribute)) return applyToMembers(resource, path, edit)
  if (attribute.name === 'schemas') return checkSchemas(resource, edit)
  const { filter } = path
  if (filter === undefined) return editChain(resource, [...parents, attribute], edit)
  if (!attribute.multiValued || attribute.type !== 'complex') {
    throw invalidPath(`${attribute.name} has one value and takes no brackets.`, pathPointer)
  }
  return editAt(resource, parents, {
    attribute,
    change: current => editMatching(attribute, current, { ...edit, filter, sub }),
  })
}

/**
 * `schemas` follows from the attributes that the resource has, and applyPatch writes it anew: naming those it may have is
 * no change, and what cannot have an effect is not accepted in silence.
 */
function checkSchemas(resource: ScimResource, { op, value, pointer, pathPointer, run }: Edit): ScimResource {
  if (op === 'remove') {
    const message = 'schemas follows from the attributes, and cannot be removed.'
    allow(run, 'read_only_ignored', { code: 'scim_mutability', message, pointer: pathPointer })
    return resource
  }
  const { schema, extensions } = resourceTypes[run.type]
  const known = [schema, ...extensions.map(({ name }) => name), ...Object.keys(resource).filter(isExtensionName)]
  for (const uri of Array.isArray(value) ? (value as unknown[]) : [value]) {
    if (known.some(each => typeof uri === 'string' && each.toLowerCase() === uri.toLowerCase())) continue
    const message = `${printable(String(uri))} is no schema of a ${run.type}: see /Schemas.`
    allow(run, 'schema_unknown', { code: 'scim_invalid_syntax', message, pointer })
  }
  return resource
}

function applyToMembers(resource: ScimResource, path: Path, edit: Edit): ScimResource {
  const { op, value, pointer, pathPointer, run } = edit
  const place: Place = { reading: run, pointer }
  if (path.filter !== undefined) {
    if (op !== 'remove') {
      throw invalidPath(`${op} takes the path members without brackets, and the ids in its value.`, pathPointer)
    }
    ignoreRemoveValue(edit)
    const ids = idsOfMembershipFilter(path.filter, { reading: run, pointer: pathPointer })
    run.steps.push({ op: 'remove', ids, filterAt: pathPointer })
    return resource
  }
  if (op === 'remove' && (value === undefined || value === null)) {
    run.steps.push({ op: 'replace', ids: [] })
    return resource
  }
  if (op === 'remove') allowRemoveByValue('members[value eq "id"]', place)
  run.steps.push({ op, ids: readMembershipIds(value, place) })
  return resource
}

// ---- attributes

/** Edits the attribute at the end of the chain, making the complex values on the way. */
function editChain(resource: ScimResource, chain: readonly Attribute[], edit: Edit): ScimResource {
  const [first, sub] = chain
  if (first?.multiValued === true && sub !== undefined) {
    return editAt(resource, [], { attribute: first, change: current => editSubOfAll(sub, current, edit) })
  }
  const attribute = chain.at(-1)
  if (attribute === undefined) return resource
  return editAt(resource, chain.slice(0, -1), { attribute, change: current => editAttribute(attribute, current, edit) })
}

interface Target {
  attribute: Attribute
  change: (current: unknown) => unknown
}

function editAt(container: ScimResource, parents: readonly Attribute[], target: Target): ScimResource {
  const [parent, ...rest] = parents
  if (parent === undefined) {
    return withAttribute(container, target.attribute.name, target.change(container[target.attribute.name]))
  }
  const current = container[parent.name]
  const before = isObject(current) ? current : {}
  return withAttribute(container, parent.name, followReference(before, editAt(before, rest, target)))
}

/** The container with an attribute set; undefined and a complex value with nothing in it unset it. */
function withAttribute(container: ScimResource, name: string, value: unknown): ScimResource {
  if (value !== undefined && !(isObject(value) && Object.keys(value).length === 0)) {
    return { ...container, [name]: value }
  }
  return Object.fromEntries(Object.entries(container).filter(([key]) => key !== name))
}

/** All of an attribute. */
function editAttribute(attribute: Attribute, current: unknown, edit: Edit): unknown {
  if (edit.op === 'remove') return removeAttribute(attribute, current, edit)
  const place: Place = { reading: edit.run, pointer: edit.pointer }
  if (attribute.multiValued) {
    const read = readValue(attribute, edit.value, place)
    return edit.op === 'add' ? addEntries(attribute, current, { added: read, edit }) : read
  }
  const value = unwrap(attribute, edit.value, place)
  if (isClearing(attribute, value, edit)) return clear(attribute, { code: 'scim_invalid_value', pointer: edit.pointer })
  if (attribute.type !== 'complex') return readSingle(attribute, value, place)
  const isWhole = typeof value === 'string' || (edit.op === 'replace' && edit.run.mode === 'strict')
  return isWhole ? readSingle(attribute, value, place) : mergeComplex(attribute, current, { ...edit, value })
}

/** Whether a value means "unassign": null, and in tolerant mode empty text, which is what Entra sends. */
function isClearing(attribute: Attribute, value: unknown, { run, pointer }: Edit): boolean {
  if (value === null || value === undefined) return true
  if (typeof value !== 'string' || value.trim() !== '') return false
  if (attribute.required) return true
  if (value !== '' || run.mode === 'strict') return false
  run.leniencies.push({ name: 'empty_string_cleared', pointer })
  return true
}

function clear(attribute: Attribute, { code, pointer }: Pick<Refusal, 'code' | 'pointer'>): undefined {
  if (attribute.required || attribute.default !== undefined) {
    throw refuse({ code, message: `${attribute.name} must have a value.`, pointer })
  }
  return undefined
}

function mergeComplex(attribute: Attribute, current: unknown, edit: Edit): unknown {
  const { run, pointer } = edit
  const before = isObject(current) ? current : {}
  const sent = asComplex(attribute, edit.value, { reading: run, pointer })
  let merged = before
  for (const [key, value] of Object.entries(sent)) {
    const sub = findSubAttribute(attribute, key)
    const inner = at(pointer, key)
    if (sub === undefined) allowUnknown(`${attribute.name}.${key}`, { reading: run, pointer: inner })
    else if (sub.mutability !== 'readOnly') {
      merged = withAttribute(merged, sub.name, editAttribute(sub, merged[sub.name], { ...edit, value, pointer: inner }))
    }
  }
  return followReference(before, merged)
}

/** A reference that is gone goes whole, and one that points elsewhere loses the `$ref` of before. */
function followReference(before: ScimResource, after: ScimResource): ScimResource | undefined {
  if (before.value === after.value) return after
  if (after.value === undefined) return undefined
  return before.$ref !== undefined && before.$ref === after.$ref ? withAttribute(after, '$ref', undefined) : after
}

function removeAttribute(attribute: Attribute, current: unknown, edit: Edit): unknown {
  const { value, run, pointer, pathPointer } = edit
  if (!attribute.multiValued || value === undefined || value === null) {
    ignoreRemoveValue(edit)
    if (attribute.default !== undefined) return removeDefaulted(attribute, current, pathPointer)
    return clear(attribute, { code: 'scim_mutability', pointer: pathPointer })
  }
  const place: Place = { reading: run, pointer }
  allowRemoveByValue(`${attribute.name}[value eq "…"]`, place)
  const wanted = listValues(attribute, value, place).map((entry, index) =>
    asComplex(attribute, entry, { reading: run, pointer: Array.isArray(value) ? at(pointer, index) : pointer }),
  )
  const entries = asArray(current)
  const isNamed = namedBy(attribute, wanted)
  const left = entries.filter(entry => !isNamed(entry))
  if (left.length === entries.length) missTarget(attribute, edit)
  return left.length === 0 ? undefined : left
}

/**
 * What is unassigned counts as its default, so removing what is the default changes nothing. `active: false` stays: access
 * must not come back by a value that went away.
 */
function removeDefaulted({ name, default: usual }: Attribute, current: unknown, pointer: string): unknown {
  if (current === undefined || current === usual) return current
  const message = `${name} cannot be removed while it is ${String(!usual)}: replace it with ${String(usual)} instead.`
  throw refuse({ code: 'scim_mutability', message, pointer })
}

function ignoreRemoveValue({ op, value, run, pointer }: Edit): void {
  if (op !== 'remove' || value === undefined || value === null) return
  const message = 'remove takes no value: its path says what goes.'
  allow(run, 'remove_value_ignored', { code: 'scim_invalid_syntax', message, pointer })
}

function allowRemoveByValue(advice: string, { reading, pointer }: Place): void {
  const message = `remove takes no value: name what goes in the path, as in ${advice}.`
  allow(reading, 'remove_by_value', { code: 'scim_invalid_syntax', message, pointer })
}

// ---- values of multi-valued attributes

/** One value after an operation, and whether the operation touched it. */
interface Edited {
  entry: unknown
  touched: boolean
}

function untouched(entries: readonly unknown[]): Edited[] {
  return entries.map(entry => ({ entry, touched: false }))
}

function addEntries(attribute: Attribute, current: unknown, { added, edit }: { added: unknown; edit: Edit }): unknown {
  const edited = untouched(asArray(current))
  const places = new Map<string, number>()
  for (const [index, { entry }] of edited.entries()) {
    const key = entryKey(attribute, entry)
    if (!places.has(key)) places.set(key, index)
  }
  for (const entry of asArray(added)) {
    const key = entryKey(attribute, entry)
    const index = places.get(key) ?? edited.length
    places.set(key, index)
    const existing = edited[index]?.entry
    const merged = isObject(existing) && isObject(entry) ? { ...existing, ...entry } : entry
    edited[index] = { entry: merged, touched: true }
  }
  return settle(attribute, edited, edit)
}

/**
 * The same text for two values that are one by RFC 7643 §2.4: the same `value` and the same `type`, or, where there is no
 * `value`, all the same. Comparing each with each would take seconds where there are a thousand.
 */
function entryKey(attribute: Attribute, entry: unknown): string {
  const value = comparable(attribute, 'value', entry)
  if (value !== undefined) return JSON.stringify([value, comparable(attribute, 'type', entry)])
  return JSON.stringify(isObject(entry) ? Object.entries(entry).toSorted(([a], [b]) => (a < b ? -1 : 1)) : { entry })
}

/** A sub-attribute as it compares; undefined where it is no text. */
function comparable(attribute: Attribute, name: string, entry: unknown): string | undefined {
  const text = isObject(entry) ? entry[name] : undefined
  if (typeof text !== 'string') return undefined
  return findSubAttribute(attribute, name)?.caseExact === true ? text : foldKey(text)
}

/** Whether a value is one that a removal names: by its `value`, and its `type` if the removal says one. */
function namedBy(attribute: Attribute, wanted: readonly unknown[]): (entry: unknown) => boolean {
  const values = new Set<string>()
  const typed = new Set<string>()
  for (const each of wanted) {
    const value = comparable(attribute, 'value', each)
    if (value === undefined) continue
    if (hasType(each)) typed.add(entryKey(attribute, each))
    else values.add(value)
  }
  return entry => {
    const value = comparable(attribute, 'value', entry)
    return value !== undefined && (values.has(value) || typed.has(entryKey(attribute, entry)))
  }
}

function hasType(entry: unknown): boolean {
  return isObject(entry) && typeof entry.type === 'string'
}

/**
 * The values after an operation: bounded, none that the operation made the same as another, and at most one primary, the
 * one that it touched.
 */
function settle(attribute: Attribute, edited: readonly Edited[], edit: Edit): unknown {
  const seen = new Set<string>()
  const distinct = edited.filter(({ entry, touched }) => {
    if (!touched) return true
    const key = entryKey(attribute, entry)
    const isNew = !seen.has(key)
    seen.add(key)
    return isNew
  })
  if (distinct.length > MAX_VALUES) throw invalid(attribute, edit.pointer, `has at most ${MAX_VALUES} values`)
  const [primary, second] = distinct.filter(({ entry, touched }) => touched && isPrimary(entry))
  if (second !== undefined) throw invalid(attribute, edit.pointer, 'has at most one primary value')
  const settled = distinct.map(({ entry }) =>
    primary !== undefined && entry !== primary.entry && isObject(entry) && isPrimary(entry)
      ? { ...entry, primary: false }
      : entry,
  )
  return settled.length === 0 ? undefined : settled
}

interface MatchingEdit extends Edit {
  filter: Filter
  sub: Attribute | undefined
}

/** The values that the filter in the brackets of a path selects. */
function editMatching(attribute: Attribute, current: unknown, edit: MatchingEdit): unknown {
  const { filter, run } = edit
  const selects = (entry: unknown) =>
    matchesEntry(filter, entry, { attribute, mode: run.mode, leniencies: run.leniencies })
  // Once without a value, for the faults of the filter.
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

/** One selected value; undefined when it goes. */
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
  // A bare string says nothing but the value.
  return op === 'replace' && isObject(value) ? read : { ...before, ...(isObject(read) ? read : {}) }
}

/** The value for a path in brackets; Entra puts it into an array. */
function oneValue(attribute: Attribute, { value, run, pointer }: Edit): unknown {
  return unwrap({ ...attribute, multiValued: false }, value, { reading: run, pointer })
}

function editSub(sub: Attribute, entry: ScimResource, edit: Edit): ScimResource | undefined {
  const after = withAttribute(entry, sub.name, editAttribute(sub, entry[sub.name], edit))
  return isHusk(after) && !isHusk(entry) ? undefined : after
}

const labels: ReadonlySet<string> = new Set(['type', 'primary', 'display'])

/** Whether an entry only says what it would be for. */
function isHusk(entry: ScimResource): boolean {
  return Object.keys(entry).every(name => labels.has(name))
}

/** `emails.display`: a sub-attribute of every value. It can be removed, but no one value fits them all. */
function editSubOfAll(sub: Attribute, current: unknown, edit: Edit): unknown {
  if (edit.op !== 'remove') {
    throw invalidPath(`Say which value is meant, as in emails[type eq "work"].${sub.name}.`, edit.pathPointer)
  }
  const left = asArray(current)
    .map(entry => editSub(sub, isObject(entry) ? entry : {}, edit))
    .filter(entry => entry !== undefined)
  return left.length === 0 ? undefined : left
}

/**
 * A filter that selects nothing has no target (RFC 7644 §3.5.2.3). Entra sends it all the same to give a user a first
 * telephone number, so tolerant mode makes the value that the filter describes, never as the primary one.
 */
function createMatching(attribute: Attribute, entries: readonly unknown[], edit: MatchingEdit): unknown {
  const { op, sub, run, pointer } = edit
  const unchanged = entries.length === 0 ? undefined : entries
  const value = op === 'remove' ? undefined : oneValue(sub ?? attribute, edit)
  if (op === 'remove' || value === null || value === '') {
    missTarget(attribute, edit)
    return unchanged
  }
  const place: Place = { reading: run, pointer }
  const template = describedBy(edit.filter, attribute, place)
  if (template === undefined) throw refuse(noTarget(attribute.name, edit.pathPointer))
  allow(run, 'target_created', noTarget(attribute.name, edit.pathPointer))
  const read = readSingle(sub ?? attribute, value, place)
  const entry =
    sub === undefined ? { ...template, ...(isObject(read) ? read : {}) } : withAttribute(template, sub.name, read)
  return settle(attribute, [...untouched(entries), { entry, touched: true }], edit)
}

function missTarget({ name }: Attribute, { run, pathPointer }: Edit): void {
  allow(run, 'target_missed', noTarget(name, pathPointer))
}

/** RFC 7644 table 9: a filter in the path that selects nothing. */
export function noTarget(name: string, pointer: string): Refusal {
  return { code: 'scim_no_target', message: `No value of ${name} is selected.`, pointer }
}

/** The value that `a eq "x" and b eq "y"` describes; undefined for filters that describe none. */
function describedBy(filter: Filter, attribute: Attribute, place: Place): ScimResource | undefined {
  if (filter.kind === 'and') {
    return filter.operands.reduce<ScimResource | undefined>((described, operand) => {
      const part = describedBy(operand, attribute, place)
      return described && part && { ...described, ...part }
    }, {})
  }
  if (filter.kind !== 'compare' || filter.operator !== 'eq' || filter.value === null) return undefined
  const sub = findSubAttribute(attribute, filter.attribute)
  if (sub === undefined) return undefined
  return sub.name === 'primary' ? {} : { [sub.name]: readSingle(sub, filter.value, place) }
}

// ---- extensions that are not ours

/** Whether a name is in an extension that this service has no schema of. */
function isForeign(type: ResourceTypeName, name: string): boolean {
  return isExtensionName(name) && !isInKnownSchema(type, name) && !name.includes('[')
}

/** Keeps an extension that no schema of this service describes, as sent (tolerant mode). */
function putExtension(resource: ScimResource, name: string, edit: Edit): ScimResource {
  const { op, value, pointer, pathPointer, run } = edit
  const message = `${printable(name)} is in no schema of a ${run.type}: see /Schemas.`
  const code = op === 'add' && pointer === pathPointer ? 'scim_invalid_syntax' : 'scim_invalid_path'
  allow(run, 'extension_unknown', { code, message, pointer: pathPointer })
  checkOpaque(value ?? null, { name, pointer })
  const existing = Object.keys(resource).find(key => key.toLowerCase() === name.toLowerCase())
  if (existing !== undefined || isObject(value)) return putWholeExtension(resource, existing ?? name, edit)
  const colon = name.lastIndexOf(':')
  const urn = name.slice(0, colon)
  if (!isExtensionName(urn)) throw invalidPath(`${printable(name)} names no attribute of an extension.`, pathPointer)
  const known = Object.keys(resource).find(key => key.toLowerCase() === urn.toLowerCase()) ?? urn
  requireFewExtensions(resource, known, pointer)
  const current = resource[known]
  const inner = withAttribute(
    isObject(current) ? current : {},
    name.slice(colon + 1),
    op === 'remove' ? undefined : (value ?? undefined),
  )
  return withAttribute(resource, known, inner)
}

/** Extensions that this service does not know, of one resource. */
export const MAX_EXTENSIONS = 100

function requireFewExtensions(resource: ScimResource, name: string, pointer: string): void {
  if (Object.hasOwn(resource, name) || Object.keys(resource).filter(isExtensionName).length < MAX_EXTENSIONS) return
  const message = `A resource has at most ${MAX_EXTENSIONS} extensions.`
  throw refuse({ code: 'scim_invalid_value', message, pointer })
}

function putWholeExtension(resource: ScimResource, name: string, { op, value, pointer }: Edit): ScimResource {
  if (op === 'remove' || value === null) return withAttribute(resource, name, undefined)
  if (!isObject(value)) {
    throw refuse({ code: 'scim_invalid_value', message: 'An extension must be an object.', pointer })
  }
  requireFewExtensions(resource, name, pointer)
  const current = resource[name]
  const merged = Object.entries({ ...(isObject(current) ? current : {}), ...value }).filter(
    ([, inner]) => inner !== null,
  )
  return withAttribute(resource, name, Object.fromEntries(merged))
}

// ---- small things

function invalidPath(message: string, pointer: string): AppError {
  return refuse({ code: 'scim_invalid_path', message, pointer })
}

function asArray(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : []
}

/** Whether two JSON values are equal, whatever the order of their keys. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((value, index) => sameJson(value, b[index]))
  }
  if (!isObject(a) || !isObject(b)) return false
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every(key => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
}
