import { place, type ProviderGuide } from './guide.ts'

const general = 'Applications > Applications > your application > General'

export const okta: ProviderGuide = {
  kind: 'okta',
  name: 'Okta',
  issuerForm: "https://YOUR-ORG.okta.com, or the org's custom domain",
  paste: {
    redirectUri: place(general, 'Sign-in redirect URIs'),
    postLogoutRedirectUri: place(general, 'Sign-out redirect URIs'),
    initiateLoginUri: place(`${general} > Login`, 'Initiate login URI (Login initiated by: Either Okta or App)'),
    jwksUri: place(`${general} > Client Credentials > Public key / Private key`, 'Use a URL to fetch keys dynamically'),
  },
  copy: {
    issuer: place('The address of the Admin Console without -admin', 'Okta domain'),
    clientId: place(general, 'Client ID'),
    clientSecret: place(general, 'Client secret'),
  },
  signInSteps: [
    'In the Admin Console, open **Applications > Applications > Create App Integration**. Choose **OIDC - OpenID Connect** and **Web Application**.',
    'Enter the `redirectUri` under **Sign-in redirect URIs** and the `postLogoutRedirectUri` under **Sign-out redirect URIs**. Choose under **Assignments** who may sign in, then **Save**.',
    'On **General**, copy **Client ID** and **Client secret**. Use the org itself as issuer: `https://YOUR-ORG.okta.com`.',
    'Set `externalIdClaim` to `sub`. Okta sends the same id as `externalId` over SCIM, so people are matched by an id that never changes.',
  ],
  directorySteps: [
    'Create a separate application, because custom OpenID Connect applications have no SCIM: **Applications > Browse App Catalog > SCIM 2.0 Test App (OAuth Bearer Token) > Add Integration**.',
    'Open **Provisioning > Configure API Integration > Enable API Integration**. Enter the `scimEndpoint` as **SCIM 2.0 Base Url** and the directory token as **OAuth Bearer Token**. Click **Test API Credentials**, then **Save**.',
    'Under **Provisioning > To App > Edit**, enable **Create Users**, **Update User Attributes** and **Deactivate Users**.',
    'Assign people under **Assignments**. Choose the groups that you map under **Push Groups**.',
  ],
  notes: [
    "Use the org's own issuer, not an authorization server under /oauth2/.",
    'Okta reports a sign-out only through the browser (front channel) and sends no logout tokens. Signing out of Okta does not end sessions here; deactivating a person in Okta does.',
  ],
}
