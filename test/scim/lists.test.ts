import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { printFilter } from '../../src/scim/protocol/filter.ts'
import type { Filter } from '../../src/scim/protocol/filter.ts'
import { makeDirectory, USER, type Json, type TestDirectory } from '../helpers/scim.ts'
import { matches } from '../helpers/scim-evaluator.ts'

const ids = (list: Json): string[] => list.Resources.map((resource: Json) => resource.id)
const filtered = (filter: string, rest = '') => `/Users?filter=${encodeURIComponent(filter)}${rest}`

async function makeUsers(directory: TestDirectory, count: number): Promise<string[]> {
  const made: string[] = []
  for (let index = 0; index < count; index++) made.push((await directory.createUser({ userName: `user-${index}` })).id)
  return made
}

t.test('startIndex is exact on every page, warm or cold, and after resources have gone', async t => {
  const directory = await makeDirectory(t)
  const { get, send } = directory
  const all = await makeUsers(directory, 25)
  const page = (startIndex: number, count = 4) => get(`/Users?startIndex=${startIndex}&count=${count}`)
  const check = async (expected: readonly string[]) => {
    for (const startIndex of [1, 5, 9, 22, 5, 13, expected.length, expected.length + 1, 1000]) {
      const list = await page(startIndex)
      t.same(ids(list), expected.slice(startIndex - 1, startIndex + 3), `from ${startIndex}`)
      t.match(list, { totalResults: expected.length, startIndex, itemsPerPage: list.Resources.length })
    }
  }
  await check(all)
  await check(all)
  for (const gone of [all[0], all[10]]) await send('DELETE', `/Users/${gone}`)
  const left = all.filter((_, index) => index !== 0 && index !== 10)
  await check(left)
  left.push(
    ...(await makeUsers(
      { ...directory, createUser: async user => directory.createUser({ userName: `new-${user.userName}` }) },
      3,
    )),
  )
  await check(left)
  t.same(ids(await page(0, 2)), left.slice(0, 2), 'below 1 is 1')
  t.match(await page(1, 0), { totalResults: left.length, itemsPerPage: 0 })
  t.match(await page(1, -5), { itemsPerPage: 0 })
  t.equal((await get('/Users?count=100000')).itemsPerPage, left.length)
  t.match((await send('GET', '/Users?count=abc')).json(), { status: '400', scimType: 'invalidValue' })
  t.match((await send('GET', '/Users?count=1&count=2')).json(), { status: '400' })
})

t.test(
  'a look-up tells how many there are, and gives those of its page in their order, however many it finds',
  async t => {
    const { createUser, createGroup, get, statements } = await makeDirectory(t)
    const shared: string[] = []
    for (const userName of ['ana', 'bea', 'cyd']) {
      const emails = [{ value: 'desk@example.com', type: 'work' }]
      shared.push((await createUser({ userName, externalId: 'desk', emails })).id)
    }
    await createUser({ userName: 'dan', externalId: 'Desk', emails: [{ value: 'desk@example.com', type: 'home' }] })
    for (const filter of ['externalId eq "desk"', 'emails[type eq "work"].value eq "DESK@example.com"']) {
      for (const [count, startIndex, expected] of [
        [3, 1, shared],
        [100, 1, shared],
        [2, 1, shared.slice(0, 2)],
        [2, 2, shared.slice(1)],
        [0, 1, []],
      ] as const) {
        const list = await get(filtered(filter, `&count=${count}&startIndex=${startIndex}`))
        t.same([list.totalResults, list.itemsPerPage, ids(list)], [3, expected.length, expected], `${filter}, ${count}`)
      }
      t.equal((await statements(() => get(filtered(filter)))).length, 1)
    }
    const { id } = await createGroup('Desk', shared)
    for (const rest of ['', '&excludedAttributes=members']) {
      const url = `/Groups?filter=${encodeURIComponent('displayName eq "desk"')}${rest}`
      t.match(await get(url), { totalResults: 1, Resources: [{ id, displayName: 'Desk' }] })
      t.equal((await get(url)).Resources[0].members?.length, rest === '' ? 3 : undefined)
      t.equal((await statements(() => get(url))).length, 1)
      t.same((await get(url.replace('desk', 'nobody'))).totalResults, 0)
    }
  },
)

t.test('cursors walk a list once, whatever comes and goes, with and without a filter or an order', async t => {
  const directory = await makeDirectory(t)
  const { get, send, createGroup, createUser } = directory
  const all = await makeUsers(directory, 11)
  const walk = async (query: string, between?: () => Promise<unknown>): Promise<string[]> => {
    const found: string[] = []
    let cursor: string | undefined = ''
    for (let pages = 0; cursor !== undefined && pages < 20; pages++) {
      const list: Json = await get(`${query}cursor=${cursor}`)
      found.push(...ids(list))
      cursor = list.nextCursor
      await between?.()
    }
    return found
  }
  t.same(await walk('/Users?count=3&'), all)
  t.same(await walk('/Users?count=11&'), all)
  t.same(await walk(filtered('userName sw "user-1"', '&count=1&')), [all[1], all[10]])
  t.same(
    await walk('/Users?sortBy=userName&sortOrder=descending&count=4&'),
    all.toReversed().toSorted(byNumberDescending(all)),
  )
  let gone = 0
  const walked = await walk('/Users?count=2&', async () => {
    if (gone < 3) await send('DELETE', `/Users/${all[gone++]}`)
    await createUser({ userName: `late-${gone}-${Math.random()}` })
  })
  t.same(walked.slice(0, 11), all, 'nobody is skipped where somebody before them goes')
  t.equal(new Set(walked).size, walked.length)
  await createGroup('Weavers')
  const search = (cursor: string) => send('POST', '/.search', { body: { schemas: [], count: 4, cursor } })
  const types: string[] = []
  let next: string | undefined = ''
  while (next !== undefined) {
    const list: Json = (await search(next)).json()
    types.push(...list.Resources.map((resource: Json) => resource.meta.resourceType))
    next = list.nextCursor
  }
  const { totalResults } = (await search('')).json()
  t.equal(types.length, totalResults)
  t.match(types.at(-1), 'Group')

  const first = await get('/Users?count=2&cursor=')
  t.notOk('startIndex' in first)
  const refused = async (query: string) => (await send('GET', query)).json()
  t.match(await refused(`/Users?cursor=AA${first.nextCursor.slice(2)}`), { status: '400', scimType: 'invalidCursor' })
  t.match(await refused(`/Users?cursor=nonsense`), { scimType: 'invalidCursor' })
  t.match(
    await refused(`${filtered('title pr')}&cursor=${first.nextCursor}`),
    { scimType: 'invalidCursor' },
    'another query',
  )
  t.match(await refused('/Users?cursor=&count=5000'), { scimType: 'invalidCount' })
  t.match(await refused('/Users?cursor=&startIndex=1'), { status: '400' })
  const other = await makeDirectory(t, { sibling: directory })
  t.match((await other.send('GET', `/Users?cursor=${first.nextCursor}`)).json(), { scimType: 'invalidCursor' })
})

function byNumberDescending(all: string[]) {
  const names = new Map(all.map((id, index) => [id, `user-${index}`]))
  return (a: string, b: string) => (String(names.get(a)) < String(names.get(b)) ? 1 : -1)
}

t.test('an order is by the attribute, its primary value where there are several, without it last', async t => {
  const { get, createUser, send } = await makeDirectory(t)
  const make = (userName: string, rest: Json) => createUser({ userName, ...rest })
  await make('a', {
    name: { familyName: 'Beta' },
    emails: [{ value: 'z@example.com' }, { value: 'a@example.com', primary: true }],
  })
  await make('b', { name: { familyName: 'alpha' }, emails: [{ value: 'b@example.com' }] })
  await make('c', {})
  const order = async (query: string) =>
    (await get(`/Users?${query}`)).Resources.map((each: Json) => each.userName).join('')
  t.equal(await order('sortBy=name.familyName'), 'bac')
  t.equal(await order('sortBy=name.familyName&sortOrder=descending'), 'cab')
  t.equal(await order('sortBy=emails.value'), 'abc')
  t.equal(await order('sortBy=emails&startIndex=2&count=1'), 'b')
  t.equal(await order('sortBy=meta.created&sortOrder=descending'), 'cba')
  for (const query of ['sortBy=nothing', 'sortBy=name', 'sortBy=userName&sortOrder=sideways']) {
    t.match((await send('GET', `/Users?${query}`)).json(), { status: '400', scimType: 'invalidValue' }, query)
  }
})

t.test('search finds what a GET finds, over one type or all, and keeps the filter out of the URL', async t => {
  const { send, createUser, createGroup, get, log } = await makeDirectory(t)
  for (let index = 0; index < 3; index++) await createUser({ userName: `user-${index}`, displayName: 'Weavers' })
  await createGroup('Weavers')
  const search = async (path: string, body: Json) =>
    (await send('POST', path, { body: { schemas: [], ...body } })).json()
  const filter = 'displayName eq "Weavers"'
  t.same((await search('/Users/.search', { filter })).Resources, (await get(filtered(filter))).Resources)
  const both = await search('/.search', { filter, startIndex: 3, count: 2, attributes: ['displayName', 'meta'] })
  t.match(both, { totalResults: 4, startIndex: 3, itemsPerPage: 2 })
  t.same(
    both.Resources.map((each: Json) => each.meta.resourceType),
    ['User', 'Group'],
  )
  t.match(await search('/.search', { filter, startIndex: 5 }), { totalResults: 4, Resources: [] })
  t.notOk(log().includes('Weavers'))
})

const keys = (resource: Json) => Object.keys(resource).toSorted()

t.test('attributes and excludedAttributes cut every answer, but never what is always returned', async t => {
  const { send, createUser, createGroup, get } = await makeDirectory(t)
  const user = await createUser({ userName: 'ana', title: 'Weaver', name: { givenName: 'Ana', familyName: 'P' } })
  const group = await createGroup('Weavers', [user.id])
  t.same(keys(await get(`/Users/${user.id}?attributes=userName`)), ['id', 'schemas', 'userName'])
  t.same(await get(`/Users/${user.id}?attributes=name.givenName,GROUPS.value`), {
    id: user.id,
    schemas: [USER],
    name: { givenName: 'Ana' },
    groups: [{ value: group.id }],
  })
  t.same(keys(await get(`/Users/${user.id}?excludedAttributes=id,meta,groups,title`)), [
    'active',
    'id',
    'name',
    'schemas',
    'userName',
  ])
  t.same(keys((await get('/Users?attributes=title')).Resources[0]), ['id', 'schemas', 'title'])
  t.notOk('members' in (await get('/Groups?excludedAttributes=members')).Resources[0])
  const put = await send('PUT', `/Users/${user.id}?attributes=title`, {
    body: { schemas: [USER], userName: 'ana', title: 'Dyer' },
  })
  t.same(keys(put.json()), ['id', 'schemas', 'title'])
  const post = await send('POST', '/Users?excludedAttributes=meta', { body: { schemas: [USER], userName: 'bea' } })
  t.same(keys(post.json()), ['active', 'id', 'schemas', 'userName'])
  t.match((await send('GET', '/Users?attributes=title&excludedAttributes=title')).json(), { status: '400' })
})

t.test('a filter that takes too long is refused with advice, and not as an error of the service', async t => {
  const directory = await makeDirectory(t)
  await makeUsers(directory, 1)
  // Whoever holds the table makes every search take too long.
  await directory.db.transaction().execute(async trx => {
    await sql`LOCK TABLE scim_users IN ACCESS EXCLUSIVE MODE`.execute(trx)
    const reply = await directory.send('GET', filtered('title co "x"'))
    t.match(reply.json(), { status: '400', scimType: 'tooMany' })
  })
  t.equal((await directory.get(filtered('title co "x"'))).totalResults, 0)
})

// ---- filters in SQL against filters in memory

const word = fc.constantFrom('a', 'A', 'ab', 'Ba', '%', '_', 'é', 'É', 'ß', '\\', '"', '')
const user = fc.record(
  {
    title: word,
    nickName: word,
    externalId: fc.constantFrom('x', 'X', 'y'),
    active: fc.boolean(),
    name: fc.record({ givenName: word, familyName: word }, { requiredKeys: [] }),
    emails: fc.array(
      fc.record(
        {
          value: fc.constantFrom('a@x.example', 'A@X.example', 'b@x.example'),
          type: fc.constantFrom('work', 'home'),
          primary: fc.constant(false),
        },
        { requiredKeys: ['value'] },
      ),
      { maxLength: 3 },
    ),
  },
  { requiredKeys: [] },
)
const textAttribute = fc.constantFrom(
  'title',
  'nickName',
  'name.givenName',
  'externalId',
  'emails.value',
  'emails.type',
  'emails',
  'userName',
)
const operator = fc.constantFrom('eq', 'ne', 'co', 'sw', 'ew', 'gt', 'ge', 'lt', 'le')
const operand = fc.oneof(word, fc.constantFrom('x', 'X', 'work', 'a@x.example', 'A@x.EXAMPLE', 'user-1', '\0'))
const offset = 0
const leaf = fc.oneof(
  fc.record({
    kind: fc.constant('compare'),
    attribute: textAttribute,
    operator,
    value: operand,
    offset: fc.constant(offset),
  }),
  fc.record({
    kind: fc.constant('compare'),
    attribute: fc.constant('active'),
    operator: fc.constantFrom('eq', 'ne'),
    value: fc.boolean(),
    offset: fc.constant(offset),
  }),
  fc.record({
    kind: fc.constant('compare'),
    attribute: fc.constantFrom('title', 'emails'),
    operator: fc.constantFrom('eq', 'ne'),
    value: fc.constant(null),
    offset: fc.constant(offset),
  }),
  fc.record({
    kind: fc.constant('present'),
    attribute: fc.constantFrom('title', 'emails', 'name', 'emails.type', 'externalId'),
    offset: fc.constant(offset),
  }),
  fc.record({
    kind: fc.constant('values'),
    attribute: fc.constant('emails'),
    filter: fc.oneof(
      fc.record({
        kind: fc.constant('compare'),
        attribute: fc.constantFrom('value', 'type'),
        operator,
        value: operand,
        offset: fc.constant(offset),
      }),
      fc.record({
        kind: fc.constant('and'),
        operands: fc.tuple(
          fc.record({
            kind: fc.constant('compare'),
            attribute: fc.constant('type'),
            operator: fc.constantFrom('eq', 'ne'),
            value: fc.constantFrom('work', 'home'),
            offset: fc.constant(offset),
          }),
          fc.record({
            kind: fc.constant('compare'),
            attribute: fc.constant('value'),
            operator,
            value: operand,
            offset: fc.constant(offset),
          }),
        ),
      }),
    ),
    offset: fc.constant(offset),
  }),
)
const { filter: anyFilter } = fc.letrec(tie => ({
  filter: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.record({
      kind: fc.constantFrom('and', 'or'),
      operands: fc.array(tie('filter'), { minLength: 2, maxLength: 3 }),
    }),
    fc.record({ kind: fc.constant('not'), operand: tie('filter') }),
  ),
}))

t.test('a filter finds in SQL exactly the users that it matches in memory', async t => {
  const directory = await makeDirectory(t)
  const bodies = fc.sample(user, { numRuns: 40, seed: 7 })
  for (const [index, body] of bodies.entries()) await directory.createUser({ userName: `User-${index}`, ...body })
  const users: Json[] = (await directory.get('/Users')).Resources
  await fc.assert(
    fc.asyncProperty(anyFilter, async tree => {
      const filter = tree as Filter
      const list = await directory.get(filtered(printFilter(filter)))
      const expected = users.filter(each => matches(filter, each)).map(each => each.userName)
      t.same(
        list.Resources.map((each: Json) => each.userName),
        expected,
      )
      if (list.totalResults !== expected.length) throw new Error(printFilter(filter))
    }),
    { numRuns: 120 },
  )
})

const shown = (list: Json) => list.Resources.map((group: Json) => group.members.length)

t.test('a page of groups carries 50,000 members at most: it ends early, and the next goes on', async t => {
  const { get, createGroup, db, workspaceId, directoryId } = await makeDirectory(t)
  const sizes = [30_000, 30_000, 55_000, 1]
  const made: string[] = []
  for (const [index, size] of sizes.entries()) {
    const { id } = await createGroup(`group-${index}`)
    made.push(id)
    await sql`
      INSERT INTO scim_group_memberships (workspace_id, directory_id, group_id, user_id)
      SELECT ${workspaceId}::uuid, ${directoryId}::uuid, ${id}::uuid, gen_random_uuid() FROM generate_series(1, ${size}::int)`.execute(
      db,
    )
  }
  t.match(await get('/Groups'), { totalResults: 4, itemsPerPage: 1 })
  t.same(shown(await get('/Groups?startIndex=2')), [30_000])
  t.same(shown(await get('/Groups?startIndex=3')), [55_000], 'one that is larger stands alone')
  t.equal((await get('/Groups?excludedAttributes=members')).itemsPerPage, 4)
  const pages: number[][] = []
  for (let cursor: string | undefined = ''; cursor !== undefined;) {
    const list: Json = await get(`/Groups?cursor=${cursor}`)
    pages.push(shown(list))
    cursor = list.nextCursor
  }
  t.same(pages, [[30_000], [30_000], [55_000], [1]])
  t.same(ids(await get('/Groups?excludedAttributes=members')), made)
})
