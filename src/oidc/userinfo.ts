import { tokenFault } from './id-token.ts'
import type { ProviderMetadata } from './metadata.ts'
import type { OutboundFetch } from './outbound-fetch.ts'
import { idpError, statusRefusal } from './provider-error.ts'

export interface UserInfoRequest {
  guard: OutboundFetch
  metadata: ProviderMetadata
  accessToken: string
  /** `sub` of the verified ID token. */
  subject: string
  /** Verifies a signed response with the provider's keys. */
  verify: (token: string) => Promise<Record<string, unknown>>
  /** When the sign-in has taken too long, by performance.now(). */
  deadline: number
}

/**
 * Reads the UserInfo endpoint (OpenID Connect Core §5.3): a JSON object, or a JWT that the provider signed.
 * @returns the claims; undefined when the provider has no such endpoint
 * @throws {AppError} `sso_idp_error`, `sso_idp_unreachable`; `sso_token_invalid` for another subject or an invalid JWT
 * @throws {OutboundError}
 */
export async function fetchUserInfo(request: UserInfoRequest): Promise<Record<string, unknown> | undefined> {
  const { guard, metadata, accessToken, subject, verify, deadline } = request
  if (metadata.userinfo_endpoint === undefined) return undefined
  const response = await guard.fetch(metadata.userinfo_endpoint, {
    headers: { authorization: `Bearer ${accessToken}`, accept: 'application/json, application/jwt' },
    allowJwt: true,
    deadline,
  })
  if (response.status !== 200) throw statusRefusal('userinfo', response.status)
  const isJwt = /^application\/jwt\b/i.test(response.headers.get('content-type') ?? '')
  const claims = isJwt ? await verify((await response.text()).trim()) : await readObject(response)
  // Core §5.3.2: without this check a token of another person could be substituted.
  if (claims.sub !== subject) throw tokenFault('userinfo_sub')
  return claims
}

async function readObject(response: Response): Promise<Record<string, unknown>> {
  const body: unknown = await response.json().catch(() => undefined)
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>
  throw idpError({ stage: 'userinfo', reason: 'malformed' })
}
