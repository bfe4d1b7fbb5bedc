import fc from 'fast-check'
import t from 'tap'
import { makeApp } from '../helpers/app.ts'
import { ENTERPRISE, GROUP, makeDirectory, USER, type Json, type TestDirectory } from '../helpers/scim.ts'

/** What profiles ask beyond the other tests: each sentence begins with the rows of conformance-rows.ts that it holds. */
const on = await makeApp(t)
const strict = await makeDirectory(t, { on, mode: 'strict' })
const tolerant = await makeDirectory(t, { on })

const ACME = 'urn:example:acme:2.0:User'
const members = (ids: readonly string[]) => ids.map(value => ({ value }))
const found = async ({ get }: TestDirectory, endpoint: string, filter: string): Promise<string[]> => {
  const list = await get(`${endpoint}?filter=${encodeURIComponent(filter)}`)
  return list.Resources.map((resource: Json) => resource.id as string)
}

t.test('IP-1: only a strict directory calls itself conformant', async t => {
  t.equal((await strict.get('/ServiceProviderConfig')).interopProfileConformant, true)
  t.notOk('interopProfileConformant' in (await tolerant.get('/ServiceProviderConfig')))
})

t.test('IP-4: a filter in any letter case finds exactly the users that a creation conflicts with', async t => {
  const { createUser, send } = strict
  const word = fc
    .array(fc.tuple(fc.constantFrom('a', 'b', 'x', 'é', 'ß', 'ø', 'İ', 'ı'), fc.boolean()), {
      minLength: 3,
      maxLength: 6,
    })
    .map(letters => letters.map(([letter, upper]) => (upper ? letter.toUpperCase() : letter)).join(''))
  const seen: string[] = []
  await fc.assert(
    fc.asyncProperty(word, async userName => {
      for (const name of [userName, userName.toUpperCase(), userName.toLowerCase()]) {
        const isFound = (await found(strict, '/Users', `userName eq "${name}"`)).length === 1
        const reply = await send('POST', '/Users', { body: { schemas: [USER], userName: name } })
        t.equal(reply.statusCode, isFound ? 409 : 201, name)
      }
      seen.push(userName)
    }),
    { numRuns: 15 },
  )
  const ids = ['case-X', 'case-x'].map((externalId, index) => createUser({ userName: `case ${index}`, externalId }))
  const [upper, lower] = (await Promise.all(ids)).map(user => user.id as string)
  t.same(await found(strict, '/Users', 'externalId eq "case-x"'), [lower])
  t.same(await found(strict, '/Users', 'externalId eq "case-X"'), [upper])
})

t.test(
  'IP-6: strict stores nothing of a body with an undeclared attribute or schema, by POST, PUT or PATCH',
  async t => {
    const { createUser, createGroup, send, patch, get } = strict
    const user = await createUser({ userName: 'ip-6' })
    const group = await createGroup('ip-6')
    for (const extra of [{ foo: 1 }, { [ACME]: { badge: '17' } }, { emails: [{ value: 'a@example.com', foo: 1 }] }]) {
      const body = { schemas: [USER, ...(ACME in extra ? [ACME] : [])], userName: 'ip-6 two', ...extra }
      for (const reply of [await send('POST', '/Users', { body }), await send('PUT', `/Users/${user.id}`, { body })]) {
        t.match(reply.json(), { status: '400', scimType: 'invalidSyntax' })
      }
    }
    t.match(await createUser({ schemas: [USER, ACME], userName: 'ip-6 two' }, 400), { scimType: 'invalidSyntax' })
    for (const operation of [
      { op: 'add', path: 'foo', value: 1 },
      { op: 'add', path: `${ACME}:badge`, value: '17' },
      { op: 'add', path: 'schemas', value: [ACME] },
      { op: 'remove', path: 'schemas' },
    ]) {
      t.equal((await patch(`/Users/${user.id}`, operation)).statusCode, 400, operation.path)
    }
    const contradicting = { members: [{ value: user.id, type: 'Robot' }] }
    const body = { schemas: [GROUP], displayName: 'ip-6', ...contradicting }
    t.match((await send('PUT', `/Groups/${group.id}`, { body })).json(), { scimType: 'invalidValue' })
    t.same(await get(`/Users/${user.id}`), user)
    t.same(await get(`/Groups/${group.id}`), group)
    t.same(await found(strict, '/Users', 'userName eq "ip-6 two"'), [])
  },
)

t.test('a tolerant directory keeps an unknown extension and records it in the entry', async t => {
  const { createUser, get, patch, entries } = tolerant
  const { id } = await createUser({ schemas: [USER, ACME], userName: 'extended', [ACME]: { badge: '17' } })
  t.match(await get(`/Users/${id}`), { schemas: [USER, ACME], [ACME]: { badge: '17' } })
  await patch(`/Users/${id}`, { op: 'add', path: 'schemas', value: ['urn:example:other'] })
  await patch(`/Users/${id}`, { op: 'replace', path: `${ACME}:badge`, value: '18' })
  t.match(await get(`/Users/${id}`), { [ACME]: { badge: '18' } })
  t.match((await entries()).find(entry => entry.action === 'scim_user.created')?.detail.leniencies, [
    { name: 'extension_unknown', pointer: `/${ACME}` },
  ])
})

t.test('removing active changes nothing for an active user and is refused for an inactive one', async t => {
  for (const { createUser, patch, get } of [strict, tolerant]) {
    const user = await createUser({ userName: 'remove active' })
    t.same((await patch(`/Users/${user.id}`, { op: 'remove', path: 'active' })).json(), user)
    await patch(`/Users/${user.id}`, { op: 'replace', path: 'active', value: false })
    const refused = await patch(`/Users/${user.id}`, { op: 'remove', path: 'active' })
    t.match(refused.json(), { status: '400', scimType: 'mutability', detail: /Replace it with true/ })
    t.equal((await get(`/Users/${user.id}`)).active, false)
  }
})

const terms = (count: number) => Array.from({ length: count }, () => 'title pr').join(' or ')
const deep = (count: number) => `${'('.repeat(count)}title pr${')'.repeat(count)}`
const long = (length: number) => `title eq "${'x'.repeat(length - 11)}"`
const filtered = (filter: string) => `/Users?filter=${encodeURIComponent(filter)}`

t.test(
  'a filter too long, too deep or of too many terms is refused with what to do, at the bound it is served',
  async t => {
    const { get, send } = tolerant
    for (const [good, bad] of [
      [terms(64), terms(65)],
      [deep(31), deep(40)],
      [long(4096), long(4097)],
    ] as const) {
      t.equal((await get(filtered(good))).totalResults, 0)
      t.match((await send('GET', filtered(bad))).json(), {
        status: '400',
        scimType: 'invalidFilter',
        detail: /at most/,
      })
    }
  },
)

t.test('IP-9: every response is application/scim+json, and a strict directory reads no other type', async t => {
  const { send, createUser } = strict
  const { id } = await createUser({ userName: 'ip-9' })
  const body = { schemas: [USER], userName: 'ip-9' }
  const replies = {
    200: await send('GET', `/Users/${id}`),
    201: await send('POST', '/Users', { body: { ...body, userName: 'ip-9 two' } }),
    400: await send('POST', '/Users', { body: '{' }),
    401: await send('GET', '/Users', { headers: { authorization: 'Bearer x' } }),
    404: await send('GET', '/Users/none'),
    405: await send('DELETE', '/Users'),
    409: await send('POST', '/Users', { body }),
    412: await send('DELETE', `/Users/${id}`, { headers: { 'if-match': 'W/"99"' } }),
    415: await send('PUT', `/Users/${id}`, { body, headers: { 'content-type': 'application/json' } }),
    501: await send('GET', '/Me'),
  }
  for (const [status, reply] of Object.entries(replies)) {
    t.equal(String(reply.statusCode), status)
    t.match(reply.headers['content-type'], /^application\/scim\+json/, status)
    if (reply.statusCode >= 400) t.match(reply.json(), { status, detail: /./ })
  }
})

t.test(
  'what is no UTF-8 is refused as a type, a byte order mark is overlooked, and a path that is no path is SCIM',
  async t => {
    const { send, app, directoryId } = tolerant
    const body = JSON.stringify({ schemas: [USER], userName: 'marked' })
    for (const charset of ['UTF-16', '"iso-8859-1"']) {
      const headers = { 'content-type': `application/scim+json; charset=${charset}` }
      t.match((await send('POST', '/Users', { body, headers })).json(), { status: '415', detail: /UTF-8/ })
    }
    t.equal((await send('POST', '/Users', { body: `\ufeff${body}` })).statusCode, 201)
    for (const path of ['/Users/%', '/Users/%ff', '/%E0%A4%A']) {
      const reply = await send('GET', path)
      t.match(reply.json(), { status: '400', schemas: ['urn:ietf:params:scim:api:messages:2.0:Error'] }, path)
      t.match(reply.headers['content-type'], /^application\/scim\+json/)
    }
    t.match((await send('GET', `/Users/${'x'.repeat(5_000)}`)).json(), { status: '404' })
    for (const method of ['TRACE', 'QUERY', 'PURGE', 'PROPFIND']) {
      const reply = await app.inject({ method: method as 'GET', url: `/scim/v2/${directoryId}/Users` })
      t.match(String(reply.statusCode), /^40[0145]$/, method)
    }
  },
)

t.test('IP-10: only GET evaluates a filter', async t => {
  const { createUser, send, get } = strict
  const user = await createUser({ userName: 'ip-10', displayName: 'Ten' })
  t.same(await found(strict, '/Users', 'userName eq "ip-10" and displayName eq "Ten"'), [user.id])
  t.same(await found(strict, '/Users', 'userName eq "ip-10" and displayName eq "Nine"'), [])
  const query = `?filter=${encodeURIComponent('userName eq "ip-10"')}`
  const patch = {
    schemas: ['urn:ietf:params:scim:api:messages:2.0:PatchOp'],
    Operations: [{ op: 'replace', path: 'displayName', value: 'Eleven' }],
  }
  for (const path of ['/Users', `/Users/${user.id}`]) {
    for (const [method, sent] of [
      ['PATCH', { body: patch }],
      ['PUT', { body: { schemas: [USER], userName: 'ip-10' } }],
      ['DELETE', {}],
    ] as const) {
      t.match(String((await send(method, path + query, sent)).statusCode), /^40[05]$/, `${method} ${path}`)
    }
  }
  t.same(await get(`/Users/${user.id}`), user)
  t.match((await send('GET', `/Users${query.replace('userName', 'shoeSize')}`)).json(), { scimType: 'invalidFilter' })
})

t.test('IP-13, CU-4: a page has 100 resources by default and at most 1,000', async t => {
  const directory = await makeDirectory(t, { on, mode: 'strict' })
  const { send, get } = directory
  for (let part = 0; part < 2; part++) {
    const Operations = Array.from({ length: 501 }, (_, index) => ({
      method: 'POST',
      path: '/Groups',
      bulkId: `g${index}`,
      data: { schemas: [GROUP], displayName: `group ${part}-${index}` },
    }))
    const body = { schemas: ['urn:ietf:params:scim:api:messages:2.0:BulkRequest'], Operations }
    t.equal((await send('POST', '/Bulk', { body })).statusCode, 200)
  }
  for (const [query, itemsPerPage] of [
    ['', 100],
    ['?count=100', 100],
    ['?count=1', 1],
    ['?count=1000', 1000],
    ['?count=1001', 1000],
    ['?count=100000', 1000],
    ['?count=0', 0],
    ['?count=-5', 0],
    ['?cursor&count=10', 10],
    ['?cursor&count=0', 0],
    ['?cursor&count=-5', 0],
    ['?cursor&count=1000', 1000],
  ] as const) {
    const list = await get(`/Groups${query}`)
    t.match([list.totalResults, list.itemsPerPage, list.Resources.length], [1002, itemsPerPage, itemsPerPage], query)
  }
})

t.test('IP-15, IP-18: strict mode requires a path, and an array for several values', async t => {
  const { createUser, patch, get } = strict
  const user = await createUser({ userName: 'ip-15', emails: [{ value: 'one@example.com', type: 'work' }] })
  const url = `/Users/${user.id}`
  const refused = await patch(url, { op: 'replace', value: { displayName: 'Fifteen' } })
  t.match(refused.json(), { status: '400', scimType: 'invalidSyntax' })
  t.equal((await patch(url, { op: 'add', path: 'emails', value: { value: 'x@example.com' } })).statusCode, 400)
  t.same(await get(url), user)
  const values = async () => (await get(url)).emails.map((email: Json) => email.value)
  await patch(url, { op: 'add', path: 'emails', value: [{ value: 'two@example.com' }] })
  t.same(await values(), ['one@example.com', 'two@example.com'])
  await patch(url, { op: 'replace', path: 'emails', value: [{ value: 'three@example.com' }] })
  t.same(await values(), ['three@example.com'])
})

t.test(
  'IP-20, IP-22, MS-9: the inactive are there to read and find; the deleted leave all they held at once',
  async t => {
    for (const { createUser, patch, get, send, ...directory } of [strict, tolerant]) {
      const person = { userName: 'leaver', externalId: 'leaver-1', emails: [{ value: 'leaver@example.com' }] }
      const { id } = await createUser(person)
      await patch(`/Users/${id}`, { op: 'replace', path: 'active', value: false })
      t.equal((await get(`/Users/${id}`)).active, false)
      const all = { ...directory, createUser, patch, get, send }
      t.same(await found(all, '/Users', 'userName eq "leaver"'), [id])
      t.same(await found(all, '/Users', 'active eq false and externalId eq "leaver-1"'), [id])
      t.ok((await get('/Users?count=1000')).Resources.some((user: Json) => user.id === id))
      t.equal((await send('DELETE', `/Users/${id}`)).statusCode, 204)
      t.same(await found(all, '/Users', 'userName eq "leaver" or externalId eq "leaver-1"'), [])
      t.not((await createUser(person)).id, id)
    }
  },
)

t.test('IP-24: a PATCH or PUT with the name of another resource returns 409 and stores nothing', async t => {
  const { createUser, createGroup, patch, send, get } = strict
  await createUser({ userName: 'ip-24 taken' })
  const user = await createUser({ userName: 'ip-24' })
  await createGroup('ip-24 taken')
  const group = await createGroup('ip-24')
  const taken = 'IP-24 TAKEN'
  for (const reply of [
    await patch(`/Users/${user.id}`, { op: 'replace', path: 'userName', value: taken }),
    await send('PUT', `/Users/${user.id}`, { body: { schemas: [USER], userName: taken } }),
    await patch(`/Groups/${group.id}`, { op: 'replace', path: 'displayName', value: taken }),
    await send('PUT', `/Groups/${group.id}`, { body: { schemas: [GROUP], displayName: taken } }),
  ]) {
    t.match(reply.json(), { status: '409', scimType: 'uniqueness' })
  }
  t.same(await get(`/Users/${user.id}`), user)
  t.same(await get(`/Groups/${group.id}`), group)
})

t.test('AL-4: a directory token opens only the endpoint of its directory', async t => {
  const { app, token, url } = tolerant
  const headers = { authorization: `Bearer ${token}` }
  for (const path of [`${url}/members`, `${url}/directories`, '/v1/session', `/scim/v2/${strict.directoryId}/Users`]) {
    t.equal((await app.inject({ url: path, headers })).statusCode, 401, path)
  }
})

t.test('AL-11: ten operations of one PATCH are one change', async t => {
  const { createUser, patch, get, entries } = strict
  const { id } = await createUser({ userName: 'al-11' })
  const before = (await entries()).length
  const simple = ['title', 'nickName', 'displayName', 'locale', 'timezone', 'userType'].map(path => ({
    op: 'replace',
    path,
    value: `new ${path}`,
  }))
  const more = ['name.givenName', 'name.familyName', `${ENTERPRISE}:department`].map(path => ({
    op: 'add',
    path,
    value: path,
  }))
  const reply = await patch(`/Users/${id}`, ...simple, ...more, {
    op: 'add',
    path: 'emails',
    value: [{ value: 'al-11@example.com', type: 'work' }],
  })
  t.match(reply.json(), { title: 'new title', [ENTERPRISE]: { department: /department/ }, meta: { version: 'W/"2"' } })
  t.match(await get(`/Users/${id}`), { name: { givenName: 'name.givenName' }, emails: [{ type: 'work' }] })
  t.equal((await entries()).length, before + 1)
})

t.test(
  'AL-16, AL-23, MS-6, MS-7, OK-6: the filters that providers match by find the user, and an empty result is 200',
  async t => {
    for (const directory of [strict, tolerant]) {
      const emails = [
        { value: 'match@example.com', type: 'work' },
        { value: 'home@example.com', type: 'home' },
      ]
      const user = await directory.createUser({
        userName: 'match',
        externalId: 'match-1',
        emails,
        displayName: 'Match',
      })
      const { id } = await directory.createGroup('Match', [user.id])
      await directory.patch(`/Groups/${id}`, { op: 'add', path: 'externalId', value: 'group-1' })
      for (const [hit, miss] of [
        ['userName eq "MATCH"', 'userName eq "absent"'],
        ['externalId eq "match-1"', 'externalId eq "MATCH-1"'],
        ['displayName eq "match"', 'displayName eq "absent"'],
        ['emails[value eq "Match@example.com"]', 'emails[value eq "absent@example.com"]'],
        [
          'emails[type eq "work" and value eq "match@example.com"]',
          'emails[type eq "work" and value eq "home@example.com"]',
        ],
        ['emails[type eq "work"].value eq "match@example.com"', 'emails[type eq "home"].value eq "match@example.com"'],
      ] as const) {
        t.same(await found(directory, '/Users', hit), [user.id], hit)
        const list = await directory.get(`/Users?filter=${encodeURIComponent(miss)}&startIndex=1&count=100`)
        t.match(list, { totalResults: 0, startIndex: 1, Resources: [] }, miss)
      }
      for (const [hit, miss] of [
        ['displayName eq "MATCH"', 'displayName eq "absent"'],
        ['externalId eq "group-1"', 'externalId eq "GROUP-1"'],
        [`members[value eq "${user.id}"]`, `members[value eq "${id}"]`],
        [`members.value eq "${user.id}"`, 'members.value eq "absent"'],
      ] as const) {
        t.same(await found(directory, '/Groups', hit), [id], hit)
        t.same(await found(directory, '/Groups', miss), [], miss)
      }
      t.notMatch(`${user.id}${directory.directoryId}`, /_|bulkId/i)
    }
  },
)

t.test('AL-24: one PATCH takes a thousand members in and out, whole or not at all', async t => {
  const { createUser, createGroup, patch, get } = tolerant
  const users: string[] = []
  for (let index = 0; index < 60; index++) users.push((await createUser({ userName: `al-24 ${index}` })).id)
  const { id } = await createGroup('al-24', users.slice(0, 30))
  const operations = Array.from({ length: 1000 }, (_, index) => {
    const user = users[index % 60]!
    return index % 60 < 30
      ? { op: 'remove', path: `members[value eq "${user}"]` }
      : { op: 'add', path: 'members', value: members([user]) }
  })
  const broken = [...operations, { op: 'add', path: 'members', value: members(['absent']) }]
  t.equal((await patch(`/Groups/${id}`, ...broken)).statusCode, 400)
  t.match(await get(`/Groups/${id}`), { meta: { version: 'W/"1"' } })
  t.equal((await patch(`/Groups/${id}`, ...operations)).statusCode, 204)
  const group = await get(`/Groups/${id}`)
  t.equal(group.meta.version, 'W/"2"')
  t.same(group.members.map((member: Json) => member.value).toSorted(), users.slice(30).toSorted())
})

t.test('CU-1, CU-6, CU-8: cursors are opaque and offered in addition to the index, which is the default', async t => {
  const { get } = tolerant
  t.match((await get('/ServiceProviderConfig')).pagination, {
    cursor: true,
    index: true,
    defaultPaginationMethod: 'index',
    defaultPageSize: 100,
    maxPageSize: 1000,
    cursorTimeout: 3600,
  })
  for (const query of ['?cursor&count=2', '?cursor=&count=2']) {
    const list = await get(`/Users${query}`)
    t.match(list.nextCursor, /^[A-Za-z0-9._~-]+$/)
    t.notOk('startIndex' in list || 'previousCursor' in list)
  }
  t.match(await get('/Users?count=2'), { startIndex: 1, itemsPerPage: 2 })
  t.notOk('nextCursor' in (await get('/Users?count=2')))
})

t.test('CU-5: a cursor is valid for one list and one hour, and the error says which of the two failed', async t => {
  const { get, send } = tolerant
  const { nextCursor } = await get('/Users?cursor&count=2')
  const refused = async (path: string) => (await send('GET', path)).json()
  t.match(await refused(`/Groups?cursor=${nextCursor}`), { status: '400', scimType: 'invalidCursor' })
  t.match(await refused(`/Users?cursor=${nextCursor.slice(0, -3)}`), { scimType: 'invalidCursor' })
  t.match(await refused(`/Users?cursor&count=1001`), { scimType: 'invalidCount' })
  t.equal((await get(`/Users?cursor=${nextCursor}&count=3`)).itemsPerPage, 3)
  const { now } = Date
  Date.now = () => now() + 3_601_000
  t.teardown(() => void (Date.now = now))
  t.match(await refused(`/Users?cursor=${nextCursor}`), { status: '400', scimType: 'expiredCursor' })
})

t.test('CU-2: a cursor walk returns each remaining user exactly once while others come and go', async t => {
  const step = fc.record({ deletes: fc.array(fc.nat(30), { maxLength: 3 }), creates: fc.nat(2) })
  await fc.assert(
    fc.asyncProperty(
      fc.record({ size: fc.integer({ min: 0, max: 9 }), count: fc.integer({ min: 1, max: 4 }) }),
      fc.array(step, { maxLength: 6 }),
      fc.constantFrom('', `filter=${encodeURIComponent('userName sw "w"')}&`),
      // Titles are shared, and some have none: the order is decided among equals, too.
      fc.constantFrom('', ...['title', 'active', 'id', 'meta.created', 'emails'].map(name => `sortBy=${name}&`)),
      fc.constantFrom('', 'sortOrder=descending&'),
      async ({ size, count }, steps, filter, sortBy, sortOrder) => {
        const directory = await makeDirectory(t, { on })
        const { createUser, send, get } = directory
        const ids: string[] = []
        const create = async () => {
          const index = ids.length
          const title = ['b', 'A', undefined][index % 3]
          const emails = index % 2 === 0 ? [] : [{ value: `${index % 4}@example.com` }]
          ids.push((await createUser({ userName: `w${index}`, title, emails, active: index % 5 > 0 })).id)
        }
        for (let index = 0; index < size; index++) await create()
        const gone = new Set<string>()
        const walked: string[] = []
        let cursor: string | undefined = ''
        for (let page = 0; cursor !== undefined; page++) {
          const list: Json = await get(`/Users?${filter}${sortBy}${sortOrder}count=${count}&cursor=${cursor}`)
          walked.push(...list.Resources.map((user: Json) => user.id as string))
          cursor = list.nextCursor
          const { deletes, creates } = steps[page] ?? { deletes: [], creates: 0 }
          for (const index of deletes) {
            const id = ids[index]
            if (id === undefined || gone.has(id)) continue
            gone.add(id)
            await send('DELETE', `/Users/${id}`)
          }
          for (let index = 0; index < creates; index++) await create()
        }
        if (new Set(walked).size < walked.length) throw new Error('a user was returned twice')
        const stable = ids.slice(0, size).filter(id => !gone.has(id))
        const seen = walked.filter(id => stable.includes(id))
        // Without an order of the client's they come as they were made.
        if (sortBy !== '') seen.sort()
        if (seen.join() !== stable.join()) throw new Error('a user was skipped')
      },
    ),
    { numRuns: 60 },
  )
})

t.test('at the root an attribute of another type is unassigned, and an unknown one is refused', async t => {
  const directory = await makeDirectory(t, { on, mode: 'strict' })
  const { createUser, createGroup, send } = directory
  const user = await createUser({ userName: 'ana', displayName: 'Ana' })
  const group = await createGroup('Weavers', [user.id])
  const search = async (body: Json): Promise<Json> =>
    (await send('POST', '/.search', { body: { schemas: [SEARCH], ...body } })).json()
  const finds = async (filter: string) => (await search({ filter })).Resources.map((each: Json) => each.id)
  for (const [filter, expected] of [
    ['userName pr', [user.id]],
    ['members pr', [group.id]],
    ['userName ne "ana"', [group.id]],
    ['userName eq null', [group.id]],
    ['not (userName pr)', [group.id]],
    [`userName eq "ana" or members.value eq "${user.id}"`, [user.id, group.id]],
    ['emails[type eq "work"] or displayName eq "weavers"', [group.id]],
  ] as const) {
    t.same(await finds(filter), expected, filter)
  }
  t.match(await search({ filter: 'shoeSize pr' }), { status: '400', scimType: 'invalidFilter' })
  t.same(
    (await search({ sortBy: 'userName' })).Resources.map((each: Json) => each.id),
    [user.id, group.id],
  )
  const cut = await search({ attributes: ['userName'] })
  t.same(cut.Resources, [
    { schemas: [USER], id: user.id, userName: 'ana' },
    { schemas: [GROUP], id: group.id },
  ])
  t.notOk('members' in (await search({ excludedAttributes: ['members'] })).Resources[1])
  t.match(await search({ attributes: ['shoeSize'] }), { status: '400' })
})

const SEARCH = 'urn:ietf:params:scim:api:messages:2.0:SearchRequest'

t.test('a blank externalId counts as absent and never matches another user', async t => {
  const { createUser, memberOf, send, get, patch, db, directoryId, entries } = tolerant
  for (const blank of ['', ' ']) {
    const first = await createUser({ userName: `first${blank.length}`, externalId: blank })
    t.notOk('externalId' in first)
    const member = await memberOf(first.id)
    await send('DELETE', `/Users/${first.id}`)
    const second = await createUser({ userName: `second${blank.length}`, externalId: blank })
    t.not((await memberOf(second.id)).id, member.id)
    await patch(`/Users/${second.id}`, { op: 'add', path: 'externalId', value: 'x-1' })
    await patch(`/Users/${second.id}`, { op: 'replace', path: 'externalId', value: blank })
    t.notOk('externalId' in (await get(`/Users/${second.id}`)))
  }
  t.match((await entries()).find(entry => entry.detail.leniencies?.[0]?.pointer === '/externalId')?.detail, {
    leniencies: [{ name: 'empty_string_cleared' }],
  })
  const former = db.selectFrom('scim_former_users').select('external_id').where('directory_id', '=', directoryId)
  t.notOk((await former.execute()).some(({ external_id }) => external_id.trim() === ''))
  const { id } = await strict.createUser({ userName: 'blank' })
  t.match(await strict.createUser({ userName: 'blank two', externalId: '' }, 400), { scimType: 'invalidValue' })
  t.equal((await strict.patch(`/Users/${id}`, { op: 'add', path: 'externalId', value: '' })).statusCode, 400)
})

t.test('a number that JSON has rounded is refused as an identifier', async t => {
  const { send, createUser } = tolerant
  const body = `{"schemas":["${USER}"],"userName":"rounded","externalId":123456789012345678901234567890}`
  t.match((await send('POST', '/Users', { body })).json(), {
    status: '400',
    scimType: 'invalidValue',
    detail: /quotes/,
  })
  t.equal((await createUser({ userName: 'whole', externalId: 4711 })).externalId, '4711')
})

t.test('names that cannot be stored are refused or recorded, and never cause a 500', async t => {
  const { send, createUser, patch } = tolerant
  const { id } = await createUser({ userName: 'odd names' })
  for (const odd of ['a\0b', '\ud800', 'x'.repeat(100_000)]) {
    const replies = [
      await send('POST', '/Groups', { body: { schemas: [GROUP], displayName: `odd ${odd.length}`, [odd]: 1 } }),
      await send('PATCH', `/Users/${id}`, {
        body: { schemas: [], [odd]: 1, Operations: [{ op: 'add', path: 'title', value: odd.slice(-3), [odd]: 1 }] },
      }),
      await patch(`/Users/${id}`, { op: 'add', value: { [odd]: 1, [`urn:x:${odd}`]: { a: 1 } } }),
      await send('POST', '/Bulk', {
        body: {
          Operations: [
            { method: 'POST', path: '/Users', bulkId: odd, data: { userName: odd, [odd]: 1 } },
            { method: 'DELETE', path: `/Users/${odd.slice(0, 20)}` },
          ],
        },
      }),
      await send('POST', `/Users?${encodeURIComponent(odd.toWellFormed().slice(0, 50))}=1`, {
        body: { userName: `odd ${odd.length}` },
      }),
    ]
    for (const reply of replies) t.ok(reply.statusCode < 500, reply.body.slice(0, 200))
    for (const result of replies[3]?.json().Operations ?? []) t.notMatch(result.status, /^5/)
  }
})
