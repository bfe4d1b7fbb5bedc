import type { AppError } from '../../errors.ts'
import { at } from '../../json-pointer.ts'
import { findSubAttribute, hasInvisible, isStorable } from './attributes.ts'
import type { Attribute } from './attributes.ts'
import { allow, allowUnknown, givenTwice, isFull, isObject, refuse } from './reading.ts'
import type { Place } from './reading.ts'

/** Reads values that a client sent: checks them against the attribute table and brings them into its shape (RFC 7643 §2). */

/** Most values of a multi-valued attribute. Members of a group have a separate limit. */
export const MAX_VALUES = 1000
/** Bounds of an extension without a registered schema. */
const MAX_OPAQUE_DEPTH = 8
const MAX_OPAQUE_NODES = 2000

/**
 * Reads all of an attribute. Undefined means unassigned: null, an empty array, a complex value with nothing in it
 * (RFC 7643 §2.5).
 * @throws {AppError} `scim_invalid_value`, naming the attribute and the pointer
 */
export function readValue(attribute: Attribute, value: unknown, place: Place): unknown {
  if (!attribute.multiValued) return readSingle(attribute, value, place)
  if (value === null || value === undefined) return undefined
  const values = listValues(attribute, value, place)
  const { reading, pointer } = place
  const read = values
    .map((entry, index) =>
      readSingle(attribute, entry, { reading, pointer: Array.isArray(value) ? at(pointer, index) : pointer }),
    )
    .filter(entry => entry !== undefined)
  if (read.filter(isPrimary).length > 1) throw invalid(attribute, pointer, 'has at most one primary value')
  return read.length === 0 ? undefined : read
}

/** Reads one value of an attribute; of a multi-valued one, one of its values. */
export function readSingle(attribute: Attribute, sent: unknown, place: Place): unknown {
  const value = unwrap(attribute, sent, place)
  if (value === null || value === undefined) return undefined
  if (attribute.isOpen) return value
  if (omitsMalformed(attribute, value, place)) return undefined
  switch (attribute.type) {
    case 'complex':
      return readComplex(attribute, value, place)
    case 'boolean':
      return readBoolean(attribute, value, place)
    case 'string':
    case 'reference':
    case 'binary':
    case 'dateTime':
      return readText(attribute, value, place)
  }
}

/** The values of a multi-valued attribute: an array, or in tolerant mode one value without its array. */
export function listValues(attribute: Attribute, value: unknown, { reading, pointer }: Place): unknown[] {
  if (!Array.isArray(value)) {
    const message = `${attribute.name} is multi-valued. Send an array.`
    allow(reading, 'single_for_array', { code: 'scim_invalid_value', message, pointer })
    return [value]
  }
  if (value.length > MAX_VALUES && !isRelation(attribute)) {
    throw invalid(attribute, pointer, `has at most ${MAX_VALUES} values`)
  }
  return value
}

/** Returns a complex value as an object: the value itself, or in tolerant mode `{ value }` for a bare string. */
export function asComplex(attribute: Attribute, value: unknown, { reading, pointer }: Place): Record<string, unknown> {
  if (isObject(value)) return value
  if (typeof value !== 'string' || findSubAttribute(attribute, 'value') === undefined) {
    throw invalid(attribute, pointer, 'must be an object')
  }
  const message = `${attribute.name} must be an object with a value.`
  allow(reading, 'string_for_complex', { code: 'scim_invalid_value', message, pointer })
  return { value }
}

/** Takes a single value out of an array, as Entra sends a manager or a title. */
export function unwrap(attribute: Attribute, value: unknown, { reading, pointer }: Place): unknown {
  if (!Array.isArray(value) || attribute.isOpen) return value
  if (attribute.multiValued || value.length > 1) {
    throw invalid(attribute, pointer, attribute.multiValued ? 'must not have arrays as values' : 'has one value')
  }
  const message = `${attribute.name} has one value. Send it without an array.`
  allow(reading, 'array_for_single', { code: 'scim_invalid_value', message, pointer })
  const inner: unknown = value[0]
  // Entra ID also wraps simple values into an object: [{"$ref": null, "value": "Head of looms"}].
  return attribute.type !== 'complex' && isObject(inner) && 'value' in inner ? inner.value : inner
}

/**
 * Checks the name of an unknown extension, or of an attribute of it, and what it holds, which is kept exactly as sent.
 * @throws {AppError} `scim_invalid_value` when it nests more than 8 deep, has more than 2,000 parts, or text that
 * cannot be stored
 */
export function checkOpaque(value: unknown, { name, pointer }: { name: string; pointer: string }): void {
  checkText(name, { name: 'The name', maxLength: MAX_OPAQUE_TEXT, pointer })
  const budget = { nodes: MAX_OPAQUE_NODES }
  checkNode(value, { pointer, depth: 0, budget })
}

function checkNode(value: unknown, place: { pointer: string; depth: number; budget: { nodes: number } }): void {
  const { pointer, depth, budget } = place
  budget.nodes -= 1
  if (depth > MAX_OPAQUE_DEPTH || budget.nodes < 0) {
    const bounds = `nest at most ${MAX_OPAQUE_DEPTH} deep and have at most ${MAX_OPAQUE_NODES} parts`
    throw refuse({ code: 'scim_invalid_value', message: `An extension may ${bounds}.`, pointer })
  }
  if (typeof value === 'string') checkText(value, { name: 'The value', maxLength: MAX_OPAQUE_TEXT, pointer })
  if (typeof value !== 'object' || value === null) return
  for (const [key, inner] of Object.entries(value)) {
    checkText(key, { name: 'The name', maxLength: MAX_OPAQUE_TEXT, pointer })
    checkNode(inner, { pointer: at(pointer, key), depth: depth + 1, budget })
  }
}

const MAX_OPAQUE_TEXT = 8192

function checkText(text: string, { name, maxLength, pointer }: { name: string; maxLength: number; pointer: string }) {
  const fail = (rule: string) => refuse({ code: 'scim_invalid_value', message: `${name} ${rule}.`, pointer })
  if (text.length > maxLength) throw fail(`has at most ${maxLength} characters`)
  if (!isStorable(text)) throw fail('must not contain NUL characters or unpaired surrogates')
}

function readComplex(attribute: Attribute, sent: unknown, place: Place): unknown {
  const { reading, pointer } = place
  if (sent === '' && !attribute.multiValued) return cleared(attribute, place)
  const value = asComplex(attribute, sent, place)
  const read: Record<string, unknown> = {}
  for (const [key, inner] of Object.entries(value)) {
    const sub = findSubAttribute(attribute, key)
    if (sub === undefined && isFull(reading)) continue
    const innerPlace = { reading, pointer: at(pointer, key) }
    if (sub === undefined) {
      allowUnknown(`${attribute.name}.${key}`, innerPlace)
      continue
    }
    if (sub.mutability === 'readOnly') continue
    if (Object.hasOwn(read, sub.name)) throw givenTwice(sub.name, innerPlace.pointer)
    if (omitsMalformed(sub, inner, innerPlace)) {
      // The other sub-attributes only describe the value.
      if (sub.name === 'value') return undefined
      continue
    }
    const innerValue = readValue(sub, inner, innerPlace)
    if (innerValue !== undefined) read[sub.name] = innerValue
  }
  // A reference with an empty value, such as a manager without an id, is unassigned.
  if (!attribute.multiValued && read.value === '') return cleared(attribute, place)
  return Object.keys(read).length === 0 ? undefined : read
}

function cleared(attribute: Attribute, { reading, pointer }: Place): undefined {
  const message = `${attribute.name} must not be empty. Send null to clear it.`
  allow(reading, 'empty_string_cleared', { code: 'scim_invalid_value', message, pointer })
  return undefined
}

function readBoolean(attribute: Attribute, value: unknown, { reading, pointer }: Place) {
  if (typeof value === 'boolean') return value
  const word = typeof value === 'string' ? value.toLowerCase() : ''
  if (word !== 'true' && word !== 'false') throw invalid(attribute, pointer, 'must be true or false')
  const message = `${attribute.name} must be true or false without quotes.`
  allow(reading, 'boolean_as_string', { code: 'scim_invalid_value', message, pointer })
  return word === 'true'
}

function readText(attribute: Attribute, value: unknown, { reading, pointer }: Place) {
  let text = value
  if (typeof value === 'number') {
    // JSON.parse rounds large numbers, so the result may identify another person.
    if (!Number.isSafeInteger(value)) throw invalid(attribute, pointer, 'must be text. Send the number in quotes')
    const message = `${attribute.name} must be text in double quotes.`
    allow(reading, 'number_for_string', { code: 'scim_invalid_value', message, pointer })
    text = String(value)
  }
  if (typeof text !== 'string') throw invalid(attribute, pointer, 'must be text')
  checkText(text, { name: attribute.name, maxLength: attribute.maxLength, pointer })
  // Treat a blank externalId as absent. Otherwise all users without one would match each other.
  if (attribute.name === 'externalId' && text.trim() === '') return cleared(attribute, { reading, pointer })
  if (attribute.name === 'userName' && hasInvisible(text)) {
    const message = 'userName must not contain control or invisible characters (RFC 8265 section 3.3).'
    allow(reading, 'invisible_characters', { code: 'scim_invalid_value', message, pointer })
  }
  if (!isWellFormed(attribute, text)) throw malformed(attribute, pointer)
  return text
}

/** Reports whether text has the form of its type: base64, or a URI reference. */
function isWellFormed({ type }: Attribute, text: string): boolean {
  if (type === 'binary') return isBase64(text)
  return type !== 'reference' || text === '' || isUriReference(text)
}

function malformed(attribute: Attribute, pointer: string): AppError {
  const isBinary = attribute.type === 'binary'
  return invalid(attribute, pointer, isBinary ? 'must be base64 (RFC 7643 section 2.3.6)' : 'must be a URI (RFC 3986)')
}

/**
 * Reports whether a whole resource may be stored without this value: on a tolerant directory a malformed certificate or
 * URL must not keep a person out, and clients cannot read it. PATCH refuses it, because the request names that attribute.
 */
function omitsMalformed(attribute: Attribute, value: unknown, { reading, pointer }: Place): boolean {
  if (reading.isWhole !== true || reading.mode === 'strict') return false
  if (typeof value !== 'string' || isWellFormed(attribute, value)) return false
  const { message } = malformed(attribute, '')
  const name = attribute.type === 'binary' ? 'base64_malformed' : 'reference_malformed'
  allow(reading, name, { code: 'scim_invalid_value', message, pointer })
  return true
}

function isBase64(text: string): boolean {
  return /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)
}

export function isPrimary(entry: unknown): boolean {
  return isObject(entry) && entry.primary === true
}

export function isRelation(attribute: Attribute): boolean {
  return attribute.home !== undefined && 'relation' in attribute.home
}

export function invalid(attribute: Attribute, pointer: string, rule: string): AppError {
  return refuse({ code: 'scim_invalid_value', message: `${attribute.name} ${rule}.`, pointer })
}

const pchar = "(?:[A-Za-z0-9\\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
const authority = `(?:${pchar.replace(':@', ':')}*@)?(?:\\[[0-9A-Fa-f:.]+\\]|${pchar.replace(':@', '')}*)(?::\\d*)?`
const path = `(?://${authority}(?:/${pchar}*)*|/?(?:${pchar}+(?:/${pchar}*)*)?)`
const uriReference = new RegExp(
  `^(?:[A-Za-z][A-Za-z0-9+.-]*:(?=.)|(?![^/?#]*:))${path}(?:\\?(?:${pchar}|[/?])*)?(?:#(?:${pchar}|[/?])*)?$`,
)

/** Reports whether text is an absolute or relative URI (RFC 3986 §4.1). Other characters must be percent-encoded. */
export function isUriReference(text: string): boolean {
  return uriReference.test(text)
}
