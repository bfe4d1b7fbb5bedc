import t from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { bearer, serviceHeaders, signToken } from '../helpers/app.ts'
import { json, makeScriptedProvider } from '../helpers/scripted-provider.ts'
import { entriesOf, makeBrowser, makeSignInWorld, type Acme, makeTestProof, testCodeOf } from '../helpers/sign-in.ts'

const { verifier, challenge } = makeTestProof()
const world = await makeSignInWorld(t)
const { app, db } = world.test

type Headers = Record<string, string>
const users = {
  olga: { sub: 'u-olga', email: 'owner@corp.example', email_verified: true },
  ana: { sub: 'u-ana', email: 'ana@corp.example', email_verified: true },
  bea: { sub: 'u-bea', email: 'bea@corp.example', email_verified: true },
}

async function send(
  acme: Acme,
  method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE',
  { path, headers, payload }: { path: string; headers: Headers; payload?: object },
) {
  return app.inject({ method, url: `${acme.url}${path}`, headers, ...(payload && { payload }) })
}

/** Signs somebody in by SSO; the headers are those of their access token. */
async function signedIn(acme: Acme, user: object): Promise<Headers> {
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: { ...user } })
  const { accessToken } = (await browser.redeem(exchangeCode!)).json()
  return { authorization: `Bearer ${accessToken}` }
}

/** An account of Assist, signed in by a password there. */
async function byPassword(acme: Acme, email: string, role: string): Promise<Headers> {
  const claims = { workspace: acme.workspaceId, role, sub: `assist-${email}`, email }
  return { authorization: `Bearer ${await signToken(claims)}` }
}

const verdictOf = async (acme: Acme, headers: Headers) =>
  (await send(acme, 'GET', { path: '/sso-config/enforcement', headers })).json()
const enforce = async (acme: Acme, headers: Headers, payload = {}) =>
  send(acme, 'PUT', { path: '/sso-config/enforcement', headers, payload })
const makeCodes = async (acme: Acme, headers: Headers): Promise<string[]> =>
  (await send(acme, 'POST', { path: '/sso-config/recovery-codes', headers })).json().codes
const recover = async (acme: Acme, payload: object, headers: Headers = { 'sec-fetch-site': 'cross-site' }) =>
  app.inject({
    method: 'POST',
    url: '/v1/recovery-sessions',
    headers,
    payload: { workspaceId: acme.workspaceId, ...payload },
    remoteAddress: `203.0.113.${1 + Math.floor(Math.random() * 250)}`,
  })

/** A workspace that enforces SSO, with its owner signed in by it and holding recovery codes. */
async function makeEnforced(settings = {}) {
  const acme = await world.makeAcme(settings)
  const owner = await signedIn(acme, users.olga)
  const codes = await makeCodes(acme, owner)
  const reply = await enforce(acme, owner)
  if (reply.statusCode !== 200) throw new Error(reply.body)
  return { acme, owner, codes }
}

const address = (email: string) => ({ email, email_key: email })
const ask = async (payload: object) =>
  (await app.inject({ method: 'POST', url: '/v1/sign-in-options', headers: serviceHeaders, payload })).json()

const failures = ({ verdict }: { verdict: { checks: { name: string; result: string }[] } }) =>
  verdict.checks.filter(check => check.result === 'fail').map(check => check.name)

t.beforeEach(() => world.idp.reset())

t.test(
  'oidc-enf-003, oidc-enf-005: only an owner whose own sign-in proves this version, with a way back, enforces',
  async t => {
    const acme = await world.makeAcme()
    const stranger = await bearer({ workspace: acme.workspaceId })
    t.same(failures(await verdictOf(acme, stranger)), ['proven_sign_in', 'recovery', 'client_credential'])
    const password = await byPassword(acme, 'owner@corp.example', 'owner')
    t.match((await enforce(acme, password)).json(), { status: 409, code: 'sso_not_proven', detail: /sign-in test/ })
    const owner = await signedIn(acme, users.olga)
    t.match((await enforce(acme, owner)).json(), { status: 409, code: 'sso_recovery_missing' })
    t.equal((await makeCodes(acme, owner)).length, 10)
    t.match(await verdictOf(acme, owner), {
      enforced: false,
      since: null,
      verdict: { isSafe: true, lockedOutMembers: 0 },
    })

    await acme.configure({ autoProvision: true })
    t.same(failures(await verdictOf(acme, owner)), ['proven_sign_in'], 'another version')
    t.match((await enforce(acme, owner)).json(), { code: 'sso_not_proven', detail: /version 2/ })
    await signedIn(acme, users.olga)
    t.same(failures(await verdictOf(acme, owner)), [])
    const policy = { sessionHours: 12, sessionIdleMinutes: 60, maxAgeSeconds: null, acrValues: ['phr'] }
    const put = await send(acme, 'PUT', { path: '/sign-in-policy', headers: owner, payload: policy })
    t.equal(put.statusCode, 200)
    t.same(failures(await verdictOf(acme, owner)), ['proven_sign_in'], 'a policy that nobody has met yet')
    const anew = await signedIn(acme, { ...users.olga, acr: 'phr' })
    await signedIn(acme, { ...users.ana, acr: 'phr' })
    const admin = await byPassword(acme, 'owner@corp.example', 'admin')
    t.match((await enforce(acme, admin)).json(), { status: 403, code: 'forbidden' })
    const enforced = (await enforce(acme, anew)).json()
    t.match(
      enforced,
      { enforced: true, since: String, verdict: { isSafe: true } },
      'which proves and disproves nothing',
    )
    t.equal((await enforce(acme, anew)).json().since, enforced.since, 'again without effect')
    const config = (await send(acme, 'GET', { path: '/sso-config', headers: anew })).json()
    t.match(config, { enforced: true })
    const entries = (await entriesOf(world.test, acme.workspaceId)).filter(entry => entry.action.startsWith('sso_enf'))
    t.match(entries, [{ action: 'sso_enforcement.enabled', detail: { version: 2, lockedOutMembers: 0 } }])
  },
)

t.test('a passed sign-in test of the own account proves as well as a sign-in', async t => {
  const acme = await world.makeAcme()
  const password = await byPassword(acme, 'owner@corp.example', 'owner')
  await makeCodes(acme, password)
  const test = async (user: object) => {
    const path = '/sso-config/sign-in-tests'
    const made = (await send(acme, 'POST', { path, headers: password, payload: { challenge } })).json()
    await goThrough(acme, { made, headers: password, user })
  }
  await test(users.ana)
  t.same(failures(await verdictOf(acme, password)), ['proven_sign_in'], "somebody else's account")
  await test(users.olga)
  t.same(failures(await verdictOf(acme, password)), [])
  t.equal((await enforce(acme, password)).statusCode, 200)
})

t.test('neither a sign-in nor a test by a configuration that was deleted proves the next one', async t => {
  const acme = await world.makeAcme()
  const owner = await signedIn(acme, users.olga)
  const path = '/sso-config/sign-in-tests'
  const made = (await send(acme, 'POST', { path, headers: owner, payload: { challenge } })).json()
  await goThrough(acme, { made, headers: owner, user: users.olga })
  await makeCodes(acme, owner)
  t.same(failures(await verdictOf(acme, owner)), [])
  const config = (await send(acme, 'GET', { path: '/sso-config', headers: owner })).json()
  await send(acme, 'DELETE', { path: '/sso-config', headers: owner })
  const payload = { issuer: config.issuer, clientId: config.clientId, clientSecret: 'acme-secret', enabled: true }
  await send(acme, 'PUT', { path: '/sso-config', headers: owner, payload })
  t.same(failures(await verdictOf(acme, owner)), ['proven_sign_in', 'client_credential'])
})

t.test('oidc-tok-005, the verdict: a refused or ending secret, unproved domains, each with what to do', async t => {
  const acme = await world.makeAcme()
  const owner = await signedIn(acme, users.olga)
  await makeCodes(acme, owner)
  const check = async (name: string) =>
    (await verdictOf(acme, owner)).verdict.checks.find((each: { name: string }) => each.name === name)
  t.match(await check('client_credential'), { result: 'warn', fix: /Enter the date/ })
  const listed = await send(acme, 'GET', { path: '/sso-config/credentials', headers: owner })
  const [{ id }] = listed.json().items
  const endIn = async (days: number) =>
    send(acme, 'PATCH', {
      path: `/sso-config/credentials/${id}`,
      headers: owner,
      payload: { expiresAt: new Date(Date.now() + days * 86_400_000 + 60_000).toISOString() },
    })
  for (const [days, result] of [
    [200, 'pass'],
    [20, 'warn'],
    [3, 'fail'],
    [-1, 'fail'],
  ] as const) {
    await endIn(days)
    t.match(await check('client_credential'), { result }, `${days} days`)
  }
  t.match((await enforce(acme, owner)).json(), { status: 409, code: 'sso_not_safe', detail: /ends/ })
  await endIn(200)
  world.idp.script.answer.token = json(401, { error: 'invalid_client' })
  await makeBrowser(world).signIn(acme, { user: users.ana })
  t.match(await check('client_credential'), { result: 'fail' })
  world.idp.reset()

  t.match(await check('domains'), { result: 'warn', message: /^Not proved is corp\.example:/, fix: /DNS/ })
  await app.inject({ method: 'PUT', url: `${acme.url}/domains/corp.example`, headers: serviceHeaders })
  t.match(await check('domains'), { result: 'pass' })
  await app.inject({ method: 'DELETE', url: `${acme.url}/domains/corp.example`, headers: serviceHeaders })
})

t.test('whoever might be locked out is counted and listed with the reason, and has been seen by the owner', async t => {
  const acme = await world.makeAcme()
  const { workspaceId } = acme
  const member = (more: object) => ({
    workspace_id: workspaceId,
    id: uuid7(),
    status: 'active' as const,
    role: 'member',
    origin: 'invite' as const,
    ...more,
  })
  const people = {
    none: member({}),
    partner: member(address('zoe@partner.example')),
    elsewhere: member(address('old@corp.example')),
    admin: member({ ...address('admin@corp.example'), role: 'admin' }),
    fine: member(address('fine@corp.example')),
  }
  await db.insertInto('members').values(Object.values(people)).execute()
  const identity = {
    workspace_id: workspaceId,
    issuer: 'https://old.example',
    subject: 'x',
    linked_by: 'email' as const,
  }
  await db
    .insertInto('identities')
    .values({ ...identity, member_id: people.elsewhere.id })
    .execute()
  const owner = await signedIn(acme, users.olga)
  await makeCodes(acme, owner)
  const { verdict } = await verdictOf(acme, owner)
  t.match(verdict, { isSafe: true, lockedOutMembers: 4 })
  t.match(verdict.lockedOut, [
    { id: people.none.id, reason: 'no_email' },
    { id: people.partner.id, reason: 'domain_not_allowed', email: 'zoe@partner.example' },
    { id: people.elsewhere.id, reason: 'linked_elsewhere' },
    { id: people.admin.id, reason: 'unless_verified', role: 'admin' },
  ])
  const page = await send(acme, 'GET', { path: '/sso-config/enforcement/locked-out?limit=3', headers: owner })
  t.match(page.json(), { items: { length: 3 }, next: people.elsewhere.id })
  const rest = await send(acme, 'GET', {
    path: `/sso-config/enforcement/locked-out?limit=3&after=${page.json().next}`,
    headers: owner,
  })
  t.match(rest.json().items, [{ id: people.admin.id }])

  t.match((await enforce(acme, owner)).json(), { status: 409, code: 'sso_members_locked_out', detail: /^4 active/ })
  t.match((await enforce(acme, owner, { lockedOutMembers: 3 })).json(), { code: 'sso_members_locked_out' })
  t.match((await enforce(acme, owner, { lockedOutMembers: 4 })).json(), { enforced: true })
})

t.test('oidc-enf-001, oidc-enf-002: what came by another way than SSO is refused at once, with the way in', async t => {
  const acme = await world.makeAcme()
  const password = await byPassword(acme, 'owner@corp.example', 'owner')
  const owner = await signedIn(acme, users.olga)
  await makeCodes(acme, owner)
  t.equal((await send(acme, 'GET', { path: '/members', headers: password })).statusCode, 200)
  await enforce(acme, owner)
  for (const path of ['/members', '/sso-config', '/activity']) {
    const refused = (await send(acme, 'GET', { path, headers: password })).json()
    t.match(refused, { status: 403, code: 'sso_required' }, path)
    t.match(refused.detail, `https://sso.assist.example/sso/${acme.workspaceId}/start`)
  }
  t.match((await send(acme, 'DELETE', { path: '/sso-config/enforcement', headers: password })).json(), {
    code: 'sso_required',
  })
  t.equal((await send(acme, 'GET', { path: '/members', headers: owner })).statusCode, 200, 'the SSO session goes on')
  t.equal((await send(acme, 'GET', { path: '/members', headers: serviceHeaders })).statusCode, 200)
  const blocked = (await entriesOf(world.test, acme.workspaceId)).filter(
    each => each.action === 'sso_enforcement.blocked',
  )
  t.equal(blocked.length, 1, 'one entry an hour, however often they try')
  t.match(blocked, [{ reason: 'sso_required' }])
})

t.test('oidc-enf-007, oidc-enf-008: it binds to the workspace: to guests too, and to no other workspace', async t => {
  const { acme, owner } = await makeEnforced()
  const globex = await world.makeAcme()
  await send(acme, 'POST', { path: '/members', headers: owner, payload: { email: 'random@mail.example' } })
  const { workspaceId } = acme
  for (const email of ['random@mail.example', 'ana@corp.example', 'nobody@nowhere.example']) {
    t.match(await ask({ workspaceId, email }), { passwordOpen: false, sso: { workspaceId } }, email)
  }
  t.match(await ask({ workspaceId: globex.workspaceId, email: 'ana@corp.example' }), { passwordOpen: true })
  const elsewhere = await byPassword(globex, 'ana@corp.example', 'owner')
  t.equal((await send(globex, 'GET', { path: '/members', headers: elsewhere })).statusCode, 200)
})

t.test(
  'oidc-enf-006: while enforced, whatever would break or widen sign-in is refused, and nothing lifts it',
  async t => {
    const { acme, owner } = await makeEnforced()
    const other = await makeScriptedProvider(t, { issuer: 'https://other.corp.example', network: world.network })
    const patch = async (payload: object) =>
      (await send(acme, 'PATCH', { path: '/sso-config', headers: owner, payload })).json()
    for (const payload of [
      { enabled: false },
      { allowedDomains: [] },
      { allowedDomains: ['other.example'] },
      { clientId: 'another' },
      { tokenAuthMethod: 'client_secret_post' },
      { tokenAuthMethod: 'private_key_jwt' },
      { groupsClaim: 'groups' },
      { issuer: other.issuer, clientSecret: 'x' },
    ]) {
      t.match(await patch(payload), { status: 409, code: 'sso_enforced' }, JSON.stringify(payload))
    }
    t.match(await patch({ issuer: '' }), { status: 400, code: 'invalid' }, 'no issuer is none anywhere')
    t.match((await send(acme, 'DELETE', { path: '/sso-config', headers: owner })).json(), {
      status: 409,
      code: 'sso_enforced',
    })
    const policy = { sessionHours: 12, sessionIdleMinutes: 120, maxAgeSeconds: null, acrValues: ['phr'] }
    const strict = await send(acme, 'PUT', { path: '/sign-in-policy', headers: owner, payload: policy })
    t.match(strict.json(), { status: 409, code: 'sso_enforced' })
    const { items } = (await send(acme, 'GET', { path: '/sso-config/credentials', headers: owner })).json()
    const last = await send(acme, 'DELETE', { path: `/sso-config/credentials/${items[0].id}`, headers: owner })
    t.match(last.json(), { status: 409, code: 'conflict' })

    t.match(await patch({ allowedDomains: ['corp.example', 'more.example'], autoProvision: true }), {
      autoProvision: true,
    })
    t.match((await verdictOf(acme, owner)).enforced, true)
    world.idp.script.answer.token = json(500, {})
    t.equal((await makeBrowser(world).signIn(acme, { user: users.ana })).code, 'sso_idp_unreachable')
    const options = await app.inject({
      method: 'POST',
      url: '/v1/sign-in-options',
      headers: serviceHeaders,
      payload: { workspaceId: acme.workspaceId },
    })
    t.match(options.json(), { passwordOpen: false }, 'a provider that fails opens nothing')
  },
)

t.test('while enforced, a new secret is a candidate: the working one stays until the new one has worked', async t => {
  const { acme, owner } = await makeEnforced()
  const add = (clientSecret: string) =>
    send(acme, 'POST', { path: '/sso-config/credentials', headers: owner, payload: { kind: 'secret', clientSecret } })
  const list = async () => (await send(acme, 'GET', { path: '/sso-config/credentials', headers: owner })).json().items
  const [working] = await list()
  await add('mistyped')
  t.ok((await makeBrowser(world).signIn(acme, { user: users.ana })).exchangeCode, 'the old one lets people in')
  const [mistyped, kept] = await list()
  t.match(mistyped, { refusedAt: String, acceptedAt: null })
  t.equal(kept.id, working.id)
  const removed = await send(acme, 'DELETE', { path: `/sso-config/credentials/${working.id}`, headers: owner })
  t.match(removed.json(), { status: 409, code: 'sso_enforced' })

  await add('acme-secret-2')
  t.match(await list(), [{ refusedAt: null }, { id: working.id }], 'it takes the place of the one that never worked')
  world.idp.clients.set('assist-acme', 'acme-secret-2')
  t.ok((await makeBrowser(world).signIn(acme, { user: users.ana })).exchangeCode)
  t.match(await list(), [{ acceptedAt: String, refusedAt: null }])
  t.equal((await list()).length, 1)
  world.idp.clients.set('assist-acme', 'acme-secret')
})

t.test('while enforced, another issuer is a candidate until a sign-in test by it has passed', async t => {
  const { acme, owner } = await makeEnforced()
  const next = await makeScriptedProvider(t, { issuer: 'https://next.corp.example', network: world.network })
  const draft = {
    challenge,
    issuer: next.issuer,
    clientId: 'assist-acme',
    clientSecret: 'acme-secret',
    externalIdClaim: null,
  }
  const path = '/sso-config/sign-in-tests'
  const user = { ...users.olga, sub: 'n-olga' }
  const made = (await send(acme, 'POST', { path, headers: owner, payload: draft })).json()
  const use = (id: string, step: string) =>
    send(acme, 'POST', { path: `${path}/${id}/${step}`, headers: owner, payload: { verifier } })
  t.match((await use(made.id, 'apply')).json(), { status: 409, code: 'sign_in_test_unfinished' })
  await goThrough(acme, { made, headers: owner, user, idp: next })
  // Olga is linked at the previous issuer. She links the new account herself.
  t.match((await use(made.id, 'apply')).json(), {
    status: 409,
    code: 'sign_in_test_failed',
    detail: /Link the account/,
  })
  t.equal((await use(made.id, 'link')).statusCode, 200)
  const again = (await send(acme, 'POST', { path, headers: owner, payload: draft })).json()
  await goThrough(acme, { made: again, headers: owner, user, idp: next })
  const applied = await use(again.id, 'apply')
  t.equal(applied.statusCode, 200, applied.body)
  const saved = (await send(acme, 'GET', { path: '/sso-config', headers: owner })).json()
  t.match(saved, { issuer: next.issuer, enforced: true })
})

t.test('oidc-enf-004: an owner with a code gets at the settings for an hour, and at nothing else', async t => {
  const { acme, codes } = await makeEnforced()
  await world.idp.stop()
  const email = 'owner@corp.example'
  for (const wrong of [
    { email, code: '00000-00000-00000-00000' },
    { email: 'ana@corp.example', code: codes[0] },
    { email: 'nobody@corp.example', code: codes[0] },
    { email: 'no address', code: codes[0] },
  ]) {
    t.match((await recover(acme, wrong)).json(), { status: 403, code: 'recovery_code_invalid' })
  }
  const typed = codes[0]!.toLowerCase().replaceAll('-', ' ').replaceAll('1', 'l').replaceAll('0', 'o')
  const recovered = await recover(acme, { email, code: typed })
  t.equal(recovered.statusCode, 201, recovered.body)
  const { sessionToken, expiresAt, memberId } = recovered.json()
  t.equal(memberId, acme.ids.olga)
  t.ok(Date.parse(expiresAt) - Date.now() <= 3_600_000)
  t.match((await recover(acme, { email, code: codes[0] })).json(), { code: 'recovery_code_invalid' }, 'once')

  const headers = { authorization: `Bearer ${sessionToken}` }
  const session = (await app.inject({ url: '/v1/session', headers })).json()
  t.match(session, { method: 'recovery', accessToken: null, accessTokenExpiresAt: null, member: { role: 'owner' } })
  for (const path of ['/sso-config', '/sso-config/enforcement', '/sso-config/credentials', '/domains']) {
    t.equal((await send(acme, 'GET', { path, headers })).statusCode, 200, path)
  }
  for (const path of ['/members', '/activity', '/directories', '/groups']) {
    t.match((await send(acme, 'GET', { path, headers })).json(), { status: 403, code: 'recovery_limited' }, path)
  }
  const more = await send(acme, 'POST', { path: '/sso-config/recovery-codes', headers })
  t.match(more.json(), { status: 403, code: 'recovery_limited' })
  const entries = (await entriesOf(world.test, acme.workspaceId)).filter(each => each.action.startsWith('recovery.'))
  t.match(entries.at(-2), {
    action: 'recovery.used',
    memberId: acme.ids.olga,
    detail: { unusedCodes: 9, concerns: [acme.ids.olga] },
  })
  t.equal(entries.filter(each => each.action === 'recovery.refused').length, 5)

  t.equal((await send(acme, 'DELETE', { path: '/sso-config/enforcement', headers })).statusCode, 204)
  t.match((await entriesOf(world.test, acme.workspaceId)).at(-1), {
    action: 'sso_enforcement.lifted',
    detail: { by: 'recovery' },
  })
  const disabled = await send(acme, 'PATCH', { path: '/sso-config', headers, payload: { enabled: false } })
  t.match(disabled.json(), { enabled: false })
  t.match(
    (await recover(acme, { email, code: codes[1] })).json(),
    { code: 'recovery_code_invalid' },
    'not enforced any more',
  )
  await world.idp.start()
})

t.test('recovery codes end with the membership: who comes back makes new ones', async t => {
  const { acme, owner, codes } = await makeEnforced()
  const second = await send(acme, 'POST', {
    path: '/members',
    headers: owner,
    payload: { email: 'second@corp.example', role: 'owner' },
  })
  const heir = await signedIn(acme, { sub: 'u-second', email: 'second@corp.example', email_verified: true })
  t.equal((await makeCodes(acme, heir)).length, 10, second.body)
  for (const act of ['deactivate', 'reactivate']) {
    const done = await send(acme, 'POST', { path: `/members/${acme.ids.olga}/${act}`, headers: heir })
    t.equal(done.statusCode, 200, done.body)
  }
  t.match((await recover(acme, { email: 'owner@corp.example', code: codes[0] })).json(), {
    code: 'recovery_code_invalid',
  })
})

t.test('recovery codes are for active owners, replaced as a set, stored as hashes, and limited by network', async t => {
  const { acme, owner, codes } = await makeEnforced()
  const { workspaceId } = acme
  const stored = await db.selectFrom('recovery_codes').selectAll().where('workspace_id', '=', workspaceId).execute()
  t.equal(stored.length, 10)
  t.notMatch(JSON.stringify(stored), codes[0])
  const fresh = await makeCodes(acme, owner)
  const email = 'owner@corp.example'
  t.match((await recover(acme, { email, code: codes[5] })).json(), { code: 'recovery_code_invalid' })
  const status = async () => (await send(acme, 'GET', { path: '/sso-config/recovery-codes', headers: owner })).json()
  t.match(await status(), { unused: 10, createdAt: String })
  const admin = await signedIn(acme, users.ana)
  t.match((await send(acme, 'POST', { path: '/sso-config/recovery-codes', headers: admin })).statusCode, 403)

  const session = await recover(acme, { email, code: fresh[0] }, {})
  t.match(session.cookies, [{ name: '__Host-assist-session', httpOnly: true }])
  t.equal(session.json().sessionToken, undefined, 'on the same site it is a cookie')
  t.match(await status(), { unused: 9 })
  await db.updateTable('members').set({ role: 'member' }).where('id', '=', acme.ids.olga).execute()
  t.match(
    (await recover(acme, { email, code: fresh[1] })).json(),
    { code: 'recovery_code_invalid' },
    'no owner any more',
  )
  await db
    .updateTable('members')
    .set({ role: 'owner', status: 'deactivated', deactivated_by: 'admin' })
    .where('id', '=', acme.ids.olga)
    .execute()
  t.match((await recover(acme, { email, code: fresh[1] })).json(), { code: 'recovery_code_invalid' }, 'not active')

  const statuses: number[] = []
  for (let count = 0; count < 11; count++) {
    const reply = await app.inject({
      method: 'POST',
      url: '/v1/recovery-sessions',
      payload: { workspaceId, email, code: 'x' },
      remoteAddress: '198.51.100.7',
    })
    statuses.push(reply.statusCode)
  }
  t.same([...new Set(statuses)], [403, 429])
})

t.test('lifting is for owners and back-ends, leaves an entry, and opens passwords again', async t => {
  const { acme, owner } = await makeEnforced()
  t.equal((await send(acme, 'DELETE', { path: '/sso-config/enforcement', headers: serviceHeaders })).statusCode, 204)
  t.equal((await send(acme, 'DELETE', { path: '/sso-config/enforcement', headers: owner })).statusCode, 204, 'again')
  const lifted = (await entriesOf(world.test, acme.workspaceId)).filter(
    each => each.action === 'sso_enforcement.lifted',
  )
  t.equal(lifted.length, 1)
  const password = await byPassword(acme, 'owner@corp.example', 'owner')
  t.equal((await send(acme, 'GET', { path: '/members', headers: password })).statusCode, 200)
})

/** Runs a sign-in test in the browser that created it, and confirms it. */
async function goThrough(
  acme: Acme,
  run: { made: NewTest; headers: Record<string, string>; user: object; idp?: typeof world.idp },
) {
  const { made, headers, user, idp = world.idp } = run
  const browser = makeBrowser(world)
  const start = await browser.get(made.startUrl)
  const landing = (await browser.get(idp.authorize(start.headers.location!, { user: { ...user } }))).headers.location!
  const payload = { code: testCodeOf(landing), verifier }
  const confirmed = await send(acme, 'POST', { path: `/sso-config/sign-in-tests/${made.id}/confirm`, headers, payload })
  if (confirmed.statusCode !== 200) throw new Error(landing + confirmed.body)
}

interface NewTest {
  id: string
  startUrl: string
}
