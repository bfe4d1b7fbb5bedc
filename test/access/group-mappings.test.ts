import t from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { bearer, makeApp, makeWorkspace } from '../helpers/app.ts'

const test = await makeApp(t)

interface Sent {
  payload?: object
  headers?: Record<string, string>
}

/** A workspace with a directory, whose groups and people are put in as SCIM would leave them; requests by an admin. */
async function makeWorld() {
  const workspace = await makeWorkspace(test)
  const { workspaceId, url, headers: owner } = workspace
  const { db } = test
  const admin = await bearer({ workspace: workspaceId, role: 'admin' })
  const directoryId = uuid7()
  const inDirectory = { workspace_id: workspaceId, directory_id: directoryId }
  await db.insertInto('directories').values({ workspace_id: workspaceId, id: directoryId, name: 'Okta' }).execute()
  const send = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, sent: Sent = {}) =>
    test.app.inject({
      method,
      url: `${url}${path}`,
      headers: { ...admin, ...sent.headers },
      ...(sent.payload && { payload: sent.payload }),
    })
  return {
    ...test,
    ...workspace,
    owner,
    directoryId,
    send,
    addUser: async (name: string, ...groupIds: string[]) => {
      const [memberId, userId] = [uuid7(), uuid7()]
      const member = { id: memberId, status: 'active', role: 'member', origin: 'directory' } as const
      await db
        .insertInto('members')
        .values({ workspace_id: workspaceId, ...member })
        .execute()
      const user = { id: userId, user_name: name, user_name_key: name, active: true, member_id: memberId, doc: '{}' }
      await db
        .insertInto('scim_users')
        .values({ ...inDirectory, ...user })
        .execute()
      for (const group_id of groupIds) {
        await db
          .insertInto('scim_group_memberships')
          .values({ ...inDirectory, group_id, user_id: userId })
          .execute()
      }
      return memberId
    },
    addScimGroup: async (name: string, ...subgroupIds: string[]) => {
      const id = uuid7()
      await db
        .insertInto('scim_groups')
        .values({ ...inDirectory, id, display_name: name, display_name_key: name, doc: '{}' })
        .execute()
      for (const subgroup_id of subgroupIds) {
        await db
          .insertInto('scim_group_subgroups')
          .values({ ...inDirectory, group_id: id, subgroup_id })
          .execute()
      }
      return id
    },
    createGroup: async (name: string) => (await send('POST', '/groups', { payload: { name } })).json().id as string,
    map: (scimGroupId: string, gives: object, headers = {}) =>
      send('POST', '/group-mappings', { payload: { directoryId, scimGroupId, ...gives }, headers }),
    accessOf: async (memberId: string) => {
      const { role } = await db
        .selectFrom('members')
        .select('role')
        .where('id', '=', memberId)
        .executeTakeFirstOrThrow()
      const groups = await db
        .selectFrom('group_memberships')
        .select('group_id')
        .where('member_id', '=', memberId)
        .execute()
      return { role, groups: groups.map(each => each.group_id) }
    },
    entries: () =>
      db
        .selectFrom('activity_entries')
        .select(['action', 'detail'])
        .where('workspace_id', '=', workspaceId)
        .where('action', 'like', 'group%')
        .orderBy('id')
        .execute(),
  }
}

t.test('an Assist group is created, renamed and deleted under a name of its own', async t => {
  const { send, entries, workspaceId } = await makeWorld()
  const created = await send('POST', '/groups', { payload: { name: ' Support ' } })
  t.equal(created.statusCode, 201)
  const { id } = created.json()
  t.match(created.json(), { name: 'Support', version: 1 })
  t.equal(created.headers.location, `/v1/workspaces/${workspaceId}/groups/${id}`)
  t.match((await send('POST', '/groups', { payload: { name: 'SUPPORT' } })).json(), { status: 409, code: 'conflict' })
  await send('POST', '/groups', { payload: { name: 'Sales' } })
  const rename = (name: string, headers = {}) => send('PATCH', `/groups/${id}`, { payload: { name }, headers })
  t.match((await rename('sales')).json(), { status: 409, code: 'conflict' })
  t.match((await rename('Help', { 'if-match': '"7"' })).json(), { status: 412, code: 'version_conflict' })
  t.match((await rename('Help', { 'if-match': '"1"' })).json(), { name: 'Help', version: 2 })
  t.match((await rename('Help')).json(), { version: 2 })
  t.match((await send('GET', '/groups')).json().items, [{ name: 'Help' }, { name: 'Sales' }])
  t.match((await send('DELETE', `/groups/${id}`, { headers: { 'if-match': '"1"' } })).json(), {
    code: 'version_conflict',
  })
  t.equal((await send('DELETE', `/groups/${id}`)).statusCode, 204)
  t.match((await send('GET', `/groups/${id}`)).json(), { status: 404, code: 'not_found' })
  t.same(
    (await entries()).map(entry => entry.action),
    ['group.created', 'group.created', 'group.updated', 'group.deleted'],
  )
})

t.test(
  'a mapping gives its role and group to all in the scim group at once, nested groups too, and takes them back',
  async t => {
    const { addScimGroup, addUser, createGroup, map, accessOf, send, entries, db } = await makeWorld()
    const inner = await addScimGroup('eu-support')
    const outer = await addScimGroup('support', inner)
    const [ana, bea, ivo] = [await addUser('ana', outer), await addUser('bea', inner), await addUser('ivo')]
    const group = await createGroup('Support')
    const created = await map(outer, { groupId: group, role: 'admin' })
    t.equal(created.statusCode, 201)
    t.match(created.json(), { scimGroupName: 'support', groupName: 'Support', role: 'admin' })
    for (const member of [ana, bea]) t.same(await accessOf(member), { role: 'admin', groups: [group] })
    t.same(await accessOf(ivo), { role: 'member', groups: [] })
    const members = (await send('GET', `/groups/${group}/members`)).json().items
    t.match(members, [{ id: ana, role: 'admin' }, { id: bea }])
    t.equal(members.length, 2)

    t.match((await send('DELETE', `/groups/${group}`)).json(), {
      status: 409,
      code: 'group_mapped',
      detail: /mappings/,
    })
    t.equal((await send('DELETE', `/group-mappings/${created.json().id}`)).statusCode, 204)
    for (const member of [ana, bea]) t.same(await accessOf(member), { role: 'member', groups: [] })
    t.equal((await send('DELETE', `/groups/${group}`)).statusCode, 204)
    t.match((await entries()).slice(1, 3), [
      { action: 'group_mapping.created', detail: { scimGroupId: outer, groupId: group, role: 'admin' } },
      { action: 'group_mapping.deleted', detail: { scimGroupId: outer, groupId: group, role: 'admin' } },
    ])
    const changes = await db
      .selectFrom('access_changes')
      .select(['role_after', 'groups_gained', 'groups_lost'])
      .orderBy('id')
      .execute()
    t.match(changes.slice(0, 2), [{ role_after: 'admin', groups_gained: [group] }, { role_after: 'admin' }])
    t.match(changes.slice(2), [{ role_after: 'member', groups_lost: [group] }, { role_after: 'member' }])
  },
)

t.test('however many people a mapping concerns, the number of statements is the same', async t => {
  const { addScimGroup, addUser, map, statements } = await makeWorld()
  const [small, large] = [await addScimGroup('small'), await addScimGroup('large')]
  await addUser('ana', small)
  for (let index = 0; index < 30; index++) await addUser(`user-${index}`, large)
  const forOne = await statements(() => map(small, { role: 'viewer' }))
  const forThirty = await statements(() => map(large, { role: 'viewer' }))
  t.equal(forThirty.length, forOne.length)
})

t.test('a mapping and a SCIM client that fills its group at the same moment do not miss each other', async t => {
  const { addScimGroup, addUser, map, send, directoryId, accessOf, app } = await makeWorld()
  const { token } = (await send('POST', `/directories/${directoryId}/tokens`)).json()
  const join = (group: string, userId: string) =>
    app.inject({
      method: 'PATCH',
      url: `/scim/v2/${directoryId}/Groups/${group}`,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/scim+json' },
      payload: {
        schemas: ['urn:ietf:params:scim:api:messages:2.0:PatchOp'],
        Operations: [{ op: 'add', path: 'members', value: [{ value: userId }] }],
      },
    })
  const people = await Promise.all(
    Array.from({ length: 8 }, async (_each, index) => {
      const group = await addScimGroup(`group-${index}`)
      const member = await addUser(`user-${index}`)
      const [user] = (await send('GET', `/members/${member}`)).json().directoryUsers
      return { group, member, user: user.userId as string }
    }),
  )
  const replies = await Promise.all(
    people.flatMap(each => [join(each.group, each.user), map(each.group, { role: 'admin' })]),
  )
  for (const reply of replies) t.ok(reply.statusCode < 300, reply.body)
  for (const { member } of people) t.equal((await accessOf(member)).role, 'admin')
})

t.test('mappings made at the same moment for the same people add up', async t => {
  const { addScimGroup, addUser, map, accessOf } = await makeWorld()
  const groups = await Promise.all(['a', 'b', 'c', 'd'].map(name => addScimGroup(name)))
  const ana = await addUser('ana', ...groups)
  const [a, b, c, d] = groups as [string, string, string, string]
  const replies = await Promise.all([
    map(a, { role: 'viewer' }),
    map(b, { role: 'admin' }),
    map(c, { role: 'viewer' }),
    map(d, { role: 'member' }),
  ])
  t.ok(replies.every(reply => reply.statusCode === 201))
  t.match(await accessOf(ana), { role: 'admin' })
})

t.test('a mapping is refused twice, empty, to nothing, and above the own role', async t => {
  const { addScimGroup, createGroup, map, owner, send } = await makeWorld()
  const scimGroup = await addScimGroup('support')
  const group = await createGroup('Support')
  for (const [status, code, reply] of [
    [201, undefined, await map(scimGroup, { groupId: group })],
    [409, 'mapping_exists', await map(scimGroup, { groupId: group })],
    [201, undefined, await map(scimGroup, { groupId: group, role: 'member' })],
    [400, 'invalid', await map(scimGroup, {})],
    [400, 'role_unknown', await map(scimGroup, { role: 'emperor' })],
    [403, 'role_above_own', await map(scimGroup, { role: 'owner' })],
    [404, 'scim_group_unknown', await map(uuid7(), { role: 'member' })],
    [404, 'group_unknown', await map(scimGroup, { groupId: uuid7() })],
  ] as const) {
    t.equal(reply.statusCode, status)
    t.equal(reply.json().code, code)
  }
  const owning = await map(scimGroup, { role: 'owner' }, owner)
  t.equal(owning.statusCode, 201)
  const remove = (headers = {}) => send('DELETE', `/group-mappings/${owning.json().id}`, { headers })
  t.match((await remove()).json(), { status: 403, code: 'role_above_own' })
  t.equal((await remove(owner)).statusCode, 204)
})

t.test('an admin cannot delete the mapping that gives the workspace its only owner', async t => {
  const { addScimGroup, addUser, map, owner, send, accessOf } = await makeWorld()
  const owners = await addScimGroup('owners')
  const ana = await addUser('ana', owners)
  const { id } = (await map(owners, { role: 'owner' }, owner)).json()
  t.match((await send('DELETE', `/group-mappings/${id}`, { headers: owner })).json(), {
    status: 409,
    code: 'last_owner',
  })
  t.match(await accessOf(ana), { role: 'owner' })
  t.equal((await send('GET', '/group-mappings')).json().items.length, 1, 'and the mapping stays')
})

t.test('mappings are listed by directory and group, and belong to their workspace alone', async t => {
  const { addScimGroup, createGroup, map, send, directoryId, app } = await makeWorld()
  const [scimGroup, group] = [await addScimGroup('support'), await createGroup('Support')]
  const { id } = (await map(scimGroup, { groupId: group })).json()
  await map(scimGroup, { role: 'viewer' })
  const count = async (query: string) => (await send('GET', `/group-mappings?${query}`)).json().items.length
  t.equal(await count(''), 2)
  t.equal(await count(`group=${group}`), 1)
  t.equal(await count(`directory=${directoryId}`), 2)
  t.equal(await count(`directory=${uuid7()}`), 0)
  const foreign = await makeWorkspace(test, { name: 'globex' })
  for (const [method, path, payload] of [
    ['GET', `/group-mappings/${id}`],
    ['DELETE', `/group-mappings/${id}`],
    ['POST', '/group-mappings', { directoryId, scimGroupId: scimGroup, role: 'member' }],
    ['GET', `/groups/${group}`],
    ['PATCH', `/groups/${group}`, { name: 'Mine' }],
    ['DELETE', `/groups/${group}`],
    ['GET', `/groups/${group}/members`],
  ] as const) {
    const url = `${foreign.url}${path}`
    const reply = await app.inject({ method, url, headers: foreign.headers, ...(payload && { payload }) })
    t.match(reply.json(), { status: 404, code: /^(not_found|scim_group_unknown)$/ }, `${method} ${path}`)
  }
})
