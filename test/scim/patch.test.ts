import fc from 'fast-check'
import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { ENTERPRISE_SCHEMA, GROUP_SCHEMA, resourceTypes, USER_SCHEMA } from '../../src/scim/protocol/attributes.ts'
import type { Attribute, Mode, ResourceTypeName } from '../../src/scim/protocol/attributes.ts'
import { matchesEntry } from '../../src/scim/protocol/evaluate.ts'
import { parseFilter } from '../../src/scim/protocol/filter.ts'
import { sameJson } from '../../src/scim/protocol/patch/add.ts'
import { applyPatch } from '../../src/scim/protocol/patch/apply.ts'
import type { Patched } from '../../src/scim/protocol/patch/apply.ts'
import { readPatch, touchedAttributes } from '../../src/scim/protocol/patch/message.ts'
import type { ScimResource } from '../../src/scim/protocol/reading.ts'

const PATCH_OP = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'

interface Options {
  type?: ResourceTypeName
  mode?: Mode
}

function patch(
  resource: ScimResource,
  operations: unknown[],
  { type = 'User', mode = 'tolerant' }: Options = {},
): Patched {
  const message = readPatch(type, { schemas: [PATCH_OP], Operations: operations }, mode)
  const patched = applyPatch(resource, message.operations, { type, mode })
  return { ...patched, leniencies: [...message.leniencies, ...patched.leniencies] }
}

const ann: ScimResource = {
  schemas: [USER_SCHEMA, ENTERPRISE_SCHEMA],
  userName: 'ann@example.com',
  active: true,
  title: 'Head',
  name: { givenName: 'Ann', familyName: 'Ash' },
  emails: [
    { type: 'work', value: 'ann@example.com', primary: true },
    { type: 'home', value: 'ann@home.example.com' },
  ],
  [ENTERPRISE_SCHEMA]: { department: 'Docks', manager: { value: 'b', $ref: '../Users/b' } },
}
const work = { type: 'work', value: 'ann@example.com', primary: true }
const home = { type: 'home', value: 'ann@home.example.com' }

t.test('each operation edits each kind of target as RFC 7644 says', async t => {
  const cases: [object, object][] = [
    [{ op: 'add', path: 'nickName', value: 'A' }, { nickName: 'A' }],
    [{ op: 'REPLACE', path: 'TITLE', value: 'Chief' }, { title: 'Chief' }],
    [{ op: 'remove', path: 'title' }, { title: undefined }],
    [{ op: 'replace', path: 'title', value: null }, { title: undefined }],
    [{ op: 'remove', path: 'nickName' }, {}],
    [{ op: 'replace', path: `${USER_SCHEMA}:title`, value: 'Chief' }, { title: 'Chief' }],
    [
      { op: 'add', path: 'name', value: { middleName: 'B' } },
      { name: { givenName: 'Ann', familyName: 'Ash', middleName: 'B' } },
    ],
    [{ op: 'replace', path: 'name', value: { familyName: 'Oak' } }, { name: { givenName: 'Ann', familyName: 'Oak' } }],
    [{ op: 'replace', path: 'name', value: { familyName: null } }, { name: { givenName: 'Ann' } }],
    [{ op: 'remove', path: 'name' }, { name: undefined }],
    [{ op: 'remove', path: 'name.familyName' }, { name: { givenName: 'Ann' } }],
    [
      { op: 'add', path: 'emails', value: [{ type: 'other', value: 'x' }] },
      { emails: [work, home, { type: 'other', value: 'x' }] },
    ],
    [{ op: 'add', path: 'emails', value: [home] }, {}],
    [{ op: 'add', path: 'emails', value: [{ ...home, display: 'H' }] }, { emails: [work, { ...home, display: 'H' }] }],
    [
      { op: 'add', path: 'emails', value: [{ value: 'x', primary: true }] },
      { emails: [{ ...work, primary: false }, home, { value: 'x', primary: true }] },
    ],
    [{ op: 'replace', path: 'emails', value: [{ value: 'x' }] }, { emails: [{ value: 'x' }] }],
    [{ op: 'replace', path: 'emails', value: [] }, { emails: undefined }],
    [{ op: 'remove', path: 'emails' }, { emails: undefined }],
    [{ op: 'remove', path: 'emails[type eq "home"]' }, { emails: [work] }],
    [{ op: 'remove', path: 'emails[value pr]' }, { emails: undefined }],
    [{ op: 'remove', path: 'emails[type eq "home"].value' }, { emails: [work] }],
    [{ op: 'remove', path: 'emails.type' }, { emails: [{ value: work.value, primary: true }, { value: home.value }] }],
    [
      { op: 'replace', path: 'emails[type eq "home"].value', value: 'x' },
      { emails: [work, { type: 'home', value: 'x' }] },
    ],
    [{ op: 'replace', path: 'emails[type eq "home"]', value: { value: 'x' } }, { emails: [work, { value: 'x' }] }],
    [
      { op: 'add', path: 'emails[type eq "home"]', value: { display: 'H' } },
      { emails: [work, { ...home, display: 'H' }] },
    ],
    [
      { op: 'replace', path: 'emails[type eq "home"].primary', value: true },
      {
        emails: [
          { ...work, primary: false },
          { ...home, primary: true },
        ],
      },
    ],
    [
      { op: 'add', path: 'emails[not (type eq "work") and value ew ".COM"].display', value: 'H' },
      { emails: [work, { ...home, display: 'H' }] },
    ],
    [
      { op: 'replace', path: `${ENTERPRISE_SCHEMA}:department`, value: 'Mills' },
      { [ENTERPRISE_SCHEMA]: { department: 'Mills', manager: { value: 'b', $ref: '../Users/b' } } },
    ],
    [
      { op: 'add', path: ENTERPRISE_SCHEMA, value: { costCenter: '7', manager: null } },
      { [ENTERPRISE_SCHEMA]: { department: 'Docks', costCenter: '7' } },
    ],
    [{ op: 'remove', path: `${ENTERPRISE_SCHEMA}:manager` }, { [ENTERPRISE_SCHEMA]: { department: 'Docks' } }],
    [
      { op: 'replace', path: `${ENTERPRISE_SCHEMA}:manager.value`, value: 'c' },
      { [ENTERPRISE_SCHEMA]: { department: 'Docks', manager: { value: 'c' } } },
    ],
    [
      { op: 'replace', path: `${ENTERPRISE_SCHEMA}:manager`, value: { value: 'c' } },
      { [ENTERPRISE_SCHEMA]: { department: 'Docks', manager: { value: 'c' } } },
    ],
    [
      { op: 'remove', path: ENTERPRISE_SCHEMA },
      { [ENTERPRISE_SCHEMA]: undefined, schemas: [USER_SCHEMA] },
    ],
  ]
  for (const [operation, expected] of cases) {
    const { resource, changed, leniencies } = patch(ann, [operation])
    const wanted = JSON.parse(JSON.stringify({ ...ann, ...expected })) as ScimResource
    t.same(resource, wanted, JSON.stringify(operation))
    t.equal(changed, Object.keys(expected).length > 0, `changed by ${JSON.stringify(operation)}`)
    t.same(leniencies, [])
  }
})

t.test(
  'a tolerant directory accepts and records what Entra, Okta and others send; a strict one refuses it',
  async t => {
    const one = { phoneNumbers: [{ type: 'work', value: '1' }] }
    const cases: [object, object, string][] = [
      [{ op: 'Replace', path: 'active', value: 'False' }, { active: false }, 'boolean_as_string'],
      [{ op: 'replace', value: { active: false } }, { active: false }, 'path_missing'],
      [
        { op: 'Add', path: `${ENTERPRISE_SCHEMA}:manager`, value: 'c' },
        { [ENTERPRISE_SCHEMA]: { department: 'Docks', manager: { value: 'c' } } },
        'string_for_complex',
      ],
      [
        { op: 'Add', path: `${ENTERPRISE_SCHEMA}:manager`, value: [{ value: 'c' }] },
        { [ENTERPRISE_SCHEMA]: { department: 'Docks', manager: { value: 'c' } } },
        'array_for_single',
      ],
      [
        { op: 'replace', path: `${ENTERPRISE_SCHEMA}:manager`, value: { value: '' } },
        { [ENTERPRISE_SCHEMA]: { department: 'Docks' } },
        'empty_string_cleared',
      ],
      [{ op: 'replace', path: 'title', value: ['Chief'] }, { title: 'Chief' }, 'array_for_single'],
      [
        { op: 'Replace', path: 'Department', value: 'Mills' },
        { [ENTERPRISE_SCHEMA]: { department: 'Mills', manager: { value: 'b', $ref: '../Users/b' } } },
        'extension_unqualified',
      ],
      [{ op: 'Add', path: 'phoneNumbers[type eq "work"].value', value: '1' }, one, 'target_created'],
      [
        { op: 'Add', path: 'phoneNumbers[type eq "work" and primary eq true].value', value: '1' },
        { phoneNumbers: [{ type: 'work', primary: true, value: '1' }] },
        'target_created',
      ],
      [{ op: 'remove', path: 'phoneNumbers[type eq "work"].value' }, {}, 'target_missed'],
      [
        { op: 'replace', path: 'emails[type eq "home"]', value: 'x' },
        { emails: [work, { type: 'home', value: 'x' }] },
        'string_for_complex',
      ],
      [
        { op: 'remove', path: 'emails', value: [{ value: 'ANN@home.example.com' }] },
        { emails: [work] },
        'remove_by_value',
      ],
      [{ op: 'remove', path: 'emails[type eq "home"].value', value: 'y' }, { emails: [work] }, 'remove_value_ignored'],
      [
        { op: 'add', path: 'emails', value: { value: 'x' } },
        { emails: [work, home, { value: 'x' }] },
        'single_for_array',
      ],
      [{ op: 'replace', path: 'title', value: 'Chief', name: 'x' }, { title: 'Chief' }, 'attribute_unknown'],
      [
        { op: 'add', path: 'emails', value: [{ value: 'x', colour: 1 }] },
        { emails: [work, home, { value: 'x' }] },
        'attribute_unknown',
      ],
      [
        { op: 'replace', path: 'emails[primary eq "True"].display', value: 'A' },
        { emails: [{ ...work, display: 'A' }, home] },
        'boolean_as_string',
      ],
    ]
    for (const [operation, expected, leniency] of cases) {
      const { resource, leniencies } = patch(ann, [operation])
      t.same(resource, { ...ann, ...expected }, JSON.stringify(operation))
      t.equal(leniencies[0]?.name, leniency, leniency)
      t.throws(
        () => patch(ann, [operation], { mode: 'strict' }),
        { name: 'AppError', code: /^scim_/ },
        `${leniency} when strict`,
      )
    }
  },
)

t.test('empty text clears an attribute in tolerant mode and is a value in strict mode', async t => {
  const operation = { op: 'replace', path: 'title', value: '' }
  t.equal(patch(ann, [operation]).resource.title, undefined)
  t.equal(patch(ann, [operation], { mode: 'strict' }).resource.title, '')
})

t.test('strict mode replaces a complex attribute as a whole, as the interoperability profile requires', async t => {
  const operation = { op: 'replace', path: 'name', value: { familyName: 'Oak' } }
  t.same(patch(ann, [operation], { mode: 'strict' }).resource.name, { familyName: 'Oak' })
})

t.test('a value without path may have dotted, filtered and URN-qualified keys', async t => {
  const value = {
    title: 'Chief',
    'name.givenName': 'Anna',
    'emails[type eq "home"].value': 'x',
    [`${ENTERPRISE_SCHEMA}:department`]: 'Mills',
    schemas: [USER_SCHEMA],
    id: '1',
    groups: [],
    password: 'secret-1',
    colour: 'teal',
  }
  const { resource, leniencies } = patch({ ...ann, id: '1' }, [{ op: 'replace', value }])
  t.match(resource, {
    id: '1',
    title: 'Chief',
    name: { givenName: 'Anna', familyName: 'Ash' },
    emails: [work, { type: 'home', value: 'x' }],
  })
  t.match(resource[ENTERPRISE_SCHEMA], { department: 'Mills', manager: { value: 'b' } })
  t.notMatch(JSON.stringify(resource), /secret-1|teal/)
  t.same(
    leniencies.map(({ name }) => name),
    [
      'path_missing',
      'path_as_key',
      'path_as_key',
      'path_as_key',
      'read_only_ignored',
      'read_only_ignored',
      'password_ignored',
      'attribute_unknown',
    ],
  )
  t.throws(() => patch({ ...ann, id: '1' }, [{ op: 'replace', value: { id: '2' } }]), { code: 'scim_mutability' })
})

const address = (name: string, value: string) => ({ op: 'replace', path: `addresses[type eq "work"].${name}`, value })

t.test('operations see what those before them did, and a fault in one undoes all', async t => {
  const before = structuredClone(ann)
  const { resource } = patch(ann, [
    address('locality', 'Porto'),
    address('country', 'PT'),
    { op: 'add', path: 'title', value: 'A' },
    { op: 'remove', path: 'title' },
  ])
  t.same(resource.addresses, [{ type: 'work', locality: 'Porto', country: 'PT' }])
  t.equal(resource.title, undefined)
  t.throws(() => patch(ann, [address('locality', 'Porto'), { op: 'replace', path: 'nope', value: 1 }]))
  t.same(ann, before)
})

t.test('an invalid operation is refused with its code and pointer', async t => {
  const refused: [object, string, RegExp][] = [
    [{ op: 'remove' }, 'scim_no_target', /Operations\/0\/path/],
    [{ op: 'move', path: 'title' }, 'scim_invalid_syntax', /add, replace or remove/],
    [{ op: 'add', path: 'title' }, 'scim_invalid_value', /needs a value/],
    [{ op: 'add', value: 'x' }, 'scim_invalid_value', /object of attributes/],
    [{ op: 'replace', path: 7, value: 1 }, 'scim_invalid_path', /text/],
    [{ op: 'replace', path: 'emails[type eq', value: 'x' }, 'scim_invalid_path', /offset 14.*\/Operations\/0\/path/],
    [{ op: 'replace', path: 'nope', value: 'x' }, 'scim_invalid_path', /nope is not an attribute of User/],
    [{ op: 'replace', path: 'constructor.prototype.admin', value: true }, 'scim_invalid_path', /not an attribute/],
    [{ op: 'replace', path: 'emails[type eq "work"].nope', value: 'x' }, 'scim_invalid_path', /attribute of emails/],
    [{ op: 'replace', path: 'emails[nope eq "work"].value', value: 'x' }, 'scim_invalid_filter', /attribute of emails/],
    [{ op: 'replace', path: 'title[value eq "x"]', value: 'x' }, 'scim_invalid_path', /in brackets does not apply/],
    [{ op: 'replace', path: 'emails.value', value: 'x' }, 'scim_invalid_path', /Select a value/],
    [{ op: 'replace', path: 'phoneNumbers[value co "5"].type', value: 'x' }, 'scim_no_target', /phoneNumbers/],
    [{ op: 'remove', path: 'userName' }, 'scim_mutability', /userName must have a value/],
    [{ op: 'replace', path: 'userName', value: null }, 'scim_invalid_value', /userName/],
    [{ op: 'replace', path: 'userName', value: ' ' }, 'scim_invalid_value', /userName/],
    [{ op: 'replace', path: 'active', value: '' }, 'scim_invalid_value', /active/],
    [{ op: 'add', path: 'groups', value: [{ value: 'g' }] }, 'scim_mutability', /groups cannot be changed/],
    [{ op: 'replace', path: 'id', value: 'x' }, 'scim_mutability', /id/],
    [{ op: 'replace', path: 'meta.created', value: 'x' }, 'scim_mutability', /created|meta/],
    [
      {
        op: 'add',
        path: 'emails',
        value: [
          { value: 'a', primary: true },
          { value: 'b', primary: true },
        ],
      },
      'scim_invalid_value',
      /at most one primary/,
    ],
    [{ op: 'replace', path: 'emails[value pr].primary', value: true }, 'scim_invalid_value', /at most one primary/],
    [{ op: 'add', path: 'emails[value eq "a\\u0000"].type', value: 'x' }, 'scim_invalid_value', /NUL/],
    [
      { op: 'replace', path: 'title', value: { a: 1 } },
      'scim_invalid_value',
      /title must be text \(at \/Operations\/0\/value\)\.$/,
    ],
  ]
  for (const [operation, code, message] of refused) {
    t.throws(() => patch(ann, [operation]), { code, message }, JSON.stringify(operation))
  }
  t.throws(() => readPatch('User', { schemas: [PATCH_OP] }, 'tolerant'), { code: 'scim_invalid_syntax' })
  t.throws(() => readPatch('User', [], 'tolerant'), { code: 'scim_invalid_syntax' })
  const many = Array.from({ length: 5001 }, () => ({ op: 'remove', path: 'title' }))
  t.throws(() => patch(ann, many), { code: 'body_too_large' })
})

t.test('the message is read by names in any case; an empty one changes nothing and is recorded', async t => {
  const { operations } = readPatch(
    'User',
    { SCHEMAS: [PATCH_OP], operations: [{ Op: 'Add', PATH: 'title', Value: 'x' }] },
    'strict',
  )
  t.match(operations, [{ op: 'add', value: 'x', pointer: '/Operations/0' }])
  t.match(patch(ann, []), { changed: false, resource: ann, leniencies: [{ name: 'operations_empty' }] })
  t.throws(() => patch(ann, [], { mode: 'strict' }), { code: 'scim_invalid_syntax' })
})

t.test('removing the id of a manager removes the manager', async t => {
  const { resource } = patch(ann, [{ op: 'remove', path: `${ENTERPRISE_SCHEMA}:manager.value` }])
  t.same(resource[ENTERPRISE_SCHEMA], { department: 'Docks' })
})

t.test('an unknown extension changes by key or by path in tolerant mode', async t => {
  const acme = 'urn:example:acme:2.0:User'
  const with17 = patch(ann, [{ op: 'add', value: { [acme]: { badge: 17, desk: 'a' } } }]).resource
  t.same(with17[acme], { badge: 17, desk: 'a' })
  t.same(with17.schemas, [USER_SCHEMA, ENTERPRISE_SCHEMA, acme])
  t.same(patch(with17, [{ op: 'replace', path: `${acme}:badge`, value: 18 }]).resource[acme], { badge: 18, desk: 'a' })
  t.same(patch(with17, [{ op: 'remove', path: `${acme}:badge` }]).resource[acme], { desk: 'a' })
  t.same(patch(with17, [{ op: 'remove', path: acme }]).resource, ann)
  t.throws(() => patch(ann, [{ op: 'add', path: `${acme}:__proto__`, value: { admin: true } }]), {
    code: 'scim_invalid_path',
  })
  t.equal(({} as ScimResource).admin, undefined)
  t.throws(() => patch(ann, [{ op: 'add', path: `${acme}:badge`, value: 1 }], { mode: 'strict' }), {
    code: 'scim_invalid_path',
  })
})

t.test('the general rules apply to the attributes of an unknown extension', async t => {
  const acme = 'urn:example:acme:2.0:User'
  const start = patch(ann, [{ op: 'add', value: { [acme]: { badge: '7', tags: ['a'] } } }]).resource
  const after = (operation: object) => patch(start, [operation]).resource[acme]
  t.same(after({ op: 'add', path: `${acme}:tags`, value: ['b', 'a'] }), { badge: '7', tags: ['a', 'b'] })
  t.same(after({ op: 'replace', path: `${acme}:TAGS`, value: ['c'] }), { badge: '7', tags: ['c'] })
  t.same(after({ op: 'replace', path: `${acme}:Badge`, value: '8' }), { badge: '8', tags: ['a'] })
  t.same(after({ op: 'add', path: acme.toUpperCase(), value: { BADGE: '9' } }), { badge: '9', tags: ['a'] })
  t.same(after({ op: 'remove', path: `${acme}:tags` }), { badge: '7' })
  t.same(after({ op: 'remove', path: `${acme}:nothing` }), { badge: '7', tags: ['a'] })
  const office = { op: 'add', path: `${acme}:office`, value: { floor: '3' } }
  const withOffice = patch(start, [office])
  t.same(withOffice.resource[acme], { badge: '7', tags: ['a'], office: { floor: '3' } })
  t.same(withOffice.resource.schemas, [USER_SCHEMA, ENTERPRISE_SCHEMA, acme])
  t.same(patch(ann, [office]).resource[acme], { office: { floor: '3' } }, 'without the extension before')
  const seat = { op: 'add', path: `${acme}:Office.seat`, value: 12 }
  t.same(patch(withOffice.resource, [seat]).resource[acme], {
    badge: '7',
    tags: ['a'],
    office: { floor: '3', seat: 12 },
  })
  const cards = { op: 'add', path: `${acme}:cards[type eq "door"].value`, value: '1' }
  const withCard = patch(start, [cards, { ...cards, op: 'replace', value: '2' }]).resource
  t.same(withCard[acme], { badge: '7', tags: ['a'], cards: [{ type: 'door', value: '2' }] })
  t.same(patch(withCard, [{ op: 'remove', path: `${acme}:cards[type eq "door"]` }]).resource, start)
  t.throws(() => after({ op: 'add', path: acme, value: { badge: '1', Badge: '2' } }), { code: 'scim_invalid_syntax' })
})

const extensionValue = fc.oneof(
  fc.string({ minLength: 1, maxLength: 3 }),
  fc.integer(),
  fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }),
  fc.record({ floor: fc.constantFrom('1', '2') }),
)

t.test('any edits of an unknown extension keep one spelling of each name and one schema URI', async t => {
  const acme = 'urn:example:acme:2.0:User'
  const edit = fc.record({
    op: fc.constantFrom('add', 'replace', 'remove'),
    name: fc.constantFrom('badge', 'Badge', 'desk', 'DESK'),
    value: extensionValue,
    byPath: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 8 }), edits => {
      let resource = ann
      for (const { op, name, value, byPath } of edits) {
        const operation =
          byPath || op === 'remove'
            ? { op, path: `${acme}:${name}`, ...(op !== 'remove' && { value }) }
            : { op, value: { [acme]: { [name]: value } } }
        try {
          resource = patch(resource, [operation]).resource
        } catch (error) {
          // A value of another type than the stored one may be refused, which changes nothing.
          if (!(error instanceof AppError)) throw error
        }
      }
      const names = Object.keys(resource[acme] ?? {}).map(name => name.toLowerCase())
      const uris = (resource.schemas as string[]).filter(uri => uri.startsWith(acme))
      return (
        t.equal(new Set(names).size, names.length, JSON.stringify(resource[acme])) &&
        t.same(uris, names.length > 0 ? [acme] : [])
      )
    }),
  )
})

// ---- groups

const ops: ScimResource = { schemas: [GROUP_SCHEMA], displayName: 'Ops' }
const members = (operations: unknown[], mode: Mode = 'tolerant') =>
  patch(ops, operations, { type: 'Group', mode }).memberChanges

const memberValues = (...ids: string[]) => ids.map(id => ({ value: id }))

t.test('operations on members become sets of ids in every form', async t => {
  const cases: [unknown[], unknown][] = [
    [[{ op: 'add', path: 'members', value: memberValues('a', 'b', 'a') }], { add: ['a', 'b'], remove: [] }],
    [[{ op: 'add', path: 'members', value: { value: 'a' } }], { add: ['a'], remove: [] }],
    [[{ op: 'add', path: `${GROUP_SCHEMA}:members`, value: memberValues('a') }], { add: ['a'], remove: [] }],
    [[{ op: 'add', value: { members: memberValues('a') } }], { add: ['a'], remove: [] }],
    [[{ op: 'remove', path: 'Members[VALUE EQ "a"]' }], { add: [], remove: ['a'] }],
    [[{ op: 'remove', path: 'members[value eq "a" or value eq "b"]' }], { add: [], remove: ['a', 'b'] }],
    [[{ op: 'remove', path: 'members[type eq "User" and value eq "a"]' }], { add: [], remove: ['a'] }],
    [[{ op: 'Remove', path: 'members', value: [{ $ref: null, value: 'a' }] }], { add: [], remove: ['a'] }],
    [[{ op: 'remove', path: 'members', value: [] }], { add: [], remove: [] }],
    [[{ op: 'remove', path: 'members' }], { replace: [] }],
    [[{ op: 'replace', path: 'members', value: memberValues('a', 'b') }], { replace: ['a', 'b'] }],
    [[{ op: 'replace', path: 'members', value: [] }], { replace: [] }],
    [[{ op: 'replace', value: { members: null } }], { replace: [] }],
    [[{ op: 'replace', path: 'displayName', value: 'X' }], undefined],
    [
      [
        { op: 'add', path: 'members', value: memberValues('a', 'b') },
        { op: 'remove', path: 'members[value eq "b"]' },
        { op: 'add', path: 'members', value: memberValues('c') },
      ],
      { add: ['a', 'c'], remove: ['b'] },
    ],
    [
      [
        { op: 'add', path: 'members', value: memberValues('a') },
        { op: 'replace', path: 'members', value: memberValues('b', 'c') },
        { op: 'remove', path: 'members[value eq "c"]' },
      ],
      { replace: ['b'] },
    ],
  ]
  for (const [operations, expected] of cases) t.same(members(operations), expected, JSON.stringify(operations))
})

t.test('a filter on members other than by id is refused', async t => {
  const refused: [object, string][] = [
    [{ op: 'remove', path: 'members[display eq "Ann"]' }, 'scim_invalid_path'],
    [{ op: 'remove', path: 'members[not (value eq "a")]' }, 'scim_invalid_path'],
    [{ op: 'remove', path: 'members[value eq "a" and value eq "b"]' }, 'scim_invalid_path'],
    [{ op: 'add', path: 'members[value eq "a"]', value: [{ value: 'a' }] }, 'scim_invalid_path'],
    [{ op: 'replace', path: 'members[value eq "a"].display', value: 'A' }, 'scim_mutability'],
    [{ op: 'replace', path: 'members.value', value: 'a' }, 'scim_mutability'],
    [{ op: 'add', path: 'members', value: [{ display: 'Ann' }] }, 'scim_invalid_value'],
    [{ op: 'remove', path: 'displayName' }, 'scim_mutability'],
  ]
  for (const [operation, code] of refused) t.throws(() => members([operation]), { code }, JSON.stringify(operation))
  t.same(members([{ op: 'remove', path: 'members[value eq "a"]' }], 'strict'), { add: [], remove: ['a'] })
  t.throws(() => members([{ op: 'remove', path: 'members', value: [{ value: 'a' }] }], 'strict'), {
    code: 'scim_invalid_syntax',
  })
})

t.test('a thousand operations on members fold into one change', async t => {
  const operations = Array.from({ length: 1000 }, (_, index) =>
    index % 2 === 0
      ? { op: 'add', path: 'members', value: [{ value: `u${index}` }] }
      : { op: 'remove', path: `members[value eq "v${index}"]` },
  )
  const changes = members(operations, 'strict') as { add: string[]; remove: string[] }
  t.equal(changes.add.length, 500)
  t.equal(changes.remove.length, 500)
})

const touched = (type: ResourceTypeName, operations: unknown[]) => {
  const names = touchedAttributes(
    type,
    readPatch(type, { schemas: [PATCH_OP], Operations: operations }, 'tolerant').operations,
  )
  return names && [...names]
}

t.test('operations that touch members or active alone need not read the resource', async t => {
  t.same(
    touched('Group', [
      { op: 'remove', path: 'members[value eq "a"]' },
      { op: 'add', value: { Members: [] } },
    ]),
    ['members'],
  )
  t.same(touched('User', [{ op: 'replace', value: { ACTIVE: false } }]), ['active'])
  t.same(touched('User', [{ op: 'replace', path: 'name.givenName', value: 'x' }]), ['name'])
  t.equal(touched('User', [{ op: 'replace', value: { active: false, nope: 1 } }]), undefined)
  t.match(patch({}, [{ op: 'replace', path: 'active', value: false }]), { resource: { active: false }, changed: true })
  t.match(patch({}, [{ op: 'remove', path: 'members' }], { type: 'Group' }), {
    memberChanges: { replace: [] },
    changed: false,
  })
})

// ---- laws

const attribute = fc.constantFrom(
  'title',
  'nickName',
  'displayName',
  'name.givenName',
  'externalId',
  `${ENTERPRISE_SCHEMA}:department`,
)
const text = fc.string({ minLength: 1, maxLength: 5 })
const email = fc.record(
  { value: fc.constantFrom('a', 'b', 'A'), type: fc.constantFrom('work', 'home'), primary: fc.boolean() },
  { requiredKeys: ['value'] },
)
const operation = fc.oneof(
  fc.record({ op: fc.constantFrom('add', 'replace'), path: attribute, value: fc.oneof(text, fc.constant(null)) }),
  fc.record({
    op: fc.constant('remove'),
    path: fc.oneof(attribute, fc.constantFrom('emails', 'name', 'emails[type eq "home"]', 'emails[value eq "a"].type')),
  }),
  fc.record({
    op: fc.constantFrom('add', 'replace'),
    path: fc.constant('emails'),
    value: fc.array(email, { maxLength: 1 }),
  }),
  fc.record({
    op: fc.constantFrom('add', 'replace'),
    path: fc.constantFrom('emails[type eq "home"].value', 'emails[type eq "work"].display'),
    value: text,
  }),
  fc.record({
    op: fc.constant('replace'),
    path: fc.constant('emails[type eq "home" and value eq "a"].primary'),
    value: fc.boolean(),
  }),
)

const filterable = resourceTypes.User.attributes.flatMap(each =>
  each.multiValued && each.type === 'complex' && each.mutability === 'readWrite' ? [each] : [],
)

/** A term of a filter for a sub-attribute, with the literal as providers write it. */
function term({ name, type }: Attribute): fc.Arbitrary<string> {
  const words = type === 'boolean' ? ['true', 'false', '"True"', '"False"'] : ['"aGk="', '"QUJD"']
  return fc.constantFrom(...words).map(word => `${name} eq ${word}`)
}

const creation = fc.constantFrom(...filterable).chain(filtered => {
  const subs = filtered.subAttributes ?? []
  return fc.subarray([...subs], { minLength: 1 }).chain(terms =>
    fc.record({
      chosen: fc.constant(filtered),
      filter: fc.tuple(...terms.map(term)).map(texts => texts.join(' and ')),
      sub: fc.constantFrom(...subs.filter(sub => sub.type !== 'boolean' && !terms.includes(sub)), undefined),
      op: fc.constantFrom('add', 'replace'),
    }),
  )
})

t.test('a value created through a filter satisfies the filter, so the same path replaces and removes it', async t => {
  const subject = { schemas: [USER_SCHEMA], userName: 'ann', roles: [{ value: 'OTHER', type: 'other' }] }
  fc.assert(
    fc.property(creation, ({ chosen, filter, sub, op }) => {
      const { name } = chosen
      const path = sub === undefined ? `${name}[${filter}]` : `${name}[${filter}].${sub.name}`
      const described = chosen.subAttributes?.find(each => each.type !== 'boolean' && !filter.includes(each.name))
      const value = sub === undefined ? { [described?.name ?? 'primary']: 'Zm8=' } : 'Zm8='
      if (sub === undefined && described === undefined) return true
      const selected = (resource: ScimResource) =>
        ((resource[name] ?? []) as unknown[]).filter(entry =>
          matchesEntry(parseFilter(filter), entry, { attribute: chosen, mode: 'tolerant', leniencies: [] }),
        )
      const created = patch(subject, [{ op, path, value }]).resource
      const before = ((subject as ScimResource)[name] ?? []) as unknown[]
      const wanted = Math.max(1, selected(subject).length)
      const again = patch(created, [{ op: 'replace', path, value }]).resource
      const count = ((again[name] ?? []) as unknown[]).length
      const removed = patch(created, [{ op: 'remove', path: `${name}[${filter}]` }]).resource
      return (
        t.equal(selected(created).length, wanted, `${op} ${path}`) &&
        t.ok(count <= before.length + 1, `a second ${path} creates nothing`) &&
        t.equal(selected(removed).length, 0, `remove ${path}`)
      )
    }),
  )
})

t.test('a value that contradicts the filter of its path is refused', async t => {
  for (const [path, value] of [
    ['emails[value eq "a@example.com"].value', 'b@example.com'],
    ['emails[type eq "fax"]', { type: 'home', value: 'a' }],
    ['emails[type eq "fax" or type eq "telex"].value', 'a'],
  ] as const) {
    t.throws(() => patch({}, [{ op: 'replace', path, value }]), { code: 'scim_no_target' }, path)
  }
})

t.test('applying an operation twice is applying it once', async t => {
  fc.assert(
    fc.property(operation, one => {
      const once = patch(ann, [one]).resource
      return t.same(patch(once, [one]).resource, once, JSON.stringify(one))
    }),
  )
})

t.test('add and replace do the same on an attribute with one value', async t => {
  fc.assert(
    fc.property(attribute, text, (path, value) => {
      const [added, replaced] = ['add', 'replace'].map(op => patch(ann, [{ op, path, value }]).resource)
      return t.same(added, replaced, path)
    }),
  )
})

t.test('remove, then add, is replace', async t => {
  fc.assert(
    fc.property(fc.array(email, { maxLength: 1 }), value => {
      const inTwo = patch(ann, [
        { op: 'remove', path: 'emails' },
        { op: 'add', path: 'emails', value },
      ]).resource
      return t.ok(sameJson(inTwo, patch(ann, [{ op: 'replace', path: 'emails', value }]).resource))
    }),
  )
})

t.test(
  'any sequence keeps one primary at most, names its schemas, and says truly whether it changed something',
  async t => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 8 }), operations => {
        const { resource, changed } = patch(ann, operations)
        const emails = (resource.emails ?? []) as { primary?: boolean }[]
        const extensions = Object.keys(resource).filter(key => key.startsWith('urn:'))
        return (
          t.ok(emails.filter(({ primary }) => primary === true).length <= 1) &&
          t.same(resource.schemas, [USER_SCHEMA, ...extensions]) &&
          t.equal(changed, !sameJson(resource, ann))
        )
      }),
    )
  },
)

t.test('folding member operations does what doing them one by one does', async t => {
  const id = fc.constantFrom('a', 'b', 'c', 'd')
  const step = fc.record({
    op: fc.constantFrom('add', 'remove', 'replace'),
    path: fc.constant('members'),
    value: fc.array(
      id.map(value => ({ value })),
      { maxLength: 3 },
    ),
  })
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), fc.uniqueArray(id), (steps, before) => {
      let expected = new Set(before)
      for (const { op, value } of steps) {
        const ids = new Set(value.map(({ value: one }) => one))
        if (op === 'add') expected = expected.union(ids)
        if (op === 'remove') expected = expected.difference(ids)
        if (op === 'replace') expected = ids
      }
      const changes = members(steps) ?? { add: [], remove: [] }
      const after =
        'replace' in changes
          ? new Set(changes.replace)
          : new Set(before).difference(new Set(changes.remove)).union(new Set(changes.add))
      return t.same([...after].toSorted(), [...expected].toSorted())
    }),
  )
})
