import { crc32 } from 'node:zlib'
import type { ResourceTypeName } from './attributes.ts'
import { keepsDocument, project, returnsAttribute, type Projection } from './projection.ts'
import { fromRow } from './resource.ts'

/**
 * Answers as text. A stored document goes out as it is, behind a prefix with what stands in columns: that costs a fifth
 * of parsing and writing it again. Only a projection that cuts into the document has it parsed.
 */

/** What every resource has in columns. */
export interface StoredRow {
  id: string
  version: number
  createdAt: string
  updatedAt: string
  doc: string
}

export interface UserAnswer extends StoredRow {
  active: boolean
  /** JSON text of `groups`; null where the user is in none, or nobody asked. */
  groups: string | null
}

/** A group with the ids of its members; absent where nobody asked for them. */
export interface GroupAnswer extends StoredRow {
  members?: MemberIds
}

export interface MemberIds {
  users: readonly string[]
  groups: readonly string[]
}

export interface AnswerOptions {
  /** URL of the directory's endpoint, without a slash at the end. */
  baseUrl: string
  projection?: Projection | undefined
}

/**
 * The entity tag of a user (RFC 7644 §3.14). `groups` changes without a change of the user, so what the answer says of
 * it is part of the tag; the number before it is what If-Match compares.
 */
export function userEtag({ version, groups }: Pick<UserAnswer, 'version' | 'groups'>): string {
  return groups === null ? `W/"${version}"` : `W/"${version}-${crc32(groups).toString(16)}"`
}

export function groupEtag({ version }: Pick<StoredRow, 'version'>): string {
  return `W/"${version}"`
}

export function userText(row: UserAnswer, { baseUrl, projection }: AnswerOptions): string {
  const meta = metaText('User', row, { baseUrl, etag: userEtag(row) })
  if (keepsDocument(projection)) {
    const parts = [`{"id":"${row.id}",`]
    if (returnsAttribute(projection, 'meta')) parts.push(`"meta":${meta},`)
    if (returnsAttribute(projection, 'active')) parts.push(`"active":${row.active},`)
    if (row.groups !== null && returnsAttribute(projection, 'groups')) parts.push(`"groups":${row.groups},`)
    parts.push(row.doc.slice(1))
    return parts.join('')
  }
  const resource = { ...fromRow(row), meta: parsed(meta), ...(row.groups !== null && { groups: parsed(row.groups) }) }
  return JSON.stringify(project(projection, resource))
}

/** As `userText`; lets others have the process while it writes a large group. */
export async function groupText(row: GroupAnswer, { baseUrl, projection }: AnswerOptions): Promise<string> {
  const meta = metaText('Group', row, { baseUrl, etag: groupEtag(row) })
  const members = row.members ? await membersText(row.members, baseUrl) : ''
  if (keepsDocument(projection)) {
    const parts = [`{"id":"${row.id}",`]
    if (returnsAttribute(projection, 'meta')) parts.push(`"meta":${meta},`)
    if (members !== '' && returnsAttribute(projection, 'members')) parts.push(`"members":[${members}],`)
    parts.push(row.doc.slice(1))
    return parts.join('')
  }
  const { id, doc } = row
  const resource = {
    ...fromRow({ id, doc }),
    meta: parsed(meta),
    ...(members !== '' && { members: parsed(`[${members}]`) }),
  }
  return JSON.stringify(project(projection, resource))
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

/** How many members are written before others have their turn: about a millisecond's work. */
const SLICE = 5_000

async function membersText({ users, groups }: MemberIds, baseUrl: string): Promise<string> {
  const slices: string[] = []
  for (const [type, ids] of [
    ['User', users],
    ['Group', groups],
  ] as const) {
    for (let from = 0; from < ids.length; from += SLICE) {
      if (slices.length > 0) await new Promise(resolve => setImmediate(resolve))
      slices.push(sliceText(type, ids.slice(from, from + SLICE), baseUrl))
    }
  }
  return slices.join(',')
}

function sliceText(type: ResourceTypeName, ids: readonly string[], baseUrl: string): string {
  let text = ''
  for (const id of ids) {
    text += `${text === '' ? '' : ','}{"value":"${id}","$ref":"${baseUrl}/${type}s/${id}","type":"${type}"}`
  }
  return text
}

const LIST_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:ListResponse'

export interface ListAnswer {
  totalResults: number
  startIndex?: number
  nextCursor?: string
  resources: readonly string[]
}

/** A ListResponse (RFC 7644 §3.4.2) around resources that are text already. */
export function listText({ totalResults, startIndex, nextCursor, resources }: ListAnswer): string {
  const { length: itemsPerPage } = resources
  const head = JSON.stringify({ schemas: [LIST_SCHEMA], totalResults, startIndex, itemsPerPage, nextCursor })
  return `${head.slice(0, -1)},"Resources":[${resources.join(',')}]}`
}
