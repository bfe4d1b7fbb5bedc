import { createPrivateKey, sign, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, errors, exportJWK, generateKeyPair, importJWK, jwtVerify } from 'jose'
import type { CryptoKey, JWK, JWTHeaderParameters } from 'jose'
import { sql } from 'kysely'
import type { Config } from '../../config.ts'
import type { Db, Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import type { Session } from '../../members/sessions.ts'
import type { SecretBox } from '../../secret-box.ts'

const algorithm = 'ES256'
/** RFC 9068 §2.1: what tells an access token from every other JWT. */
const tokenType = 'at+jwt'
const lifetimeSeconds = 300
/** A key signs for a month and is published a day longer than any token or cache needs it. */
const signs = sql`interval '30 days'`
const isPublished = sql`interval '31 days'`
/** How long before its predecessor retires a key is made: whoever verifies has fetched it when it begins to sign. */
const aheadMs = 86_400_000
/** How old the keys in memory may be. */
const freshMs = 60_000
/** An unknown key is looked for at most this often. */
const floorMs = 5_000

interface SigningKey {
  kid: string
  publicJwk: JWK
  publicKey: CryptoKey
  /** Absent where the seal's key is no longer configured: such a key only verifies. */
  privateKey: KeyObject | undefined
  retiresAt: number
}

export interface AccessToken {
  accessToken: string
  accessTokenExpiresAt: string
}

export interface AccessTokens {
  /** A token of five minutes, or as long as its session still lasts. Every use checks the session's row. */
  sign: (session: Session) => Promise<AccessToken>
  /**
   * Verifies a token of this service: signature, type, issuer, audience, times.
   * @returns the session that must still be live
   * @throws {AppError} `unauthenticated`
   */
  verify: (token: string) => Promise<{ workspaceId: string; sessionId: string }>
  /** The public keys, of all replicas. */
  jwks: () => Promise<{ keys: JWK[] }>
}

export interface AccessTokensOptions {
  config: Config
  db: Db
  box: SecretBox
}

/**
 * The access tokens of this service, ES256 (RFC 7518 §3.4). The keys are in the database, sealed, and the same for all
 * replicas: the first that needs one makes it, and before the month is over the next, which is published a day before it
 * signs; the old one stays published after it has retired.
 */
export function createAccessTokens({ config, db, box }: AccessTokensOptions): AccessTokens {
  let known: SigningKey[] = []
  let loadedAt = -Infinity
  let loading: Promise<SigningKey[]> | undefined

  async function reload(): Promise<SigningKey[]> {
    loading ??= loadKeys(db, box)
      .then(keys => {
        known = keys
        loadedAt = performance.now()
        return keys
      })
      .finally(() => (loading = undefined))
    return loading
  }

  async function keysNotOlderThan(ms: number): Promise<SigningKey[]> {
    return performance.now() - loadedAt > ms ? reload() : known
  }

  async function signingKey(): Promise<SigningKey & { privateKey: KeyObject }> {
    const keys = await keysNotOlderThan(freshMs)
    const current = findSigner(keys)
    if (current && !isSuccessorDue(keys)) return current
    await db.transaction().execute(trx => makeKey(trx, box))
    const made = findSigner(await reload())
    if (!made) throw new Error('No signing key can be opened with SEAL_KEYS.')
    return made
  }

  async function findPublicKey({ kid }: JWTHeaderParameters): Promise<CryptoKey> {
    const of = (keys: SigningKey[]) => keys.find(key => key.kid === kid)?.publicKey
    const key = of(await keysNotOlderThan(freshMs)) ?? of(await keysNotOlderThan(floorMs))
    if (!key) throw new errors.JWKSNoMatchingKey()
    return key
  }

  const claimNames = { workspace: config.assistClaimWorkspace, role: config.assistClaimRole }
  return {
    async sign(session) {
      const { workspaceId, id, memberId, role, expiresAt } = session
      const { kid, privateKey } = await signingKey()
      const now = Math.floor(Date.now() / 1000)
      const exp = Math.min(now + lifetimeSeconds, Math.floor(Date.parse(expiresAt) / 1000))
      const own = { [claimNames.workspace]: workspaceId, [claimNames.role]: role, sid: id }
      const registered = { iss: config.publicUrl, aud: config.assistTokenAudience, sub: memberId, iat: now, exp }
      const header = { alg: algorithm, kid, typ: tokenType }
      const accessToken = signJws(header, { ...own, ...authenticationClaims(session), ...registered }, privateKey)
      return { accessToken, accessTokenExpiresAt: new Date(exp * 1000).toISOString() }
    },
    async verify(token) {
      const options = {
        issuer: config.publicUrl,
        audience: config.assistTokenAudience,
        algorithms: [algorithm],
        typ: tokenType,
        clockTolerance: config.clockToleranceSeconds,
        requiredClaims: ['sub', 'exp', 'iat', 'sid'],
      }
      const { payload } = await jwtVerify(token, findPublicKey, options).catch((error: unknown) => {
        throw tokenRefusal(error)
      })
      return { workspaceId: String(payload[claimNames.workspace]), sessionId: String(payload.sid) }
    },
    jwks: async () => ({ keys: (await keysNotOlderThan(freshMs)).map(key => key.publicJwk) }),
  }
}

/**
 * A JWS in its compact form (RFC 7515 §7.1), ES256. Signed in this thread: that takes 20 µs, and the way to another thread
 * and back, which WebCrypto takes, three times as long.
 */
function signJws(header: object, claims: object, key: KeyObject): string {
  const input = [header, claims].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const signature = sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' })
  return `${input}.${signature.toString('base64url')}`
}

/** How the person proved who they are, as the provider said it (RFC 9068 §2.2.1); what it did not say is left out. */
function authenticationClaims({ authTime, acr, amr }: Session): Record<string, unknown> {
  return {
    ...(authTime !== null && { auth_time: Date.parse(authTime) / 1000 }),
    ...(acr !== null && { acr }),
    ...(amr !== null && { amr }),
  }
}

/** The oldest that has not retired: it has been published for longest. */
function findSigner(keys: SigningKey[]): (SigningKey & { privateKey: KeyObject }) | undefined {
  const now = Date.now()
  return keys.findLast((key): key is SigningKey & { privateKey: KeyObject } => {
    return key.retiresAt > now && key.privateKey !== undefined
  })
}

/** Every key that could sign will retire soon. */
function isSuccessorDue(keys: SigningKey[]): boolean {
  const soon = Date.now() + aheadMs
  return keys.every(key => key.retiresAt <= soon || key.privateKey === undefined)
}

/** All published keys, the newest first. */
async function loadKeys(db: Db, box: SecretBox): Promise<SigningKey[]> {
  const rows = await db
    .selectFrom('signing_keys')
    .selectAll()
    .where('expires_at', '>', sql<string>`now()`)
    .orderBy('created_at', 'desc')
    .orderBy('kid')
    .execute()
  return Promise.all(
    rows.map(async row => ({
      kid: row.kid,
      publicJwk: row.public_jwk as JWK,
      publicKey: (await importJWK(row.public_jwk as JWK, algorithm)) as CryptoKey,
      privateKey: openPrivateKey(box, row.private_sealed, row.kid),
      retiresAt: Date.parse(row.retires_at),
    })),
  )
}

/** A key whose seal cannot be opened any more signs nothing; the next one is made in its place. */
function openPrivateKey(box: SecretBox, sealed: Buffer, kid: string): KeyObject | undefined {
  let text: string
  try {
    text = box.open(sealed, keyContext(kid))
  } catch {
    return undefined
  }
  return createPrivateKey({ key: JSON.parse(text) as JWK, format: 'jwk' })
}

function keyContext(kid: string): string {
  return `signing_keys/${kid}`
}

/** Replicas that need a key at once wait for each other; all but the first find it made. */
async function makeKey(trx: Trx, box: SecretBox): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended('signing_keys', 0))`.execute(trx)
  if (!isSuccessorDue(await loadKeys(trx, box))) return
  const { privateKey, publicKey } = await generateKeyPair(algorithm, { extractable: true })
  const jwk = await exportJWK(publicKey)
  const kid = await calculateJwkThumbprint(jwk)
  await trx
    .insertInto('signing_keys')
    .values({
      kid,
      public_jwk: JSON.stringify({ ...jwk, kid, alg: algorithm, use: 'sig' }),
      private_sealed: box.seal(JSON.stringify(await exportJWK(privateKey)), keyContext(kid)),
      retires_at: sql`now() + ${signs}`,
      expires_at: sql`now() + ${isPublished}`,
    })
    .execute()
}

function tokenRefusal(error: unknown): unknown {
  if (error instanceof errors.JWTExpired) {
    return new AppError('unauthenticated', 'The access token has expired. Get a new one by GET /v1/session.')
  }
  return error instanceof errors.JOSEError ? new AppError('unauthenticated', 'The access token is not valid.') : error
}
