import { decodeJwt } from 'jose'
import { sql } from 'kysely'
import t from 'tap'
import {
  entriesOf,
  expectRefusal,
  expectSignedIn,
  makeBrowser,
  makeSignInWorld,
  type Acme,
  errorCodeOf,
} from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, makeAcme } = world
const { app, db } = test
t.beforeEach(() => idp.reset())

const seconds = () => Math.floor(Date.now() / 1000)
const ana = { sub: 'u-ana', email: 'ana@corp.example' }
const lenient = { sessionHours: 12, sessionIdleMinutes: 120, maxAgeSeconds: null, acrValues: [] }

const request = async (acme: Acme, method: 'GET' | 'PUT' | 'DELETE', payload?: object, headers = {}) =>
  app.inject({
    method,
    url: `${acme.url}/sign-in-policy`,
    headers: { ...acme.headers, ...headers },
    ...(payload && { payload }),
  })

async function makeStrict(changes: object): Promise<Acme> {
  const acme = await makeAcme()
  const saved = await request(acme, 'PUT', { ...lenient, ...changes })
  if (saved.statusCode !== 200) throw new Error(saved.body)
  return acme
}

async function signedIn(acme: Acme, user: Record<string, unknown> = {}) {
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: { ...ana, ...user } })
  const session = (await browser.redeem(exchangeCode!)).json()
  return { browser, session, isIn: async () => (await browser.get('/v1/session')).statusCode === 200 }
}

const setSession = (id: string, changes: object) =>
  db.updateTable('sessions').set(changes).where('id', '=', id).execute()

const asked = async (acme: Acme) => {
  const { authorizationUrl } = await makeBrowser(world).start(acme)
  const { searchParams } = new URL(authorizationUrl)
  return Object.fromEntries(['max_age', 'acr_values', 'prompt'].map(name => [name, searchParams.get(name)]))
}

t.test("a policy is versioned, checked, recorded, and gives way to the operator's lifetimes", async t => {
  const acme = await makeAcme()
  const found = await request(acme, 'GET')
  t.match(found.json(), { ...lenient, version: 0, updatedAt: null })
  const strict = { sessionHours: 8, sessionIdleMinutes: 60, maxAgeSeconds: 3600, acrValues: ['phr', 'mfa'] }
  const saved = await request(acme, 'PUT', strict, { 'if-match': found.headers.etag })
  t.match(saved.json(), { ...strict, version: 1 })
  t.equal((await request(acme, 'PUT', strict, { 'if-match': found.headers.etag })).json().code, 'version_conflict')
  t.match((await request(acme, 'PUT', strict)).json(), { version: 2 })
  for (const wrong of [
    { sessionHours: 0 },
    { sessionHours: 721 },
    { sessionIdleMinutes: 4 },
    { maxAgeSeconds: -1 },
    { acrValues: ['two words'] },
    { acrValues: ['mfa', 'mfa'] },
    { acrValues: Array.from({ length: 11 }, (_each, index) => `level-${index}`) },
    { colour: 'red' },
    { sessionHours: undefined },
  ]) {
    t.match((await request(acme, 'PUT', { ...strict, ...wrong })).json(), { code: 'invalid' }, JSON.stringify(wrong))
  }
  t.equal((await request(acme, 'DELETE', undefined, { 'if-match': '"1"' })).json().code, 'version_conflict')
  t.equal((await request(acme, 'DELETE')).statusCode, 204)
  t.equal((await request(acme, 'DELETE')).statusCode, 204)
  t.match((await request(acme, 'GET')).json(), { ...lenient, version: 0 })
  const entries = await entriesOf(test, acme.workspaceId)
  t.match(
    entries.filter(each => each.action.startsWith('sign_in_policy.')),
    [
      { action: 'sign_in_policy.saved', detail: { ...strict, sessionsShortened: 0 } },
      { action: 'sign_in_policy.saved' },
      { action: 'sign_in_policy.deleted' },
    ],
  )
})

t.test('two admins who save at once: one of them is told', async t => {
  const acme = await makeAcme()
  const headers = { 'if-match': '"0"' }
  const replies = await Promise.all([1, 2].map(() => request(acme, 'PUT', lenient, headers)))
  t.same(new Set(replies.map(each => each.statusCode)), new Set([200, 412]))
})

t.test('sessions last as long as the workspace says, in row, cookie and answer', async t => {
  const acme = await makeStrict({ sessionHours: 1, sessionIdleMinutes: 30 })
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: ana })
  const reply = await browser.redeem(exchangeCode!)
  const left = Date.parse(reply.json().expiresAt) - Date.now()
  t.ok(left > 3_500_000 && left <= 3_600_000)
  t.match(reply.headers['set-cookie'], /Max-Age=3(600|5\d\d);/)
  await setSession(reply.json().id, { last_seen_at: sql`now() - interval '29 minutes'` })
  t.equal((await browser.get('/v1/session')).statusCode, 200)
  await setSession(reply.json().id, { last_seen_at: sql`now() - interval '31 minutes'` })
  t.equal((await browser.get('/v1/session')).json().code, 'session_ended')
})

t.test('a shorter limit holds for the sessions that are there, a longer one revives none', async t => {
  const acme = await makeAcme()
  const [old, young, idle] = [await signedIn(acme), await signedIn(acme), await signedIn(acme)]
  await setSession(old.session.id, { created_at: sql`now() - interval '3 hours'` })
  await setSession(idle.session.id, { last_seen_at: sql`now() - interval '20 minutes'` })
  await request(acme, 'PUT', { ...lenient, sessionHours: 2, sessionIdleMinutes: 10 })
  t.same(await Promise.all([old, young, idle].map(each => each.isIn())), [false, true, false])
  const { expiresAt } = (await young.browser.get('/v1/session')).json()
  t.ok(Date.parse(expiresAt) - Date.now() <= 7_200_000)
  await request(acme, 'PUT', { ...lenient, sessionHours: 24, sessionIdleMinutes: 600 })
  t.same(await Promise.all([old, young, idle].map(each => each.isIn())), [false, true, false])
  const entries = (await entriesOf(test, acme.workspaceId)).filter(each => each.action === 'sign_in_policy.saved')
  t.match(entries, [{ detail: { sessionsShortened: 3 } }, { detail: { sessionsShortened: 0 } }])
})

t.test('max_age is sent, and auth_time held against it', async t => {
  const acme = await makeStrict({ maxAgeSeconds: 600 })
  t.match(await asked(acme), { max_age: '600', acr_values: null })
  const signIn = (auth_time: unknown) => () =>
    makeBrowser(world).signIn(acme, { user: { ...ana, ...(auth_time !== undefined && { auth_time }) } })
  const { memberId } = await expectSignedIn(t, world, { acme, act: signIn(seconds() - 590) })
  t.equal(memberId, acme.ids.ana)
  for (const [authTime, fix] of [
    [seconds() - 700, /does not heed max_age/],
    [undefined, /has no auth_time/],
  ] as const) {
    const refused = { acme, code: 'sso_authentication_too_old', act: signIn(authTime) }
    const { landing, detail } = await expectRefusal(t, world, refused)
    t.match(detail.fix, fix)
    t.equal(new URL(landing.retry!).searchParams.get('prompt'), 'login', 'trying again means authenticating anew')
  }
})

t.test('max_age 0 asks for an authentication each time, however long the person then takes', async t => {
  const acme = await makeStrict({ maxAgeSeconds: 0 })
  t.match(await asked(acme), { max_age: '0' })
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme, { user: { ...ana, auth_time: seconds() - 290 } })
  await db
    .updateTable('sign_in_attempts')
    .set({ created_at: sql`now() - interval '5 minutes'` })
    .where('workspace_id', '=', acme.workspaceId)
    .execute()
  t.ok((await browser.open(callback)).exchangeCode)
  const act = () => makeBrowser(world).signIn(acme, { user: { ...ana, auth_time: seconds() - 120 } })
  await expectRefusal(t, world, { acme, code: 'sso_authentication_too_old', act })
})

t.test('acr_values is sent, and acr has to be one of them', async t => {
  const acme = await makeStrict({ acrValues: ['phr', 'urn:mfa'] })
  t.match(await asked(acme), { acr_values: 'phr urn:mfa', max_age: null })
  const signIn = (acr: unknown) => () => makeBrowser(world).signIn(acme, { user: { ...ana, acr } })
  await expectSignedIn(t, world, { acme, act: signIn('urn:mfa') })
  for (const acr of ['pwd', undefined, 3, ['phr']]) {
    const { detail } = await expectRefusal(t, world, { acme, code: 'sso_authentication_too_weak', act: signIn(acr) })
    t.match(detail, { wanted: ['phr', 'urn:mfa'], fix: String })
  }
})

t.test('a policy that an admin tightened meanwhile holds for who is at the provider', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme, { user: { ...ana, acr: 'pwd' } })
  await request(acme, 'PUT', { ...lenient, acrValues: ['mfa'] })
  const act = () => browser.open(callback)
  await expectRefusal(t, world, { acme, code: 'sso_authentication_too_weak', act })
})

t.test(
  'oidc-hrd-003: the front-end may ask for another account or a new authentication, and name who signs in',
  async t => {
    const acme = await makeAcme()
    const { verifier } = makeBrowser(world)
    const start = async (query: object) => {
      const search = new URLSearchParams({ handoff_challenge: verifier, ...query })
      return app.inject({ url: `/sso/${acme.workspaceId}/start?${search.toString()}` })
    }
    const { searchParams } = new URL(
      (await start({ prompt: 'login', login_hint: 'ana@corp.example' })).headers.location!,
    )
    t.equal(searchParams.get('prompt'), 'login')
    t.equal(searchParams.get('login_hint'), 'ana@corp.example')
    for (const query of [{ prompt: 'none' }, { login_hint: '' }, { login_hint: 'a\nb' }, { max_age: '1' }]) {
      t.equal(errorCodeOf(await start(query)), 'invalid', JSON.stringify(query))
    }
    t.notMatch(test.log(), /ana@corp/)
  },
)

t.test('session_expiry is a hard end: past it the person signs in anew, and no policy extends it', async t => {
  const acme = await makeStrict({ sessionHours: 720 })
  const ends = seconds() + 30
  const { session, isIn } = await signedIn(acme, { session_expiry: ends })
  t.equal(Date.parse(session.expiresAt), ends * 1000)
  t.ok(Date.parse(session.accessTokenExpiresAt) <= ends * 1000, 'nor does the access token outlive it')
  t.ok(await isIn())
  for (const session_expiry of [seconds() - 10, 0, -1, '2030-01-01', Date.now() * 1000, 1.5, {}]) {
    const act = () => makeBrowser(world).signIn(acme, { user: { ...ana, session_expiry } })
    const { detail } = await expectRefusal(t, world, { acme, code: 'sso_token_invalid', act })
    t.equal(detail.reason, 'session_expiry')
  }
})

t.test('acr, amr and auth_time go into the access token; what the provider did not say is left out', async t => {
  const acme = await makeAcme()
  const auth_time = seconds() - 60
  const told = await signedIn(acme, { acr: 'phr', amr: ['hwk', 'user'], auth_time })
  t.match(decodeJwt(told.session.accessToken), { acr: 'phr', amr: ['hwk', 'user'], auth_time, sid: told.session.id })
  const claims = decodeJwt((await signedIn(acme)).session.accessToken)
  t.notOk(['acr', 'amr', 'auth_time'].some(name => name in claims))
})
