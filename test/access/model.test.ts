import fc from 'fast-check'
import t from 'tap'
import { accessWorldOf, makeAccessWorld, type AccessWorld } from '../helpers/access.ts'
import { makeReplica } from '../helpers/scim.ts'

/**
 * Any changes, several at a time through two replicas, against a model that knows nothing of SQL: what is stored is what
 * the rules say of the sources, the history ends in what is stored, and deriving everything anew finds nothing.
 */

const roles = ['viewer', 'member', 'admin', 'owner'] as const
type Role = (typeof roles)[number]
interface Grant {
  role: Role
  policy: 'floor' | 'locked'
}

const PEOPLE = 4
const GROUPS = 4
/** Each of these may be a mapping: of a scim group to an Assist group of its own, and perhaps a role. */
const SLOTS = 5

interface Model {
  defaultRole: Role
  active: boolean[]
  grants: (Grant | null)[]
  /** `group:person` and, of a lower group around a higher one, `outer:inner`. */
  members: Set<string>
  nested: Set<string>
  slots: ({ role: Role | null } | null)[]
}

type Change =
  | { kind: 'join' | 'leave'; group: number; person: number }
  | { kind: 'nest' | 'free'; outer: number; inner: number }
  | { kind: 'map'; slot: number; role: Role | null }
  | { kind: 'unmap'; slot: number }
  | { kind: 'grant'; person: number; grant: Grant | null }
  | { kind: 'active'; person: number; active: boolean }
  | { kind: 'default'; role: Role }

const index = (length: number) => fc.nat({ max: length - 1 })
const role = fc.constantFrom(...roles)
const pair = fc.tuple(index(GROUPS), index(GROUPS)).filter(([outer, inner]) => outer < inner)
const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('join' as const), group: index(GROUPS), person: index(PEOPLE) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('leave' as const), group: index(GROUPS), person: index(PEOPLE) }),
  },
  { weight: 2, arbitrary: pair.map(([outer, inner]) => ({ kind: 'nest' as const, outer, inner })) },
  pair.map(([outer, inner]) => ({ kind: 'free' as const, outer, inner })),
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('map' as const), slot: index(SLOTS), role: fc.option(role) }) },
  fc.record({ kind: fc.constant('unmap' as const), slot: index(SLOTS) }),
  fc.record({
    kind: fc.constant('grant' as const),
    person: index(PEOPLE),
    grant: fc.option(fc.record({ role, policy: fc.constantFrom('floor' as const, 'locked' as const) })),
  }),
  fc.record({ kind: fc.constant('active' as const), person: index(PEOPLE), active: fc.boolean() }),
  fc.record({ kind: fc.constant('default' as const), role }),
)

/** What a change is about: two of one batch are never about the same, so that their order does not matter. */
function subjectOf(each: Change): string {
  switch (each.kind) {
    case 'join':
    case 'leave':
      return `member ${each.group}:${each.person}`
    case 'nest':
    case 'free':
      return `nested ${each.outer}:${each.inner}`
    case 'map':
    case 'unmap':
      return `slot ${each.slot}`
    case 'grant':
      return `grant ${each.person}`
    case 'active':
      return `active ${each.person}`
    case 'default':
      return 'default'
  }
}

const batches = fc.array(fc.uniqueArray(change, { minLength: 2, maxLength: 7, selector: subjectOf }), {
  minLength: 3,
  maxLength: 6,
})

function applyTo(model: Model, each: Change): void {
  switch (each.kind) {
    case 'join':
      model.members.add(`${each.group}:${each.person}`)
      break
    case 'leave':
      model.members.delete(`${each.group}:${each.person}`)
      break
    case 'nest':
      model.nested.add(`${each.outer}:${each.inner}`)
      break
    case 'free':
      model.nested.delete(`${each.outer}:${each.inner}`)
      break
    case 'map':
      model.slots[each.slot] = { role: each.role }
      break
    case 'unmap':
      model.slots[each.slot] = null
      break
    case 'grant':
      model.grants[each.person] = each.grant
      break
    case 'active':
      model.active[each.person] = each.active
      break
    case 'default':
      model.defaultRole = each.role
  }
}

/** The rule of the derivation in plain words. */
function expected(model: Model, person: number): { role: Role; slots: number[]; status: string } {
  const isIn = (group: number): boolean =>
    model.members.has(`${group}:${person}`) ||
    Array.from({ length: GROUPS }, (_each, inner) => inner).some(
      inner => model.nested.has(`${group}:${inner}`) && isIn(inner),
    )
  const slots = model.slots.flatMap((slot, at) => (slot && isIn(at % GROUPS) ? [at] : []))
  const mapped = slots.flatMap(at => model.slots[at]?.role ?? [])
  const grant = model.grants[person]
  const candidates = [...(mapped.length > 0 ? mapped : [model.defaultRole]), ...(grant ? [grant.role] : [])]
  const highest = roles[Math.max(...candidates.map(each => roles.indexOf(each)))]!
  const status = model.active[person] ? 'active' : 'deactivated'
  return { role: grant?.policy === 'locked' ? grant.role : highest, slots, status }
}

interface Made {
  world: AccessWorld
  people: { userId: string; memberId: string }[]
  groups: string[]
  assistGroups: string[]
  /** The ids of the mappings that there are. */
  mappings: (string | null)[]
}

function upTo(length: number): number[] {
  return Array.from({ length }, (_each, position) => position)
}

async function make(world: AccessWorld, round: number): Promise<Made> {
  const people = []
  for (const person of upTo(PEOPLE)) people.push(await world.addPerson(`p${person}-${round}`))
  const groups = []
  for (const group of upTo(GROUPS)) groups.push(await world.addGroup(`g${group}-${round}`))
  const assistGroups = []
  for (const slot of upTo(SLOTS)) assistGroups.push(await world.addAssistGroup(`a${slot}-${round}`))
  return { world, people, groups, assistGroups, mappings: upTo(SLOTS).map(() => null) }
}

async function run({ world, people, groups, assistGroups, mappings }: Made, each: Change): Promise<void> {
  const { ask, join, patch, directoryId } = world
  const expectDone = (reply: { statusCode: number; body: string }) => {
    if (reply.statusCode >= 300) throw new Error(`${JSON.stringify(each)}: ${reply.body}`)
  }
  switch (each.kind) {
    case 'join':
      return join(groups[each.group]!, people[each.person]!.userId)
    case 'leave':
      return world.leave(groups[each.group]!, people[each.person]!.userId)
    case 'nest':
      return join(groups[each.outer]!, groups[each.inner]!)
    case 'free':
      return world.leave(groups[each.outer]!, groups[each.inner]!)
    case 'map': {
      const existing = mappings[each.slot]
      if (existing) return void (await ask('PATCH', `/group-mappings/${existing}`, { role: each.role }))
      const mapping = { directoryId, scimGroupId: groups[each.slot % GROUPS], groupId: assistGroups[each.slot] }
      const created = await ask('POST', '/group-mappings', { ...mapping, ...(each.role && { role: each.role }) })
      mappings[each.slot] = created.id
      return
    }
    case 'unmap': {
      const existing = mappings[each.slot]
      mappings[each.slot] = null
      if (existing) await ask('DELETE', `/group-mappings/${existing}`, undefined, 204)
      return
    }
    case 'grant': {
      const { memberId } = people[each.person]!
      const grant = each.grant ? { grant: each.grant.policy, role: each.grant.role } : { grant: 'none' }
      return void (await ask('PATCH', `/members/${memberId}`, grant))
    }
    case 'active': {
      const { userId } = people[each.person]!
      return expectDone(await patch(`/Users/${userId}`, { op: 'replace', path: 'active', value: each.active }))
    }
    case 'default':
      return void (await ask('PUT', '/default-role', { role: each.role }))
  }
}

async function seen({ world, people, assistGroups }: Made) {
  const { db } = world
  return Promise.all(
    people.map(async ({ memberId }) => {
      const member = await db.selectFrom('members').selectAll().where('id', '=', memberId).executeTakeFirstOrThrow()
      const held = await world.accessOf(memberId)
      const last = await db
        .selectFrom('access_changes')
        .selectAll()
        .where('member_id', '=', memberId)
        .orderBy('id', 'desc')
        .executeTakeFirstOrThrow()
      const { status, role: stored, rules, manual_role: manual } = member
      return {
        access: {
          role: stored,
          slots: held.groups.map(id => assistGroups.indexOf(id)).toSorted((a, b) => a - b),
          status,
        },
        // Whatever the member is now, the last change of their history says so.
        isRecorded:
          JSON.stringify([status, stored, rules, manual]) ===
          JSON.stringify([last.status_after, last.role_after, last.rules, last.manual_role]),
      }
    }),
  )
}

t.test('whatever changes at once, what is stored is what the sources say', async t => {
  const world = await makeAccessWorld(t)
  const replica = await accessWorldOf(t, await makeReplica(t, world))
  const owner = await world.addPerson('owner')
  await world.ask('PATCH', `/members/${owner.memberId}`, { grant: 'locked', role: 'owner' })
  let runs = 0
  const holds = async (plan: Change[][]) => {
    const made = await make(world, runs)
    await world.ask('PUT', '/default-role', { role: 'member' })
    const model: Model = {
      defaultRole: 'member',
      active: Array.from({ length: PEOPLE }, () => true),
      grants: Array.from({ length: PEOPLE }, () => null),
      members: new Set(),
      nested: new Set(),
      slots: Array.from({ length: SLOTS }, () => null),
    }
    runs += 1
    for (const batch of plan) {
      await Promise.all(batch.map((each, at) => run(at % 2 === 0 ? made : { ...made, world: replica }, each)))
      for (const each of batch) applyTo(model, each)
      const now = await seen(made)
      t.same(
        now.map(each => each.access),
        made.people.map((_each, person) => expected(model, person)),
        JSON.stringify(plan),
      )
      t.ok(
        now.every(each => each.isRecorded),
        'the history ends in what is stored',
      )
    }
    t.match(await made.world.ask('POST', '/access/reconcile', undefined, 200), { repaired: 0 })
    t.match(
      await Promise.all(made.people.map(({ memberId }) => made.world.ask('GET', `/members/${memberId}/access`))),
      made.people.map((_each, person) => ({
        role: { value: expected(model, person).role },
        status: { value: expected(model, person).status },
        groups: expected(model, person).slots.map(() => ({})),
      })),
      'and is explained as such',
    )
  }
  await fc.assert(fc.asyncProperty(batches, holds), { numRuns: 12, endOnFailure: true })
})
