import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { GROUP, makeDirectory, USER, type Json, type TestDirectory } from '../helpers/scim.ts'

/** A directory with users, and what is needed to see their access. */
async function makeWorld(t: Test, names: string[] = ['ana', 'bea', 'cem']) {
  const directory = await makeDirectory(t)
  const users: Json[] = []
  for (const userName of names) users.push(await directory.createUser({ userName }))
  const ids = users.map(user => user.id as string)
  return { ...directory, ids, ...accessOf(directory) }
}

function accessOf({ db, app, url, headers, memberOf, directoryId }: TestDirectory) {
  const post = async (path: string, payload: object) =>
    app.inject({ method: 'POST', url: `${url}${path}`, headers, payload })
  return {
    /** Maps a scim group to a role, or to an Assist group that is made for it. */
    map: async (scimGroupId: string, { role, group }: { role?: string; group?: string }) => {
      const groupId = group && ((await post('/groups', { name: group })).json().id as string)
      const reply = await post('/group-mappings', {
        directoryId,
        scimGroupId,
        ...(role && { role }),
        ...(groupId && { groupId }),
      })
      if (reply.statusCode !== 201) throw new Error(reply.body)
    },
    roleOf: async (userId: string) => (await memberOf(userId)).role as string,
    groupsOf: async (userId: string) => {
      const member = await memberOf(userId)
      const rows = await db
        .selectFrom('group_memberships as m')
        .innerJoin('groups as g', 'g.id', 'm.group_id')
        .select('g.name')
        .where('m.member_id', '=', member.id)
        .orderBy('g.name')
        .execute()
      return rows.map(row => row.name)
    },
  }
}

const byText = (a: string, b: string) => (a < b ? -1 : 1)
const members = (group: Json): string[] =>
  ((group.members ?? []) as Json[]).map(member => member.value as string).toSorted(byText)
const add = (...ids: string[]) => ({ op: 'add', path: 'members', value: ids.map(value => ({ value })) })
const remove = (id: string) => ({ op: 'remove', path: `members[value eq "${id}"]` })
const replace = (...ids: string[]) => ({ op: 'replace', path: 'members', value: ids.map(value => ({ value })) })

t.test('a group is created with members, changed by sets, replaced, renamed and deleted', async t => {
  const { ids, createGroup, createUser, get, patch, send, entries } = await makeWorld(t)
  const [ana, bea, cem] = ids as [string, string, string]
  const group = await createGroup('Weavers', [ana, ana])
  t.same(members(group), [ana])
  t.match(group.members[0], { type: 'User', $ref: /\/Users\// })
  const url = `/Groups/${group.id}`
  t.same(await get(url), group)
  const added = await patch(url, add(bea, cem))
  t.match([added.statusCode, added.body, added.headers.etag], [204, '', 'W/"2"'])
  t.same(members(await get(url)), [ana, bea, cem].toSorted(byText))
  await patch(url, remove(bea), { op: 'replace', path: 'displayName', value: 'Dyers' })
  t.match(await get(url), { displayName: 'Dyers', meta: { version: 'W/"3"' } })
  await patch(url, replace(bea))
  t.same(members(await get(url)), [bea])
  const renamed = await send('PUT', url, { body: { schemas: [GROUP], displayName: 'Spinners' } })
  t.same(members(renamed.json()), [bea], 'a PUT that does not speak of members keeps them')
  const emptied = await send('PUT', url, { body: { schemas: [GROUP], displayName: 'Spinners', members: [] } })
  t.same([members(emptied.json()), members(await get(url))], [[], []])
  t.equal((await patch(`${url}?attributes=displayName`, add(ana))).json().displayName, 'Spinners')
  t.equal((await send('DELETE', url)).statusCode, 204)
  t.equal((await send('GET', url)).statusCode, 404)
  t.equal((await send('DELETE', url)).statusCode, 404)
  t.same((await get(`/Users/${ana}`)).groups, undefined)
  await createGroup('Spinners')
  t.match(await createGroup('SPINNERS', [], 409), { scimType: 'uniqueness' })
  const details = (await entries()).filter(entry => entry.action === 'scim_group.updated').map(entry => entry.detail)
  t.match(details.slice(0, 2), [{ membersAdded: 2 }, { membersRemoved: 1, displayName: 'Dyers' }])
  t.ok(await createUser({ userName: 'dia' }))
})

t.test('a change of members that changes nothing leaves version, time and log as they are', async t => {
  const { ids, createGroup, get, patch, send, entries } = await makeWorld(t)
  const [ana, bea] = ids as [string, string]
  const group = await createGroup('Weavers', [ana])
  const before = (await entries()).length
  await patch(`/Groups/${group.id}`, add(ana))
  await patch(`/Groups/${group.id}`, remove(bea))
  await patch(`/Groups/${group.id}`, replace(ana))
  await send('PUT', `/Groups/${group.id}`, {
    body: { schemas: [GROUP], displayName: 'Weavers', members: [{ value: ana }] },
  })
  t.same(await get(`/Groups/${group.id}`), group)
  t.equal((await entries()).length, before)
})

t.test('members that the directory does not have are refused by name, and nothing is stored', async t => {
  const { ids, createGroup, get, patch } = await makeWorld(t)
  const [ana] = ids as [string]
  const sibling = await makeDirectory(t)
  const foreign = (await sibling.createUser({ userName: 'foreign' })).id
  const group = await createGroup('Weavers')
  for (const stranger of [foreign, uuid7(), 'not-an-id']) {
    for (const change of [add(ana, stranger), replace(ana, stranger)]) {
      const reply = await patch(`/Groups/${group.id}`, change)
      t.match(reply.json(), { status: '400', scimType: 'invalidValue' })
      t.ok(reply.json().detail.includes(stranger))
    }
    await createGroup('Others', [ana, stranger], 400)
  }
  t.match(
    (await patch(`/Groups/${group.id}`, add(group.id))).json(),
    { scimType: 'invalidValue' },
    'a group is not in itself',
  )
  t.same(members(await get(`/Groups/${group.id}`)), [])
  t.equal((await get('/Groups')).totalResults, 1)
})

t.test('what a member says that it is, is so: else refused when strict, and recorded when tolerant', async t => {
  const strict = await makeDirectory(t, { mode: 'strict' })
  const tolerant = await makeDirectory(t, { on: strict })
  for (const { createUser, createGroup, get, send, patch, entries, directoryId } of [strict, tolerant]) {
    const isStrict = directoryId === strict.directoryId
    const [ana, bea] = [(await createUser({ userName: 'ana' })).id, (await createUser({ userName: 'bea' })).id]
    const inner = (await createGroup('Inner')).id
    const held = await createGroup('Held', [ana])
    const groups = `https://id.example.com/scim/v2/${directoryId}/Groups`
    const honest = [
      { value: bea, type: 'User', $ref: `x/Users/${bea}` },
      { value: inner, type: 'Group' },
    ]
    const lies = [
      [{ value: bea, type: 'Group' }, 'type', 'Group', bea, 'User'],
      [{ value: inner, type: 'User' }, 'type', 'User', inner, 'Group'],
      [{ value: bea, $ref: `${groups}/${bea}` }, '$ref', `${groups}/${bea}`, bea, 'User'],
      [{ value: ana, type: 'Group' }, 'type', 'Group', ana, 'User'],
    ] as const
    for (const [lie, key, said, id, actual] of lies) {
      const body = { schemas: [GROUP], displayName: `Group ${JSON.stringify(lie)}`, members: [...honest, lie] }
      const value = body.members
      const { displayName } = held
      for (const [name, pointer, change] of [
        ['POST', `/members/2/${key}`, () => send('POST', '/Groups', { body })],
        ['PUT', `/members/2/${key}`, () => send('PUT', `/Groups/${held.id}`, { body: { ...body, displayName } })],
        [
          'add',
          `/Operations/0/value/2/${key}`,
          () => patch(`/Groups/${held.id}`, { op: 'add', path: 'members', value }),
        ],
        [
          'replace',
          `/Operations/1/value/2/${key}`,
          () => patch(`/Groups/${held.id}`, remove(ana), { op: 'replace', path: 'members', value }),
        ],
      ] as const) {
        await patch(`/Groups/${held.id}`, replace(ana))
        const before = await get(`/Groups/${held.id}`)
        const reply = await change()
        const last = (await entries()).at(-1)
        if (isStrict) {
          t.match(reply.json(), { status: '400', scimType: 'invalidValue' }, name)
          for (const part of [pointer, said.slice(-90), id, actual])
            t.ok(reply.json().detail.includes(part), `${name}: ${part}`)
          t.same(await get(`/Groups/${held.id}`), before, 'nothing is stored')
          t.match(last, { action: 'directory.request_refused', reason: 'invalidValue' })
        } else {
          t.match(String(reply.statusCode), /^20[014]$/, reply.body)
          t.match(last?.detail, { leniencies: [{ name: 'member_detail_ignored', pointer }] }, name)
          const group = name === 'POST' ? reply.json() : await get(`/Groups/${held.id}`)
          t.ok(members(group).includes(id))
          const { type } = group.members.find((each: Json) => each.value === id)
          t.equal(type, actual, 'and it is shown as what it is')
        }
      }
    }
    const fine = await send('POST', '/Groups', { body: { schemas: [GROUP], displayName: 'Fine', members: honest } })
    t.equal(fine.statusCode, 201)
    t.equal(
      (await send('PUT', `/Groups/${fine.json().id}`, { body: await get(`/Groups/${fine.json().id}`) })).statusCode,
      200,
    )
    t.notOk((await entries()).at(-1)?.detail?.leniencies)
  }
})

const userAndGroup = (type: string) => ({
  schemas: ['urn:ietf:params:scim:api:messages:2.0:BulkRequest'],
  Operations: [
    { method: 'POST', path: '/Users', bulkId: 'u', data: { schemas: [USER], userName: `ana-${type}` } },
    {
      method: 'POST',
      path: '/Groups',
      bulkId: 'g',
      data: { schemas: [GROUP], displayName: type, members: [{ value: 'bulkId:u', type }] },
    },
  ],
})

t.test('in a bulk request a member that stands for an id by its bulkId is what it says, too', async t => {
  const { send, entries } = await makeDirectory(t, { mode: 'strict' })
  const statuses = async (type: string) =>
    (await send('POST', '/Bulk', { body: userAndGroup(type) })).json().Operations.map(({ status }: Json) => status)
  t.same(await statuses('User'), ['201', '201'])
  t.same(await statuses('Group'), ['201', '400'])
  t.match((await entries()).at(-1), { action: 'directory.request_refused', reason: 'invalidValue' })
})

t.test(
  'a removal that selects nothing: noTarget when strict, no change when tolerant, of members and of values alike',
  async t => {
    const strict = await makeDirectory(t, { mode: 'strict' })
    const tolerant = await makeDirectory(t, { on: strict })
    for (const { createUser, createGroup, get, patch, entries, statements, directoryId } of [strict, tolerant]) {
      const isStrict = directoryId === strict.directoryId
      const emails = [{ value: 'ana@example.com', type: 'work' }]
      const { id: ana } = await createUser({ userName: 'ana', emails })
      const { id: bea } = await createUser({ userName: 'bea' })
      const { id: inner } = await createGroup('Inner')
      const { id } = await createGroup('Weavers', [ana])
      const url = `/Groups/${id}`
      const rename = { op: 'replace', path: 'displayName', value: 'Dyers' }
      const either = { op: 'remove', path: `members[value eq "${bea}" or value eq "${inner}"]` }
      const typed = { op: 'remove', path: `members[type eq "Group" and value eq "${ana}"]` }
      for (const [at, ...operations] of [
        [0, remove(bea)],
        [0, remove(uuid7())],
        [0, remove('nobody')],
        [0, either],
        [0, typed],
        [1, add(ana), remove(bea)],
        [1, rename, remove(bea)],
        [0, remove(bea), add(bea)],
        [1, remove(ana), remove(ana), add(ana)],
        [1, replace(ana), remove(bea)],
        [1, add(bea), typed, remove(bea)],
      ] as const) {
        const before = await get(url)
        const told = (await entries()).length
        const reply = await patch(url, ...operations)
        const name = JSON.stringify(operations)
        if (isStrict) {
          t.match(reply.json(), { status: '400', scimType: 'noTarget' }, name)
          t.ok(reply.json().detail.includes(`/Operations/${at}/path`), reply.json().detail)
          t.same(await get(url), before, 'nothing of it applies')
        } else {
          t.equal(reply.statusCode, 204, name)
          for (const { detail } of (await entries()).slice(told))
            t.match(detail.leniencies, [{ name: 'target_missed', pointer: `/Operations/${at}/path` }])
          await patch(url, replace(ana), { ...rename, value: 'Weavers' })
        }
      }
      // What has a target, though the group as it is stored does not say so alone.
      for (const operations of [
        [add(bea), remove(bea)],
        [remove(ana), add(ana)],
        [{ op: 'remove', path: `members[value eq "${bea}" or value eq "${ana}"]` }, add(ana)],
        [replace(bea), remove(bea), replace(ana)],
        [{ op: 'remove', path: 'members' }, add(ana)],
      ]) {
        const reply = await patch(url, ...operations)
        t.equal(reply.statusCode, 204, JSON.stringify(operations))
        t.notOk((await entries()).at(-1)?.detail.leniencies)
        await patch(url, replace(ana))
        t.same(members(await get(url)), [ana])
      }
      // The statement for one member, which writes nothing, and the general one, which says why.
      t.equal((await statements(() => patch(url, remove(bea)))).filter(text => /scim_group/.test(text)).length, 2)
      const byList = { op: 'remove', path: 'members', value: [{ value: bea }, { value: ana }] }
      t.equal((await patch(url, byList)).statusCode, isStrict ? 400 : 204)
      t.same(members(await get(url)), isStrict ? [ana] : [])

      const user = await get(`/Users/${ana}`)
      const missing = await patch(`/Users/${ana}`, { op: 'remove', path: 'emails[value eq "none@example.com"]' })
      t.match(missing.json(), isStrict ? { status: '400', scimType: 'noTarget' } : { id: ana })
      const listed = { op: 'remove', path: 'emails', value: [{ value: 'none@example.com' }] }
      t.equal((await patch(`/Users/${ana}`, listed)).statusCode, isStrict ? 400 : 200)
      t.same((await get(`/Users/${ana}`)).emails, user.emails)
    }
  },
)

t.test('a filter that names a type selects no member of another', async t => {
  const { ids, createGroup, get, patch } = await makeWorld(t)
  const [ana, bea] = ids as [string, string]
  const inner = await createGroup('Inner')
  const group = await createGroup('Weavers', [ana, bea, inner.id])
  const removeTyped = (type: string, id: string) =>
    patch(`/Groups/${group.id}`, { op: 'remove', path: `members[type eq "${type}" and value eq "${id}"]` })
  await removeTyped('Group', ana)
  await removeTyped('User', inner.id)
  await removeTyped('Robot', ana)
  t.equal(members(await get(`/Groups/${group.id}`)).length, 3)
  await removeTyped('User', ana)
  await removeTyped('group', inner.id)
  t.same(members(await get(`/Groups/${group.id}`)), [bea])
})

t.test("a user's groups are shown, direct and through other groups, and make their entity tag", async t => {
  const { ids, createGroup, get, send, patch } = await makeWorld(t)
  const [ana] = ids as [string]
  const before = (await get(`/Users/${ana}`)).meta.version
  const inner = await createGroup('Inner', [ana])
  const outer = await createGroup('Outer', [inner.id])
  t.match(outer.members, [{ value: inner.id, type: 'Group' }])
  const user = await get(`/Users/${ana}`)
  t.match(user.groups, [
    { value: inner.id, display: 'Inner', type: 'direct', $ref: /\/Groups\// },
    { value: outer.id, display: 'Outer', type: 'indirect' },
  ])
  t.same(
    (await get('/Users')).Resources.find((each: Json) => each.id === ana),
    user,
  )
  const conditional = (tag: string) => send('GET', `/Users/${ana}`, { headers: { 'if-none-match': tag } })
  t.equal((await conditional(before)).statusCode, 200, 'not stale, though the user itself is unchanged')
  t.equal((await conditional(user.meta.version)).statusCode, 304)
  const guarded = { body: { schemas: [], userName: 'ana', title: 'x' }, headers: { 'if-match': user.meta.version } }
  t.equal((await send('PUT', `/Users/${ana}`, guarded)).statusCode, 200, 'and If-Match compares the user alone')
  await patch(`/Groups/${outer.id}`, add(ana))
  t.same(
    (await get(`/Users/${ana}`)).groups.map((each: Json) => each.type),
    ['direct', 'direct'],
  )
})

t.test('access follows membership at once: added, removed, replaced, nested, deleted', async t => {
  const { ids, createGroup, patch, send, map, roleOf, groupsOf } = await makeWorld(t)
  const [ana, bea] = ids as [string, string]
  const admins = await createGroup('Admins', [ana])
  t.equal(await roleOf(ana), 'member')
  await map(admins.id, { role: 'admin', group: 'Staff' })
  t.same([await roleOf(ana), await groupsOf(ana)], ['admin', ['Staff']], 'a new mapping')
  await patch(`/Groups/${admins.id}`, add(bea))
  t.same([await roleOf(bea), await groupsOf(bea)], ['admin', ['Staff']], 'add')
  await patch(`/Groups/${admins.id}`, remove(ana))
  t.same([await roleOf(ana), await groupsOf(ana)], ['member', []], 'remove')
  await patch(`/Groups/${admins.id}`, replace(ana))
  t.same([await roleOf(ana), await roleOf(bea)], ['admin', 'member'], 'replace')

  const inner = await createGroup('Inner', [bea])
  await patch(`/Groups/${admins.id}`, add(inner.id))
  t.equal(await roleOf(bea), 'admin', 'a group that comes into a mapped one')
  await patch(`/Groups/${inner.id}`, remove(bea))
  t.equal(await roleOf(bea), 'member', 'out of the inner group')
  await patch(`/Groups/${inner.id}`, add(bea))
  t.equal(await roleOf(bea), 'admin', 'into the inner group')
  await patch(`/Groups/${admins.id}`, remove(inner.id))
  t.equal(await roleOf(bea), 'member', 'a group that leaves')
  await patch(`/Groups/${admins.id}`, add(inner.id))
  await send('DELETE', `/Groups/${inner.id}`)
  t.equal(await roleOf(bea), 'member', 'an inner group that is deleted')
  await send('DELETE', `/Groups/${admins.id}`)
  t.same([await roleOf(ana), await groupsOf(ana)], ['member', []], 'the mapped group is deleted')
})

t.test('whoever is deleted leaves their groups, and loses what these gave', async t => {
  const { ids, createGroup, createUser, send, get, map, db, memberOf, patch } = await makeWorld(t)
  const [ana, bea] = ids as [string, string]
  const group = await createGroup('Admins', [ana, bea])
  await map(group.id, { role: 'admin' })
  const member = await memberOf(ana)
  await send('DELETE', `/Users/${ana}`)
  t.match(await get(`/Groups/${group.id}`), { members: [{ value: bea }], meta: { version: 'W/"2"' } })
  const after = await db.selectFrom('members').selectAll().where('id', '=', member.id).executeTakeFirstOrThrow()
  t.match(after, { role: 'member', status: 'deactivated' })
  const again = await createUser({ userName: 'ana', emails: [{ value: 'ana@example.com' }] })
  await patch(`/Groups/${group.id}`, add(again.id))
  t.equal((await memberOf(again.id)).role, 'admin')
  await patch(`/Users/${bea}`, { op: 'replace', path: 'active', value: false })
  t.equal((await memberOf(bea)).role, 'admin', 'a deactivated member keeps what they would come back to')
})

t.test('concurrent changes of one group all count, and none leaves a member that does not exist', async t => {
  const names = Array.from({ length: 24 }, (_, index) => `user-${index}`)
  const { ids, createGroup, get, patch, send, db } = await makeWorld(t, names)
  const group = await createGroup('Weavers')
  const url = `/Groups/${group.id}`
  const added = await Promise.all(ids.slice(0, 8).map(id => patch(url, add(id))))
  t.ok(added.every(reply => reply.statusCode === 204))
  t.equal(members(await get(url)).length, 8)

  // Each user is added to a group and deleted at once: whichever wins, nothing points to nobody.
  const races = ids.flatMap(id => [patch(url, add(id)), send('DELETE', `/Users/${id}`)])
  for (const reply of await Promise.all(races)) t.match(String(reply.statusCode), /^20[04]$|^400$/)
  t.same(members(await get(url)), [])
  const dangling = await db.selectFrom('scim_group_memberships').selectAll().execute()
  t.same(dangling, [])

  const doomed = await Promise.all(Array.from({ length: 6 }, (_, index) => createGroup(`doomed-${index}`)))
  const survivor = (await send('POST', '/Users', { body: { schemas: [], userName: 'survivor' } })).json().id
  const more = doomed.flatMap(({ id }) => [patch(`/Groups/${id}`, add(survivor)), send('DELETE', `/Groups/${id}`)])
  for (const reply of await Promise.all(more)) t.match(String(reply.statusCode), /^20[04]$|^404$/)
  t.same(await db.selectFrom('scim_group_memberships').selectAll().execute(), [])
})

t.test('a mapping and a membership made at the same time never miss each other', async t => {
  const { ids, createGroup, patch, map, roleOf } = await makeWorld(t)
  const [ana, bea, cem] = ids as [string, string, string]
  for (let round = 0; round < 6; round++) {
    const inner = await createGroup(`inner-${round}`, [bea])
    const group = await createGroup(`group-${round}`)
    await Promise.all([
      map(group.id, { role: 'admin' }),
      patch(`/Groups/${group.id}`, add(ana)),
      patch(`/Groups/${group.id}`, add(inner.id)),
      patch(`/Groups/${inner.id}`, add(cem)),
    ])
    t.same([await roleOf(ana), await roleOf(bea), await roleOf(cem)], ['admin', 'admin', 'admin'], `round ${round}`)
    await patch(`/Groups/${group.id}`, replace())
    t.same([await roleOf(ana), await roleOf(bea), await roleOf(cem)], ['member', 'member', 'member'], `round ${round}`)
  }
})

t.test('a group that is nested while a mapping waits for it is mapped too, whoever comes into it then', async t => {
  const { ids, createGroup, patch, map, roleOf, memberOf, db } = await makeWorld(t)
  const [ana, bea] = ids as [string, string]
  const inner = await createGroup('Inner')
  const middle = await createGroup('Middle', [bea])
  const outer = await createGroup('Outer', [middle.id])
  const waiting = async (count: number) => {
    for (let tries = 0; tries < 200; tries++) {
      const { rows } = await sql`
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`.execute(db)
      if (rows.length >= count) return
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    t.fail('nobody waits')
  }
  // Inner comes into Middle, as a change by SCIM does it, and is not committed yet.
  const nesting = await db.startTransaction().execute()
  await nesting.updateTable('scim_groups').set({ reach_version: 9 }).where('id', '=', inner.id).execute()
  await nesting.updateTable('scim_groups').set({ version: 9 }).where('id', '=', middle.id).execute()
  await sql`INSERT INTO scim_group_subgroups (workspace_id, directory_id, group_id, subgroup_id)
    SELECT workspace_id, directory_id, id, ${inner.id} FROM scim_groups WHERE id = ${middle.id}`.execute(nesting)
  // The mapping waits for Middle, and then, having locked what is in Outer, for the member of bea.
  const [holdingBea, holdingAna] = [await db.startTransaction().execute(), await db.startTransaction().execute()]
  await holdingBea
    .selectFrom('members')
    .select('id')
    .where('id', '=', (await memberOf(bea)).id)
    .forUpdate()
    .execute()
  await holdingAna.selectFrom('scim_users').select('id').where('id', '=', ana).forUpdate().execute()
  const mapped = map(outer.id, { role: 'admin' })
  await waiting(1)
  await nesting.commit().execute()
  await waiting(1)
  // Ana comes into Inner by a statement that begins before the mapping is there, and ends after.
  const added = patch(`/Groups/${inner.id}`, add(ana))
  await waiting(2)
  await holdingBea.commit().execute()
  await mapped
  await holdingAna.commit().execute()
  t.equal((await added).statusCode, 204)
  t.same([await roleOf(ana), await roleOf(bea)], ['admin', 'admin'])
})

t.test(
  'a group of 20,000 takes one more, is replaced by half of itself, and is read whole or without its members',
  async t => {
    const { ids, createGroup, patch, get, send, app, log, token, db, directoryId, workspaceId } = await makeWorld(t)
    const [ana] = ids as [string]
    const group = await createGroup('Everybody')
    await sql`
    WITH people AS (
      INSERT INTO members (workspace_id, id, status, role, origin)
      SELECT ${workspaceId}, gen_random_uuid(), 'active', 'member', 'directory' FROM generate_series(1, 20000) RETURNING id
    ), users AS (
      INSERT INTO scim_users (workspace_id, directory_id, id, user_name, user_name_key, active, member_id, doc)
      SELECT ${workspaceId}, ${directoryId}, id, id::text, id::text, true, id, '{"schemas":[]}' FROM people RETURNING id
    )
    INSERT INTO scim_group_memberships SELECT ${workspaceId}, ${directoryId}, ${group.id}, id FROM users`.execute(db)
    t.equal((await patch(`/Groups/${group.id}`, add(ana))).statusCode, 204)
    const all = await get(`/Groups/${group.id}`)
    t.equal(all.members.length, 20_001)
    const half = all.members.slice(0, 10_000).map(({ value }: Json) => ({ value }))
    const put = await send('PUT', `/Groups/${group.id}`, {
      body: { schemas: [GROUP], displayName: 'Everybody', members: half },
    })
    t.equal(put.json().members.length, 10_000)
    t.same(members(await get(`/Groups/${group.id}`)), members({ members: half }))
    const { id: inner } = await createGroup('Inner')
    await patch(`/Groups/${group.id}`, add(inner))
    const whole = await send('GET', `/Groups/${group.id}`)
    t.equal(
      Number(whole.headers['content-length']),
      whole.rawPayload.length,
      'its length is known before it is written',
    )
    t.match(whole.json().members.at(-1), { value: inner, type: 'Group', $ref: new RegExp(`/Groups/${inner}$`) })
    t.match(whole.json().members[0], { type: 'User', $ref: new RegExp(`/Users/${whole.json().members[0].value}$`) })
    const found = await get(`/Groups?filter=id eq "${group.id}"`.replaceAll(' ', '%20'))
    t.same(found.Resources, [whole.json()], 'alone or in a list, it is the same')
    t.equal((await send('HEAD', `/Groups/${group.id}`)).headers['content-length'], whole.headers['content-length'])
    t.match(log().split('\n').at(-2), '"route":"/scim/v2/:directoryId/Groups/:id","status":200')
    await app.listen({ port: 0 })
    const leaver = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
    leaver.write(`GET ${whole.json().meta.location.replace(/^https:..[^/]+/, '')} HTTP/1.1\r\nhost: here\r\n`)
    leaver.write(`authorization: Bearer ${token}\r\n\r\n`)
    await once(leaver, 'data')
    leaver.destroy()
    // Of all that, the one who left has had a part, and is missed by nobody.
    const { members: projected } = await get(`/Groups/${group.id}?attributes=members`)
    t.same(projected, whole.json().members)
    t.notOk('members' in (await get(`/Groups/${group.id}?excludedAttributes=members`)))
  },
)
