import { createHash } from 'node:crypto'
import t from 'tap'
import { sha256 } from '../../src/opaque-token.ts'
import { makeScriptedProvider } from '../helpers/scripted-provider.ts'
import {
  entriesOf,
  expectRefusal,
  expectSignedIn,
  makeBrowser,
  makeSignInWorld,
  errorCodeOf,
} from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, makeAcme } = world
const replica = await makeSignInWorld(t, { replicaOf: world })
t.beforeEach(() => idp.reset())

const challenge = createHash('sha256').update('v').digest('base64url')
const tokenRequests = () => idp.count('token')

/** The attempt's row of a callback URL. */
async function setAttempt(callback: string, changes: Record<string, string>): Promise<void> {
  const state = new URL(callback).searchParams.get('state')!
  await test.db.updateTable('sign_in_attempts').set(changes).where('state_hash', '=', sha256(state)).execute()
}

t.test('a sign-in goes from start over callback and exchange to a session', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const { landing } = await expectSignedIn(t, world, {
    acme,
    memberId: acme.ids.ana,
    act: () => browser.signIn(acme, { returnTo: '/inbox' }),
  })
  const redeemed = await browser.redeem(landing.exchangeCode!)
  t.equal(redeemed.statusCode, 201)
  t.match(redeemed.json(), {
    workspaceId: acme.workspaceId,
    member: { id: acme.ids.ana, email: 'ana@corp.example', role: 'member' },
    returnTo: 'https://app.assist.example/inbox',
  })
  t.match((await browser.get('/v1/session')).json(), { member: { id: acme.ids.ana } })
})

t.test('start costs two statements, the callback of someone known two', async t => {
  const acme = await makeAcme()
  await makeBrowser(world).signIn(acme)
  const browser = makeBrowser(world)
  let callback = ''
  t.equal((await test.statements(async () => (callback = await browser.reachCallback(acme)))).length, 2)
  t.equal((await test.statements(() => browser.open(callback))).length, 2)
})

t.test('oidc-disc-011: start sends PKCE, state and nonce, whatever the provider announces', async t => {
  idp.script.document = ({ code_challenge_methods_supported: _silent, ...document }) => document
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const { reply, authorizationUrl } = await browser.start(acme)
  t.equal(reply.statusCode, 303)
  const { searchParams } = new URL(authorizationUrl)
  t.equal(searchParams.get('code_challenge')?.length, 43)
  t.equal(searchParams.get('code_challenge_method'), 'S256')
  t.equal(searchParams.get('response_mode'), null, 'oidc-cb-010: the default mode, query')
  for (const name of ['state', 'nonce']) t.match(searchParams.get(name), /^[A-Za-z0-9_-]{43}$/)
  t.ok((await browser.open(idp.authorize(authorizationUrl))).exchangeCode, 'the verifier fits')
})

t.test('oidc-cb-001: two tabs both finish, each where it wanted to be', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const [first, second] = [
    await browser.reachCallback(acme, { returnTo: '/a' }),
    await browser.reachCallback(acme, { returnTo: '/b' }),
  ]
  for (const [callback, path] of [
    [first, '/a'],
    [second, '/b'],
  ] as const) {
    const { exchangeCode } = await browser.open(callback)
    t.match((await browser.redeem(exchangeCode!)).json(), { returnTo: `https://app.assist.example${path}` })
  }
})

t.test('oidc-cb-002: ten tabs reopened at once, on two replicas, all finish', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const twin = { ...makeBrowser(replica) }
  const tabs = await Promise.all(
    Array.from({ length: 10 }, async (_, index) => {
      const { authorizationUrl } = await (index % 2 ? browser : twin).start(acme, { returnTo: `/tab-${index}` })
      return idp.authorize(authorizationUrl)
    }),
  )
  for (const [name, value] of twin.cookies) browser.cookies.set(name, value)
  for (const [name, value] of browser.cookies) twin.cookies.set(name, value)
  const landings = await Promise.all(tabs.map((tab, index) => (index % 2 ? twin : browser).open(tab)))
  t.same(
    landings.map(landing => landing.code),
    landings.map(() => undefined),
  )
  const identities = await test.db
    .selectFrom('identities')
    .select('member_id')
    .where('workspace_id', '=', acme.workspaceId)
    .execute()
  t.same(identities, [{ member_id: acme.ids.ana }])
})

t.test('oidc-cb-003: start on one replica, callback on another', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const other = makeBrowser(replica)
  for (const [name, value] of browser.cookies) other.cookies.set(name, value)
  await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act: () => other.open(callback) })
})

t.test('oidc-cb-004: a callback delivered twice asks for one token and lands twice in one place', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const asked = tokenRequests()
  const cookie = { cookie: [...browser.cookies].map(([name, value]) => `${name}=${value}`).join('; ') }
  const { landing } = await expectSignedIn(t, world, {
    acme,
    act: async () => {
      const [first, second] = await Promise.all([browser.open(callback), browser.open(callback)])
      t.equal(second.location.href, first.location.href)
      return first
    },
  })
  t.equal(tokenRequests() - asked, 1)
  const later = await browser.open(callback, cookie)
  t.equal(later.location.href, landing.location.href, 'also a moment later')
  await expectRefusal(t, world, {
    acme,
    code: 'sso_state_invalid',
    act: async () => {
      await setAttempt(callback, { taken_at: new Date(Date.now() - 61_000).toISOString() })
      return browser.open(callback, cookie)
    },
  })
})

t.test('oidc-cb-005: a prefetch uses nothing up', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const purposes: Record<string, string>[] = [
    { 'sec-purpose': 'prefetch;prerender' },
    { purpose: 'prefetch' },
    { 'x-moz': 'prefetch' },
  ]
  for (const headers of purposes) {
    const reply = await browser.get(callback, { headers })
    t.equal(reply.statusCode, 204)
    t.equal(reply.headers['cache-control'], 'no-store')
  }
  await expectSignedIn(t, world, { acme, act: () => browser.open(callback) })
})

t.test('oidc-cb-006, oidc-cb-010: HEAD and POST are 405, and use nothing up', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const url = callback.replace('https://sso.assist.example', '')
  const [path = '', payload = ''] = url.split('?')
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const posted = await test.app.inject({ method: 'POST', url: path, headers, payload })
  for (const reply of [await test.app.inject({ method: 'HEAD', url }), posted]) {
    t.equal(reply.statusCode, 405)
    t.equal(reply.headers.allow, 'GET')
  }
  t.match(posted.json().detail, /response mode .* query/, 'the owner is told what to change')
  await expectSignedIn(t, world, { acme, act: () => browser.open(callback) })
})

t.test("oidc-cb-007: an attacker's code and state do nothing in another browser", async t => {
  const acme = await makeAcme()
  const victim = makeBrowser(world)
  const { exchangeCode } = await victim.signIn(acme, { user: { sub: 'u-bea', email: 'bea@corp.example' } })
  await victim.redeem(exchangeCode!)
  const attacker = makeBrowser(world)
  const callback = await attacker.reachCallback(acme)
  const asked = tokenRequests()
  const { detail } = await expectRefusal(t, world, {
    acme,
    code: 'sso_state_invalid',
    act: () => victim.open(callback),
  })
  t.equal(detail.reason, 'cookie_missing')
  const planted = new URL(callback).searchParams.get('state')!.slice(0, 8)
  const wrong = { cookie: `__Host-la-${planted}=${'x'.repeat(43)}` }
  await expectRefusal(t, world, { acme, code: 'sso_state_invalid', act: () => victim.open(callback, wrong) })
  t.equal(tokenRequests(), asked)
  t.match(
    (await victim.get('/v1/session')).json(),
    { member: { id: acme.ids.bea } },
    "the victim's session is untouched",
  )
  t.ok((await attacker.open(callback)).exchangeCode, 'and the attempt is not used up')
})

t.test('oidc-cb-008: a state that is missing, unknown, changed, used or too old is refused', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const asked = tokenRequests()
  const base = `https://sso.assist.example/sso/${acme.workspaceId}/callback?code=c`
  const live = await browser.reachCallback(acme, { returnTo: '/deep' })
  const state = new URL(live).searchParams.get('state')!
  const changed = `${state.slice(0, -1)}${state.endsWith('A') ? 'B' : 'A'}`
  for (const callback of [base, `${base}&state=${'r'.repeat(43)}`, `${base}&state=${changed}`]) {
    await expectRefusal(t, world, { acme, code: 'sso_state_invalid', act: () => browser.open(callback) })
  }
  await setAttempt(live, { expires_at: new Date(Date.now() - 60_000).toISOString() })
  const { landing } = await expectRefusal(t, world, {
    acme,
    code: 'sso_attempt_expired',
    act: () => browser.open(live),
  })
  t.equal(new URL(landing.retry!).searchParams.get('return_to'), 'https://app.assist.example/deep')
  t.equal(tokenRequests(), asked)
  const again = await browser.get(landing.retry!)
  t.match(again.headers.location, /^https:\/\/idp\.corp\.example\/authorize\?/, 'trying again begins anew')
})

t.test('oidc-cb-009: a lost cookie neither signs in nor loops, and offers one more try', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme, { returnTo: '/deep' })
  browser.cookies.clear()
  const { landing, detail } = await expectRefusal(t, world, {
    acme,
    code: 'sso_state_invalid',
    act: () => browser.open(callback),
  })
  t.equal(detail.reason, 'cookie_missing')
  t.match(landing.retry, /return_to=.*deep/)
})

t.test('oidc-cb-011: abandoned sign-ins leave five cookies at most, and the used one is cleared', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  let callback = ''
  for (let count = 0; count < 50; count++) {
    const { reply, authorizationUrl } = await browser.start(acme)
    callback = idp.authorize(authorizationUrl)
    t.ok([...browser.cookies.keys()].filter(name => name.startsWith('__Host-la-')).length <= 5)
    const lines = [reply.headers['set-cookie'] ?? []].flat()
    t.ok(lines.every(line => line.length <= 200))
    t.match(lines.at(-1), /^__Host-la-[\w-]{8}=[\w-]{43}; Max-Age=600; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
  }
  const used = `__Host-la-${new URL(callback).searchParams.get('state')!.slice(0, 8)}`
  t.ok(browser.cookies.has(used))
  const { reply } = await browser.open(callback)
  t.match(reply.headers['set-cookie'], new RegExp(`^${used}=; Max-Age=0; Path=/; .*HttpOnly; Secure; SameSite=Lax`))
  t.notOk(browser.cookies.has(used))
})

t.test('oidc-cb-012: the state stays short however long the way back is', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const returnTo = `/${'a'.repeat(1_899)}`
  const { authorizationUrl } = await browser.start(acme, { returnTo })
  t.ok(new URL(authorizationUrl).searchParams.get('state')!.length <= 64)
  const { exchangeCode } = await browser.open(idp.authorize(authorizationUrl))
  t.equal((await browser.redeem(exchangeCode!)).json().returnTo, `https://app.assist.example${returnTo}`)
})

t.test('oidc-cb-013: repeated parameters are refused', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const asked = tokenRequests()
  for (const extra of ['&code=b', '&state=x']) {
    await expectRefusal(t, world, { acme, code: 'sso_state_invalid', act: () => browser.open(callback + extra) })
  }
  t.equal(tokenRequests(), asked)
  t.ok((await browser.open(callback)).exchangeCode, 'nothing was used up')
})

t.test('oidc-cb-014, oidc-cb-018: a cancelled sign-in is sso_access_denied, also with a code beside it', async t => {
  const acme = await makeAcme()
  const asked = tokenRequests()
  for (const extra of ['&error_description=User+cancelled', '&code=abc']) {
    const browser = makeBrowser(world)
    const callback = await browser.reachCallback(acme, { error: 'access_denied' })
    const { landing } = await expectRefusal(t, world, {
      acme,
      code: 'sso_access_denied',
      act: () => browser.open(callback + extra),
    })
    t.ok(landing.retry)
    t.equal(landing.reply.cookies[0]?.maxAge, 0, 'the attempt is over')
  }
  t.equal(tokenRequests(), asked)
})

t.test('oidc-cb-015: markup in error_description reaches the entry only, escaped and cut', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme, { error: 'server_error' })
  const text = `<script>alert(1)</script>${'x'.repeat(500)}`
  const { landing, detail } = await expectRefusal(t, world, {
    acme,
    code: 'sso_idp_error',
    act: () => browser.open(`${callback}&error_description=${encodeURIComponent(text)}`),
  })
  t.notMatch(decodeURIComponent(landing.location.href), /script|alert/)
  t.equal(landing.reply.body, '')
  t.match(detail, { idpError: 'server_error', idpDescription: /^\\u003cscript\\u003ealert\(1\)/ })
  t.ok((detail.idpDescription as string).length <= 200)
})

t.test('oidc-cb-016: an error without a state closes nothing', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const { landing } = await expectRefusal(t, world, {
    acme,
    code: 'sso_state_invalid',
    act: () => browser.open(`${callback.split('?')[0]}?error=invalid_scope`),
  })
  t.equal(landing.retry, undefined)
  t.ok((await browser.open(callback)).exchangeCode)
})

t.test('oidc-cb-017: "ask again" starts anew once, and not a second time', async t => {
  for (const error of ['temporarily_unavailable', 'login_required', 'interaction_required']) {
    const acme = await makeAcme()
    const browser = makeBrowser(world)
    const first = await browser.open(await browser.reachCallback(acme, { error, returnTo: '/deep' }))
    t.equal(first.reply.statusCode, 303)
    t.match(first.location.href, /\/start\?return_to=.*deep.*restarts=1$/)
    const anew = await browser.get(first.location.href)
    const second = idp.authorize(anew.headers.location!, { error })
    await expectRefusal(t, world, { acme, code: 'sso_idp_error', act: () => browser.open(second) })
  }
})

t.test('oidc-cb-019: a bare callback is refused without a word more', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const bare = `https://sso.assist.example/sso/${acme.workspaceId}/callback`
  await expectRefusal(t, world, { acme, code: 'sso_state_invalid', act: () => browser.open(bare) })
  const members = (await entriesOf(test, acme.workspaceId)).map(entry => entry.memberId)
  t.same([...new Set(members)], [null], "nobody's failed sign-in")
})

t.test('oidc-cb-020: a flood of starts is limited by address, and nobody else is', async t => {
  const settings = { SIGN_IN_STARTS_PER_MINUTE: '20', SIGN_IN_OPEN_ATTEMPTS: '10' }
  const limited = await makeSignInWorld(t, { replicaOf: world, settings })
  const acme = await makeAcme()
  const flood = makeBrowser(limited)
  const codes: (string | null)[] = []
  for (let count = 0; count < 30; count++) {
    const { reply } = await flood.start(acme, { address: '198.51.100.7' })
    t.equal(reply.statusCode, 303, 'n-oidc-lim-02: a browser never sees JSON')
    codes.push(errorCodeOf(reply))
    if (codes.at(-1) !== null) t.match(reply.headers.location, /code=rate_limited&ref=[\w-]+&retry=/)
    flood.cookies.clear()
  }
  t.equal(codes.filter(code => code === null).length, 10, 'open attempts are bounded')
  const other = await makeAcme()
  const elsewhere = await flood.start(other, { address: '198.51.100.7' })
  t.equal(errorCodeOf(elsewhere.reply), null, 'another workspace has its own limit')
  const refused = await limited.test.statements(() => flood.start(acme, { address: '198.51.100.7' }))
  t.same(refused, [], 'beyond the rate the database is not asked')
  const six = (end: string) => flood.start(acme, { address: `2001:db8:0:1::${end}` })
  for (let count = 0; count < 10; count++) await six(count.toString(16))
  t.equal(errorCodeOf((await six('ffff')).reply), 'rate_limited', 'a /64 counts as one')
  await expectSignedIn(t, limited, { acme, act: () => makeBrowser(limited).signIn(acme, { address: '198.51.100.8' }) })
})

t.test('oidc-cb-021, oidc-cb-022: iss is compared wherever it is, and demanded where announced', async t => {
  idp.script.document = document => ({ ...document, authorization_response_iss_parameter_supported: true })
  const acme = await makeAcme()
  await expectSignedIn(t, world, { acme, act: () => makeBrowser(world).signIn(acme) })
  for (const [iss, error] of [
    [null, undefined],
    ['https://evil.example', undefined],
    ['https://idp.corp.example/', undefined],
    ['https://evil.example', 'login_required'],
  ] as const) {
    const asked = tokenRequests()
    const options = { iss, ...(error && { error }) }
    await expectRefusal(t, world, {
      acme,
      code: 'sso_issuer_mismatch',
      act: () => makeBrowser(world).signIn(acme, options),
    })
    t.equal(tokenRequests(), asked)
  }
  await acme.configure({ enabled: false })
})

t.test('oidc-cb-023: switched off while somebody is at the provider', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const asked = tokenRequests()
  await acme.configure({ enabled: false })
  const { landing, detail } = await expectRefusal(t, world, {
    acme,
    code: 'sso_disabled',
    act: () => browser.open(callback),
  })
  t.equal(landing.retry, undefined)
  t.match(detail.fix, /enabled/)
  t.equal(tokenRequests(), asked)
  await expectRefusal(t, world, { acme, code: 'sso_disabled', act: () => makeBrowser(world).signIn(acme) })
})

t.test(
  'a configuration that was deleted and made anew for another provider takes no answer of the one before',
  async t => {
    const other = await makeScriptedProvider(t, { network: world.network, issuer: 'https://next.corp.example' })
    const acme = await makeAcme()
    const browser = makeBrowser(world)
    const callback = await browser.reachCallback(acme, { user: { sub: 'a-subject-of-next' } })
    const { headers } = acme
    await test.app.inject({ method: 'DELETE', url: `${acme.url}/sso-config`, headers })
    const payload = { issuer: other.issuer, clientId: 'assist-acme', clientSecret: 'secret-of-next', enabled: true }
    const saved = await test.app.inject({ method: 'PUT', url: `${acme.url}/sso-config`, headers, payload })
    t.equal(saved.json().version, 1, 'the version is the same')
    const asked = tokenRequests()
    t.match((await browser.open(callback)).location.pathname, /\/start$/)
    t.equal(tokenRequests(), asked, 'the new secret does not go to the old provider')
    t.same(
      await test.db.selectFrom('identities').select('subject').where('workspace_id', '=', acme.workspaceId).execute(),
      [],
    )
  },
)

t.test('a configuration that changed meanwhile begins the sign-in anew, once', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme, { returnTo: '/deep' })
  await acme.configure({ autoProvision: true })
  const first = await browser.open(callback)
  t.match(first.location.pathname, /\/start$/)
  const anew = await browser.get(first.location.href)
  await acme.configure({ autoProvision: false })
  await expectRefusal(t, world, {
    acme,
    code: 'sso_attempt_expired',
    act: () => browser.open(idp.authorize(anew.headers.location!)),
  })
})

t.test('oidc-cb-024: Host and X-Forwarded-Host move neither the redirect URI nor the cookie', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const headers = { host: 'evil.example', 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'http' }
  const { reply, authorizationUrl } = await browser.start(acme, { headers })
  const registered = `https://sso.assist.example/sso/${acme.workspaceId}/callback`
  t.equal(new URL(authorizationUrl).searchParams.get('redirect_uri'), registered)
  t.notMatch(reply.headers['set-cookie'], /Domain/i)
})

t.test('oidc-mt-001: an attempt of one workspace cannot be finished for another', async t => {
  const acme = await makeAcme()
  const globex = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  const asked = tokenRequests()
  const moved = callback.replace(acme.workspaceId, globex.workspaceId)
  await expectRefusal(t, world, { acme: globex, code: 'sso_state_invalid', act: () => browser.open(moved) })
  t.equal(tokenRequests(), asked)
  await expectSignedIn(t, world, { acme, act: () => browser.open(callback) })
})

t.test('a workspace without a configuration, or none at all, leads to the error page and leaves no trace', async t => {
  const browser = makeBrowser(world)
  const unknown = '0190a6c8-8f00-7000-8000-00000000dead'
  const reply = await browser.get(`/sso/${unknown}/start?handoff_challenge=${challenge}`)
  t.match(reply.headers.location, /^https:\/\/app\.assist\.example\/sso\/error\?code=sso_not_configured&ref=/)
  t.same(await entriesOf(test, unknown), [])
})

t.test('start takes a challenge of 43 characters and nothing that it does not know', async t => {
  const acme = await makeAcme()
  const start = async (query: string) =>
    errorCodeOf(await makeBrowser(world).get(`/sso/${acme.workspaceId}/start?${query}`))
  t.equal(await start(''), 'sso_handoff_invalid')
  t.equal(await start(`handoff_challenge=${challenge}A`), 'sso_handoff_invalid')
  t.equal(await start(`handoff_challenge=${challenge}&handoff_challenge=${challenge}`), 'invalid')
  t.equal(await start(`handoff_challenge=${challenge}&colour=red`), 'invalid')
  t.equal(await start(`handoff_challenge=${challenge}&prompt=none`), 'invalid')
})

t.test('every answer under /sso keeps out of caches, frames and Referer headers', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme)
  for (const reply of [(await browser.open(callback)).reply, await browser.get(`/sso/${acme.workspaceId}/start`)]) {
    t.match(reply.headers, {
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-frame-options': 'DENY',
      'content-security-policy': /frame-ancestors 'none'/,
      'strict-transport-security': /max-age/,
    })
  }
})
