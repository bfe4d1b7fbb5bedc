import { place, type ProviderGuide } from './guide.ts'

const client = 'Google Auth Platform > Clients > your client'

export const google: ProviderGuide = {
  kind: 'google',
  name: 'Google Workspace',
  issuerForm: 'https://accounts.google.com',
  paste: {
    redirectUri: place(client, 'Authorized redirect URIs'),
  },
  copy: {
    issuer: place('The same for every customer', 'https://accounts.google.com'),
    clientId: place(client, 'Client ID'),
    clientSecret: place(client, 'Client secret'),
  },
  signInSteps: [
    'In the Google Cloud console, open **Google Auth Platform > Audience** and choose the user type **Internal**.',
    'Open **Clients > Create client > Web application** and enter the `redirectUri` under **Authorized redirect URIs**. Copy **Client ID** and **Client secret**. Google shows the secret once.',
    'The issuer is `https://accounts.google.com`. It serves every Google account, so `allowedDomains` is required. Only accounts that Google manages for one of these domains (the claim `hd`) can sign in.',
  ],
  directorySteps: [],
  notes: [
    'The issuer serves every Google account. allowedDomains is required, and only accounts managed for one of these domains (hd) can sign in.',
    'Google has no claim for groups. Give roles by hand.',
    'Google has no sign-out for applications, neither front-channel nor back-channel.',
    'Google Workspace cannot sync a directory to an endpoint of yours: its automatic provisioning is limited to applications in its catalogue. Use autoProvision, and deactivate members who leave.',
    'A person whom Google no longer signs in keeps an existing session until it ends. The sign-in policy sets how long that is.',
  ],
}
