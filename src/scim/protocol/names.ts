import {
  ENTERPRISE_SCHEMA,
  findAttribute,
  findUnqualified,
  GROUP_SCHEMA,
  resourceTypes,
  USER_SCHEMA,
} from './attributes.ts'
import type { AttributePath, ResourceTypeName } from './attributes.ts'
import { allow, printable } from './reading.ts'
import type { Place, ScimResource } from './reading.ts'

/** Names of attributes and schemas as clients write them, draft URNs included. */

/** Finds an attribute by its name in a body or path. Tolerant mode also resolves draft URNs. */
export function resolveName(name: string, { reading, pointer }: Place): AttributePath | undefined {
  const found = findAttribute(reading.type, name)
  if (found !== undefined) return found
  const draft = draftExtension.exec(name)
  if (draft === null) return undefined
  const known = findAttribute(reading.type, ENTERPRISE_SCHEMA + name.slice(draft[0].length))
  if (known === undefined) return undefined
  const message = `${draft[0]} is the URN of an early draft. Send ${ENTERPRISE_SCHEMA}.`
  allow(reading, 'schema_legacy', { code: 'scim_invalid_syntax', message, pointer })
  return known
}

/**
 * Finds an attribute by a path. In tolerant mode the path may lack the URN of the extension. In a body such a name is
 * unknown, because there it may be another attribute.
 */
export function resolvePath(name: string, place: Place): AttributePath | undefined {
  const { reading, pointer } = place
  const found = resolveName(name, place)
  if (found !== undefined) return found
  const unqualified = reading.mode === 'tolerant' ? findUnqualified(reading.type, name) : undefined
  if (unqualified === undefined) return undefined
  const message = `${printable(name)} must be prefixed with the URN of its schema.`
  allow(reading, 'extension_unqualified', { code: 'scim_invalid_path', message, pointer })
  return unqualified
}

// The longer URN first: it begins with the shorter.
const draftExtension = /^urn:scim:schemas:extension:enterprise:[12]\.0(?::user)?/i

/** Draft URIs that older clients send, in lower case, with the current schema. */
export const legacySchemas: Readonly<Record<ResourceTypeName, ReadonlyMap<string, string>>> = {
  User: new Map([
    ['urn:scim:schemas:core:1.0', USER_SCHEMA],
    ['urn:scim:schemas:core:2.0', USER_SCHEMA],
    ['urn:scim:schemas:core:2.0:user', USER_SCHEMA],
    ['http://schemas.microsoft.com/2006/11/resourcemanagement/adscim/2.0/user', USER_SCHEMA],
    ['urn:scim:schemas:extension:enterprise:1.0', ENTERPRISE_SCHEMA],
    ['urn:scim:schemas:extension:enterprise:2.0', ENTERPRISE_SCHEMA],
    ['urn:scim:schemas:extension:enterprise:2.0:user', ENTERPRISE_SCHEMA],
  ]),
  Group: new Map([
    ['urn:scim:schemas:core:1.0', GROUP_SCHEMA],
    ['urn:scim:schemas:core:2.0', GROUP_SCHEMA],
    ['urn:scim:schemas:core:2.0:group', GROUP_SCHEMA],
    ['http://schemas.microsoft.com/2006/11/resourcemanagement/adscim/2.0/group', GROUP_SCHEMA],
  ]),
}

/** Whether a name is, or starts with, the URN of an extension. */
export function isExtensionName(name: string): boolean {
  return /^urn:[^:]/i.test(name)
}

/** The resource with `schemas` first: the schemas that define the attributes it has (RFC 7643 §3). */
export function withSchemas(type: ResourceTypeName, resource: ScimResource): ScimResource {
  const schemas = [resourceTypes[type].schema, ...Object.keys(resource).filter(isExtensionName)]
  return Object.assign({ schemas }, resource, { schemas })
}

/** Reports whether a name starts with the URN of a schema of this type. If it does not resolve, the attribute is unknown. */
export function isInKnownSchema(type: ResourceTypeName, name: string): boolean {
  const { schema, extensions } = resourceTypes[type]
  const lower = name.toLowerCase()
  return [schema, ...extensions.map(extension => extension.name)].some(
    urn => lower === urn.toLowerCase() || lower.startsWith(`${urn.toLowerCase()}:`),
  )
}
