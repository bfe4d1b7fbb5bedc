import { AppError } from '../../errors.ts'
import { at } from '../../json-pointer.ts'
import { comparisonKey, resourceTypes } from './attributes.ts'
import type { Mode, ResourceTypeName } from './attributes.ts'
import { readManyMembershipIds, readMembershipIds } from './membership-values.ts'
import { isExtensionName, legacySchemas, resolveName, withSchemas } from './names.ts'
import { putPath } from './patch/apply.ts'
import { allow, allowUnknown, givenTwice, isObject, printable, refuse } from './reading.ts'
import type { Leniency, MembershipTypes, Place, Reading, ScimResource } from './reading.ts'
import { isRelation, MAX_VALUES, readValue } from './value.ts'

/** Whole resources: the bodies of POST and PUT, and the columns that store them. */

export interface ReadResource {
  /** Attributes in canonical spelling and the order sent, `schemas` first; no `id`, `meta`, `groups` or `members`. */
  resource: ScimResource
  /** Ids of the members of a group, each once. Undefined when the body has no `members`. */
  members?: string[]
  leniencies: Leniency[]
}

/**
 * Reads the body of a POST or PUT (RFC 7644 §3.3, §3.5.1). Names match without case, values stay as sent, null and []
 * mean unassigned, read-only attributes are ignored as the RFC says.
 * @throws {AppError} `scim_invalid_syntax` for a body that is not a resource of the type, `scim_invalid_value` for values;
 * both name the attribute and its JSON pointer
 */
export function readResource(type: ResourceTypeName, body: unknown, mode: Mode): ReadResource {
  return readBody(body, { type, mode, leniencies: [], isWhole: true })
}

/** As `readResource`, for a group: collects the claimed types of its members and reads large groups in stretches. */
export async function readGroup(body: unknown, mode: Mode, kinds: MembershipTypes): Promise<ReadResource> {
  const reading: Reading = { type: 'Group', mode, leniencies: [], kinds, isWhole: true }
  if (!isObject(body)) return readBody(body, reading)
  const place = (key: string): Place => ({ reading, pointer: at('', key) })
  const keys = Object.keys(body).filter(key => namesMembers(key, place(key)))
  const [key, second] = keys
  if (second !== undefined) throw givenTwice('members', at('', second))
  if (key === undefined) return readBody(body, reading)
  const members = await readManyMembershipIds(body[key], place(key))
  const read = readBody(Object.fromEntries(Object.entries(body).filter(([name]) => name !== key)), reading)
  return { ...read, members }
}

function namesMembers(key: string, place: Place): boolean {
  const path = resolveName(key, place)
  return path !== undefined && path.parents.length === 0 && isRelation(path.attribute)
}

function readBody(body: unknown, reading: Reading): ReadResource {
  const { type } = reading
  if (!isObject(body)) {
    throw refuse({ code: 'scim_invalid_syntax', message: `Send a JSON object with a ${type}.`, pointer: '' })
  }
  const read: ReadResource = { resource: {}, leniencies: reading.leniencies }
  const pathKeys: string[] = []
  for (const [key, value] of Object.entries(body)) {
    const place = { reading, pointer: at('', key) }
    if (!readAttribute(read, { key, value }, place)) pathKeys.push(key)
  }
  // Keys such as name.givenName go last because they change attributes that the other keys set.
  for (const key of pathKeys) {
    read.resource = putPath(read.resource, { key, value: body[key] }, { reading, pointer: at('', key) })
  }
  checkDeclared(body, read.resource, reading)
  checkRequired(read.resource, reading)
  read.resource = withSchemas(type, read.resource)
  return read
}

/** Reads one key of the body. False if the key is not the plain name of an attribute. */
function readAttribute(read: ReadResource, { key, value }: { key: string; value: unknown }, place: Place): boolean {
  const path = resolveName(key, place)
  if (path === undefined) return readUnknown(key, place)
  const { attribute, parents } = path
  if (parents.length > 0) return false
  if (attribute.mutability === 'readOnly' || attribute.name === 'schemas') return true
  if (isRelation(attribute)) {
    if (read.members !== undefined) throw givenTwice(attribute.name, place.pointer)
    read.members = readMembershipIds(value, place)
    return true
  }
  if (Object.hasOwn(read.resource, attribute.name)) throw givenTwice(attribute.name, place.pointer)
  const known = readValue(attribute, value, place)
  if (known !== undefined) read.resource[attribute.name] = known
  return true
}

function readUnknown(key: string, place: Place): boolean {
  // RFC 7643 §4.1 defines password. This service neither stores it nor repeats it in a message.
  if (key.toLowerCase() === 'password' && place.reading.type === 'User') {
    const message = 'password is not accepted because people sign in at their identity provider.'
    allow(place.reading, 'password_ignored', { code: 'scim_invalid_syntax', message, pointer: place.pointer })
    return true
  }
  if (/[.[]/.test(key) || isExtensionName(key)) return false
  allowUnknown(key, place)
  return true
}

/** Checks `schemas` against what the body holds (RFC 7643 §3). */
function checkDeclared(body: Record<string, unknown>, resource: ScimResource, reading: Reading): void {
  const { type } = reading
  const declared = readDeclared(body, reading)
  if (declared === undefined) return
  const used = withSchemas(type, resource).schemas as string[]
  for (const uri of used) {
    if (declared.has(uri.toLowerCase())) continue
    const message = `schemas must name ${printable(uri)} because the body has attributes of it.`
    allow(reading, 'schema_undeclared', { code: 'scim_invalid_syntax', message, pointer: '/schemas' })
  }
}

/** The declared URIs in lower case, with draft URIs replaced by current ones. Undefined without any. */
function readDeclared(body: Record<string, unknown>, reading: Reading): Set<string> | undefined {
  const { type } = reading
  const key = Object.keys(body).find(name => name.toLowerCase() === 'schemas')
  const sent = key === undefined ? undefined : body[key]
  if (sent === undefined || sent === null || (Array.isArray(sent) && sent.length === 0)) {
    const message = `schemas is missing. Send ["${resourceTypes[type].schema}"].`
    allow(reading, 'schemas_missing', { code: 'scim_invalid_syntax', message, pointer: '/schemas' })
    return undefined
  }
  const uris = Array.isArray(sent) ? sent : [sent]
  if (!Array.isArray(sent)) {
    const message = 'schemas must be an array of URIs.'
    allow(reading, 'single_for_array', { code: 'scim_invalid_syntax', message, pointer: '/schemas' })
  }
  if (uris.length > MAX_VALUES) {
    const message = `schemas has at most ${MAX_VALUES} URIs.`
    throw refuse({ code: 'scim_invalid_value', message, pointer: '/schemas' })
  }
  const keys = new Set(Object.keys(body).map(name => name.toLowerCase()))
  requireOwnSchema(uris, reading)
  return new Set(uris.map((uri: unknown, index) => readUri(uri, keys, { reading, pointer: at('/schemas', index) })))
}

/** Refuses `schemas` that name another resource type and not this one, in both modes: the body is not what we would store. */
function requireOwnSchema(uris: readonly unknown[], { type }: Reading): void {
  const lower = new Set(uris.map(uri => (typeof uri === 'string' ? uri.toLowerCase() : '')))
  const names = (each: ResourceTypeName) => [...schemasOf(each)].some(uri => lower.has(uri))
  const other = resourceTypeNames.find(each => each !== type && names(each))
  if (other === undefined || names(type)) return
  const message = `schemas names ${other}, but this endpoint takes ${type}. Send ["${resourceTypes[type].schema}"].`
  throw refuse({ code: 'scim_invalid_syntax', message, pointer: '/schemas' })
}

const resourceTypeNames: readonly ResourceTypeName[] = ['User', 'Group']

/** Current and draft URIs of a resource type and its extensions, in lower case. */
function schemasOf(type: ResourceTypeName): ReadonlySet<string> {
  const { schema, extensions } = resourceTypes[type]
  const current = [schema, ...extensions.map(({ name }) => name)].map(uri => uri.toLowerCase())
  return new Set([...current, ...legacySchemas[type].keys()])
}

function readUri(uri: unknown, keys: ReadonlySet<string>, { reading, pointer }: Place): string {
  const { type } = reading
  if (typeof uri !== 'string') {
    throw refuse({ code: 'scim_invalid_syntax', message: 'schemas must be an array of URIs.', pointer })
  }
  const lower = uri.toLowerCase()
  const { schema, extensions } = resourceTypes[type]
  if ([schema, ...extensions.map(({ name }) => name)].some(known => known.toLowerCase() === lower)) return lower
  const today = legacySchemas[type].get(lower)
  if (today !== undefined) {
    const message = `${printable(uri)} is the URI of an early draft. Send ${today}.`
    allow(reading, 'schema_legacy', { code: 'scim_invalid_syntax', message, pointer })
    return today.toLowerCase()
  }
  // An extension with data is kept, and the leniency is recorded where the data is.
  if (!keys.has(lower)) {
    const message = `${printable(uri)} is not a schema of ${type}. See /Schemas.`
    allow(reading, 'schema_unknown', { code: 'scim_invalid_syntax', message, pointer })
  }
  return lower
}

function checkRequired(resource: ScimResource, { type }: Reading): void {
  for (const { name, required } of resourceTypes[type].attributes) {
    const value = resource[name]
    if (!required || (typeof value === 'string' && comparisonKey(value) !== '')) continue
    throw refuse({ code: 'scim_invalid_value', message: `${name} is required.`, pointer: at('', name) })
  }
}

/** The columns of a user. A response is `{"id":…,"meta":…,"active":…,` and `doc` without its first character. */
export interface UserRow {
  userName: string
  userNameKey: string
  externalId: string | null
  /** Undefined when the client did not send it: true for a new user, unchanged for an existing one. */
  active: boolean | undefined
  /** Comparison keys of `emails`, each once. */
  emailKeys: string[]
  /** JSON text of everything that a client sees except `id`, `meta`, `active` and `groups`. Never `{}`: it has `schemas`. */
  doc: string
}

/** The columns of a group. `doc` holds everything that a client sees except `id`, `meta` and `members`. */
export interface GroupRow {
  displayName: string
  displayNameKey: string
  externalId: string | null
  doc: string
}

export function toUserRow(resource: ScimResource): UserRow {
  const userName = requiredText(resource, 'userName')
  const emails = Array.isArray(resource.emails) ? (resource.emails as unknown[]) : []
  const values = emails
    .map(email => (isObject(email) ? email.value : undefined))
    .filter(value => typeof value === 'string')
  return {
    userName,
    userNameKey: comparisonKey(userName),
    externalId: optionalText(resource, 'externalId'),
    active: typeof resource.active === 'boolean' ? resource.active : undefined,
    emailKeys: [...new Set(values.map(comparisonKey))],
    doc: toDoc('User', resource),
  }
}

export function toGroupRow(resource: ScimResource): GroupRow {
  const displayName = requiredText(resource, 'displayName')
  return {
    displayName,
    displayNameKey: comparisonKey(displayName),
    externalId: optionalText(resource, 'externalId'),
    doc: toDoc('Group', resource),
  }
}

/** The resource stored in a row, ready for PATCH and projection. `doc` may be text or parsed JSON. */
export function fromRow({ id, active, doc }: { id: string; active?: boolean; doc: string | object }): ScimResource {
  const stored = (typeof doc === 'string' ? JSON.parse(doc) : doc) as ScimResource
  return active === undefined ? { id, ...stored } : { id, ...stored, active }
}

const apart: ReadonlySet<string> = new Set(['id', 'meta', 'active', 'groups', 'members'])

function toDoc(type: ResourceTypeName, resource: ScimResource): string {
  const kept = Object.entries(resource).filter(([name]) => !apart.has(name))
  return JSON.stringify(withSchemas(type, Object.fromEntries(kept)))
}

function requiredText(resource: ScimResource, name: string): string {
  const value = resource[name]
  if (typeof value !== 'string') throw new AppError('internal', `A resource without ${name} cannot be stored.`)
  return value
}

function optionalText(resource: ScimResource, name: string): string | null {
  const value = resource[name]
  return typeof value === 'string' ? value : null
}
