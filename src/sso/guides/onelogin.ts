import { place, plainLink, type ProviderGuide } from './guide.ts'

const configuration = 'Applications > your application > Configuration'

export const onelogin: ProviderGuide = {
  kind: 'onelogin',
  name: 'OneLogin',
  issuerForm: 'https://YOUR-SUBDOMAIN.onelogin.com/oidc/2',
  paste: {
    redirectUri: place(configuration, "Redirect URI's"),
    postLogoutRedirectUri: place(configuration, 'Post Logout Redirect URIs'),
    initiateLoginUri: plainLink(configuration, 'Login Url'),
  },
  copy: {
    issuer: place('Applications > your application > SSO', 'Issuer URL'),
    clientId: place('Applications > your application > SSO', 'Client ID'),
    clientSecret: place('Applications > your application > SSO', 'Show client secret'),
  },
  signInSteps: [
    'Add the application **OpenId Connect (OIDC)** under **Applications > Add App**.',
    "On **Configuration**, enter the `redirectUri` under **Redirect URI's** and the `postLogoutRedirectUri` under **Post Logout Redirect URIs**.",
    'On **SSO**, set **Token Endpoint > Authentication Method** to **Basic** or **POST**. Copy **Issuer URL**, **Client ID** and the secret behind **Show client secret**. The issuer is `https://YOUR-SUBDOMAIN.onelogin.com/oidc/2`.',
  ],
  directorySteps: [
    'Add the application **SCIM Provisioner with SAML (SCIM v2 Enterprise)** under **Applications > Add App**.',
    'On **Configuration**, enter the `scimEndpoint` as **SCIM Base URL** and the directory token as **SCIM Bearer Token**. Click **Enable** under **API Connection**.',
    'On **Provisioning**, check **Enable provisioning**. On **Parameters**, include **Groups** in user provisioning.',
  ],
  notes: [
    'A changed redirect URI takes effect after up to ten minutes.',
    'The authentication method None (PKCE) has no secret and cannot be used.',
  ],
}
