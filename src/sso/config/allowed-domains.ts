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
  const errors = domains.flatMap((domain, index) =>
    domain === undefined
      ? [
          {
            pointer: `/allowedDomains/${index}`,
            message: `${shorten(entries[index] ?? '')} is not a domain such as example.com`,
          },
        ]
      : [],
  )
  if (errors.length > 0) {
    throw new AppError(
      'sso_domain_invalid',
      `${errors[0]?.message}. Give domains alone, without https:// or *; list each subdomain by itself.`,
      { errors },
    )
  }
  return [...new Set(domains as string[])]
}

function shorten(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}

export interface DomainRules {
  sharedIssuers: readonly string[]
  webmailDomains: readonly string[]
}

/**
 * Refuses domains that cannot keep strangers out: an issuer that serves many customers signs in whoever has an account
 * there, so only the list says who belongs to the workspace, and everybody can have an address at a web-mail provider.
 * @throws {AppError} `sso_domain_required`, `sso_domain_invalid`
 */
export function checkDomainsFit(issuer: string, domains: readonly string[], rules: DomainRules): void {
  if (!isSharedIssuer(issuer, rules.sharedIssuers)) return
  if (domains.length === 0) {
    throw new AppError(
      'sso_domain_required',
      `${issuer} signs in people of every organization. List the e-mail domains of your own in allowedDomains.`,
    )
  }
  const webmail = domains.find(domain => rules.webmailDomains.includes(domain))
  if (webmail === undefined) return
  throw new AppError(
    'sso_domain_invalid',
    `Anybody can have an address at ${webmail}: with ${issuer} it would let everybody in. List domains of your own only.`,
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
