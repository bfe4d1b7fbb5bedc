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

/** What reading one body needs to know, and collects on its way. */
export interface Reading {
  type: ResourceTypeName
  mode: Mode
  leniencies: Leniency[]
  kinds?: MembershipTypes
}

export type MembershipType = 'User' | 'Group'

/** What members are: as the body says, which only the database can tell to be so, and as it has told. */
export interface MembershipTypes {
  said: Record<MembershipType, Set<string>>
  /** Of ids of which something else was said. */
  known: Map<string, MembershipType>
}

/** Where in which body. */
export interface Place {
  reading: Reading
  pointer: string
}

/** The same in a message that is of no resource type, such as a bulk request. */
export interface MessagePlace {
  reading: Pick<Reading, 'mode' | 'leniencies'>
  pointer: string
}

export interface Refusal {
  code: ErrorCode
  message: string
  pointer: string
}

/** Of one body or query, as they are recorded. */
export const MAX_LENIENCIES = 100

/** An error at one place of the body: the pointer is both in the message, for people, and in `errors`. */
export function refuse({ code, message, pointer }: Refusal): AppError {
  const placed = pointer === '' ? message : `${message.replace(/\.$/, '')} (at ${pointer}).`
  return new AppError(code, placed, { errors: [{ pointer, message }] })
}

/**
 * Records that a leniency was used: each once at a place, and of one body the first 100.
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
 * @throws {AppError} `scim_invalid_syntax` for what is no object
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
    const message = `${printable(key)} is no part of this message: it has ${names.join(', ')}.`
    allow(reading, 'attribute_unknown', { code: 'scim_invalid_syntax', message, pointer: at(pointer, key) })
  }
  return read
}

/** Whether `schemas` of a message names its URI, which compares without case. */
export function namesSchema(schemas: unknown, uri: string): boolean {
  const uris: unknown[] = Array.isArray(schemas) ? schemas : [schemas]
  return uris.some(each => typeof each === 'string' && each.toLowerCase() === uri.toLowerCase())
}

/** Whether no more leniencies are recorded: a body may have tens of thousands. */
export function isFull({ mode, leniencies }: Reading): boolean {
  return mode === 'tolerant' && leniencies.length >= MAX_LENIENCIES
}

/** An attribute that no schema has is left out, and that is recorded; strict mode refuses it. */
export function allowUnknown(name: string, { reading, pointer }: Place): void {
  if (isFull(reading)) return
  const message = `${printable(name)} is no attribute of a ${reading.type}: see /Schemas.`
  allow(reading, 'attribute_unknown', { code: 'scim_invalid_syntax', message, pointer })
}

export function givenTwice(name: string, pointer: string): AppError {
  const message = `${name} is given twice, with the name in different letter case or form.`
  return refuse({ code: 'scim_invalid_syntax', message, pointer })
}

/** A name from outside, short enough and plain enough for a message. */
export function printable(name: string): string {
  return name.slice(0, 100).replace(/[^\x20-\x7e]/g, '?')
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
