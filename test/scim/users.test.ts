import { sql } from 'kysely'
import t from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { ENTERPRISE, makeDirectory, makeReplica, startSession, USER } from '../helpers/scim.ts'

t.test(
  'a user is created, found, replaced, changed and deleted, and each answer is the resource as it is then',
  async t => {
    const { send, createUser, get, patch, entries, directoryId } = await makeDirectory(t)
    const base = `https://sso.assist.example/scim/v2/${directoryId}`
    const body = {
      schemas: [USER, ENTERPRISE],
      userName: 'Ana.Pereira@example.com',
      externalId: '00u1',
      name: { givenName: 'Ana', familyName: 'Pereira' },
      emails: [{ value: 'ana@example.com', type: 'work', primary: true }],
      [ENTERPRISE]: { department: 'Looms' },
    }
    const created = await send('POST', '/Users', { body })
    t.equal(created.statusCode, 201)
    t.match(created.headers, { 'content-type': /^application\/scim\+json/, etag: 'W/"1"' })
    const user = created.json()
    t.match(user, { ...body, active: true, meta: { resourceType: 'User', version: 'W/"1"' } })
    t.equal(user.meta.location, `${base}/Users/${user.id}`)
    t.equal(created.headers.location, user.meta.location)
    t.same(await get(`/Users/${user.id}`), user)
    const found = await get(`/Users?filter=${encodeURIComponent('userName eq "ana.pereira@EXAMPLE.com"')}`)
    t.same(found.Resources, [user])
    t.equal(found.totalResults, 1)

    const put = await send('PUT', `/Users/${user.id}`, { body: { schemas: [USER], userName: 'ana', title: 'Weaver' } })
    t.match(put.json(), {
      userName: 'ana',
      title: 'Weaver',
      active: true,
      meta: { version: 'W/"2"', created: user.meta.created },
    })
    t.notOk('emails' in put.json() || 'externalId' in put.json(), 'what PUT leaves out is gone')
    const patched = await patch(`/Users/${user.id}`, { op: 'replace', path: 'title', value: 'Dyer' })
    t.match(patched.json(), { title: 'Dyer', meta: { version: 'W/"3"' } })
    t.equal((await send('DELETE', `/Users/${user.id}`)).statusCode, 204)
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE'] as const) {
      const sent = method === 'PUT' ? { body: { schemas: [USER], userName: 'x' } } : {}
      const reply =
        method === 'PATCH'
          ? await patch(`/Users/${user.id}`, { op: 'replace', path: 'title', value: 'x' })
          : await send(method, `/Users/${user.id}`, sent)
      t.match(reply.json(), { status: '404', schemas: ['urn:ietf:params:scim:api:messages:2.0:Error'] }, method)
    }
    t.not((await createUser({ userName: 'ana' })).id, user.id, 'the name is free at once')
    t.same(
      (await entries()).map(entry => entry.action),
      ['scim_user.created', 'scim_user.updated', 'scim_user.updated', 'scim_user.deleted', 'scim_user.created'],
    )
  },
)

t.test('a change that changes nothing leaves version, time and log as they are', async t => {
  const { send, createUser, patch, entries } = await makeDirectory(t)
  const user = await createUser({ userName: 'ana', title: 'Weaver' })
  const { id, meta } = user
  for (const reply of [
    await patch(`/Users/${id}`, { op: 'replace', path: 'title', value: 'Weaver' }),
    await patch(`/Users/${id}`, { op: 'replace', path: 'active', value: true }),
    await send('PUT', `/Users/${id}`, { body: { schemas: [USER], userName: 'ana', title: 'Weaver', active: true } }),
  ]) {
    t.equal(reply.statusCode, 200)
    t.same(reply.json().meta, meta)
  }
  t.equal((await entries()).length, 1)
})

t.test('userName and externalId follow one case rule in filters and in uniqueness', async t => {
  const { createUser, get } = await makeDirectory(t)
  await createUser({ userName: 'JSmith', externalId: 'ABC' })
  const refused = await createUser({ userName: 'jsmith', externalId: 'x' }, 409)
  t.match(refused, { status: '409', scimType: 'uniqueness' })
  await createUser({ userName: 'other', externalId: 'abc' })
  t.equal((await get('/Users?filter=externalId%20eq%20%22abc%22')).totalResults, 1)
  t.equal((await get('/Users?filter=userName%20eq%20%22JSMITH%22')).totalResults, 1)
})

t.test('a user becomes a member of the workspace, with its default role', async t => {
  const { createUser, memberOf, entries, db } = await makeDirectory(t)
  const user = await createUser({
    userName: 'ana',
    displayName: 'Ana Pereira',
    emails: [
      { value: 'Private@example.com', type: 'home' },
      { value: 'Ana@Example.com', type: 'work' },
    ],
  })
  const member = await memberOf(user.id)
  t.match(member, {
    status: 'active',
    role: 'member',
    origin: 'directory',
    email: 'Ana@Example.com',
    email_key: 'ana@example.com',
    display_name: 'Ana Pereira',
  })
  const [entry] = await entries()
  t.match(entry, { action: 'scim_user.created', member_id: member.id, detail: { member: 'created' } })
  const history = await db.selectFrom('access_changes').selectAll().execute()
  t.match(history, [{ member_id: member.id, status_before: null, status_after: 'active', role_after: 'member' }])
  const inactive = await createUser({ userName: 'gone@example.com', active: false })
  t.match(await memberOf(inactive.id), {
    status: 'deactivated',
    deactivated_by: 'directory',
    email: 'gone@example.com',
  })
})

t.test('whoever is in the workspace already is linked by their address; an invitation is complete', async t => {
  const { createUser, memberOf, db, workspaceId } = await makeDirectory(t)
  const make = async (email: string, values: object) => {
    const id = uuid7()
    const member = {
      workspace_id: workspaceId,
      id,
      email,
      email_key: email,
      role: 'admin',
      origin: 'invite',
      status: 'active',
    }
    await db
      .insertInto('members')
      .values({ ...member, ...values } as never)
      .execute()
    return id
  }
  const invited = await make('ana@example.com', { status: 'invited', invitation_expires_at: '2030-01-01T00:00:00Z' })
  const barred = await make('bea@example.com', { status: 'deactivated', deactivated_by: 'admin' })
  const ana = await createUser({ userName: 'ANA@example.com', displayName: 'Ana' })
  t.match(await memberOf(ana.id), {
    id: invited,
    status: 'active',
    role: 'admin',
    origin: 'invite',
    display_name: 'Ana',
  })
  const bea = await createUser({ userName: 'bea@example.com' })
  t.match(
    await memberOf(bea.id),
    { id: barred, status: 'deactivated', deactivated_by: 'admin' },
    'an admin has the last word',
  )
})

t.test('of two users with one address the second gets a member without it, and the entry says so', async t => {
  const { createUser, memberOf, entries, patch } = await makeDirectory(t)
  const emails = [{ value: 'team@example.com', type: 'work' }]
  const [one, two] = [await createUser({ userName: 'one', emails }), await createUser({ userName: 'two', emails })]
  const [first, second] = [await memberOf(one.id), await memberOf(two.id)]
  t.not(first.id, second.id)
  t.match([first.email, second.email], ['team@example.com', null])
  t.match((await entries()).at(-1)?.detail, { emailConflict: true })
  await patch(`/Users/${two.id}`, { op: 'replace', path: 'emails', value: [{ value: 'two@example.com' }] })
  t.equal((await memberOf(two.id)).email, 'two@example.com')
})

t.test('somebody who comes back finds their member again: by externalId, else by address', async t => {
  const { createUser, memberOf, send, db } = await makeDirectory(t)
  const leave = async (id: string) => t.equal((await send('DELETE', `/Users/${id}`)).statusCode, 204)
  const ana = await createUser({ userName: 'ana@example.com', externalId: 'x1' })
  const member = await memberOf(ana.id)
  await leave(ana.id)
  const gone = await db.selectFrom('members').selectAll().where('id', '=', member.id).executeTakeFirstOrThrow()
  t.match(gone, { status: 'deactivated', deactivated_by: 'directory' })
  const married = await createUser({ userName: 'ana.new@example.com', externalId: 'x1' })
  t.match(await memberOf(married.id), { id: member.id, status: 'active', email: 'ana.new@example.com' })
  await leave(married.id)
  const third = await createUser({ userName: 'ana.new@example.com', externalId: 'x2' })
  t.equal((await memberOf(third.id)).id, member.id)
  const history = await db
    .selectFrom('access_changes')
    .select(['status_before', 'status_after'])
    .orderBy('id')
    .execute()
  t.same(
    history.map(({ status_before, status_after }) => `${status_before}>${status_after}`),
    ['null>active', 'active>deactivated', 'deactivated>active', 'active>deactivated', 'deactivated>active'],
  )
})

t.test(
  'deactivation by PATCH, PUT and DELETE ends every session before it is answered, and reactivation starts none',
  async t => {
    const directory = await makeDirectory(t)
    const { app, createUser, memberOf, patch, send, db } = directory
    const replica = await makeReplica(t, directory)
    const whoAmI = (headers: object) => replica.app.inject({ url: '/v1/session', headers: headers as never })
    const off = { op: 'replace', path: 'active', value: false }
    for (const [name, end] of Object.entries({
      'PATCH active': (id: string) => patch(`/Users/${id}`, off),
      'PATCH without path': (id: string) => patch(`/Users/${id}`, { op: 'Replace', value: { active: 'False' } }),
      'PATCH with more': (id: string) =>
        patch(`/Users/${id}`, { op: 'replace', path: 'displayName', value: 'Gone' }, off),
      PUT: (id: string) =>
        send('PUT', `/Users/${id}`, { body: { schemas: [USER], userName: `put-${id}`, active: false } }),
      DELETE: (id: string) => send('DELETE', `/Users/${id}`),
    })) {
      const user = await createUser({ userName: name })
      const member = await memberOf(user.id)
      const session = await startSession(directory, member)
      t.equal((await app.inject({ url: '/v1/session', headers: session })).statusCode, 200, name)
      t.match((await end(user.id)).statusCode, /^20[04]$/)
      t.equal((await whoAmI(session)).statusCode, 401, `${name} ends the session on every replica`)
      const after = await db.selectFrom('members').selectAll().where('id', '=', member.id).executeTakeFirstOrThrow()
      t.match(after, { status: 'deactivated', deactivated_by: 'directory' }, name)
      if (name === 'DELETE') continue
      await patch(`/Users/${user.id}`, { op: 'replace', path: 'active', value: true })
      t.match(await memberOf(user.id), { status: 'active', deactivated_by: null }, name)
      t.equal((await whoAmI(session)).statusCode, 401, `${name}: the old session stays ended`)
    }
    t.equal((await memberOf((await createUser({ userName: 'x' })).id)).status, 'active')
  },
)

t.test('a name changes with a deactivation in the same request', async t => {
  const { createUser, memberOf, send, entries } = await makeDirectory(t)
  const { id } = await createUser({ userName: 'ana', displayName: 'Ana' })
  await send('PUT', `/Users/${id}`, {
    body: { schemas: [USER], userName: 'ana', displayName: 'Ana (left)', active: false },
  })
  t.match(await memberOf(id), { status: 'deactivated', display_name: 'Ana (left)' })
  t.match((await entries()).at(-1), { action: 'scim_user.deactivated', detail: { sessionsEnded: 0 } })
})

t.test('an owner is deactivated like anybody else, but the last one keeps access, and the entry says why', async t => {
  const { createUser, memberOf, patch, send, entries, db } = await makeDirectory(t)
  const [ana, bea] = [await createUser({ userName: 'ana' }), await createUser({ userName: 'bea' })]
  await db.updateTable('members').set({ role: 'owner' }).execute()
  const off = { op: 'replace', path: 'active', value: false }
  const replies = await Promise.all([patch(`/Users/${ana.id}`, off), patch(`/Users/${bea.id}`, off)])
  t.same(
    replies.map(reply => [reply.statusCode, reply.json().active]),
    [
      [200, false],
      [200, false],
    ],
  )
  const statuses = [await memberOf(ana.id), await memberOf(bea.id)].map(member => String(member.status))
  t.same(new Set(statuses), new Set(['active', 'deactivated']), 'of two at once, one stays')
  t.equal((await entries()).filter(entry => entry.detail.keptLastOwner === true).length, 1)
  const kept = (await memberOf(ana.id)).status === 'active' ? ana : bea
  t.equal((await send('DELETE', `/Users/${kept.id}`)).statusCode, 204)
  const owners = await db.selectFrom('members').select('id').where('status', '=', 'active').execute()
  t.equal(owners.length, 1, 'and also when the directory deletes the user')
})

t.test('concurrent writes: one name goes to one user, one address to one member, and no change is lost', async t => {
  const { createUser, send, patch, get, memberOf } = await makeDirectory(t)
  const create = (userName: string, email: string) =>
    send('POST', '/Users', { body: { schemas: [USER], userName, emails: [{ value: email }] } })
  const eight = Array.from({ length: 8 }, (_, index) => index)
  const same = await Promise.all(eight.map(() => create('race', 'race@example.com')))
  const taken = same.filter(reply => reply.statusCode === 409)
  t.same([same.filter(reply => reply.statusCode === 201).length, taken.length], [1, 7])
  const sharing = await Promise.all(eight.map(index => create(`user-${index}`, 'shared@example.com')))
  t.ok(sharing.every(reply => reply.statusCode === 201))
  const members = await Promise.all(sharing.map(reply => memberOf(reply.json().id)))
  t.equal(members.filter(member => member.email === 'shared@example.com').length, 1)
  t.equal(new Set(members.map(member => member.id)).size, 8)
  t.equal((await get('/Users?count=0')).totalResults, 9)

  const { id } = await createUser({ userName: 'busy' })
  const attributes = ['title', 'nickName', 'locale', 'timezone', 'userType', 'displayName']
  const patches = attributes.map(path => patch(`/Users/${id}`, { op: 'replace', path, value: path }))
  t.same(
    (await Promise.all(patches)).map(reply => reply.statusCode),
    attributes.map(() => 200),
  )
  t.match(await get(`/Users/${id}`), Object.fromEntries(attributes.map(name => [name, name])))
})

t.test('each request is one statement, a PATCH that must read is two, and a deletion a short transaction', async t => {
  const { createUser, createGroup, get, patch, send, statements } = await makeDirectory(t)
  const { id } = await createUser({ userName: 'warm-up' })
  const count = async (work: () => Promise<unknown>) => (await statements(work)).length
  t.equal(await count(() => createUser({ userName: 'ana' })), 1, 'create')
  t.equal(await count(() => get(`/Users/${id}`)), 1, 'get')
  t.equal(await count(() => get('/Users')), 1, 'list')
  t.equal(await count(() => get('/Users?filter=userName%20eq%20%22ana%22')), 1, 'look-up')
  const byEmail = encodeURIComponent('emails[type eq "work"].value eq "ana@example.com"')
  t.equal(await count(() => get(`/Users?filter=${byEmail}`)), 1, 'look-up by e-mail')
  t.equal(
    await count(() => get('/Users?filter=title%20co%20%22a%22')),
    4,
    'a search, in a transaction that limits its time',
  )
  t.equal(await count(() => patch(`/Users/${id}`, { op: 'replace', path: 'active', value: false })), 1, 'deactivate')
  t.equal(await count(() => patch(`/Users/${id}`, { op: 'replace', path: 'title', value: 'x' })), 2, 'general PATCH')
  t.equal(
    await count(() => send('PUT', `/Users/${id}`, { body: { schemas: [USER], userName: 'warm-up', title: 'y' } })),
    1,
    'replace',
  )
  const group = await createGroup('warm-up')
  t.equal(await count(() => createGroup('Weavers', [id])), 1, 'create a group')
  t.equal(await count(() => get(`/Groups/${group.id}`)), 1, 'get a group')
  t.equal(await count(() => get('/Groups')), 1, 'list groups')
  t.equal(
    await count(() => patch(`/Groups/${group.id}`, { op: 'add', path: 'members', value: [{ value: id }] })),
    1,
    'add',
  )
  t.equal(
    await count(() => patch(`/Groups/${group.id}`, { op: 'remove', path: `members[value eq "${id}"]` })),
    1,
    'remove',
  )
  const typed = { op: 'add', path: 'members', value: [{ value: id, type: 'User' }] }
  t.equal(await count(() => patch(`/Groups/${group.id}`, typed)), 1, 'add of a member that says what it is')
  t.equal(await count(() => send('DELETE', `/Groups/${group.id}`)), 1, 'delete a group')
  t.equal(await count(() => send('DELETE', `/Users/${id}`)), 5, 'delete: begin, lock, owners, delete, commit')
})

const active = (value: boolean) => ({ op: 'replace', path: 'active', value })

t.test('an admin who ends the access while the directory lets somebody come back prevails', async t => {
  const { app, db, url, headers, createUser, patch, send, memberOf } = await makeDirectory(t)
  const isWaited = async () => {
    for (let tries = 0; tries < 300; tries++) {
      const { rows } = await sql`
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`.execute(db)
      if (rows.length > 0) return
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    t.fail('nobody waits')
  }
  const ways = {
    'a PATCH of active alone': async (id: string) => patch(`/Users/${id}`, active(true)),
    'a PATCH of more': async (id: string) =>
      patch(`/Users/${id}`, active(true), { op: 'replace', path: 'title', value: 'Back' }),
    'a PUT': async (id: string) =>
      send('PUT', `/Users/${id}`, { body: { schemas: [USER], userName: `${id}@example.com`, active: true } }),
  }
  for (const [way, comeBack] of Object.entries(ways)) {
    const { id } = await createUser({ userName: uuid7(), emails: [{ value: `${uuid7()}@example.com` }] })
    await patch(`/Users/${id}`, active(false))
    const member = await memberOf(id)
    t.match(member, { status: 'deactivated', deactivated_by: 'directory' })
    // The directory has read that it was its own word, and waits for the row that the admin holds.
    const admin = await db.startTransaction().execute()
    await admin.updateTable('members').set({ deactivated_by: 'admin' }).where('id', '=', member.id).execute()
    const coming = comeBack(id)
    await isWaited()
    await admin.commit().execute()
    t.match((await coming).json(), { active: true }, `${way}: kept as the directory sent it`)
    t.match(await memberOf(id), { status: 'deactivated', deactivated_by: 'admin' }, way)
    const history = db.selectFrom('access_changes').select('status_after').where('member_id', '=', member.id)
    const last = await history.orderBy('entry_id', 'desc').limit(1).executeTakeFirst()
    t.match(last, { status_after: 'deactivated' }, `${way}: and the history says nothing else`)
  }

  const { id } = await createUser({ userName: 'to-and-fro', emails: [{ value: 'to-and-fro@example.com' }] })
  const { id: memberId } = await memberOf(id)
  const act = async (verb: string) => app.inject({ method: 'POST', url: `${url}/members/${memberId}/${verb}`, headers })
  for (let round = 0; round < 20; round++) {
    await patch(`/Users/${id}`, active(false))
    const [, ended] = await Promise.all([patch(`/Users/${id}`, active(true)), act('deactivate')])
    const by = ended.statusCode === 200 ? { status: 'deactivated', deactivated_by: 'admin' } : { status: 'active' }
    t.match(await memberOf(id), by, `round ${round}: ${ended.statusCode}`)
    await patch(`/Users/${id}`, active(true))
    t.match(await memberOf(id), by, 'and the directory asks in vain')
    if (ended.statusCode === 200) t.equal((await act('reactivate')).statusCode, 200)
  }
})
