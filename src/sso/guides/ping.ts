import { place, type ProviderGuide } from './guide.ts'

const configuration = 'Applications > Applications > your application > Configuration'

export const ping: ProviderGuide = {
  kind: 'ping',
  name: 'PingOne',
  issuerForm: 'https://auth.pingone.com/ENVIRONMENT-ID/as (or .eu, .ca, .asia, .com.au)',
  paste: {
    redirectUri: place(configuration, 'Redirect URIs'),
    postLogoutRedirectUri: place(configuration, 'Signoff URLs'),
    initiateLoginUri: place(configuration, 'Initiate Login URI'),
    jwksUri: place(`${configuration} > Token Endpoint Authentication Method: Private Key JWT`, 'JWKS URL'),
  },
  copy: {
    issuer: place(`${configuration} > URLs`, 'Issuer'),
    clientId: place(configuration, 'Client ID'),
    clientSecret: place(configuration, 'Client Secret'),
  },
  signInSteps: [
    'Open **Applications > Applications > Add** and choose **OIDC Web App**.',
    'On **Configuration**, enter the `redirectUri` under **Redirect URIs** and the `postLogoutRedirectUri` under **Signoff URLs**.',
    'On **Resources**, add the scopes `email` and `profile`. Copy **Issuer**, **Client ID** and **Client Secret** from **Configuration**. The issuer is `https://auth.pingone.com/ENVIRONMENT-ID/as`.',
  ],
  directorySteps: [
    'Open **Integrations > Provisioning > New Connection > Identity Store** and choose **SCIM Outbound**.',
    'Enter the `scimEndpoint` as **SCIM BASE URL**, choose **SCIM Version 2.0** and **OAuth 2 Bearer Token**, and enter the directory token. Click **Test Connection**.',
    'Add a **Rule** that selects the people, and under **Group Provisioning** the groups that you map.',
  ],
  notes: [
    'A new application has only the scope openid.',
    'Generate New Secret leaves the previous secret valid until Revoke Previous Client Secret. Add the new one here in between.',
  ],
}
