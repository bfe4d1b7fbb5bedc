import t from 'tap'
import { providerKinds } from '../../src/sso/guides/guide.ts'
import { guides, providerKind } from '../../src/sso/guides/provider-guides.ts'
import { makeApp, makeWorkspace } from '../helpers/app.ts'
import { makeScriptedProvider } from '../helpers/scripted-provider.ts'

const provider = await makeScriptedProvider(t)
const test = await makeApp(t, { options: { outbound: { ...provider.network.outbound, failureStepMs: 1 } } })

t.test('before anything is saved, the admin has all that goes to the provider, and where it goes there', async t => {
  const { workspaceId, url, headers } = await makeWorkspace(test)
  const setup = async (issuer?: string) => {
    const query = issuer === undefined ? '' : `?issuer=${encodeURIComponent(issuer)}`
    return (await test.app.inject({ url: `${url}/sso-config/setup${query}`, headers })).json()
  }
  const base = `https://sso.assist.example/sso/${workspaceId}`
  const uris = {
    redirectUri: `${base}/callback`,
    postLogoutRedirectUri: 'https://app.assist.example/',
    initiateLoginUri: `${base}/initiate`,
    backchannelLogoutUri: `${base}/backchannel-logout`,
    jwksUri: `${base}/jwks.json`,
  }
  t.match(await setup(), { ...uris, guide: { kind: 'generic' } })
  const okta = await setup('https://acme.okta.com')
  t.match(okta, { ...uris, guide: { kind: 'okta', name: 'Okta' } })
  const pasted = Object.fromEntries(okta.guide.paste.map((each: { name: string }) => [each.name, each]))
  t.match(pasted, {
    redirectUri: { value: uris.redirectUri, screen: /Applications/, field: 'Sign-in redirect URIs' },
    initiateLoginUri: { value: uris.initiateLoginUri, field: /Initiate login URI/ },
  })
  t.match((await setup('not a URL')).guide, { kind: 'generic' }, 'what is no issuer yet is told when it is saved')
  t.equal(provider.requests.length, 0, 'nothing goes out')

  const payload = { issuer: provider.issuer, clientId: 'assist-acme', clientSecret: 'acme-secret' }
  const saved = (await test.app.inject({ method: 'PUT', url: `${url}/sso-config`, headers, payload })).json()
  t.match(saved, { ...uris, guide: { kind: 'generic', paste: { length: 5 }, copy: { length: 3 } } })
  t.match(await setup(), { guide: { kind: 'generic' } })
})

t.test(
  'where the tile of a provider is a plain link, it names the issuer, and begins a sign-in as it stands',
  async t => {
    const { url, headers } = await makeWorkspace(test)
    const keycloak = { issuer: 'https://sso.corp.example/realms/main', network: provider.network }
    const { issuer } = await makeScriptedProvider(t, keycloak)
    const payload = { issuer, clientId: 'assist-acme', clientSecret: 'acme-secret' }
    const saved = (await test.app.inject({ method: 'PUT', url: `${url}/sso-config`, headers, payload })).json()
    const setup = (await test.app.inject({ url: `${url}/sso-config/setup`, headers })).json()
    for (const { guide, initiateLoginUri } of [saved, setup]) {
      const tile = guide.paste.find((each: { name: string }) => each.name === 'initiateLoginUri')
      t.match(tile, { field: 'Home URL', value: `${initiateLoginUri}?iss=${encodeURIComponent(issuer)}` })
      t.notOk('isPlainLink' in tile)
      const reply = await test.app.inject({ url: tile.value.replace('https://sso.assist.example', '') })
      t.match(reply.headers.location, 'https://app.assist.example/sso/start?')
    }
  },
)

t.test('providers are told by their issuer, and behind their own domain by the shape of their endpoints', t => {
  const known: [string, string][] = [
    ['okta', 'https://acme.okta.com'],
    ['okta', 'https://acme.oktapreview.com/oauth2/default'],
    ['entra', 'https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0'],
    ['entra', 'https://login.microsoftonline.us/t/v2.0'],
    ['google', 'https://accounts.google.com'],
    ['auth0', 'https://acme.eu.auth0.com/'],
    ['onelogin', 'https://acme.onelogin.com/oidc/2'],
    ['jumpcloud', 'https://oauth.id.jumpcloud.com/'],
    ['jumpcloud', 'https://oauth.id.eu.jumpcloud.com/'],
    ['ping', 'https://auth.pingone.eu/11111111-2222-3333-4444-555555555555/as'],
    ['keycloak', 'https://sso.corp.example/realms/main'],
    ['keycloak', 'https://sso.corp.example/auth/realms/main'],
    ['authentik', 'https://auth.corp.example/application/o/assist/'],
    ['generic', 'https://idp.corp.example'],
    ['generic', 'https://okta.com.evil.example'],
    ['generic', 'https://notokta.com'],
    ['generic', 'nonsense'],
  ]
  for (const [kind, issuer] of known) t.equal(providerKind(issuer), kind, issuer)
  t.same(new Set(known.map(([kind]) => kind)), new Set(providerKinds), 'each kind has an issuer')
  const metadata = { authorization_endpoint: 'https://login.corp.example/oauth2/v1/authorize' }
  t.equal(providerKind('https://login.corp.example', metadata as Parameters<typeof providerKind>[1]), 'okta')
  t.end()
})

t.test('every guide names fields that it tells the admin to fill in, and has steps and notes', t => {
  for (const guide of Object.values(guides)) {
    const steps = guide.signInSteps.join(' ')
    t.match(guide, { copy: { issuer: {}, clientId: {}, clientSecret: {} } }, guide.name)
    t.match(steps, '`redirectUri`', `${guide.name}: the redirect URI`)
    for (const { field } of [guide.paste.redirectUri!, guide.copy.clientId]) {
      t.match(steps, `**${field.split(',')[0]!}`, `${guide.name}: ${field}`)
    }
    const [form] = /https:[^ ,]+/.exec(guide.issuerForm) ?? ['issuer']
    t.match(steps, form, `${guide.name}: the issuer`)
    if (guide.directorySteps.length > 0) {
      t.match(guide.directorySteps.join(' '), /scimEndpoint.*directory token/s, `${guide.name}: endpoint and token`)
    }
    t.not(guide.notes.length, 0)
  }
  t.end()
})

t.test('what was made of the input is said: a slash, a pasted URL', async t => {
  const { url, headers } = await makeWorkspace(test)
  await makeScriptedProvider(t, { issuer: 'https://tenant.auth0.example/', network: provider.network })
  const save = async (issuer: string) => {
    const payload = { issuer, clientId: 'assist-acme', clientSecret: 'acme-secret' }
    return (await test.app.inject({ method: 'PUT', url: `${url}/sso-config`, headers, payload })).json()
  }
  const slash = await save('https://tenant.auth0.example')
  t.match(slash, { issuer: 'https://tenant.auth0.example/' })
  t.match(slash.notices, [
    'The provider calls itself https://tenant.auth0.example/, and was saved by this name; you gave https://tenant.auth0.example.',
  ])
  const pasted = await save(`${provider.issuer}/.well-known/oauth-authorization-server`)
  t.match(pasted.notices, [/^The provider calls itself https:\/\/idp\.corp\.example,/])
  t.equal((await save(provider.issuer)).notices, undefined, 'nothing to say')
})
