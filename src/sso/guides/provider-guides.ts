import type { ProviderMetadata } from '../../oidc/provider.ts'
import { auth0 } from './auth0.ts'
import { authentik } from './authentik.ts'
import { entra } from './entra.ts'
import { generic } from './generic.ts'
import { google } from './google.ts'
import type { ProviderGuide, ProviderKind } from './guide.ts'
import { jumpcloud } from './jumpcloud.ts'
import { keycloak } from './keycloak.ts'
import { okta } from './okta.ts'
import { onelogin } from './onelogin.ts'
import { ping } from './ping.ts'

/** One guide per provider. Screens and fields are named as in the vendors' documentation of November 2026. */
export const guides: Record<ProviderKind, ProviderGuide> = {
  okta,
  entra,
  google,
  auth0,
  onelogin,
  jumpcloud,
  ping,
  keycloak,
  authentik,
  generic,
}

/** Returns the guide for a provider; without an issuer, the generic one. */
export function guideTo(issuer: string | undefined, metadata?: ProviderMetadata): ProviderGuide {
  return guides[issuer === undefined ? 'generic' : providerKind(issuer, metadata)]
}

/**
 * Recognises a provider by its issuer. A provider behind a customer's own domain is recognised by the path of its
 * authorization endpoint.
 */
export function providerKind(issuer: string, metadata?: ProviderMetadata): ProviderKind {
  const url = URL.parse(issuer)
  if (!url) return 'generic'
  const authorization = URL.parse(metadata?.authorization_endpoint ?? '')?.pathname ?? ''
  const { hostname, pathname } = url
  return (
    signs.find(({ host, path, endpoint }) => {
      return host?.test(hostname) || path?.test(pathname) || endpoint?.test(authorization)
    })?.kind ?? 'generic'
  )
}

/** A pattern of an issuer's host or path, or of the path of the authorization endpoint. */
interface Sign {
  kind: ProviderKind
  host?: RegExp
  path?: RegExp
  endpoint?: RegExp
}

const signs: Sign[] = [
  {
    kind: 'okta',
    host: /\.(okta|oktapreview|okta-emea|okta-gov)\.com$/,
    endpoint: /^\/oauth2\/(\w+\/)?v1\/authorize$/,
  },
  {
    kind: 'entra',
    host: /^(login\.microsoftonline\.(com|us)|login\.partner\.microsoftonline\.cn|sts\.windows\.net)$/,
  },
  { kind: 'google', host: /^accounts\.google\.com$/ },
  { kind: 'auth0', host: /\.auth0\.com$/ },
  { kind: 'onelogin', host: /\.onelogin\.com$/ },
  { kind: 'jumpcloud', host: /^oauth\.id\.(\w+\.)?jumpcloud\.com$/ },
  { kind: 'ping', host: /^auth\.pingone\.(com|eu|asia|ca|com\.au|sg)$|\.pingidentity\.com$/ },
  { kind: 'keycloak', path: /\/realms\/[^/]+\/?$/, endpoint: /\/protocol\/openid-connect\/auth$/ },
  { kind: 'authentik', path: /^\/application\/o\/[^/]+\/?$/, endpoint: /^\/application\/o\/authorize\/$/ },
]
