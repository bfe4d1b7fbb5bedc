import { AppError } from '../../errors.ts'
import { at } from '../../json-pointer.ts'
import type { Mode } from './attributes.ts'
import { isObject, MAX_LENIENCIES, namesSchema } from './reading.ts'
import type { Leniency } from './reading.ts'

/** A list request (RFC 7644 §3.4.2): the query of a GET or the body of a `.search`. */
export interface ListQuery {
  filter?: string
  sortBy?: string
  descending: boolean
  /** From 1 on. */
  startIndex: number
  /** Resources at most on the page, 0 to 1,000. */
  count: number
  /** Empty text means the first page (RFC 9865 §2). Absent when the client pages by index. */
  cursor?: string
  attributes: readonly string[]
  excludedAttributes: readonly string[]
}

export const DEFAULT_COUNT = 100
export const MAX_COUNT = 1_000
/** The largest offset that we pass to Postgres. */
const MAX_INDEX = 2 ** 31 - 1

const projectionNames = ['attributes', 'excludedAttributes'] as const
const listNames = ['filter', 'sortBy', 'sortOrder', 'startIndex', 'count', 'cursor', ...projectionNames] as const
type Name = (typeof listNames)[number]

const SEARCH_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:SearchRequest'

/**
 * Reads the query of a GET. Unknown parameters are recorded and ignored because Entra adds flags.
 * @throws {AppError} `scim_invalid_value`, `scim_invalid_count`, `scim_invalid_syntax`, naming the parameter
 */
export function readListQuery(query: unknown, mode: Mode): { query: ListQuery; leniencies: Leniency[] } {
  return readParameters(Object.entries(query as Record<string, unknown>), { known: listNames, mode })
}

/** The projection parameters of a request for one resource (RFC 7644 §3.9). */
export type ProjectionQuery = Pick<ListQuery, 'attributes' | 'excludedAttributes'>

/**
 * Reads the query of a request for one resource.
 * @throws {AppError} as `readListQuery`
 */
export function readProjectionQuery(query: unknown, mode: Mode): { query: ProjectionQuery; leniencies: Leniency[] } {
  return readParameters(Object.entries(query as Record<string, unknown>), { known: projectionNames, mode })
}

/**
 * Reads a SearchRequest (RFC 7644 §3.4.3).
 * @throws {AppError} as `readListQuery`
 */
export function readSearchRequest(body: unknown, mode: Mode): { query: ListQuery; leniencies: Leniency[] } {
  if (!isObject(body)) throw new AppError('scim_invalid_syntax', 'Send a JSON object with a SearchRequest.')
  const entries = Object.entries(body)
  if (mode === 'strict' && !entries.some(([key, value]) => isSchemas(key) && namesSchema(value, SEARCH_SCHEMA))) {
    throw new AppError('scim_invalid_syntax', `schemas must be ["${SEARCH_SCHEMA}"].`)
  }
  return readParameters(
    entries.filter(([key]) => !isSchemas(key)),
    { known: listNames, mode },
  )
}

function isSchemas(key: string): boolean {
  return key.toLowerCase() === 'schemas'
}

function readParameters(
  entries: [string, unknown][],
  { known, mode }: { known: readonly Name[]; mode: Mode },
): { query: ListQuery; leniencies: Leniency[] } {
  const leniencies: Leniency[] = []
  const given: Partial<Record<Name, unknown>> = {}
  for (const [key, value] of entries) {
    const name = known.find(each => each.toLowerCase() === key.toLowerCase())
    if (name === undefined) {
      if (mode === 'strict')
        throw fault('scim_invalid_syntax', key.slice(0, 100), `is not a known parameter. Use ${known.join(', ')}`)
      if (leniencies.length < MAX_LENIENCIES) leniencies.push({ name: 'attribute_unknown', pointer: at('', key) })
      continue
    }
    if (value === null || value === undefined) continue
    if (given[name] !== undefined) throw fault('scim_invalid_syntax', name, 'is given twice')
    given[name] = value
  }
  const filter = text(given.filter, 'filter')
  const sortBy = text(given.sortBy, 'sortBy')
  const cursor = text(given.cursor, 'cursor')
  if (cursor !== undefined && given.startIndex !== undefined) {
    throw fault('scim_invalid_value', 'startIndex', 'and cursor exclude each other. Send only one of them')
  }
  const query: ListQuery = {
    ...(filter !== undefined && filter !== '' && { filter }),
    ...(sortBy !== undefined && sortBy !== '' && { sortBy }),
    ...(cursor !== undefined && { cursor }),
    descending: isDescending(given.sortOrder),
    startIndex: Math.max(1, number(given.startIndex, 'startIndex') ?? 1),
    count: readCount(given.count, cursor !== undefined),
    attributes: names(given.attributes, 'attributes'),
    excludedAttributes: names(given.excludedAttributes, 'excludedAttributes'),
  }
  return { query, leniencies }
}

function isDescending(value: unknown): boolean {
  const order = text(value, 'sortOrder')?.toLowerCase() ?? 'ascending'
  if (order !== 'ascending' && order !== 'descending') {
    throw fault('scim_invalid_value', 'sortOrder', 'must be ascending or descending')
  }
  return order === 'descending'
}

/** Negative counts mean 0 (RFC 7644 §3.4.2.4). Counts above the maximum give shorter pages, or an error with a cursor (RFC 9865 §2.1). */
function readCount(value: unknown, byCursor: boolean): number {
  const count = number(value, 'count', byCursor ? 'scim_invalid_count' : 'scim_invalid_value') ?? DEFAULT_COUNT
  if (byCursor && count > MAX_COUNT) {
    throw fault('scim_invalid_count', 'count', `is at most ${MAX_COUNT} with a cursor`)
  }
  return Math.min(Math.max(0, count), MAX_COUNT)
}

function number(value: unknown, name: Name, code: FaultCode = 'scim_invalid_value'): number | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isInteger(value)) return Math.min(value, MAX_INDEX)
  if (typeof value === 'string' && /^[+-]?\d{1,40}$/.test(value)) return Math.min(Number(value), MAX_INDEX)
  throw fault(code, name, 'must be a whole number')
}

function text(value: unknown, name: Name): string | undefined {
  if (value === undefined || typeof value === 'string') return value
  throw fault('scim_invalid_syntax', name, Array.isArray(value) ? 'is given twice' : 'must be text')
}

function names(value: unknown, name: Name): string[] {
  const list: unknown[] = Array.isArray(value) ? value : value === undefined ? [] : [value]
  if (list.every(each => typeof each === 'string')) return list
  throw fault('scim_invalid_syntax', name, 'must be names of attributes')
}

type FaultCode = 'scim_invalid_value' | 'scim_invalid_syntax' | 'scim_invalid_count'

function fault(code: FaultCode, name: string, rule: string): AppError {
  return new AppError(code, `${name.replace(/[^\x20-\x7e]/g, '?')} ${rule}.`)
}
