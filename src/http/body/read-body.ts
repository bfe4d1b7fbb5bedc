import type { FastifyInstance, FastifyRequest } from 'fastify'
import { AppError } from '../../errors.ts'
import type { BodyBytes, BytesInFlight } from './bytes-in-flight.ts'
import { parseJson, parseLargeJson, SMALL_BODY_BYTES } from './parse-json.ts'

/** What a route takes. */
export interface BodyLimit {
  bytes: number
  /** Objects, arrays, strings, numbers and literals. */
  values: number
}

declare module 'fastify' {
  interface FastifyRequest {
    /** What the body holds of the memory for large ones; null where it is small, or has not come. */
    bodyBytes: BodyBytes | null
  }
}

export interface BodyReader {
  inFlight: BytesInFlight
  limit: BodyLimit
  /** Whose share of the memory the body takes. */
  owner: string
}

/** Gives back what the body of a request holds, once it is answered or its client has gone. */
export function releaseBodies(app: FastifyInstance): void {
  app.decorateRequest('bodyBytes', null)
  app.addHook('onResponse', (request, _reply, done) => {
    request.bodyBytes?.end()
    done()
  })
}

/**
 * Reads the body of a request and parses it as JSON. A small one is parsed at once. A larger one counts among the bytes in
 * flight until the request is answered, waits until its owner has no other in work, and is parsed in stretches.
 * @returns undefined where the body is empty
 * @throws {AppError} `body_too_large`, `rate_limited`, `malformed_json`, `request_aborted`
 */
export async function readJson(
  request: FastifyRequest,
  payload: FastifyRequest['raw'],
  reader: BodyReader,
): Promise<unknown> {
  const { limit } = reader
  const bytes = await collect(request, payload, reader)
  if (bytes.length === 0) return undefined
  const { bodyBytes } = request
  if (bodyBytes === null) return parseJson(bytes, limit.values)
  await bodyBytes.takeTurn()
  return bodyBytes.alone(() => parseLargeJson(bytes, limit.values))
}

function collect(request: FastifyRequest, payload: FastifyRequest['raw'], reader: BodyReader): Promise<Buffer> {
  const { inFlight, limit, owner } = reader
  const announced = Number(request.headers['content-length'] ?? Number.NaN)
  return new Promise((resolve, reject) => {
    if (announced > limit.bytes) throw tooLarge(limit)
    if (announced > SMALL_BODY_BYTES) inFlight.requireRoom(owner, announced)
    const chunks: Buffer[] = []
    let length = 0
    const stop = (error: Error) => {
      payload.off('data', take).off('end', finish).off('error', stop)
      reject(error)
    }
    const take = (chunk: Buffer) => {
      length += chunk.length
      if (length > limit.bytes) return stop(tooLarge(limit))
      chunks.push(chunk)
      if (length <= SMALL_BODY_BYTES) return
      try {
        request.bodyBytes ??= inFlight.begin(owner)
        request.bodyBytes.grow(length)
      } catch (error) {
        stop(error as Error)
      }
    }
    const finish = () => {
      payload.off('data', take).off('end', finish).off('error', stop)
      if (!Number.isNaN(announced) && announced !== length) {
        reject(new AppError('invalid', 'Content-Length does not match the body.'))
      } else resolve(Buffer.concat(chunks, length))
    }
    payload.on('data', take).on('end', finish).on('error', stop)
    payload.resume()
  })
}

function tooLarge({ bytes }: BodyLimit): AppError {
  return new AppError('body_too_large', `The request body is larger than the ${bytes} bytes that are taken here.`)
}
