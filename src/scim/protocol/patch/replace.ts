import { at } from '../../../json-pointer.ts'
import { findSubAttribute } from '../attributes.ts'
import type { Attribute } from '../attributes.ts'
import { isExtensionName } from '../names.ts'
import { allowUnknown, givenTwice, isObject } from '../reading.ts'
import type { Place, ScimResource } from '../reading.ts'
import { asComplex, readSingle, readValue, unwrap } from '../value.ts'
import { addEntries } from './add.ts'
import { asArray, clear, followReference, invalidPath, isClearing, withAttribute } from './edit.ts'
import type { Edit } from './edit.ts'
import { removeAttribute } from './remove.ts'

/** One operation on one attribute. */

/** Edits the attribute at the end of the chain and creates missing parents. */
export function editChain(resource: ScimResource, chain: readonly Attribute[], edit: Edit): ScimResource {
  const many = chain.findIndex(({ multiValued }, index) => multiValued && index < chain.length - 1)
  const [values, sub] = many < 0 ? [] : chain.slice(many)
  if (values !== undefined && sub !== undefined) {
    const change = (current: unknown) => editSubOfAll(sub, current, edit)
    return editAt(resource, chain.slice(0, many), { attribute: values, change })
  }
  const attribute = chain.at(-1)
  if (attribute === undefined) return resource
  return editAt(resource, chain.slice(0, -1), { attribute, change: current => editAttribute(attribute, current, edit) })
}

export interface Target {
  attribute: Attribute
  change: (current: unknown) => unknown
}

export function editAt(container: ScimResource, parents: readonly Attribute[], target: Target): ScimResource {
  const [parent, ...rest] = parents
  if (parent === undefined) {
    return withAttribute(container, target.attribute.name, target.change(container[target.attribute.name]))
  }
  const current = container[parent.name]
  const before = isObject(current) ? current : {}
  const after = editAt(before, rest, target)
  return withAttribute(container, parent.name, isExtensionName(parent.name) ? after : followReference(before, after))
}

/** Edits a whole attribute. */
export function editAttribute(attribute: Attribute, current: unknown, edit: Edit): unknown {
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

export function mergeComplex(attribute: Attribute, current: unknown, edit: Edit): unknown {
  const { run, pointer } = edit
  const before = isObject(current) ? current : {}
  const sent = asComplex(attribute, edit.value, { reading: run, pointer })
  let merged = before
  const given = new Set<string>()
  for (const [key, value] of Object.entries(sent)) {
    const sub = findSubAttribute(attribute, key)
    const inner = at(pointer, key)
    if (sub === undefined) allowUnknown(`${attribute.name}.${key}`, { reading: run, pointer: inner })
    else if (sub.mutability !== 'readOnly') {
      if (given.has(sub.name)) throw givenTwice(sub.name, inner)
      given.add(sub.name)
      merged = withAttribute(merged, sub.name, editAttribute(sub, merged[sub.name], { ...edit, value, pointer: inner }))
    }
  }
  return isExtensionName(attribute.name) ? merged : followReference(before, merged)
}

/** Edits a sub-attribute of every value, such as `emails.display`. Only `remove` applies to all values. */
export function editSubOfAll(sub: Attribute, current: unknown, edit: Edit): unknown {
  if (edit.op !== 'remove') {
    throw invalidPath(`Select a value with a filter, as in emails[type eq "work"].${sub.name}.`, edit.pathPointer)
  }
  const left = asArray(current)
    .map(entry => editSub(sub, isObject(entry) ? entry : {}, edit))
    .filter(entry => entry !== undefined)
  return left.length === 0 ? undefined : left
}

export function editSub(sub: Attribute, entry: ScimResource, edit: Edit): ScimResource | undefined {
  const after = withAttribute(entry, sub.name, editAttribute(sub, entry[sub.name], edit))
  return isHusk(after) && !isHusk(entry) ? undefined : after
}

export const labels: ReadonlySet<string> = new Set(['type', 'primary', 'display'])

/** Reports whether only labels of a value are left. */
export function isHusk(entry: ScimResource): boolean {
  return Object.keys(entry).every(name => labels.has(name))
}
