import t from 'tap'
import { GROUP, makeDirectory, USER, type Json } from '../helpers/scim.ts'

const REQUEST = 'urn:ietf:params:scim:api:messages:2.0:BulkRequest'
const PATCH_OP = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'

const directory = await makeDirectory(t)
const { send, get, createUser, createGroup, entries } = directory

const patch = (value: string) => ({ schemas: [PATCH_OP], Operations: [{ op: 'replace', path: 'title', value }] })

async function bulk(operations: Json[], rest: Json = {}): Promise<Json[]> {
  const reply = await send('POST', '/Bulk', { body: { schemas: [REQUEST], Operations: operations, ...rest } })
  if (reply.statusCode !== 200) throw new Error(reply.body)
  return reply.json<Json>().Operations as Json[]
}

async function refusedBulk(body: unknown): Promise<Json> {
  return (await send('POST', '/Bulk', { body })).json()
}

const user = (bulkId: string, rest: Json = {}) => ({
  method: 'POST',
  path: '/Users',
  bulkId,
  data: { schemas: [USER], userName: bulkId, ...rest },
})
const group = (bulkId: string, ...members: string[]) => ({
  method: 'POST',
  path: '/Groups',
  bulkId,
  data: { schemas: [GROUP], displayName: bulkId, members: members.map(value => ({ value })) },
})

t.test(
  'each operation has its result: method, bulkId, location, version and status, and an error where it failed',
  async t => {
    const { id } = await createUser({ userName: 'kept', title: 'x' })
    const gone = await createUser({ userName: 'gone' })
    const weavers = await createGroup('weavers')
    const results = await bulk([
      user('made'),
      user('kept'),
      { method: 'PUT', path: `/Users/${id}`, data: { schemas: [USER], userName: 'kept', title: 'y' } },
      { method: 'PATCH', path: `/Users/${id}`, data: patch('z'), version: 'W/"2"' },
      { method: 'patch', path: `/Users/${id}`, data: patch('lost'), version: 'W/"2"' },
      { method: 'PATCH', path: `/Users/${id}`, data: patch('lost').Operations },
      {
        method: 'PATCH',
        path: `/Groups/${weavers.id}`,
        data: { ...patch('x'), Operations: [{ op: 'add', path: 'members', value: [{ value: id }] }] },
      },
      { method: 'DELETE', path: `/Users/${gone.id}` },
      { method: 'DELETE', path: `/Users/${gone.id}` },
      { method: 'DELETE', path: '/Users/none' },
    ])
    t.match(results, [
      { method: 'POST', bulkId: 'made', status: '201', location: /\/Users\/[0-9a-f-]{36}$/, version: 'W/"1"' },
      { method: 'POST', bulkId: 'kept', status: '409', response: { status: '409', scimType: 'uniqueness' } },
      { method: 'PUT', status: '200', location: new RegExp(`/Users/${id}$`), version: 'W/"2"' },
      { method: 'PATCH', status: '200', version: 'W/"3"' },
      { method: 'PATCH', status: '412' },
      { method: 'PATCH', status: '400', response: { scimType: 'invalidSyntax' } },
      { method: 'PATCH', status: '200', location: /\/Groups\// },
      { method: 'DELETE', status: '204' },
      { method: 'DELETE', status: '404' },
      { method: 'DELETE', status: '404' },
    ])
    t.notOk('location' in results[1]!, 'what was not made is nowhere')
    t.match(await get(`/Users/${id}`), { title: 'z', groups: [{ value: weavers.id }] })
    const refusals = (await entries()).filter(entry => entry.action === 'directory.request_refused')
    t.match(refusals[0], { reason: 'uniqueness', detail: { path: '/Bulk', pointer: '/Operations/1/data' } })
  },
)

t.test('references by bulkId hold in any order, in paths and in values', async t => {
  const results = await bulk([
    group('outer', 'bulkId:inner', 'bulkId:ana'),
    user('report', {
      'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User': { manager: { value: 'bulkId:ana' } },
    }),
    {
      method: 'PATCH',
      path: '/Groups/bulkId:inner',
      data: { schemas: [PATCH_OP], Operations: [{ op: 'add', path: 'externalId', value: 'e' }] },
    },
    group('inner'),
    user('ana'),
  ])
  t.same(
    results.map(result => result.status),
    ['201', '201', '200', '201', '201'],
  )
  const idOf = (index: number) => String(results[index]?.location).split('/').at(-1)
  const members = (await get(`/Groups/${idOf(0)}`)).members as Json[]
  t.same(new Set(members.map(member => member.value)), new Set([idOf(3), idOf(4)]))
  const report = await get(`/Users/${idOf(1)}`)
  t.equal(report['urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'].manager.value, idOf(4))
  t.equal((await get(`/Groups/${idOf(3)}`)).externalId, 'e')
})

t.test('what refers to nothing that was made fails alone', async t => {
  const results = await bulk([
    group('ghosts', 'bulkId:ghost'),
    user('fine'),
    user('kept'),
    group('orphans', 'bulkId:kept'),
  ])
  t.same(
    results.map(result => result.status),
    ['400', '201', '409', '400'],
  )
  t.ok(results[0]?.response.detail.includes('ghost'))
  t.equal((await get('/Groups?filter=displayName%20eq%20%22ghosts%22')).totalResults, 0)
})

t.test('a circle of references is a conflict, and what stands outside of it is made', async t => {
  const results = await bulk([group('round', 'bulkId:about'), user('outside'), group('about', 'bulkId:round')])
  t.same(
    results.map(result => result.status),
    ['409', '201', '409'],
  )
  t.equal((await get('/Groups?filter=displayName%20sw%20%22round%22')).totalResults, 0)
})

t.test('failOnErrors stops the rest', async t => {
  const results = await bulk([user('kept'), user('fine'), user('never')], { failOnErrors: 2 })
  t.same(
    results.map(result => result.status),
    ['409', '409'],
  )
  t.equal((await get('/Users?filter=userName%20eq%20%22never%22')).totalResults, 0)
})

t.test('a fault in what one operation asks is a failure of that one', async t => {
  const from = (await entries()).length
  const { id } = await createUser({ userName: 'target' })
  const results = await bulk([
    { ...user('nowhere'), path: '/Devices' },
    { ...user('named'), path: `/Users/${id}` },
    { method: 'DELETE', path: '/Users' },
    { ...user('nameless'), bulkId: null },
    { method: 'DELETE', path: `/Users/${id}`, version: 1 },
    user('still made'),
    group('of nowhere', 'bulkId:nowhere'),
  ])
  t.match(results, [
    { method: 'POST', bulkId: 'nowhere', status: '404', response: { detail: /\/Operations\/0\/path/ } },
    { method: 'POST', bulkId: 'named', status: '405' },
    { method: 'DELETE', status: '405' },
    { method: 'POST', status: '400', response: { scimType: 'invalidSyntax', detail: /bulkId/ } },
    { method: 'DELETE', status: '400', response: { scimType: 'invalidSyntax', detail: /entity tag/ } },
    { status: '201' },
    { status: '400', response: { detail: /nowhere/ } },
  ])
  const refusals = (await entries()).slice(from).filter(entry => entry.action === 'directory.request_refused')
  t.same(
    refusals.map(({ detail }) => detail.pointer),
    ['/Operations/1/path', '/Operations/2/path', '/Operations/3/bulkId', '/Operations/4/version', '/Operations/6/data'],
  )
})

t.test(
  'names of the message compare without case, and what was overlooked is in the entry, with its place',
  async t => {
    const reply = await send('POST', '/Bulk', {
      body: {
        operations: [
          {
            METHOD: 'post',
            Path: '/Users',
            bulkid: 'lenient',
            note: 1,
            Data: { schemas: [USER], userName: 'lenient', foo: 1 },
          },
        ],
      },
    })
    t.match(reply.json(), { Operations: [{ method: 'POST', bulkId: 'lenient', status: '201' }] })
    t.same((await entries()).at(-1)?.detail.leniencies, [
      { name: 'schemas_missing', pointer: '/schemas' },
      { name: 'attribute_unknown', pointer: '/Operations/0/note' },
      { name: 'attribute_unknown', pointer: '/Operations/0/data/foo' },
    ])
  },
)

t.test('a request that is no bulk request is refused whole, and above the published limit with 413', async t => {
  const good = user('untouched')
  for (const [fault, pointer] of [
    [[good, good], '/Operations'],
    [[good, { ...good, bulkId: 7 }], '/Operations/1/bulkId'],
    [[good, { ...good, method: 'GET' }], '/Operations/1/method'],
    [[good, null], '/Operations/1'],
    ['none', '/Operations'],
  ] as const) {
    const refused = await refusedBulk({ schemas: [REQUEST], Operations: fault })
    t.match(refused, { status: '400', scimType: 'invalidSyntax' })
    t.ok(refused.detail.includes(pointer), refused.detail)
  }
  const many = (count: number) => Array.from({ length: count }, (_, index) => user(`many-${index}`))
  t.match(await refusedBulk({ schemas: [REQUEST], Operations: many(1001) }), { status: '413' })
  t.equal((await get('/Users?filter=userName%20eq%20%22untouched%22')).totalResults, 0)
  t.equal((await bulk(many(1000))).filter(result => result.status === '201').length, 1000)
})

t.test('a filter that selects no member is recorded with its place in the bulk request', async t => {
  const { id } = await createUser({ userName: 'nobody' })
  const dyers = await createGroup('dyers')
  const operations = [
    { op: 'remove', path: `members[value eq "${id}"]` },
    { op: 'replace', path: 'displayName', value: 'Dyers' },
  ]
  const data = { schemas: [PATCH_OP], Operations: operations }
  const [, result] = await bulk([user('somebody'), { method: 'PATCH', path: `/Groups/${dyers.id}`, data }])
  t.match(result, { status: '200' })
  const pointer = '/Operations/1/data/Operations/0/path'
  t.match((await entries()).at(-1)?.detail, { leniencies: [{ name: 'target_missed', pointer }] })
})
