import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { maxKeysTried } from '../../src/oidc/id-token.ts'
import { makeNetwork } from '../helpers/network.ts'
import { makeRelyingParty, refusal } from '../helpers/relying-party.ts'
import { json, makeScriptedProvider, type Answer } from '../helpers/scripted-provider.ts'

async function makeWorld(t: Test) {
  const network = makeNetwork()
  const idp = await makeScriptedProvider(t, { network })
  return { idp, network, ...makeRelyingParty(t, network.outbound) }
}

/** Counts the signature verifications that some work causes. */
async function countVerifications(t: Test, work: () => Promise<unknown>): Promise<number> {
  const calls = t.capture(crypto.subtle, 'verify', crypto.subtle.verify)
  await work().catch(() => undefined)
  const count = calls().length
  calls.restore()
  return count
}

const rsaKey = (changes: object = {}) => ({
  kty: 'RSA',
  alg: 'RS256',
  use: 'sig',
  e: 'AQAB',
  n: Buffer.concat([Buffer.from([0xc1]), randomBytes(254), Buffer.from([1])]).toString('base64url'),
  ...changes,
})

const manyKeys = (changes: object) => Array.from({ length: 100 }, () => rsaKey(changes))

t.test('n-oidc-jwk-01: no key set makes one token cost more than a few signature verifications', async t => {
  const { idp, providers, signIn } = await makeWorld(t)
  const claims = { iss: idp.issuer, aud: 'assist-acme', iat: Math.floor(Date.now() / 1000), jti: 'j', events: {} }
  const token = await idp.sign(claims, { kid: undefined })
  const verifyLogout = async () => providers.verifyLogoutToken({ issuer: idp.issuer, clientId: 'assist-acme', token })
  const sets = {
    'long exponents': manyKeys({ e: randomBytes(384).toString('base64url') }),
    'long moduli': manyKeys({ n: randomBytes(2_000).toString('base64url') }),
    'no kid': manyKeys({}),
    'one kid': manyKeys({ kid: 'k1' }),
  }
  for (const [name, keys] of Object.entries(sets)) {
    idp.script.jwks = () => ({ keys })
    const expected = name.startsWith('long') ? 0 : 2 * maxKeysTried
    const logout = await countVerifications(t, verifyLogout)
    t.ok(logout <= expected, `${name}: ${logout} verifications of a logout token`)
    const atSignIn = await countVerifications(t, async () => signIn(idp))
    t.ok(atSignIn <= expected, `${name}: ${atSignIn} verifications at a sign-in`)
    t.match(await refusal(signIn(idp)), { code: 'sso_token_invalid' })
  }
})

t.test('The configuration check names the keys that it leaves out, and why', async t => {
  const { idp, providers } = await makeWorld(t)
  const unusable = [
    [{ e: randomBytes(384).toString('base64url') }, 'RSA with an exponent above 32 bits'],
    [{ n: randomBytes(1_100).toString('base64url') }, 'RSA longer than 8192 bits'],
    [{ n: randomBytes(128).toString('base64url') }, 'RSA shorter than 2048 bits'],
    [{ kid: 'k'.repeat(600) }, 'with a kid above 512 characters'],
    [{ use: 'enc'.repeat(1_000) }, /for encencenc.{11}, not signatures/],
  ] as const
  for (const [changes, reason] of unusable) {
    idp.script.jwks = jwks => ({ keys: [...jwks.keys, rsaKey(changes)] })
    const check = (await providers.test(idp.issuer)).find(({ name }) => name === 'keys')
    t.match(check, { result: 'warn', message: reason })
    t.ok(check!.message.length < 300)
  }
  idp.script.jwks = () => ({ keys: manyKeys({ e: randomBytes(384).toString('base64url') }) })
  t.match(
    (await providers.test(idp.issuer)).find(({ name }) => name === 'keys'),
    { result: 'fail', message: /exponent/ },
  )
})

t.test('A token without kid is verified by each of a few keys, as after a rotation', async t => {
  const { idp, signIn } = await makeWorld(t)
  idp.script.header = header => ({ ...header, kid: undefined })
  idp.script.jwks = jwks => ({ keys: [rsaKey(), rsaKey(), ...jwks.keys.map(({ kid: _kid, ...key }) => key)] })
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
})

t.test('n-oidc-jwk-02: what is only checked is not cached, and large documents cannot fill the memory', async t => {
  const { network, providers } = await makeWorld(t)
  const padding = Array.from({ length: 240 }, (_each, index) => `scope-${index}-${'x'.repeat(900)}`)
  for (let count = 0; count < 20; count++) {
    const issuer = `https://idp${count}.evil.example`
    const idp = await makeScriptedProvider(t, { network, issuer })
    idp.script.document = document => ({ ...document, scopes_supported: padding, claims_supported: padding })
    await providers.test(issuer)
  }
  t.equal(providers.cachedBytes(), 0, 'checks leave nothing behind')
  for (let count = 0; count < 20; count++) await providers.discover(`https://idp${count}.evil.example`)
  t.ok(providers.cachedBytes() < 20 * 10_000, `${providers.cachedBytes()} bytes for 20 documents of 430 KB`)
})

t.test('n-oidc-mt-01: metadata that are marked stale stay in use while the provider is away', async t => {
  const { idp, providers } = await makeWorld(t)
  await providers.discover(idp.issuer)
  providers.markStale(idp.issuer)
  idp.script.answer.discovery = json(503, {})
  t.equal((await providers.discover(idp.issuer)).issuer, idp.issuer, 'the copy that other workspaces rely on')
  idp.reset()
  const fresh = makeRelyingParty(t, (await makeWorld(t)).network.outbound)
  t.match(await refusal(fresh.providers.discover('https://unknown.corp.example')), { code: 'sso_idp_unreachable' })
})

t.test('Every 401 of the token endpoint is a rejected client, so that the second secret is tried', async t => {
  const { idp, signIn } = await makeWorld(t)
  const client = { clientSecrets: ['new-secret', 'acme-secret'] }
  const answers: Record<string, Answer> = {
    'n-oidc-tok-01: Keycloak': json(401, { error: 'unauthorized_client', error_description: 'Invalid client' }),
    Auth0: json(401, { error: 'access_denied', error_description: 'Unauthorized' }),
    'RFC 6749': json(401, { error: 'invalid_client' }),
    'an unknown error': json(401, { error: 'go_away' }),
    'no error code': json(401, {}),
    'a list': json(401, []),
    text: (_request, response) => void response.writeHead(401, { 'content-type': 'text/html' }).end('<html>'),
    'a body above 512 KB': json(401, { error: 'x', error_description: 'x'.repeat(600_000) }),
    'a body that cannot be decoded': (_request, response) =>
      void response.writeHead(401, { 'content-type': 'application/json', 'content-encoding': 'gzip' }).end('not gzip'),
    'no body': (_request, response) => void response.writeHead(401, { 'www-authenticate': 'Basic' }).end(),
  }
  for (const [name, answer] of Object.entries(answers)) {
    idp.reset()
    idp.script.answer.token = answer
    t.match(await refusal(signIn(idp)), { code: 'sso_client_rejected' }, name)
    const before = idp.count('token')
    t.match(await refusal(signIn(idp, { client })), { code: 'sso_client_rejected' }, name)
    t.equal(idp.count('token') - before, 2, `${name}: both secrets were tried`)
  }
  for (const status of [400, 403, 404]) {
    idp.script.answer.token = json(status, { error: 'access_denied' })
    t.match(await refusal(signIn(idp)), { code: 'sso_idp_error' }, `${status} says nothing about the secret`)
  }
})

t.test('n-oidc-idt-03: a UserInfo endpoint that fails leaves the proven ID token as it is', async t => {
  const { idp, signIn } = await makeWorld(t)
  const answers: [string, Answer, object][] = [
    ['403', json(403, { error: 'insufficient_scope' }), { code: 'sso_idp_error' }],
    ['500', json(500, {}), { code: 'sso_idp_unreachable' }],
    ['HTML', (_request, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('x'), {}],
    ['another subject', json(200, { sub: 'u-olga', email: 'owner@corp.example' }), { code: 'sso_token_invalid' }],
    ['no JSON', json(200, 'nonsense'), { code: 'sso_idp_error' }],
  ]
  for (const [name, answer, fault] of answers) {
    idp.script.answer.userinfo = answer
    const { claims, contact } = await signIn(idp, { user: { email: undefined } })
    t.equal(claims.sub, 'u-ana', name)
    t.match(contact, { email: undefined, fault }, name)
  }
})

t.test('A UserInfo response that the provider signed is verified with its keys', async t => {
  const { idp, signIn } = await makeWorld(t)
  const plain = { sub: 'u-ana', email: 'ana@corp.example', email_verified: true }
  const answerWith = (token: string, type = 'application/jwt') => {
    idp.script.answer.userinfo = (_request, response) => {
      response.writeHead(200, { 'content-type': type }).end(token)
    }
  }
  const contactOf = async (token: string, type?: string) => {
    answerWith(token, type)
    return (await signIn(idp, { user: { email: undefined } })).contact
  }
  const full = { ...plain, iss: idp.issuer, aud: 'assist-acme' }
  for (const claims of [plain, full, { ...full, aud: ['assist-acme', 'other'] }]) {
    t.match(await contactOf(await idp.sign(claims)), { source: 'userinfo', email: 'ana@corp.example' })
  }
  t.match(await contactOf(await idp.sign(full), 'application/jwt; charset=utf-8'), { email: 'ana@corp.example' })
  const bad: [string, string | Promise<string>, string][] = [
    ['another issuer', idp.sign({ ...full, iss: 'https://evil.example' }), 'userinfo_iss'],
    ['another client', idp.sign({ ...full, aud: 'other' }), 'userinfo_aud'],
    ['another subject', idp.sign({ ...full, sub: 'u-olga' }), 'userinfo_sub'],
    ['an unknown key', idp.sign(full, { kid: 'unknown' }), 'unknown_key'],
    ['no signature', `${Buffer.from('{"alg":"none"}').toString('base64url')}.e30.`, 'alg'],
    ['an encrypted token', 'a.b.c.d.e', 'userinfo_encrypted'],
    ['text', 'nonsense', 'malformed'],
  ]
  for (const [name, token, reason] of bad) {
    t.match(await contactOf(await token), { email: undefined, fault: { detail: { reason } } }, name)
  }
})
