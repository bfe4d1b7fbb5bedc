import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'

export interface ProviderAccount {
  sub: string
  email: string
  email_verified?: boolean
  name: string
}

export interface RegisteredClient {
  clientId: string
  clientSecret: string
  redirectUris: string[]
  postLogoutRedirectUris?: string[]
  /** URL for logout tokens (Back-Channel Logout 1.0). */
  backchannelLogoutUri?: string
}

export interface ProviderOptions {
  accounts: ProviderAccount[]
  clients: RegisteredClient[]
  /** Default: 0, a free port. */
  port?: number
}

export interface LoopbackProvider {
  issuer: string
  accounts: ProviderAccount[]
  /**
   * Signs an account in like a browser and follows every redirect up to the client.
   * @returns the callback URL, which the caller opens
   */
  signIn: (authorizationUrl: string, sub: string) => Promise<string>
  close: () => Promise<void>
}

/**
 * Starts a certified OpenID Provider on loopback, over plain http, for tests and the demo. Scripts sign in with `signIn`. In a
 * browser it shows one page with a button for each account, without passwords and consent.
 */
export async function startProvider({ accounts, clients, port = 0 }: ProviderOptions): Promise<LoopbackProvider> {
  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)))
  })
  await new Promise<void>(listening => void server.listen(port, '127.0.0.1', listening))
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const provider = new Provider(issuer, await configure(accounts, clients))
  provider.on('backchannel.error', (_context: unknown, error: unknown) => {
    console.error('The client rejected the logout token:', error)
  })
  const protocol = provider.callback()

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!request.url?.startsWith('/interaction/')) return protocol(request, response)
    if (request.method !== 'POST') return showAccounts(accounts, response)
    const form = await readForm(request)
    const account = accounts.find(each => each.sub === form.get('account'))
    const cancelled = { error: 'access_denied', error_description: 'The person cancelled.' }
    const result = account ? { login: { accountId: account.sub } } : cancelled
    return provider.interactionFinished(request, response, result)
  }

  return {
    issuer,
    accounts,
    signIn: (authorizationUrl, sub) => signInHeadless(issuer, authorizationUrl, sub),
    close: async () => {
      await new Promise(closed => {
        server.close(closed)
        server.closeAllConnections()
      })
    },
  }
}

async function configure(accounts: ProviderAccount[], clients: RegisteredClient[]): Promise<Record<string, unknown>> {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  const seconds = {
    AccessToken: 300,
    AuthorizationCode: 60,
    IdToken: 300,
    Interaction: 600,
    Session: 3600,
    Grant: 3600,
  }
  return {
    clients: clients.map(client => ({
      client_id: client.clientId,
      client_secret: client.clientSecret,
      redirect_uris: client.redirectUris,
      post_logout_redirect_uris: client.postLogoutRedirectUris ?? [],
      ...(client.backchannelLogoutUri !== undefined && {
        backchannel_logout_uri: client.backchannelLogoutUri,
        backchannel_logout_session_required: true,
      }),
    })),
    jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'k1', alg: 'RS256', use: 'sig' }] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    ttl: seconds,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    // Without the dispatcher of oidc-provider, which blocks loopback, because logout tokens are sent to loopback.
    fetch: (url: URL, { dispatcher: _guard, ...options }: RequestInit & { dispatcher?: unknown }) =>
      fetch(url, options),
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource: submitAtOnce },
    },
    interactions: { url: (_context: unknown, interaction: { uid: string }) => `/interaction/${interaction.uid}` },
    findAccount: (_context: unknown, sub: string) => {
      const account = accounts.find(each => each.sub === sub)
      return account && { accountId: sub, claims: () => ({ email_verified: true, ...account }) }
    },
    loadExistingGrant: async (context: { oidc: GrantContext }) => {
      const { provider, session, client } = context.oidc
      const grant = new provider.Grant({ accountId: session.accountId, clientId: client.clientId })
      grant.addOIDCScope('openid email profile')
      await grant.save()
      return grant
    },
  }
}

interface GrantContext {
  provider: Provider
  session: { accountId: string }
  client: { clientId: string }
}

/** Shows the provider's logout form and submits it without confirmation. */
function submitAtOnce(context: { body: string }, form: string): void {
  const confirmed = form.replace('</form>', '<input type="hidden" name="logout" value="yes"></form>')
  context.body = `<!doctype html><title>Signing out</title>${confirmed}<script>document.forms[0].submit()</script>`
}

function showAccounts(accounts: ProviderAccount[], response: ServerResponse): void {
  const buttons = accounts.map(
    ({ sub, name, email }) =>
      `<p><button name="account" value="${escape(sub)}">${escape(name)} &lt;${escape(email)}&gt;</button></p>`,
  )
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' })
  response.end(
    `<!doctype html><title>Example identity provider</title><h1>Sign in as</h1><form method="post">${buttons.join('')}` +
      '<p><button name="account" value="">Cancel</button></p></form>',
  )
}

function escape(text: string): string {
  return text.replaceAll(/[&<>"]/g, character => `&#${character.codePointAt(0)};`)
}

async function readForm(request: IncomingMessage): Promise<URLSearchParams> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return new URLSearchParams(Buffer.concat(chunks).toString())
}

async function signInHeadless(issuer: string, authorizationUrl: string, sub: string): Promise<string> {
  const cookies = new Map<string, string>()
  let location = authorizationUrl
  for (let hops = 0; hops < 10 && location.startsWith(`${issuer}/`); hops++) {
    const chooses = new URL(location).pathname.startsWith('/interaction/')
    const response = await fetch(location, {
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
      ...(chooses && { method: 'POST', body: new URLSearchParams({ account: sub }) }),
    })
    for (const cookie of response.headers.getSetCookie()) {
      const [name = '', value = ''] = cookie.split(';', 1)[0]!.split(/=(.*)/s)
      cookies.set(name, value)
    }
    const next = response.headers.get('location')
    if (next === null) throw new Error(`No redirect from ${location}: ${response.status} ${await response.text()}`)
    location = new URL(next, location).href
  }
  return location
}
