import { createLocalJWKSet, type JWK, type JWTVerifyGetKey } from 'jose'
import { AppError } from '../errors.ts'

/** Keys of a provider are untrusted input: each bound keeps one signature verification below a millisecond. */
const maxKeys = 100
const maxKeyIdLength = 512
const minModulusBits = 2048
const maxModulusBits = 8192
const maxExponentBits = 32

export interface KeySet {
  /** Finds the key of a token's header by kid, kty and alg (RFC 7517 §4); jose's own function. */
  find: JWTVerifyGetKey
  /** The keys that can verify a signature. */
  keys: JWK[]
  /** Why other members were left out, one reason per member. */
  ignored: string[]
}

/**
 * Reads a JWK Set (RFC 7517 §5). Members that cannot verify signatures safely are left out, so that a token that names one
 * finds no key: keys for encryption, of unknown type, RSA moduli below 2048 (RFC 7518 §3.3) or above 8192 bits, RSA exponents
 * above 32 bits, and key ids above 512 characters.
 * @throws {AppError} `sso_idp_error` for a document that is not a JWK Set, or has more than 100 keys
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

/** Bytes that a key set occupies in memory, roughly. */
export function sizeOfKeySet({ keys, ignored }: KeySet): number {
  // An imported key costs about as much again as its text, in OpenSSL's memory.
  return 4 * JSON.stringify(keys).length + JSON.stringify(ignored).length + 1_000
}

/** The members that verify signatures. Certificate chains, thumbprints and (by mistake) private parts are dropped, as is null. */
function publicPart({ kty, kid, alg, use, key_ops, crv, x, y, n, e }: JWK): JWK {
  const entries = Object.entries({ kty, kid, alg, use, key_ops, crv, x, y, n, e })
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && value !== null))
}

function unusableBecause(member: unknown): string | undefined {
  if (typeof member !== 'object' || member === null) return 'not an object'
  const { kty, use, n, e, kid } = member as JWK
  if ((use ?? 'sig') !== 'sig') return `for ${shortened(use)}, not signatures`
  if (kty !== 'RSA' && kty !== 'EC' && kty !== 'OKP') return `of type ${shortened(kty)}`
  if (JSON.stringify(kid ?? '').length > maxKeyIdLength + 2) return `with a kid above ${maxKeyIdLength} characters`
  if (kty !== 'RSA') return undefined
  if (bitsOf(n) < minModulusBits) return `RSA shorter than ${minModulusBits} bits`
  if (bitsOf(n) > maxModulusBits) return `RSA longer than ${maxModulusBits} bits`
  if (bitsOf(e) > maxExponentBits) return `RSA with an exponent above ${maxExponentBits} bits`
  return undefined
}

/** An untrusted text for a report. */
function shortened(text: unknown): string {
  return String(text).slice(0, 20).toWellFormed()
}

/** The size of an unsigned big-endian number in base64url, in whole bytes. */
function bitsOf(value: unknown): number {
  return typeof value === 'string' ? Buffer.from(value, 'base64url').length * 8 : 0
}

function unusable(reason: string): AppError {
  return new AppError('sso_idp_error', 'The keys that the identity provider publishes cannot be used.', {
    detail: { stage: 'keys', reason },
  })
}
