import type { ResourceTypeName } from '../attributes.ts'
import { isExtensionName, isInKnownSchema } from '../names.ts'
import { allow, isObject, printable, refuse } from '../reading.ts'
import type { ScimResource } from '../reading.ts'
import { checkOpaque } from '../value.ts'
import { invalidPath, withAttribute } from './edit.ts'
import type { Edit } from './edit.ts'

/** Extensions that no schema of this service describes. */

/** Reports whether a name belongs to an extension without a registered schema. */
export function isForeign(type: ResourceTypeName, name: string): boolean {
  return isExtensionName(name) && !isInKnownSchema(type, name) && !name.includes('[')
}

/** Keeps an extension that no schema of this service describes, as sent (tolerant mode). */
export function putExtension(resource: ScimResource, name: string, edit: Edit): ScimResource {
  const { op, value, pointer, pathPointer, run } = edit
  const message = `${printable(name)} is not defined by a schema of ${run.type}. See /Schemas.`
  const code = op === 'add' && pointer === pathPointer ? 'scim_invalid_syntax' : 'scim_invalid_path'
  allow(run, 'extension_unknown', { code, message, pointer: pathPointer })
  checkOpaque(value ?? null, { name, pointer })
  const existing = Object.keys(resource).find(key => key.toLowerCase() === name.toLowerCase())
  if (existing !== undefined || isObject(value)) return putWholeExtension(resource, existing ?? name, edit)
  const colon = name.lastIndexOf(':')
  const urn = name.slice(0, colon)
  if (!isExtensionName(urn))
    throw invalidPath(`${printable(name)} does not name an attribute of an extension.`, pathPointer)
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

/** Most extensions of one resource. */
export const MAX_EXTENSIONS = 100

export function requireFewExtensions(resource: ScimResource, name: string, pointer: string): void {
  if (Object.hasOwn(resource, name) || Object.keys(resource).filter(isExtensionName).length < MAX_EXTENSIONS) return
  const message = `A resource has at most ${MAX_EXTENSIONS} extensions.`
  throw refuse({ code: 'scim_invalid_value', message, pointer })
}

export function putWholeExtension(resource: ScimResource, name: string, { op, value, pointer }: Edit): ScimResource {
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
