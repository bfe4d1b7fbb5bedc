import type { FastifyInstance, FastifyRequest } from 'fastify'
import { AppError } from '../../errors.ts'
import { maxBodyBytes } from '../refusal.ts'
import type { BytesInFlight } from './bytes-in-flight.ts'
import { SMALL_BODY_BYTES } from './parse-json.ts'
import { readJson, type BodyLimit } from './read-body.ts'

/** Of the admin API. */
export const adminBody: BodyLimit = { bytes: maxBodyBytes, values: 10_000 }

/** Before a caller is known: so small that it never counts among the bytes in flight, which strangers must not use up. */
export const anonymousBody: BodyLimit = { bytes: SMALL_BODY_BYTES, values: 1_000 }

/** Reads the JSON bodies of `/v1`. */
export function readJsonBodies(app: FastifyInstance, inFlight: BytesInFlight): void {
  app.addContentTypeParser('application/json', async (request: FastifyRequest, payload: FastifyRequest['raw']) => {
    const { workspaceId } = request.params as { workspaceId?: string }
    const limit = request.actor ? adminBody : anonymousBody
    const owner = request.actor?.workspaceId ?? workspaceId?.toLowerCase() ?? request.ip
    const body = await readJson(request, payload, { inFlight, limit, owner })
    if (body === undefined) throw new AppError('malformed_json', 'The request body is not valid JSON.')
    return body
  })
}
