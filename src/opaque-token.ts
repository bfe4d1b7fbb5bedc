import { hash, randomBytes } from 'node:crypto'

/** What each kind of token begins with, so that a leaked one can be recognised. */
export type TokenKind = 'ses' | 'exc' | 'scim' | 'tst' | 'tsc'

export interface OpaqueToken {
  /** Shown to its holder once, stored nowhere. */
  token: string
  /** SHA-256, which is what is stored. 256 random bits need no slow hash. */
  hash: Buffer
}

/**
 * Makes a bearer secret: `kind_` and, in base64url, the workspace's id and 32 random bytes. The id makes every look-up
 * start with the workspace, as every key of the database does; it is no secret.
 */
export function makeOpaqueToken(kind: TokenKind, workspaceId: string): OpaqueToken {
  const payload = Buffer.concat([Buffer.from(workspaceId.replaceAll('-', ''), 'hex'), randomBytes(32)])
  const token = `${kind}_${payload.toString('base64url')}`
  return { token, hash: sha256(token) }
}

/**
 * The workspace and hash of a token of this kind.
 * @returns undefined for anything that `makeOpaqueToken` cannot have made
 */
export function readOpaqueToken(kind: TokenKind, token: string): { workspaceId: string; hash: Buffer } | undefined {
  const text = token.slice(kind.length + 1)
  if (!token.startsWith(`${kind}_`) || !/^[A-Za-z0-9_-]{64}$/.test(text)) return undefined
  const hex = Buffer.from(text, 'base64url').subarray(0, 16).toString('hex')
  const workspaceId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  return { workspaceId, hash: sha256(token) }
}

/** The challenge of a verifier: base64url of its SHA-256, `S256` of RFC 7636 §4.2. */
export function s256(verifier: string): string {
  return sha256(verifier).toString('base64url')
}

export function sha256(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}
