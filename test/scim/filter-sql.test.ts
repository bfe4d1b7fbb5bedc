import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { ENTERPRISE_SCHEMA } from '../../src/scim/protocol/attributes.ts'
import type { Mode, ResourceTypeName } from '../../src/scim/protocol/attributes.ts'
import { parseFilter } from '../../src/scim/protocol/filter.ts'
import type { ScimResource } from '../../src/scim/protocol/reading.ts'
import { readResource, toGroupRow, toUserRow } from '../../src/scim/protocol/resource.ts'
import { filterToSql, sortKey } from '../../src/scim/lists/filter-sql.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { makeDatabase } from '../helpers/database.ts'
import { matches } from '../helpers/scim-evaluator.ts'

const workspaceId = uuid7()
const directoryId = uuid7()
const createdAt = '2026-01-31T12:00:00.500Z'
const { db } = await makeDatabase(t)
await sql`insert into workspaces (id, name, default_role) values (${workspaceId}, 'W', 'member')`.execute(db)
await sql`insert into directories (workspace_id, id, name) values (${workspaceId}, ${directoryId}, 'D')`.execute(db)

async function makeUser(sent: ScimResource): Promise<ScimResource> {
  const { resource } = readResource('User', sent, 'tolerant')
  const row = toUserRow(resource)
  const [id, memberId] = [uuid7(), uuid7()]
  const active = row.active ?? true
  await sql`insert into members (workspace_id, id, status, role, origin)
    values (${workspaceId}, ${memberId}, 'active', 'member', 'directory')`.execute(db)
  await sql`insert into scim_users (workspace_id, directory_id, id, user_name, user_name_key, external_id, email_keys, active,
      member_id, doc, created_at, updated_at)
    values (${workspaceId}, ${directoryId}, ${id}, ${row.userName}, ${row.userNameKey}, ${row.externalId}, ${row.emailKeys},
      ${active}, ${memberId}, ${row.doc}, ${createdAt}, ${createdAt})`.execute(db)
  const meta = { resourceType: 'User', created: createdAt, lastModified: createdAt }
  return { ...resource, id, active, meta }
}

async function makeGroup(displayName: string, members: ScimResource[]): Promise<ScimResource> {
  const id = uuid7()
  const row = toGroupRow(readResource('Group', { displayName, externalId: displayName }, 'tolerant').resource)
  await sql`insert into scim_groups (workspace_id, directory_id, id, display_name, display_name_key, external_id, doc)
    values (${workspaceId}, ${directoryId}, ${id}, ${row.displayName}, ${row.displayNameKey}, ${row.externalId},
      ${row.doc})`.execute(db)
  for (const member of members) {
    const table = member.userName === undefined ? 'scim_group_subgroups' : 'scim_group_memberships'
    await sql`insert into ${sql.table(table)} values (${workspaceId}, ${directoryId}, ${id}, ${member.id})`.execute(db)
  }
  return {
    id,
    displayName,
    externalId: displayName,
    members: members.map(member => ({ value: member.id, type: member.userName === undefined ? 'Group' : 'User' })),
  }
}

async function idsOf(type: ResourceTypeName, filter: string, mode: Mode = 'tolerant'): Promise<unknown[]> {
  const { condition } = filterToSql(parseFilter(filter), { type, mode, workspaceId, directoryId })
  const from = type === 'User' ? sql`scim_users as u` : sql`scim_groups as g`
  const alias = type === 'User' ? 'u' : 'g'
  const { rows } = await sql<{
    id: string
  }>`select ${sql.ref(`${alias}.id`)} from ${from} where ${condition} order by 1`.execute(db)
  return rows.map(({ id }) => id)
}

const ann = await makeUser({
  userName: 'Ann@example.com',
  externalId: 'X1',
  displayName: 'Ünïcøde 東京',
  title: 'Head',
  name: { givenName: 'Ann', familyName: "O'Hara" },
  emails: [
    { type: 'work', value: 'Ann@corp.example.com', primary: true },
    { type: 'home', value: 'ann@home.example.com' },
  ],
  [ENTERPRISE_SCHEMA]: { department: 'Docks', manager: { value: 'boss-1' } },
})
const bob = await makeUser({
  userName: 'bob_b@example.com',
  externalId: 'x1',
  active: false,
  title: '',
  emails: [{ value: 'BOB@example.com' }],
})
const cy = await makeUser({
  userName: 'cy%@example.com',
  displayName: 'Παπαδόπουλος',
  roles: [{ value: 'head', primary: false }],
})
const inner = await makeGroup('Inner', [bob])
const outer = await makeGroup('Outer', [ann, inner])
const inGroup = ({ id, displayName }: ScimResource, type: string) => ({ value: id, display: displayName, type })
const users: ScimResource[] = [
  { ...ann, groups: [inGroup(outer, 'direct')] },
  { ...bob, groups: [inGroup(inner, 'direct'), inGroup(outer, 'indirect')] },
  { ...cy, groups: [] },
]
const groups: ScimResource[] = [inner, outer]

/** What the filter finds in SQL must be what it selects in memory. */
async function findsAlike(type: ResourceTypeName, filter: string): Promise<unknown[]> {
  const resources = type === 'User' ? users : groups
  const expected = resources.filter(resource => matches(filter, resource, { type })).map(({ id }) => id)
  t.same(await idsOf(type, filter), expected, `SQL and memory agree on ${filter}`)
  return expected
}

t.test('filters on users find whom the RFC says', async t => {
  const expected: [string, ScimResource[]][] = [
    ['userName eq "ANN@EXAMPLE.COM"', [ann]],
    ['externalId eq "x1"', [bob]],
    ['userName co "b_b"', [bob]],
    ['userName co "%"', [cy]],
    ['userName ew "EXAMPLE.com"', [ann, bob, cy]],
    ['userName gt "b"', [bob, cy]],
    ['displayName sw "ÜNÏ"', [ann]],
    ['displayName eq "ΠΑΠΑΔΌΠΟΥΛΟΣ"', [cy]],
    ['displayName ew "ος"', [cy]],
    ['displayName co "πουλοσ"', [cy]],
    ['active eq false', [bob]],
    ['active ne false', [ann, cy]],
    ['active eq "True"', [ann, cy]],
    ['title pr', [ann]],
    ['not (title pr)', [bob, cy]],
    ['title eq null', [bob, cy]],
    ['title ne null', [ann]],
    ['title ne "head"', [bob, cy]],
    ['not (title eq "head")', [bob, cy]],
    ['name.familyName eq "o\'hara"', [ann]],
    ['emails pr', [ann, bob]],
    ['emails co "corp"', [ann]],
    ['emails.value eq "bob@EXAMPLE.com"', [bob]],
    ['emails.value ne "bob@example.com"', [ann, cy]],
    ['emails[type eq "work"].value eq "ann@corp.example.com"', [ann]],
    ['emails[type eq "work" and value ew "@home.example.com"]', []],
    ['emails[type eq "home" and not (value co "corp")]', [ann]],
    ['emails[type ne "work"]', [ann, bob]],
    ['emails[primary eq "True"] or roles[primary eq false]', [ann, cy]],
    ['emails.value eq "ann@corp.example.com" and emails.value eq "ann@home.example.com"', [ann]],
    [`${ENTERPRISE_SCHEMA}:department eq "docks"`, [ann]],
    [`${ENTERPRISE_SCHEMA}:manager eq "boss-1"`, [ann]],
    [`${ENTERPRISE_SCHEMA} pr`, [ann]],
    ['manager eq "boss-1" and Department sw "do"', [ann]],
    ['manager.value pr', [ann]],
    [`id eq "${String(bob.id)}"`, [bob]],
    ['id eq "no uuid"', []],
    ['id ne "no uuid"', [ann, bob, cy]],
    [
      `id sw "${String(bob.id).slice(0, 35)}"`,
      users.filter(({ id }) => String(id).startsWith(String(bob.id).slice(0, 35))),
    ],
    ['meta.created eq "2026-01-31T13:00:00.500+01:00"', [ann, bob, cy]],
    ['meta.lastModified gt "2026-01-31T12:00:00.5001Z"', []],
    ['meta.lastModified lt "2026-01-31T12:00:00.5001Z"', [ann, bob, cy]],
    ['meta.resourceType eq "User" and meta pr', [ann, bob, cy]],
    ['schemas eq "urn:ietf:params:scim:schemas:extension:enterprise:2.0:user"', [ann]],
    [`groups.value eq "${String(outer.id)}"`, [ann, bob]],
    [`groups[value eq "${String(outer.id)}" and type eq "direct"]`, [ann]],
    ['groups.type eq "indirect"', [bob]],
    ['groups[display eq "outer" and type eq "indirect"]', [bob]],
    [`groups[value eq "${String(inner.id)}" and display eq "inner"]`, [bob]],
    ['groups.display co "n"', [bob]],
    ['groups.display co "OUT"', [ann, bob]],
    ['not (groups pr)', [cy]],
    ['userName eq "a\\u0000b"', []],
    ['title ne "\\u0000"', [ann, bob, cy]],
    ['emails.value eq "\\ud800"', []],
    ['userType eq "x" and title eq "y" or userName sw "cy"', [cy]],
  ]
  for (const [filter, found] of expected)
    t.same(
      await findsAlike('User', filter),
      found.map(({ id }) => id),
      filter,
    )
})

t.test('filters on groups find members without reading the groups', async t => {
  const expected: [string, ScimResource[]][] = [
    ['displayName eq "INNER"', [inner]],
    [`members[value eq "${String(bob.id)}"]`, [inner]],
    [`members.value eq "${String(inner.id)}"`, [outer]],
    [`members[value eq "${String(inner.id)}" and type eq "User"]`, []],
    ['members[type eq "Group"]', [outer]],
    [`not (members.value eq "${String(bob.id)}")`, [outer]],
    [`members.value ne "${String(bob.id)}"`, [outer]],
    ['members.value eq "not an id"', []],
    ['members pr', [inner, outer]],
  ]
  for (const [filter, found] of expected)
    t.same(
      await findsAlike('Group', filter),
      found.map(({ id }) => id),
      filter,
    )
})

t.test('a filter that makes no sense is refused with the attribute and its offset', async t => {
  const refused: [ResourceTypeName, string, RegExp][] = [
    ['User', 'title pr and nope eq "x"', /nope is not an attribute of User \(at offset 13\)/],
    ['Group', 'userName eq "x"', /userName is not an attribute of Group/],
    ['User', 'password eq "x"', /not an attribute/],
    ['User', 'active gt true', /active is a boolean/],
    ['User', 'active eq "maybe"', /true or false/],
    ['User', 'name eq "x"', /sub-attributes/],
    ['User', 'title gt null', /null/],
    ['User', 'title eq 5', /double quotes/],
    ['User', 'meta.created co "2026"', /date-time/],
    ['User', 'meta.created gt "yesterday"', /date-time such as/],
    ['User', 'meta.location eq "x"', /cannot be filtered/],
    ['User', 'x509Certificates.value gt "x"', /binary/],
    ['User', 'emails[nope eq "x"]', /nope is not an attribute of emails/],
    ['User', 'title[value eq "x"]', /brackets/],
  ]
  for (const [type, filter, message] of refused) {
    const options = { type, mode: 'tolerant', workspaceId, directoryId } as const
    t.throws(() => filterToSql(parseFilter(filter), options), { code: 'scim_invalid_filter', message }, filter)
    t.throws(() => matches(filter, {}, { type }), { code: 'scim_invalid_filter', message }, `${filter} in memory`)
  }
  t.throws(
    () => filterToSql(parseFilter('active eq "True"'), { type: 'User', mode: 'strict', workspaceId, directoryId }),
    AppError,
  )
})

t.test('a filter is parameters: its text holds nothing that the client sent', t => {
  const filter = parseFilter(
    `title eq "'; drop" and emails[value eq "drop" and type co "drop"] and groups.value eq "${String(inner.id)}"`,
  )
  const { condition } = filterToSql(filter, { type: 'User', mode: 'tolerant', workspaceId, directoryId })
  const { sql: text } = condition.compile(db)
  t.notMatch(text, /drop|'\s*;/)
  t.notOk(text.includes(String(inner.id)))
  t.end()
})

t.test('any filter finds in SQL what it selects in memory', async t => {
  const name = fc.constantFrom(
    'userName',
    'title',
    'name.familyName',
    'emails.value',
    'emails.type',
    'emails',
    'externalId',
    'groups.display',
  )
  const operator = fc.constantFrom('eq', 'ne', 'co', 'sw', 'ew', 'gt', 'ge', 'lt', 'le')
  const value = fc.constantFrom(
    '',
    'head',
    'Ann@example.com',
    'ann@home.example.com',
    'work',
    '%',
    '_',
    'x1',
    'Inner',
    'a',
    "o'",
  )
  const compare = fc.tuple(name, operator, value).map(([left, op, right]) => `${left} ${op} ${JSON.stringify(right)}`)
  const atom = fc.oneof(
    compare,
    name.map(left => `${left} pr`),
    name.map(left => `${left} eq null`),
    fc
      .tuple(fc.constantFrom('type', 'value', 'display'), operator, value)
      .map(([sub, op, right]) => `emails[${sub} ${op} ${JSON.stringify(right)}]`),
    fc.constantFrom('active eq true', 'emails[primary ne true]', 'roles.primary eq false'),
  )
  const { filter } = fc.letrec<{ filter: string }>(tie => ({
    filter: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      atom,
      fc.tuple(tie('filter'), fc.constantFrom('and', 'or'), tie('filter')).map(([a, word, b]) => `(${a} ${word} ${b})`),
      tie('filter').map(inside => `not (${inside})`),
    ),
  }))
  await fc.assert(
    fc.asyncProperty(filter, async text => {
      const expected = users.filter(user => matches(text, user)).map(({ id }) => id)
      return t.ok((await idsOf('User', text)).join() === expected.join(), text)
    }),
    { numRuns: 300 },
  )
})

const order = async (sortBy: string): Promise<unknown[]> => {
  const key = sortKey('User', sortBy)
  if (key === undefined) return []
  const { rows } = await sql<{
    id: string
  }>`select u.id from scim_users as u order by ${key} nulls last, u.id`.execute(db)
  return rows.map(({ id }) => id)
}

t.test('sorting is by the folded value, the primary one of several, without value last', async t => {
  t.same(await order('userName'), [ann.id, bob.id, cy.id])
  t.same(await order('emails'), [ann.id, bob.id, cy.id])
  t.same(await order('emails.type'), [ann.id, bob.id, cy.id])
  t.same(await order('meta.created'), [ann.id, bob.id, cy.id])
  t.same(await order('active'), [bob.id, ann.id, cy.id])
  t.same(await order('nope'), [])
})
