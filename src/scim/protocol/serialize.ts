import { crc32 } from 'node:zlib'
import type { ResourceTypeName } from './attributes.ts'
import { keepsDocument, project, returnsAttribute } from './projection.ts'
import type { Projection } from './projection.ts'
import { fromRow } from './resource.ts'

/**
 * Writes responses as text. The stored document is appended to a prefix made from the columns, which costs a fifth of
 * parsing and serializing it. Only a projection of attributes inside the document parses it.
 */

/** The columns that every resource has. */
export interface StoredRow {
  id: string
  version: number
  createdAt: string
  updatedAt: string
  doc: string
}

export interface UserAnswer extends StoredRow {
  active: boolean
  /** JSON text of `groups`. Null when the user is in no group or the request excludes `groups`. */
  groups: string | null
}

/** A group with the ids of its members. Absent when the request excludes them. */
export interface GroupAnswer extends StoredRow {
  members?: MemberIds
}

/**
 * Ids joined by commas, as Postgres aggregates and accepts them. For tens of thousands of ids this is far cheaper than one
 * string each. Null without members.
 */
export interface MemberIds {
  users: string | null
  groups: string | null
}

const ID_LENGTH = 36

/** The number of ids in a joined text, computed from its length because all ids have the same length. */
export function countIds(ids: string | null): number {
  return ids === null ? 0 : (ids.length + 1) / (ID_LENGTH + 1)
}

export interface AnswerOptions {
  /** URL of the directory's endpoint, without a slash at the end. */
  baseUrl: string
  projection?: Projection | undefined
}

/**
 * The entity tag of a user (RFC 7644 §3.14). `groups` changes without a change of the user, so its checksum is part of the
 * tag. If-Match compares only the number before it.
 */
export function userEtag({ version, groups }: Pick<UserAnswer, 'version' | 'groups'>): string {
  return groups === null ? `W/"${version}"` : `W/"${version}-${crc32(groups).toString(16)}"`
}

export function groupEtag({ version }: Pick<StoredRow, 'version'>): string {
  return `W/"${version}"`
}

export function serializeUser(row: UserAnswer, { baseUrl, projection }: AnswerOptions): string {
  const meta = metaText('User', row, { baseUrl, etag: userEtag(row) })
  if (keepsDocument(projection)) {
    // Text built with `+` is copied once, when the response is written. Each join would copy all of it again.
    let text = `{"id":"${row.id}",`
    if (returnsAttribute(projection, 'meta')) text += `"meta":${meta},`
    if (returnsAttribute(projection, 'active')) text += `"active":${row.active},`
    if (row.groups !== null && returnsAttribute(projection, 'groups')) text += `"groups":${row.groups},`
    return text + row.doc.slice(1)
  }
  const resource = { ...fromRow(row), meta: parsed(meta), ...(row.groups !== null && { groups: parsed(row.groups) }) }
  return JSON.stringify(project(projection, resource))
}

/** As `serializeUser`. Yields to other requests while it writes a large group. */
export async function serializeGroup(row: GroupAnswer, options: AnswerOptions): Promise<string> {
  const { baseUrl, projection } = options
  const slices: string[] = []
  // A write knows the members even when the projection excludes them.
  const members = returnsAttribute(projection, 'members') ? row.members : undefined
  for (const slice of memberSlices(members, baseUrl)) {
    if (slices.length > 0) await new Promise(resolve => setImmediate(resolve))
    slices.push(slice.toString())
  }
  if (keepsDocument(projection)) {
    const [before, after] = groupFrame(row, options)
    return `${before}${slices.join('')}${after}`
  }
  const { id, doc } = row
  const resource = {
    ...fromRow({ id, doc }),
    meta: parsed(groupMeta(row, baseUrl)),
    ...(slices.length > 0 && members && { members: parsed(`[${slices.join('')}]`) }),
  }
  return JSON.stringify(project(projection, resource))
}

/** Text in slices. Each slice is overwritten by the next. */
export interface SlicedText {
  /** In bytes. */
  length: number
  slices: Iterable<Buffer>
}

/**
 * A group with many members in slices that are sent one after the other, so that a large group is never completely in
 * memory. Undefined when `serializeGroup` serves the group equally well.
 */
export function groupSlices(row: GroupAnswer, options: AnswerOptions): SlicedText | undefined {
  const { members } = row
  const { baseUrl, projection } = options
  if (members === undefined || countIds(members.users) + countIds(members.groups) <= SLICE) return undefined
  if (!keepsDocument(projection) || !returnsAttribute(projection, 'members')) return undefined
  const [before, after] = groupFrame(row, options).map(text => Buffer.from(text)) as [Buffer, Buffer]
  const write = function* () {
    yield before
    yield* memberSlices(members, baseUrl)
    yield after
  }
  return { length: before.length + membersLength(members, baseUrl) + after.length, slices: write() }
}

/** The text before and after the members. */
function groupFrame(row: GroupAnswer, { baseUrl, projection }: AnswerOptions): [before: string, after: string] {
  const { members, id, doc } = row
  const hasMembers = members && (members.users ?? members.groups) !== null && returnsAttribute(projection, 'members')
  const meta = returnsAttribute(projection, 'meta') ? `"meta":${groupMeta(row, baseUrl)},` : ''
  const rest = doc.slice(1)
  return hasMembers ? [`{"id":"${id}",${meta}"members":[`, `],${rest}`] : [`{"id":"${id}",${meta}`, rest]
}

function groupMeta(row: GroupAnswer, baseUrl: string): string {
  return metaText('Group', row, { baseUrl, etag: groupEtag(row) })
}

export function locationOf(type: ResourceTypeName, id: string, baseUrl: string): string {
  return `${baseUrl}/${type}s/${id}`
}

function metaText(
  type: ResourceTypeName,
  { id, createdAt, updatedAt }: StoredRow,
  { baseUrl, etag }: { baseUrl: string; etag: string },
): string {
  const version = etag.replaceAll('"', String.raw`\"`)
  return `{"resourceType":"${type}","created":"${createdAt}","lastModified":"${updatedAt}","location":"${locationOf(type, id, baseUrl)}","version":"${version}"}`
}

function parsed(text: string): unknown {
  return JSON.parse(text)
}

/** Members written at a time: about a millisecond of work and less than a megabyte. */
const SLICE = 5_000

/** A placeholder for an id. */
const hole = '_'.repeat(ID_LENGTH)

/** A member, with a comma before it and holes for its id. */
function memberPattern(type: ResourceTypeName, baseUrl: string): Buffer {
  return Buffer.from(`,{"value":"${hole}","$ref":"${baseUrl}/${type}s/${hole}","type":"${type}"}`)
}

/**
 * The members without brackets. Members of a type have the same length, so their ids are copied into a repeated pattern.
 * Every slice reuses the memory of the one before, because allocating megabytes makes the garbage collector pause all
 * requests.
 */
function* memberSlices(members: MemberIds | undefined, baseUrl: string): Generator<Buffer> {
  let comma = 1
  for (const [type, ids] of typesOf(members)) {
    const total = countIds(ids)
    const most = Math.min(SLICE, total)
    const pattern = memberPattern(type, baseUrl)
    const places = [pattern.indexOf(hole), pattern.lastIndexOf(hole)]
    const slice = Buffer.alloc(most * pattern.length, pattern)
    const part = Buffer.alloc(most * (ID_LENGTH + 1))
    for (let from = 0; from < total; from += SLICE) {
      const count = Math.min(SLICE, total - from)
      part.write(ids.slice(from * (ID_LENGTH + 1), (from + count) * (ID_LENGTH + 1)), 'latin1')
      for (let index = 0; index < count; index++) {
        const start = index * (ID_LENGTH + 1)
        for (const place of places) part.copy(slice, index * pattern.length + place, start, start + ID_LENGTH)
      }
      yield slice.subarray(comma, count * pattern.length)
      comma = 0
    }
  }
}

function membersLength(members: MemberIds, baseUrl: string): number {
  return typesOf(members).reduce((sum, [type, ids]) => sum + countIds(ids) * memberPattern(type, baseUrl).length, -1)
}

function typesOf(members: MemberIds | undefined): [ResourceTypeName, string][] {
  const ids: [ResourceTypeName, string | null | undefined][] = [
    ['User', members?.users],
    ['Group', members?.groups],
  ]
  return ids.filter((each): each is [ResourceTypeName, string] => typeof each[1] === 'string')
}

const LIST_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:ListResponse'

export interface ListAnswer {
  totalResults: number
  startIndex?: number
  nextCursor?: string
  resources: readonly string[]
}

/** A ListResponse (RFC 7644 §3.4.2) around resources that are text already. */
export function serializeList({ totalResults, startIndex, nextCursor, resources }: ListAnswer): string {
  const { length: itemsPerPage } = resources
  const head = JSON.stringify({ schemas: [LIST_SCHEMA], totalResults, startIndex, itemsPerPage, nextCursor })
  let text = `${head.slice(0, -1)},"Resources":[`
  for (const [index, resource] of resources.entries()) text += index === 0 ? resource : `,${resource}`
  return `${text}]}`
}
