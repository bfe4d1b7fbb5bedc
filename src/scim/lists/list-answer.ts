import type { WorkClass } from '../../db/work-class.ts'
import type { SecretBox } from '../../secret-box.ts'
import type { ResourceTypeName } from '../protocol/attributes.ts'
import type { ListQuery } from '../protocol/list-query.ts'
import { readProjection, returnsAttribute } from '../protocol/projection.ts'
import { queryOfType } from '../protocol/query-of-type.ts'
import { serializeGroup, serializeList, serializeUser } from '../protocol/serialize.ts'
import { openCursor, sealCursor, type Position } from './cursor.ts'
import { listGroups, listUsers, type Anchors, type PageQuery } from './list.ts'
import type { Context } from '../storage/write.ts'

export interface ListContext extends Pick<Context, 'db' | 'caller' | 'baseUrl'> {
  anchors: Anchors
  scans: WorkClass
  /** Seals cursors. */
  box: SecretBox
}

interface ListRequest {
  /** Listed one after the other, as one list. */
  types: readonly ResourceTypeName[]
  query: ListQuery
}

/**
 * The ListResponse to a GET or a `.search`, paged by index or by cursor. What tolerant mode overlooks in the parameters of a
 * read is not recorded: it would fill the log with every page of every sync.
 */
export async function listAnswer(context: ListContext, { types, query }: ListRequest): Promise<string> {
  if (query.cursor !== undefined) return cursorPage(context, { types, query, cursor: query.cursor })
  const { startIndex, count } = query
  let totalResults = 0
  const resources: string[] = []
  for (const type of types) {
    // Where the page begins in the list of this type, and what is left of it.
    const asked = types.length === 1 ? query : queryOfType(query, type, types)
    const page = { ...asked, startIndex: Math.max(1, startIndex - totalResults), count: count - resources.length }
    const found = await listTexts(context, { type, query: page })
    totalResults += found.totalResults
    resources.push(...found.texts)
  }
  return serializeList({ totalResults, startIndex, resources })
}

/** A page after the position that the cursor names, with the cursor of the next one while there is more. */
async function cursorPage(
  context: ListContext,
  { types, query, cursor }: ListRequest & { cursor: string },
): Promise<string> {
  const { box, caller } = context
  const { directoryId } = caller
  let position = openCursor(box, { directoryId, types, query, cursor })
  let totalResults = 0
  let isOver = false
  const resources: string[] = []
  for (const [index, type] of types.entries()) {
    const here = index === position.type ? position : { type: index }
    const isDone: boolean = index < position.type || isOver
    const wanted: number = isDone ? 0 : query.count - resources.length
    const { after, afterKey } = here
    // One more than wanted tells whether there is a next page.
    const asked = types.length === 1 ? query : queryOfType(query, type, types)
    const page = { ...asked, after, afterKey, startIndex: 1, count: wanted === 0 ? 0 : wanted + 1 }
    const found = await listTexts(context, { type, query: page })
    totalResults += found.totalResults
    if (isDone) continue
    if (wanted === 0) {
      // The page was full with the last of the types before: the next one begins with this type, if it has any.
      if (found.totalResults === 0) continue
      position = { type: index }
      isOver = true
      continue
    }
    const texts = found.texts.slice(0, wanted)
    resources.push(...texts)
    if (texts.length === 0) continue
    position = { type: index, ...found.places[texts.length - 1] }
    isOver = found.texts.length > wanted || found.isCut
  }
  const isMore = isOver && query.count > 0
  const nextCursor = isMore ? { nextCursor: sealCursor(box, { directoryId, types, query, position }) } : {}
  return serializeList({ totalResults, ...nextCursor, resources })
}

interface Texts {
  totalResults: number
  /** Where each of them stands in the list. */
  places: readonly Omit<Position, 'type'>[]
  texts: string[]
  /** The page ends before its count, and there is more. */
  isCut: boolean
}

async function listTexts(
  context: ListContext,
  { type, query }: { type: ResourceTypeName; query: PageQuery & Pick<ListQuery, 'attributes' | 'excludedAttributes'> },
): Promise<Texts> {
  const { caller, baseUrl } = context
  const { projection } = readProjection(type, query, caller.mode)
  const relation = type === 'User' ? 'groups' : 'members'
  const list = { ...context, withRelation: returnsAttribute(projection, relation) }
  if (type === 'User') {
    const { totalResults, resources, isCut } = await listUsers(list, query)
    const texts = resources.map(user => serializeUser(user, { baseUrl, projection }))
    return { totalResults, places: resources.map(placeOf), texts, isCut }
  }
  const { totalResults, resources, isCut } = await listGroups(list, query)
  const texts: string[] = []
  for (const group of resources) texts.push(await serializeGroup(group, { baseUrl, projection }))
  return { totalResults, places: resources.map(placeOf), texts, isCut }
}

function placeOf({ id, sortKey }: { id: string; sortKey?: string | null }): Omit<Position, 'type'> {
  return { after: id, ...(sortKey !== undefined && { afterKey: sortKey }) }
}
