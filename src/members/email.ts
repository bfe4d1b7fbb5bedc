import { domainToASCII } from 'node:url'

export interface Email {
  /** As it was given. */
  text: string
  /** Folded for comparison: local part in lower case, domain in lower-case ASCII (IDNA). */
  key: string
  domain: string
}

/**
 * Reads an e-mail address as far as this service needs to compare it: one `@`, both sides present, no blanks, control or
 * invisible characters, no quoting, comment, list or encoded word (each can make two readers see two addresses), at most
 * 254 characters (RFC 5321 section 4.5.3.1), a domain that IDNA can express in ASCII.
 * @returns undefined for anything else
 */
export function parseEmail(text: string): Email | undefined {
  const parts = text.split('@')
  const [local, host] = parts
  if (parts.length !== 2 || !local || !host || text.length > 254) return undefined
  if (/[\s\p{Cc}\p{Cf}"(),:;<>[\]\\]/u.test(text) || local.startsWith('=?')) return undefined
  const domain = parseDomain(host)
  return domain === undefined ? undefined : { text, key: `${local.normalize('NFC').toLowerCase()}@${domain}`, domain }
}

/** A DNS name in lower-case ASCII, or undefined for what is none: a name has two labels at least. */
export function parseDomain(text: string): string | undefined {
  const ascii = domainToASCII(text).toLowerCase()
  const label = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/
  const labels = ascii.split('.')
  const isName = labels.length >= 2 && ascii.length <= 253 && labels.every(each => label.test(each))
  // A last label of digits alone is an IPv4 address to URL parsers.
  return isName && !/^\d+$/.test(labels.at(-1) ?? '') ? ascii : undefined
}
