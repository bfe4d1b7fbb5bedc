import fc from 'fast-check'
import t from 'tap'
import { ENTERPRISE_SCHEMA, GROUP_SCHEMA, USER_SCHEMA } from '../../src/scim/protocol/attributes.ts'
import type { Mode, ResourceTypeName } from '../../src/scim/protocol/attributes.ts'
import { keepsDocument, project, readProjection, returnsAttribute } from '../../src/scim/protocol/projection.ts'
import { areResourceIds, isResourceId } from '../../src/scim/protocol/resource-id.ts'
import { fromRow, readResource, toGroupRow, toUserRow } from '../../src/scim/protocol/resource.ts'

const user = (rest: object = {}): object => ({ schemas: [USER_SCHEMA], userName: 'ann@example.com', ...rest })

const readUser = (rest: object, mode: Mode = 'tolerant') => readResource('User', user(rest), mode)

t.test('names come out in canonical spelling and values exactly as sent', async t => {
  const { resource, leniencies } = readResource(
    'User',
    {
      SCHEMAS: [USER_SCHEMA.toUpperCase()],
      UserName: ' Ann@Example.com ',
      Active: true,
      name: { FamilyName: 'Zoë 🚀' },
      emails: [{ Primary: true, VALUE: 'Ann@example.com', Type: 'WORK' }],
      [ENTERPRISE_SCHEMA.toLowerCase()]: { DEPARTMENT: 'Docks' },
    },
    'tolerant',
  )
  t.same(resource, {
    schemas: [USER_SCHEMA, ENTERPRISE_SCHEMA],
    userName: ' Ann@Example.com ',
    active: true,
    name: { familyName: 'Zoë 🚀' },
    emails: [{ primary: true, value: 'Ann@example.com', type: 'WORK' }],
    [ENTERPRISE_SCHEMA]: { department: 'Docks' },
  })
  t.same(leniencies, [{ name: 'schema_undeclared', pointer: '/schemas' }])
})

t.test('null, [] and empty complex values are unassigned; read-only attributes are ignored', async t => {
  const { resource, leniencies } = readUser({
    title: null,
    roles: [],
    name: { givenName: null },
    phoneNumbers: [null],
    id: 'mine',
    meta: { created: '2001-01-01T00:00:00Z' },
    groups: [{ value: 'g' }],
    [ENTERPRISE_SCHEMA]: { manager: { value: null, displayName: 'Boss' } },
  })
  t.same(resource, user())
  t.same(leniencies, [])
})

t.test(
  'what identity providers send beyond the RFC is accepted, recorded by name and pointer, and refused when strict',
  async t => {
    const legacy = 'http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/User'
    const cases: [object, object, { name: string; pointer: string }][] = [
      [{ active: 'False' }, { active: false }, { name: 'boolean_as_string', pointer: '/active' }],
      [{ title: ['Head'] }, { title: 'Head' }, { name: 'array_for_single', pointer: '/title' }],
      [
        { emails: { value: 'a@example.com' } },
        { emails: [{ value: 'a@example.com' }] },
        { name: 'single_for_array', pointer: '/emails' },
      ],
      [
        { emails: ['a@example.com'] },
        { emails: [{ value: 'a@example.com' }] },
        { name: 'string_for_complex', pointer: '/emails/0' },
      ],
      [
        { 'name.givenName': 'Ann' },
        { name: { givenName: 'Ann' } },
        { name: 'path_as_key', pointer: '/name.givenName' },
      ],
      [{ colour: 'teal' }, {}, { name: 'attribute_unknown', pointer: '/colour' }],
      [
        { emails: [{ value: 'a@example.com', colour: 1 }] },
        { emails: [{ value: 'a@example.com' }] },
        { name: 'attribute_unknown', pointer: '/emails/0/colour' },
      ],
      [{ password: 'secret-1' }, {}, { name: 'password_ignored', pointer: '/password' }],
      [{ nickName: 7 }, { nickName: '7' }, { name: 'number_for_string', pointer: '/nickName' }],
      [{ schemas: [USER_SCHEMA, legacy] }, {}, { name: 'schema_legacy', pointer: '/schemas/1' }],
      [{ schemas: ['urn:scim:schemas:core:1.0', USER_SCHEMA] }, {}, { name: 'schema_legacy', pointer: '/schemas/0' }],
      [{ schemas: [USER_SCHEMA, 'urn:x:y'] }, {}, { name: 'schema_unknown', pointer: '/schemas/1' }],
      [{ schemas: undefined }, {}, { name: 'schemas_missing', pointer: '/schemas' }],
    ]
    for (const [sent, expected, leniency] of cases) {
      const { resource, leniencies } = readUser(sent)
      t.same(resource, { ...user(), ...expected }, leniency.name)
      t.same(leniencies, [leniency])
      t.throws(
        () => readUser(sent, 'strict'),
        { errors: [{ pointer: leniency.pointer }] },
        `${leniency.name} when strict`,
      )
      t.throws(() => readUser(sent, 'strict'), { message: /^(?!.*secret-1)/ })
    }
  },
)

const manager = (sent: unknown) =>
  readUser({ schemas: [USER_SCHEMA, ENTERPRISE_SCHEMA], [ENTERPRISE_SCHEMA]: { manager: sent } }).resource[
    ENTERPRISE_SCHEMA
  ]

t.test('a manager may be an object, a bare id, an array, or empty', async t => {
  for (const sent of ['b', { value: 'b' }, ['b'], [{ value: 'b' }]]) t.same(manager(sent), { manager: { value: 'b' } })
  for (const sent of ['', null, [], {}, { value: '' }, { value: null }]) t.equal(manager(sent), undefined)
})

t.test('draft enterprise data goes where it belongs today', async t => {
  const { resource, leniencies } = readUser({ 'urn:scim:schemas:extension:enterprise:1.0': { department: 'Docks' } })
  t.same(resource[ENTERPRISE_SCHEMA], { department: 'Docks' })
  t.match(leniencies, [{ name: 'schema_legacy' }])
})

t.test('keys that are URN-qualified attributes go into their extension', async t => {
  const { resource } = readUser({
    [`${ENTERPRISE_SCHEMA}:department`]: 'Docks',
    [ENTERPRISE_SCHEMA]: { costCenter: '7' },
  })
  t.same(resource[ENTERPRISE_SCHEMA], { costCenter: '7', department: 'Docks' })
})

t.test('an unknown extension is kept as sent when tolerant and refused when strict', async t => {
  const acme = 'urn:example:acme:2.0:User'
  const sent = { schemas: [USER_SCHEMA, acme], [acme]: { badge: 17, list: [{ a: 1 }], none: null } }
  const { resource, leniencies } = readUser(sent)
  t.same(resource[acme], { badge: 17, list: [{ a: 1 }] })
  t.same(resource.schemas, [USER_SCHEMA, acme])
  t.match(leniencies, [{ name: 'extension_unknown' }])
  t.throws(() => readUser(sent, 'strict'), { code: 'scim_invalid_syntax' })
  const deep = JSON.parse(`${'{"a":'.repeat(20)}1${'}'.repeat(20)}`) as object
  t.throws(() => readUser({ [acme]: deep }), { code: 'scim_invalid_value', message: /8 deep/ })
  t.throws(() => readUser({ [acme]: { a: 'x\0' } }), { code: 'scim_invalid_value', message: /NUL/ })
  t.throws(() => readUser({ [acme]: { a: Array(3000).fill(0) } }), {
    code: 'scim_invalid_value',
    message: /2000 parts/,
  })
})

t.test('wrong values are refused with the attribute and the pointer', async t => {
  const refused: [object, string, RegExp][] = [
    [{ userName: '' }, '/userName', /userName is required/],
    [{ userName: '  ' }, '/userName', /required/],
    [{ userName: 'x'.repeat(6000) }, '/userName', /userName has at most 512 characters/],
    [{ active: 'maybe' }, '/active', /active must be true or false/],
    [{ active: 1 }, '/active', /active/],
    [{ name: 'Ann' }, '/name', /name must be an object/],
    [{ title: { a: 1 } }, '/title', /title must be text/],
    [{ title: ['a', 'b'] }, '/title', /title has one value/],
    [{ title: 'a\0b' }, '/title', /NUL/],
    [{ name: { givenName: '\ud800' } }, '/name/givenName', /surrogates/],
    [{ emails: [['a']] }, '/emails/0', /arrays/],
    [
      {
        emails: [
          { value: 'a', primary: true },
          { value: 'b', primary: true },
        ],
      },
      '/emails',
      /at most one primary/,
    ],
    [{ emails: Array.from({ length: 1001 }, () => ({ value: 'a' })) }, '/emails', /at most 1000 values/],
  ]
  for (const [sent, pointer, message] of refused) {
    t.throws(() => readUser(sent), { code: 'scim_invalid_value', message, errors: [{ pointer }] }, pointer)
  }
  t.throws(() => readUser({ title: 'a', Title: 'b' }), { code: 'scim_invalid_syntax', message: /given twice/ })
  for (const body of [null, [], 'x', 7])
    t.throws(() => readResource('User', body, 'tolerant'), { code: 'scim_invalid_syntax' })
  t.throws(() => readResource('Group', { schemas: [GROUP_SCHEMA] }, 'tolerant'), { message: /displayName is required/ })
})

t.test('keys of the prototype change nothing and are unknown attributes', async t => {
  const body = JSON.parse(
    `{"schemas":["${USER_SCHEMA}"],"userName":"a","__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}},
      "name":{"__proto__":{"admin":true}},"urn:example:x":{"__proto__":{"admin":true}}}`,
  ) as object
  const { resource, leniencies } = readResource('User', body, 'tolerant')
  t.equal(({} as Record<string, unknown>).admin, undefined)
  t.equal(resource.admin, undefined)
  t.same(Object.keys(resource), ['schemas', 'userName'])
  t.ok(leniencies.length >= 3)
})

const read = (members: unknown, mode: Mode = 'tolerant') =>
  readResource('Group', { schemas: [GROUP_SCHEMA], displayName: 'G', members }, mode)

t.test('members of a group are distinct ids outside the resource', async t => {
  const many = Array.from({ length: 25_000 }, () => ({ value: 'a' }))
  t.same(read(many).members, ['a'])
  t.same(read([{ value: 'a', display: null, type: 'User', $ref: null }, { Value: 'b' }]).members, ['a', 'b'])
  t.same(read(['a']).members, ['a'])
  t.same(read({ value: 'a' }).members, ['a'])
  t.same(read([]).members, [])
  t.same(read(null).members, [])
  t.equal(readResource('Group', { displayName: 'G' }, 'tolerant').members, undefined)
  t.equal(read([{ value: 'a' }]).resource.members, undefined)
  for (const bad of [[{}], [{ value: '' }], [{ value: 7 }], [7], [{ display: 'x' }], [{ value: 'a\0' }]]) {
    t.throws(() => read(bad), { code: 'scim_invalid_value', message: /members.*\/members/ })
  }
  t.throws(() => read(['a'], 'strict'), { code: 'scim_invalid_value' })
})

t.test('a stored resource is read back unchanged, and a response is a prefix and the document', async t => {
  const { resource } = readUser({
    externalId: 'X',
    active: false,
    emails: [{ value: 'A@example.com' }, { value: 'a@EXAMPLE.com', type: 'home' }, { type: 'work' }],
  })
  const row = toUserRow(resource)
  t.match(row, { userNameKey: 'ann@example.com', externalId: 'X', active: false, emailKeys: ['a@example.com'] })
  t.same(fromRow({ id: '1', active: false, doc: row.doc }), { id: '1', ...resource })
  t.same(JSON.parse(`{"id":"1","active":false,${row.doc.slice(1)}`), { id: '1', ...resource })
  t.notMatch(row.doc, /"active"|"id"/)
  const group = toGroupRow(readResource('Group', { displayName: 'Ops' }, 'tolerant').resource)
  t.same(group, {
    displayName: 'Ops',
    displayNameKey: 'ops',
    externalId: null,
    doc: `{"schemas":["${GROUP_SCHEMA}"],"displayName":"Ops"}`,
  })
})

t.test(
  'any JSON is read or refused with a SCIM code, and a resource that was read is read again unchanged',
  async t => {
    const key = fc.constantFrom(
      'userName',
      'name',
      'emails',
      'active',
      'title',
      'roles',
      'x',
      '__proto__',
      'urn:example:x',
      'name.givenName',
      'schemas',
      ENTERPRISE_SCHEMA,
    )
    const body = fc.dictionary(key, fc.jsonValue({ maxDepth: 3 }))
    fc.assert(
      fc.property(body, fc.constantFrom<ResourceTypeName>('User', 'Group'), (sent, type) => {
        try {
          const name = { userName: 'ann@example.com', displayName: 'Ann' }
          const { resource } = readResource(type, { ...sent, ...name }, 'tolerant')
          const again = readResource(type, JSON.parse(JSON.stringify(resource)), 'tolerant')
          return t.same(again.resource, resource)
        } catch (error) {
          return t.match(error, { name: 'AppError', code: /^scim_/ })
        }
      }),
      { numRuns: 300 },
    )
  },
)

// ---- projection

const whole = {
  schemas: [USER_SCHEMA, ENTERPRISE_SCHEMA],
  id: '1',
  meta: { resourceType: 'User' },
  userName: 'ann',
  name: { givenName: 'Ann', familyName: 'Ash' },
  emails: [{ value: 'a@example.com', type: 'work' }, { type: 'home' }],
  [ENTERPRISE_SCHEMA]: { department: 'Docks', costCenter: '7' },
}
const { schemas, id } = whole

t.test('attributes and excludedAttributes cut the response, which always has id and schemas', async t => {
  const cases: [{ attributes?: string[]; excludedAttributes?: string[] }, object][] = [
    [{}, whole],
    [{ attributes: ['USERNAME'] }, { schemas, id, userName: 'ann' }],
    [
      { attributes: ['name.givenName,emails.value'] },
      { schemas, id, name: { givenName: 'Ann' }, emails: [{ value: 'a@example.com' }] },
    ],
    [{ attributes: ['name', 'name.givenName'] }, { schemas, id, name: whole.name }],
    [{ attributes: [ENTERPRISE_SCHEMA] }, { schemas, id, [ENTERPRISE_SCHEMA]: whole[ENTERPRISE_SCHEMA] }],
    [
      { attributes: [`${ENTERPRISE_SCHEMA}:department`] },
      { schemas, id, [ENTERPRISE_SCHEMA]: { department: 'Docks' } },
    ],
    [
      { excludedAttributes: ['id', 'schemas', 'name', 'emails.value', 'meta', ENTERPRISE_SCHEMA] },
      { schemas, id, userName: 'ann', emails: [{ type: 'work' }, { type: 'home' }] },
    ],
    [{ attributes: [' ', ''] }, whole],
  ]
  for (const [parameters, expected] of cases) {
    const { projection, leniencies } = readProjection('User', parameters, 'strict')
    t.same(project(projection, whole), expected, JSON.stringify(parameters))
    t.same(leniencies, [])
  }
})

t.test('a projection reports which attributes need not be read', async t => {
  const without = readProjection('Group', { excludedAttributes: ['members'] }, 'strict').projection
  t.equal(returnsAttribute(without, 'members'), false)
  t.equal(returnsAttribute(without, 'displayName'), true)
  t.equal(keepsDocument(without), true)
  const only = readProjection('Group', { attributes: ['members.value'] }, 'strict').projection
  t.equal(returnsAttribute(only, 'members'), true)
  t.equal(returnsAttribute(only, 'externalId'), false)
  t.equal(returnsAttribute(only, 'id'), true)
  t.equal(keepsDocument(only), false)
  t.equal(keepsDocument(undefined), true)
})

t.test('unknown names are recorded or, when strict, refused; both parameters at once are refused', async t => {
  const attributes = ['userName', 'password']
  t.same(readProjection('User', { attributes }, 'tolerant').leniencies, [
    { name: 'attribute_unknown', pointer: '/attributes' },
  ])
  t.throws(() => readProjection('User', { attributes }, 'strict'), { code: 'scim_invalid_value' })
  t.throws(() => readProjection('User', { attributes, excludedAttributes: ['title'] }, 'tolerant'), {
    code: 'scim_invalid_value',
  })
})

t.test('joined ids are valid exactly when each id is valid', t => {
  const uuid = fc.uuid()
  const nearly = fc.oneof(
    uuid.map(text => text.toUpperCase()),
    uuid.map(text => `${text.slice(0, 8)},${text.slice(9)}`),
    uuid.map(text => `${text.slice(0, 35)}\u0130`),
    fc.tuple(uuid, uuid).map(pair => pair.join(',')),
    fc.string({ maxLength: 80 }),
  )
  fc.assert(
    fc.property(fc.array(fc.oneof({ arbitrary: uuid, weight: 9 }, nearly), { maxLength: 20 }), ids => {
      return areResourceIds(ids.join(','), ids.length) === ids.every(each => isResourceId(each))
    }),
  )
  t.end()
})

t.test('a projection returns or leaves out a single attribute of an unknown extension', async t => {
  const acme = 'urn:example:acme:2.0:User'
  const resource = {
    schemas: [USER_SCHEMA, acme],
    userName: 'ann',
    [acme]: { badge: '7', desk: { floor: 3, seat: 'a' } },
  }
  const cut = (query: { attributes?: string[]; excludedAttributes?: string[] }) => {
    const { projection } = readProjection('User', query, 'tolerant')
    t.equal(keepsDocument(projection), false)
    return project(projection, resource)[acme]
  }
  t.same(cut({ attributes: [`${acme}:badge`] }), { badge: '7' })
  t.same(cut({ attributes: [`${acme.toUpperCase()}:BADGE`] }), { badge: '7' })
  t.same(cut({ attributes: [`${acme}:desk.floor`, 'userName'] }), { desk: { floor: 3 } })
  t.same(cut({ attributes: [acme] }), resource[acme])
  t.same(cut({ attributes: [`${acme}:other`] }), undefined)
  t.same(cut({ excludedAttributes: [`${acme}:badge`] }), { desk: { floor: 3, seat: 'a' } })
  t.same(cut({ excludedAttributes: [`${acme}:Desk.Seat`] }), { badge: '7', desk: { floor: 3 } })
  t.same(cut({ excludedAttributes: [acme] }), undefined)
})

t.test(
  'a malformed URL or certificate is left out of a whole resource and recorded, and refused when strict',
  async t => {
    const values = [
      ['profileUrl', 'not a url', '/profileUrl', 'reference_malformed'],
      ['profileUrl', 'https://example.com/ü', '/profileUrl', 'reference_malformed'],
      ['photos', [{ value: 'https://example.com/a b', type: 'photo' }], '/photos/0/value', 'reference_malformed'],
      ['x509Certificates', [{ value: '***', type: 'work' }], '/x509Certificates/0/value', 'base64_malformed'],
    ] as const
    for (const [name, value, pointer, leniency] of values) {
      const body = { schemas: [USER_SCHEMA], userName: 'ann', [name]: value }
      const stored = readResource('User', body, 'tolerant')
      t.notOk(name in stored.resource, `${name} is left out`)
      t.same(stored.leniencies, [{ name: leniency, pointer }], name)
      t.throws(() => readResource('User', body, 'strict'), { code: 'scim_invalid_value', errors: [{ pointer }] }, name)
    }
    for (const url of [
      'https://example.com/a?b#c',
      '../Users/1',
      'data:image/png;base64,QUJD',
      'urn:example:a',
      'mailto:a@b',
    ]) {
      const { resource, leniencies } = readResource(
        'User',
        { schemas: [USER_SCHEMA], userName: 'a', profileUrl: url },
        'strict',
      )
      t.equal(resource.profileUrl, url)
      t.same(leniencies, [])
    }
  },
)

t.test('schemas that name only another resource type are refused in both modes', async t => {
  const names = { userName: 'ann', displayName: 'Ann' }
  for (const mode of ['tolerant', 'strict'] as const) {
    for (const declared of [[GROUP_SCHEMA], ['urn:scim:schemas:core:2.0:Group'], GROUP_SCHEMA.toUpperCase()]) {
      t.throws(() => readResource('User', { schemas: declared, ...names }, mode), { code: 'scim_invalid_syntax' }, mode)
    }
    t.throws(() => readResource('Group', { schemas: [ENTERPRISE_SCHEMA], ...names }, mode), {
      code: 'scim_invalid_syntax',
    })
  }
  t.equal(readResource('User', { schemas: [USER_SCHEMA, GROUP_SCHEMA], ...names }, 'tolerant').resource.userName, 'ann')
})
