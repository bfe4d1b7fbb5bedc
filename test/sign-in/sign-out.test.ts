import { decodeJwt } from 'jose'
import { sql } from 'kysely'
import t from 'tap'
import { sweepExpired } from '../../src/sign-in/sweep.ts'
import { bearer } from '../helpers/app.ts'
import { json, makeScriptedProvider, signWith } from '../helpers/scripted-provider.ts'
import { entriesOf, makeBrowser, makeSignInWorld, type Acme, type SignInWorld } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, network, idp, makeAcme } = world
const { app, db } = test
t.beforeEach(() => idp.reset())

const ana = { sub: 'u-ana', email: 'ana@corp.example' }
const bea = { sub: 'u-bea', email: 'bea@corp.example' }
const olga = { sub: 'u-olga', email: 'owner@corp.example' }
const origin = 'https://app.assist.example'

/** Somebody signed in, on a device of their own. */
async function signedIn(
  acme: Acme,
  user: Record<string, unknown> = ana,
  at: Pick<SignInWorld, 'test' | 'idp'> = world,
) {
  const browser = makeBrowser(at)
  const { exchangeCode } = await browser.signIn(acme, { user })
  const session = (await browser.redeem(exchangeCode!)).json()
  const cookie = `__Host-assist-session=${browser.cookies.get('__Host-assist-session')}`
  return {
    browser,
    id: session.id as string,
    session,
    isIn: async () => (await app.inject({ url: '/v1/session', headers: { cookie } })).statusCode === 200,
    ask: async (method: 'GET' | 'DELETE', url: string) =>
      app.inject({ method, url, headers: { cookie, origin }, remoteAddress: '203.0.113.200' }),
  }
}

type SignedIn = Awaited<ReturnType<typeof signedIn>>
const whoIsIn = async (...people: SignedIn[]) => Promise.all(people.map(each => each.isIn()))

const logoutEvent = { 'http://schemas.openid.net/event/backchannel-logout': {} }
let serial = 0

/** A good logout token of the provider, with these changes; undefined removes a claim. */
async function logoutToken(changes: Record<string, unknown> = {}, header: Record<string, unknown> = {}) {
  const iat = Math.floor(Date.now() / 1000)
  const good = { iss: idp.issuer, aud: 'assist-acme', iat, exp: iat + 120, jti: `j${serial++}`, events: logoutEvent }
  const claims = Object.entries({ ...good, ...changes }).filter(([, value]) => value !== undefined)
  return idp.sign(Object.fromEntries(claims), { typ: 'logout+jwt', ...header })
}

const post = async (acme: Acme, form: Record<string, string>, at = app, address = '198.51.100.1') =>
  at.inject({
    method: 'POST',
    url: `/sso/${acme.workspaceId}/backchannel-logout`,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: new URLSearchParams(form).toString(),
    remoteAddress: address,
  })

const endings = async (acme: Acme) =>
  (await entriesOf(test, acme.workspaceId)).filter(each => each.action.startsWith('session.'))

t.test(
  'oidc-out-001: signing out ends the session here, then offers the provider with hint, return and state',
  async t => {
    const acme = await makeAcme()
    const one = await signedIn(acme, { ...ana, exp: Math.floor(Date.now() / 1000) + 2 })
    const { endSessionUrl, state } = (await one.ask('DELETE', '/v1/session')).json()
    t.notOk(await one.isIn())
    const { searchParams } = new URL(endSessionUrl)
    t.equal(decodeJwt(searchParams.get('id_token_hint')!).sub, 'u-ana', 'also once the ID token has expired')
    t.equal(searchParams.get('client_id'), 'assist-acme')
    t.equal(searchParams.get('post_logout_redirect_uri'), 'https://app.assist.example/')
    t.equal(searchParams.get('state'), state)
    t.match(state, /^[\w-]{22}$/)
  },
)

t.test('oidc-out-002, and a provider that is away: signed out here, and no URL is invented', async t => {
  const acme = await makeAcme()
  const one = await signedIn(acme)
  await acme.configure({ issuer: idp.issuer })
  idp.script.document = ({ end_session_endpoint: _absent, ...document }) => document
  await acme.configure({ issuer: idp.issuer })
  t.same((await one.ask('DELETE', '/v1/session')).json(), {})
  t.notOk(await one.isIn())
})

t.test('oidc-out-003: a GET signs nobody out, wherever it comes from', async t => {
  const acme = await makeAcme()
  const one = await signedIn(acme)
  for (const url of [`/sso/${acme.workspaceId}/logout`, '/sso/logout', `/sso/${acme.workspaceId}/backchannel-logout`]) {
    t.ok([404, 405].includes((await one.ask('GET', url)).statusCode), url)
  }
  t.ok(await one.isIn())
})

t.test('my sessions: where they are, ending one, and ending all', async t => {
  const acme = await makeAcme()
  const here = await signedIn(acme)
  const [there, other] = [await signedIn(acme), await signedIn(acme, bea)]
  const { items } = (await here.ask('GET', '/v1/sessions')).json()
  t.match(items, [
    { id: here.id, current: true, address: '203.0.113.200', userAgent: 'lightMyRequest', lastSeenAt: String },
    { id: there.id, current: false },
  ])
  t.equal(items.length, 2)
  const page = (await here.ask('GET', '/v1/sessions?limit=1')).json()
  t.match((await here.ask('GET', `/v1/sessions?limit=1&after=${page.next}`)).json().items, [{ id: there.id }])

  t.equal((await here.ask('DELETE', `/v1/sessions/${other.id}`)).json().code, 'not_found', "somebody else's is none")
  t.equal((await here.ask('DELETE', `/v1/sessions/${there.id}`)).statusCode, 204)
  t.equal((await here.ask('DELETE', `/v1/sessions/${there.id}`)).statusCode, 404)
  t.same(await whoIsIn(here, there, other), [true, false, true])

  const again = await signedIn(acme)
  const open = makeBrowser(world)
  const { exchangeCode } = await open.signIn(acme, { user: ana })
  const everywhere = await here.ask('DELETE', '/v1/sessions')
  t.match(everywhere.json().endSessionUrl, /^https:\/\/idp\.corp\.example\/logout\?/)
  t.match(everywhere.headers['set-cookie'], /Max-Age=0/)
  t.same(await whoIsIn(here, again, other), [false, false, true])
  t.equal((await open.redeem(exchangeCode!)).json().code, 'exchange_code_invalid', 'a sign-in under way ends too')
  t.equal((await here.ask('GET', '/v1/sessions')).json().code, 'session_ended')
  t.match(await endings(acme), [
    { action: 'session.ended', memberId: acme.ids.ana, detail: { reason: 'signed_out', sessionsEnded: 1 } },
    {
      action: 'session.all_ended',
      memberId: acme.ids.ana,
      detail: { reason: 'signed_out_everywhere', sessionsEnded: 3 },
    },
  ])
})

t.test('changing sessions with the cookie takes an origin of the front-end', async t => {
  const acme = await makeAcme()
  const one = await signedIn(acme)
  const cookie = `__Host-assist-session=${one.browser.cookies.get('__Host-assist-session')}`
  for (const url of ['/v1/sessions', `/v1/sessions/${one.id}`]) {
    for (const headers of [{ cookie }, { cookie, origin: 'https://evil.example' }]) {
      t.equal((await app.inject({ method: 'DELETE', url, headers })).statusCode, 403)
    }
  }
  t.ok(await one.isIn())
})

t.test('an admin sees who is signed in, and ends one session, those of a member, or all', async t => {
  const acme = await makeAcme()
  const people = [
    await signedIn(acme, ana),
    await signedIn(acme, ana),
    await signedIn(acme, bea),
    await signedIn(acme, olga),
  ]
  const [first, second, third, owner] = people as [SignedIn, SignedIn, SignedIn, SignedIn]
  const elsewhere = await makeAcme()
  const stranger = await signedIn(elsewhere)
  const call = async (method: 'GET' | 'DELETE', path: string, headers: Record<string, string> = acme.headers) =>
    app.inject({ method, url: `${acme.url}${path}`, headers })

  const listed = (await call('GET', '/sessions')).json().items
  t.same(
    listed.map((each: { id: string }) => each.id),
    people.map(each => each.id),
  )
  t.match(listed[2], { memberId: acme.ids.bea, address: '203.0.113.200' })
  t.equal((await call('GET', `/sessions?memberId=${acme.ids.ana}`)).json().items.length, 2)
  const member = await bearer({ workspace: acme.workspaceId, role: 'member' })
  for (const method of ['GET', 'DELETE'] as const) t.equal((await call(method, '/sessions', member)).statusCode, 403)

  t.equal((await call('DELETE', `/sessions/${first.id}`)).statusCode, 204)
  t.equal((await call('DELETE', `/sessions/${first.id}`)).statusCode, 404)
  t.equal((await call('DELETE', `/sessions/${stranger.id}`)).statusCode, 404)
  t.same(await whoIsIn(first, second, third, owner), [false, true, true, true])
  const ofAna = await call('DELETE', `/members/${acme.ids.ana}/sessions`)
  t.same(ofAna.json(), { sessionsEnded: 1 })
  t.same(await whoIsIn(second, third, owner), [false, true, true])
  t.same((await call('DELETE', `/members/${acme.ids.ana}/sessions`)).json(), { sessionsEnded: 0 })
  const asOwner = { authorization: `Bearer ${owner.session.accessToken}` }
  t.same((await call('DELETE', '/sessions', asOwner)).json(), { sessionsEnded: 2 })
  t.same(await whoIsIn(third, owner, stranger), [false, false, true], "and nobody of another workspace's")
  t.equal((await call('GET', '/activity', asOwner)).json().code, 'session_ended', "the caller's own is over too")
  t.ok((await makeBrowser(world).signIn(acme, { user: ana })).exchangeCode, 'they can sign in again')
  t.match(await endings(acme), [
    { action: 'session.ended', memberId: acme.ids.ana, detail: { reason: 'ended_by_admin' } },
    { action: 'session.all_ended', memberId: acme.ids.ana, detail: { sessionsEnded: 1 } },
    { action: 'session.all_ended', memberId: null, detail: { sessionsEnded: 2 } },
  ])
})

t.test(
  'oidc-out-004: a logout token with sid ends the sessions of that session of the provider, on every replica',
  async t => {
    const acme = await makeAcme()
    const replica = await makeSignInWorld(t, { replicaOf: world })
    const phone = await signedIn(acme, { ...ana, sid: 'abc' })
    const laptop = await signedIn(acme, { ...ana, sid: 'def' })
    const reply = await post(
      acme,
      { logout_token: await logoutToken({ sub: 'u-ana', sid: 'abc' }), other: 'x' },
      replica.test.app,
    )
    t.equal(reply.statusCode, 200)
    t.equal(reply.headers['cache-control'], 'no-store')
    t.equal(reply.body, '')
    t.same(await whoIsIn(phone, laptop), [false, true])
    t.match(await endings(acme), [
      {
        action: 'session.ended_by_provider',
        memberId: acme.ids.ana,
        detail: { reason: 'signed_out_at_provider', sessionsEnded: 1 },
      },
    ])
    t.equal(
      (await post(acme, { logout_token: await logoutToken({ sid: 'def' }) })).statusCode,
      200,
      'sid alone will do',
    )
    t.notOk(await laptop.isIn())
  },
)

t.test("a logout token with sub alone ends all sessions of the subject, and nobody else's", async t => {
  const acme = await makeAcme()
  const [one, two, other] = [
    await signedIn(acme, { ...ana, sid: 'x1' }),
    await signedIn(acme),
    await signedIn(acme, bea),
  ]
  const waiting = makeBrowser(world)
  const { exchangeCode } = await waiting.signIn(acme, { user: ana })
  const untyped = await logoutToken({ sub: 'u-ana' }, { typ: 'JWT' })
  t.equal((await post(acme, { logout_token: untyped })).statusCode, 200)
  t.same(await whoIsIn(one, two, other), [false, false, true])
  t.equal((await waiting.redeem(exchangeCode!)).json().code, 'exchange_code_invalid')
  t.equal((await post(acme, { logout_token: await logoutToken({ sub: 'u-ana' }) })).statusCode, 200, 'gone is success')
  t.equal((await post(acme, { logout_token: await logoutToken({ sub: 'u-nobody' }) })).statusCode, 200)
})

t.test("a session of which nobody knows the provider's own session ends with any of its subject", async t => {
  const acme = await makeAcme()
  const [known, unknown] = [await signedIn(acme, { ...ana, sid: 's1' }), await signedIn(acme)]
  const others = await signedIn(acme, { ...bea, sid: 's2' })
  await post(acme, { logout_token: await logoutToken({ sub: 'u-ana', sid: 's3' }) })
  t.same(await whoIsIn(known, unknown), [true, false])
  await post(acme, { logout_token: await logoutToken({ sub: 'u-ana', sid: 's2' }) })
  t.ok(await others.isIn(), "a sid of one subject does not end another's")
})

t.test('oidc-out-005: a bad logout token is 400, ends nothing, and leaves an entry that says why', async t => {
  const acme = await makeAcme()
  const one = await signedIn(acme, { ...ana, sid: 'abc' })
  const both = { sub: 'u-ana', sid: 'abc' }
  const iat = Math.floor(Date.now() / 1000)
  const unsigned = `${btoa('{"alg":"none"}')}.${btoa(JSON.stringify({ iss: idp.issuer, ...both }))}.`.replaceAll(
    '=',
    '',
  )
  const foreignKey = await makeScriptedProvider(t, { network, issuer: 'https://evil-logout.example' })
  const cases: [string, string][] = [
    ['nonce', await logoutToken({ ...both, nonce: 'n' })],
    ['events', await logoutToken({ ...both, events: undefined })],
    ['events', await logoutToken({ ...both, events: { 'https://example.com/other': {} } })],
    ['events', await logoutToken({ ...both, events: { [Object.keys(logoutEvent)[0]!]: true } })],
    ['aud', await logoutToken({ ...both, aud: 'another' })],
    ['iss', await logoutToken({ ...both, iss: 'https://idp.globex.example' })],
    ['sub', await logoutToken()],
    ['jti', await logoutToken({ ...both, jti: undefined })],
    ['iat', await logoutToken({ ...both, iat: iat - 3600, exp: iat + 3600 })],
    ['exp', await logoutToken({ ...both, exp: iat - 60 })],
    ['alg', unsigned],
    ['malformed', 'not a token'],
    [
      'signature',
      await signWith(foreignKey.keys[0]!, { ...decodeJwt(await logoutToken(both)) }, { kid: idp.keys.at(-1)!.kid }),
    ],
  ]
  for (const [reason, token] of cases) {
    const reply = await post(acme, { logout_token: token })
    t.equal(reply.statusCode, 400, reason)
    t.equal(reply.headers['cache-control'], 'no-store')
    t.same(reply.json(), {
      error: 'invalid_request',
      error_description: `The logout token is not valid here: ${reason}.`,
    })
  }
  for (const form of [{}, { logout_token: '' }, { token: 'x' }] as Record<string, string>[]) {
    t.match((await post(acme, form)).json(), { error: 'invalid_request' })
  }
  const twice = { 'content-type': 'application/x-www-form-urlencoded' }
  const url = `/sso/${acme.workspaceId}/backchannel-logout`
  const good = await logoutToken(both)
  for (const payload of [`logout_token=${good}&logout_token=${good}`, '']) {
    t.equal((await app.inject({ method: 'POST', url, headers: twice, payload })).statusCode, 400)
  }
  t.equal(
    (await app.inject({ method: 'POST', url, payload: { logout_token: good } })).statusCode,
    400,
    'JSON is no form',
  )
  t.ok(await one.isIn())
  const refused = await endings(acme)
  t.same(
    refused.map(each => [each.action, each.reason, (each.detail as { reason: string }).reason]),
    cases.map(([reason]) => ['session.logout_refused', 'sso_token_invalid', reason]),
  )
  t.notMatch(JSON.stringify(refused), /eyJ/, 'no token in an entry')
  t.notMatch(test.log(), /eyJhbGciOi/, 'nor in the log')
})

t.test('the limit for invalid logout tokens is used up before any work, and bounds the entries', async t => {
  const limited = await makeSignInWorld(t, { replicaOf: world, settings: { SIGN_IN_STARTS_PER_MINUTE: '3' } })
  const acme = await makeAcme()
  const statuses = []
  for (let count = 0; count < 5; count++) {
    statuses.push((await post(acme, { logout_token: 'x' }, limited.test.app)).statusCode)
  }
  t.same(statuses, [400, 400, 400, 429, 429])
  t.equal((await endings(acme)).length, 3)
  const good = await logoutToken({ sub: 'u-ana' })
  t.equal((await post(acme, { logout_token: good }, limited.test.app)).statusCode, 429, 'from the same network')
  const elsewhere = await post(acme, { logout_token: good }, limited.test.app, '203.0.113.9')
  t.equal(elsewhere.statusCode, 200, 'the network of the provider has its own limit')
  for (let count = 0; count < 5; count++) {
    const logout_token = await logoutToken({ sub: 'u-ana' })
    const reply = await post(acme, { logout_token }, limited.test.app, '203.0.113.9')
    t.equal(reply.statusCode, 200, 'valid tokens are given back to the limit')
  }
})

t.test('oidc-out-006: a logout token that comes again changes nothing', async t => {
  const acme = await makeAcme()
  const before = await signedIn(acme, { ...ana, sid: 'abc' })
  const logout_token = await logoutToken({ sub: 'u-ana', sid: 'abc' })
  await post(acme, { logout_token })
  t.notOk(await before.isIn())
  const after = await signedIn(acme, { ...ana, sid: 'abc' })
  t.equal((await post(acme, { logout_token })).statusCode, 200)
  t.ok(await after.isIn())
  await sweepExpired(db)
  await post(acme, { logout_token })
  t.ok(await after.isIn(), 'it is remembered for as long as it could be used')
  await db
    .updateTable('logout_tokens')
    .set({ expires_at: sql`now()` })
    .execute()
  await sweepExpired(db)
  t.same(await db.selectFrom('logout_tokens').selectAll().execute(), [])
})

t.test('oidc-out-007: a logout token of one workspace touches no other', async t => {
  const evil = await makeScriptedProvider(t, { network, issuer: 'https://idp.evil.example' })
  const [acme, evilco] = [await makeAcme(), await makeAcme({ issuer: evil.issuer, allowedDomains: [] })]
  const here = await signedIn(acme, { ...ana, sid: 'abc' })
  const there = await signedIn(evilco, { ...ana, sid: 'abc' }, { test, idp: evil })
  const iat = Math.floor(Date.now() / 1000)
  const claims = { iss: evil.issuer, aud: 'assist-acme', iat, exp: iat + 120, jti: 'e1', events: logoutEvent }
  const logout_token = await evil.sign({ ...claims, sub: 'u-ana', sid: 'abc' }, { typ: 'logout+jwt' })
  t.equal((await post(evilco, { logout_token })).statusCode, 200)
  t.equal((await post(acme, { logout_token })).statusCode, 400)
  t.same(await whoIsIn(here, there), [true, false])
})

t.test('logout tokens work while sign-in is switched off, and wait while the keys cannot be fetched', async t => {
  const own = await makeScriptedProvider(t, { network, issuer: 'https://logout-outage.example' })
  const acme = await makeAcme({ issuer: own.issuer })
  const claims = (jti: string) => {
    const iat = Math.floor(Date.now() / 1000)
    return { iss: own.issuer, aud: 'assist-acme', iat, exp: iat + 120, jti, events: logoutEvent, sub: 'u-ana' }
  }
  own.script.answer.jwks = json(503, {})
  const early = await post(acme, { logout_token: await own.sign(claims('k1')) })
  t.equal(early.statusCode, 400)
  t.match(early.json(), { error: 'temporarily_unavailable' })
  own.reset()
  const late = await makeSignInWorld(t, { replicaOf: world })
  const one = await signedIn(acme, ana, { test: late.test, idp: own })
  await acme.configure({ enabled: false })
  t.equal((await post(acme, { logout_token: await own.sign(claims('k2')) }, late.test.app)).statusCode, 200)
  t.notOk(await one.isIn())
  const nobody: Acme = { ...acme, workspaceId: '0190a6c8-8f00-7000-8000-000000000001' }
  t.equal((await post(nobody, { logout_token: 'x' })).statusCode, 400)
})

t.test('a logout token costs two statements', async t => {
  const acme = await makeAcme()
  await signedIn(acme, { ...ana, sid: 'abc' })
  const logout_token = await logoutToken({ sub: 'u-ana', sid: 'abc' })
  t.equal((await test.statements(() => post(acme, { logout_token }))).length, 2)
})
