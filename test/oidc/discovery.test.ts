import t, { type Test } from 'tap'
import type { OutboundOptions } from '../../src/oidc/outbound-fetch.ts'
import { isSharedIssuer } from '../../src/oidc/issuer.ts'
import { makeNetwork } from '../helpers/network.ts'
import { makeRelyingParty, refusal } from '../helpers/relying-party.ts'
import * as scripted from '../helpers/scripted-provider.ts'
import { makeKey, makeScriptedProvider } from '../helpers/scripted-provider.ts'

async function makeWorld(t: Test, { issuer, ...changes }: Partial<OutboundOptions> & { issuer?: string } = {}) {
  const network = makeNetwork()
  const idp = await makeScriptedProvider(t, { network, ...(issuer !== undefined && { issuer }) })
  return { idp, network, ...makeRelyingParty(t, { ...network.outbound, ...changes }) }
}

const minute = 60_000
const entraTenant = 'https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0'

t.test('oidc-disc-001: a tenant-specific Entra issuer works as it is', async t => {
  const { idp, providers, signIn } = await makeWorld(t, { issuer: entraTenant })
  idp.script.document = document => ({ ...document, code_challenge_methods_supported: undefined })
  idp.user = {
    sub: 'AAAA-pairwise',
    tid: '11111111-2222-3333-4444-555555555555',
    oid: 'o-1',
    email: 'ana@corp.example',
  }
  t.equal((await providers.inspect(entraTenant)).issuer, entraTenant)
  const { claims, contact } = await signIn(idp)
  t.match(claims, { iss: entraTenant, sub: 'AAAA-pairwise', oid: 'o-1' })
  t.strictSame(contact, { source: 'id_token', email: 'ana@corp.example', emailVerified: undefined, name: undefined })
})

t.test(
  'oidc-disc-002: an endpoint that serves every Microsoft tenant is refused, by its address and by its template',
  async t => {
    const { idp, providers, network } = await makeWorld(t)
    for (const tenant of ['common', 'organizations', 'consumers', 'Common']) {
      const issuer = `https://login.microsoftonline.com/${tenant}/v2.0`
      const { code, message } = await refusal(providers.inspect(issuer))
      t.equal(code, 'sso_issuer_multi_tenant')
      t.match(message, 'YOUR-TENANT-ID')
    }
    t.same(network.lookups, [])
    idp.script.document = document => ({ ...document, issuer: 'https://login.microsoftonline.com/{tenantid}/v2.0' })
    t.equal((await refusal(providers.inspect(idp.issuer))).code, 'sso_issuer_multi_tenant')
  },
)

t.test(
  'oidc-disc-003: a pasted discovery URL is reduced to its issuer, and the document is still compared',
  async t => {
    const { idp, providers } = await makeWorld(t)
    const pasted = 'https://idp.corp.example/.well-known/openid-configuration'
    t.equal((await providers.inspect(`  ${pasted}\n`)).issuer, idp.issuer)
    idp.script.document = document => ({ ...document, issuer: 'https://other.example' })
    const { code, message } = await refusal(providers.inspect(pasted))
    t.equal(code, 'sso_issuer_mismatch')
    t.match(message, /https:\/\/other\.example, expected was https:\/\/idp\.corp\.example/)
  },
)

const slashes = [
  [
    'oidc-disc-004: typed without the slash that a root issuer has',
    'https://tenant.auth0.example/',
    'https://tenant.auth0.example',
  ],
  [
    'oidc-disc-005: typed with the slash that a path issuer has',
    'https://auth.corp.example/application/o/assist/',
    undefined,
  ],
  [
    'oidc-disc-007: typed with a slash that a path issuer has not',
    'https://kc.corp.example/realms/main',
    'https://kc.corp.example/realms/main/',
  ],
] as const

for (const [promise, issuer, typed = issuer] of slashes) {
  t.test(`${promise}, the provider's own spelling is kept and signs in`, async t => {
    const { idp, providers, signIn } = await makeWorld(t, { issuer })
    const stored = await providers.inspect(typed)
    t.equal(stored.issuer, issuer)
    t.equal((await providers.inspect(stored.issuer)).issuer, issuer, 'and saving again changes nothing')
    t.equal((await signIn(idp)).claims.iss, issuer)
    if (typed !== issuer)
      t.equal((await refusal(providers.discover(typed))).code, 'sso_idp_error', 'no sign-in compares loosely')
  })
}

t.test('oidc-disc-006: the slash is left out of the discovery URL only', async t => {
  const { idp, providers } = await makeWorld(t, { issuer: 'https://auth.corp.example/application/o/assist/' })
  t.equal((await providers.inspect(idp.issuer)).issuer, idp.issuer)
  t.same(
    idp.requests.map(request => request.url.pathname),
    ['/application/o/assist/.well-known/openid-configuration'],
  )
})

t.test('what looks like an issuer and is none is refused with the one to use, and nothing is asked', async t => {
  const { network, providers } = await makeWorld(t)
  const typed: [string, string, RegExp | string][] = [
    ['idp.corp.example', 'sso_issuer_invalid', 'such as https://idp.corp.example'],
    ['localhost:8080', 'sso_issuer_invalid', 'such as https://idp.example.com'],
    ['http://idp.corp.example/a', 'sso_issuer_insecure', 'Use https://idp.corp.example/a'],
    ['https://login.microsoftonline.com/TENANT', 'sso_issuer_invalid', 'https://login.microsoftonline.com/TENANT/v2.0'],
    [
      'https://login.microsoftonline.com/',
      'sso_issuer_invalid',
      'https://login.microsoftonline.com/YOUR-TENANT-ID/v2.0',
    ],
    ['https://acme-admin.okta.com', 'sso_issuer_invalid', 'use https://acme.okta.com'],
    ['https://acme.okta.com/app/UserHome', 'sso_issuer_invalid', 'use https://acme.okta.com.'],
    ['https://acme.okta.com/oauth2/v1/authorize', 'sso_issuer_invalid', 'use https://acme.okta.com.'],
    [
      'https://sso.corp.example/auth/realms/main/protocol/openid-connect/auth',
      'sso_issuer_invalid',
      'use https://sso.corp.example/auth/realms/main.',
    ],
  ]
  const lookups = network.lookups.length
  for (const [issuer, code, fix] of typed) {
    const refused = await refusal(providers.inspect(issuer))
    t.equal(refused.code, code, issuer)
    t.match(refused.message, fix, issuer)
  }
  t.equal(network.lookups.length, lookups)
})

t.test('oidc-disc-008: a provider reached by another name than its issuer is refused, with both names', async t => {
  const { idp, providers } = await makeWorld(t, { issuer: 'https://kc.internal.corp.example/realms/main' })
  idp.script.document = document => ({ ...document, issuer: 'https://login.corp.example/realms/main' })
  const { code, message } = await refusal(providers.inspect(idp.issuer))
  t.equal(code, 'sso_issuer_mismatch')
  t.match(message, 'https://login.corp.example/realms/main')
  t.match(message, 'https://kc.internal.corp.example/realms/main')
})

t.test('oidc-disc-009: a page in place of the document is named as such and not shown', async t => {
  const { idp, providers } = await makeWorld(t)
  idp.script.answer.discovery = scripted.html()
  const error = await refusal(providers.inspect(idp.issuer))
  t.equal(error.code, 'sso_discovery_invalid')
  t.notMatch(JSON.stringify([error.message, error.detail]), 'internal-name-7')
})

t.test('oidc-disc-010: a missing member is named when the configuration is saved', async t => {
  const { idp, providers } = await makeWorld(t)
  for (const member of ['issuer', 'authorization_endpoint', 'token_endpoint', 'jwks_uri']) {
    idp.script.document = document => ({ ...document, [member]: undefined })
    const { code, message } = await refusal(providers.inspect(idp.issuer))
    t.equal(code, 'sso_discovery_invalid')
    t.match(message, `lacks the member ${member}`)
  }
})

t.test('A document that cannot be used is refused with the reason', async t => {
  const { idp, providers } = await makeWorld(t)
  const faulty = {
    'authorization_endpoint is not an https URL': { authorization_endpoint: 'http://idp.corp.example/authorize' },
    'end_session_endpoint is not an https URL': { end_session_endpoint: 'javascript:alert(1)' },
    'token_endpoint has a fragment': { token_endpoint: 'https://idp.corp.example/token#x' },
    'jwks_uri is malformed': { jwks_uri: '/jwks' },
    'no authorization code flow': { response_types_supported: ['id_token'] },
    'no algorithm with published keys': { id_token_signing_alg_values_supported: ['HS256', 'none'] },
  }
  for (const [reason, members] of Object.entries(faulty)) {
    idp.script.document = document => ({ ...document, ...members })
    const { code, message } = await refusal(providers.inspect(idp.issuer))
    t.equal(code, 'sso_discovery_invalid', reason)
    t.match(message, reason)
  }
  for (const body of [[], 'text', null]) {
    idp.script.answer.discovery = scripted.json(200, body)
    t.equal((await refusal(providers.inspect(idp.issuer))).code, 'sso_discovery_invalid')
  }
})

t.test('oidc-disc-011: PKCE, state and nonce are sent although the provider announces no PKCE', async t => {
  const { idp, providers, signIn } = await makeWorld(t)
  idp.script.document = document => ({ ...document, code_challenge_methods_supported: undefined })
  const codeChallenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
  const request = { issuer: idp.issuer, clientId: 'assist-acme', redirectUri: 'https://sso.assist.example/cb' }
  const url = new URL(
    await providers.authorizationUrl({
      ...request,
      state: 's',
      nonce: 'n',
      codeChallenge,
      extra: { prompt: 'login', state: 'x' },
    }),
  )
  t.equal(url.origin + url.pathname, 'https://idp.corp.example/authorize')
  t.strictSame(Object.fromEntries(url.searchParams), {
    prompt: 'login',
    state: 's',
    response_type: 'code',
    client_id: 'assist-acme',
    redirect_uri: 'https://sso.assist.example/cb',
    scope: 'openid email profile',
    nonce: 'n',
    code_challenge: codeChallenge,
    code_challenge_method: 'S256',
  })
  await signIn(idp)
  const sent = idp.requests.find(({ endpoint }) => endpoint === 'token')
  t.match(sent?.form.get('code_verifier'), /^[\w-]{43}$/, 'and the scripted provider compared it with the challenge')
})

t.test('oidc-disc-013: one provider that is down leaves the others as they are', async t => {
  const { idp, network, signIn } = await makeWorld(t)
  const globex = await makeScriptedProvider(t, { network, issuer: 'https://idp.globex.example' })
  await idp.stop()
  const [ana, gus] = await Promise.allSettled([signIn(idp), signIn(globex, { user: { sub: 'u-gus' } })])
  t.match(ana, { reason: { code: 'sso_idp_unreachable', detail: { systemCode: 'ECONNREFUSED' } } })
  t.match(gus, { value: { claims: { sub: 'u-gus' } } })
  await idp.start()
})

for (const [id, promise, answer] of [
  ['oidc-disc-014', 'that never answers', scripted.hang],
  ['oidc-disc-015', 'that drips one byte at a time', scripted.drip(50)],
] as const) {
  t.test(`${id}: a discovery ${promise} is given up, and the next start fails at once`, async t => {
    const { idp, providers, clock } = await makeWorld(t, { timeoutMs: 300 })
    idp.script.answer.discovery = answer
    const startedAt = performance.now()
    t.match(await refusal(providers.discover(idp.issuer)), {
      code: 'sso_idp_unreachable',
      detail: { reason: 'timeout' },
    })
    const firstMs = performance.now() - startedAt
    t.ok(firstMs >= 280 && firstMs < 1000, `${firstMs} ms`)
    t.equal((await refusal(providers.discover(idp.issuer))).code, 'sso_idp_unreachable')
    t.ok(performance.now() - startedAt - firstMs < 50, 'the second start does not wait')
    t.equal(idp.count('discovery'), 1)
    idp.reset()
    clock.offsetMs = 31_000
    t.equal((await providers.discover(idp.issuer)).issuer, idp.issuer, 'after half a minute it is tried again')
  })
}

t.test('oidc-disc-016: a hundred sign-ins cost one discovery and one fetch of the keys', async t => {
  const { idp, signIn } = await makeWorld(t)
  await Promise.all(Array.from({ length: 10 }, () => signIn(idp)))
  for (let rounds = 0; rounds < 9; rounds++) await Promise.all(Array.from({ length: 10 }, () => signIn(idp)))
  t.same([idp.count('discovery'), idp.count('jwks'), idp.count('token')], [1, 1, 100])
})

t.test(
  'oidc-disc-017: corrected metadata is used after ten minutes, and at once when an admin saves or tests',
  async t => {
    const { idp, providers, clock } = await makeWorld(t)
    const tokenEndpoint = async () => (await providers.discover(idp.issuer)).token_endpoint
    t.equal(await tokenEndpoint(), 'https://idp.corp.example/token')
    idp.script.document = document => ({ ...document, token_endpoint: 'https://idp.corp.example/t2' })
    t.equal(await tokenEndpoint(), 'https://idp.corp.example/token')
    clock.offsetMs = 20 * minute
    t.equal(await tokenEndpoint(), 'https://idp.corp.example/t2')
    idp.script.document = document => ({ ...document, token_endpoint: 'https://idp.corp.example/t3' })
    await providers.test(idp.issuer)
    t.equal(await tokenEndpoint(), 'https://idp.corp.example/t3')
    idp.script.document = document => ({ ...document, token_endpoint: 'https://idp.corp.example/t4' })
    providers.markStale(idp.issuer)
    t.equal(await tokenEndpoint(), 'https://idp.corp.example/t4')
  },
)

t.test('Metadata outlives a day of silence, and no more', async t => {
  const { idp, providers, clock } = await makeWorld(t)
  await providers.discover(idp.issuer)
  idp.script.answer.discovery = scripted.json(503, {})
  clock.offsetMs = 23 * 60 * minute
  t.equal((await providers.discover(idp.issuer)).issuer, idp.issuer)
  t.equal((await refusal(providers.inspect(idp.issuer))).code, 'sso_discovery_failed', 'an admin is told')
  t.equal((await providers.discover(idp.issuer)).issuer, idp.issuer)
  clock.offsetMs = 25 * 60 * minute
  t.equal((await refusal(providers.discover(idp.issuer))).code, 'sso_idp_unreachable')
})

t.test(
  'oidc-disc-018: a test tells no closed port from an error page or an unknown name, nor by its duration',
  async t => {
    const { idp, network } = await makeWorld(t)
    const { providers } = makeRelyingParty(t, network.outbound, { failureStepMs: 100 })
    network.setAddresses('closed.evil.example', ['203.0.113.99'])
    const inspect = async (issuer: string) => {
      const startedAt = performance.now()
      const { code, message } = await refusal(providers.inspect(issuer))
      return { code, message, ms: performance.now() - startedAt }
    }
    idp.script.answer.discovery = scripted.html(500)
    const outcomes = [
      await inspect('https://closed.evil.example'),
      await inspect(idp.issuer),
      await inspect('https://unknown.evil.example'),
    ]
    t.equal(new Set(outcomes.map(({ code, message }) => `${code} ${message}`)).size, 1)
    t.equal(outcomes[0]?.code, 'sso_discovery_failed')
    t.ok(
      outcomes.every(({ ms }) => ms >= 95),
      'each is stretched to a whole step',
    )
    const packets = network.connections.length
    network.setAddresses('inside.evil.example', ['10.0.0.9'])
    t.equal((await refusal(providers.inspect('https://inside.evil.example'))).code, 'sso_issuer_blocked')
    t.equal(network.connections.length, packets)
  },
)

t.test('A test lists what was looked at, and stops where it fails', async t => {
  const { idp, providers } = await makeWorld(t)
  const names = async () => (await providers.test(idp.issuer)).map(({ name, result }) => `${name} ${result}`)
  const steps = ['issuer', 'reachable', 'document', 'issuer_match', 'endpoints']
  const good = [...steps, 'algorithms', 'keys', 'pkce', 'auth_method'].map(name => `${name} pass`)
  t.same(await names(), good)

  const [strong, weak] = [idp.keys[0]!, await makeKey('weak', 'RS256')]
  weak.publicJwk.n = Buffer.alloc(128, 1).toString('base64url')
  idp.keys = [weak, strong]
  idp.script.document = document => ({
    ...document,
    code_challenge_methods_supported: undefined,
    token_endpoint_auth_methods_supported: ['private_key_jwt'],
  })
  const checks = await providers.test(idp.issuer)
  t.match(checks.slice(6), [
    { name: 'keys', result: 'warn', message: 'RSA shorter than 2048 bits' },
    { name: 'pkce', result: 'warn' },
    { name: 'auth_method', result: 'warn', fix: 'Set tokenAuthMethod to private_key_jwt.' },
  ])
  idp.script.document = document => ({ ...document, token_endpoint_auth_methods_supported: ['tls_client_auth'] })
  t.match((await providers.test(idp.issuer))[8], { name: 'auth_method', result: 'fail', fix: String })
  idp.keys = [weak]
  t.match((await providers.test(idp.issuer))[6], { name: 'keys', result: 'fail', fix: String })
  idp.script.answer.jwks = scripted.hangUp
  t.match((await providers.test(idp.issuer))[6], { name: 'keys', result: 'fail' })

  idp.script.document = document => ({ ...document, issuer: 'https://other.example' })
  t.same(await names(), ['issuer pass', 'reachable pass', 'document pass', 'issuer_match fail'])
  idp.script.answer.discovery = scripted.hangUp
  t.match(await providers.test(idp.issuer), [
    { result: 'pass' },
    { name: 'reachable', result: 'fail', code: 'sso_discovery_failed' },
  ])
  t.match(await providers.test('http://idp.corp.example'), [
    { name: 'issuer', result: 'fail', code: 'sso_issuer_insecure' },
  ])
})

t.test('An issuer that serves many customers is known with and without its slash', async t => {
  const shared = ['https://accounts.google.com']
  t.ok(isSharedIssuer('https://accounts.google.com', shared))
  t.ok(isSharedIssuer('https://accounts.google.com/', shared))
  t.notOk(isSharedIssuer('https://accounts.google.com.evil.example', shared))
})

t.test('The end-session URL carries hint, client and return address; without an endpoint there is none', async t => {
  const { idp, providers } = await makeWorld(t)
  const request = {
    issuer: idp.issuer,
    clientId: 'assist-acme',
    idToken: 'a.b.c',
    postLogoutRedirectUri: 'https://app.assist.example/bye',
    state: 's',
  }
  const url = new URL((await providers.endSessionUrl(request))!)
  t.equal(url.origin + url.pathname, 'https://idp.corp.example/logout')
  t.strictSame(Object.fromEntries(url.searchParams), {
    id_token_hint: 'a.b.c',
    post_logout_redirect_uri: 'https://app.assist.example/bye',
    state: 's',
    client_id: 'assist-acme',
  })
  idp.script.document = document => ({ ...document, end_session_endpoint: undefined })
  providers.markStale(idp.issuer)
  t.equal(await providers.endSessionUrl(request), undefined)
  providers.markStale(idp.issuer)
  idp.script.answer.discovery = scripted.hangUp
  t.equal(await providers.endSessionUrl(request), undefined, 'nor while the provider is away')
})
