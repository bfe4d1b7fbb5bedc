import t from 'tap'
import { sweepExpired } from '../../src/sign-in/sweep.ts'
import { bearer, signToken } from '../helpers/app.ts'
import { json, makeScriptedProvider, type AuthorizeOptions } from '../helpers/scripted-provider.ts'
import {
  entriesOf,
  makeBrowser,
  makeSignInWorld,
  makeTestProof,
  testCodeOf,
  type Acme,
  type Browser,
} from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { app, db, config, log } = world.test
const newIdp = await makeScriptedProvider(t, { issuer: 'https://newidp.corp.example', network: world.network })

type Headers = Record<string, string>

/** The owner, known to Assist by the address in their token. */
async function olgaOf(acme: Acme): Promise<Headers> {
  const claims = { workspace: acme.workspaceId, role: 'owner', sub: 'assist-olga', email: 'owner@corp.example' }
  return { authorization: `Bearer ${await signToken(claims)}` }
}

const olga = { sub: 'u-olga', email: 'owner@corp.example', email_verified: true, name: 'Olga Owner' }

/** What the admin's front-end keeps, the same for each test here. */
const { verifier, challenge } = makeTestProof()

/** Creates a test with the challenge, or uses one with the verifier. */
async function post(acme: Acme, path: string, { headers, payload }: { headers?: Headers; payload?: object } = {}) {
  const url = `${acme.url}/sso-config/sign-in-tests${path}`
  const body = path === '' ? { challenge, ...payload } : { verifier, ...payload }
  return app.inject({ method: 'POST', url, headers: headers ?? (await olgaOf(acme)), payload: body })
}

const read = async (acme: Acme, id: string) =>
  (await app.inject({ url: `${acme.url}/sso-config/sign-in-tests/${id}`, headers: acme.headers })).json()

/** Makes a test, goes through the provider, and gives the report with where the browser ended. */
async function run(acme: Acme, { draft, idp = world.idp, browser = makeBrowser(world), ...options }: TestRun = {}) {
  const made = (await post(acme, '', draft && { payload: draft })).json()
  if (made.startUrl === undefined) throw new Error(JSON.stringify(made))
  const start = await browser.get(made.startUrl)
  const location = start.headers.location!
  const callback = location.includes('/authorize?') ? idp.authorize(location, options) : undefined
  const landing = callback === undefined ? location : (await browser.get(callback)).headers.location!
  const code = testCodeOf(landing)
  if (code !== undefined) await post(acme, `/${made.id}/confirm`, { payload: { code } })
  return {
    code,
    made,
    landing,
    callback,
    browser,
    test: await read(acme, made.id),
    checks: byName(await read(acme, made.id)),
  }
}

interface TestRun extends AuthorizeOptions {
  draft?: object
  idp?: typeof world.idp
  browser?: Browser
}

function byName({ report }: { report: { checks: { name: string }[] } | null }): Record<string, object> {
  return Object.fromEntries((report?.checks ?? []).map(check => [check.name, check]))
}

async function rowsOf({ workspaceId }: Acme) {
  const of = 'workspace_id'
  return {
    members: await db.selectFrom('members').selectAll().where(of, '=', workspaceId).orderBy('id').execute(),
    identities: await db.selectFrom('identities').selectAll().where(of, '=', workspaceId).execute(),
    sessions: await db.selectFrom('sessions').selectAll().where(of, '=', workspaceId).execute(),
    codes: await db.selectFrom('exchange_codes').selectAll().where(of, '=', workspaceId).execute(),
    history: await db.selectFrom('access_changes').selectAll().where(of, '=', workspaceId).execute(),
  }
}

t.beforeEach(() => {
  world.idp.reset()
  newIdp.reset()
})

t.test('a test goes all the way and ends in a report: no session, no link, no member comes of it', async t => {
  const acme = await world.makeAcme()
  const before = await rowsOf(acme)
  const { made, landing, code, test } = await run(acme, { user: olga })
  t.match(made, { status: 'waiting', isDraft: false, configVersion: 1, report: null })
  t.equal(landing, `https://app.assist.example/sso/test?workspace=${acme.workspaceId}&test=${made.id}&code=${code}`)
  t.same(await rowsOf(acme), before)
  t.match(test, { status: 'passed', finishedAt: String })
  t.match(test.report, {
    token: { algorithm: 'RS256', keyId: 'k1', clockSkewSeconds: Number },
    domain: { name: 'corp.example', isListed: true, isProved: false },
    membership: { decision: 'link', memberId: acme.ids.olga, trust: 'email_verified', isOwnAccount: true },
    role: { value: 'owner', why: { by: 'floor' } },
  })
  const expected =
    'discovery provider_answer token_endpoint client_authentication id_token clock userinfo sign_in_policy'
  t.same(
    test.report.checks.map(({ name, result }: { name: string; result: string }) => `${name} ${result}`),
    `${expected} email domain membership role own_account`.split(' ').map(name => `${name} pass`),
  )
  const entries = await entriesOf(world.test, acme.workspaceId)
  t.match(entries.at(-1), { action: 'sso_sign_in_test.finished', detail: { passed: true, failed: [] } })
})

t.test('the claims are masked, and shown as they are only by an act that leaves an entry', async t => {
  const acme = await world.makeAcme()
  const { made, test } = await run(acme, {
    user: { ...olga, phone_number: '+49 170 0000000', employee_number: 4711, gender: 'f', is_manager: true },
  })
  const claims = Object.fromEntries(
    test.report.claims.map((claim: { name: string; value: string }) => [claim.name, claim.value]),
  )
  t.match(claims, { iss: '"https://idp.corp.example"', email: 'o…@corp.example', email_verified: 'true', sub: /^u… / })
  t.match(claims, { employee_number: 'a number', gender: '… (1 characters)', is_manager: 'true' })
  t.notMatch(JSON.stringify(test), /owner@corp|Olga Owner|0000000|u-olga/)
  const stored = await db
    .selectFrom('sso_sign_in_tests')
    .selectAll()
    .where('id', '=', made.id)
    .executeTakeFirstOrThrow()
  t.notMatch(stored.claims_sealed!.toString('latin1'), 'owner@corp')
  const shown = await post(acme, `/${made.id}/claims`)
  t.match(shown.json(), { claims: { email: 'owner@corp.example', phone_number: '+49 170 0000000' } })
  t.equal(shown.headers['cache-control'], 'no-store')
  t.match((await entriesOf(world.test, acme.workspaceId)).at(-1), { action: 'sso_sign_in_test.claims_shown' })
  t.notMatch(log(), /owner@corp|tst_/)
})

t.test('a draft is tested without being saved, with the secret that came with it', async t => {
  const acme = await world.makeAcme()
  newIdp.clients.set('assist-new', 'new-secret')
  const draft = { issuer: `${newIdp.issuer}/`, clientId: 'assist-new', clientSecret: 'new-secret', autoProvision: true }
  const user = { sub: 'n-1', email: 'somebody.new@corp.example', email_verified: true }
  const { made, test, checks } = await run(acme, { draft, idp: newIdp, user })
  t.match(test, { status: 'passed', isDraft: true, configVersion: null, settings: { issuer: newIdp.issuer } })
  t.match(test.report.membership, { decision: 'provision', memberId: null, isOwnAccount: false })
  t.match(test.report.role, { value: 'viewer', why: { by: 'default' } })
  t.match(checks, { own_account: { result: 'warn', fix: /your own account/ } })
  const saved = (await app.inject({ url: `${acme.url}/sso-config`, headers: acme.headers })).json()
  t.match(saved, { issuer: world.idp.issuer, version: 1, autoProvision: false })
  const { sealed_secret: sealed } = await db
    .selectFrom('sso_sign_in_tests')
    .selectAll()
    .where('id', '=', made.id)
    .executeTakeFirstOrThrow()
  t.notMatch(sealed!.toString('latin1'), 'new-secret')
  t.notMatch(JSON.stringify(made) + JSON.stringify(test), 'new-secret')

  const refused = await post(acme, '', { payload: { issuer: newIdp.issuer } })
  t.match(refused.json(), { status: 400, code: 'sso_secret_missing' }, 'the stored secret is not for another issuer')
  const { workspaceId } = acme
  await db.deleteFrom('sso_configs').where('workspace_id', '=', workspaceId).execute()
  t.match((await post(acme, '')).json(), { status: 404, code: 'sso_not_configured' })
  t.match((await post(acme, '', { payload: { ...draft, issuer: 'https://10.0.0.5' } })).json(), {
    code: 'sso_issuer_blocked',
  })
  t.match((await run(acme, { draft, idp: newIdp, user })).test, { status: 'passed' }, 'also where nothing is saved yet')
})

t.test('each failure is found by its check, with what to change, and ends the list', async t => {
  const acme = await world.makeAcme()
  const failing = async (options: TestRun) => {
    const { test } = await run(acme, options)
    t.equal(test.status, 'failed')
    return test.report.checks.filter((check: { result: string }) => check.result === 'fail')
  }
  t.match(await failing({ error: 'access_denied' }), [
    { name: 'provider_answer', code: 'sso_access_denied', fix: /Assign the person/ },
  ])
  world.idp.script.answer.token = json(401, {
    error: 'invalid_client',
    error_description:
      'AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value, not its ID.',
  })
  t.match(
    await failing({}),
    [{ name: 'client_authentication', code: 'sso_client_rejected', fix: /Value .*not its Secret ID/ }],
    'oidc-tok-005',
  )
  world.idp.script.answer.token = json(401, { error: 'unauthorized_client', error_description: 'Invalid client' })
  t.match(
    await failing({}),
    [{ name: 'client_authentication', code: 'sso_client_rejected', fix: /Copy client id and secret/ }],
    'n-oidc-tok-01: Keycloak',
  )
  await app.inject({
    method: 'POST',
    url: `${acme.url}/sso-config/credentials`,
    headers: acme.headers,
    payload: { kind: 'key' },
  })
  t.match(await failing({ draft: { tokenAuthMethod: 'private_key_jwt' } }), [
    { name: 'client_authentication', code: 'sso_client_rejected', fix: /Register jwksUri/ },
  ])
  world.idp.script.answer.token = json(400, { error: 'invalid_scope' })
  t.match(await failing({}), [{ name: 'token_endpoint', code: 'sso_idp_error', fix: /scopes openid, email/ }])
  world.idp.reset()
  world.idp.script.claims = claims => ({ ...claims, aud: 'another-client' })
  t.match(await failing({}), [{ name: 'id_token', code: 'sso_token_invalid', fix: /another client/ }])
  world.idp.reset()
  world.idp.now = () => Date.now() + 900_000
  t.match(await failing({}), [{ name: 'clock', code: 'sso_token_invalid', fix: /Set the clock of the provider/ }])
  world.idp.reset()
  t.match(await failing({ user: { ...olga, email: undefined } }), [
    { name: 'email', code: 'sso_email_missing', fix: /Add the email claim/ },
  ])
  t.match(await failing({ user: { ...olga, email: 'olga@elsewhere.example' } }), [
    { name: 'domain', code: 'sso_domain_not_allowed', fix: /allowedDomains/ },
  ])
  t.match(await failing({ user: { sub: 'u-new', email: 'new@corp.example', email_verified: true } }), [
    { name: 'membership', code: 'sso_not_provisioned', fix: /autoProvision/ },
  ])
  t.match(await failing({ user: { sub: 'u-dan', email: 'dan@corp.example', email_verified: true } }), [
    { name: 'membership', code: 'sso_member_deactivated' },
  ])
  const policy = { sessionHours: 12, sessionIdleMinutes: 120, maxAgeSeconds: null, acrValues: ['phr'] }
  const url = `${acme.url}/sign-in-policy`
  await app.inject({ method: 'PUT', url, headers: acme.headers, payload: policy })
  t.match(await failing({ user: olga }), [{ name: 'sign_in_policy', code: 'sso_authentication_too_weak' }])
})

t.test('a clock that is a little off, and an address that nobody vouches for, are warnings', async t => {
  const acme = await world.makeAcme({ allowedDomains: [] })
  world.idp.now = () => Date.now() + 40_000
  const ana = { sub: 'u-ana', email: 'ana@corp.example', email_verified: true }
  await makeBrowser(world).signIn(acme, { user: ana })
  const { test, checks } = await run(acme, { user: { ...ana, email_verified: undefined } })
  t.match(test, { status: 'passed', report: { membership: { decision: 'known' } } })
  t.match(checks, {
    clock: { result: 'warn', message: /4\d|39 s ahead/ },
    email: { result: 'warn' },
    domain: { result: 'warn', fix: /DNS/ },
  })
})

t.test('where the provider cannot be reached, the report says at which step', async t => {
  const acme = await world.makeAcme()
  const gone = await makeScriptedProvider(t, { issuer: 'https://gone.corp.example', network: world.network })
  await acme.configure({ issuer: gone.issuer, clientSecret: 'acme-secret' })
  await makeBrowser({ test: world.test, idp: gone }).signIn(acme, { user: olga })
  await gone.stop()
  const failed = ({ test }: Awaited<ReturnType<typeof run>>) => {
    t.equal(test.status, 'failed')
    return test.report.checks.at(-1)
  }
  t.match(failed(await run(acme)), { name: 'token_endpoint', code: 'sso_idp_unreachable' }, 'metadata are known')
  const fresh = await makeSignInWorld(t, { replicaOf: world })
  const made = (await post(acme, '')).json()
  const landing = (await makeBrowser(fresh).get(made.startUrl)).headers.location
  t.match(landing, /sso\/test/)
  const test = await read(acme, made.id)
  t.match(test.report.checks, [{ name: 'discovery', result: 'fail', code: 'sso_idp_unreachable' }])
  await gone.start()
})

t.test('the start URL works once and in time, and the callback only in the browser that opened it', async t => {
  const acme = await world.makeAcme()
  const browser = makeBrowser(world)
  const { made, callback } = await run(acme, { user: olga, browser })
  const again = new URL((await browser.get(made.startUrl)).headers.location!)
  t.equal(again.searchParams.get('code'), 'sso_attempt_expired')
  t.match((await browser.get(callback!)).headers.location, /sso\/error.*code=sso_state_invalid/, 'the cookie is gone')
  const late = (await post(acme, '')).json()
  await db
    .updateTable('sso_sign_in_tests')
    .set({ expires_at: '2026-01-01T00:00:00Z' })
    .where('id', '=', late.id)
    .execute()
  t.match(await read(acme, late.id), { status: 'expired' })
  t.match((await browser.get(late.startUrl)).headers.location, /code=sso_attempt_expired/)

  const other = (await post(acme, '')).json()
  const opened = (await browser.get(other.startUrl)).headers.location!
  const stolen = await makeBrowser(world).open(world.idp.authorize(opened, { user: olga }))
  t.equal(stolen.code, 'sso_state_invalid')
  t.match(await read(acme, other.id), { status: 'running', report: null })
  const foreign = other.startUrl.replace(acme.workspaceId, (await world.makeAcme()).workspaceId)
  t.match((await browser.get(foreign)).headers.location, /code=sso_attempt_expired/)
  t.equal((await app.inject({ method: 'POST', url: other.startUrl.replace(config.publicUrl, '') })).statusCode, 405)
})

t.test('an owner whose address nobody vouches for links their own account, and nobody else theirs', async t => {
  const acme = await world.makeAcme()
  const silent = { ...olga, email_verified: undefined }
  const { made, checks } = await run(acme, { user: silent })
  t.match(checks, {
    membership: { result: 'warn', code: 'sso_identity_link_required', fix: /Link the account of this sign-in test/ },
  })
  const service = await bearer({ scope: 'assist:workspaces' })
  t.match((await post(acme, `/${made.id}/link`, { headers: service })).json(), {
    status: 409,
    code: 'admin_not_member',
  })
  const nameless = await bearer({ workspace: acme.workspaceId, role: 'owner' })
  t.match((await post(acme, `/${made.id}/link`, { headers: nameless })).json(), { code: 'admin_not_member' })
  const bea = { workspace: acme.workspaceId, role: 'admin', sub: 'assist-bea', email: 'bea@corp.example' }
  const asBea = { authorization: `Bearer ${await signToken(bea)}` }
  t.match((await post(acme, `/${made.id}/link`, { headers: asBea })).json(), { status: 403, code: 'forbidden' })
  t.equal((await post(acme, `/${made.id}/link`)).statusCode, 200)
  t.equal((await post(acme, `/${made.id}/link`)).statusCode, 200, 'again without effect')
  const linked = (await entriesOf(world.test, acme.workspaceId)).filter(entry => entry.action === 'identity.linked')
  t.match(linked, [{ memberId: acme.ids.olga, detail: { subject: 'u-olga', linkedBy: 'member', testId: made.id } }])
  t.ok((await makeBrowser(world).signIn(acme, { user: silent })).exchangeCode, 'and now they come in')
  t.match((await run(acme, { user: silent })).test, {
    status: 'passed',
    report: { membership: { decision: 'known', isOwnAccount: true } },
  })

  const second = await run(acme, { user: { ...olga, sub: 'u-other' } })
  t.match(second.test.report.membership, { decision: 'link_required' })
  t.match((await post(acme, `/${second.made.id}/link`)).json(), { status: 409, code: 'sso_identity_conflict' })
  await acme.configure({ autoProvision: true })
  const stranger = await run(acme, { user: { sub: 'u-x', email: 'x@corp.example', email_verified: true } })
  t.match(stranger.test, { status: 'passed', report: { membership: { decision: 'provision' } } })
  t.match(
    (await post(acme, `/${stranger.made.id}/link`)).json(),
    { status: 409, code: 'sign_in_test_other_account' },
    'an address that is not the member’s',
  )
  const unproved = await run(acme, { error: 'access_denied' })
  t.match((await post(acme, `/${unproved.made.id}/link`)).json(), { code: 'sign_in_test_failed' })
})

t.test('a start URL that another person opens links no account and shows no claims (n-oidc-test-01)', async t => {
  const acme = await world.makeAcme()
  const before = await rowsOf(acme)
  const made = (await post(acme, '')).json()
  // Mallory opens Olga's start URL and signs in with an account of her own that has Olga's address.
  const mallory = makeBrowser(world)
  const location = (await mallory.get(made.startUrl)).headers.location!
  const callback = world.idp.authorize(location, { user: { ...olga, sub: 'u-mallory' } })
  const landing = (await mallory.get(callback)).headers.location!
  const code = testCodeOf(landing)!
  t.match(code, /^tsc_/)

  const test = await read(acme, made.id)
  t.match(test, { status: 'unconfirmed', report: null })
  for (const path of ['claims', 'link', 'apply']) {
    t.match((await post(acme, `/${made.id}/${path}`)).json(), { status: 409, code: 'sign_in_test_unconfirmed' }, path)
  }
  const wrong = { status: 403, code: 'sign_in_test_other_browser' }
  t.match((await post(acme, `/${made.id}/confirm`, { payload: { code: code.replace(/.$/, 'A') } })).json(), wrong)
  const other = makeTestProof()
  const byMallory = { payload: { code, verifier: other.verifier } }
  t.match((await post(acme, `/${made.id}/confirm`, byMallory)).json(), wrong, 'the code without the verifier')
  t.same(await rowsOf(acme), before)
  const entries = await entriesOf(world.test, acme.workspaceId)
  t.match(entries.at(-1), { action: 'sso_sign_in_test.refused', reason: 'sign_in_test_other_browser' })

  t.equal((await post(acme, `/${made.id}/confirm`, { payload: { code } })).json().status, 'passed')
  for (const path of ['claims', 'link', 'apply']) {
    t.match((await post(acme, `/${made.id}/${path}`, { payload: { verifier: other.verifier } })).json(), wrong, path)
  }
  t.match((await read(acme, made.id)).report.membership, { isOwnAccount: true })
  const twice = (await mallory.get(callback)).headers.location
  t.equal(twice === landing || twice?.includes('sso_state_invalid'), true, 'a second delivery brings no other code')
})

t.test('an admin who sends a start URL to an owner reads no claims, links nothing and proves nothing', async t => {
  const acme = await world.makeAcme()
  const claims = { workspace: acme.workspaceId, role: 'admin', sub: 'assist-bea', email: 'bea@corp.example' }
  const headers = { authorization: `Bearer ${await signToken(claims)}` }
  const made = (await post(acme, '', { headers })).json()
  const owner = makeBrowser(world)
  const location = (await owner.get(made.startUrl)).headers.location!
  const landing = (await owner.get(world.idp.authorize(location, { user: olga }))).headers.location!
  t.ok(testCodeOf(landing), 'the code is in the browser of the owner, who has no verifier')
  t.match(await read(acme, made.id), { status: 'unconfirmed', report: null })
  for (const path of ['claims', 'link', 'apply']) {
    t.match((await post(acme, `/${made.id}/${path}`, { headers })).json(), { code: 'sign_in_test_unconfirmed' }, path)
  }
  const guess = await post(acme, `/${made.id}/confirm`, { headers, payload: { code: 'tsc_guess' } })
  t.match(guess.json(), { status: 403, code: 'sign_in_test_other_browser' })
  t.notMatch(JSON.stringify(await entriesOf(world.test, acme.workspaceId)), /owner@corp|Olga Owner|u-olga/)
  const landed = await makeBrowser(world).signIn(acme, { user: olga })
  t.ok(landed.exchangeCode)
  const { identities } = await rowsOf(acme)
  t.match(identities, [{ subject: 'u-olga', member_id: acme.ids.olga }], 'the owner signs in as herself')
})

t.test('a sign-in test needs a challenge, and a verifier for each later step', async t => {
  const acme = await world.makeAcme()
  const headers = await olgaOf(acme)
  const url = `${acme.url}/sso-config/sign-in-tests`
  for (const payload of [{}, { challenge: 'short' }, { challenge: 'x'.repeat(44) }]) {
    const refused = (await app.inject({ method: 'POST', url, headers, payload })).json()
    t.match(refused, { status: 400, code: 'invalid', errors: [{ pointer: '/challenge' }] })
  }
  const made = (await post(acme, '')).json()
  for (const path of ['claims', 'link', 'apply']) {
    const refused = await app.inject({ method: 'POST', url: `${url}/${made.id}/${path}`, headers, payload: {} })
    t.match(refused.json(), { status: 400, errors: [{ pointer: '/verifier' }] }, path)
  }
  const early = await post(acme, `/${made.id}/confirm`, { payload: { code: 'tsc_early' } })
  t.match(early.json(), { status: 409, code: 'sign_in_test_unfinished' })
})

t.test('a draft that has passed is saved as it was proved; one that has not is refused', async t => {
  const acme = await world.makeAcme()
  newIdp.clients.set('assist-new', 'new-secret')
  const draft = { issuer: newIdp.issuer, clientId: 'assist-new', clientSecret: 'new-secret' }
  const waiting = (await post(acme, '', { payload: draft })).json()
  t.match((await post(acme, `/${waiting.id}/apply`)).json(), { status: 409, code: 'sign_in_test_unfinished' })
  const failed = await run(acme, { draft, idp: newIdp, error: 'access_denied' })
  t.match((await post(acme, `/${failed.made.id}/apply`)).json(), { status: 409, code: 'sign_in_test_failed' })
  const saved = await run(acme, { user: olga })
  t.match((await post(acme, `/${saved.made.id}/apply`)).json(), { status: 409, code: 'conflict' })

  const { made } = await run(acme, { draft, idp: newIdp, user: { ...olga, sub: 'n-olga' } })
  t.match((await post(acme, `/${made.id}/apply`)).json(), { version: 2 })
  t.match(await read(acme, made.id), { configVersion: 2 })
  t.match((await post(acme, `/${made.id}/apply`)).json(), { status: 409, code: 'conflict' }, 'once')
  const outdated = await run(acme, { draft: { autoProvision: true }, idp: newIdp, user: { ...olga, sub: 'n-olga' } })
  t.equal(outdated.test.status, 'passed')
  await acme.configure({ allowedDomains: ['corp.example', 'more.example'] })
  const late = (await post(acme, `/${outdated.made.id}/apply`)).json()
  t.match(late, { status: 409, code: 'conflict', detail: /new test/ }, 'what was saved since stays')
  const browser = makeBrowser({ test: world.test, idp: newIdp })
  t.ok((await browser.signIn(acme, { user: { ...olga, sub: 'n-olga' } })).exchangeCode, 'the secret came along')
})

t.test(
  'a workspace without a configuration is set up by a test: what has passed is applied, and counts as proof',
  async t => {
    const acme = await world.makeAcme()
    await app.inject({ method: 'DELETE', url: `${acme.url}/sso-config`, headers: acme.headers })
    t.match((await post(acme, '', { payload: {} })).json(), { code: 'sso_not_configured' })
    const draft = { issuer: world.idp.issuer, clientId: 'assist-acme', clientSecret: 'acme-secret' }
    t.match((await post(acme, '', { payload: { ...draft, clientSecret: undefined } })).json(), {
      code: 'sso_secret_missing',
    })
    const { made, test } = await run(acme, { draft: { ...draft, allowedDomains: ['corp.example'] }, user: olga })
    t.equal(test.status, 'passed')
    t.match((await app.inject({ url: `${acme.url}/sso-config`, headers: acme.headers })).json(), {
      code: 'sso_not_configured',
    })
    t.match((await post(acme, `/${made.id}/apply`)).json(), { version: 1 })
    const { verdict } = (
      await app.inject({ url: `${acme.url}/sso-config/enforcement`, headers: await olgaOf(acme) })
    ).json()
    t.match(verdict.checks, [
      { name: 'enabled', result: 'pass' },
      { name: 'proven_sign_in', result: 'pass' },
    ])
    t.ok((await makeBrowser(world).signIn(acme, { user: olga })).exchangeCode)
  },
)

t.test('tests are of their workspace, and gone after a week', async t => {
  const [acme, globex] = [await world.makeAcme(), await world.makeAcme()]
  const { made } = await run(acme, { user: olga })
  t.match(await read(globex, made.id), { status: 404 })
  for (const path of ['confirm', 'claims', 'link', 'apply']) {
    const payload = path === 'confirm' ? { code: 'tsc_x' } : {}
    t.match((await post(globex, `/${made.id}/${path}`, { payload })).json(), { status: 404 }, path)
  }
  await db
    .updateTable('sso_sign_in_tests')
    .set({ created_at: new Date(Date.now() - 8 * 86_400_000).toISOString() })
    .where('id', '=', made.id)
    .execute()
  await sweepExpired(db)
  t.match(await read(acme, made.id), { status: 404 })
})
