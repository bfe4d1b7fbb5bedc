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
 * invisible characters, no quoting, comment, list or encoded word (each can make two readers see two addresses), no letter
 * that only folding makes an ASCII one (the Kelvin sign), at most 254 characters (RFC 5321 section 4.5.3.1), a domain that
 * IDNA can express in ASCII.
 * @returns undefined for anything else
 */
export function parseEmail(text: string): Email | undefined {
  const parts = text.split('@')
  const [local, host] = parts
  if (parts.length !== 2 || !local || !host || text.length > 254) return undefined
  if (/[\s\p{Cc}\p{Cf}\p{Cs}"(),:;<>[\]\\]/u.test(text) || local.startsWith('=?')) return undefined
  const folded = local.normalize('NFC').toLowerCase()
  const domain = parseDomain(host)
  if (domain === undefined || (isAscii(folded) && !isAscii(local))) return undefined
  return { text, key: `${folded}@${domain}`, domain }
}

function isAscii(text: string): boolean {
  return /^\p{ASCII}*$/u.test(text)
}

/**
 * A DNS name in lower-case ASCII, or undefined for what is none: a name has two labels at least. Only letters, digits,
 * hyphens and dots can be meant: Node's conversion reads a host as URLs have it, drops a path and decodes `%2e`. Nor are
 * compatibility forms, such as full-width letters, another spelling of a name (RFC 5892 section 2.2).
 */
export function parseDomain(text: string): string | undefined {
  if (!/^[\p{L}\p{N}\p{M}.-]+$/u.test(text) || text.normalize('NFKC') !== text.normalize('NFC')) return undefined
  const ascii = domainToASCII(text).toLowerCase()
  const label = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/
  const labels = ascii.split('.')
  const isName = labels.length >= 2 && ascii.length <= 253 && labels.every(each => label.test(each))
  // A last label of digits alone is an IPv4 address to URL parsers.
  return isName && !/^\d+$/.test(labels.at(-1) ?? '') ? ascii : undefined
}
