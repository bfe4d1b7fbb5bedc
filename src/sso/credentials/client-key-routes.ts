import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Db } from '../../db/database.ts'
import { workspaceParams } from '../../http/params.ts'
import { problemErrors, problemResponses } from '../../http/problem.ts'
import { listPublicKeys } from './client-credentials.ts'

const keySet = z
  .object({ keys: z.array(z.record(z.string(), z.unknown())) })
  .meta({ description: 'A JWK Set (RFC 7517)' })

/** Where a provider fetches the public keys of this service's client at it. Open to all, and the same for unknown workspaces. */
export const clientKeyRoutes: FastifyPluginAsyncZodOpenApi<{ db: Db }> = async (app, { db }) => {
  problemErrors(app)
  app.get(
    '/sso/:workspaceId/jwks.json',
    {
      schema: {
        tags: ['SSO'],
        security: [],
        params: workspaceParams,
        operationId: 'getClientKeys',
        summary: 'The public keys by which this service proves itself to the provider (private_key_jwt)',
        response: { 200: keySet, 503: problemResponses()[503] },
      },
    },
    async (request, reply) => {
      reply.header('cache-control', 'public, max-age=60')
      return { keys: await listPublicKeys(db, request.params.workspaceId) }
    },
  )
}
