import { createHmac } from 'node:crypto'
import { inspect } from 'node:util'
import { exportSPKI } from 'jose'
import t, { type Test } from 'tap'
import type { OutboundOptions } from '../../src/oidc/outbound-fetch.ts'
import { readAuthorizationResponse } from '../../src/oidc/authorization-response.ts'
import { makeNetwork } from '../helpers/network.ts'
import { startProvider } from '../../tools/loopback-provider.ts'
import { makeRelyingParty, refusal } from '../helpers/relying-party.ts'
import * as scripted from '../helpers/scripted-provider.ts'
import { makeKey, makeScriptedProvider, signWith } from '../helpers/scripted-provider.ts'

async function makeWorld(t: Test, changes: Partial<OutboundOptions> = {}) {
  const network = makeNetwork()
  const idp = await makeScriptedProvider(t, { network })
  return { idp, network, ...makeRelyingParty(t, { ...network.outbound, ...changes }) }
}

type World = Awaited<ReturnType<typeof makeWorld>>
type Claims = Record<string, unknown>

const minute = 60_000
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const hs256 = (header: Claims, claims: Claims, key: string | Buffer) => {
  const input = `${encode({ ...header, alg: 'HS256' })}.${encode(claims)}`
  return `${input}.${createHmac('sha256', key).update(input).digest('base64url')}`
}

/** A sign-in that must fail as a bad token for this reason, and leave UserInfo alone. */
async function refusesToken(t: Test, { idp, signIn }: World, reason: string): Promise<void> {
  const calls = idp.count('userinfo')
  t.match(await refusal(signIn(idp)), { code: 'sso_token_invalid', detail: { reason } })
  t.equal(idp.count('userinfo'), calls)
}

t.test(
  'The certified provider signs ana in, and its second client secret steps in for one that it no longer knows',
  async t => {
    const redirectUri = 'http://localhost:3000/sso/w0/callback'
    const account = { sub: 'u-ana', email: 'ana@corp.example', name: 'Ana Example' }
    const client = { clientId: 'assist-acme', clientSecret: 'a-new-secret' }
    const idp = await startProvider({ accounts: [account], clients: [{ ...client, redirectUris: [redirectUri] }] })
    t.teardown(idp.close)
    const loopback = { allowedNetworks: ['127.0.0.0/8'], allowedPorts: [0], allowHttp: true }
    const { providers } = makeRelyingParty(t, loopback)
    const codeVerifier = 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'
    const codeChallenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    const request = { issuer: idp.issuer, redirectUri, state: 's', nonce: 'n' }
    const url = await providers.authorizationUrl({ ...request, clientId: 'assist-acme', codeChallenge })
    const response = readAuthorizationResponse(new URL(await idp.signIn(url, 'u-ana')).searchParams)
    t.equal(response.iss, idp.issuer)
    const clientSecrets = ['an-old-secret', 'a-new-secret']
    const proven = await providers.exchangeCode({
      ...request,
      client: { clientId: 'assist-acme', clientSecrets },
      response,
      codeVerifier,
    })
    t.match(proven, {
      claims: { sub: 'u-ana' },
      contact: { email: 'ana@corp.example', emailVerified: true },
      credentialIndex: 1,
    })
  },
)

t.test('oidc-tok-001: Basic form-encodes both halves', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.acceptedAuth = 'client_secret_basic'
  idp.clients.set('assist-acme', 'a+b/c d:e%&=')
  await signIn(idp, { client: { clientSecrets: ['a+b/c d:e%&='] } })
  const { authorization = '' } = idp.last('token')!.headers
  const sent = Buffer.from(authorization.replace('Basic ', ''), 'base64').toString()
  t.equal(sent, 'assist-acme:a%2Bb%2Fc+d%3Ae%25%26%3D')
})

t.test('oidc-tok-002: an admin can choose the form body for a provider that does not decode Basic', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.acceptedAuth = 'client_secret_post'
  idp.clients.set('assist-acme', 'x+y')
  await signIn(idp, { client: { clientSecrets: ['x+y'], authMethod: 'client_secret_post' } })
  const { headers, form } = idp.last('token')!
  t.equal(form.get('client_secret'), 'x+y')
  t.equal(headers.authorization, undefined)
})

t.test('oidc-tok-003: client authentication follows the metadata, and Basic where it is silent', async t => {
  const methods = { client_secret_post: ['client_secret_post'], client_secret_basic: ['client_secret_basic'] }
  for (const [method, announced] of [...Object.entries(methods), ['client_secret_basic', undefined] as const]) {
    const { idp, signIn } = await makeWorld(t)
    idp.acceptedAuth = method as typeof idp.acceptedAuth
    idp.script.document = document => ({ ...document, token_endpoint_auth_methods_supported: announced })
    t.equal((await signIn(idp)).claims.sub, 'u-ana', String(announced))
  }
})

for (const [id, number, what] of [
  ['oidc-tok-004', 'AADSTS7000222', 'an expired client secret'],
  ['oidc-tok-005', 'AADSTS7000215', 'a secret id in place of the secret'],
] as const) {
  t.test(`${id}: ${what} is told apart, with the provider's number, and the code is not sent again`, async t => {
    const { idp, signIn } = await makeWorld(t)
    const body = { error: 'invalid_client', error_description: `${number}: keys for app ana@corp.example are no good.` }
    idp.script.answer.token = (_request, response) => {
      response.writeHead(401, { 'content-type': 'application/json', 'www-authenticate': 'Basic realm="x"' })
      response.end(JSON.stringify(body))
    }
    const error = await refusal(signIn(idp))
    t.match(error, { code: 'sso_client_rejected', detail: { idpError: 'invalid_client', idpCode: number } })
    t.notMatch(inspect(error, { depth: 9 }), 'ana@corp.example')
    t.equal(idp.count('token'), 1)
  })
}

t.test('oidc-tok-006: a code that was used or has expired is an error of the provider', async t => {
  const { idp, begin, providers } = await makeWorld(t)
  const { exchange } = await begin(idp)
  await providers.exchangeCode(exchange)
  const error = await refusal(providers.exchangeCode(exchange))
  t.match(error, { code: 'sso_idp_error', detail: { stage: 'token', idpError: 'invalid_grant' } })
})

t.test('oidc-tok-007: an answer without an ID token proves nobody, and UserInfo is not asked', async t => {
  const world = await makeWorld(t)
  world.idp.script.tokenReply = reply => ({ ...reply, id_token: undefined })
  await refusesToken(t, world, 'id_token_missing')
})

t.test('oidc-tok-008: redirect_uri is the same, byte for byte, in both requests', async t => {
  const { idp, signIn } = await makeWorld(t)
  const redirectUri = 'https://sso.assist.example/sso/0197c1de-0000-7000-8000-000000000001/callback'
  await signIn(idp, { redirectUri })
  t.equal(idp.last('token')!.form.get('redirect_uri'), redirectUri)
})

t.test('oidc-tok-009: no code, verifier, token or secret is in an error, whichever way a sign-in fails', async t => {
  const { idp, begin, providers } = await makeWorld(t)
  const failures: (() => void)[] = [
    () => (idp.script.answer.token = scripted.json(401, { error: 'invalid_client' })),
    () => (idp.script.answer.token = scripted.html(200)),
    () => (idp.script.answer.token = scripted.hangUp),
    () => (idp.script.claims = claims => ({ ...claims, aud: 'other' })),
    () => (idp.script.claims = claims => ({ ...claims, nonce: 'other' })),
    () => (idp.script.sign = (header, claims) => `${encode(header)}.${encode(claims)}.AAAA`),
    () => (idp.script.tokenReply = reply => ({ ...reply, token_type: 'mac' })),
  ]
  for (const fail of failures) {
    idp.reset()
    fail()
    const { exchange } = await begin(idp)
    const shown = inspect(await refusal(providers.exchangeCode(exchange)), { depth: 20 })
    const { codeVerifier, nonce, state, response, client } = exchange
    for (const secret of [codeVerifier, nonce, state, response.code!, client.clientSecrets[0]!, 'ana@corp', 'eyJ']) {
      t.notOk(shown.includes(secret), shown)
    }
  }
})

t.test('A failing token endpoint is away, or wrong, by its status', async t => {
  const { idp, signIn } = await makeWorld(t)
  const codes = {
    500: 'sso_idp_unreachable',
    429: 'sso_idp_unreachable',
    404: 'sso_idp_error',
    401: 'sso_client_rejected',
  }
  for (const [status, code] of Object.entries(codes)) {
    idp.script.answer.token = scripted.html(Number(status))
    t.match(await refusal(signIn(idp)), { code, detail: { stage: 'token', status: Number(status) } })
  }
  idp.script.answer.token = scripted.html(200)
  t.match(await refusal(signIn(idp)), { code: 'sso_idp_error', detail: { reason: 'not_json' } })
})

t.test('Whatever the endpoints answer, a sign-in ends in a refusal with a code', async t => {
  const { idp, network } = await makeWorld(t)
  const strange = [null, [], 7, 'text', {}, { error: 7 }, { error: '' }, { access_token: 'a' }, { keys: 'none' }]
  const tokens = [
    ...strange,
    ...['', 'a', 'a.b.c', '....', 'a.b.c.d.e', 7, {}].map(id_token => ({
      access_token: 'a',
      token_type: 'Bearer',
      id_token,
    })),
  ]
  const keys = [
    null,
    7,
    { kty: 'RSA' },
    { kty: 'RSA', kid: 'k1', alg: 'RS256', e: 'AQAB', n: '!'.repeat(400) },
    { kty: 'EC', crv: 'P-256', kid: 'k1' },
  ]
  const answers = { token: tokens, userinfo: strange, jwks: [...strange, { keys }] }
  for (const [endpoint, bodies] of Object.entries(answers)) {
    for (const [status, body] of bodies.flatMap(each => [[200, each] as const, [400, each] as const])) {
      const { providers, signIn } = makeRelyingParty(t, network.outbound)
      idp.reset()
      idp.script.answer[endpoint as 'token'] = scripted.json(status, body)
      await providers.test(idp.issuer)
      const attempt = signIn(idp, { user: { email: undefined } })
      const failure = endpoint === 'userinfo' ? (await attempt).contact.fault : await refusal(attempt)
      const code = failure?.code
      t.match(code, /^sso_(token_invalid|idp_error|idp_unreachable)$/, `${endpoint} ${status} ${JSON.stringify(body)}`)
    }
  }
})

t.test('The answer through the browser is checked before anything is sent', async t => {
  const { idp, begin, providers } = await makeWorld(t)
  const { exchange } = await begin(idp)
  const { response } = exchange
  const attempt = async (changes: Partial<typeof response>) =>
    refusal(providers.exchangeCode({ ...exchange, response: { ...response, ...changes } }))
  t.equal((await attempt({ state: 'other' })).code, 'sso_state_invalid')
  t.equal((await attempt({ iss: 'https://evil.example' })).code, 'sso_issuer_mismatch')
  t.equal((await attempt({ error: 'access_denied' })).code, 'sso_access_denied')
  t.equal((await attempt({ iss: 'https://evil.example', error: 'access_denied' })).code, 'sso_issuer_mismatch')
  const markup = '<script>alert(1)</script>é'
  t.match(await attempt({ error: markup }), {
    code: 'sso_idp_error',
    detail: { idpError: '<script>alert(1)</script>?' },
  })
  t.match(await attempt({ code: undefined }), { code: 'sso_idp_error', detail: { reason: 'code_missing' } })
  t.equal(idp.count('token'), 0)
  for (const query of [
    '',
    'code=a',
    'code=a&state=',
    'code=a&code=b&state=s',
    'code=a&state=s&state=x',
    'state=s&iss=a&iss=b',
  ]) {
    t.throws(() => readAuthorizationResponse(new URLSearchParams(query)), { code: 'sso_state_invalid' }, query)
  }
})

t.test('A provider that announces iss must send it (RFC 9207)', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.script.document = document => ({ ...document, authorization_response_iss_parameter_supported: true })
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
  const missing = await refusal(signIn(idp, { iss: null }))
  t.match(missing, { code: 'sso_issuer_mismatch', detail: { reason: 'iss_missing' } })
  const denied = await refusal(signIn(idp, { iss: null, error: 'access_denied' }))
  t.equal(denied.code, 'sso_issuer_mismatch', 'with an error too')
  t.equal((await refusal(signIn(idp, { error: 'access_denied' }))).code, 'sso_access_denied')
  t.equal(idp.count('token'), 1)
})

t.test('oidc-idt-001: a broken signature is refused', async t => {
  const world = await makeWorld(t)
  world.idp.script.sign = async (header, claims) => {
    const token = await signWith(world.idp.keys[0]!, claims, header)
    return token.slice(0, -10) + (token.endsWith('A'.repeat(10)) ? 'B' : 'A').repeat(10)
  }
  await refusesToken(t, world, 'signature')
})

t.test('oidc-idt-002: alg none is refused although it is announced', async t => {
  const world = await makeWorld(t)
  world.idp.script.document = document => ({ ...document, id_token_signing_alg_values_supported: ['RS256', 'none'] })
  world.idp.script.sign = (header, claims) => `${encode({ ...header, alg: 'none' })}.${encode(claims)}.`
  await refusesToken(t, world, 'alg')
})

t.test('oidc-idt-003: HS256 by the client secret is refused, announced or not', async t => {
  for (const announced of [['RS256'], ['RS256', 'HS256']]) {
    const world = await makeWorld(t)
    world.idp.script.document = document => ({ ...document, id_token_signing_alg_values_supported: announced })
    world.idp.script.sign = (header, claims) => hs256({ ...header, kid: 'assist-acme' }, claims, 'acme-secret')
    await refusesToken(t, world, 'alg')
  }
})

t.test('oidc-idt-004: HS256 with the public key as the secret is refused', async t => {
  const world = await makeWorld(t)
  const { publicKey, publicJwk } = world.idp.keys[0]!
  const pem = await exportSPKI(publicKey)
  const der = Buffer.from(await crypto.subtle.exportKey('spki', publicKey))
  for (const secret of [pem, der, JSON.stringify(publicJwk)]) {
    world.idp.script.sign = (header, claims) => hs256(header, claims, secret)
    await refusesToken(t, world, 'alg')
  }
})

const badClaims: [promise: string, reason: string, claims: ((now: number) => Claims)[]][] = [
  ['oidc-idt-005: an ID token of another issuer is refused', 'iss', [() => ({ iss: 'https://evil.example' })]],
  ['oidc-idt-006: an ID token for another client is refused', 'aud', [() => ({ aud: 'some-other-app' })]],
  ['oidc-idt-008: a foreign azp is refused beside a single audience too', 'azp', [() => ({ azp: 'other-app' })]],
  [
    'oidc-idt-009: a missing or foreign nonce is refused',
    'nonce',
    [() => ({ nonce: undefined }), () => ({ nonce: 'other' })],
  ],
  [
    'oidc-idt-010: a subject that is missing, empty, blank or too long is refused',
    'sub',
    [undefined, '', '   ', 'x'.repeat(256), 'ü', 7].map(sub => () => ({ sub })),
  ],
]

for (const [promise, reason, cases] of badClaims) {
  t.test(promise, async t => {
    const world = await makeWorld(t)
    for (const change of cases) {
      world.idp.script.claims = claims => ({ ...claims, ...change(0) })
      await refusesToken(t, world, reason)
    }
  })
}

t.test('oidc-idt-007: several audiences are fine where azp is this client, and only then', async t => {
  const world = await makeWorld(t)
  const { idp, signIn } = world
  idp.script.claims = claims => ({ ...claims, aud: ['assist-acme', 'api'], azp: 'assist-acme' })
  t.same((await signIn(idp)).claims.aud, ['assist-acme', 'api'])
  idp.script.claims = claims => ({ ...claims, aud: ['assist-acme', 'api'], azp: 'api' })
  await refusesToken(t, world, 'azp')
  idp.script.claims = claims => ({ ...claims, aud: ['assist-acme', 'api'] })
  await refusesToken(t, world, 'aud')
})

t.test('oidc-idt-011: two seconds between the clocks do no harm', async t => {
  const { idp, signIn, clock } = await makeWorld(t)
  idp.script.claims = claims => ({ ...claims, nbf: claims.iat })
  clock.offsetMs = -2_000
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
})

t.test('oidc-idt-012: times far off are refused, and the detail names both clocks', async t => {
  const { idp, signIn, clock } = await makeWorld(t)
  const now = Math.floor(Date.now() / 1000)
  const off = {
    exp: { exp: now - 600, iat: now - 900 },
    nbf: { nbf: now + 600 },
    iat: { iat: now + 600, exp: now + 3600 },
  }
  for (const [reason, times] of Object.entries(off)) {
    idp.script.claims = claims => ({ ...claims, ...times })
    const error = await refusal(signIn(idp))
    t.match(error, {
      code: 'sso_token_invalid',
      detail: { reason, hint: 'clock skew', tokenTime: /^\d{4}-.*Z$/, ourTime: /Z$/ },
    })
  }
  idp.reset()
  clock.offsetMs = 10 * minute
  t.match(await refusal(signIn(idp)), { detail: { hint: 'clock skew' } }, 'also when it is our clock that is wrong')
})

t.test('oidc-idt-013: keys that the token brings along are not looked at', async t => {
  const world = await makeWorld(t)
  const evil = await makeScriptedProvider(t, { network: world.network, issuer: 'https://evil.example' })
  const attackers = await makeKey('k1', 'RS256')
  for (const header of [
    { jwk: attackers.publicJwk },
    { jku: 'https://evil.example/keys' },
    { x5u: 'https://evil.example/x5u' },
  ]) {
    world.idp.script.sign = (plain, claims) => signWith(attackers, claims, { ...plain, ...header })
    await refusesToken(t, world, 'signature')
  }
  t.equal(evil.requests.length, 0)
})

t.test('oidc-idt-014: UserInfo about another subject is not used', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.script.claims = claims => ({ ...claims, email: undefined })
  idp.script.userinfo = () => ({ sub: 'u-olga', email: 'owner@corp.example', email_verified: true })
  const { contact } = await signIn(idp)
  t.match(contact, { email: undefined, fault: { code: 'sso_token_invalid', detail: { reason: 'userinfo_sub' } } })
})

t.test('oidc-idt-015: UserInfo does not override the ID token, and is not even asked', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.user.email_verified = false
  idp.script.userinfo = claims => ({ ...claims, email: 'owner@corp.example', email_verified: true })
  t.match((await signIn(idp)).contact, { source: 'id_token', email: 'ana@corp.example', emailVerified: false })
  t.equal(idp.count('userinfo'), 0)
})

t.test('UserInfo gives address and verification together where the ID token has no address', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.script.claims = claims => ({ ...claims, email: undefined, email_verified: true })
  idp.script.userinfo = claims => ({ ...claims, email_verified: undefined })
  const { contact } = await signIn(idp)
  t.strictSame(contact, {
    source: 'userinfo',
    email: 'ana@corp.example',
    emailVerified: undefined,
    name: 'Ana Example',
  })
})

t.test('oidc-jwk-001: a rotated key is fetched once and accepted', async t => {
  const { idp, signIn, clock } = await makeWorld(t)
  await signIn(idp)
  clock.offsetMs = 10 * minute
  idp.now = clock.now
  await idp.rotateKeys('k2')
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
  t.equal(idp.count('jwks'), 2, 'one before the rotation, one after')
})

t.test('oidc-jwk-002: a key rotated seconds after the last fetch is accepted', async t => {
  const { idp, signIn } = await makeWorld(t)
  await signIn(idp)
  await idp.rotateKeys('k2')
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
  t.equal(idp.count('jwks'), 2)
})

t.test('oidc-jwk-003: unknown keys make for one forced fetch in ten seconds', async t => {
  const { idp, signIn, clock } = await makeWorld(t)
  await signIn(idp)
  let kids = 0
  idp.script.header = header => ({ ...header, kid: `random-${++kids}` })
  const errors = await Promise.all(Array.from({ length: 50 }, () => refusal(signIn(idp))))
  t.ok(errors.every(({ code, detail }) => code === 'sso_token_invalid' && detail?.reason === 'unknown_key'))
  t.equal(idp.count('jwks'), 2)
  clock.offsetMs = 11_000
  await refusal(signIn(idp))
  t.equal(idp.count('jwks'), 3)
})

t.test('oidc-jwk-004: without a kid each fitting key is tried', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.script.header = ({ alg }) => ({ alg, kid: undefined })
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
  await idp.addKey('k2')
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
  const stranger = await makeKey('k2', 'RS256')
  idp.script.sign = (header, claims) => signWith(stranger, claims, header)
  t.match(await refusal(signIn(idp)), { code: 'sso_token_invalid', detail: { reason: 'signature' } })
})

t.test('oidc-jwk-005: an encryption key with the same kid is passed over', async t => {
  const { idp, signIn } = await makeWorld(t)
  const other = await makeKey('k1', 'RS256')
  idp.script.jwks = ({ keys }) => ({ keys: [{ ...other.publicJwk, alg: 'RSA-OAEP', use: 'enc' }, ...keys] })
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
})

t.test('oidc-jwk-006: known keys outlast an outage of the key endpoint; without any, nobody is let in', async t => {
  const { idp, signIn, clock } = await makeWorld(t, { timeoutMs: 300 })
  idp.script.answer.jwks = scripted.hang
  t.match(await refusal(signIn(idp)), { code: 'sso_idp_unreachable', detail: { stage: 'keys', reason: 'timeout' } })
  idp.reset()
  idp.now = clock.now
  clock.offsetMs = minute
  await signIn(idp)
  idp.script.answer.jwks = scripted.hang
  clock.offsetMs = 3 * minute
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
  clock.offsetMs = 60 * minute
  t.equal((await signIn(idp)).claims.sub, 'u-ana', 'and long after')
})

t.test('oidc-jwk-007: the key of another provider is of no use here, although it has the same kid', async t => {
  const world = await makeWorld(t)
  const evil = await makeScriptedProvider(t, { network: world.network, issuer: 'https://idp.evil.example' })
  await world.signIn(evil)
  world.idp.script.sign = (header, claims) => signWith(evil.keys[0]!, claims, header)
  await refusesToken(t, world, 'signature')
})

t.test('Elliptic and Edwards curves and PSS are accepted where announced, and only there', async t => {
  for (const alg of ['ES256', 'ES384', 'ES512', 'EdDSA', 'PS256', 'RS512']) {
    const world = await makeWorld(t)
    await world.idp.rotateKeys('k2', alg)
    await refusesToken(t, world, 'alg')
    world.idp.script.document = document => ({ ...document, id_token_signing_alg_values_supported: [alg] })
    world.providers.markStale(world.idp.issuer)
    t.equal((await world.signIn(world.idp)).claims.sub, 'u-ana', alg)
  }
})

t.test('A key set with a short RSA key, too many keys or none at all signs nobody in', async t => {
  const { idp, signIn, network } = await makeWorld(t)
  const { providers: others, signIn: signInElsewhere } = makeRelyingParty(t, network.outbound)
  idp.script.jwks = ({ keys }) => ({
    keys: keys.map(key => ({ ...key, n: Buffer.alloc(128, 201).toString('base64url') })),
  })
  t.match(await refusal(signIn(idp)), { code: 'sso_token_invalid', detail: { reason: 'unknown_key' } })
  idp.script.jwks = ({ keys }) => ({ keys: Array.from({ length: 101 }, () => keys[0]) })
  t.match(await refusal(signInElsewhere(idp)), { code: 'sso_idp_error', detail: { reason: 'keys_too_many' } })
  t.match(
    (await others.test(idp.issuer)).find(({ name }) => name === 'keys'),
    { result: 'fail' },
  )
})

t.test('All calls of one sign-in share one time limit', async t => {
  const { idp, network } = await makeWorld(t)
  const { signIn } = makeRelyingParty(t, { ...network.outbound, timeoutMs: 60_000 }, { signInBudgetMs: 300 })
  await signIn(idp)
  for (const endpoint of ['token', 'userinfo'] as const) {
    idp.reset()
    idp.script.answer[endpoint] = scripted.hang
    const startedAt = performance.now()
    const attempt = signIn(idp, { user: { email: undefined } })
    const error = endpoint === 'userinfo' ? (await attempt).contact.fault : await refusal(attempt)
    t.match(error, { code: 'sso_idp_unreachable', detail: { stage: endpoint, reason: 'timeout' } })
    const elapsedMs = performance.now() - startedAt
    t.ok(elapsedMs > 280 && elapsedMs < 1500, `${elapsedMs} ms`)
  }
})

const logoutEvent = 'http://schemas.openid.net/event/backchannel-logout'

t.test('A logout token is verified with the same keys', async t => {
  const { idp, providers } = await makeWorld(t)
  const now = Math.floor(Date.now() / 1000)
  const plain = {
    iss: idp.issuer,
    aud: 'assist-acme',
    iat: now,
    jti: 'j1',
    events: { [logoutEvent]: {} },
    sid: 'abc',
    sub: 'u-ana',
  }
  const verify = async (claims: Claims, header?: Claims) =>
    providers.verifyLogoutToken({ issuer: idp.issuer, clientId: 'assist-acme', token: await idp.sign(claims, header) })
  const verified = await verify(plain, { typ: 'logout+jwt' })
  t.strictSame(verified, { jti: 'j1', iat: now, exp: now + 300, sub: 'u-ana', sid: 'abc' })
  t.match(await verify({ ...plain, exp: now + 120, sid: undefined }), { exp: now + 120, sub: 'u-ana' })

  const bad: Record<string, Claims> = {
    nonce: { nonce: 'n' },
    events: { events: { 'http://schemas.openid.net/event/other': {} } },
    aud: { aud: 'other' },
    iss: { iss: 'https://evil.example' },
    sub: { sub: undefined, sid: undefined },
    jti: { jti: undefined },
    iat: { iat: now - 600 },
    exp: { exp: now - 60 },
  }
  for (const [reason, change] of Object.entries(bad)) {
    t.match(await refusal(verify({ ...plain, ...change })), { code: 'sso_token_invalid', detail: { reason } })
  }
  for (const events of [undefined, null, 'text', { [logoutEvent]: null }]) {
    t.match(await refusal(verify({ ...plain, events })), { detail: { reason: 'events' } })
  }
  const token = `${encode({ alg: 'none' })}.${encode(plain)}.`
  const unsigned = providers.verifyLogoutToken({ issuer: idp.issuer, clientId: 'assist-acme', token })
  t.match(await refusal(unsigned), { code: 'sso_token_invalid', detail: { reason: 'alg' } })
  const garbage = providers.verifyLogoutToken({ issuer: idp.issuer, clientId: 'assist-acme', token: 'a.b' })
  t.match(await refusal(garbage), { code: 'sso_token_invalid', detail: { reason: 'malformed' } })
})
