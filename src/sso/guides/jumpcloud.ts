import { place, plainLink, type ProviderGuide } from './guide.ts'

const endpoints = 'SSO Applications > your application > SSO > Endpoint Configuration'

export const jumpcloud: ProviderGuide = {
  kind: 'jumpcloud',
  name: 'JumpCloud',
  issuerForm: 'https://oauth.id.jumpcloud.com/, with the slash (another host outside of the US region)',
  paste: {
    redirectUri: place(endpoints, 'Redirect URIs'),
    initiateLoginUri: plainLink(endpoints, 'Login URL'),
  },
  copy: {
    issuer: place('The same for every customer in a region', 'https://oauth.id.jumpcloud.com/'),
    clientId: place('Shown once when the application is activated', 'Client ID'),
    clientSecret: place('Shown once when the application is activated', 'Client Secret'),
  },
  signInSteps: [
    'Open **SSO Applications > Add New Application > Custom Application**. Choose **Configure SSO with OIDC**, and **Export users to this app (Identity Management)** if you want directory sync.',
    'On **SSO**, enter the `redirectUri` under **Redirect URIs** and set **Client Authentication Type** to **Client Secret Basic** or **Client Secret POST**.',
    'Check **Email** and **Profile** under **Attribute Mapping > Standard Scopes**. Click **Activate** and copy **Client ID** and **Client Secret**. JumpCloud shows them once. The issuer is `https://oauth.id.jumpcloud.com/`.',
  ],
  directorySteps: [
    'Open **Identity Management** of the same application. Enter the `scimEndpoint` as **Base URL** and the directory token as **Token Key**.',
    'Enable **Enable management of User Groups and Group Membership in this application**. Click **Activate**.',
    'Under **User Groups**, choose the groups whose members may use the application.',
  ],
  notes: [
    'Without the standard scopes Email and Profile, the ID token contains no address.',
    'One issuer serves all customers of JumpCloud. The client id ties a sign-in to your organization.',
  ],
}
