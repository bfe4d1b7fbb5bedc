import fc from 'fast-check'
import t from 'tap'
import { recomputeAccess } from '../../src/access/derivation/access.ts'
import { endAccess } from '../../src/access/derivation/end-access.ts'
import { recordActivity } from '../../src/activity/activity.ts'
import type { Db } from '../../src/db/database.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { makeDatabase } from '../helpers/database.ts'

const roles = ['viewer', 'member', 'admin', 'owner'] as const
type Role = (typeof roles)[number]
const actor = { type: 'system', id: 'test' } as const

/** What a member's access derives from, as plain data: positions stand for ids. */
interface World {
  defaultRole: Role
  members: { manual: { role: Role; policy: 'floor' | 'locked' } | null }[]
  /** Scim groups: the members in each, and the groups in each (any shape, circles too). */
  groups: { people: number[]; inner: number[] }[]
  mappings: { from: number; to: number | null; role: Role | null }[]
}

const index = (length: number) => fc.nat({ max: length - 1 })
const role = fc.constantFrom(...roles)
const memberCount = 5
const groupCount = 4
const worlds: fc.Arbitrary<World> = fc.record({
  defaultRole: role,
  members: fc.array(
    fc.record({ manual: fc.option(fc.record({ role, policy: fc.constantFrom('floor' as const, 'locked' as const) })) }),
    { minLength: memberCount, maxLength: memberCount },
  ),
  groups: fc.array(
    fc.record({ people: fc.uniqueArray(index(memberCount)), inner: fc.uniqueArray(index(groupCount)) }),
    { minLength: groupCount, maxLength: groupCount },
  ),
  mappings: fc.uniqueArray(
    fc
      .record({ from: index(groupCount), to: fc.option(index(2)), role: fc.option(role) })
      .filter(each => each.to !== null || each.role !== null),
    { maxLength: 5, selector: each => JSON.stringify(each) },
  ),
})

/** The rule of `recomputeAccess` in plain words, over plain data. */
function expected(world: World, member: number): { role: Role; groups: number[] } {
  const isIn = (group: number, seen: number[] = []): boolean =>
    !seen.includes(group) &&
    (world.groups[group]!.people.includes(member) ||
      world.groups[group]!.inner.some(inner => isIn(inner, [...seen, group])))
  const given = world.mappings.filter(mapping => isIn(mapping.from))
  const rank = (each: Role) => roles.indexOf(each)
  const mapped = given.flatMap(each => each.role ?? []).toSorted((a, b) => rank(b) - rank(a))
  const derived = mapped[0] ?? world.defaultRole
  const { manual } = world.members[member]!
  const lifted = manual && (manual.policy === 'locked' || rank(manual.role) > rank(derived)) ? manual.role : derived
  return { role: lifted, groups: [...new Set(given.flatMap(each => each.to ?? []))].toSorted((a, b) => a - b) }
}

/** Writes the world's sources, and members who have only a first role yet. */
async function build(db: Db, world: World) {
  const ids = {
    workspace: uuid7(),
    directory: uuid7(),
    members: world.members.map(() => uuid7()),
    groups: world.groups.map(() => uuid7()),
    assistGroups: [uuid7(), uuid7()],
  }
  const tenant = { workspace_id: ids.workspace }
  const within = { ...tenant, directory_id: ids.directory }
  await db
    .insertInto('workspaces')
    .values({ id: ids.workspace, name: 'acme', default_role: world.defaultRole })
    .execute()
  await db
    .insertInto('directories')
    .values({ ...tenant, id: ids.directory, name: 'Okta' })
    .execute()
  const members = world.members.map(({ manual }, at) => ({
    ...tenant,
    id: ids.members[at]!,
    status: 'active' as const,
    role: 'viewer',
    origin: 'directory' as const,
    manual_role: manual?.role ?? null,
    manual_policy: manual?.policy ?? null,
  }))
  await db.insertInto('members').values(members).execute()
  const users = ids.members.map((member_id, at) => ({
    ...within,
    id: member_id,
    user_name: `u${at}`,
    user_name_key: `u${at}`,
    active: true,
    member_id,
    doc: '{}',
  }))
  await db.insertInto('scim_users').values(users).execute()
  const groups = ids.groups.map((id, at) => ({
    ...within,
    id,
    display_name: `g${at}`,
    display_name_key: `g${at}`,
    doc: '{}',
  }))
  await db.insertInto('scim_groups').values(groups).execute()
  const people = world.groups.flatMap((group, at) =>
    group.people.map(person => ({ ...within, group_id: ids.groups[at]!, user_id: ids.members[person]! })),
  )
  if (people.length > 0) await db.insertInto('scim_group_memberships').values(people).execute()
  const inner = world.groups.flatMap((group, at) =>
    group.inner.map(each => ({ ...within, group_id: ids.groups[at]!, subgroup_id: ids.groups[each]! })),
  )
  if (inner.length > 0) await db.insertInto('scim_group_subgroups').values(inner).execute()
  const assist = ids.assistGroups.map((id, at) => ({ ...tenant, id, name: `a${at}`, name_key: `a${at}` }))
  await db.insertInto('groups').values(assist).execute()
  const mappings = world.mappings.map(({ from, to, role: mapped }) => ({
    ...within,
    id: uuid7(),
    scim_group_id: ids.groups[from]!,
    group_id: to === null ? null : ids.assistGroups[to]!,
    role: mapped,
  }))
  if (mappings.length > 0) await db.insertInto('group_mappings').values(mappings).execute()
  return ids
}

async function recompute(db: Db, workspaceId: string, memberIds: string[]) {
  return db.transaction().execute(async trx => {
    const entryId = await recordActivity(trx, { workspaceId, action: 'group_mapping.created', actor })
    return recomputeAccess(trx, { workspaceId, memberIds, entryId, roles })
  })
}

t.test('role and groups are what the rules say, for any sources, and deriving them again changes nothing', async t => {
  const { db } = await makeDatabase(t)
  const holds = async (world: World) => {
    const ids = await build(db, world)
    const { changed } = await recompute(db, ids.workspace, ids.members)
    const members = await db
      .selectFrom('members')
      .select(['id', 'role'])
      .where('workspace_id', '=', ids.workspace)
      .execute()
    const memberships = await db
      .selectFrom('group_memberships')
      .selectAll()
      .where('workspace_id', '=', ids.workspace)
      .execute()
    const seen = ids.members.map(id => ({
      role: members.find(each => each.id === id)?.role,
      groups: memberships
        .filter(each => each.member_id === id)
        .map(each => ids.assistGroups.indexOf(each.group_id))
        .toSorted((a, b) => a - b),
    }))
    t.same(
      seen,
      ids.members.map((_id, at) => expected(world, at)),
    )
    const history = await db
      .selectFrom('access_changes')
      .select('member_id')
      .where('workspace_id', '=', ids.workspace)
      .execute()
    t.equal(history.length, changed)
    t.match(await recompute(db, ids.workspace, ids.members), { changed: 0, differing: 0, keptOwners: 0 })
  }
  await fc.assert(fc.asyncProperty(worlds, holds), { numRuns: 40 })
})

t.test('the last active owner keeps the role, and the caller is told', async t => {
  const { db } = await makeDatabase(t)
  const none = { people: [], inner: [] }
  const world: World = {
    defaultRole: 'member',
    members: [{ manual: null }, { manual: null }],
    groups: [none],
    mappings: [],
  }
  const { workspace, members } = await build(db, world)
  await db.updateTable('members').set({ role: 'owner' }).where('workspace_id', '=', workspace).execute()
  const [first, second] = members as [string, string]
  t.match(await recompute(db, workspace, [first]), {
    changed: 1,
    keptOwners: 0,
  })
  t.match(await recompute(db, workspace, [second]), { differing: 0, keptOwners: 1 })
  t.match(
    await recompute(db, workspace, [second]),
    { changed: 0, keptOwners: 0 },
    'by a role given by hand, which is a source as any other',
  )
  const end = db
    .transaction()
    .execute(trx =>
      endAccess(trx, { workspaceId: workspace, memberId: second, by: 'admin', action: 'member.deactivated', actor }),
    )
  await t.rejects(end, { code: 'last_owner' })
})

t.test('of two owners who are deactivated at the same time one stays', async t => {
  const { db } = await makeDatabase(t)
  const none = { people: [], inner: [] }
  const world: World = {
    defaultRole: 'member',
    members: [{ manual: null }, { manual: null }],
    groups: [none],
    mappings: [],
  }
  for (let round = 0; round < 5; round++) {
    const { workspace, members } = await build(db, world)
    await db.updateTable('members').set({ role: 'owner' }).where('workspace_id', '=', workspace).execute()
    const ends = members.map(memberId =>
      db
        .transaction()
        .execute(trx =>
          endAccess(trx, { workspaceId: workspace, memberId, by: 'admin', action: 'member.deactivated', actor }),
        ),
    )
    const results = await Promise.allSettled(ends)
    t.same(results.map(each => each.status).toSorted(), ['fulfilled', 'rejected'])
    t.match(
      results.find(each => each.status === 'rejected'),
      { reason: { code: 'last_owner' } },
    )
  }
})
