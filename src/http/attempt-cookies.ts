import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import { isSecure } from './session-cookie.ts'

/** Cookies at most; each is under 200 bytes, so that abandoned sign-ins never make a header too large. */
const limit = 5

/**
 * One cookie for each sign-in under way, named by the beginning of its state, so that tabs do not overwrite each other's.
 * Its value proves that the browser that comes back is the one that set out (RFC 9700 §4.7). SameSite=Lax: it has to
 * come along when the identity provider redirects back.
 */
function cookieName(config: Config, state: string): string {
  return `${prefixOf(config)}${state.slice(0, 8)}`
}

/** `__Host-` exists over https only; plain http is for development. */
function prefixOf(config: Config): string {
  return isSecure(config) ? '__Host-la-' : 'la-'
}

function attributesOf(config: Config) {
  return { path: '/', httpOnly: true, secure: isSecure(config), sameSite: 'lax' } as const
}

export function readAttemptCookie(config: Config, request: FastifyRequest, state: string): string | undefined {
  return request.cookies[cookieName(config, state)]
}

/** Sets the cookie of a new attempt and clears the oldest ones that are too many: browsers send them oldest first. */
export function setAttemptCookie(
  config: Config,
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  { state, browserSecret }: { state: string; browserSecret: string },
): void {
  const known = Object.keys(request.cookies).filter(name => name.startsWith(prefixOf(config)))
  for (const name of known.slice(0, Math.max(0, known.length - limit + 1))) {
    reply.clearCookie(name, attributesOf(config))
  }
  const maxAge = Math.min(config.signInAttemptMinutes, 10) * 60
  reply.setCookie(cookieName(config, state), browserSecret, { ...attributesOf(config), maxAge })
}

export function clearAttemptCookie(config: Config, reply: FastifyReply, state: string): void {
  reply.clearCookie(cookieName(config, state), attributesOf(config))
}
