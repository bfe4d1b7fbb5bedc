import { AppError } from '../../errors.ts'
import type { ErrorCode } from '../../errors.ts'
import { at } from '../../json-pointer.ts'
import type { Mode, ResourceTypeName } from './attributes.ts'

/** The state of reading one request: its mode, where in the body we are, and the leniencies used so far. */

/** What tolerant mode accepts beyond the RFC. The names are stable: they appear in the activity log. */
export type LeniencyName =
  // headers
  | 'bearer_missing'
  // messages
  | 'schemas_missing'
  | 'schema_undeclared'
  | 'schema_unknown'
  | 'schema_legacy'
  | 'operations_empty'
  | 'path_missing'
  // names
  | 'attribute_unknown'
  | 'extension_unknown'
  | 'extension_unqualified'
  | 'path_as_key'
  | 'read_only_ignored'
  | 'password_ignored'
  // values
  | 'boolean_as_string'
  | 'number_for_string'
  | 'array_for_single'
  | 'single_for_array'
  | 'string_for_complex'
  | 'empty_string_cleared'
  | 'base64_malformed'
  | 'reference_malformed'
  | 'invisible_characters'
  | 'member_detail_ignored'
  // PATCH
  | 'target_created'
  | 'target_missed'
  | 'remove_by_value'
  | 'remove_value_ignored'

/** One use of a leniency. `pointer` is an RFC 6901 JSON pointer into the body; empty for the body as a whole. */
export interface Leniency {
  name: LeniencyName
  pointer: string
}

/** Attributes by canonical name. Never holds `id`, `meta`, `members` or `groups` unless the caller put them there. */
export type ScimResource = Record<string, unknown>

/** The context of reading one body, and the leniencies collected so far. */
export interface Reading {
  type: ResourceTypeName
  mode: Mode
  leniencies: Leniency[]
  kinds?: MembershipTypes
  /** POST and PUT, whose body is a whole resource. */
  isWhole?: true
}

export type MembershipType = 'User' | 'Group'

/** Member types: `said` by the request, `known` from the database. */
export interface MembershipTypes {
  said: Record<MembershipType, Set<string>>
  /** Only ids whose claimed type was wrong. */
  known: Map<string, MembershipType>
}

/** A place in a body. */
export interface Place {
  reading: Reading
  pointer: string
}

/** A place in a message without a resource type, such as a bulk request. */
export interface MessagePlace {
  reading: Pick<Reading, 'mode' | 'leniencies'>
  pointer: string
}

export interface Refusal {
  code: ErrorCode
  message: string
  pointer: string
}

/** Most leniencies that are recorded for one body or query. */
export const MAX_LENIENCIES = 100

/** Creates an error for one place of the body. Its pointer is in the message, for people, and in `errors`. */
export function refuse({ code, message, pointer }: Refusal): AppError {
  const placed = pointer === '' ? message : `${message.replace(/\.$/, '')} (at ${pointer}).`
  return new AppError(code, placed, { errors: [{ pointer, message }] })
}

/**
 * Records the use of a leniency: once for each place, and at most 100 for a body.
 * @throws {AppError} the refusal instead, in strict mode
 */
export function allow(reading: MessagePlace['reading'], name: LeniencyName, refusal: Refusal): void {
  if (reading.mode === 'strict') throw refuse(refusal)
  const { pointer } = refusal
  const { leniencies } = reading
  if (leniencies.length >= MAX_LENIENCIES) return
  if (leniencies.some(used => used.name === name && used.pointer === pointer)) return
  leniencies.push({ name, pointer })
}

/**
 * The values of a message by lower-case key; names compare without case (RFC 7643 §2.1).
 * @throws {AppError} `scim_invalid_syntax` for anything but an object
 */
export function readKeys(
  body: unknown,
  names: readonly string[],
  { reading, pointer }: MessagePlace,
): Record<string, unknown> {
  if (!isObject(body)) throw refuse({ code: 'scim_invalid_syntax', message: 'Send a JSON object.', pointer })
  const read: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(body)) {
    const name = names.find(known => known.toLowerCase() === key.toLowerCase())
    if (name !== undefined) {
      if (Object.hasOwn(read, name.toLowerCase())) throw givenTwice(name, at(pointer, key))
      read[name.toLowerCase()] = value
      continue
    }
    const message = `${printable(key)} is not part of this message. It takes ${names.join(', ')}.`
    allow(reading, 'attribute_unknown', { code: 'scim_invalid_syntax', message, pointer: at(pointer, key) })
  }
  return read
}

/** Reports whether `schemas` of a message contains a URI. URIs compare without case. */
export function namesSchema(schemas: unknown, uri: string): boolean {
  const uris: unknown[] = Array.isArray(schemas) ? schemas : [schemas]
  return uris.some(each => typeof each === 'string' && each.toLowerCase() === uri.toLowerCase())
}

/** Reports whether the limit of recorded leniencies is reached: a body may have tens of thousands. */
export function isFull({ mode, leniencies }: Reading): boolean {
  return mode === 'tolerant' && leniencies.length >= MAX_LENIENCIES
}

/** Records that an unknown attribute is ignored. Strict mode refuses it. */
export function allowUnknown(name: string, { reading, pointer }: Place): void {
  if (isFull(reading)) return
  const message = `${printable(name)} is not an attribute of ${reading.type}. See /Schemas.`
  allow(reading, 'attribute_unknown', { code: 'scim_invalid_syntax', message, pointer })
}

export function givenTwice(name: string, pointer: string): AppError {
  const message = `${name} is given twice, with different letter case or form.`
  return refuse({ code: 'scim_invalid_syntax', message, pointer })
}

/** Shortens a name that a client sent and replaces all but printable ASCII, for use in a message. */
export function printable(name: string): string {
  return name.slice(0, 100).replace(/[^\x20-\x7e]/g, '?')
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
