import { randomBytes } from 'node:crypto'
import t from 'tap'
import { getSessionById } from '../../src/members/sessions.ts'
import { makeOpaqueToken } from '../../src/opaque-token.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { bearer, makeApp, makeWorkspace, serviceHeaders } from '../helpers/app.ts'

const test = await makeApp(t)

interface Sent {
  payload?: object
  headers?: Record<string, string>
}

/** A workspace with an owner olga, and requests by an admin. */
async function makeWorld() {
  const workspace = await makeWorkspace(test)
  const { workspaceId, url } = workspace
  const admin = await bearer({ workspace: workspaceId, role: 'admin', sub: 'user-admin' })
  const send = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, sent: Sent = {}) =>
    test.app.inject({
      method,
      url: `${url}/members${path}`,
      headers: { ...admin, ...sent.headers },
      ...(sent.payload && { payload: sent.payload }),
    })
  const addMember = async (name: string, role = 'member') => {
    const id = uuid7()
    const email = `${name}@example.com`
    const manual = role === 'member' ? {} : ({ manual_role: role, manual_policy: 'floor' } as const)
    const person = { email, email_key: email, status: 'active', origin: 'sso', role } as const
    await test.db
      .insertInto('members')
      .values({ workspace_id: workspaceId, id, ...person, ...manual })
      .execute()
    return id
  }
  return {
    ...test,
    ...workspace,
    admin,
    send,
    addMember,
    olga: await addMember('olga', 'owner'),
    invite: (payload: object, headers = {}) => send('POST', '', { payload, headers }),
    /** A live session, as a sign-in leaves it. */
    addSession: async (memberId: string) => {
      const issuer = 'https://idp.example.com'
      const identity = { workspace_id: workspaceId, issuer, subject: memberId, member_id: memberId } as const
      await test.db
        .insertInto('identities')
        .values({ ...identity, linked_by: 'email', last_sign_in_at: '2026-01-02T03:04:05.000Z' })
        .execute()
      await test.db
        .insertInto('sessions')
        .values({ ...identity, id: uuid7(), idle_minutes: 60, expires_at: '2099-01-01T00:00:00Z' })
        .execute()
    },
    liveSessions: async (memberId: string) =>
      (
        await test.db
          .selectFrom('sessions')
          .select('id')
          .where('member_id', '=', memberId)
          .where('ended_at', 'is', null)
          .execute()
      ).length,
    /** The member as a directory's user. */
    addDirectoryUser: async (memberId: string, active: boolean) => {
      const directory = { workspace_id: workspaceId, id: uuid7(), name: 'Okta' }
      await test.db.insertInto('directories').values(directory).execute()
      const key = { workspace_id: workspaceId, directory_id: directory.id, id: uuid7(), member_id: memberId }
      await test.db
        .insertInto('scim_users')
        .values({ ...key, user_name: 'ana', user_name_key: 'ana', active, doc: '{}' })
        .execute()
      return { directoryId: directory.id, userId: key.id, active }
    },
    entries: () =>
      test.db
        .selectFrom('activity_entries')
        .select(['action', 'member_id', 'detail', 'id'])
        .where('workspace_id', '=', workspaceId)
        .where(eb => eb.or([eb('action', 'like', 'member.%'), eb('action', 'like', 'identity.%')]))
        .orderBy('id')
        .execute(),
    history: (memberId: string) =>
      test.db
        .selectFrom('access_changes')
        .select(['status_before', 'status_after', 'role_before', 'role_after', 'entry_id'])
        .where('member_id', '=', memberId)
        .orderBy('id')
        .execute(),
  }
}

t.test('an invitation makes a member who waits; its role is a floor', async t => {
  const { invite, send, workspaceId, entries, history, log, config } = await makeWorld()
  const plain = await invite({ email: ' Ana@Example.COM ', displayName: 'Ana Example' })
  t.equal(plain.statusCode, 201)
  const { id, invitationExpiresAt } = plain.json()
  t.equal(plain.headers.location, `/v1/workspaces/${workspaceId}/members/${id}`)
  t.match(plain.json(), { email: 'Ana@Example.COM', displayName: 'Ana Example', status: 'invited', origin: 'invite' })
  t.match(plain.json(), { role: 'member', manualRole: null, manualPolicy: null, directoryUsers: [], identities: [] })
  t.ok(Math.abs(Date.parse(invitationExpiresAt) - Date.now() - config.invitationDays * 86_400_000) < 60_000)
  t.same((await send('GET', `/${id}`)).json(), plain.json())

  const raised = (await invite({ email: 'bea@example.com', role: 'admin' })).json()
  t.match(raised, { role: 'admin', manualRole: 'admin', manualPolicy: 'floor' })
  t.match((await invite({ email: 'ivo@example.com', role: 'viewer' })).json(), { role: 'member', manualRole: 'viewer' })
  const [, entry] = await entries()
  t.match(entry, { action: 'member.invited', member_id: raised.id, detail: { role: 'admin' } })
  t.same(await history(raised.id), [
    { status_before: null, status_after: 'invited', role_before: null, role_after: 'member', entry_id: entry?.id },
    {
      status_before: 'invited',
      status_after: 'invited',
      role_before: 'member',
      role_after: 'admin',
      entry_id: entry?.id,
    },
  ])
  t.notMatch(JSON.stringify(await entries()) + log(), 'example.com', 'no address in entries or log')
})

t.test('an address is invited once; the refusal says what to do instead', async t => {
  const { invite, send, addMember } = await makeWorld()
  const { id } = (await invite({ email: 'ana@example.com' })).json()
  t.match((await invite({ email: 'ANA@example.com' })).json(), { status: 409, code: 'conflict', detail: /Withdraw.*/ })
  await addMember('bea')
  t.match((await invite({ email: 'bea@example.com' })).json(), { code: 'conflict', detail: /member already/ })
  await send('POST', `/${id}/deactivate`)
  t.match((await invite({ email: 'ana@example.com' })).json(), { code: 'conflict', detail: /Reactivate/ })
})

t.test('nobody gives a role above their own, or acts on somebody above them', async t => {
  const { invite, send, olga, headers, addMember } = await makeWorld()
  const owner = { headers }
  t.match((await invite({ email: 'ana@example.com', role: 'owner' })).json(), { status: 403, code: 'role_above_own' })
  t.match((await invite({ email: 'ana@example.com', role: 'emperor' })).json(), { status: 400, code: 'role_unknown' })
  t.equal((await invite({ email: 'ana@example.com', role: 'owner' }, headers)).statusCode, 201)
  t.equal((await invite({ email: 'bea@example.com', role: 'owner' }, serviceHeaders)).statusCode, 201)
  const grant = { payload: { grant: 'locked', role: 'viewer' } }
  for (const reply of [
    await send('PATCH', `/${olga}`, grant),
    await send('POST', `/${olga}/deactivate`),
    await send('DELETE', `/${olga}/identities`),
  ]) {
    t.match(reply.json(), { status: 403, code: 'role_above_own' })
  }
  const ivo = await addMember('ivo')
  t.match((await send('PATCH', `/${ivo}`, { payload: { grant: 'floor', role: 'owner' } })).json(), {
    code: 'role_above_own',
  })
  const raised = await send('PATCH', `/${ivo}`, { payload: { grant: 'floor', role: 'owner' }, ...owner })
  t.match(raised.json(), { role: 'owner' })
})

t.test('a manual role is a floor, locked, or taken back, each with its entry and history', async t => {
  const { send, addMember, entries, history } = await makeWorld()
  const ana = await addMember('ana')
  const patch = (payload: object, headers = {}) => send('PATCH', `/${ana}`, { payload, headers })
  t.match((await patch({ grant: 'floor', role: 'admin' })).json(), { role: 'admin', manualPolicy: 'floor' })
  t.match((await patch({ grant: 'locked', role: 'viewer' })).json(), { role: 'viewer', manualPolicy: 'locked' })
  const { version } = (await patch({ grant: 'locked', role: 'viewer' })).json()
  t.match((await patch({ grant: 'none' }, { 'if-match': `"${version - 1}"` })).json(), {
    status: 412,
    code: 'version_conflict',
  })
  const freed = await patch({ grant: 'none' }, { 'if-match': `"${version}"` })
  t.match(freed.json(), { role: 'member', manualRole: null })
  t.match(
    (await entries()).map(entry => entry.detail),
    [
      { manualRole: { before: { role: null }, after: { role: 'admin', policy: 'floor' } } },
      { manualRole: { before: { role: 'admin' }, after: { role: 'viewer', policy: 'locked' } } },
      { manualRole: { before: { role: 'viewer' }, after: { role: null } } },
    ],
  )
  t.same(
    (await history(ana)).map(each => each.role_after),
    ['admin', 'viewer', 'member'],
  )
})

t.test('the last owner is neither demoted nor deactivated; with a second one they are', async t => {
  const { send, olga, headers, addMember } = await makeWorld()
  const demote = () => send('PATCH', `/${olga}`, { payload: { grant: 'none' }, headers })
  const deactivate = () => send('POST', `/${olga}/deactivate`, { headers })
  t.match((await demote()).json(), { status: 409, code: 'last_owner' })
  t.match((await deactivate()).json(), { status: 409, code: 'last_owner' })
  t.match((await send('GET', `/${olga}`)).json(), { role: 'owner', status: 'active', manualRole: 'owner' })
  const second = await addMember('second', 'owner')
  const both = await Promise.all([demote(), send('PATCH', `/${second}`, { payload: { grant: 'none' }, headers })])
  t.same(
    both.map(reply => reply.statusCode).toSorted((a, b) => a - b),
    [200, 409],
    'two at once: one stays',
  )
})

t.test('deactivating ends sessions before the answer; reactivating lets in again, without a session', async t => {
  const { send, addMember, addSession, liveSessions, entries, history } = await makeWorld()
  const ana = await addMember('ana')
  await addSession(ana)
  t.match((await send('GET', `/${ana}`)).json(), {
    lastSignInAt: '2026-01-02T03:04:05.000Z',
    identities: [{ issuer: 'https://idp.example.com', subject: ana, linkedBy: 'email' }],
  })
  t.match((await send('POST', `/${ana}/deactivate`)).json(), { status: 'deactivated', deactivatedBy: 'admin' })
  t.equal(await liveSessions(ana), 0)
  t.match((await send('POST', `/${ana}/deactivate`)).json(), { status: 409, code: 'conflict' })
  t.match((await send('POST', `/${ana}/reactivate`)).json(), { status: 'active', deactivatedBy: null })
  t.equal(await liveSessions(ana), 0)
  t.match((await send('POST', `/${ana}/reactivate`)).json(), { status: 409, code: 'conflict' })
  t.match(await entries(), [
    { action: 'member.deactivated', member_id: ana, detail: { sessionsEnded: 1 } },
    { action: 'member.reactivated', member_id: ana },
  ])
  t.match(await history(ana), [
    { status_before: 'active', status_after: 'deactivated' },
    { status_before: 'deactivated', status_after: 'active' },
  ])
})

t.test('a session that began while access was being ended does not come back with the member', async t => {
  const { send, addMember, workspaceId } = await makeWorld()
  const ana = await addMember('ana')
  const start = async () => {
    const id = uuid7()
    const proof = {
      issuer: 'https://idp.example.com',
      subject: 'ana',
      idle_minutes: 60,
      expires_at: '2099-01-01T00:00:00Z',
    }
    const token_hash = randomBytes(32)
    await test.db
      .insertInto('sessions')
      .values({ workspace_id: workspaceId, id, member_id: ana, token_hash, ...proof })
      .execute()
    return { workspaceId, sessionId: id }
  }
  await send('POST', `/${ana}/deactivate`)
  const slow = await start()
  await t.rejects(getSessionById(test.db, slow), { code: 'session_ended' })
  await send('POST', `/${ana}/reactivate`)
  await t.rejects(getSessionById(test.db, slow), { code: 'session_ended' }, 'not even now')
  t.match(await getSessionById(test.db, await start()), { memberId: ana })
})

t.test('a deactivation through one replica is refused by another on the very next request', async t => {
  const { send, addMember, workspaceId } = await makeWorld()
  const other = await makeApp(t, { replicaOf: test })
  const ana = await addMember('ana')
  const { token, hash: token_hash } = makeOpaqueToken('ses', workspaceId)
  const proof = {
    issuer: 'https://idp.example.com',
    subject: 'ana',
    idle_minutes: 60,
    expires_at: '2099-01-01T00:00:00Z',
  }
  const session = { workspace_id: workspaceId, id: uuid7(), member_id: ana, token_hash, ...proof }
  await test.db.insertInto('sessions').values(session).execute()
  const ask = async () =>
    (await other.app.inject({ url: '/v1/session', headers: { authorization: `Bearer ${token}` } })).statusCode
  t.equal(await ask(), 200)
  t.equal((await send('POST', `/${ana}/deactivate`)).statusCode, 200)
  t.equal(await ask(), 401)
})

t.test('whom a directory calls inactive only the directory lets in again', async t => {
  const { send, addMember, addDirectoryUser } = await makeWorld()
  const [ana, bea] = [await addMember('ana'), await addMember('bea')]
  const owned = await addDirectoryUser(ana, false)
  await addDirectoryUser(bea, true)
  for (const id of [ana, bea]) await send('POST', `/${id}/deactivate`)
  t.match((await send('POST', `/${ana}/reactivate`)).json(), { status: 409, code: 'directory_owned', detail: /Okta/ })
  t.equal((await send('POST', `/${bea}/reactivate`)).statusCode, 200)
  t.same((await send('GET', `/${ana}`)).json().directoryUsers, [owned])
})

t.test('an invitation can be withdrawn, a member cannot be deleted', async t => {
  const { invite, send, addMember, history, entries } = await makeWorld()
  const { id } = (await invite({ email: 'ana@example.com' })).json()
  t.equal((await send('DELETE', `/${id}`)).statusCode, 204)
  t.match((await send('DELETE', `/${id}`)).json(), { status: 404, code: 'not_found' })
  t.match((await history(id)).at(-1), { status_before: 'invited', status_after: 'withdrawn' })
  t.match((await entries()).at(-1), { action: 'member.invitation_withdrawn', member_id: id })
  t.equal((await invite({ email: 'ana@example.com' })).statusCode, 201, 'and the address invited anew')
  t.match((await send('DELETE', `/${await addMember('bea')}`)).json(), { status: 409, code: 'conflict' })
})

t.test('resetting the links of a member ends the sessions that rest on them', async t => {
  const { send, addMember, addSession, liveSessions, entries } = await makeWorld()
  const ana = await addMember('ana')
  await addSession(ana)
  t.equal((await send('DELETE', `/${ana}/identities`)).statusCode, 204)
  t.equal((await send('DELETE', `/${ana}/identities`)).statusCode, 204, 'nothing left')
  t.match((await send('GET', `/${ana}`)).json(), { identities: [], lastSignInAt: null, status: 'active' })
  t.equal(await liveSessions(ana), 0)
  t.match(await entries(), [
    { action: 'identity.unlinked', member_id: ana, detail: { issuers: ['https://idp.example.com'], sessionsEnded: 1 } },
  ])
})

t.test('the list is paged, and filtered by status, role and how the address begins', async t => {
  const { send, addMember, invite, olga, statements } = await makeWorld()
  const [ana, bea] = [await addMember('ana'), await addMember('bea')]
  const ivo = (await invite({ email: 'Ivo@example.com', role: 'admin' })).json().id
  const list = async (query: string) => (await send('GET', `?${query}`)).json()
  const ids = async (query: string) => (await list(query)).items.map((each: { id: string }) => each.id)
  const first = await list('limit=3')
  t.same(
    first.items.map((each: { id: string }) => each.id),
    [olga, ana, bea],
  )
  t.same(await ids(`limit=3&after=${first.next}`), [ivo])
  t.same(await ids('status=invited'), [ivo])
  t.same(await ids('role=owner'), [olga])
  t.same(await ids('q=iVO@'), [ivo])
  t.same(await ids('q=%25'), [], 'a wildcard is a character')
  t.match(await list('role=emperor'), { status: 400, code: 'role_unknown' })
  t.match(await list('status=gone'), { status: 400, code: 'invalid', errors: [{ pointer: '/status' }] })
  const sent = await statements(() => list('limit=3'))
  t.equal(sent.length, 2, 'the workspace and the page, however many members')
})

t.test('bad bodies are refused by their pointer, and other workspaces see nothing', async t => {
  const { send, invite, addMember, app } = await makeWorld()
  const ana = await addMember('ana')
  for (const [pointer, reply] of [
    ['/email', await invite({ email: 'ana' })],
    ['/email', await invite({ email: 'ana@example.com@evil.example' })],
    ['/name', await invite({ email: 'x@example.com', name: 'X' })],
    ['/grant', await send('PATCH', `/${ana}`, { payload: { grant: 'ceiling', role: 'admin' } })],
    ['/role', await send('PATCH', `/${ana}`, { payload: { grant: 'none', role: 'admin' } })],
    ['/role', await send('PATCH', `/${ana}`, { payload: { grant: 'floor' } })],
    ['/memberId', await send('GET', '/ana')],
  ] as const) {
    t.match(reply.json(), { status: 400, code: 'invalid', errors: [{ pointer }] })
  }
  const foreign = await makeWorkspace(test, { name: 'globex' })
  for (const [method, path, payload] of [
    ['GET', ''],
    ['PATCH', '', { grant: 'none' }],
    ['DELETE', ''],
    ['POST', '/deactivate'],
    ['POST', '/reactivate'],
    ['DELETE', '/identities'],
  ] as const) {
    const url = `${foreign.url}/members/${ana}${path}`
    const reply = await app.inject({ method, url, headers: foreign.headers, ...(payload && { payload }) })
    t.match(reply.json(), { status: 404, code: 'not_found' }, `${method} ${path}`)
  }
})
