import { place, plainLink, type ProviderGuide } from './guide.ts'

const provider = 'Applications > Providers > your provider'

export const authentik: ProviderGuide = {
  kind: 'authentik',
  name: 'authentik',
  issuerForm: 'https://YOUR-HOST/application/o/APPLICATION-SLUG/, with the slash',
  paste: {
    redirectUri: place(provider, 'Redirect URIs/Origins'),
    initiateLoginUri: plainLink('Applications > Applications > your application', 'Launch URL'),
    backchannelLogoutUri: place(provider, 'Logout URI (Logout method: Back-channel)'),
  },
  copy: {
    issuer: place(provider, 'OpenID Configuration Issuer'),
    clientId: place(provider, 'Client ID'),
    clientSecret: place(provider, 'Client Secret'),
  },
  signInSteps: [
    'Open **Applications > Applications > Create with Provider** and choose **OAuth2/OpenID Provider** with the client type **Confidential**.',
    'Enter the `redirectUri` under **Redirect URIs/Origins** and choose a **Signing Key**.',
    'Copy **Client ID**, **Client Secret** and **OpenID Configuration Issuer**. The issuer is `https://YOUR-HOST/application/o/APPLICATION-SLUG/`.',
  ],
  directorySteps: [
    'Open **Applications > Providers > Create > SCIM Provider**. Enter the `scimEndpoint` as **URL** and the directory token as **Token**.',
    'Open your application and add the SCIM provider under **Backchannel Providers**.',
  ],
  notes: [
    'Without a Signing Key, authentik signs ID tokens with the client secret. Such tokens are refused.',
    'email_verified is false for every user unless a custom scope mapping says otherwise.',
  ],
}
