import type { FastifyInstance, FastifyRequest } from 'fastify'
import { groupText, listText, userText } from './answer.ts'
import type { ResourceTypeName } from './attributes.ts'
import { listGroups, listUsers, type PageQuery } from './list.ts'
import { returnsAttribute } from './projection.ts'
import { readSearchRequest, type ListQuery } from './query.ts'
import { baseUrlOf, callerOf, serve, toProjection, type ScimOptions } from './routes.ts'

/** `.search` (RFC 7644 §3.4.3): lists whose parameters, which may be personal data, stay out of URLs. */
export async function searchRoutes(app: FastifyInstance, options: ScimOptions): Promise<void> {
  for (const [path, operationId, types] of [
    ['/.search', 'search', ['User', 'Group']],
    ['/Users/.search', 'searchUsers', ['User']],
    ['/Groups/.search', 'searchScimGroups', ['Group']],
  ] as const) {
    serve(app, path, {
      POST: {
        operationId,
        summary: `Find ${types.map(type => `${type.toLowerCase()}s`).join(' and ')}`,
        body: 'A SearchRequest (RFC 7644 section 3.4.3)',
        handler: async request => {
          const { query } = readSearchRequest(request.body, callerOf(request).mode)
          const { totalResults, resources } = await search(request, options, { types, query })
          return listText({ totalResults, startIndex: query.startIndex, resources })
        },
      },
    })
  }
}

/** The resources of all types as one list, type after type. */
async function search(
  request: FastifyRequest,
  options: ScimOptions,
  { types, query }: { types: readonly ResourceTypeName[]; query: ListQuery },
): Promise<{ totalResults: number; resources: string[] }> {
  let totalResults = 0
  const resources: string[] = []
  for (const type of types) {
    // Where the page begins in the list of this type, and how much of it is left.
    const startIndex = Math.max(1, query.startIndex - totalResults)
    const page = { ...query, startIndex, count: query.count - resources.length }
    const found = await listTexts(request, options, { type, query: page })
    totalResults += found.totalResults
    resources.push(...found.texts)
  }
  return { totalResults, resources }
}

/** The page of one type, as text. */
export async function listTexts(
  request: FastifyRequest,
  options: ScimOptions,
  { type, query }: { type: ResourceTypeName; query: PageQuery & Pick<ListQuery, 'attributes' | 'excludedAttributes'> },
): Promise<{ totalResults: number; texts: string[] }> {
  const caller = callerOf(request)
  const baseUrl = baseUrlOf(options.config, caller)
  const { projection } = toProjection(type, query, caller.mode)
  const relation = type === 'User' ? 'groups' : 'members'
  const context = { ...options, caller, baseUrl, withRelation: returnsAttribute(projection, relation) }
  if (type === 'User') {
    const { totalResults, resources } = await listUsers(context, query)
    return { totalResults, texts: resources.map(user => userText(user, { baseUrl, projection })) }
  }
  const { totalResults, resources } = await listGroups(context, query)
  const texts: string[] = []
  for (const group of resources) texts.push(await groupText(group, { baseUrl, projection }))
  return { totalResults, texts }
}
