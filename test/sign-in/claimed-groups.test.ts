import t, { type Test } from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { expectRefusal, expectSignedIn, makeBrowser, makeSignInWorld, type Acme } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, makeAcme } = world
const { app, db } = test
t.beforeEach(() => idp.reset())

const nia = { sub: 'u-nia', email: 'nia@corp.example' }

async function makeWorld(config: Record<string, unknown> = {}) {
  const acme = await makeAcme({ autoProvision: true, groupsClaim: 'groups', ...config })
  const ask = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, payload?: object) => {
    const { url, headers } = acme
    const reply = await app.inject({ method, url: `${url}${path}`, headers, ...(payload && { payload }) })
    if (reply.statusCode >= 300) throw new Error(`${method} ${path}: ${reply.body}`)
    return reply.body === '' ? {} : reply.json()
  }
  const signsIn = async (tt: Test, claims: Record<string, unknown> = {}) => {
    const user = { ...nia, ...claims }
    await expectSignedIn(tt, world, { acme, act: () => makeBrowser(world).signIn(acme, { user }) })
    return access(acme, nia.email)
  }
  const refused = (tt: Test, code: string, claims: Record<string, unknown>) =>
    expectRefusal(tt, world, {
      acme,
      code,
      act: () => makeBrowser(world).signIn(acme, { user: { ...nia, ...claims } }),
    })
  return {
    acme,
    ask,
    signsIn,
    refused,
    map: (claimedGroup: string, gives: object) => ask('POST', '/group-mappings', { claimedGroup, ...gives }),
  }
}

async function access({ workspaceId }: Acme, email: string) {
  const member = await db
    .selectFrom('members')
    .select(['id', 'role'])
    .where('workspace_id', '=', workspaceId)
    .where('email_key', '=', email)
    .executeTakeFirstOrThrow()
  const groups = await db
    .selectFrom('group_memberships')
    .select('group_id')
    .where('member_id', '=', member.id)
    .execute()
  return { ...member, groups: groups.map(each => each.group_id) }
}

t.test(
  'without a directory the groups claim feeds mappings, from the first sign-in on and at each one anew',
  async t => {
    const { acme, ask, signsIn, map } = await makeWorld()
    const { id: desk } = await ask('POST', '/groups', { name: 'Desk' })
    await map('support', { groupId: desk })
    const { id: mappingId } = await map('lead', { role: 'admin' })
    t.match(await signsIn(t, { groups: ['support', 'unmapped'] }), { role: 'viewer', groups: [desk] })
    const { id } = await signsIn(t, { groups: ['support', 'lead'] })
    t.match(await access(acme, nia.email), { role: 'admin', groups: [desk] })
    t.match(await ask('GET', `/members/${id}/access`), {
      role: { value: 'admin', why: { mappingIds: [mappingId] }, changedBy: { action: 'member.groups_claimed' } },
      rules: [{ claimedGroup: 'support' }, { claimedGroup: 'lead', outcome: 'gives_role' }],
    })
    t.match((await ask('GET', `/groups/${desk}/members`)).items, [{ through: [{ claimedGroup: 'support' }] }])
    const told = (await ask('GET', '/activity?kind=member.groups_claimed')).items
    t.match(told, [
      { detail: { gained: ['lead'], lost: ['unmapped'] } },
      { detail: { gained: ['support', 'unmapped'] } },
    ])
    await signsIn(t, { groups: ['lead', 'support'] })
    t.equal((await ask('GET', '/activity?kind=member.groups_claimed')).items.length, 2, 'the order says nothing')
    t.match(await signsIn(t, { groups: 'lead' }), { role: 'admin', groups: [] }, 'one group may come as text')
    t.match(await signsIn(t), { role: 'viewer', groups: [] }, 'and an absent claim says none')

    await map('late', { role: 'member' })
    await signsIn(t, { groups: ['late'] })
    const seen = await ask('POST', '/group-mappings/preview', {
      change: 'create',
      mapping: { claimedGroup: 'late', groupId: desk },
    })
    t.match(seen, { totals: { gains: 1 }, items: [{ memberId: id, groupsGained: [{ name: 'Desk' }] }] })
    t.match(await ask('POST', '/access/reconcile'), { repaired: 0 })
  },
)

t.test('groups that the provider does not list are an error, never no groups', async t => {
  const { signsIn, refused, map, acme } = await makeWorld()
  await map('lead', { role: 'admin' })
  await signsIn(t, { groups: ['lead'] })
  await refused(t, 'sso_groups_overage', { _claim_names: { groups: 'src1' }, _claim_sources: { src1: {} } })
  await refused(t, 'sso_groups_overage', { hasgroups: true })
  await refused(t, 'sso_groups_invalid', { groups: [1, 2] })
  await refused(t, 'sso_groups_invalid', { groups: { lead: true } })
  t.match(await access(acme, nia.email), { role: 'admin' }, 'and what they had stays')
  const stranger = { sub: 'u-new', email: 'new@corp.example', hasgroups: true }
  await refused(t, 'sso_groups_overage', stranger)
})

t.test('a claim that nobody has configured says nothing', async t => {
  const { signsIn, map } = await makeWorld({ groupsClaim: null })
  await map('lead', { role: 'admin' })
  t.match(await signsIn(t, { groups: ['lead'], hasgroups: true }), { role: 'viewer' })
})

t.test('whom a directory provides is in the groups of the directory, whatever they claim', async t => {
  const { acme, ask, signsIn, map } = await makeWorld()
  await map('lead', { role: 'admin' })
  const { id } = await signsIn(t, { groups: ['lead'] })
  const { id: directoryId } = await ask('POST', '/directories', { name: 'Okta' })
  const { token } = await ask('POST', `/directories/${directoryId}/tokens`)
  const scim = async (method: 'POST' | 'DELETE', path: string, payload?: object) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/scim+json' }
    const reply = await app.inject({
      method,
      url: `/scim/v2/${directoryId}${path}`,
      headers,
      ...(payload && { payload }),
    })
    t.ok(reply.statusCode < 300, reply.body)
    return reply.body === '' ? {} : reply.json()
  }
  const user = {
    schemas: ['urn:ietf:params:scim:schemas:core:2.0:User'],
    userName: nia.email,
    emails: [{ value: nia.email }],
  }
  const { id: userId } = await scim('POST', '/Users', user)
  t.match(await access(acme, nia.email), { id, role: 'viewer' }, 'from the moment on that it does')
  t.match(await signsIn(t, { hasgroups: true }), { role: 'viewer' }, 'and nobody asks for the claim any more')

  const path = `/directories/${directoryId}`
  const off = { enabled: false, whenOff: 'release' }
  t.match(await ask('POST', `${path}/preview`, off), { totals: { gains: 1 } })
  await ask('PATCH', path, off)
  t.match(await access(acme, nia.email), { role: 'admin' }, 'without it the claim counts again')
  await ask('PATCH', path, { enabled: true })
  await scim('DELETE', `/Users/${userId}`)
  t.match(await access(acme, nia.email), { role: 'admin' }, 'it is what they would come back to')
  t.match(await ask('POST', '/access/reconcile'), { repaired: 0 })
})

t.test('a mapping of a claimed group and a sign-in that claims it at one moment do not miss each other', async t => {
  const { acme, map, ask } = await makeWorld()
  const people = Array.from({ length: 4 }, (_each, index) => ({ sub: `u-${uuid7()}`, email: `p${index}@corp.example` }))
  await Promise.all(
    people.flatMap((person, index) => [
      makeBrowser(world).signIn(acme, { user: { ...person, groups: [`g${index}`] } }),
      map(`g${index}`, { role: 'admin' }),
    ]),
  )
  for (const { email } of people) t.match(await access(acme, email), { role: 'admin' })
  t.match(await ask('POST', '/access/reconcile'), { repaired: 0 })
})
