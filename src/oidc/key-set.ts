import { createLocalJWKSet, type JWK, type JWTVerifyGetKey } from 'jose'
import { AppError } from '../errors.ts'

const maxKeys = 100

export interface KeySet {
  /** Finds the key of a token's header by kid, kty and alg (RFC 7517 §4); jose's own function. */
  find: JWTVerifyGetKey
  /** The keys that can verify a signature. */
  keys: JWK[]
  /** Members that were left out, by reason. */
  ignored: string[]
}

/**
 * Reads a JWK Set (RFC 7517 §5). Members for encryption, of unknown type, or RSA shorter than 2048 bits (RFC 7518 §3.3)
 * are left out, so that a token that names one finds no key.
 * @throws {AppError} `sso_idp_error` where it is no JWK Set, or has more than 100 keys
 */
export function readKeySet(document: unknown): KeySet {
  const members = typeof document === 'object' && document !== null && 'keys' in document ? document.keys : undefined
  if (!Array.isArray(members)) throw unusable('keys_malformed')
  if (members.length > maxKeys) throw unusable('keys_too_many')
  const keys: JWK[] = []
  const ignored: string[] = []
  for (const member of members as unknown[]) {
    const reason = unusableBecause(member)
    if (reason === undefined) keys.push(publicPart(member as JWK))
    else ignored.push(reason)
  }
  return { find: createLocalJWKSet({ keys }), keys, ignored }
}

/** Only what verifies: chains, thumbprints and (by mistake) private parts are not kept. Null says nothing. */
function publicPart({ kty, kid, alg, use, key_ops, crv, x, y, n, e }: JWK): JWK {
  const entries = Object.entries({ kty, kid, alg, use, key_ops, crv, x, y, n, e })
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && value !== null))
}

function unusableBecause(member: unknown): string | undefined {
  if (typeof member !== 'object' || member === null) return 'not an object'
  const { kty, use, n } = member as JWK
  if ((use ?? 'sig') !== 'sig') return `for ${use}, not signatures`
  if (kty !== 'RSA' && kty !== 'EC' && kty !== 'OKP') return `of type ${String(kty)}`
  if (kty === 'RSA' && modulusBits(n) < 2048) return 'RSA shorter than 2048 bits'
  return undefined
}

function modulusBits(modulus: unknown): number {
  return typeof modulus === 'string' ? Buffer.from(modulus, 'base64url').length * 8 : 0
}

function unusable(reason: string): AppError {
  return new AppError('sso_idp_error', 'The keys that the identity provider publishes cannot be used.', {
    detail: { stage: 'keys', reason },
  })
}
