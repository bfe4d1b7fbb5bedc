import type { Attribute } from './attributes.ts'
import { isExtensionName } from './names.ts'
import { isObject } from './reading.ts'
import type { ScimResource } from './reading.ts'

/**
 * Extensions without a registered schema, which a tolerant directory stores. Their attributes are inferred from the stored
 * and the sent values, so that the general rules apply to them: names compare without case, an array is multi-valued, an
 * object is complex, and null is unassigned.
 */

/** Infers an attribute from sample values; the first spelling of a sub-attribute is the canonical one. */
export function inferAttribute(name: string, samples: readonly unknown[]): Attribute {
  const values = samples
    .flatMap(sample => (Array.isArray(sample) ? (sample as unknown[]) : [sample]))
    .filter(value => value !== null && value !== undefined)
  const attribute = { ...open, name, multiValued: samples.some(Array.isArray) }
  if (values.length === 0 || !values.every(isObject)) return attribute
  const spellings = new Map<string, { name: string; samples: unknown[] }>()
  for (const [key, value] of values.flatMap(Object.entries)) {
    // Assigning this name would set the prototype. Left out here, it is an unknown attribute.
    if (key === '__proto__') continue
    const known = spellings.get(key.toLowerCase())
    if (known === undefined) spellings.set(key.toLowerCase(), { name: key, samples: [value] })
    else known.samples.push(value)
  }
  const subAttributes = [...spellings.values()].map(sub => inferAttribute(sub.name, sub.samples))
  return { ...attribute, type: 'complex', isOpen: false, subAttributes }
}

const open: Attribute = {
  name: '',
  type: 'string',
  isOpen: true,
  description: '',
  multiValued: false,
  required: false,
  caseExact: true,
  mutability: 'readWrite',
  returned: 'default',
  uniqueness: 'none',
  maxLength: 8192,
}

/** An extension and the names of an attribute in it; no names mean the whole extension. */
export interface ExtensionPath {
  urn: string
  names: readonly string[]
}

/**
 * Splits a name into the URN of its extension and an attribute. The extensions of the resource decide first. Then a segment
 * `User` or `Group` ends the URN, as RFC 7643 §10.3 wants; else an object is a whole extension, and any other value belongs
 * to the attribute after the last colon.
 */
export function splitExtensionName(name: string, resource: ScimResource, value?: unknown): ExtensionPath {
  const stored = storedExtension(name, resource)
  if (stored !== undefined) return { urn: stored, names: namesIn(name.slice(stored.length + 1)) }
  const [, urn, rest] = /^(urn:.+?:(?:user|group))(?::(.+))?$/i.exec(name) ?? []
  if (urn !== undefined) return { urn, names: namesIn(rest ?? '') }
  const colon = name.lastIndexOf(':')
  const isWhole = isObject(value) || !isExtensionName(name.slice(0, colon)) || /^\d/.test(name.slice(colon + 1))
  return isWhole ? { urn: name, names: [] } : { urn: name.slice(0, colon), names: namesIn(name.slice(colon + 1)) }
}

/** The extension of a resource whose URN is, or starts, a name. The longest one wins. */
export function storedExtension(name: string, resource: ScimResource): string | undefined {
  const lower = name.toLowerCase()
  return Object.keys(resource)
    .filter(key => isExtensionName(key) && (lower === key.toLowerCase() || lower.startsWith(`${key.toLowerCase()}:`)))
    .toSorted((a, b) => b.length - a.length)[0]
}

function namesIn(rest: string): string[] {
  return rest === '' ? [] : rest.split('.')
}
