import fc from 'fast-check'
import t from 'tap'
import {
  comparisonKey,
  ENTERPRISE_SCHEMA,
  findAttribute,
  foldKey,
  GROUP_SCHEMA,
  resourceTypes,
  USER_SCHEMA,
} from '../../src/scim/protocol/attributes.ts'
import type { Attribute } from '../../src/scim/protocol/attributes.ts'
import { resourceTypeResources, schemaResources } from '../../src/scim/protocol/schemas.ts'

const everyAttribute = Object.values(resourceTypes).flatMap(({ common, attributes, extensions }) =>
  [...common, ...attributes, ...extensions].flatMap(withSubAttributes),
)

function withSubAttributes(attribute: Attribute): Attribute[] {
  return [attribute, ...(attribute.subAttributes ?? []).flatMap(withSubAttributes)]
}

t.test('an attribute is found by any spelling of its name, and nothing else is', async t => {
  const found: [string, string[]][] = [
    ['userName', ['userName']],
    ['USERNAME', ['userName']],
    [`${USER_SCHEMA}:name.GivenName`, ['name', 'givenName']],
    ['emails.value', ['emails', 'value']],
    [ENTERPRISE_SCHEMA.toUpperCase(), [ENTERPRISE_SCHEMA]],
    [`${ENTERPRISE_SCHEMA}:manager.value`, [ENTERPRISE_SCHEMA, 'manager', 'value']],
    ['meta.lastModified', ['meta', 'lastModified']],
  ]
  for (const [name, names] of found) t.same(findAttribute('User', name)?.names, names, name)
  for (const name of [
    'password',
    'department',
    'members',
    'emails.nope',
    '__proto__',
    'constructor',
    '',
    `${GROUP_SCHEMA}:displayName`,
  ]) {
    t.equal(findAttribute('User', name), undefined, name)
  }
  t.same(findAttribute('Group', 'members.value')?.names, ['members', 'value'])
  t.equal(findAttribute('Group', 'userName'), undefined)
})

const caseExact = (name: string) => findAttribute('User', name)?.attribute.caseExact

t.test('case rules are those of RFC 7643 where identity providers rely on them', async t => {
  t.equal(caseExact('id'), true)
  t.equal(caseExact('externalId'), true)
  t.equal(caseExact('userName'), false)
  t.equal(caseExact('emails.value'), false)
})

t.test('each multi-valued attribute with a type declares canonical values', async t => {
  for (const { name, multiValued, subAttributes = [] } of everyAttribute) {
    const type = subAttributes.find(sub => sub.name === 'type')
    if (multiValued && type) t.ok((type.canonicalValues ?? []).length > 0, name)
  }
})

t.test('no attribute carries a credential', async t => {
  t.notOk(everyAttribute.some(({ name }) => /password|secret|token/i.test(name)))
})

t.test(
  'every schema that a resource type names is in /Schemas, without nulls, and says what the table says',
  async t => {
    const schemas = schemaResources('https://scim.example.com/d')
    const ids = schemas.map(({ id }) => id)
    t.same(ids, [USER_SCHEMA, ENTERPRISE_SCHEMA, GROUP_SCHEMA])
    for (const type of resourceTypeResources('https://scim.example.com/d')) {
      t.equal(type.id, type.name)
      const extensions = (type.schemaExtensions ?? []) as { schema: string }[]
      for (const uri of [type.schema as string, ...extensions.map(({ schema }) => schema)]) t.ok(ids.includes(uri), uri)
    }
    t.notMatch(JSON.stringify(schemas), /null/)
    const user = schemas[0]?.attributes as { name: string }[]
    t.match(
      user.find(({ name }) => name === 'userName'),
      { type: 'string', required: true, caseExact: false, uniqueness: 'server', mutability: 'readWrite' },
    )
    t.ok(user.some(({ name }) => name === 'externalId'))
    t.notOk(user.some(({ name }) => ['id', 'meta', 'schemas', 'password'].includes(name)))
  },
)

t.test('folding only ignores letter case, and folds a substring to a substring', async t => {
  t.equal(foldKey('JSmith@EXAMPLE.com'), 'jsmith@example.com')
  t.equal(foldKey('ΟΔΟΣ'), foldKey('οδος'))
  t.not(foldKey('Strasse'), foldKey('Straße'))
  t.not(foldKey('é'), foldKey('e'))
  const word = fc.string({ unit: fc.constantFrom('a', 'B', 'Σ', 'ς', 'İ', 'ß', 'É', '😀') })
  fc.assert(fc.property(word, word, (a, b) => foldKey(a + b) === foldKey(a) + foldKey(b)))
  fc.assert(fc.property(word, a => foldKey(foldKey(a)) === foldKey(a)))
})

t.test('comparison keys ignore form, case, surrounding blanks and invisible characters, and are stable', async t => {
  const same = [
    ['jos\u00e9@example.com', 'JOSE\u0301@example.com'],
    ['ann', '\uff21\uff2e\uff2e'],
    ['ann', 'an\u200bn'],
    ['ann', '\ufeffann\u0007'],
    ['ann', ' ann\u00a0'],
    ['\u03a3', '\u03c2'],
    ['fi', '\ufb01'],
  ] as const
  for (const [a, b] of same) t.equal(comparisonKey(a), comparisonKey(b), JSON.stringify(b))
  for (const [a, b] of [
    ['ann', 'anna'],
    ['a n', 'an'],
    ['jose', 'jos\u00e9'],
    ['\u00df', 'ss'],
  ] as const) {
    t.not(comparisonKey(a), comparisonKey(b), JSON.stringify(b))
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => {
      const key = comparisonKey(text)
      return t.equal(comparisonKey(key), key) && t.equal(comparisonKey(text.normalize('NFD')), key)
    }),
  )
})
