import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sql } from 'kysely'
import t from 'tap'
import { createRequestLimits } from '../../src/http/request-limits.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { makeApp } from '../helpers/app.ts'
import { ENTERPRISE, GROUP, makeDirectory, makeReplica, makeToken, PATCH_OP, USER } from '../helpers/scim.ts'
import type { Json, TestDirectory } from '../helpers/scim.ts'

const on = await makeApp(t)
const ERROR = 'urn:ietf:params:scim:api:messages:2.0:Error'

t.test('whatever is wrong with a token, the answer is the same 401; the reason stands in the activity log', async t => {
  const directory = await makeDirectory(t)
  const other = await makeDirectory(t, { sibling: directory })
  const { app, db, directoryId, token, entries, send } = directory
  const key = { workspaceId: directory.workspaceId, directoryId }
  const [revoked, expired] = [await makeToken(directory, key), await makeToken(directory, key)]
  const [past] = ['2020-01-01T00:00:00Z']
  await db
    .updateTable('directory_credentials')
    .set({ revoked_at: past })
    .where('hint', '=', revoked.slice(-4))
    .execute()
  await db
    .updateTable('directory_credentials')
    .set({ expires_at: past })
    .where('hint', '=', expired.slice(-4))
    .execute()
  const foreign = await makeDirectory(t)
  const call = async (authorization?: string, id = directoryId) =>
    app.inject({ url: `/scim/v2/${id}/Users`, ...(authorization !== undefined && { headers: { authorization } }) })
  const replies = [
    await call(),
    await call('Basic dXNlcjpwYXNz'),
    await call('Bearer nonsense'),
    await call(`Bearer ${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`),
    await call(`Bearer ${foreign.token}`),
    await call(`Bearer ${other.token}`),
    await call(`Bearer ${revoked}`),
    await call(`Bearer ${expired}`),
    await call(`Bearer ${token}`, uuid7()),
    await call(`Bearer ${token}`, 'no-directory'),
  ]
  await db.updateTable('directories').set({ enabled: false }).where('id', '=', directoryId).execute()
  replies.push(await call(`Bearer ${token}`))
  for (const reply of replies) {
    t.equal(reply.statusCode, 401)
    t.equal(reply.body, replies[0]?.body)
    t.match(reply.headers, { 'www-authenticate': /^Bearer/, 'content-type': /^application\/scim\+json/ })
  }
  t.match(replies[0]?.json(), { schemas: [ERROR], status: '401' })
  const reasons = (await entries()).map(entry => entry.reason)
  t.same(reasons, [
    'token_missing',
    'token_malformed',
    'token_unknown',
    'token_of_another_directory',
    'token_revoked',
    'token_expired',
    'directory_disabled',
  ])
  t.notOk(JSON.stringify(await db.selectFrom('activity_entries').selectAll().execute()).includes(token))
  t.notOk(directory.log().includes(token))
  t.equal((await send('GET', '/Users', { headers: { authorization: `bearer ${token}` } })).statusCode, 401)
  await db.updateTable('directories').set({ enabled: true }).where('id', '=', directoryId).execute()
  t.equal((await send('GET', '/Users', { headers: { authorization: `bearer  ${token}` } })).statusCode, 200)
})

/** A request whose Authorization header is the token and nothing else. */
const bare = (directory: TestDirectory, token: string) =>
  directory.send('GET', '/Users', { headers: { authorization: token } })

t.test(
  'OK-7: a tolerant directory may leave out the word Bearer, and no other thing about a token; a strict one may not',
  async t => {
    const tolerant = await makeDirectory(t)
    const strict = await makeDirectory(t, { on: tolerant, mode: 'strict' })
    const { db, token, send, entries, createUser } = tolerant
    t.equal((await bare(tolerant, token)).statusCode, 200)
    const invalid = 'Bearer realm="SCIM", error="invalid_token"'
    const used = () =>
      db
        .selectFrom('directory_credentials')
        .select('last_used_at')
        .where('directory_id', '=', strict.directoryId)
        .executeTakeFirstOrThrow()
    const refusals = [
      [await bare(strict, strict.token), invalid],
      [await bare(tolerant, `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`), invalid],
      [await bare(tolerant, strict.token), invalid],
      [await bare(tolerant, `${token}A`), 'Bearer realm="SCIM"'],
      [await bare(tolerant, token.replace('scim_', 'SCIM_')), 'Bearer realm="SCIM"'],
      [await bare(tolerant, `Token ${token}`), 'Bearer realm="SCIM"'],
      [await bare(tolerant, `Basic ${Buffer.from(`x:${token}`).toString('base64')}`), 'Bearer realm="SCIM"'],
    ] as const
    const wrong = await send('GET', '/Users', { headers: { authorization: 'Bearer wrong' } })
    for (const [reply, challenge] of refusals) {
      t.match([reply.statusCode, reply.headers['www-authenticate'], reply.body], [401, challenge, wrong.body])
    }
    t.equal((await used()).last_used_at, null, 'to be refused is no use of a token')
    t.match((await strict.entries()).at(-1), { action: 'directory.request_refused', reason: 'token_malformed' })
    t.equal((await strict.get('/Users')).totalResults, 0, 'with the word it is taken')
    t.equal((await bare(strict, strict.token)).statusCode, 401, 'remembered or not')

    const headers = { authorization: token }
    const body = { schemas: [USER], userName: 'ana' }
    const { id } = (await send('POST', '/Users', { headers, body })).json()
    const group = { schemas: [GROUP], displayName: 'Weavers', members: [{ value: id }] }
    const weavers = (await send('POST', '/Groups', { headers, body: group })).json()
    const change = { schemas: [PATCH_OP], Operations: [{ op: 'replace', path: 'title', value: 'x' }] }
    await send('PATCH', `/Users/${id}`, { headers, body: change })
    const schemas = ['urn:ietf:params:scim:api:messages:2.0:BulkRequest']
    const Operations = [{ method: 'PUT', path: `/Users/${id}`, data: { ...body, title: 'y' } }]
    await send('POST', '/Bulk', { headers, body: { schemas, Operations } })
    await send('DELETE', `/Groups/${weavers.id}`, { headers })
    await send('DELETE', `/Users/${id}`, { headers })
    const told = (await entries()).filter(({ action }) => action.startsWith('scim_'))
    t.equal(told.length, 6)
    for (const { detail } of told) t.match(detail.leniencies, [{ name: 'bearer_missing', pointer: '' }])
    await createUser({ userName: 'bea' })
    t.notOk((await entries()).at(-1)?.detail.leniencies)
    t.notOk(tolerant.log().includes(token))
    await db.updateTable('directory_credentials').set({ revoked_at: new Date().toISOString() }).execute()
    t.equal((await bare(tolerant, token)).statusCode, 401, 'revoked at once, as with the word')
  },
)

t.test('a token that is revoked is refused at its next request on every replica, whatever they remember', async t => {
  const directory = await makeDirectory(t)
  const replica = await makeReplica(t, directory)
  const { id } = await directory.createUser({ userName: 'ana' })
  const group = await directory.createGroup('Weavers', [id])
  await replica.get('/Users')
  await directory.db.updateTable('directory_credentials').set({ revoked_at: new Date().toISOString() }).execute()
  const body = { schemas: [USER], userName: 'bea', displayName: 'x', Operations: [] }
  for (const { send } of [directory, replica]) {
    for (const [method, path] of [
      ['GET', '/Users'],
      ['GET', '/Groups'],
      ['GET', '/Users?filter=userName%20eq%20%22ana%22'],
      ['GET', '/Users?filter=title%20eq%20%22ana%22'],
      ['GET', `/Users/${id}`],
      ['GET', `/Groups/${group.id}`],
      ['GET', '/Users/none'],
      ['GET', '/ServiceProviderConfig'],
      ['POST', '/Users'],
      ['POST', '/Groups'],
      ['POST', '/Bulk'],
      ['PUT', `/Users/${id}`],
      ['PUT', `/Groups/${group.id}`],
      ['DELETE', `/Users/${id}`],
      ['DELETE', `/Groups/${group.id}`],
    ] as const) {
      const reply = await send(method, path, method === 'GET' || method === 'DELETE' ? {} : { body })
      t.equal(reply.statusCode, 401, `${method} ${path}`)
    }
  }
  t.equal((await directory.db.selectFrom('scim_users').select('id').execute()).length, 1)
  t.match((await directory.entries()).at(-1), { action: 'directory.request_refused', reason: 'token_revoked' })
})

t.test('the directory of one workspace never sees, changes or links what is in another', async t => {
  const acme = await makeDirectory(t, { on })
  const globex = { ...acme, ...(await makeDirectory(t, { on })) }
  const sibling = await makeDirectory(t, { sibling: acme })
  const ana = await acme.createUser({ userName: 'ana@example.com', externalId: 'x' })
  const group = await acme.createGroup('Weavers', [ana.id])
  for (const stranger of [globex, sibling]) {
    t.equal((await stranger.send('GET', `/Users/${ana.id}`)).statusCode, 404)
    t.equal((await stranger.send('DELETE', `/Groups/${group.id}`)).statusCode, 404)
    t.equal((await stranger.get('/Users')).totalResults, 0)
    const twin = await stranger.createUser({ userName: 'ana@example.com', externalId: 'x' })
    t.not((await stranger.memberOf(twin.id)).id, (await acme.memberOf(ana.id)).id)
  }
  t.equal((await acme.get(`/Groups/${group.id}`)).members.length, 1)
})

t.test('bodies come as SCIM or plain JSON, in any spelling of the type; all else is refused in SCIM words', async t => {
  const { send, createUser } = await makeDirectory(t, { on })
  const { id } = await createUser({ userName: 'ana' })
  const put = (type: string, body: unknown = { schemas: [USER], userName: 'ana' }) =>
    send('PUT', `/Users/${id}`, { body, headers: { 'content-type': type } })
  for (const type of [
    'application/scim+json',
    'application/json; charset=utf-8',
    'Application/SCIM+JSON;charset=UTF-8',
  ]) {
    t.equal((await put(type)).statusCode, 200, type)
  }
  for (const [status, scimType, reply] of [
    ['415', undefined, await put('text/plain')],
    ['415', undefined, await put('application/x-www-form-urlencoded', 'a=b')],
    ['400', 'invalidSyntax', await put('application/json', '{"userName": ')],
    ['400', 'invalidSyntax', await put('application/json', '')],
    ['400', 'invalidSyntax', await put('application/json', '[]')],
    ['400', 'invalidValue', await put('application/json', { schemas: [USER] })],
    ['400', 'invalidValue', await put('application/json', { schemas: [USER], userName: 'a\0b' })],
    ['400', 'invalidValue', await put('application/json', `{"schemas":["${USER}"],"userName":"\\ud800"}`)],
    ['400', 'invalidValue', await put('application/json', { schemas: [USER], userName: 'x'.repeat(600) })],
  ] as const) {
    t.match(reply.json(), { schemas: [ERROR], status, ...(scimType && { scimType }) })
    t.match(reply.headers, { 'content-type': /^application\/scim\+json/ })
    t.ok(reply.json().detail)
  }
  const polluted = `{"schemas":["${USER}"],"userName":"bea","__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}`
  t.notOk('admin' in (await send('POST', '/Users', { body: polluted })).json())
  t.notOk('admin' in {})
  t.equal(
    (await send('DELETE', `/Users/${id}`, { headers: { 'content-type': 'application/scim+json' } })).statusCode,
    204,
  )
})

t.test('a path of the endpoint knows its methods, with and without a slash; what is no path is a SCIM 404', async t => {
  const { send, createUser, get } = await makeDirectory(t, { on })
  const { id } = await createUser({ userName: 'ana' })
  t.equal((await get('/Users/')).totalResults, 1)
  t.equal((await get('/Users/?count=0')).totalResults, 1)
  t.same(await get(`/Users/${id}/`), await get(`/Users/${id}`))
  for (const [method, path, allow] of [
    ['PUT', '/Users', 'GET, HEAD, POST'],
    ['DELETE', '/Users', 'GET, HEAD, POST'],
    ['POST', `/Users/${id}`, 'GET, HEAD, PUT, PATCH, DELETE'],
    ['POST', '/Schemas', 'GET, HEAD'],
    ['GET', '/Bulk/', 'POST'],
  ] as const) {
    const reply = await send(method, path, method === 'DELETE' ? {} : { body: {} })
    t.match([reply.statusCode, reply.headers.allow, reply.json().status], [405, allow, '405'], `${method} ${path}`)
  }
  for (const path of [
    '/Nonsense',
    '/Users/a/b',
    '',
    '/',
    '/Users/0',
    `/Users/${id.toUpperCase()}`,
    '/Users/%00',
    '/Users/ana',
  ]) {
    t.match((await send('GET', path)).json(), { status: '404', schemas: [ERROR] }, path)
  }
  t.match((await send('GET', '/Me')).json(), { status: '501' })
  const head = await send('HEAD', `/Users/${id}`)
  t.match([head.statusCode, head.body], [200, ''])
})

t.test('discovery tells what is true, from the same table that requests are read by', async t => {
  const { get, send, createUser } = await makeDirectory(t, { on })
  const config = await get('/ServiceProviderConfig')
  t.match(config, {
    patch: { supported: true },
    bulk: { supported: true, maxOperations: 1000, maxPayloadSize: 16_777_216 },
    filter: { supported: true, maxResults: 1000 },
    changePassword: { supported: false },
    sort: { supported: true },
    etag: { supported: true },
    pagination: { cursor: true, index: true },
    authenticationSchemes: [{ type: 'oauthbearertoken', primary: true }],
  })
  const types = await get('/ResourceTypes')
  const schemas = await get('/Schemas')
  const urns = schemas.Resources.map((schema: Json) => schema.id)
  for (const type of types.Resources) {
    t.equal(type.id, type.name)
    for (const urn of [type.schema, ...(type.schemaExtensions ?? []).map((each: Json) => each.schema)])
      t.ok(urns.includes(urn), urn)
    t.equal((await send('GET', type.endpoint)).statusCode, 200)
    t.same(
      await get(
        new URL(type.meta.location).pathname
          .split('/')
          .slice(4)
          .reduce((path, part) => `${path}/${part}`, ''),
      ),
      type,
    )
  }
  for (const urn of urns) t.equal((await get(`/Schemas/${urn}`)).id, urn)
  t.notOk(JSON.stringify(schemas).includes('password'))
  t.notOk(JSON.stringify(schemas).includes('null'))
  for (const path of ['/Schemas', '/ResourceTypes', '/ServiceProviderConfig']) {
    t.match((await send('GET', `${path}?filter=id%20eq%20%22x%22`)).json(), { status: '403' }, path)
  }
  t.match((await send('GET', '/Schemas/urn:nothing')).json(), { status: '404' })

  // Every attribute that can be written is accepted and returned as it was sent.
  const sample = (attribute: Json): unknown => {
    const inner = (attribute.subAttributes ?? []).filter((sub: Json) => sub.mutability !== 'readOnly')
    const one =
      attribute.type === 'complex'
        ? Object.fromEntries(inner.map((sub: Json) => [sub.name, sample(sub)]))
        : attribute.type === 'boolean' || (attribute.type === 'binary' ? 'QUJD' : `x-${attribute.name}`)
    return attribute.multiValued ? [one] : one
  }
  const writable = (urn: string): Json => {
    const schema = schemas.Resources.find((each: Json) => each.id === urn)
    const attributes = schema.attributes.filter(
      (each: Json) => each.mutability !== 'readOnly' && each.name !== 'members',
    )
    return Object.fromEntries(attributes.map((each: Json) => [each.name, sample(each)]))
  }
  const sent = { ...writable(USER), [ENTERPRISE]: writable(ENTERPRISE), schemas: [USER, ENTERPRISE] }
  t.match(await createUser(sent), sent)
})

t.test('what is refused stands in the activity log with the rule that was broken, and names nobody', async t => {
  const { send, createUser, patch, entries, log } = await makeDirectory(t, { on })
  const { id } = await createUser({ userName: 'secret.person@example.com' })
  await createUser({ userName: 'secret.person@example.com' }, 409)
  await patch(`/Users/${id}`, { op: 'replace', path: 'active', value: 'maybe' })
  await send('GET', '/Users?filter=userName%20zz%20%22secret.person@example.com%22')
  await send('GET', '/Users/nobody')
  const refusals = (await entries()).filter(entry => entry.action === 'directory.request_refused')
  t.match(refusals, [
    { reason: 'uniqueness', detail: { method: 'POST', path: '/Users', status: 409 } },
    { reason: 'invalidValue', detail: { method: 'PATCH', path: '/Users/:id', pointer: '/Operations/0/value' } },
    { reason: 'invalidFilter', detail: { method: 'GET', path: '/Users' } },
  ])
  t.equal(refusals.length, 3, 'a look-up that finds nothing is no entry')
  t.notOk(JSON.stringify(refusals).includes('secret.person'))
  t.notOk(log().includes('secret.person'))
})

t.test('tolerant mode records each leniency in the entry of the change; strict mode refuses it', async t => {
  const body = { schemas: [USER], userName: 'ana', active: 'True', favouriteColour: 'teal', password: 'hunter2' }
  const tolerant = await makeDirectory(t, { on })
  const created = await tolerant.send('POST', '/Users?aadOptscim062020', { body })
  t.equal(created.statusCode, 201)
  const [entry] = await tolerant.entries()
  const names = entry?.detail.leniencies.map((each: Json) => each.name)
  t.same(new Set(names), new Set(['attribute_unknown', 'boolean_as_string', 'password_ignored']))
  const stored = await tolerant.db.selectFrom('scim_users').selectAll().execute()
  t.notOk(JSON.stringify([stored, await tolerant.entries(), tolerant.log()]).includes('hunter2'))

  const strict = await makeDirectory(t, { on, mode: 'strict' })
  t.equal((await strict.send('POST', '/Users', { body })).statusCode, 400)
  for (const fault of [{ active: 'True' }, { favouriteColour: 'teal' }, { schemas: [] }])
    await strict.createUser({ userName: 'x', ...fault }, 400)
  const { id } = await strict.createUser({ userName: 'ana' })
  const pathless = await strict.patch(`/Users/${id}`, { op: 'replace', value: { active: false } })
  t.match(pathless.json(), { status: '400', scimType: 'invalidSyntax' })
  t.equal((await strict.get(`/Users/${id}`)).active, true)
  t.equal((await strict.send('GET', '/Users?fliter=x')).statusCode, 400)
  t.equal((await tolerant.send('GET', '/Users?fliter=x')).statusCode, 200)
})

t.test('conditional requests: If-Match guards each change, If-None-Match saves each read', async t => {
  const { send, createUser, createGroup, get } = await makeDirectory(t, { on })
  const user = await createUser({ userName: 'ana' })
  const group = await createGroup('Weavers', [user.id])
  const bodies = {
    [`/Users/${user.id}`]: { schemas: [USER], userName: 'ana', title: 'x' },
    [`/Groups/${group.id}`]: { schemas: [GROUP], displayName: 'Dyers' },
  }
  for (const [path, body] of Object.entries(bodies)) {
    const version = (await get(path)).meta.version
    const change = (headers: Record<string, string>) => send('PUT', path, { body, headers })
    const stale = await change({ 'if-match': 'W/"999"' })
    t.match([stale.statusCode, stale.json().status], [412, '412'], path)
    t.equal((await change({ 'if-match': '"of-somebody-else"' })).statusCode, 412)
    const patchBody = { schemas: [], Operations: [{ op: 'add', path: 'externalId', value: 'x' }] }
    t.equal((await send('PATCH', path, { body: patchBody, headers: { 'if-match': 'W/"9"' } })).statusCode, 412)
    t.equal((await send('DELETE', path, { headers: { 'if-match': 'W/"9"' } })).statusCode, 412)
    t.equal((await get(path)).meta.version, version, 'nothing was written')
    t.equal((await change({ 'if-match': `W/"7", ${version}` })).statusCode, 200)
    t.equal((await change({ 'if-match': '*' })).statusCode, 200)
    const current = (await get(path)).meta.version
    const read = await send('GET', path, { headers: { 'if-none-match': current } })
    t.match([read.statusCode, read.body, read.headers.etag], [304, '', current])
    t.equal((await send('GET', path, { headers: { 'if-none-match': version } })).statusCode, 200)
    t.equal((await send('DELETE', path, { headers: { 'if-match': current } })).statusCode, 204)
  }
})

t.test('a directory that asks too much at once is told when to go on, in SCIM words', async t => {
  const { get, send } = await makeDirectory(t, {
    settings: { SCIM_REQUESTS_PER_SECOND: '25', SCIM_BURST_REQUESTS: '50', SCIM_CONCURRENT_REQUESTS: '60' },
  })
  const replies = await Promise.all(Array.from({ length: 90 }, () => send('GET', '/Users')))
  const passed = replies.filter(each => each.statusCode === 200).length
  t.ok(passed >= 60, 'the burst, and those who waited for their turn')
  const reply = replies.find(each => each.statusCode === 429)!
  t.match(reply.json(), { status: '429', schemas: [ERROR] })
  t.match(reply.headers, { 'retry-after': '1', 'content-type': /^application\/scim\+json/ })
  await get('/Users')
})

t.test(
  'AL-9, MS-1: the bound lets a burst through at once, then as many as leave room; 25 a second are never too many',
  t => {
    let now = 0
    const subject = 'A directory'
    const clock = { subject, now: () => now }
    const limits = createRequestLimits({ requestsPerSecond: 25, burst: 50, concurrent: 2, ...clock })
    const [first, second] = [limits.enter('a'), limits.enter('a')]
    t.throws(() => limits.enter('a'), { code: 'rate_limited', retryAfter: 1 }, 'two at a time')
    limits.enter('b').leave()
    first.leave()
    first.leave()
    limits.enter('a').leave()
    second.leave()
    for (let count = 3; count < 50; count++) {
      const { waitMs, leave } = limits.enter('a')
      leave()
      t.equal(waitMs, 0)
    }
    for (let count = 1; count <= 50; count++) {
      const { waitMs, leave } = limits.enter('a')
      leave()
      t.equal(waitMs, count * 40, 'each has its turn')
    }
    t.throws(() => limits.enter('a'), { code: 'rate_limited', retryAfter: 3 }, 'two seconds are the longest wait')
    now = 4_000
    limits.charge('a', 1_000)
    const { waitMs, leave } = limits.enter('a')
    leave()
    t.equal(waitMs, 2_000, 'operations of a bulk request count too, and keep nobody out')
    const usual = createRequestLimits({ requestsPerSecond: 50, burst: 500, concurrent: 64, ...clock })
    for (let count = 0; count < 25 * 600; count++) {
      if (count % 25 === 0) now += 1000
      usual.enter('a').leave()
    }
    for (let count = 0; count < 475; count++) usual.enter('a').leave()
    t.equal(usual.enter('a').waitMs, 20)
    t.end()
  },
)

t.test('a client that hangs up leaves room for others, also before its token was looked up', async t => {
  const directory = await makeDirectory(t, { settings: { SCIM_CONCURRENT_REQUESTS: '1' } })
  const { app, db, directoryId, token, send } = directory
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const hangUp = () =>
    new Promise<void>(resolve => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'content-length': '1000' }
      const request = httpRequest({ port, method: 'POST', path: `/scim/v2/${directoryId}/Users`, headers })
      request.on('error', () => resolve())
      request.on('close', () => resolve())
      request.write('{"userName":')
      setTimeout(() => request.destroy(), 50)
    })
  await db.transaction().execute(async trx => {
    await sql`LOCK TABLE directory_credentials`.execute(trx)
    await hangUp()
    await new Promise(resolve => setTimeout(resolve, 50))
  })
  for (let count = 0; count < 3; count++) await hangUp()
  // The service hears of the last one a moment later.
  let reply = await send('GET', '/Users')
  for (let tries = 0; tries < 100 && reply.statusCode === 429; tries++) {
    await new Promise(resolve => setTimeout(resolve, 50))
    reply = await send('GET', '/Users')
  }
  t.equal(reply.statusCode, 200)
})

t.test('bodies have a limit, and what exceeds it is a SCIM 413', async t => {
  const { send } = await makeDirectory(t, { settings: { SCIM_MAX_BODY_BYTES: '65536' } })
  const reply = await send('POST', '/Users', { body: { schemas: [USER], userName: 'ana', title: 'x'.repeat(70_000) } })
  t.match(reply.json(), { status: '413', schemas: [ERROR], detail: /larger than the 65536 bytes/ })
})

t.test('bytes that are not UTF-8 are refused in bodies and URLs, and change nothing', async t => {
  const { app, token, directoryId, get, entries, url, headers } = await makeDirectory(t, { on })
  const authorization = `Bearer ${token}`
  const body = JSON.stringify({ schemas: [USER], userName: 'jos\u00e9' })
  const users = `/scim/v2/${directoryId}/Users`
  const scim = { authorization, 'content-type': 'application/scim+json' }
  const refused = await app.inject({ method: 'POST', url: users, headers: scim, payload: Buffer.from(body, 'latin1') })
  t.match(refused.json(), { status: '400', scimType: 'invalidSyntax', detail: /not UTF-8/ })
  t.match((await entries()).at(-1), { reason: 'invalidSyntax' })
  t.equal((await get('/Users')).totalResults, 0)
  const filter = `${users}?filter=userName%20eq%20%22jos%E9%22`
  t.match((await app.inject({ url: filter, headers: { authorization } })).json(), {
    status: '400',
    scimType: 'invalidSyntax',
    detail: /not valid UTF-8/,
  })
  t.equal((await app.inject({ url: `${users}/jos%E9`, headers: { authorization } })).statusCode, 400)
  t.equal((await app.inject({ url: filter.replace('%E9', '%C3%A9'), headers: { authorization } })).statusCode, 200)
  const admin = { ...headers, 'content-type': 'application/json' }
  const payload = Buffer.from(JSON.stringify({ name: 'Caf\u00e9' }), 'latin1')
  const group = await app.inject({ method: 'POST', url: `${url}/groups`, headers: admin, payload })
  t.match(group.json(), { status: 400, code: 'malformed_json' })
  t.equal((await app.inject({ url: `${url}/groups?after=%E9`, headers })).statusCode, 400)
})

t.test(
  'names that look the same are one name: a second creation is 409, and a filter in either form finds it',
  async t => {
    for (const mode of ['tolerant', 'strict'] as const) {
      const { createUser, createGroup, get, send, patch } = await makeDirectory(t, { on, mode })
      const user = await createUser({
        userName: 'jos\u00e9@example.com',
        emails: [{ value: 'jos\u00e9@example.com', type: 'work' }],
      })
      const other = await createUser({ userName: 'other' })
      for (const form of [
        'jose\u0301@example.com',
        'JOS\u00c9@example.com',
        ' jos\u00e9@example.com ',
        '\uff4aos\u00e9@example.com',
      ]) {
        t.match(await createUser({ userName: form }, 409), { scimType: 'uniqueness' }, JSON.stringify(form))
        const renamed = await patch(`/Users/${other.id}`, { op: 'replace', path: 'userName', value: form })
        t.match(renamed.json(), { status: '409' })
        for (const filter of [
          `userName eq "${form}"`,
          `emails.value eq "${form}"`,
          `emails[type eq "work" and value eq "${form}"]`,
          `userName eq "${form}" and active eq true`,
        ]) {
          const found = await get(`/Users?filter=${encodeURIComponent(filter)}`)
          t.same(
            found.Resources?.map((each: Json) => each.id),
            [user.id],
            `${mode}: ${filter}`,
          )
        }
      }
      t.equal((await get(`/Users/${user.id}`)).userName, 'jos\u00e9@example.com', 'the stored text stays as sent')
      const invisible = await send('POST', '/Users', {
        body: { schemas: [USER], userName: 'jos\u00e9\u200b@example.com' },
      })
      t.equal(invisible.statusCode, mode === 'strict' ? 400 : 409)
      await createUser({ userName: '\u200b' }, 400)
      await createGroup('Caf\u00e9')
      await createGroup('cafe\u0301', [], 409)
    }
  },
)
