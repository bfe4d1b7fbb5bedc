import { createHmac } from 'node:crypto'
import { exportSPKI } from 'jose'
import t, { type Test } from 'tap'
import { hangUp, json, makeKey, makeScriptedProvider, signWith } from '../helpers/scripted-provider.ts'
import {
  entriesOf,
  expectRefusal,
  expectSignedIn,
  makeBrowser,
  makeSignInWorld,
  type Acme,
} from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, network, makeAcme } = world
t.beforeEach(() => idp.reset())

const refuses = (tt: Test, acme: Acme, code: string, at = world) =>
  expectRefusal(tt, at, { acme, code, act: () => makeBrowser(at).signIn(acme) })

const succeeds = (tt: Test, acme: Acme, at = world) =>
  expectSignedIn(tt, at, { acme, memberId: acme.ids.ana, act: () => makeBrowser(at).signIn(acme) })

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
/** A token that is signed with HMAC by whatever an attacker can know. */
const hs256 = (key: string | Buffer) => (header: object, claims: object) => {
  const input = `${base64url({ ...header, alg: 'HS256' })}.${base64url(claims)}`
  return `${input}.${createHmac('sha256', key).update(input).digest('base64url')}`
}

const seconds = () => Math.floor(Date.now() / 1000)

t.test('oidc-tok-001: a secret with special characters goes form-encoded by Basic', async t => {
  const secret = 'a+b/c d:e%&='
  idp.clients.set('assist-acme', secret)
  idp.acceptedAuth = 'client_secret_basic'
  t.teardown(() => void idp.clients.set('assist-acme', 'acme-secret'))
  await succeeds(t, await makeAcme({ clientSecret: secret }))
  const [, encoded] = idp.requests.findLast(request => request.endpoint === 'token')!.headers.authorization!.split(' ')
  t.equal(Buffer.from(encoded!, 'base64').toString(), 'assist-acme:a%2Bb%2Fc+d%3Ae%25%26%3D')
})

t.test('oidc-tok-002: the admin may have the secret sent in the form', async t => {
  idp.acceptedAuth = 'client_secret_post'
  await succeeds(t, await makeAcme({ tokenAuthMethod: 'client_secret_post' }))
  const { form, headers } = idp.requests.findLast(request => request.endpoint === 'token')!
  t.equal(form.get('client_secret'), 'acme-secret')
  t.equal(headers.authorization, undefined)
})

t.test('oidc-tok-003: the authentication method follows the metadata, and absent means Basic', async t => {
  for (const [announced, accepted] of [
    [['client_secret_post'], 'client_secret_post'],
    [['client_secret_basic'], 'client_secret_basic'],
    [undefined, 'client_secret_basic'],
  ] as const) {
    idp.script.document = document => ({ ...document, token_endpoint_auth_methods_supported: announced })
    idp.acceptedAuth = accepted
    await succeeds(t, await makeAcme())
  }
})

t.test(
  'oidc-tok-004, oidc-tok-005: rejected credentials are told to the owner, by the code of the provider',
  async t => {
    const acme = await makeAcme()
    for (const idpCode of ['AADSTS7000222', 'AADSTS7000215']) {
      idp.script.answer.token = json(401, {
        error: 'invalid_client',
        error_description: `${idpCode}: The key is wrong.`,
      })
      const asked = idp.count('token')
      const { landing, detail } = await refuses(t, acme, 'sso_client_rejected')
      t.equal(landing.retry, undefined, 'trying again would not help')
      t.match(detail, { idpError: 'invalid_client', idpCode })
      t.equal(idp.count('token') - asked, 1, 'the code is never sent again')
    }
  },
)

t.test('oidc-tok-006: a code that is used or expired is an error of the provider, with another try', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = new URL(await browser.reachCallback(acme, { returnTo: '/deep' }))
  callback.searchParams.set('code', 'stale')
  const { landing } = await expectRefusal(t, world, {
    acme,
    code: 'sso_idp_error',
    act: () => browser.open(callback.href),
  })
  t.equal(new URL(landing.retry!).searchParams.get('return_to'), 'https://app.assist.example/deep')
})

t.test('oidc-tok-007: without an ID token nobody has signed in, whatever UserInfo would say', async t => {
  idp.script.tokenReply = ({ id_token: _absent, ...reply }) => reply
  const asked = idp.count('userinfo')
  const { detail } = await refuses(t, await makeAcme(), 'sso_token_invalid')
  t.match(detail, { reason: 'id_token_missing' })
  t.equal(idp.count('userinfo'), asked)
})

t.test('oidc-tok-008: the redirect URI is the registered one behind a proxy too', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const headers = { host: 'sso.internal:8080' }
  const { authorizationUrl } = await browser.start(acme, { headers })
  const { exchangeCode } = await browser.open(idp.authorize(authorizationUrl), headers)
  t.ok(exchangeCode)
  const registered = `https://sso.assist.example/sso/${acme.workspaceId}/callback`
  t.equal(idp.requests.findLast(request => request.endpoint === 'token')!.form.get('redirect_uri'), registered)
})

t.test('oidc-tok-009: no code, state, verifier, token or secret is in the log', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  let idToken = ''
  let accessToken = ''
  idp.script.tokenReply = reply => {
    idToken = String(reply.id_token)
    accessToken = String(reply.access_token)
    return reply
  }
  const callback = new URL(await browser.reachCallback(acme))
  const cookie = [...browser.cookies.values()][0]!
  const { exchangeCode } = await browser.open(callback.href)
  const session = (await browser.redeem(exchangeCode!, { headers: { 'sec-fetch-site': 'cross-site' } })).json()
  const { form } = idp.requests.findLast(request => request.endpoint === 'token')!
  const log = test.log()
  for (const secret of [
    callback.searchParams.get('code')!,
    callback.searchParams.get('state')!,
    form.get('code_verifier')!,
    browser.verifier,
    cookie,
    idToken,
    accessToken,
    exchangeCode!,
    session.sessionToken,
    session.accessToken,
    'acme-secret',
    'ana@corp.example',
  ]) {
    t.ok(secret.length > 5)
    t.notOk(log.includes(secret))
  }
  t.match(log, /\/sso\/:workspaceId\/callback/, 'requests are logged by their route')
  const stored = await test.db.selectFrom('sign_in_attempts').selectAll().execute()
  t.notOk(JSON.stringify(stored).includes(form.get('code_verifier')!))
  t.notOk(JSON.stringify(await test.db.selectFrom('sessions').selectAll().execute()).includes(idToken))
})

t.test('oidc-idt-001..004, 013: a signature that is not by a published key is refused', async t => {
  // Announced or not: HS256 and none are never accepted.
  idp.script.document = document => ({ ...document, id_token_signing_alg_values_supported: ['RS256', 'none', 'HS256'] })
  const acme = await makeAcme()
  const { publicKey, publicJwk } = idp.keys.at(-1)!
  const pem = await exportSPKI(publicKey)
  const foreign = await makeKey('k1', 'RS256')
  const forgeries: Record<string, (header: object, claims: object) => string | Promise<string>> = {
    'oidc-idt-001: the last characters replaced': async (_header, claims) => {
      const token = await signWith(idp.keys.at(-1)!, claims as Record<string, unknown>)
      return token.slice(0, -10) + (token.endsWith('AAAAAAAAAA') ? 'BBBBBBBBBB' : 'AAAAAAAAAA')
    },
    'oidc-idt-002: alg none': (header, claims) => `${base64url({ ...header, alg: 'none' })}.${base64url(claims)}.`,
    'oidc-idt-003: HS256 by the client secret': hs256('acme-secret'),
    'oidc-idt-004: HS256 by the public key in PEM': hs256(pem),
    'oidc-idt-004: HS256 by the public key in DER': hs256(
      Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64'),
    ),
    'oidc-idt-004: HS256 by the public JWK': hs256(JSON.stringify(publicJwk)),
    'oidc-idt-013: a key in the header': (_header, claims) =>
      signWith(foreign, claims as Record<string, unknown>, {
        jwk: foreign.publicJwk,
        jku: 'https://evil.example/keys',
      }),
  }
  for (const [name, sign] of Object.entries(forgeries)) {
    await t.test(name, async tt => {
      idp.script.sign = sign
      await refuses(tt, acme, 'sso_token_invalid')
    })
  }
  t.notOk(network.lookups.includes('evil.example'))
})

t.test('oidc-idt-005..010, 012, oidc-jit-011: claims that are not for us, not now, or nobody', async t => {
  const acme = await makeAcme()
  const now = seconds()
  const faults: [string, Record<string, unknown>, string][] = [
    ['oidc-idt-005', { iss: 'https://evil.example' }, 'iss'],
    [
      'oidc-jit-011',
      { iss: 'https://login.microsoftonline.com/9999/v2.0', tid: '9999', email: 'owner@corp.example' },
      'iss',
    ],
    ['oidc-idt-006', { aud: 'some-other-app' }, 'aud'],
    ['oidc-idt-007', { aud: ['assist-acme', 'api'], azp: 'api' }, 'azp'],
    ['oidc-idt-008', { azp: 'other-app' }, 'azp'],
    ['oidc-idt-009: none', { nonce: undefined }, 'nonce'],
    ['oidc-idt-009: another', { nonce: 'other' }, 'nonce'],
    ['oidc-idt-010: none', { sub: undefined }, 'sub'],
    ['oidc-idt-010: empty', { sub: '' }, 'sub'],
    ['oidc-idt-010: blank', { sub: '   ' }, 'sub'],
    ['oidc-idt-012: expired', { exp: now - 600 }, 'exp'],
    ['oidc-idt-012: not yet valid', { nbf: now + 600 }, 'nbf'],
    ['oidc-idt-012: from the future', { iat: now + 600, exp: now + 3600 }, 'iat'],
  ]
  for (const [name, changes, reason] of faults) {
    await t.test(name, async tt => {
      idp.script.claims = claims => ({ ...claims, ...changes })
      const asked = idp.count('userinfo')
      const { detail } = await refuses(tt, acme, 'sso_token_invalid')
      tt.match(detail, { reason })
      if (name.startsWith('oidc-idt-012')) tt.match(detail, { hint: 'clock skew', tokenTime: String, ourTime: String })
      tt.equal(idp.count('userinfo'), asked, 'nothing is done with a token before it is checked')
    })
  }
  const empty = await test.db.selectFrom('identities').select('subject').where('subject', 'in', ['', '   ']).execute()
  t.same(empty, [])
})

t.test('oidc-idt-007, oidc-idt-011: several audiences with our azp, and two seconds of skew, go in', async t => {
  const acme = await makeAcme()
  idp.script.claims = claims => ({ ...claims, aud: ['assist-acme', 'api'], azp: 'assist-acme' })
  await succeeds(t, acme)
  idp.script.claims = claims => {
    const ahead = seconds() + 2
    return { ...claims, iat: ahead, nbf: ahead, exp: ahead + 300 }
  }
  await succeeds(t, acme)
})

t.test('oidc-idt-014, oidc-idt-015: UserInfo speaks of the same subject, and never overrides the ID token', async t => {
  const acme = await makeAcme()
  idp.script.claims = ({ email: _email, ...thin }) => thin
  idp.script.userinfo = () => ({ sub: 'u-olga', email: 'owner@corp.example', email_verified: true })
  const { detail } = await refuses(t, acme, 'sso_token_invalid')
  t.match(detail, { reason: 'userinfo_sub' })
  idp.script.claims = claims => ({ ...claims, email_verified: false })
  idp.script.userinfo = () => ({ sub: 'u-ana', email: 'owner@corp.example', email_verified: true })
  await refuses(t, acme, 'sso_email_unverified')
})

t.test(
  'n-oidc-idt-03: a failing UserInfo endpoint refuses no linked person, and an unlinked one with its cause',
  async t => {
    const acme = await makeAcme()
    await succeeds(t, acme)
    idp.script.claims = ({ email: _email, ...thin }) => thin
    for (const answer of [json(403, {}), json(500, {}), json(200, { sub: 'u-olga' }), hangUp]) {
      idp.script.answer.userinfo = answer
      await succeeds(t, acme)
    }
    const last = (await entriesOf(world.test, acme.workspaceId)).findLast(
      each => each.action === 'sso_sign_in.succeeded',
    )
    t.match(last, { detail: { userInfoFault: String } }, 'the entry says that UserInfo failed')
    idp.script.answer.userinfo = json(403, {})
    await refuses(t, await makeAcme(), 'sso_idp_error')
  },
)

/** A provider whose keys nobody has fetched yet. */
async function makeOwn(host: string) {
  const own = await makeScriptedProvider(t, { network, issuer: `https://${host}` })
  return { own, at: { ...world, idp: own }, acme: await makeAcme({ issuer: own.issuer }) }
}

t.test('oidc-jwk-001, oidc-jwk-002: a key rotated a moment ago is found by one more fetch', async t => {
  const { own, at, acme } = await makeOwn('rotated.corp.example')
  await succeeds(t, acme, at)
  const asked = own.count('jwks')
  await own.rotateKeys('k2')
  await succeeds(t, acme, at)
  t.equal(own.count('jwks') - asked, 1)
})

t.test('oidc-jwk-003: unknown kids do not become a flood', async t => {
  const { own, at, acme } = await makeOwn('flooded.corp.example')
  await succeeds(t, acme, at)
  const foreign = await makeKey('other', 'RS256')
  const asked = own.count('jwks')
  for (let count = 0; count < 50; count++) {
    own.script.sign = (_header, claims) => signWith(foreign, claims, { kid: `random-${count}` })
    t.equal((await makeBrowser(at).signIn(acme)).code, 'sso_token_invalid')
  }
  t.ok(own.count('jwks') - asked <= 1)
})

t.test('oidc-jwk-004, oidc-jwk-005: no kid, or one that an encryption key has too', async t => {
  const { own, at, acme } = await makeOwn('keys.corp.example')
  own.script.header = ({ kid: _absent, ...header }) => header
  await succeeds(t, acme, at)
  own.reset()
  const encryption = await makeKey('k1', 'RSA-OAEP-256')
  own.script.jwks = ({ keys }) => ({ keys: [{ ...encryption.publicJwk, use: 'enc' }, ...keys] })
  await acme.configure({ issuer: own.issuer, autoProvision: false })
  await succeeds(t, acme, at)
})

t.test('oidc-jwk-006: known keys outlive an outage, unknown ones are not guessed', async t => {
  const { own, at, acme } = await makeOwn('outage.corp.example')
  await succeeds(t, acme, at)
  own.script.answer.jwks = json(503, {})
  await succeeds(t, acme, at)
  const unknown = await makeOwn('unknown.corp.example')
  unknown.own.script.answer.jwks = json(503, {})
  await refuses(t, unknown.acme, 'sso_idp_unreachable', unknown.at)
})

t.test("oidc-jwk-007: another issuer's key of the same kid proves nothing", async t => {
  const evil = await makeScriptedProvider(t, { network, issuer: 'https://evil-keys.example' })
  const evilco = await makeAcme({ issuer: evil.issuer, autoProvision: true, allowedDomains: [] })
  await makeBrowser({ test, idp: evil }).signIn(evilco, { user: { sub: 'x', email: 'x@evil.example' } })
  const kid = idp.keys.at(-1)!.kid
  idp.script.sign = (_header, claims) => signWith(evil.keys[0]!, claims, { kid })
  await refuses(t, await makeAcme(), 'sso_token_invalid')
})

t.test('the session keeps what the token says of the authentication, and ends with session_expiry', async t => {
  const acme = await makeAcme()
  const ends = seconds() + 600
  const auth_time = seconds() - 5
  const claims = { auth_time, acr: 'urn:mfa', amr: ['pwd', 'otp'], sid: 'idp-session', session_expiry: ends }
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: claims })
  const session = (await browser.redeem(exchangeCode!)).json()
  t.match(session, {
    authTime: new Date(auth_time * 1000).toISOString(),
    acr: 'urn:mfa',
    amr: ['pwd', 'otp'],
    expiresAt: new Date(ends * 1000).toISOString(),
  })
  const row = await test.db.selectFrom('sessions').selectAll().where('id', '=', session.id).executeTakeFirstOrThrow()
  t.match(row, { idp_session_id: 'idp-session', issuer: idp.issuer, subject: 'u-ana' })
})
