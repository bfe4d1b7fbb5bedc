import type { ProviderMetadata } from '../../oidc/provider.ts'

/** Identity providers that this service has something to say about. */
export const providerKinds = [
  'okta',
  'entra',
  'google',
  'auth0',
  'onelogin',
  'jumpcloud',
  'ping',
  'keycloak',
  'authentik',
  'generic',
] as const

export type ProviderKind = (typeof providerKinds)[number]

/** What an admin pastes at the provider. */
export type PastedUri =
  'redirectUri' | 'postLogoutRedirectUri' | 'initiateLoginUri' | 'backchannelLogoutUri' | 'jwksUri'

/** What an admin copies from the provider. */
export type CopiedSetting = 'issuer' | 'clientId' | 'clientSecret'

/** Where something stands in the provider's own pages. */
export interface Place {
  screen: string
  field: string
  /** For the initiateLoginUri: the tile there is a plain link, which does not say `iss` by itself (Core §4 wants it). */
  isPlainLink?: boolean
}

export interface ProviderGuide {
  kind: ProviderKind
  name: string
  /** How the issuer looks there. */
  issuerForm: string
  /** Only what the provider has a field for. */
  paste: Partial<Record<PastedUri, Place>>
  copy: Record<CopiedSetting, Place>
  /** What to know before the first sign-in. */
  limits: string[]
}

/**
 * The guide to a provider, told by its issuer and, for providers under a customer's own domain, by the shape of its
 * endpoints. Screens and fields are named as in the vendors' documentation of November 2026.
 */
export function guideTo(issuer: string | undefined, metadata?: ProviderMetadata): ProviderGuide {
  return guides[issuer === undefined ? 'generic' : providerKind(issuer, metadata)]
}

/** Whose issuer it is, as far as it shows. */
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

const place = (screen: string, field: string): Place => ({ screen, field })
const link = (screen: string, field: string): Place => ({ screen, field, isPlainLink: true })

const guides: Record<ProviderKind, ProviderGuide> = {
  okta: {
    kind: 'okta',
    name: 'Okta',
    issuerForm: "https://YOUR-ORG.okta.com, or the org's custom domain",
    paste: {
      redirectUri: place('Applications > Applications > your application > General', 'Sign-in redirect URIs'),
      postLogoutRedirectUri: place(
        'Applications > Applications > your application > General',
        'Sign-out redirect URIs',
      ),
      initiateLoginUri: place(
        'Applications > Applications > your application > General > Login',
        'Initiate login URI (Login initiated by: Either Okta or App)',
      ),
      jwksUri: place(
        'Applications > Applications > your application > General > Client Credentials > Public key / Private key',
        'Use a URL to fetch keys dynamically',
      ),
    },
    copy: {
      issuer: place('The address of the Admin Console without -admin', 'Okta domain'),
      clientId: place('Applications > Applications > your application > General', 'Client ID'),
      clientSecret: place('Applications > Applications > your application > General', 'Client secret'),
    },
    limits: [
      "Use the org's own issuer, not that of an authorization server under /oauth2/.",
      'Set externalIdClaim to sub: over SCIM Okta sends the same id as externalId.',
      'Directory sync needs an application of its own: custom OpenID Connect applications have no SCIM.',
      'Okta tells of a sign-out through the browser only (front channel), not by logout tokens: deactivation ends sessions at once, a sign-out there does not.',
    ],
  },
  entra: {
    kind: 'entra',
    name: 'Microsoft Entra ID',
    issuerForm: 'https://login.microsoftonline.com/TENANT-ID/v2.0',
    paste: {
      redirectUri: place('App registrations > your application > Authentication > Web', 'Redirect URIs'),
      postLogoutRedirectUri: place('App registrations > your application > Authentication > Web', 'Redirect URIs'),
      initiateLoginUri: link('App registrations > your application > Branding & properties', 'Home page URL'),
    },
    copy: {
      issuer: place('App registrations > your application > Overview', 'Directory (tenant) ID'),
      clientId: place('App registrations > your application > Overview', 'Application (client) ID'),
      clientSecret: place('App registrations > your application > Certificates & secrets', 'Value, not Secret ID'),
    },
    limits: [
      'Entra does not say whether an address is verified: list the domains in allowedDomains, or members are not found by it.',
      'Admins and owners are never linked by an unverified address: link them by a sign-in test, or set externalIdClaim to oid.',
      'Add the optional claim email under Token configuration: without it there is no address at all.',
      'Client secrets end after two years at most: enter clientSecretExpiresAt, and this service reminds you.',
      'Entra takes uploaded certificates, not keys from a URL: use a client secret, not private_key_jwt.',
      'Entra tells of a sign-out through the browser only (front channel), not by logout tokens: deactivation ends sessions at once, a sign-out there does not.',
      'sub differs for each app registration. With externalIdClaim oid, a new registration finds everybody again.',
    ],
  },
  google: {
    kind: 'google',
    name: 'Google Workspace',
    issuerForm: 'https://accounts.google.com',
    paste: {
      redirectUri: place('Google Auth Platform > Clients > your client', 'Authorized redirect URIs'),
    },
    copy: {
      issuer: place('The same for everybody', 'https://accounts.google.com'),
      clientId: place('Google Auth Platform > Clients > your client', 'Client ID'),
      clientSecret: place('Google Auth Platform > Clients > your client', 'Client secret'),
    },
    limits: [
      'The issuer serves everybody with a Google account: allowedDomains is compulsory, and only accounts managed for one of these domains (hd) are let in.',
      'Choose Internal under Google Auth Platform > Audience.',
      'The client secret is shown once, when it is made.',
      'Google has no claim for groups: roles are given by hand.',
      'Google has no sign-out for applications, neither in the browser nor behind it.',
      'Google Workspace has no directory sync to an endpoint of your own: use autoProvision.',
    ],
  },
  auth0: {
    kind: 'auth0',
    name: 'Auth0',
    issuerForm: 'https://YOUR-DOMAIN/, with the slash',
    paste: {
      redirectUri: place('Applications > Applications > your application > Settings', 'Allowed Callback URLs'),
      postLogoutRedirectUri: place('Applications > Applications > your application > Settings', 'Allowed Logout URLs'),
      initiateLoginUri: place('Applications > Applications > your application > Settings', 'Application Login URI'),
      backchannelLogoutUri: place(
        'Applications > Applications > your application > Settings > OpenID Connect Back-Channel Logout',
        'Back-Channel Logout URI',
      ),
    },
    copy: {
      issuer: place('Applications > Applications > your application > Settings', 'Domain'),
      clientId: place('Applications > Applications > your application > Settings', 'Client ID'),
      clientSecret: place('Applications > Applications > your application > Settings', 'Client Secret'),
    },
    limits: [
      'Back-channel logout is a part of the Enterprise plan.',
      'Keys for private_key_jwt are uploaded one by one, not fetched from a URL.',
      'Auth0 has no directory sync among its settings; an event stream can send users, not groups.',
    ],
  },
  onelogin: {
    kind: 'onelogin',
    name: 'OneLogin',
    issuerForm: 'https://YOUR-SUBDOMAIN.onelogin.com/oidc/2',
    paste: {
      redirectUri: place('Applications > your application > Configuration', "Redirect URI's"),
      postLogoutRedirectUri: place('Applications > your application > Configuration', 'Post Logout Redirect URIs'),
      initiateLoginUri: link('Applications > your application > Configuration', 'Login Url'),
    },
    copy: {
      issuer: place('Applications > your application > SSO', 'Issuer URL'),
      clientId: place('Applications > your application > SSO', 'Client ID'),
      clientSecret: place('Applications > your application > SSO', 'Show client secret'),
    },
    limits: [
      'A changed redirect URI takes up to ten minutes there.',
      'Token Endpoint > Authentication Method must be Basic or POST, as tokenAuthMethod says; None (PKCE) has no secret.',
    ],
  },
  jumpcloud: {
    kind: 'jumpcloud',
    name: 'JumpCloud',
    issuerForm: 'https://oauth.id.jumpcloud.com/, with the slash (another host outside of the US region)',
    paste: {
      redirectUri: place('SSO Applications > your application > SSO > Endpoint Configuration', 'Redirect URIs'),
      initiateLoginUri: link('SSO Applications > your application > SSO > Endpoint Configuration', 'Login URL'),
    },
    copy: {
      issuer: place('The same for everybody in a region', 'https://oauth.id.jumpcloud.com/'),
      clientId: place('Shown once when the application is activated', 'Client ID'),
      clientSecret: place('Shown once when the application is activated', 'Client Secret'),
    },
    limits: [
      'Client Authentication Type must be Client Secret Basic or Client Secret POST, as tokenAuthMethod says.',
      'Tick Email and Profile under Attribute Mapping > Standard Scopes: otherwise there is no address.',
      'One issuer serves all customers of JumpCloud; the client id ties a sign-in to your organization.',
    ],
  },
  ping: {
    kind: 'ping',
    name: 'PingOne',
    issuerForm: 'https://auth.pingone.com/ENVIRONMENT-ID/as (or .eu, .ca, .asia, .com.au)',
    paste: {
      redirectUri: place('Applications > Applications > your application > Configuration', 'Redirect URIs'),
      postLogoutRedirectUri: place('Applications > Applications > your application > Configuration', 'Signoff URLs'),
      initiateLoginUri: place('Applications > Applications > your application > Configuration', 'Initiate Login URI'),
      jwksUri: place(
        'Applications > Applications > your application > Configuration > Token Endpoint Authentication Method: Private Key JWT',
        'JWKS URL',
      ),
    },
    copy: {
      issuer: place('Applications > Applications > your application > Configuration > URLs', 'Issuer'),
      clientId: place('Applications > Applications > your application > Configuration', 'Client ID'),
      clientSecret: place('Applications > Applications > your application > Configuration', 'Client Secret'),
    },
    limits: [
      'Add the scopes email and profile under Resources: a new application has openid alone.',
      'Generate New Secret leaves the one before valid until Revoke Previous Client Secret: add the new one here in between.',
    ],
  },
  keycloak: {
    kind: 'keycloak',
    name: 'Keycloak',
    issuerForm: 'https://YOUR-HOST/realms/REALM (before version 17: /auth/realms/REALM)',
    paste: {
      redirectUri: place('Clients > your client > Settings', 'Valid redirect URIs'),
      postLogoutRedirectUri: place('Clients > your client > Settings', 'Valid post logout redirect URIs'),
      initiateLoginUri: link('Clients > your client > Settings', 'Home URL'),
      backchannelLogoutUri: place(
        'Clients > your client > Settings > Logout settings',
        'Backchannel logout URL (Front channel logout: Off)',
      ),
      jwksUri: place('Clients > your client > Keys (Credentials > Client Authenticator: Signed Jwt)', 'JWKS URL'),
    },
    copy: {
      issuer: place('Realm settings > General > Endpoints > OpenID Endpoint Configuration', 'issuer'),
      clientId: place('Clients > your client > Settings', 'Client ID'),
      clientSecret: place('Clients > your client > Credentials', 'Client Secret'),
    },
    limits: [
      'Client authentication must be on: without it there is no secret.',
      'The issuer is the public address (hostname in the configuration), also where this service reaches it by another.',
      'email_verified is false until somebody verifies the address: tick Email verified, or set trustUnverifiedEmail if nobody can edit their own.',
    ],
  },
  authentik: {
    kind: 'authentik',
    name: 'authentik',
    issuerForm: 'https://YOUR-HOST/application/o/APPLICATION-SLUG/, with the slash',
    paste: {
      redirectUri: place('Applications > Providers > your provider', 'Redirect URIs/Origins'),
      initiateLoginUri: link('Applications > Applications > your application', 'Launch URL'),
      backchannelLogoutUri: place(
        'Applications > Providers > your provider',
        'Logout URI (Logout method: Back-channel)',
      ),
    },
    copy: {
      issuer: place('Applications > Providers > your provider', 'OpenID Configuration Issuer'),
      clientId: place('Applications > Providers > your provider', 'Client ID'),
      clientSecret: place('Applications > Providers > your provider', 'Client Secret'),
    },
    limits: [
      'Choose a Signing Key: without one, ID tokens are signed with the client secret and are refused.',
      'email_verified is false for everybody unless a scope mapping of your own says otherwise.',
    ],
  },
  generic: {
    kind: 'generic',
    name: 'OpenID Provider',
    issuerForm: 'The issuer of its discovery document, character by character',
    paste: {
      redirectUri: place('Where the client is registered', 'redirect_uris'),
      postLogoutRedirectUri: place('Where the client is registered', 'post_logout_redirect_uris'),
      initiateLoginUri: place('Where the client is registered', 'initiate_login_uri'),
      backchannelLogoutUri: place('Where the client is registered', 'backchannel_logout_uri'),
      jwksUri: place('Where the client is registered', 'jwks_uri, for private_key_jwt'),
    },
    copy: {
      issuer: place('ISSUER/.well-known/openid-configuration', 'issuer'),
      clientId: place('Where the client is registered', 'client_id'),
      clientSecret: place('Where the client is registered', 'client_secret'),
    },
    limits: [
      'The provider needs the authorization code flow, discovery, and ID tokens signed with a published key.',
      'It has to send an e-mail address, in the ID token or from UserInfo, and email_verified true with it.',
    ],
  },
}
