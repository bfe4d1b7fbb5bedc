import { AppError } from '../../errors.ts'
import { inStretches } from '../../turns.ts'
import type { ErrorCode } from '../../errors.ts'
import { findAttribute, findSubAttribute, findUnqualified, isStorable, resourceTypes } from './attributes.ts'
import type { Attribute, AttributePath, Mode, ResourceTypeName } from './attributes.ts'
import { ENTERPRISE_SCHEMA, GROUP_SCHEMA, USER_SCHEMA } from './attributes.ts'

/** Values that a client sent, checked against the attribute table and brought into its shape (RFC 7643 §2). */

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

/** At most so many values in one multi-valued attribute; members of a group have a limit of their own. */
export const MAX_VALUES = 1000
/** Of one body or query, as they are recorded. */
export const MAX_LENIENCIES = 100
/** An extension that this service does not know is kept as sent, within these bounds. */
const MAX_OPAQUE_DEPTH = 8
const MAX_OPAQUE_NODES = 2000

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

/**
 * The pointer to a key or an index inside another (RFC 6901 §3). It is stored in the activity log, so of a key that is no
 * name it has the beginning, and without what text in Postgres cannot hold.
 */
export function at(pointer: string, step: string | number): string {
  const key = String(step).slice(0, MAX_POINTER_STEP).toWellFormed().replaceAll('\0', '\ufffd')
  return `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
}

const MAX_POINTER_STEP = 200

/**
 * Whether this can be the id of a resource. Ids compare with case (RFC 7643 §3.1), so only the spelling that we gave out
 * names one.
 */
export function isResourceId(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
}

/** Bytes by what they may stand for in an id: hexadecimal digits all alike, any other for itself. */
const kinds = Uint8Array.from({ length: 256 }, (_, byte) => (/[0-9a-f]/.test(String.fromCharCode(byte)) ? 0 : byte))
const idAndComma = Buffer.from('00000000-0000-0000-0000-000000000000,').map(byte => kinds[byte] ?? byte)

/** The same of `count` ids joined by commas: tens of thousands are checked in a quarter of the time. */
export function areResourceIds(joined: string, count: number): boolean {
  const bytes = Buffer.from(joined)
  const { length } = idAndComma
  // So there are as many commas as belong between the ids, and none within one.
  if (bytes.length !== Math.max(0, count * length - 1)) return false
  for (let index = 0, place = 0; index < bytes.length; index++) {
    if (kinds[bytes[index] ?? 0] !== idAndComma[place]) return false
    place = place + 1 === length ? 0 : place + 1
  }
  return true
}

const STEP_IDS = 2_000

/**
 * Joins ids by commas, in stretches.
 * @returns undefined where one of them cannot be the id of a resource
 */
export async function joinResourceIds(ids: readonly string[]): Promise<string | undefined> {
  return inStretches(joinSteps(ids))
}

function* joinSteps(ids: readonly string[]): Generator<void, string | undefined> {
  const joined: string[] = []
  for (let start = 0; start < ids.length; start += STEP_IDS) {
    const step = ids.slice(start, start + STEP_IDS)
    const text = step.join(',')
    if (!areResourceIds(text, step.length)) return undefined
    joined.push(text)
    yield
  }
  return joined.join(',')
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

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
    const message = `${attribute.name} has several values: send an array.`
    allow(reading, 'single_for_array', { code: 'scim_invalid_value', message, pointer })
    return [value]
  }
  if (value.length > MAX_VALUES && !isRelation(attribute)) {
    throw invalid(attribute, pointer, `has at most ${MAX_VALUES} values`)
  }
  return value
}

/** The object that stands for a complex value: the value itself, or in tolerant mode `{ value }` for a bare string. */
export function asComplex(attribute: Attribute, value: unknown, { reading, pointer }: Place): Record<string, unknown> {
  if (isObject(value)) return value
  if (typeof value !== 'string' || findSubAttribute(attribute, 'value') === undefined) {
    throw invalid(attribute, pointer, 'must be an object')
  }
  const message = `${attribute.name} must be an object with a value.`
  allow(reading, 'string_for_complex', { code: 'scim_invalid_value', message, pointer })
  return { value }
}

/** One value that came in an array, as Entra sends a manager or a title. */
export function unwrap(attribute: Attribute, value: unknown, { reading, pointer }: Place): unknown {
  if (!Array.isArray(value)) return value
  if (attribute.multiValued || value.length > 1) {
    throw invalid(attribute, pointer, attribute.multiValued ? 'must not have arrays as values' : 'has one value')
  }
  const message = `${attribute.name} has one value: send it without an array.`
  allow(reading, 'array_for_single', { code: 'scim_invalid_value', message, pointer })
  const inner: unknown = value[0]
  // Entra ID also wraps what is simple into an object: [{"$ref": null, "value": "Head of looms"}].
  return attribute.type !== 'complex' && isObject(inner) && 'value' in inner ? inner.value : inner
}

/** An attribute by the name a body or a path gave it, draft URNs included (tolerant mode). */
export function resolveName(name: string, { reading, pointer }: Place): AttributePath | undefined {
  const found = findAttribute(reading.type, name)
  if (found !== undefined) return found
  const draft = draftExtension.exec(name)
  if (draft === null) return undefined
  const known = findAttribute(reading.type, ENTERPRISE_SCHEMA + name.slice(draft[0].length))
  if (known === undefined) return undefined
  const message = `${draft[0]} is the URN of a draft: send ${ENTERPRISE_SCHEMA}.`
  allow(reading, 'schema_legacy', { code: 'scim_invalid_syntax', message, pointer })
  return known
}

/**
 * An attribute by what a path gave it, which may lack the URN of its extension (tolerant mode). In a body such a name is
 * unknown and left out, since there it may well be something else.
 */
export function resolvePath(name: string, place: Place): AttributePath | undefined {
  const { reading, pointer } = place
  const found = resolveName(name, place)
  if (found !== undefined) return found
  const unqualified = reading.mode === 'tolerant' ? findUnqualified(reading.type, name) : undefined
  if (unqualified === undefined) return undefined
  const message = `${printable(name)} needs the URN of its schema before it.`
  allow(reading, 'extension_unqualified', { code: 'scim_invalid_path', message, pointer })
  return unqualified
}

// The longer URN first: it begins with the shorter.
const draftExtension = /^urn:scim:schemas:extension:enterprise:[12]\.0(?::user)?/i

/** URIs that older clients send for a schema of today, lower case. */
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

/** Whether the name starts with the URN of a schema of this type, so that what follows can only be unknown to it. */
export function isInKnownSchema(type: ResourceTypeName, name: string): boolean {
  const { schema, extensions } = resourceTypes[type]
  const lower = name.toLowerCase()
  return [schema, ...extensions.map(extension => extension.name)].some(urn => lower.startsWith(urn.toLowerCase()))
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
  if (!isStorable(text)) throw fail('must not hold NUL characters or unpaired surrogates')
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
    const innerValue = readValue(sub, inner, innerPlace)
    if (innerValue !== undefined) read[sub.name] = innerValue
  }
  // A reference to nobody, such as a manager whose value is empty, is no reference.
  if (!attribute.multiValued && read.value === '') return cleared(attribute, place)
  return Object.keys(read).length === 0 ? undefined : read
}

function cleared(attribute: Attribute, { reading, pointer }: Place): undefined {
  const message = `${attribute.name} must not be empty text: send null to clear it.`
  allow(reading, 'empty_string_cleared', { code: 'scim_invalid_value', message, pointer })
  return undefined
}

/** Whether no more leniencies are recorded: a body may have tens of thousands. */
function isFull({ mode, leniencies }: Reading): boolean {
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
    // What JSON.parse has rounded may be the number of somebody else.
    if (!Number.isSafeInteger(value)) throw invalid(attribute, pointer, 'must be text: send the number in quotes')
    const message = `${attribute.name} must be text in double quotes.`
    allow(reading, 'number_for_string', { code: 'scim_invalid_value', message, pointer })
    text = String(value)
  }
  if (typeof text !== 'string') throw invalid(attribute, pointer, 'must be text')
  checkText(text, { name: attribute.name, maxLength: attribute.maxLength, pointer })
  // Whoever has no id has none in common: a blank one must never find the member of somebody else.
  if (attribute.name === 'externalId' && text.trim() === '') return cleared(attribute, { reading, pointer })
  if (attribute.type === 'binary' && !isBase64(text)) {
    const message = `${attribute.name} must be base64 (RFC 7643 section 2.3.6).`
    allow(reading, 'base64_malformed', { code: 'scim_invalid_value', message, pointer })
  }
  return text
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
