import { place, type ProviderGuide } from './guide.ts'

const settings = 'Applications > Applications > your application > Settings'

export const auth0: ProviderGuide = {
  kind: 'auth0',
  name: 'Auth0',
  issuerForm: 'https://YOUR-DOMAIN/, with the slash',
  paste: {
    redirectUri: place(settings, 'Allowed Callback URLs'),
    postLogoutRedirectUri: place(settings, 'Allowed Logout URLs'),
    initiateLoginUri: place(settings, 'Application Login URI'),
    backchannelLogoutUri: place(`${settings} > OpenID Connect Back-Channel Logout`, 'Back-Channel Logout URI'),
  },
  copy: {
    issuer: place(settings, 'Domain'),
    clientId: place(settings, 'Client ID'),
    clientSecret: place(settings, 'Client Secret'),
  },
  signInSteps: [
    'In the Auth0 Dashboard, open **Applications > Applications > Create Application** and choose **Regular Web Applications**.',
    'On **Settings**, copy **Domain**, **Client ID** and **Client Secret**. Enter the `redirectUri` under **Allowed Callback URLs** and the `postLogoutRedirectUri` under **Allowed Logout URLs**. Click **Save Changes**.',
    'The issuer is `https://YOUR-DOMAIN/`.',
  ],
  directorySteps: [
    "Auth0 has no SCIM client among its settings. An event stream can send users: create its Action from Auth0's outbound SCIM template.",
    'Set the secrets `SCIM_BASE_URL` to the `scimEndpoint` and `SCIM_BEARER_TOKEN` to the directory token.',
    "Set `externalIdClaim` to `sub`, because the template sends Auth0's user id as `externalId`. The template sends no groups, so give roles by hand.",
  ],
  notes: [
    'Back-channel logout is part of the Enterprise plan.',
    'Auth0 accepts uploaded keys for private_key_jwt but does not fetch them from a URL.',
  ],
}
