import { place, type ProviderGuide } from './guide.ts'

const registration = 'The registration of the client'

/** For all other providers: fields by the names of the specifications. */
export const generic: ProviderGuide = {
  kind: 'generic',
  name: 'OpenID Provider',
  issuerForm: 'The issuer of its discovery document, character by character',
  paste: {
    redirectUri: place(registration, 'redirect_uris'),
    postLogoutRedirectUri: place(registration, 'post_logout_redirect_uris'),
    initiateLoginUri: place(registration, 'initiate_login_uri'),
    backchannelLogoutUri: place(registration, 'backchannel_logout_uri'),
    jwksUri: place(registration, 'jwks_uri, for private_key_jwt'),
  },
  copy: {
    issuer: place('ISSUER/.well-known/openid-configuration', 'issuer'),
    clientId: place(registration, 'client_id'),
    clientSecret: place(registration, 'client_secret'),
  },
  signInSteps: [
    'Register a confidential client for the authorization code flow. Enter the `redirectUri` as **redirect_uris** and the `postLogoutRedirectUri` as **post_logout_redirect_uris**.',
    'Copy **client_id** and **client_secret**. The issuer is the value of `issuer` in the discovery document, character by character.',
  ],
  directorySteps: [
    'Enter the `scimEndpoint` as the base URL of a SCIM 2.0 client and the directory token as its bearer token.',
    'Let the client send users first, then groups.',
  ],
  notes: [
    'The provider has to support discovery and the authorization code flow, and sign ID tokens with a published key.',
    'The ID token or UserInfo has to contain an e-mail address with email_verified true.',
  ],
}
