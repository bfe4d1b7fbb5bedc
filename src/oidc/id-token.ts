import { errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey, type JWTVerifyOptions } from 'jose'
import { AppError } from '../errors.ts'

/** Verified claims of an ID token (Core §2). */
export interface IdTokenClaims extends JWTPayload {
  iss: string
  sub: string
  aud: string | string[]
  exp: number
  iat: number
  nonce: string
}

export interface TokenRules {
  find: JWTVerifyGetKey
  issuer: string
  clientId: string
  /** Accepted JWS algorithms, all asymmetric. */
  algorithms: string[]
  /** Milliseconds since the epoch. */
  now: number
  clockToleranceSeconds: number
}

/** How far `iat` may lie from now (Core §3.1.3.7 step 10): a token straight from the token endpoint has just been made. */
const maxIssuedAtDistanceSeconds = 300

/**
 * Verifies an ID token (Core §3.1.3.7): signature by the issuer's own keys with a pinned algorithm, `iss`, `aud`, `azp`,
 * `exp`, `nbf`, `iat`, `nonce`, and a `sub` that can be a key. Keys that the token's header brings along are not looked at.
 * @throws {AppError} `sso_token_invalid` with `detail.reason`
 * @throws errors of which `isKeyFault` is true: newer keys may help
 */
export async function verifyIdToken(token: string, nonce: string, rules: TokenRules): Promise<IdTokenClaims> {
  const claims = await verifyToken(token, { requiredClaims: ['sub', 'exp', 'iat'] }, rules)
  if (claims.nonce !== nonce) throw tokenFault('nonce')
  // The wording before errata set 2 wanted `azp`, when present, to be this client; a foreign one is no use to anybody else.
  if (claims.azp !== undefined && claims.azp !== rules.clientId) throw tokenFault('azp')
  if (Array.isArray(claims.aud) && claims.aud.length > 1 && claims.azp === undefined) throw tokenFault('azp')
  checkSubject(claims.sub)
  checkIssuedAt(claims.iat, rules.now)
  return claims as IdTokenClaims
}

/** Claims of a logout token that concern the receiver. Either `sub` or `sid` is present. */
export interface LogoutTokenClaims {
  jti: string
  iat: number
  /** Until when the token could be replayed, in seconds since the epoch. */
  exp: number
  sub?: string | undefined
  sid?: string | undefined
}

const backchannelLogoutEvent = 'http://schemas.openid.net/event/backchannel-logout'

/**
 * Verifies a logout token (Back-Channel Logout 1.0 §2.6). That its `jti` is new is for the caller to check.
 * @throws {AppError} `sso_token_invalid` with `detail.reason`
 * @throws errors of which `isKeyFault` is true: newer keys may help
 */
export async function verifyLogoutToken(token: string, rules: TokenRules): Promise<LogoutTokenClaims> {
  const claims = await verifyToken(token, { requiredClaims: ['iat', 'jti', 'events'] }, rules)
  const { iat, jti, exp, events } = claims as JWTPayload & { iat: number; jti: string }
  // Some senders say null of what they do not have.
  const [sub, sid] = [claims.sub ?? undefined, claims.sid ?? undefined]
  if (claims.nonce !== undefined) throw tokenFault('nonce')
  const event = (events as Record<string, unknown> | null)?.[backchannelLogoutEvent]
  if (typeof event !== 'object' || event === null || Array.isArray(event)) throw tokenFault('events')
  if (typeof jti !== 'string' || jti === '' || jti.length > 255) throw tokenFault('jti')
  if (sid !== undefined && !(typeof sid === 'string' && /^[^\p{Cc}\p{Cs}]+$/u.test(sid))) throw tokenFault('sid')
  if (sub === undefined && sid === undefined) throw tokenFault('sub')
  if (sub !== undefined) checkSubject(sub)
  checkIssuedAt(iat, rules.now)
  // `exp` is required since the final version; for older senders the limit on `iat` ends the token's life.
  return { jti, iat, exp: exp ?? iat + maxIssuedAtDistanceSeconds, sub, sid }
}

/**
 * Verifies a signed UserInfo response (Core §5.3.2). `iss` and `aud` are optional there and must be ours when present.
 * @throws {AppError} `sso_token_invalid` with `detail.reason`
 * @throws errors of which `isKeyFault` is true: newer keys may help
 */
export async function verifyUserInfo(token: string, rules: TokenRules): Promise<JWTPayload> {
  if (token.split('.').length === 5) throw tokenFault('userinfo_encrypted')
  const { find, algorithms, now, clockToleranceSeconds } = rules
  const options = { algorithms, currentDate: new Date(now), clockTolerance: clockToleranceSeconds }
  const claims = await verifySignature(token, find, options)
  if (claims.iss !== undefined && claims.iss !== rules.issuer) throw tokenFault('userinfo_iss')
  if (claims.aud !== undefined && ![claims.aud].flat().includes(rules.clientId)) throw tokenFault('userinfo_aud')
  return claims
}

async function verifyToken(token: string, checks: JWTVerifyOptions, rules: TokenRules): Promise<JWTPayload> {
  const { find, issuer, clientId, algorithms, now, clockToleranceSeconds } = rules
  const options = {
    ...checks,
    issuer,
    audience: clientId,
    algorithms,
    currentDate: new Date(now),
    clockTolerance: clockToleranceSeconds,
  }
  return verifySignature(token, find, options)
}

async function verifySignature(
  token: string,
  find: JWTVerifyGetKey,
  options: JWTVerifyOptions & { currentDate: Date },
): Promise<JWTPayload> {
  try {
    const verified = await jwtVerify(token, find, options)
    return verified.payload
  } catch (error) {
    if (error instanceof errors.JWKSMultipleMatchingKeys) return verifyWithEach(token, error, options)
    throw isKeyFault(error) ? error : asTokenFault(error, options.currentDate.getTime())
  }
}

/** How many keys a token without a usable `kid` is compared with. Each costs a signature verification. */
export const maxKeysTried = 4

/**
 * Tries each key that fits a token without a `kid`, or with one that several keys share (Core §10.1), up to `maxKeysTried`:
 * otherwise a provider could make every anonymous logout token cost a hundred verifications.
 */
async function verifyWithEach(
  token: string,
  candidates: errors.JWKSMultipleMatchingKeys,
  options: JWTVerifyOptions & { currentDate: Date },
): Promise<JWTPayload> {
  let tried = 0
  for await (const key of candidates) {
    if (tried++ === maxKeysTried) break
    try {
      const verified = await jwtVerify(token, key, options)
      return verified.payload
    } catch (error) {
      if (!isKeyFault(error)) throw asTokenFault(error, options.currentDate.getTime())
    }
  }
  throw new errors.JWSSignatureVerificationFailed()
}

/** A subject is a key for ever: not empty, not blank, at most 255 printable ASCII characters (Core §2). */
function checkSubject(sub: unknown): void {
  if (typeof sub !== 'string' || !/^[\x20-\x7e]{1,255}$/.test(sub) || sub.trim() === '') throw tokenFault('sub')
}

function checkIssuedAt(iat: number | undefined, now: number): void {
  const seconds = Math.floor(now / 1000)
  if (iat === undefined || Math.abs(seconds - iat) > maxIssuedAtDistanceSeconds) throw clockFault('iat', iat, now)
}

/**
 * Whether a verification failed by its key: none fits, or the one that does has not made this signature. After a rotation
 * newer keys may help; without a `kid`, or where one is used again, the second kind is all that is seen of it.
 */
export function isKeyFault(error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
}

/** The refusal that an error of the verification stands for; what is none comes back as it is. */
export function asTokenFault(error: unknown, now: number): unknown {
  if (error instanceof errors.JWTExpired) return clockFault('exp', error.payload.exp, now)
  if (error instanceof errors.JWTClaimValidationFailed) {
    return error.claim === 'nbf' && error.reason === 'check_failed'
      ? clockFault('nbf', error.payload.nbf, now)
      : tokenFault(error.claim)
  }
  if (error instanceof errors.JWKSNoMatchingKey) return tokenFault('unknown_key')
  if (error instanceof errors.JWSSignatureVerificationFailed) return tokenFault('signature')
  if (error instanceof errors.JOSEAlgNotAllowed) return tokenFault('alg')
  if (error instanceof errors.JOSEError) return tokenFault('malformed')
  // A key that cannot be imported, or does not suit the algorithm.
  if (error instanceof TypeError || error instanceof DOMException) return tokenFault('key')
  return error
}

/** An ID token or logout token that is refused; `reason` names the claim or the check. */
export function tokenFault(reason: string, detail: Record<string, unknown> = {}): AppError {
  return new AppError('sso_token_invalid', 'The identity provider sent a token that is not valid here.', {
    detail: { ...detail, reason },
  })
}

/** Times that do not fit are most often two clocks that do not agree: the operator gets both. */
function clockFault(claim: string, seconds: number | undefined, now: number): AppError {
  const theirs = seconds === undefined ? undefined : isoTime(seconds * 1000)
  return tokenFault(claim, { hint: 'clock skew', tokenTime: theirs, ourTime: isoTime(now) })
}

function isoTime(milliseconds: number): string {
  return Math.abs(milliseconds) <= 8.64e15 ? new Date(milliseconds).toISOString() : 'out of range'
}
