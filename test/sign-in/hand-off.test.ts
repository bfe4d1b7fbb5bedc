import { createHash, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify, type JSONWebKeySet } from 'jose'
import { sql } from 'kysely'
import t from 'tap'
import { endAccess } from '../../src/access/derivation/end-access.ts'
import { createAccessTokens } from '../../src/sign-in/session/access-tokens.ts'
import { parseReturnTo } from '../../src/sign-in/attempt/return-to.ts'
import { createRateLimit } from '../../src/rate-limit.ts'
import { sweepExpired } from '../../src/sign-in/sweep.ts'
import { visitorAddress, visitorNetwork } from '../../src/sign-in/attempt/visitor.ts'
import { makeOpaqueToken } from '../../src/opaque-token.ts'
import { createSecretBox } from '../../src/secret-box.ts'
import { signToken } from '../helpers/app.ts'
import { entriesOf, makeBrowser, makeSignInWorld, type Acme, errorCodeOf } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, makeAcme } = world
const { app, db, config } = test
t.beforeEach(() => idp.reset())

const rules = {
  frontendOrigins: ['https://app.assist.example', 'https://beta.assist.example'],
  frontendInitiatePath: '/sso/start',
}
const origins = ['https://app.assist.example', 'https://beta.assist.example']
const ana = { sub: 'u-ana', email: 'ana@corp.example' }

/** A browser with a session, and what it got for it. */
async function signedIn(acme: Acme, user: Record<string, unknown> = ana, headers: Record<string, string> = {}) {
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user })
  const reply = await browser.redeem(exchangeCode!, { headers })
  return { browser, exchangeCode: exchangeCode!, reply, session: reply.json() }
}

const setSession = (id: string, changes: object) =>
  db.updateTable('sessions').set(changes).where('id', '=', id).execute()

const asBearer = (token: string) => ({ authorization: `Bearer ${token}` })

t.test('oidc-ret-001..003: whatever could be read as another place is refused', async t => {
  const acme = await makeAcme()
  for (const target of [
    '//evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/%5Cevil.example',
    '///evil.example',
    'https://evil.example',
    'HTTPS://evil.example',
    'javascript:alert(1)',
    'data:text/html,x',
    'https://app.assist.example@evil.example',
    'https://app.assist.example.evil.example',
    'https://user@app.assist.example/',
    'http://app.assist.example/',
    'https://app.assist.example:8443/',
    'https:evil.example',
    '/\t/evil.example',
    '/%09/evil.example',
    ' //evil.example',
    '%20//evil.example',
    '/\u0000//evil.example',
    'inbox',
    '',
    `/${'a'.repeat(2048)}`,
  ]) {
    const { reply } = await makeBrowser(world).start(acme, { returnTo: target })
    // A NUL is refused before anything is read from it.
    const code = target.includes('\0') ? 'invalid' : 'sso_return_to_invalid'
    t.equal(errorCodeOf(reply), code, JSON.stringify(target))
  }
  t.same(await entriesOf(test, acme.workspaceId, (await entriesOf(test, acme.workspaceId)).at(-1)!.id), [])
})

t.test('return_to is always a place of the front-end, for any text', async () => {
  const piece = fc.oneof(
    fc.constantFrom('/', '\\', '//', 'https:', 'evil.example', '@', '%5c', '%2f', '\t', '#', '?', ':443', ...origins),
    fc.string({ maxLength: 8 }),
    fc.string({ unit: 'binary', maxLength: 4 }),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), pieces => {
      let target: string
      try {
        target = parseReturnTo(pieces.join(''), rules)
      } catch (error) {
        return (error as { code?: string }).code === 'sso_return_to_invalid'
      }
      const { origin, pathname } = new URL(target)
      return origins.includes(origin) && !pathname.startsWith('//') && parseReturnTo(target, rules) === target
    }),
    { numRuns: 5_000 },
  )
})

t.test('oidc-ret-004: legal targets survive unchanged', async t => {
  const acme = await makeAcme()
  const path = '/inbox?filter=a%26b&x=https%3A%2F%2Fevil.example#note-7'
  for (const [returnTo, expected] of [
    [path, `https://app.assist.example${path}`],
    ['https://app.assist.example/inbox', 'https://app.assist.example/inbox'],
    [undefined, 'https://app.assist.example/'],
  ] as const) {
    const browser = makeBrowser(world)
    const { exchangeCode } = await browser.signIn(acme, { ...(returnTo !== undefined && { returnTo }) })
    t.equal((await browser.redeem(exchangeCode!)).json().returnTo, expected)
  }
})

t.test('several front-ends, and plain http as development has it', async t => {
  const settings = { PUBLIC_URL: 'http://localhost:3000', FRONTEND_ORIGINS: origins.join(',') }
  const other = await makeSignInWorld(t, { replicaOf: world, settings })
  const acme = await makeAcme()
  const browser = makeBrowser(other)
  const { reply, authorizationUrl } = await browser.start(acme, { returnTo: 'https://beta.assist.example/x' })
  t.match(reply.headers['set-cookie'], /^la-[\w-]{8}=[\w-]{43}; Max-Age=600; Path=\/; HttpOnly; SameSite=Lax$/)
  t.equal(reply.headers['strict-transport-security'], undefined)
  const { location } = await browser.open(idp.authorize(authorizationUrl))
  t.equal(location.origin, 'https://beta.assist.example', 'the browser ends at the front-end that it came from')
  const cancelled = await browser.signIn(acme, { returnTo: `${origins[1]}/x`, error: 'access_denied' })
  t.equal(cancelled.location.origin, 'https://beta.assist.example')
})

t.test('oidc-ses-001: no URL carries more than a code for one use', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const { location, reply, exchangeCode } = await browser.signIn(acme)
  t.same([...location.searchParams.keys()], ['code'])
  t.match(reply.headers, { 'referrer-policy': 'no-referrer', 'cache-control': 'no-store' })
  const codes = await db.selectFrom('exchange_codes').selectAll().where('workspace_id', '=', acme.workspaceId).execute()
  t.equal(codes.length, 1)
  t.ok(Date.parse(codes[0]!.expires_at) - Date.now() <= 60_000)
  t.notOk(JSON.stringify(codes).includes(exchangeCode!), 'kept as a hash')
  t.equal((await browser.get('/v1/session')).statusCode, 401, 'the code alone is no session')
})

t.test('oidc-ses-002: an exchange code is for one use, by the browser that began', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const wrong = 'w'.repeat(43)
  const first = (await browser.signIn(acme)).exchangeCode!
  const refusals = [await browser.redeem(first, { verifier: wrong }), await browser.redeem(first)]
  const second = (await browser.signIn(acme)).exchangeCode!
  t.equal((await browser.redeem(second)).statusCode, 201)
  refusals.push(await browser.redeem(second))
  const late = (await browser.signIn(acme)).exchangeCode!
  await db
    .updateTable('exchange_codes')
    .set({ expires_at: sql`now()` })
    .where('used_at', 'is', null)
    .execute()
  refusals.push(await browser.redeem(late), await browser.redeem('exc_nonsense'))
  const bodies = refusals.map(reply => ({ ...reply.json(), requestId: '' }))
  t.match(bodies[0], { status: 400, code: 'exchange_code_invalid' })
  for (const body of bodies) t.same(body, bodies[0])
})

t.test('a code redeemed many times at once gives one session', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const code = (await browser.signIn(acme)).exchangeCode!
  const replies = await Promise.all(Array.from({ length: 8 }, () => browser.redeem(code)))
  t.equal(replies.filter(reply => reply.statusCode === 201).length, 1)
})

t.test('redeeming costs one statement, and so does asking who is signed in', async t => {
  const acme = await makeAcme()
  const { browser } = await signedIn(acme)
  const { exchangeCode } = await browser.signIn(acme)
  t.equal((await test.statements(() => browser.redeem(exchangeCode!))).length, 1)
  t.equal((await test.statements(() => browser.get('/v1/session'))).length, 1)
})

t.test('oidc-ses-003, oidc-mt-008: the session is fresh, and the one that the browser held is over', async t => {
  const acme = await makeAcme()
  const { browser, session: before } = await signedIn(acme, { sub: 'u-olga', email: 'owner@corp.example' })
  const name = '__Host-assist-session'
  const planted = browser.cookies.get(name)!
  const { exchangeCode } = await browser.signIn(acme, { user: ana })
  t.match((await browser.get('/v1/session')).json(), { member: { id: acme.ids.olga } }, 'until the code is redeemed')
  const last = (await entriesOf(test, acme.workspaceId)).at(-1)!.id
  const after = (await browser.redeem(exchangeCode!)).json()
  t.not(after.id, before.id)
  t.match(after.member, { id: acme.ids.ana })
  t.not(browser.cookies.get(name), planted)
  t.equal((await app.inject({ url: '/v1/session', headers: asBearer(planted) })).json().code, 'session_ended')
  t.match(await entriesOf(test, acme.workspaceId, last), [
    { action: 'session.ended', memberId: acme.ids.olga, detail: { reason: 'replaced' } },
  ])
  const identity = await db.selectFrom('identities').selectAll().where('member_id', '=', acme.ids.olga).execute()
  t.match(
    identity.map(each => each.subject),
    ['u-olga'],
  )
})

t.test('oidc-ses-004: only an origin of the front-end can redeem, and is told so by CORS', async t => {
  const acme = await makeAcme()
  for (const origin of ['https://evil.example', 'null', 'https://app.assist.example.evil.example']) {
    const browser = makeBrowser(world)
    const { exchangeCode } = await browser.signIn(acme)
    const refused = await browser.redeem(exchangeCode!, { headers: { origin } })
    t.match(refused.json(), { status: 403, code: 'forbidden' })
    t.equal(refused.headers['access-control-allow-origin'], undefined)
    const allowed = await browser.redeem(exchangeCode!)
    t.equal(allowed.statusCode, 201)
    t.equal(allowed.headers['access-control-allow-origin'], 'https://app.assist.example')
    t.equal(allowed.headers['access-control-allow-credentials'], 'true')
    t.match(allowed.headers.vary, /Origin/i)
    t.equal(allowed.headers['cache-control'], 'no-store')
  }
})

t.test('the session is a cookie on the same site, and a token in the body elsewhere', async t => {
  const acme = await makeAcme()
  const same = await signedIn(acme)
  t.equal(same.session.sessionToken, undefined)
  t.match(
    same.reply.headers['set-cookie'],
    /^__Host-assist-session=ses_[\w-]+; Max-Age=43(200|1\d\d); Path=\/; HttpOnly; Secure; SameSite=Lax$/,
  )
  const cross = await signedIn(acme, ana, { 'sec-fetch-site': 'cross-site' })
  t.equal(cross.reply.headers['set-cookie'], undefined)
  const headers = asBearer(cross.session.sessionToken)
  t.match((await app.inject({ url: '/v1/session', headers })).json(), { id: cross.session.id })
  const stored = await db
    .selectFrom('sessions')
    .selectAll()
    .where('id', '=', cross.session.id)
    .executeTakeFirstOrThrow()
  t.equal(stored.token_hash?.length, 32)
})

t.test("oidc-ses-005: the session's life is ours: idle and total limits, not the token's", async t => {
  const acme = await makeAcme()
  const { browser, session } = await signedIn(acme, { ...ana, exp: Math.floor(Date.now() / 1000) + 30 * 86_400 })
  t.ok(Date.parse(session.expiresAt) - Date.now() <= 12 * 3_600_000)
  await setSession(session.id, { last_seen_at: sql`now() - interval '119 minutes'` })
  t.equal((await browser.get('/v1/session')).statusCode, 200)
  await setSession(session.id, { last_seen_at: sql`now() - interval '121 minutes'` })
  t.match((await browser.get('/v1/session')).json(), { status: 401, code: 'session_ended' })
  await setSession(session.id, { last_seen_at: sql`now()`, expires_at: sql`now()` })
  t.match((await browser.get('/v1/session')).json(), { code: 'session_ended' })
})

t.test('the access token is ES256 by a published key, for five minutes, and good for the admin API', async t => {
  const acme = await makeAcme()
  const owner = { sub: 'u-olga', email: 'owner@corp.example' }
  const { session } = await signedIn(acme, owner)
  const jwks = (await app.inject({ url: '/.well-known/jwks.json' })).json<JSONWebKeySet>()
  t.ok(jwks.keys.every(key => key.d === undefined))
  const { payload, protectedHeader } = await jwtVerify(session.accessToken, createLocalJWKSet(jwks), {
    issuer: config.publicUrl,
    audience: config.assistTokenAudience,
    typ: 'at+jwt',
  })
  t.equal(protectedHeader.alg, 'ES256')
  t.equal(payload.exp! - payload.iat!, 300)
  t.match(payload, { sub: acme.ids.olga, workspace: acme.workspaceId, role: 'owner', sid: session.id })
  const activity = (token: string) => app.inject({ url: `${acme.url}/activity`, headers: asBearer(token) })
  t.equal((await activity(session.accessToken)).statusCode, 200)
  const { session: member } = await signedIn(acme, ana)
  t.equal((await activity(member.accessToken)).json().code, 'forbidden')
  const other = await makeAcme()
  const foreign = await app.inject({ url: `${other.url}/activity`, headers: asBearer(session.accessToken) })
  t.equal(foreign.statusCode, 404)
  t.equal(
    (await app.inject({ url: '/v1/session', headers: asBearer(session.accessToken) })).statusCode,
    401,
    'it cannot renew itself',
  )
  const forged = await signToken({
    iss: config.publicUrl,
    sub: acme.ids.olga,
    workspace: acme.workspaceId,
    role: 'owner',
  })
  t.equal((await activity(forged)).json().code, 'unauthenticated')
})

t.test('an ended access ends the access token, the session and an open exchange code at once', async t => {
  const acme = await makeAcme()
  await db.updateTable('members').set({ role: 'admin', manual_role: 'admin' }).where('id', '=', acme.ids.ana).execute()
  const { browser, session } = await signedIn(acme)
  const waiting = makeBrowser(world)
  const { exchangeCode } = await waiting.signIn(acme)
  const headers = asBearer(session.accessToken)
  t.equal((await app.inject({ url: `${acme.url}/activity`, headers })).statusCode, 200)
  await db.transaction().execute(trx =>
    endAccess(trx, {
      workspaceId: acme.workspaceId,
      memberId: acme.ids.ana,
      by: 'admin',
      action: 'member.deactivated',
      actor: { type: 'system', id: 'test' },
    }),
  )
  t.match((await app.inject({ url: `${acme.url}/activity`, headers })).json(), { status: 401, code: 'session_ended' })
  t.match((await browser.get('/v1/session')).json(), { code: 'session_ended' })
  t.equal((await waiting.redeem(exchangeCode!)).json().code, 'exchange_code_invalid')
})

t.test('a signing key that SEAL_KEYS no longer open gives way to a new one, and still verifies', async t => {
  const acme = await makeAcme()
  const { session } = await signedIn(acme)
  const sealKeys = [{ id: 'other', key: randomBytes(32) }]
  const tokens = createAccessTokens({ config, db, box: createSecretBox({ sealKeys }) })
  t.match(await tokens.verify(session.accessToken), { sessionId: session.id })
  const live = { ...session, memberId: session.member.id, role: 'member' }
  const { accessToken } = await tokens.sign(live)
  t.not(decodeProtectedHeader(accessToken).kid, decodeProtectedHeader(session.accessToken).kid)
  t.match(await tokens.verify(accessToken), { sessionId: session.id })
})

t.test('signing out ends the session first, and offers to end that of the provider', async t => {
  const acme = await makeAcme()
  const { browser, session } = await signedIn(acme)
  const cookie = `__Host-assist-session=${browser.cookies.get('__Host-assist-session')}`
  const out = (headers: Record<string, string>) => app.inject({ method: 'DELETE', url: '/v1/session', headers })
  for (const headers of [{ cookie }, { cookie, origin: 'https://evil.example' }]) {
    t.equal((await out(headers)).statusCode, 403, 'not for another site')
  }
  t.equal((await app.inject({ url: '/v1/session', headers: { cookie } })).statusCode, 200, 'nor by a GET')
  const reply = await out({ cookie, origin: 'https://app.assist.example' })
  t.equal(reply.statusCode, 200)
  t.match(reply.headers['set-cookie'], /^__Host-assist-session=; Max-Age=0; Path=\//)
  const end = new URL(reply.json().endSessionUrl)
  t.equal(end.origin + end.pathname, 'https://idp.corp.example/logout')
  t.match(decodeJwt(end.searchParams.get('id_token_hint')!), { sub: 'u-ana' })
  t.equal(end.searchParams.get('post_logout_redirect_uri'), 'https://app.assist.example/')
  t.match((await app.inject({ url: '/v1/session', headers: { cookie } })).json(), { code: 'session_ended' })
  t.match((await entriesOf(test, acme.workspaceId)).at(-1), {
    action: 'session.ended',
    memberId: acme.ids.ana,
    detail: { reason: 'signed_out' },
  })
  t.equal((await out({})).statusCode, 401)
  t.ok(session.id)
})

t.test('a provider without an end_session_endpoint is signed out of here only', async t => {
  idp.script.document = ({ end_session_endpoint: _absent, ...document }) => document
  const acme = await makeAcme()
  const { session } = await signedIn(acme, ana, { 'sec-fetch-site': 'cross-site' })
  const headers = asBearer(session.sessionToken)
  t.same((await app.inject({ method: 'DELETE', url: '/v1/session', headers })).json(), {})
})

t.test(
  'signing keys are made once for all replicas, retire without a gap, and are published until they expire',
  async t => {
    await db.deleteFrom('signing_keys').execute()
    const acme = await makeAcme()
    const replicas = await Promise.all([1, 2].map(() => makeSignInWorld(t, { replicaOf: world })))
    const sessions = await Promise.all(
      replicas.map(async replica => {
        const browser = makeBrowser(replica)
        return (await browser.redeem((await browser.signIn(acme)).exchangeCode!)).json()
      }),
    )
    const kids = sessions.map(session => decodeProtectedHeader(session.accessToken).kid)
    t.equal(new Set(kids).size, 1)
    const sealed = await db.selectFrom('signing_keys').selectAll().execute()
    t.equal(sealed.length, 1)
    t.notMatch(sealed[0]!.private_sealed.toString('latin1'), /"d"/)

    await db
      .updateTable('signing_keys')
      .set({ created_at: sql`now() - interval '30 days'`, retires_at: sql`now() - interval '1 second'` })
      .execute()
    const late = await makeSignInWorld(t, { replicaOf: world })
    const browser = makeBrowser(late)
    const fresh = (await browser.redeem((await browser.signIn(acme)).exchangeCode!)).json()
    t.not(decodeProtectedHeader(fresh.accessToken).kid, kids[0])
    const { keys } = (await late.test.app.inject({ url: '/.well-known/jwks.json' })).json<JSONWebKeySet>()
    t.same(new Set(keys.map(key => key.kid)), new Set([kids[0], decodeProtectedHeader(fresh.accessToken).kid]))
    const asks = (token: string) => late.test.app.inject({ url: `${acme.url}/activity`, headers: asBearer(token) })
    t.equal((await asks(sessions[0].accessToken)).json().code, 'forbidden', 'the old token is still known')

    await db
      .updateTable('signing_keys')
      .set({ expires_at: sql`now()` })
      .where('retires_at', '<', sql<string>`now()`)
      .execute()
    t.ok((await sweepExpired(db)) >= 1)
    t.equal((await db.selectFrom('signing_keys').select('kid').execute()).length, 1)
  },
)

t.test('the sweep deletes what is over and nothing else', async t => {
  const acme = await makeAcme()
  const { session } = await signedIn(acme)
  const waiting = makeBrowser(world)
  const abandoned = await waiting.signIn(acme)
  await waiting.start(acme)
  const count = async () => ({
    attempts: (
      await db.selectFrom('sign_in_attempts').select('nonce').where('workspace_id', '=', acme.workspaceId).execute()
    ).length,
    codes: (
      await db.selectFrom('exchange_codes').select('code_hash').where('workspace_id', '=', acme.workspaceId).execute()
    ).length,
    sessions: (await db.selectFrom('sessions').select('id').where('workspace_id', '=', acme.workspaceId).execute())
      .length,
  })
  await sweepExpired(db)
  t.same(await count(), { attempts: 3, codes: 2, sessions: 2 })
  await db
    .updateTable('sign_in_attempts')
    .set({ expires_at: sql`now() - interval '3 minutes'` })
    .where('taken_at', 'is not', null)
    .execute()
  await db
    .updateTable('sessions')
    .set({ created_at: sql`now() - interval '6 minutes'` })
    .where('token_hash', 'is', null)
    .execute()
  await sweepExpired(db)
  t.same(await count(), { attempts: 1, codes: 1, sessions: 1 })
  t.equal((await waiting.redeem(abandoned.exchangeCode!)).statusCode, 400)
  await db
    .updateTable('sessions')
    .set({ expires_at: sql`now() - interval '29 days'` })
    .where('id', '=', session.id)
    .execute()
  await sweepExpired(db)
  t.match(await count(), { sessions: 1 })
})

const postSession = async (payload: object) =>
  (await app.inject({ method: 'POST', url: '/v1/sessions', payload })).json()

t.test('the body of a redemption is read strictly', async t => {
  const good = { code: makeOpaqueToken('exc', '0190a6c8-8f00-7000-8000-000000000001').token, verifier: 'v'.repeat(43) }
  t.match(await postSession(good), { code: 'exchange_code_invalid' })
  for (const body of [{ ...good, colour: 'red' }, { code: good.code }, { ...good, verifier: 'short' }]) {
    t.match(await postSession(body), { status: 400, code: 'invalid' })
  }
})

t.test('a visitor is an address, or the /64 of one, and is forgotten when there are too many', async t => {
  t.equal(visitorNetwork('203.0.113.9'), '203.0.113.9')
  t.equal(visitorNetwork('::ffff:203.0.113.9'), '203.0.113.9')
  t.equal(visitorNetwork('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
  t.equal(visitorNetwork('unknown'), '0.0.0.0')
  t.equal(visitorAddress('unknown'), undefined)
  t.equal(visitorAddress('fe80::1%eth0'), 'fe80::1')
  let time = 0
  const limit = createRateLimit({ perMinute: 2, maxKeys: 2, now: () => time })
  limit.use('a')
  limit.use('a')
  t.throws(() => limit.use('a'), { code: 'rate_limited', retryAfter: 60 })
  time = 59_500
  t.throws(() => limit.use('a'), { code: 'rate_limited', retryAfter: 1 })
  time = 60_000
  limit.use('a')
  limit.use('a')
  for (const network of ['b', 'c', 'd', 'e']) {
    limit.use(network)
    t.throws(() => limit.use('a'), 'a key that is used again and again is not forgotten')
  }
  limit.use('b')
  limit.use('b')
})

t.test('the challenge is S256 of the verifier and nothing simpler', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const plain = createHash('sha256').update(browser.verifier).digest('base64url')
  const { exchangeCode } = await browser.signIn(acme)
  t.equal((await browser.redeem(exchangeCode!, { verifier: plain })).json().code, 'exchange_code_invalid')
})

t.test('a return_to that points to the page that begins a sign-in leads to the front page instead', async t => {
  const acme = await makeAcme()
  for (const returnTo of ['/sso/start', '/sso/start?workspace=x', 'https://app.assist.example/sso/start#a']) {
    const browser = makeBrowser(world)
    const { exchangeCode } = await browser.signIn(acme, { returnTo })
    t.equal((await browser.redeem(exchangeCode!)).json().returnTo, 'https://app.assist.example/', returnTo)
  }
})

t.test('the exchange code can be in the fragment, which proxies and analytics never see', async t => {
  const other = await makeSignInWorld(t, { replicaOf: world, settings: { FRONTEND_CODE_IN: 'fragment' } })
  const acme = await makeAcme()
  const browser = makeBrowser(other)
  const { location } = await browser.signIn(acme)
  t.equal(location.searchParams.get('code'), null)
  const code = new URLSearchParams(location.hash.slice(1)).get('code')
  t.equal((await browser.redeem(code!)).statusCode, 201)
})
