import { place, plainLink, type ProviderGuide } from './guide.ts'

const settings = 'Clients > your client > Settings'

export const keycloak: ProviderGuide = {
  kind: 'keycloak',
  name: 'Keycloak',
  issuerForm: 'https://YOUR-HOST/realms/REALM (before version 17: /auth/realms/REALM)',
  paste: {
    redirectUri: place(settings, 'Valid redirect URIs'),
    postLogoutRedirectUri: place(settings, 'Valid post logout redirect URIs'),
    initiateLoginUri: plainLink(settings, 'Home URL'),
    backchannelLogoutUri: place(`${settings} > Logout settings`, 'Backchannel logout URL (Front channel logout: Off)'),
    jwksUri: place('Clients > your client > Keys (Credentials > Client Authenticator: Signed Jwt)', 'JWKS URL'),
  },
  copy: {
    issuer: place('Realm settings > General > Endpoints > OpenID Endpoint Configuration', 'issuer'),
    clientId: place(settings, 'Client ID'),
    clientSecret: place('Clients > your client > Credentials', 'Client Secret'),
  },
  signInSteps: [
    'Open **Clients > Create client**, choose the type **OpenID Connect** and enter a **Client ID**. Turn **Client authentication** on and leave only **Standard flow** checked.',
    'On **Settings**, enter the `redirectUri` under **Valid redirect URIs** and the `postLogoutRedirectUri` under **Valid post logout redirect URIs**. Under **Logout settings**, turn **Front channel logout** off and enter the `backchannelLogoutUri` as **Backchannel logout URL**.',
    'Copy the **Client Secret** from **Credentials**. The issuer is `https://YOUR-HOST/realms/REALM`.',
  ],
  directorySteps: [],
  notes: [
    'Without client authentication there is no secret.',
    'The issuer is the public address (hostname in the configuration), even where this service reaches Keycloak by another.',
    'email_verified is false until the address is verified: check Email verified, or set trustUnverifiedEmail if people cannot edit their own address.',
    'Keycloak has no built-in SCIM client. Use autoProvision, or an extension that sends SCIM.',
  ],
}
