import { AppError } from '../../errors.ts'

export interface PastedSecret {
  secret: string
  /** What was changed, for the admin; absent when nothing was. */
  notice?: string
}

/**
 * Reads a client secret as an admin pasted it. Whitespace around it is removed, because consoles and editors add it. Any other
 * character outside printable ASCII (VSCHAR, RFC 6749 appendix A.2) is refused, because no provider issues it and the request
 * would fail at the token endpoint.
 * @throws {AppError} `invalid` at `/clientSecret`, naming the first such character and its position
 */
export function readPastedSecret(text: string): PastedSecret {
  const secret = text.trim()
  const position = secret.search(/[^\x20-\x7e]/)
  if (secret === '') throw invalidSecret('is empty or consists of whitespace')
  if (position !== -1) {
    const code = secret.codePointAt(position)?.toString(16).toUpperCase().padStart(4, '0')
    throw invalidSecret(
      `contains the character U+${code} at position ${position + 1}; copy it again without formatting`,
    )
  }
  if (secret === text) return { secret }
  return { secret, notice: 'Whitespace around the client secret was removed before it was stored.' }
}

function invalidSecret(message: string): AppError {
  return new AppError('invalid', `The client secret ${message}.`, { errors: [{ pointer: '/clientSecret', message }] })
}
