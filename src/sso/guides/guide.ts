/** Identity providers for which this service has a setup guide. */
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

/** A URI that an admin registers at the provider. */
export type RegisteredUri =
  'redirectUri' | 'postLogoutRedirectUri' | 'initiateLoginUri' | 'backchannelLogoutUri' | 'jwksUri'

/** A value that an admin copies from the provider. */
export type CopiedSetting = 'issuer' | 'clientId' | 'clientSecret'

/** A field in the provider's admin console. */
export interface Place {
  screen: string
  field: string
  /** The provider opens this URL without adding `iss` (OpenID Connect Core §4), so the URL has to contain it. */
  isPlainLink?: boolean
}

/** How to connect one provider, in the words of the provider's admin console. */
export interface ProviderGuide {
  kind: ProviderKind
  name: string
  /** What an issuer of this provider looks like. */
  issuerForm: string
  /** URIs to register, each with its field. A URI for which the provider has no field is absent. */
  paste: Partial<Record<RegisteredUri, Place>>
  copy: Record<CopiedSetting, Place>
  /** Steps that set up sign-in, in order, as Markdown. `redirectUri` and the like name fields of the API. */
  signInSteps: string[]
  /** Steps that set up directory sync, in order, as Markdown. Empty when the provider cannot call a SCIM endpoint. */
  directorySteps: string[]
  /** What to know before the first sign-in or sync. */
  notes: string[]
}

export function place(screen: string, field: string): Place {
  return { screen, field }
}

export function plainLink(screen: string, field: string): Place {
  return { screen, field, isPlainLink: true }
}
