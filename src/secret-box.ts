import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Config } from './config.ts'

/**
 * Seals what must be read again: client secrets, PKCE verifiers, private keys. AES-256-GCM (NIST SP 800-38D).
 *
 * Envelope: one byte version (1), one byte length of the key id, the key id, 12 bytes nonce, ciphertext, 16 bytes tag. The
 * first of SEAL_KEYS seals, all of them open, so keys rotate while the service runs. The context (table, workspace, row)
 * is authenticated too: a sealed value that was moved to another row does not open.
 */
export interface SecretBox {
  /** Of the keys that only open. */
  olderKeyIds: string[]
  seal: (plain: string, context: string) => Buffer
  /** @throws {Error} where the key is not configured, the context is another, or a bit was changed */
  open: (sealed: Buffer, context: string) => string
  /** The same for what can be done without: undefined where SEAL_KEYS does not have its key any more. */
  find: (sealed: Buffer, context: string) => string | undefined
}

const version = 1
const nonceBytes = 12
const tagBytes = 16

export function createSecretBox({ sealKeys }: Pick<Config, 'sealKeys'>): SecretBox {
  const keys = new Map(sealKeys.map(({ id, key }) => [id, key]))
  const [newest] = sealKeys
  if (!newest) throw new Error('SEAL_KEYS is empty.')
  const keyOf = (sealed: Buffer) => keys.get(headerOf(sealed).subarray(2).toString())
  const box: SecretBox = {
    olderKeyIds: sealKeys.slice(1).map(({ id }) => id),
    seal(plain, context) {
      const id = Buffer.from(newest.id)
      const header = Buffer.concat([Buffer.from([version, id.length]), id])
      const nonce = randomBytes(nonceBytes)
      const cipher = createCipheriv('aes-256-gcm', newest.key, nonce).setAAD(
        Buffer.concat([header, Buffer.from(context)]),
      )
      return Buffer.concat([header, nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()])
    },
    open(sealed, context) {
      const header = headerOf(sealed)
      const idEnd = header.length
      const key = keyOf(sealed)
      if (sealed[0] !== version || !key) throw new Error(`No key of SEAL_KEYS opens the secret of ${context}.`)
      const nonce = sealed.subarray(idEnd, idEnd + nonceBytes)
      const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes })
      decipher.setAAD(Buffer.concat([header, Buffer.from(context)])).setAuthTag(sealed.subarray(-tagBytes))
      return decipher.update(sealed.subarray(idEnd + nonceBytes, -tagBytes), undefined, 'utf8') + decipher.final('utf8')
    },
    find: (sealed, context) => (keyOf(sealed) ? box.open(sealed, context) : undefined),
  }
  return box
}

function headerOf(sealed: Buffer): Buffer {
  return sealed.subarray(0, 2 + (sealed[1] ?? 0))
}
