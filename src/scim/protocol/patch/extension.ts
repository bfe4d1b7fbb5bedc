import { findSubAttribute } from '../attributes.ts'
import type { Attribute, ResourceTypeName } from '../attributes.ts'
import type { Filter, Path } from '../filter.ts'
import { isExtensionName, isInKnownSchema } from '../names.ts'
import { inferAttribute, splitExtensionName } from '../open-extension.ts'
import { allow, isObject, printable, refuse } from '../reading.ts'
import type { ScimResource } from '../reading.ts'
import { checkOpaque, readSingle } from '../value.ts'
import { invalidPath, withAttribute } from './edit.ts'
import type { Edit } from './edit.ts'
import { editMatching } from './matching.ts'
import { editAt, editChain } from './replace.ts'

/** Extensions without a registered schema (tolerant mode). */

/** Reports whether a name belongs to an extension without a registered schema. */
export function isForeign(type: ResourceTypeName, name: string): boolean {
  return isExtensionName(name) && !isInKnownSchema(type, name)
}

/**
 * Edits an extension that no schema of this service describes, by the general rules for its inferred attributes.
 * @throws {AppError} in strict mode; `scim_invalid_value` for an extension out of bounds, `scim_invalid_path`
 */
export function putExtension(resource: ScimResource, path: Path, edit: Edit): ScimResource {
  const { op, value, pointer, pathPointer, run } = edit
  const name = path.attribute
  const message = `${printable(name)} is not defined by a schema of ${run.type}. See /Schemas.`
  const code = op === 'add' && pointer === pathPointer ? 'scim_invalid_syntax' : 'scim_invalid_path'
  allow(run, 'extension_unknown', { code, message, pointer: pathPointer })
  checkOpaque(value ?? null, { name, pointer })
  const { urn, names } = splitExtensionName(name, resource, path.filter === undefined ? value : undefined)
  if (names.some(each => each === '' || each === '__proto__')) {
    throw invalidPath(`${printable(name)} does not name an attribute of an extension.`, pathPointer)
  }
  if (op !== 'remove') requireFewExtensions(resource, urn, pointer)
  const samples = op === 'remove' ? [resource[urn]] : [resource[urn], sampleOf(names, { path, value })]
  const extension = inferAttribute(urn, samples)
  const edited =
    names.length === 0 ? editWhole(resource, extension, edit) : editPart(resource, { extension, names, path }, edit)
  checkOpaque(edited[urn] ?? null, { name, pointer })
  return edited
}

/** Most extensions of one resource. */
export const MAX_EXTENSIONS = 100

function requireFewExtensions(resource: ScimResource, name: string, pointer: string): void {
  if (Object.hasOwn(resource, name) || Object.keys(resource).filter(isExtensionName).length < MAX_EXTENSIONS) return
  const message = `A resource has at most ${MAX_EXTENSIONS} extensions.`
  throw refuse({ code: 'scim_invalid_value', message, pointer })
}

/** The value inside objects for the names that lead to it, with the sub-attributes that its filter names. */
function sampleOf(names: readonly string[], { path, value }: { path: Path; value: unknown }): unknown {
  const { filter, subAttribute } = path
  const inner = subAttribute === undefined ? value : { [subAttribute]: value }
  const named = filter === undefined ? inner : [inner, Object.fromEntries(termsOf(filter))]
  return names.reduceRight<unknown>((sample, name) => ({ [name]: sample }), named)
}

function termsOf(filter: Filter): [string, unknown][] {
  switch (filter.kind) {
    case 'and':
    case 'or':
      return filter.operands.flatMap(termsOf)
    case 'not':
      return termsOf(filter.operand)
    case 'compare':
      return [[filter.attribute, filter.value]]
    case 'present':
    case 'values':
      return [[filter.attribute, null]]
  }
}

function editWhole(resource: ScimResource, extension: Attribute, edit: Edit): ScimResource {
  const { op, value, pointer, run } = edit
  const { name } = extension
  if (op === 'remove' || value === null) return withAttribute(resource, name, undefined)
  if (!isObject(value)) {
    throw refuse({ code: 'scim_invalid_value', message: 'An extension must be an object.', pointer })
  }
  if (resource[name] !== undefined) return editChain(resource, [extension], edit)
  return withAttribute(resource, name, readSingle(extension, value, { reading: run, pointer }))
}

function editPart(
  resource: ScimResource,
  { extension, names, path }: { extension: Attribute; names: readonly string[]; path: Path },
  edit: Edit,
): ScimResource {
  const chain = [extension]
  for (const name of names) {
    const sub = findSubAttribute(chain.at(-1) ?? extension, name)
    // Only `remove` can name an attribute without any value.
    if (sub === undefined) return resource
    chain.push(sub)
  }
  const attribute = chain.at(-1) ?? extension
  const { filter, subAttribute } = path
  if (filter === undefined) return editChain(resource, chain, edit)
  if (!attribute.multiValued || attribute.type !== 'complex') {
    throw invalidPath(`${attribute.name} has no sub-attributes for a filter in brackets.`, edit.pathPointer)
  }
  const sub = subAttribute === undefined ? undefined : findSubAttribute(attribute, subAttribute)
  if (subAttribute !== undefined && sub === undefined) return resource
  const change = (current: unknown) => editMatching(attribute, current, { ...edit, filter, sub })
  return editAt(resource, chain.slice(0, -1), { attribute, change })
}
