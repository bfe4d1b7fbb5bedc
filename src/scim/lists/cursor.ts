import { AppError } from '../../errors.ts'
import { sha256 } from '../../opaque-token.ts'
import type { SecretBox } from '../../secret-box.ts'
import type { ResourceTypeName } from '../protocol/attributes.ts'
import type { ListQuery } from '../protocol/list-query.ts'

/**
 * Cursors (RFC 9865): where a page ended, sealed, so that clients cannot build on what is in them and any replica can go on.
 * They name the last resource rather than a count, so pages neither repeat nor skip a resource whatever comes and goes.
 */
export interface Position {
  /** Which of the resource types of the list the page ended in. */
  type: number
  /** The last resource; absent at the start of a type. */
  after?: string
  /** Where the client asked for an order of its own: what the last resource has its place by, as text. */
  afterKey?: string | null
}

/** How long a cursor can be used, in seconds; /ServiceProviderConfig announces it. */
export const CURSOR_SECONDS = 3_600

/** The list that a cursor is of: another one begins anew. */
interface CursorList {
  directoryId: string
  types: readonly ResourceTypeName[]
  query: Pick<ListQuery, 'filter' | 'sortBy' | 'descending'>
}

interface Sealed extends Position {
  query: string
  expires: number
}

export function sealCursor(box: SecretBox, { position, ...list }: CursorList & { position: Position }): string {
  const sealed: Sealed = { ...position, query: digest(list), expires: Date.now() + CURSOR_SECONDS * 1000 }
  return box.seal(JSON.stringify(sealed), contextOf(list.directoryId)).toString('base64url')
}

/**
 * @throws {AppError} `scim_invalid_cursor` for what is no cursor of this directory and query, `scim_expired_cursor`
 */
export function openCursor(box: SecretBox, { cursor, ...list }: CursorList & { cursor: string }): Position {
  if (cursor === '') return { type: 0 }
  const sealed = unseal(box, list.directoryId, cursor)
  if (sealed?.query !== digest(list)) {
    const message = 'The cursor is none of this list. Send nextCursor as it was given, with the same filter and order.'
    throw new AppError('scim_invalid_cursor', message)
  }
  if (sealed.expires < Date.now()) {
    throw new AppError('scim_expired_cursor', 'The cursor has expired. Begin again with an empty cursor.')
  }
  const { type, after, afterKey } = sealed
  return { type, ...(after !== undefined && { after }), ...(afterKey !== undefined && { afterKey }) }
}

function unseal(box: SecretBox, directoryId: string, cursor: string): Sealed | undefined {
  try {
    return JSON.parse(box.open(Buffer.from(cursor, 'base64url'), contextOf(directoryId))) as Sealed
  } catch {
    return undefined
  }
}

function contextOf(directoryId: string): string {
  return `scim_cursor ${directoryId}`
}

function digest({ types, query: { filter = '', sortBy = '', descending } }: CursorList): string {
  return sha256(JSON.stringify([types, filter, sortBy, descending])).toString('base64url')
}
