import t from 'tap'
import { bearer, makeApp, makeWorkspace, serviceHeaders, signToken } from '../helpers/app.ts'
import { uuid7 } from '../../src/uuid7.ts'

t.test('PUT creates a workspace, brings it to another state, and changes nothing where nothing differs', async t => {
  const { app, db } = await makeApp(t)
  const url = `/v1/workspaces/${uuid7()}`
  const put = (payload: object) => app.inject({ method: 'PUT', url, headers: serviceHeaders, payload })
  const created = await put({ name: 'acme' })
  t.equal(created.statusCode, 200)
  t.match(created.json(), { name: 'acme', defaultRole: 'member', version: 1 })
  t.match((await put({ name: 'acme', defaultRole: 'viewer' })).json(), { defaultRole: 'viewer', version: 2 })
  t.match((await put({ name: 'acme', defaultRole: 'viewer' })).json(), { version: 2 })
  const entries = await db.selectFrom('activity_entries').select(['action', 'actor_type']).orderBy('id').execute()
  t.same(entries, [
    { action: 'workspace.saved', actor_type: 'service' },
    { action: 'workspace.saved', actor_type: 'service' },
  ])
})

t.test('bad input is refused by its own code and changes nothing', async t => {
  const { app, db } = await makeApp(t)
  const url = `/v1/workspaces/${uuid7()}`
  const put = (payload: object | string, headers = {}) =>
    app.inject({ method: 'PUT', url, headers: { ...serviceHeaders, ...headers }, payload })
  const json = { 'content-type': 'application/json' }
  for (const [code, reply] of [
    ['invalid', await put({ name: '' })],
    ['invalid', await put({ name: 'acme', colour: 'red' })],
    ['role_unknown', await put({ name: 'acme', defaultRole: 'emperor' })],
    ['malformed_json', await put('{"name"', json)],
    ['malformed_json', await put('{"__proto__": {}, "name": "acme"}', json)],
    ['unsupported_media_type', await put('name=acme', { 'content-type': 'text/plain' })],
    ['body_too_large', await put({ name: 'a'.repeat(300_000) })],
  ] as const) {
    t.equal(reply.json().code, code)
    t.equal(reply.headers['content-type'], 'application/problem+json')
    t.ok(reply.json().requestId)
  }
  const large = (await put({ name: 'a'.repeat(262_144) })).json()
  t.match(large, { status: 413, detail: 'The request body is larger than the 262144 bytes that are taken here.' })
  t.same(await db.selectFrom('workspaces').selectAll().execute(), [])
  t.same(await db.selectFrom('activity_entries').selectAll().execute(), [])
})

t.test('a token is refused unless its signature, issuer, audience and times are right', async t => {
  const { app } = await makeApp(t)
  const now = Math.floor(Date.now() / 1000)
  const good = { sub: 's', scope: 'assist:workspaces' }
  const get = async (authorization?: string) =>
    app.inject({ url: `/v1/workspaces/${uuid7()}`, ...(authorization && { headers: { authorization } }) })
  const signed = async (claims: object) => get(`Bearer ${await signToken({ ...good, ...claims })}`)
  t.equal((await signed({})).statusCode, 404)
  t.equal((await signed({ exp: now - 20 })).statusCode, 404, 'within the clock tolerance')
  for (const reply of [
    await get(),
    await get('Bearer nonsense'),
    await get(`Bearer ${(await signToken(good)).slice(0, -4)}AAAA`),
    await signed({ iss: 'https://evil.example' }),
    await signed({ aud: 'another-api' }),
    await signed({ exp: now - 90 }),
    await signed({ exp: undefined }),
    await signed({ nbf: now + 600 }),
    await signed({ sub: undefined }),
    await signed({ scope: undefined }),
  ]) {
    t.equal(reply.statusCode, 401)
    t.match(reply.json(), { code: /^(unauthenticated|session_ended)$/ })
    t.equal(reply.headers['www-authenticate'], 'Bearer')
  }
})

t.test('only admins and owners reach their workspace; a foreign and an unknown one are the same 404', async t => {
  const test = await makeApp(t)
  const { workspaceId, url, headers } = await makeWorkspace(test)
  const foreign = await makeWorkspace(test, { name: 'globex' })
  const activity = (where: string, as: { authorization: string }) =>
    test.app.inject({ url: `${where}/activity`, headers: as })
  t.equal((await activity(url, headers)).statusCode, 200)
  t.equal((await activity(url, serviceHeaders)).statusCode, 200)
  t.match((await activity(url, await bearer({ workspace: workspaceId, role: 'admin' }))).statusCode, 200)
  for (const role of ['member', 'viewer', 'emperor']) {
    const reply = await activity(url, await bearer({ workspace: workspaceId, role }))
    t.match(reply.json(), { status: 403, code: 'forbidden' })
  }
  const theirs = await activity(foreign.url, headers)
  const nobodys = await activity(`/v1/workspaces/${uuid7()}`, headers)
  t.equal(theirs.statusCode, 404)
  const { requestId: _theirs, ...theirProblem } = theirs.json()
  const { requestId: _nobodys, ...nobodysProblem } = nobodys.json()
  t.same(theirProblem, nobodysProblem)
  t.equal((await test.app.inject({ method: 'PUT', url, headers, payload: { name: 'mine' } })).json().code, 'forbidden')
})
