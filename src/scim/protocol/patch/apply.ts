import { at } from '../../../json-pointer.ts'
import { inStretches } from '../../../turns.ts'
import { findSubAttribute, resourceTypes } from '../attributes.ts'
import type { Attribute, Mode, ResourceTypeName } from '../attributes.ts'
import type { Path } from '../filter.ts'
import { foldMembershipSteps, idsOfMembershipFilter, readMembershipIds } from '../membership-values.ts'
import type { MembershipChanges, MembershipTarget } from '../membership-values.ts'
import { isExtensionName, resolveName, resolvePath, withSchemas } from '../names.ts'
import { allow, allowUnknown, isObject, printable, refuse } from '../reading.ts'
import type { Leniency, MembershipTypes, Place, Refusal, ScimResource } from '../reading.ts'
import { isRelation } from '../value.ts'
import { sameJson } from './add.ts'
import { allowRemoveByValue, ignoreRemoveValue, invalidPath, noTarget } from './edit.ts'
import type { Edit, Run } from './edit.ts'
import { isForeign, putExtension } from './extension.ts'
import { editMatching } from './matching.ts'
import { readPath } from './message.ts'
import type { Operation } from './message.ts'
import { editAt, editChain } from './replace.ts'

/**
 * PATCH (RFC 7644 §3.5.2) as one pure function for users and groups. It never changes a resource in place: all
 * operations apply, or the given resource stays as it was.
 *
 * Where the RFC leaves a choice:
 *
 * - `add` of an existing value (same `value` and `type`, or equal as a whole) merges into it.
 * - A value that becomes primary takes `primary` from the previous one.
 * - When `value` is removed and only `type`, `primary` or `display` remain, the whole value is removed.
 * - `replace` of a complex attribute keeps sub-attributes that are not sent (RFC 7644 §3.5.2.3); strict mode drops them,
 *   as the interoperability profile wants.
 * - When the `value` of a reference changes, its old `$ref` is removed.
 */

export interface Patched {
  resource: ScimResource
  /** Whether the resource differs from the given one, members aside. */
  changed: boolean
  /** Changes to the memberships of a group. Absent when no operation names `members`. */
  memberChanges?: MembershipChanges
  /** Filters that have a target only if one of their members is in the group. */
  memberTargets: readonly MembershipTarget[]
  leniencies: Leniency[]
}

/**
 * Applies the operations in order, all or none.
 * @param resource as stored, with `id` if an `id` in the request must be checked. `{}` suffices for operations on `active`
 * or `members` alone
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

/** As `applyPatch`, in stretches so that other requests run between thousands of operations. */
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

/** Sets the value of a key such as `name.givenName` in the body of a POST or PUT. */
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

/** Applies one key of a value without path. Tolerant mode ignores and records names that a path would refuse. */
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
    const message = 'password is not accepted because people sign in at their identity provider.'
    allow(run, 'password_ignored', { code: 'scim_invalid_path', message, pointer })
    return resource
  }
  if (found === undefined && isForeign(run.type, key)) {
    return putExtension(resource, key.includes('[') ? readPath(key, pointer) : { attribute: key }, edit)
  }
  if (found === undefined && !/[.[]/.test(key)) {
    allowUnknown(key, place)
    return resource
  }
  const path = readPath(key, pointer)
  if (resolveName(path.attribute, place) === undefined) {
    allowUnknown(key, place)
    return resource
  }
  const message = `${printable(key)} is a path. Send it as the path of an operation, or send nested objects.`
  allow(run, 'path_as_key', { code: 'scim_invalid_syntax', message, pointer })
  return applyPath(resource, path, edit)
}

// Okta repeats the id of a group that it renames, authentik the whole resource. A different id is an error.
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
    if (isForeign(run.type, path.attribute)) return putExtension(resource, path, edit)
    throw invalidPath(`${printable(path.attribute)} is not an attribute of ${run.type}. See /Schemas.`, pathPointer)
  }
  const { attribute, parents } = found
  const sub = path.subAttribute === undefined ? undefined : findSubAttribute(attribute, path.subAttribute)
  if (path.subAttribute !== undefined && sub === undefined) {
    throw invalidPath(
      `${printable(path.subAttribute)} is not a sub-attribute of ${attribute.name}. See /Schemas.`,
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
    throw invalidPath(`${attribute.name} has one value, so a filter in brackets does not apply.`, pathPointer)
  }
  return editAt(resource, parents, {
    attribute,
    change: current => editMatching(attribute, current, { ...edit, filter, sub }),
  })
}

/**
 * applyPatch derives `schemas` from the attributes of the resource. Sending a possible schema changes nothing. Sending an
 * unknown one, or removing `schemas`, is recorded or refused because it has no effect.
 */
function checkSchemas(resource: ScimResource, { op, value, pointer, pathPointer, run }: Edit): ScimResource {
  if (op === 'remove') {
    const message = 'schemas follows from the attributes of the resource and cannot be removed.'
    allow(run, 'read_only_ignored', { code: 'scim_mutability', message, pointer: pathPointer })
    return resource
  }
  const { schema, extensions } = resourceTypes[run.type]
  const known = [schema, ...extensions.map(({ name }) => name), ...Object.keys(resource).filter(isExtensionName)]
  for (const uri of Array.isArray(value) ? (value as unknown[]) : [value]) {
    if (known.some(each => typeof uri === 'string' && each.toLowerCase() === uri.toLowerCase())) continue
    const message = `${printable(String(uri))} is not a schema of ${run.type}. See /Schemas.`
    allow(run, 'schema_unknown', { code: 'scim_invalid_syntax', message, pointer })
  }
  return resource
}

function applyToMembers(resource: ScimResource, path: Path, edit: Edit): ScimResource {
  const { op, value, pointer, pathPointer, run } = edit
  const place: Place = { reading: run, pointer }
  if (path.filter !== undefined) {
    if (op !== 'remove') {
      throw invalidPath(`${op} needs the path members without brackets. Put the ids into its value.`, pathPointer)
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
