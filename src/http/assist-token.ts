import { errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose'
import type { Actor } from '../actor.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'

export type VerifyToken = (token: string) => Promise<Actor>

/**
 * Verifies access tokens of Assist (RFC 7519): signature by the given keys with a pinned algorithm, issuer, audience and
 * times compared, claims read by their configured names.
 * @throws {AppError} `unauthenticated`, saying which check failed; `unavailable` while the keys cannot be fetched
 */
export function assistTokenVerifier(config: Config, keys: JWTVerifyGetKey): VerifyToken {
  const options = {
    issuer: config.assistTokenIssuer,
    audience: config.assistTokenAudience,
    algorithms: config.assistTokenAlgorithms,
    clockTolerance: config.clockToleranceSeconds,
    requiredClaims: ['sub', 'exp', 'iat'],
  }
  return async token => {
    const { payload } = await jwtVerify(token, keys, options).catch((error: unknown) => {
      throw tokenRefusal(error)
    })
    return readClaims(config, payload)
  }
}

function readClaims(config: Config, payload: JWTPayload): Actor {
  const id = payload.sub as string
  const scopes = typeof payload.scope === 'string' ? payload.scope.split(' ') : []
  if (scopes.includes(config.assistServiceScope)) return { type: 'service', id }
  const workspaceId = payload[config.assistClaimWorkspace]
  const role = payload[config.assistClaimRole]
  if (typeof workspaceId !== 'string' || typeof role !== 'string') {
    const { assistClaimWorkspace, assistClaimRole, assistServiceScope } = config
    throw new AppError(
      'unauthenticated',
      `The access token has neither the scope ${assistServiceScope} nor the claims ${assistClaimWorkspace} and ${assistClaimRole}.`,
    )
  }
  const email = payload[config.assistClaimEmail]
  const address = typeof email === 'string' ? { email } : {}
  return { type: 'user', id, workspaceId: workspaceId.toLowerCase(), role, ...address }
}

/** Why a token was refused; what is no fault of the token is `unavailable`. */
export function tokenRefusal(error: unknown): AppError {
  if (error instanceof errors.JWTExpired) return new AppError('unauthenticated', 'The access token has expired.')
  if (error instanceof errors.JWTClaimValidationFailed) {
    return new AppError('unauthenticated', `The access token's claim ${error.claim} is missing or not what it must be.`)
  }
  if (
    error instanceof errors.JWKSTimeout ||
    !(error instanceof errors.JOSEError) ||
    error.code === 'ERR_JOSE_GENERIC'
  ) {
    return new AppError('unavailable', "The keys of Assist's access tokens cannot be fetched. Try again shortly.", {
      retryAfter: 5,
      cause: error,
    })
  }
  return new AppError('unauthenticated', 'The access token is not valid.')
}
