import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { exportJWK, generateKeyPair, importJWK, SignJWT, type CryptoKey, type JWK, type JWTVerifyGetKey } from 'jose'
import type { Config } from '../config.ts'

/**
 * Stands in for Assist's token issuer while developing: a key pair of this machine, kept under `.data/`. Never used where
 * NODE_ENV is production, since the configuration refuses the development issuer there.
 */
export interface DevelopmentIssuer {
  keys: JWTVerifyGetKey
  /** Signs an access token such as Assist's, valid for the given time, such as `12h`. */
  sign: (claims: Record<string, unknown> & { sub: string }, lifetime: string) => Promise<string>
}

const algorithm = 'ES256'

export async function openDevelopmentIssuer(config: Config, dataDir: string): Promise<DevelopmentIssuer> {
  const jwk = await readOrMakeKey(join(dataDir, 'development-key.json'))
  const privateKey = (await importJWK(jwk, algorithm)) as CryptoKey
  const { d: _private, ...publicJwk } = jwk
  const publicKey = (await importJWK(publicJwk, algorithm)) as CryptoKey
  return {
    keys: async () => publicKey,
    sign: async (claims, lifetime) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: algorithm })
        .setIssuer(config.assistTokenIssuer)
        .setAudience(config.assistTokenAudience)
        .setIssuedAt()
        .setExpirationTime(lifetime)
        .sign(privateKey),
  }
}

async function readOrMakeKey(path: string): Promise<JWK> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as JWK
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true })
  await mkdir(dirname(path), { recursive: true })
  // Two processes that start at once agree on the key that was there first.
  await writeFile(path, JSON.stringify(await exportJWK(privateKey)), { mode: 0o600, flag: 'wx' }).catch(error => {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  })
  return JSON.parse(await readFile(path, 'utf8')) as JWK
}
