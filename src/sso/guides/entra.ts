import { place, plainLink, type ProviderGuide } from './guide.ts'

const application = 'App registrations > your application'

export const entra: ProviderGuide = {
  kind: 'entra',
  name: 'Microsoft Entra ID',
  issuerForm: 'https://login.microsoftonline.com/TENANT-ID/v2.0',
  paste: {
    redirectUri: place(`${application} > Authentication > Web`, 'Redirect URIs'),
    postLogoutRedirectUri: place(`${application} > Authentication > Web`, 'Redirect URIs'),
    initiateLoginUri: plainLink(`${application} > Branding & properties`, 'Home page URL'),
  },
  copy: {
    issuer: place(`${application} > Overview`, 'Directory (tenant) ID'),
    clientId: place(`${application} > Overview`, 'Application (client) ID'),
    clientSecret: place(`${application} > Certificates & secrets`, 'Value, not Secret ID'),
  },
  signInSteps: [
    'In the Entra admin center, open **App registrations > New registration** and choose **Accounts in this organizational directory only**. Under **Authentication**, add the platform **Web** and enter the `redirectUri` and the `postLogoutRedirectUri` under **Redirect URIs**.',
    'Copy **Application (client) ID** and **Directory (tenant) ID** from **Overview**. The issuer is `https://login.microsoftonline.com/TENANT-ID/v2.0`. The tenants `common` and `organizations` are refused because they would let in every Microsoft tenant.',
    'Under **Certificates & secrets > New client secret**, copy the **Value**. Entra shows it once. Enter its end as `clientSecretExpiresAt`.',
    'Under **Token configuration > Add optional claim > ID**, add `email`.',
    "List the company's domains in `allowedDomains`, because Entra does not say whether an address is verified.",
    'Set `externalIdClaim` to `oid` and map `objectId` to `externalId` as below. People are then matched by an id that never changes.',
  ],
  directorySteps: [
    "Open **Enterprise applications > New application > Create your own application** and choose **Integrate any other application you don't find in the gallery**.",
    'Open **Provisioning > New configuration**. Enter the `scimEndpoint` as **Tenant URL** and the directory token as **Secret token**. Click **Test connection**, then **Create**.',
    'Under **Attribute mapping**, for users, map `objectId` to `externalId` in place of the default. The service accepts requests with and without the `aadOptscim062020` flag.',
    'Assign people and groups under **Users and groups**. **Provision on demand** tries one of them at once. **Start provisioning** begins the sync, which repeats about every 40 minutes.',
  ],
  notes: [
    'Entra does not say whether an address is verified. Members are matched by address only when their domain is in allowedDomains.',
    'Admins and owners are never linked by an unverified address. They link their account with a sign-in test, or by externalIdClaim oid.',
    'Without the optional claim email, the ID token contains no address.',
    'Client secrets expire after at most two years. With clientSecretExpiresAt set, the activity log reminds you.',
    'Entra accepts uploaded certificates but does not fetch keys from a URL. Use a client secret, not private_key_jwt.',
    'Entra reports a sign-out only through the browser (front channel) and sends no logout tokens. Signing out of Entra does not end sessions here; deactivating a person does.',
    'sub differs between app registrations. With externalIdClaim oid, a new registration matches the same people.',
  ],
}
