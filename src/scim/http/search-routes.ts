import type { FastifyInstance } from 'fastify'
import { listAnswer } from '../lists/list-answer.ts'
import { readSearchRequest } from '../protocol/list-query.ts'
import { callerOf, listContextOf, serve, type ScimOptions } from './serve.ts'

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
          return listAnswer(listContextOf(request, options), { types, query })
        },
      },
    })
  }
}
