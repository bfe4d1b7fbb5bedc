import { AppError } from '../errors.ts'
import { publicIssuers } from './public-issuers.ts'

const discoveryPath = '/.well-known/openid-configuration'
/** What people paste, in place of the issuer that it begins with. */
const pastedPaths = /\/\.well-known\/(openid-configuration|oauth-authorization-server)\/?$/

/** Microsoft's sign-in hosts, of the public and the national clouds. */
const entraHosts = new Set([
  'login.microsoftonline.com',
  'login.microsoftonline.us',
  'login.partner.microsoftonline.cn',
])
const entraSharedTenants = new Set(['common', 'organizations', 'consumers'])

/**
 * Reads the issuer that an admin typed or pasted. A pasted discovery URL is reduced to its issuer; nothing else is
 * changed, because an issuer is compared character by character (Discovery 1.0 §4.3).
 * @param text at most 1000 characters
 * @throws {AppError} `sso_issuer_insecure` unless https, `sso_issuer_invalid` where Discovery 1.0 §3 is broken (query,
 *   fragment, user name), `sso_issuer_multi_tenant` for Microsoft's shared endpoints
 */
export function checkIssuer(text: string, { allowHttp }: { allowHttp: boolean }): string {
  const trimmed = text.trim()
  if (trimmed.length > 1000) throw invalid('is longer than 1000 characters')
  const url = URL.parse(trimmed)
  // A host with its port alone parses, with the host as the scheme.
  if (url === null || /^[\w.-]+:\d+(\/|$)/.test(trimmed)) {
    const meant = `https://${trimmed.replace(pastedPaths, '')}`
    throw invalid(
      `is not a URL such as ${URL.parse(meant)?.hostname.includes('.') ? meant : 'https://idp.example.com'}`,
    )
  }
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && allowHttp)) {
    const meant = trimmed.replace(/^http:/i, 'https:')
    const hint = meant === trimmed ? '' : ` Use ${meant}, if the provider calls itself so.`
    throw new AppError('sso_issuer_insecure', `The issuer must be an https URL.${hint}`)
  }
  if (/[?#]/.test(trimmed)) throw invalid('must have neither a query (?) nor a fragment (#)')
  if (url.username !== '' || url.password !== '') throw invalid('must not contain a user name or password')
  if (entraHosts.has(url.hostname) && entraSharedTenants.has(url.pathname.split('/')[1]?.toLowerCase() ?? '')) {
    throw multiTenant()
  }
  const issuer = trimmed.replace(pastedPaths, '')
  checkVendor(new URL(issuer), issuer)
  return issuer
}

/** Addresses of vendors that look like an issuer and are none: the fix is known, so no call has to fail first. */
function checkVendor({ hostname, pathname }: URL, issuer: string): void {
  const [, tenant, version] = pathname.split('/')
  if (entraHosts.has(hostname) && version !== 'v2.0') {
    throw invalid(
      `of Microsoft Entra ID ends in /v2.0: https://${hostname}/${tenant || 'YOUR-TENANT-ID'}/v2.0, with the directory ` +
        '(tenant) ID that Entra shows',
    )
  }
  const okta = /^([\w-]+?)(-admin)?\.(okta|oktapreview|okta-emea|okta-gov)\.com$/.exec(hostname)
  if (okta && (okta[2] !== undefined || /^\/(admin|app|oauth2\/v1)(\/|$)/.test(pathname))) {
    throw invalid(`is not ${issuer}, which is a page or an endpoint of Okta: use https://${okta[1]}.${okta[3]}.com`)
  }
  const [, realm] = /^(.*\/realms\/[^/]+)\/(?:account|console|protocol)(?:\/|$)/.exec(issuer) ?? []
  if (realm !== undefined) throw invalid(`is not ${issuer}, which is a page or an endpoint of Keycloak: use ${realm}`)
}

function invalid(fault: string): AppError {
  return new AppError('sso_issuer_invalid', `The issuer ${fault}.`)
}

/** An issuer that is a template for many tenants: anyone's directory could sign somebody in. */
export function multiTenant(): AppError {
  return new AppError(
    'sso_issuer_multi_tenant',
    'This endpoint serves every Microsoft tenant. Use the issuer of your own: ' +
      'https://login.microsoftonline.com/YOUR-TENANT-ID/v2.0, with the directory (tenant) ID that Entra shows.',
  )
}

/** Where the discovery document is: a terminating slash is left out of the address, not of the issuer (Discovery 1.0 §4.1). */
export function discoveryUrl(issuer: string): string {
  return issuer.replace(/\/$/, '') + discoveryPath
}

/**
 * Whether an issuer serves many customers from one set of keys, such as accounts.google.com: its word about an address
 * says nothing about which organization the person belongs to.
 */
export function isSharedIssuer(issuer: string, sharedIssuers: readonly string[]): boolean {
  return [...publicIssuers, ...sharedIssuers].some(shared => isSameIssuer(shared, issuer))
}

/** Whether two issuers have the same discovery document, whatever their trailing slash. */
export function isSameIssuer(one: string, other: string): boolean {
  return discoveryUrl(one) === discoveryUrl(other)
}
