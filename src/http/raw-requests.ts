import type { Socket } from 'node:net'
import { STATUS_CODES } from 'node:http'
import type { ConnectionError, FastifyInstance } from 'fastify'
import { AppError } from '../errors.ts'

/** URL and headers of a request, in bytes: a filter of the greatest length, percent-encoded, fits. */
export const maxHeaderBytes = 32_768

const advice: Record<string, { status: number; detail: string }> = {
  HPE_HEADER_OVERFLOW: {
    status: 431,
    detail: `URL and headers together have more than ${maxHeaderBytes} bytes. Send a long SCIM filter as POST to /.search instead.`,
  },
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, detail: 'The request did not arrive within a minute.' },
}

/**
 * Answers what never became a request, so that no route and no scope can: the bytes on the connection are no HTTP, or more
 * than is read. Then the connection is over.
 */
export function answerConnectionError(error: ConnectionError, socket: Socket): void {
  if (socket.destroyed || error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
  const { status, detail } = advice[error.code] ?? { status: 400, detail: 'The request is not valid HTTP/1.1.' }
  const title = STATUS_CODES[status]
  const body = JSON.stringify({ type: 'about:blank', title, status, code: 'invalid', detail })
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}

/** Bodies are read as they are: one that is compressed is refused, where it would only look like broken JSON. */
export function refuseEncodedBodies(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    const encoding = request.headers['content-encoding']
    if (encoding === undefined || encoding.toLowerCase() === 'identity') return
    reply.header('accept-encoding', 'identity')
    throw new AppError(
      'unsupported_media_type',
      'Send the body without Content-Encoding: compressed ones are not read.',
    )
  })
}
