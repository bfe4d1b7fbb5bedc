import t from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { makeApp, makeWorkspace } from '../helpers/app.ts'

const test = await makeApp(t)

interface Sent {
  payload?: object
  headers?: Record<string, string>
}

/** A workspace, and requests by its owner. */
async function makeWorld() {
  const workspace = await makeWorkspace(test)
  const { workspaceId, url, headers } = workspace
  const send = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, sent: Sent = {}) => {
    const { payload, headers: more } = sent
    const at = `${url}/directories${path}`
    return test.app.inject({ method, url: at, headers: { ...headers, ...more }, ...(payload && { payload }) })
  }
  return {
    ...test,
    ...workspace,
    send,
    create: async (name = 'Okta') => (await send('POST', '', { payload: { name } })).json().id as string,
    entries: () =>
      test.db
        .selectFrom('activity_entries')
        .select(['action', 'target_id', 'detail'])
        .where('workspace_id', '=', workspaceId)
        .where('action', 'like', 'directory%')
        .orderBy('id')
        .execute(),
    /** A person in a directory, as SCIM would leave them. */
    addUser: async (directoryId: string) => {
      const memberId = uuid7()
      const key = { workspace_id: workspaceId, directory_id: directoryId }
      const member = {
        workspace_id: workspaceId,
        id: memberId,
        status: 'active',
        role: 'member',
        origin: 'directory',
      } as const
      await test.db.insertInto('members').values(member).execute()
      const user = { id: uuid7(), user_name: 'ana', user_name_key: 'ana', active: true, member_id: memberId, doc: '{}' }
      await test.db
        .insertInto('scim_users')
        .values({ ...key, ...user })
        .execute()
      return user
    },
    addGroup: async (directoryId: string, name: string) => {
      const group = { id: uuid7(), display_name: name, display_name_key: name.toLowerCase(), doc: '{}' }
      const key = { workspace_id: workspaceId, directory_id: directoryId }
      await test.db
        .insertInto('scim_groups')
        .values({ ...key, ...group })
        .execute()
      return group
    },
  }
}

t.test('a directory is created, read, renamed, switched off and deleted, with an entry for each change', async t => {
  const { send, entries, workspaceId } = await makeWorld()
  const created = await send('POST', '', { payload: { name: ' Okta ' } })
  t.equal(created.statusCode, 201)
  const { id, scimEndpoint } = created.json()
  t.match(created.json(), { name: 'Okta', mode: 'tolerant', enabled: true, version: 1 })
  t.equal(scimEndpoint, `https://sso.assist.example/scim/v2/${id}`)
  t.equal(created.headers.location, `/v1/workspaces/${workspaceId}/directories/${id}`)
  t.same((await send('GET', `/${id}`)).json(), created.json())
  t.same((await send('GET', '')).json(), { items: [created.json()] })

  const changed = await send('PATCH', `/${id}`, { payload: { mode: 'strict', enabled: false } })
  t.match(changed.json(), { name: 'Okta', mode: 'strict', enabled: false, version: 2 })
  t.equal(changed.headers.etag, '"2"')
  t.equal((await send('PATCH', `/${id}`, { payload: { mode: 'strict' } })).json().version, 2, 'no change is no version')
  t.equal((await send('DELETE', `/${id}`)).statusCode, 204)
  t.match((await send('GET', `/${id}`)).json(), { status: 404, code: 'not_found' })
  t.match(await entries(), [
    { action: 'directory.created', target_id: id, detail: { name: 'Okta', mode: 'tolerant' } },
    { action: 'directory.updated', target_id: id, detail: { mode: 'strict', enabled: false } },
    { action: 'directory.deleted', target_id: id, detail: { name: 'Okta' } },
  ])
})

t.test('If-Match guards the change and the end of a directory', async t => {
  const { send, create } = await makeWorld()
  const id = await create()
  const stale = { 'if-match': '"9"' }
  t.match((await send('PATCH', `/${id}`, { payload: { name: 'x' }, headers: stale })).json(), {
    code: 'version_conflict',
  })
  t.match((await send('PATCH', `/${id}`, { payload: { name: 'Okta' }, headers: stale })).json(), { status: 412 })
  t.match((await send('DELETE', `/${id}`, { headers: stale })).json(), { status: 412, code: 'version_conflict' })
  t.equal((await send('PATCH', `/${id}`, { payload: { name: 'x' }, headers: { 'if-match': '"1"' } })).statusCode, 200)
})

t.test('a directory that holds users is not deleted; its groups and tokens go with it', async t => {
  const { send, create, addUser, addGroup, db } = await makeWorld()
  const [full, empty] = [await create('Full'), await create('Empty')]
  await addUser(full)
  await addGroup(empty, 'Sales')
  await send('POST', `/${empty}/tokens`)
  t.match((await send('DELETE', `/${full}`)).json(), { status: 409, code: 'conflict', detail: /still holds users/ })
  t.equal((await send('DELETE', `/${empty}`)).statusCode, 204)
  t.same(await db.selectFrom('scim_groups').select('id').where('directory_id', '=', empty).execute(), [])
  t.same(await db.selectFrom('directory_credentials').select('id').where('directory_id', '=', empty).execute(), [])
})

t.test('a token is shown once and stored as a hash; the list has its hint and its life', async t => {
  const { send, create, db, log, entries } = await makeWorld()
  const id = await create()
  const created = await send('POST', `/${id}/tokens`, { payload: { expiresInDays: 30 } })
  t.equal(created.statusCode, 201)
  t.equal(created.headers['cache-control'], 'no-store')
  const { token, id: tokenId, expiresAt, scimEndpoint } = created.json()
  t.match(token, /^scim_[A-Za-z0-9_-]{64}$/)
  t.match(scimEndpoint, id)
  t.ok(Math.abs(Date.parse(expiresAt) - Date.now() - 30 * 86_400_000) < 60_000)
  const listed = await send('GET', `/${id}/tokens`)
  t.match(listed.json().items, [{ id: tokenId, status: 'live', hint: token.slice(-4), lastUsedAt: null }])
  const [row] = await db.selectFrom('directory_credentials').selectAll().where('directory_id', '=', id).execute()
  t.equal(row?.token_hash.length, 32)
  for (const text of [listed.body, JSON.stringify(row), JSON.stringify(await entries()), log()]) {
    t.notMatch(text, token.slice(5, 60))
  }
})

t.test('two tokens are live at once, so that one is replaced without a gap; a third has to wait', async t => {
  const { send, create, db, entries } = await makeWorld()
  const id = await create()
  const make = () => send('POST', `/${id}/tokens`)
  const replies = await Promise.all([make(), make(), make()])
  t.same(
    replies.map(reply => reply.statusCode).toSorted((a, b) => a - b),
    [201, 201, 409],
  )
  t.match((await make()).json(), { code: 'token_limit' })
  const first = replies.find(reply => reply.statusCode === 201)?.json().id
  t.equal((await send('DELETE', `/${id}/tokens/${first}`)).statusCode, 204)
  t.equal((await send('DELETE', `/${id}/tokens/${first}`)).statusCode, 204, 'again')
  t.equal((await make()).statusCode, 201)
  await db.updateTable('directory_credentials').set({ expires_at: '2026-01-01T00:00:00Z' }).execute()
  t.equal((await make()).statusCode, 201, 'an expired one does not count')
  const { items } = (await send('GET', `/${id}/tokens`)).json()
  t.same(items.map((each: { status: string }) => each.status).toSorted(), ['expired', 'expired', 'live', 'revoked'])
  t.equal((await entries()).filter(each => each.action === 'directory_token.revoked').length, 1)
})

t.test('groups and users are listed page by page, as the directory sent them', async t => {
  const { send, create, addUser, addGroup } = await makeWorld()
  const id = await create()
  for (const name of ['Sales', 'Support', 'Engineering']) await addGroup(id, name)
  const user = await addUser(id)
  const names: string[] = []
  let next = ''
  do {
    const page = (await send('GET', `/${id}/groups?limit=2${next}`)).json()
    t.ok(page.items.length <= 2)
    names.push(...page.items.map((group: { displayName: string }) => group.displayName))
    next = page.next === undefined ? '' : `&after=${page.next}`
  } while (next !== '')
  t.same(names, ['Sales', 'Support', 'Engineering'])
  t.match((await send('GET', `/${id}/users`)).json(), {
    items: [{ id: user.id, userName: 'ana', active: true, memberId: user.member_id }],
  })
})

t.test('what belongs to another workspace is not there, and bad input is refused by its pointer', async t => {
  const { send, create, app } = await makeWorld()
  const id = await create()
  const foreign = await makeWorkspace(test, { name: 'globex' })
  for (const [method, path] of [
    ['GET', ''],
    ['PATCH', ''],
    ['DELETE', ''],
    ['GET', '/tokens'],
    ['POST', '/tokens'],
    ['DELETE', `/tokens/${uuid7()}`],
    ['GET', '/groups'],
    ['GET', '/users'],
  ] as const) {
    const at = `${foreign.url}/directories/${id}${path}`
    const payload = method === 'PATCH' ? { name: 'mine' } : undefined
    const reply = await app.inject({ method, url: at, headers: foreign.headers, ...(payload && { payload }) })
    t.match(reply.json(), { status: 404, code: 'not_found' }, `${method} ${path}`)
  }
  t.match((await send('DELETE', `/${id}/tokens/${uuid7()}`)).json(), { status: 404 })
  for (const [pointer, reply] of [
    ['/name', await send('POST', '', { payload: { name: ' ' } })],
    ['/mode', await send('POST', '', { payload: { name: 'Okta', mode: 'lax' } })],
    ['/type', await send('POST', '', { payload: { name: 'Okta', type: 'okta' } })],
    ['/expiresInDays', await send('POST', `/${id}/tokens`, { payload: { expiresInDays: 0 } })],
    ['/after', await send('GET', '?after=1')],
    ['/limt', await send('GET', '?limt=1')],
  ] as const) {
    t.match(reply.json(), { status: 400, code: 'invalid', errors: [{ pointer }] })
  }
  t.match((await send('GET', `/${id}?expand=tokens`)).json(), { code: 'invalid', detail: /expand/ })
  t.match((await send('DELETE', `/${id}`, { payload: { force: true } })).json(), { code: 'invalid', detail: /no body/ })
})
