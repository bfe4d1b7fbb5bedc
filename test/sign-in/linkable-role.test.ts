import t from 'tap'
import { bearer, signToken } from '../helpers/app.ts'
import { makeScriptedProvider } from '../helpers/scripted-provider.ts'
import {
  entriesOf,
  expectRefusal,
  expectSignedIn,
  makeBrowser,
  makeSignInWorld,
  type Acme,
  makeTestProof,
  testCodeOf,
} from '../helpers/sign-in.ts'

// Nobody hands out more than they have: an admin who sets by whom people are proven could have a provider of their own
// call them the owner.

const { verifier, challenge } = makeTestProof()
const world = await makeSignInWorld(t)
const { app, db } = world.test
const theirs = await makeScriptedProvider(t, { issuer: 'https://idp.mallory.example', network: world.network })
t.beforeEach(() => {
  world.idp.reset()
  theirs.reset()
})

const olga = { sub: 'u-olga', email: 'owner@corp.example', email_verified: true }
const ana = { sub: 'u-ana', email: 'ana@corp.example', email_verified: true }
const own = { issuer: theirs.issuer, clientId: 'assist-acme', clientSecret: 'acme-secret' }

type Idp = typeof world.idp
const signIn = (acme: Acme, user: object, idp: Idp) => () =>
  makeBrowser({ test: world.test, idp }).signIn(acme, { user: { ...user } })
const refused = (acme: Acme, user: object, idp: Idp, code = 'sso_not_confirmed') =>
  expectRefusal(t, world, { acme, code, act: signIn(acme, user, idp) })
const entersAs = (acme: Acme, who: keyof Acme['ids'], { user, idp }: { user: object; idp: Idp }) =>
  expectSignedIn(t, world, { acme, memberId: acme.ids[who], act: signIn(acme, user, idp) })

type Method = 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE'
async function as(role: 'admin' | 'owner', acme: Acme) {
  const email = role === 'owner' ? 'owner@corp.example' : 'bea@corp.example'
  if (role === 'admin') await promote(acme, 'bea', 'admin')
  const claims = { workspace: acme.workspaceId, role, sub: `assist-${role}`, email }
  const headers = { authorization: `Bearer ${await signToken(claims)}` }
  return async (method: Method, path: string, payload?: object) => {
    const reply = await app.inject({ method, url: `${acme.url}${path}`, headers, ...(payload && { payload }) })
    return reply.body === '' ? { status: reply.statusCode } : reply.json()
  }
}

async function promote({ ids }: Acme, who: keyof Acme['ids'], role: string) {
  await db.updateTable('members').set({ role, manual_role: role }).where('id', '=', ids[who]).execute()
}

t.test('a provider that an admin has named signs in members, and no owner until an owner has saved it', async t => {
  const acme = await world.makeAcme()
  const admin = await as('admin', acme)
  const saved = await admin('PATCH', '/sso-config', own)
  t.match(saved, { maxLinkableRole: 'admin', notices: [/until an owner saves them too/] })
  const { detail } = await refused(acme, olga, theirs)
  t.match(detail, { role: 'owner', by: 'sso_config', fix: /PATCH …\/sso-config.*sign-in test/ })
  await entersAs(acme, 'ana', { user: ana, idp: theirs })
  await entersAs(acme, 'bea', { user: { ...ana, sub: 'u-bea', email: 'bea@corp.example' }, idp: theirs })

  t.match(
    await admin('PATCH', '/sso-config', {}),
    { maxLinkableRole: 'admin', version: 2 },
    'an admin confirms nothing',
  )
  await admin('PATCH', '/sso-config', { autoProvision: true })
  await refused(acme, olga, theirs)
  const owner = await as('owner', acme)
  t.match(await owner('PATCH', '/sso-config', {}), { maxLinkableRole: 'owner', version: 4 })
  const entries = await entriesOf(world.test, acme.workspaceId)
  const confirmed = entries.findLast(entry => entry.action === 'sso_config.saved')
  t.match(confirmed, { detail: { changed: [], maxLinkableRole: 'owner' } })
  await entersAs(acme, 'olga', { user: olga, idp: theirs })
  t.match(
    await admin('PATCH', '/sso-config', { autoProvision: false }),
    { maxLinkableRole: 'owner' },
    'and it stays so',
  )
})

t.test('the same for the first configuration, for an invited owner, and for the role that newcomers get', async t => {
  const acme = await world.makeAcme()
  const [admin, owner] = [await as('admin', acme), await as('owner', acme)]
  await owner('DELETE', '/sso-config')
  t.match(await admin('PUT', '/sso-config', { ...own, autoProvision: true }), { maxLinkableRole: 'admin' })
  await refused(acme, olga, theirs)
  await promote(acme, 'ivo', 'owner')
  await refused(acme, { ...olga, sub: 'u-ivo', email: 'ivo@corp.example' }, theirs)
  await db.updateTable('workspaces').set({ default_role: 'owner' }).where('id', '=', acme.workspaceId).execute()
  await refused(acme, { ...olga, sub: 'u-new', email: 'new@corp.example' }, theirs)
})

t.test(
  'an owner who is linked signs in whatever an admin saves, and the window to relink is no way around',
  async t => {
    const acme = await world.makeAcme()
    await entersAs(acme, 'olga', { user: olga, idp: world.idp })
    const admin = await as('admin', acme)
    const until = new Date(Date.now() + 86_400_000).toISOString()
    t.match(await admin('PATCH', '/sso-config', { relinkByEmailUntil: until }), { maxLinkableRole: 'admin' })
    await entersAs(acme, 'olga', { user: olga, idp: world.idp })
    await admin('PATCH', '/sso-config', own)
    await refused(acme, { ...olga, sub: 'm-olga' }, theirs)

    const owner = await as('owner', acme)
    await owner('PATCH', '/sso-config', { relinkByEmailUntil: null })
    t.match(
      await admin('PATCH', '/sso-config', { relinkByEmailUntil: until }),
      { maxLinkableRole: 'admin' },
      'opened again',
    )
    await refused(acme, { ...olga, sub: 'm-olga' }, theirs)
    t.match(await admin('PATCH', '/sso-config', { relinkByEmailUntil: null }), { maxLinkableRole: 'admin' })
    await owner('PATCH', '/sso-config', { relinkByEmailUntil: until })
    await entersAs(acme, 'olga', { user: { ...olga, sub: 'm-olga' }, idp: theirs })
    t.match(
      await admin('PATCH', '/sso-config', { relinkByEmailUntil: null }),
      { maxLinkableRole: 'owner' },
      'closing is safe',
    )
  },
)

t.test("a sign-in test of an admin neither proves nor links an owner; an owner's own does, and applies it", async t => {
  const acme = await world.makeAcme()
  const [admin, owner] = [await as('admin', acme), await as('owner', acme)]
  const run = async (ask: typeof admin, user: object, draft?: object) => {
    const made = await ask('POST', '/sso-config/sign-in-tests', { ...draft, challenge })
    const browser = makeBrowser({ test: world.test, idp: theirs })
    const location = (await browser.get(made.startUrl)).headers.location!
    const landing = (await browser.get(theirs.authorize(location, { user: { ...user } }))).headers.location!
    return ask('POST', `/sso-config/sign-in-tests/${made.id}/confirm`, { code: testCodeOf(landing), verifier })
  }
  const posing = await run(admin, olga, own)
  t.match(posing, { status: 'failed', report: { membership: { decision: 'refuse' } } })
  t.match(posing.report.checks.at(-1), { name: 'membership', code: 'sso_not_confirmed', fix: /saves it/ })
  t.match(await admin('POST', `/sso-config/sign-in-tests/${posing.id}/apply`, { verifier }), {
    code: 'sign_in_test_failed',
  })

  const passed = await run(admin, { ...ana, sub: 'm-bea', email: 'bea@corp.example' }, own)
  t.match(await admin('POST', `/sso-config/sign-in-tests/${passed.id}/apply`, { verifier }), {
    notices: [/until an owner/],
  })
  await refused(acme, olga, theirs)
  const linking = await run(owner, olga)
  t.match(linking.report.checks.at(-1), { code: 'sso_not_confirmed' })
  t.match(
    await owner('POST', `/sso-config/sign-in-tests/${linking.id}/link`, { verifier }),
    { id: linking.id },
    'by their own word',
  )
  await entersAs(acme, 'olga', { user: olga, idp: theirs })
  t.match(await owner('GET', '/sso-config'), { maxLinkableRole: 'admin' }, 'which speaks for nobody else')

  await owner('PATCH', '/sso-config', { issuer: world.idp.issuer, clientSecret: 'acme-secret' })
  const second = await run(admin, { ...ana, sub: 'm-bea', email: 'bea@corp.example' }, own)
  t.match(await owner('POST', `/sso-config/sign-in-tests/${second.id}/apply`, { verifier }), { version: Number })
  t.match(await owner('GET', '/sso-config'), { maxLinkableRole: 'owner' })
})

t.test('a claim that finds people in a directory, and a directory of an admin, find no owner', async t => {
  const acme = await world.makeAcme()
  const [admin, owner] = [await as('admin', acme), await as('owner', acme)]
  const posing = { sub: 'u-mallory', email: 'mallory@corp.example', email_verified: true }
  const name = { name: 'Ours' }
  const { id: directoryId } = await admin('POST', '/directories', name)
  const { token, scimEndpoint } = await admin('POST', `/directories/${directoryId}/tokens`)
  const user = { userName: 'owner@corp.example', externalId: 'u-mallory', emails: [{ value: 'owner@corp.example' }] }
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/scim+json' }
  const schemas = ['urn:ietf:params:scim:schemas:core:2.0:User']
  const url = `${scimEndpoint.replace('https://sso.assist.example', '')}/Users`
  const sent = await app.inject({ method: 'POST', url, headers, payload: { schemas, ...user, active: true } })
  t.equal(sent.statusCode, 201)
  const found = await db.selectFrom('scim_users').select('member_id').where('directory_id', '=', directoryId).execute()
  t.same(found, [{ member_id: acme.ids.olga }])

  await owner('PATCH', '/sso-config', { externalIdClaim: 'sub' })
  t.match(await owner('GET', `/directories/${directoryId}`), { maxLinkableRole: 'admin' })
  const { detail } = await refused(acme, posing, world.idp)
  t.match(detail, { by: 'directory', fix: /PATCH …\/directories/ })
  t.match(await owner('PATCH', `/directories/${directoryId}`, {}), { maxLinkableRole: 'owner' })
  t.match(await admin('PATCH', `/directories/${directoryId}`, { mode: 'strict' }), { maxLinkableRole: 'owner' })
  t.match(await admin('POST', `/directories/${directoryId}/tokens`), { token: String })
  t.match(
    await owner('GET', `/directories/${directoryId}`),
    { maxLinkableRole: 'admin' },
    'another token, another hand',
  )
  const told = (await entriesOf(world.test, acme.workspaceId)).at(-1)
  t.match(told, { action: 'directory_token.created', detail: { maxLinkableRole: 'admin' } })
  await refused(acme, posing, world.idp)
  const lockedOut = async () => {
    const { items } = await owner('GET', '/sso-config/enforcement/locked-out')
    return items.filter((each: { id: string }) => each.id === acme.ids.olga)
  }
  t.match(await lockedOut(), [{ reason: 'not_confirmed' }], 'and the verdict says so')
  await owner('PATCH', `/directories/${directoryId}`, {})
  t.same(await lockedOut(), [])
  await admin('PATCH', '/sso-config', { externalIdClaim: null })
  await admin('PATCH', '/sso-config', { externalIdClaim: 'sub' })
  t.match((await refused(acme, posing, world.idp)).detail, { by: 'sso_config' })
  await owner('PATCH', '/sso-config', {})
  await entersAs(acme, 'olga', { user: posing, idp: world.idp })
})

t.test(
  'a directory of an admin changes no address of an owner, and nobody acts as one whom Assist calls an admin',
  async t => {
    const acme = await world.makeAcme()
    const [admin, owner] = [await as('admin', acme), await as('owner', acme)]
    const { id: directoryId } = await admin('POST', '/directories', { name: 'Ours' })
    const { token, scimEndpoint } = await admin('POST', `/directories/${directoryId}/tokens`)
    const mapping = { directoryId, scimGroupName: 'Owners', role: 'owner' }
    t.match(await owner('POST', '/group-mappings', mapping), { status: 403, code: 'sso_not_confirmed' })
    const below = await owner('POST', '/group-mappings', { ...mapping, role: 'admin' })
    t.match(await owner('PATCH', `/group-mappings/${below.id}`, { role: 'owner' }), { code: 'sso_not_confirmed' })
    const base = scimEndpoint.replace('https://sso.assist.example', '')
    const scim = async (method: Method, path: string, payload?: object) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/scim+json' }
      const reply = await app.inject({ method, url: `${base}${path}`, headers, ...(payload && { payload }) })
      return reply.body === '' ? { status: reply.statusCode } : reply.json()
    }
    const schemas = ['urn:ietf:params:scim:schemas:core:2.0:User']
    const userOf = (email: string) => ({ schemas, userName: 'olga', emails: [{ value: email }], active: true })
    const { id } = await scim('POST', '/Users', userOf('owner@corp.example'))
    const mallory = 'mallory@corp.example'
    const kept = { email: 'owner@corp.example', role: 'owner', status: 'active' }
    t.match(
      await scim('PUT', `/Users/${id}`, userOf(mallory)),
      { emails: [{ value: mallory }] },
      'the answer is theirs',
    )
    t.match(await owner('GET', `/members/${acme.ids.olga}`), kept)
    t.match((await entriesOf(world.test, acme.workspaceId)).at(-1), { detail: { ownerKeepsAddress: true } })
    const patch = { schemas: ['urn:ietf:params:scim:api:messages:2.0:PatchOp'] }
    const emails = [{ value: mallory }]
    await scim('PATCH', `/Users/${id}`, { ...patch, Operations: [{ op: 'replace', path: 'emails', value: emails }] })
    await scim('DELETE', `/Users/${id}`)
    t.match(await owner('GET', `/members/${acme.ids.olga}`), kept, 'the last owner stays, and as they were')
    await refused(acme, { ...olga, sub: 'u-mallory', email: mallory }, world.idp, 'sso_not_provisioned')

    const claims = { workspace: acme.workspaceId, role: 'admin', sub: 'assist-mallory', email: 'owner@corp.example' }
    const headers = { authorization: `Bearer ${await signToken(claims)}` }
    const codes = await app.inject({ method: 'POST', url: `${acme.url}/sso-config/recovery-codes`, headers })
    t.match(codes.json(), { status: 409, code: 'admin_not_member' })

    const again = await scim('POST', '/Users', userOf('owner@corp.example'))
    await owner('PATCH', `/directories/${directoryId}`, {})
    await scim('PUT', `/Users/${again.id}`, userOf('olga@corp.example'))
    t.match(
      await owner('GET', `/members/${acme.ids.olga}`),
      { email: 'olga@corp.example' },
      'an owner has confirmed it',
    )
  },
)

t.test('nobody makes a token of a directory whose groups give a role above their own', async t => {
  const acme = await world.makeAcme()
  const [admin, owner] = [await as('admin', acme), await as('owner', acme)]
  const { id: directoryId } = await owner('POST', '/directories', { name: 'Ours' })
  const path = `/directories/${directoryId}`
  t.match(await owner('GET', path), { maxLinkableRole: 'owner' })
  const mapping = { directoryId, scimGroupName: 'Owners', role: 'owner' }
  await owner('POST', '/group-mappings', mapping)
  t.match(await admin('POST', `${path}/tokens`), { status: 403, code: 'role_above_own' })
  t.match(await owner('POST', `${path}/tokens`), { token: String })
  t.match(await owner('GET', path), { maxLinkableRole: 'owner' })
})

t.test('groups that a sign-in claims give no role above that of whoever chose the claim or the provider', async t => {
  const acme = await world.makeAcme({ groupsClaim: 'groups', autoProvision: true })
  const [admin, owner] = [await as('admin', acme), await as('owner', acme)]
  await owner('POST', '/group-mappings', { claimedGroup: 'bosses', role: 'owner' })
  await owner('POST', '/group-mappings', { claimedGroup: 'leads', role: 'admin' })
  const bea = { sub: 'u-bea', email: 'bea@corp.example', email_verified: true }
  await entersAs(acme, 'bea', { user: bea, idp: world.idp })

  await admin('PATCH', '/sso-config', { groupsClaim: 'nickname' })
  const late = { claimedGroup: 'chiefs', role: 'owner' }
  t.match(await owner('POST', '/group-mappings', late), { status: 403, code: 'sso_not_confirmed' })
  const { detail } = await refused(acme, { ...bea, nickname: 'bosses' }, world.idp)
  t.match(detail, { role: 'owner', by: 'sso_config' })
  await refused(acme, { ...ana, nickname: 'bosses' }, world.idp)
  await refused(acme, { ...ana, sub: 'u-new', email: 'new@corp.example', nickname: 'bosses' }, world.idp)
  await entersAs(acme, 'ana', { user: { ...ana, nickname: 'leads' }, idp: world.idp })
  await admin('PATCH', '/sso-config', { groupsClaim: 'groups', ...own })
  await refused(acme, { ...bea, sub: 'm-bea', groups: ['bosses'] }, theirs, 'sso_identity_conflict')
  await refused(acme, { ...bea, sub: 'm-new', email: 'new@corp.example', groups: ['bosses'] }, theirs)

  await owner('PATCH', '/sso-config', {})
  const boss = { ...bea, sub: 'm-new', email: 'new@corp.example', groups: ['bosses'] }
  const { memberId } = await expectSignedIn(t, world, { acme, act: signIn(acme, boss, theirs) })
  t.match(await owner('GET', `/members/${memberId}`), { role: 'owner' })
  await admin('PATCH', '/sso-config', { clientId: 'assist-other', clientSecret: 'acme-secret' })
  theirs.clients.set('assist-other', 'acme-secret')
  await expectSignedIn(t, world, { acme, memberId, act: signIn(acme, boss, theirs) })
})

t.test('an owner who enforces SSO confirms it, and no admin changes then what it rests on', async t => {
  const acme = await world.makeAcme()
  const admin = await as('admin', acme)
  await admin('PATCH', '/sso-config', { externalIdClaim: 'sub' })
  const owner = await as('owner', acme)
  const test = await owner('POST', '/sso-config/sign-in-tests', { challenge })
  const browser = makeBrowser(world)
  const location = (await browser.get(test.startUrl)).headers.location!
  const tested = (await browser.get(world.idp.authorize(location, { user: olga }))).headers.location!
  await owner('POST', `/sso-config/sign-in-tests/${test.id}/confirm`, { code: testCodeOf(tested), verifier })
  await owner('POST', `/sso-config/sign-in-tests/${test.id}/link`, { verifier })
  const landing = await browser.signIn(acme, { user: olga })
  const { accessToken } = (await browser.redeem(landing.exchangeCode!)).json()
  const headers = { authorization: `Bearer ${accessToken}` }
  await app.inject({ method: 'POST', url: `${acme.url}/sso-config/recovery-codes`, headers })
  const lockedOutMembers = (await app.inject({ url: `${acme.url}/sso-config/enforcement`, headers })).json().verdict
    .lockedOutMembers
  const url = `${acme.url}/sso-config/enforcement`
  const enforced = await app.inject({ method: 'PUT', url, headers, payload: { lockedOutMembers } })
  t.equal(enforced.statusCode, 200, enforced.body)
  t.match((await app.inject({ url: `${acme.url}/sso-config`, headers })).json(), { maxLinkableRole: 'owner' })

  const bea = makeBrowser(world)
  const as2 = await bea.signIn(acme, { user: { ...ana, sub: 'u-bea', email: 'bea@corp.example' } })
  const token = (await bea.redeem(as2.exchangeCode!)).json().accessToken
  const patch = async (by: string, payload: object) =>
    app.inject({
      method: 'PATCH',
      url: `${acme.url}/sso-config`,
      headers: { authorization: `Bearer ${by}` },
      payload,
    })
  t.match((await patch(token, { externalIdClaim: null })).json(), {
    status: 403,
    code: 'forbidden',
    detail: /an owner/,
  })
  t.equal((await patch(token, { autoProvision: true })).statusCode, 200)
  t.equal((await patch(accessToken, { externalIdClaim: null })).statusCode, 200)
})

t.test('what was set up by a back-end of Assist, or before there was this limit, speaks for everybody', async t => {
  const acme = await world.makeAcme()
  const service = await bearer({ scope: 'assist:workspaces' })
  const reply = await app.inject({ method: 'PATCH', url: `${acme.url}/sso-config`, headers: service, payload: own })
  t.match(reply.json(), { maxLinkableRole: 'owner' })
  await entersAs(acme, 'olga', { user: olga, idp: theirs })
})
