import { connect, type AddressInfo } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { bearer, makeApp, makeWorkspace } from '../helpers/app.ts'

async function makeWorld(t: Test) {
  const test = await makeApp(t)
  return { ...test, ...(await makeWorkspace(test)) }
}

t.test(
  'each refusal is problem+json with the same members, its status in words and the request to find it by',
  async t => {
    const { app, url, headers } = await makeWorld(t)
    for (const [status, title, code, reply] of [
      [400, 'Bad Request', 'invalid', await app.inject({ url: `${url}/members?limit=none`, headers })],
      [401, 'Unauthorized', 'unauthenticated', await app.inject({ url: `${url}/members` })],
      [404, 'Not Found', 'not_found', await app.inject({ url: '/v2', headers })],
      [404, 'Not Found', 'not_found', await app.inject({ url: `${url}/nothing`, headers })],
      [404, 'Not Found', 'sso_not_configured', await app.inject({ url: `${url}/sso-config`, headers })],
    ] as const) {
      t.equal(reply.statusCode, status)
      t.match(reply.headers['content-type'], 'application/problem+json')
      t.equal(reply.headers['cache-control'], 'no-store')
      const { requestId, detail, errors: _errors, ...rest } = reply.json()
      t.same(rest, { type: 'about:blank', title, status, code })
      t.match(requestId, /^[0-9a-f-]{36}$/)
      t.ok(detail.length > 10, 'says something to a person')
    }
  },
)

t.test('faults point at the member that has them (RFC 6901), every one of them', async t => {
  const { app, url, headers } = await makeWorld(t)
  const payload = { mode: 'lax', 'a/b~c': 1, second: 2 }
  const { errors } = (await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload })).json()
  t.same(errors.map((each: { pointer: string }) => each.pointer).toSorted(), ['/a~1b~0c', '/mode', '/name', '/second'])
})

t.test('what is sent to no purpose is refused, not ignored', async t => {
  const { app, url, headers } = await makeWorld(t)
  const get = await app.inject({ url: `${url}/sso-config?verbose=1`, headers })
  t.match(get.json(), { status: 400, code: 'invalid', detail: /verbose/ })
  const remove = await app.inject({ method: 'DELETE', url: `${url}/sso-config`, headers, payload: { now: true } })
  t.match(remove.json(), { status: 400, code: 'invalid', detail: /no body/ })
  const empty = await app.inject({ method: 'DELETE', url: `${url}/sso-config`, headers, payload: {} })
  t.match(empty.json(), { code: 'sso_not_configured' }, 'an empty object is nothing')
})

t.test('an error that nobody foresaw tells the caller nothing and the log all', async t => {
  const { app, log, headers, url, db } = await makeWorld(t)
  await db.schema.dropTable('group_memberships').execute()
  await sql`CREATE VIEW group_memberships AS SELECT workspace_id, id AS group_id, name AS member_id FROM groups`.execute(
    db,
  )
  const { id } = (
    await app.inject({ method: 'POST', url: `${url}/groups`, headers, payload: { name: 'Sales' } })
  ).json()
  const reply = await app.inject({ url: `${url}/groups/${id}/members`, headers })
  t.match(reply.json(), { status: 500, code: 'internal' })
  t.notMatch(reply.body, /operator|uuid/)
  const line = log()
    .split('\n')
    .find(each => each.includes('"internal"'))
  t.match(JSON.parse(line ?? '{}'), {
    reqId: reply.json().requestId,
    err: { errorCode: '42883', stack: /operator does not exist/ },
  })
})

t.test('no token, cookie, body or e-mail address is in the log, at debug and whatever the outcome', async t => {
  const { app, log, headers, url, workspaceId } = await makeWorld(t)
  const secret = 'hidden-5d1e'
  const email = `${secret}@example.com`
  const cookie = `__Host-assist-session=ses_${secret}`
  const strange = await bearer({ workspace: workspaceId, role: secret })
  await app.inject({ method: 'POST', url: `${url}/members`, headers, payload: { email, displayName: secret } })
  await app.inject({ method: 'POST', url: `${url}/members`, headers, payload: { email: `${email}@x`, role: secret } })
  await app.inject({ url: `${url}/members?q=${secret}`, headers })
  await app.inject({ url: `${url}/members?nonsense=${secret}`, headers })
  await app.inject({ url: `${url}/members`, headers: { cookie } })
  await app.inject({ url: `${url}/members`, headers: { authorization: `Bearer ${secret}` } })
  await app.inject({ url: `${url}/members`, headers: strange })
  await app.inject({ url: `/${secret}?code=${secret}&state=${secret}` })
  const lines = log()
  t.ok(lines.split('\n').length > 8, 'something is logged')
  t.notMatch(lines, secret)
  t.notMatch(lines, headers.authorization.slice(7, 60))
  t.match(lines, '"route":"/v1/workspaces/:workspaceId/members"')
})

t.test('each request has an id of its own, the same in its answer, its log lines and its entry', async t => {
  const { app, log, headers, url, db } = await makeWorld(t)
  const sent = { ...headers, 'request-id': 'chosen', 'x-request-id': 'chosen' }
  await app.inject({ method: 'POST', url: `${url}/groups`, headers: sent, payload: { name: 'Sales' } })
  const refused = await app.inject({ method: 'POST', url: `${url}/groups`, headers: sent, payload: { name: 'sales' } })
  const { requestId } = refused.json()
  t.match(log(), `"reqId":"${requestId}"`)
  const entries = await db
    .selectFrom('activity_entries')
    .select('request_id')
    .where('action', '=', 'group.created')
    .execute()
  t.equal(entries.length, 1)
  t.match(log(), `"reqId":"${entries[0]?.request_id}"`)
  t.not(entries[0]?.request_id, requestId)
  t.notMatch(log(), 'chosen')
})

t.test('bytes that are no HTTP are answered by 400 and end nothing', async t => {
  const { app } = await makeWorld(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const answer = await new Promise<string>((resolve, reject) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () => void socket.write('\u0016\u0003\u0001 not http\r\n\r\n'))
    socket.on('data', data => (text += data.toString()))
    socket.on('close', () => resolve(text))
    socket.on('error', reject)
  })
  t.match(answer, /^HTTP\/1\.1 400 /)
  t.equal((await app.inject({ url: '/healthz' })).statusCode, 200)
})

t.test(
  'a client that leaves in the middle of its body is no fault of ours, and no refusal in the log of activity',
  async t => {
    const { app, url, headers, log } = await makeWorld(t)
    await app.listen({ port: 0 })
    const { id } = (
      await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { name: 'Okta' } })
    ).json()
    const { token } = (await app.inject({ method: 'POST', url: `${url}/directories/${id}/tokens`, headers })).json()
    const { port } = app.server.address() as AddressInfo
    for (const [path, authorization] of [
      [`${url}/members`, headers.authorization],
      [`/scim/v2/${id}/Users`, `Bearer ${token}`],
    ]) {
      const before = log().length
      const socket = connect(port, '127.0.0.1')
      socket.write(`POST ${path} HTTP/1.1\r\nhost: here\r\nauthorization: ${authorization}\r\n`)
      socket.write('content-type: application/json\r\ncontent-length: 99\r\n\r\n{"email":')
      setTimeout(() => socket.destroy(), 50)
      while (!log().slice(before).includes('request_aborted')) await setImmediate()
      t.match(log().slice(before), '"level":30')
      t.notMatch(log().slice(before), /"level":[456]0/)
    }
    const { items } = (await app.inject({ url: `${url}/activity?outcome=refused`, headers })).json()
    t.same(items, [])
  },
)

t.test('what is no request yet is refused in the form of the place that it was sent to', async t => {
  const { app, headers, url } = await makeWorld(t)
  for (const path of ['/v1/workspaces/%', '/v1/workspaces/%ff']) {
    t.match((await app.inject({ url: path, headers })).json(), { status: 400, code: 'invalid', detail: /URL/ })
  }
  const scim = await app.inject({ url: `/scim/v2/${url.slice(-36)}/Users/%`, headers })
  t.match(scim.headers['content-type'], 'application/scim+json')
  t.match(scim.json(), { status: '400', schemas: ['urn:ietf:params:scim:api:messages:2.0:Error'], detail: /URL/ })

  const gzip = { ...headers, 'content-encoding': 'gzip', 'content-type': 'application/json' }
  const encoded = await app.inject({ method: 'POST', url: `${url}/groups`, headers: gzip, payload: '{}' })
  t.match(encoded.json(), { status: 415, code: 'unsupported_media_type', detail: /Content-Encoding/ })
  t.equal(encoded.headers['accept-encoding'], 'identity')
  t.equal((await app.inject({ method: 'OPTIONS', url: `${url}/groups` })).statusCode, 204)

  await app.listen({ host: '127.0.0.1', port: 0 })
  const send = async (text: string) => {
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
    socket.end(text)
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString()
  }
  t.match(
    await send(`GET /?${'a'.repeat(40_000)} HTTP/1.1\r\nhost: x\r\n\r\n`),
    /^HTTP\/1.1 431 .*problem\+json.*\.search/s,
  )
  t.match(
    await send(`GET /scim/v2/x/Users?filter=${'a'.repeat(40_000)} HTTP/1.1\r\nhost: x\r\n\r\n`),
    /^HTTP\/1.1 431 .*scim\+json.*"status":"431".*\.search/s,
  )
  t.match(await send('no request\r\n\r\n'), /^HTTP\/1.1 400 .*problem\+json/s)
})

t.test('what cannot be stored or read is refused by the place where it stands', async t => {
  const { app, headers, url } = await makeWorld(t)
  const post = async (path: string, payload: object) =>
    (await app.inject({ method: 'POST', url: `${url}/${path}`, headers, payload })).json()
  for (const name of ['n\0', '\ud800']) {
    t.match(await post('groups', { name }), { status: 400, code: 'invalid', errors: [{ pointer: '/name' }] })
  }
  const get = async (path: string) => (await app.inject({ url: `${url}/${path}`, headers })).json()
  t.match(await get('members?q=%00'), { status: 400, code: 'invalid' })
  for (const from of ['0000-01-01T00:00:00Z', '9999-12-31T23:59:59-12:00', 'yesterday']) {
    t.match(await get(`activity?from=${from}`), { status: 400, code: 'invalid', errors: [{ pointer: '/from' }] })
  }
  t.match(await get(`activity?from=${encodeURIComponent('2026-01-01T00:00:00+18:55')}`), { items: [] })
  t.match(await get(`domains/${'x'.repeat(300)}`), { status: 404, code: 'not_found' })
  const query = await app.inject({ method: 'QUERY' as 'GET', url: `${url}/members`, headers })
  t.match(query.json(), { status: query.statusCode, code: 'invalid' })
  t.equal(query.statusCode, 400)
})

t.test('faults are told in words for an admin', async t => {
  const { app, headers, url } = await makeWorld(t)
  const reply = await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { mode: 'lax', x: 1 } })
  t.same(reply.json().errors, [
    { pointer: '/name', message: 'is missing' },
    { pointer: '/mode', message: 'must be one of tolerant, strict' },
    { pointer: '/x', message: 'is not known here, leave it out' },
  ])
  const grant = { grant: { policy: 'floor', role: 'admin' } }
  const patch = await app.inject({ method: 'PATCH', url: `${url}/members/${uuid7()}`, headers, payload: grant })
  t.match(patch.json().errors, [{ pointer: /^\/grant/, message: /floor, locked/ }])
  const limit = await app.inject({ url: `${url}/members?limit=none`, headers })
  t.same(limit.json().errors, [{ pointer: '/limit', message: 'must be a number' }])
})

t.test('a version that a proxy has made a weak tag is the same version', async t => {
  const { app, headers, url } = await makeWorld(t)
  const { id } = (
    await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { name: 'Okta' } })
  ).json()
  const rename = (ifMatch: string, name: string) =>
    app.inject({
      method: 'PATCH',
      url: `${url}/directories/${id}`,
      headers: { ...headers, 'if-match': ifMatch },
      payload: { name },
    })
  t.equal((await rename('W/"1"', 'Okta two')).statusCode, 200)
  t.match((await rename('W/"1"', 'Okta three')).json(), { status: 412, code: 'version_conflict' })
})
