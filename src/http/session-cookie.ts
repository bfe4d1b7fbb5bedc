import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'

/**
 * The session's cookie. `__Host-` ties it to this host and path over https (RFC 6265bis); plain http exists in
 * development only, where browsers would refuse that prefix.
 */
function cookieName(config: Config): string {
  return isSecure(config) ? '__Host-assist-session' : 'assist-session'
}

export function isSecure(config: Config): boolean {
  return config.publicUrl.startsWith('https:')
}

export function readSessionCookie(config: Config, request: FastifyRequest): string | undefined {
  return request.cookies[cookieName(config)]
}

/** The cookie lasts as long as its session may: until `expiresAt`, ISO 8601. */
export function setSessionCookie(
  config: Config,
  reply: FastifyReply,
  { token, expiresAt }: { token: string; expiresAt: string },
): void {
  reply.setCookie(cookieName(config), token, {
    path: '/',
    httpOnly: true,
    secure: isSecure(config),
    sameSite: 'lax',
    maxAge: Math.floor((Date.parse(expiresAt) - Date.now()) / 1000),
  })
}

export function clearSessionCookie(config: Config, reply: FastifyReply): void {
  reply.clearCookie(cookieName(config), { path: '/', httpOnly: true, secure: isSecure(config), sameSite: 'lax' })
}
