import { getPublicSuffix } from 'tldts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { parseDomain } from '../../members/email.ts'
import { isSharedIssuer } from '../../oidc/issuer.ts'
import { findForeignDomains } from '../../workspaces/domains.ts'

/**
 * The domains as an admin typed them, in the one spelling that addresses are compared by: lower-case ASCII (IDNA), without
 * a leading @, each once.
 * @throws {AppError} `sso_domain_invalid`, with each faulty entry
 */
export function parseAllowedDomains(entries: readonly string[]): string[] {
  const domains = entries.map(entry => parseDomain(entry.trim().replace(/^@/, '')))
  const errors = domains.flatMap((domain, index) => {
    const fault = domain === undefined ? 'is not a domain such as example.com' : publicSuffixFault(domain)
    const message = fault && `${shorten(entries[index] ?? '')} ${fault}`
    return message === undefined ? [] : [{ pointer: `/allowedDomains/${index}`, message }]
  })
  if (errors.length > 0) {
    throw new AppError(
      'sso_domain_invalid',
      `${errors[0]?.message}. Give domains alone, without https:// or *; list each subdomain by itself.`,
      { errors },
    )
  }
  return [...new Set(domains as string[])]
}

/** Why a domain cannot belong to one organization: it is a public suffix such as co.uk, under which anyone registers names. */
export function publicSuffixFault(domain: string): string | undefined {
  const suffix = getPublicSuffix(domain, { allowPrivateDomains: true })
  return suffix === domain ? 'is a public suffix under which anyone can register a domain' : undefined
}

function shorten(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}

export interface DomainRules {
  sharedIssuers: readonly string[]
  webmailDomains: readonly string[]
}

/**
 * Checks that the domains keep strangers out: anyone can have an address at a web-mail domain, and an issuer that signs in everyone needs the list to
 * say who belongs to the workspace.
 * @throws {AppError} `sso_domain_required`, `sso_domain_invalid`
 */
export function checkDomainsFit(issuer: string, domains: readonly string[], rules: DomainRules): void {
  const webmail = domains.find(domain => rules.webmailDomains.includes(domain))
  if (webmail !== undefined) {
    throw new AppError(
      'sso_domain_invalid',
      `Anyone can have an address at ${webmail}, so it would let everyone in. List only domains of your organization.`,
      { errors: [{ pointer: '/allowedDomains', message: `${webmail} is a web-mail domain` }] },
    )
  }
  if (domains.length > 0 || !isSharedIssuer(issuer, rules.sharedIssuers)) return
  throw new AppError(
    'sso_domain_required',
    `${issuer} signs in people of every organization. List the e-mail domains of yours in allowedDomains.`,
  )
}

/** @throws {AppError} `sso_domain_unverified` where another workspace has proved to own one of them */
export async function checkDomainsFree(db: Db, workspaceId: string, domains: string[]): Promise<void> {
  const foreign = await findForeignDomains(db, workspaceId, domains)
  if (foreign.length === 0) return
  throw new AppError(
    'sso_domain_unverified',
    `${foreign.join(', ')} belongs to another workspace. Leave it out, or have the operator of this service move it to yours.`,
  )
}
