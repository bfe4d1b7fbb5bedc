import { randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, SignJWT, type JWK } from 'jose'
import type { ProviderMetadata } from './metadata.ts'

/** A private key by which this service proves itself to a provider, for one workspace and never for another. */
export type ClientKey = JWK & { kid: string }

/** Lives long enough for a slow call and clocks that differ a little; each assertion is for one request. */
const lifetimeSeconds = 60

/** An RSA key of 2048 bits: of all types the one that every provider with `private_key_jwt` takes. */
export async function makeClientKey(): Promise<{ privateJwk: ClientKey; publicJwk: ClientKey }> {
  const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true, modulusLength: 2048 })
  const jwk = await exportJWK(publicKey)
  // Without `alg`: the same key signs with RS256 or PS256, as the provider announces.
  const named = { kid: await calculateJwkThumbprint(jwk), use: 'sig' }
  return { privateJwk: { ...(await exportJWK(privateKey)), ...named }, publicJwk: { ...jwk, ...named } }
}

/**
 * Signs a client assertion (RFC 7523 §2.2): `aud` is the issuer alone, as one string, so that it is of no use at any other
 * provider, nor at another endpoint that a hostile one names.
 */
export async function signClientAssertion(
  key: ClientKey,
  { clientId, metadata }: { clientId: string; metadata: ProviderMetadata },
): Promise<string> {
  const alg = assertionAlgorithm(metadata)
  const now = Math.floor(Date.now() / 1000)
  return new SignJWT({ jti: randomUUID() })
    .setProtectedHeader({ alg, kid: key.kid })
    .setIssuer(clientId)
    .setSubject(clientId)
    .setAudience(metadata.issuer)
    .setIssuedAt(now)
    .setNotBefore(now)
    .setExpirationTime(now + lifetimeSeconds)
    .sign(await importJWK(key, alg))
}

/** PS256 where it is announced, since profiles of higher security want it; RS256 is what the others have. */
function assertionAlgorithm(metadata: ProviderMetadata): 'PS256' | 'RS256' {
  return metadata.token_endpoint_auth_signing_alg_values_supported?.includes('PS256') ? 'PS256' : 'RS256'
}
