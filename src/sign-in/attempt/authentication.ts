import { AppError } from '../../errors.ts'
import { tokenFault } from '../../oidc/id-token.ts'
import type { IdTokenClaims } from '../../oidc/provider.ts'
import { cleanText } from './clean-text.ts'

/**
 * What a workspace's policy demands of the authentication itself: asked for in the request, and held against the claims of
 * the answer, since the provider may ignore what it is asked for (Core §3.1.2.1, §5.5.1.1).
 */
export interface AuthenticationPolicy {
  maxAgeSeconds: number | null
  acrValues: string[]
}

/** The policy as parameters of the authorization request. */
export function authenticationParameters({ maxAgeSeconds, acrValues }: AuthenticationPolicy): Record<string, string> {
  return {
    ...(maxAgeSeconds !== null && { max_age: String(maxAgeSeconds) }),
    ...(acrValues.length > 0 && { acr_values: acrValues.join(' ') }),
  }
}

export interface AuthenticationCheck {
  policy: AuthenticationPolicy
  /** When the browser set out, ISO 8601: what it takes the person at the provider does not make them older. */
  startedAt: string
  clockToleranceSeconds: number
}

/**
 * Holds the claims of a proven sign-in against the policy.
 * @throws {AppError} `sso_authentication_too_old`, `sso_authentication_too_weak`, with `detail.fix`
 */
export function checkAuthentication(claims: IdTokenClaims, check: AuthenticationCheck): void {
  const { maxAgeSeconds, acrValues } = check.policy
  if (maxAgeSeconds !== null) checkAge(claims, { ...check, maxAgeSeconds })
  const { acr } = claims
  if (acrValues.length === 0 || (typeof acr === 'string' && acrValues.includes(acr))) return
  throw new AppError('sso_authentication_too_weak', 'This workspace asks for a stronger sign-in than this was.', {
    detail: {
      wanted: acrValues,
      acr: typeof acr === 'string' ? (cleanText(acr, 255) ?? null) : null,
      fix: "Have the provider reach one of the policy's acrValues for this application and name it in the acr claim, or change the sign-in policy.",
    },
  })
}

function checkAge(
  claims: IdTokenClaims,
  { maxAgeSeconds, startedAt, clockToleranceSeconds }: AuthenticationCheck & { maxAgeSeconds: number },
): void {
  const authTime = readSeconds(claims.auth_time)
  const oldest = Date.parse(startedAt) / 1000 - maxAgeSeconds - clockToleranceSeconds
  if (authTime !== null && authTime >= oldest) return
  throw new AppError('sso_authentication_too_old', 'This workspace asks you to sign in afresh at your provider.', {
    detail: {
      maxAgeSeconds,
      authTime: authTime === null ? null : new Date(authTime * 1000).toISOString(),
      fix:
        authTime === null
          ? 'The ID token has no auth_time in seconds since the epoch. Have the provider send it (in Entra ID an optional claim), or set maxAgeSeconds of the sign-in policy to null.'
          : 'The provider let the person in by an older session of its own: it does not heed max_age. Set its session lifetime, or change maxAgeSeconds of the sign-in policy.',
    },
  })
}

/**
 * The instant at which the provider demands a new sign-in, in seconds since the epoch (OpenID Connect Enterprise
 * Extensions): a hard end, which our own limits may only bring forward. One that cannot be read, or has gone by, is no
 * licence to go without.
 * @throws {AppError} `sso_token_invalid`
 */
export function readSessionExpiry({ session_expiry: expiry }: IdTokenClaims): number | null {
  if (expiry === undefined || expiry === null) return null
  const seconds = readSeconds(expiry)
  if (seconds === null || seconds * 1000 <= Date.now()) throw tokenFault('session_expiry')
  return seconds
}

/** A NumericDate (RFC 7519 §2) in whole seconds, as far as Postgres and Date can tell it; null for anything else. */
export function readSeconds(value: unknown): number | null {
  return typeof value === 'number' && value >= 1 && value < 1e11 ? Math.floor(value) : null
}
