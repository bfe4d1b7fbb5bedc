import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import { AppError } from '../errors.ts'

/** URL and headers of a request, in bytes: a filter of the greatest length, percent-encoded, fits. */
export const maxHeaderBytes = 32_768

const advice: Record<string, { status: number; title: string; detail: string }> = {
  HPE_HEADER_OVERFLOW: {
    status: 431,
    title: 'Request Header Fields Too Large',
    detail: `URL and headers together have more than ${maxHeaderBytes} bytes. Send a long SCIM filter as POST to /.search instead.`,
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: 408,
    title: 'Request Timeout',
    detail: 'The request did not arrive within a minute.',
  },
}

const notHttp = { status: 400, title: 'Bad Request', detail: 'The request is not valid HTTP/1.1.' }

/**
 * Answers what never became a request, so that no route and no scope can: the bytes on the connection are no HTTP, or more
 * than is read. Then the connection is over. The form is that of SCIM where what came begins like a request to it.
 */
export const answerConnectionError: NonNullable<FastifyServerOptions['clientErrorHandler']> = (error, socket) => {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
  const { status, title, detail } = advice[error.code] ?? notHttp
  // Node gives the bytes that it could not read; Fastify's type has them as they are printed.
  const received = error.rawPacket as unknown as Buffer | undefined
  const isScim = /^[A-Z]+ \/scim\//.test(received?.toString('latin1', 0, 32) ?? '')
  const body = JSON.stringify(
    isScim
      ? { schemas: ['urn:ietf:params:scim:api:messages:2.0:Error'], status: String(status), detail }
      : { type: 'about:blank', title, status, code: 'invalid', detail },
  )
  const type = isScim ? 'application/scim+json' : 'application/problem+json'
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
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

/**
 * Refuses a URL whose bytes are not UTF-8. The query parser would keep or replace such bytes, so that a filter would
 * silently look for another name. Runs after authentication, so that the refusal of a directory is recorded.
 */
export function refuseMalformedUrls(app: FastifyInstance): void {
  app.addHook('preValidation', async request => {
    // A provider's error_description may be Latin-1. The callback reads it as untrusted text and ends the attempt.
    if (request.routeOptions.url?.startsWith('/sso/') || isUtf8Url(request.raw.url ?? '')) return
    throw new AppError('invalid', 'The URL is not valid UTF-8. Percent-encode each byte of the UTF-8 text.')
  })
}

function isUtf8Url(url: string): boolean {
  // Node reads the request line as Latin-1: every byte above 0x7f should have been percent-encoded.
  if (/[\x80-\xff]/.test(url)) return false
  // Bytes above 0x7f in a row are whole characters of UTF-8.
  return (url.match(/(?:%[89a-f][0-9a-f])+/gi) ?? []).every(isDecodable)
}

function isDecodable(encoded: string): boolean {
  try {
    decodeURIComponent(encoded)
    return true
  } catch {
    return false
  }
}
