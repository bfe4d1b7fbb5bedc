import type { FastifyInstance } from 'fastify'
import { logRefusal } from '../../http/problem.ts'
import { readBulk, RESPONSE_SCHEMA, runBulk } from './bulk.ts'
import { requireLiveCredential } from '../storage/credential.ts'
import { scimStatus } from '../http/error.ts'
import { recordScimRefusal } from '../http/refusals.ts'
import { callerOf, contextOf, refusedRequest, scimBodyLimits, serve, type ScimOptions } from '../http/serve.ts'

/** /Bulk (RFC 7644 §3.7). */
export async function bulkRoutes(app: FastifyInstance, options: ScimOptions): Promise<void> {
  serve(app, '/Bulk', {
    POST: {
      operationId: 'bulk',
      summary: 'Many changes in one request, each for itself',
      body: 'A BulkRequest (RFC 7644 section 3.7)',
      takesLargeBodies: true,
      handler: async request => {
        const caller = callerOf(request)
        const bulk = readBulk(request.body, caller.mode)
        await requireLiveCredential(options.db, caller)
        options.limits.charge(caller.directoryId, bulk.operations.length)
        const context = contextOf(request, options, { withGroups: true })
        const results = await runBulk(context, bulk, {
          maxValues: scimBodyLimits(options.config).small.values,
          onRefusal: async (refusal, pointer) => {
            logRefusal(refusal, scimStatus(refusal.code), request)
            await recordScimRefusal(options.db, refusal, { ...refusedRequest(request), pointer })
          },
        })
        return JSON.stringify({ schemas: [RESPONSE_SCHEMA], Operations: results })
      },
    },
  })
}
