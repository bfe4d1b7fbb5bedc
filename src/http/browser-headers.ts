import type { FastifyReply } from 'fastify'
import type { Config } from '../config.ts'
import { isSecure } from './session-cookie.ts'

/** Sent with every answer under /sso: none of it may be kept, framed, or named in a Referer. */
const headers = {
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
}

export function setBrowserHeaders(config: Config, reply: FastifyReply): void {
  reply.headers(headers)
  if (isSecure(config)) reply.header('strict-transport-security', 'max-age=31536000')
}
