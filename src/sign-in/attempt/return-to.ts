import type { Config } from '../../config.ts'
import { AppError } from '../../errors.ts'

/** The part of the configuration that says where a sign-in may return to. */
export type ReturnToRules = Pick<Config, 'frontendOrigins' | 'frontendInitiatePath'>

/** Longer targets than this make URLs that proxies cut off. */
const maxLength = 2048

/**
 * Where the person wants to be after signing in, as an absolute URL at one of the front-end's origins. Takes a path, which
 * belongs to the first origin, or an absolute URL. The URL parser decides what a text means, since it is what browsers
 * follow; what it would have to repair or reinterpret (backslashes, blanks, control characters, `https:host`) is refused,
 * so that no later reader can understand it differently (RFC 9700 §4.11).
 * @param text at most 2048 characters; absent means the front page
 * @throws {AppError} `sso_return_to_invalid`
 */
export function parseReturnTo(
  text: string | undefined,
  { frontendOrigins, frontendInitiatePath }: ReturnToRules,
): string {
  const returnTo = text === undefined ? frontPage(frontendOrigins) : findReturnTo(text, frontendOrigins)
  if (returnTo !== undefined) return leavingInitiation(returnTo, frontendInitiatePath)
  throw new AppError(
    'sso_return_to_invalid',
    'return_to must be a path such as /inbox, or a URL at an origin of the front-end (FRONTEND_ORIGINS).',
  )
}

/** The same, with the front page in place of what leads nowhere: for links that others have made. */
export function returnToOrFrontPage(
  text: string | undefined,
  { frontendOrigins, frontendInitiatePath }: ReturnToRules,
): string {
  const returnTo = findReturnTo(text ?? '/', frontendOrigins) ?? frontPage(frontendOrigins)
  return leavingInitiation(returnTo, frontendInitiatePath)
}

/** The front-end's page that begins a sign-in is no place to return to: it would begin a second one. */
function leavingInitiation(returnTo: string, initiatePath: string): string {
  const url = new URL(returnTo)
  return url.pathname === initiatePath ? `${url.origin}/` : returnTo
}

function frontPage([origin]: readonly string[]): string {
  if (origin === undefined) throw new Error('FRONTEND_ORIGINS is empty.')
  return `${origin}/`
}

function findReturnTo(text: string, frontendOrigins: readonly string[]): string | undefined {
  const isPath = /^\/(?!\/)/.test(text)
  const isAbsolute = /^https?:\/\//i.test(text)
  if (text.length > maxLength || /[\s\p{Cc}\\]/u.test(text) || !(isPath || isAbsolute)) return undefined
  const url = URL.parse(text, frontPage(frontendOrigins))
  if (!url || !frontendOrigins.includes(url.origin) || url.username !== '' || url.password !== '') return undefined
  // The same traps once more for routers that decode a path before they use it.
  if (/^\/(?:\/|%2f)/i.test(url.pathname) || /%(?:[01][\da-f]|5c|7f)/i.test(url.pathname)) return undefined
  return url.href
}
