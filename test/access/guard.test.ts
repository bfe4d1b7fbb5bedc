import t from 'tap'
import { makeAccessWorld } from '../helpers/access.ts'
import { startSession } from '../helpers/scim.ts'

async function makeGuarded(t: Parameters<typeof makeAccessWorld>[0], guard: object, people: number) {
  const world = await makeAccessWorld(t)
  const { ask, directoryId, addPerson } = world
  await ask('PATCH', `/directories/${directoryId}`, { guard })
  const made = []
  for (let index = 0; index < people; index++) made.push(await addPerson(`user-${index}`))
  return {
    ...world,
    people: made,
    held: async () => (await ask('GET', `/directories/${directoryId}/held-removals`)).items,
    deactivate: (userId: string) => world.patch(`/Users/${userId}`, { op: 'replace', path: 'active', value: false }),
    status: async (userId: string) => (await world.memberOf(userId)).status as string,
  }
}

t.test('without a guard everybody can go at once', async t => {
  const { people, deactivate, held } = await makeGuarded(t, {}, 4)
  for (const { userId } of people) t.equal((await deactivate(userId)).statusCode, 200)
  t.same(await held(), [])
})

t.test(
  'over the limit a removal is held: 429 with a time to come back, told once, until an admin accepts it',
  async t => {
    const world = await makeGuarded(t, { people: 2 }, 4)
    const { people, deactivate, held, status, ask, directoryId, send, memberOf, app } = world
    const [a, b, c, d] = people as [(typeof people)[0], (typeof people)[0], (typeof people)[0], (typeof people)[0]]
    const session = await startSession(world, await memberOf(c.userId))
    for (const { userId } of [a, b]) t.equal((await deactivate(userId)).statusCode, 200)
    for (let attempt = 0; attempt < 2; attempt++) {
      const refused = await deactivate(c.userId)
      t.equal(refused.statusCode, 429)
      t.match(refused.headers['retry-after'], /^\d+$/)
    }
    t.equal((await send('DELETE', `/Users/${d.userId}`)).statusCode, 429)
    t.equal(await status(c.userId), 'active')
    t.match((await send('GET', `/Users/${c.userId}`)).json(), { active: true })
    t.match(await held(), [
      { userId: c.userId, userName: 'user-2@example.com', operation: 'deactivate', attempts: 2 },
      { userId: d.userId, operation: 'delete', attempts: 1 },
    ])
    const told = (await ask('GET', '/activity?kind=scim_user.removal_held')).items
    t.match(told, [{ outcome: 'refused', reason: 'scim_removal_held', memberId: d.memberId }, { memberId: c.memberId }])

    const decided = await ask('POST', `/directories/${directoryId}/held-removals/accept`, { userIds: [c.userId] }, 200)
    t.same(decided, { people: 1 })
    t.equal(await status(c.userId), 'deactivated')
    t.equal((await app.inject({ url: '/v1/session', headers: session })).statusCode, 401, 'access is over here and now')
    t.equal((await deactivate(c.userId)).statusCode, 200, 'and the provider finds it done')
    t.match((await send('GET', `/Users/${c.userId}`)).json(), { active: false })
    t.equal((await held()).length, 1)
  },
)

t.test('an admin who releases a removal keeps the person, and the guard counts anew should it come again', async t => {
  const { people, deactivate, held, status, ask, directoryId } = await makeGuarded(t, { percent: 30 }, 4)
  const [a, b] = people as [(typeof people)[0], (typeof people)[0]]
  await deactivate(a.userId)
  t.equal((await deactivate(b.userId)).statusCode, 429)
  const path = `/directories/${directoryId}/held-removals`
  t.same(await ask('POST', `${path}/release`, { all: true }, 200), { people: 1 })
  t.same(await held(), [])
  t.equal(await status(b.userId), 'active')
  t.match((await ask('GET', '/activity?kind=scim_user.removal_released')).items, [{ actor: { type: 'user' } }])
  t.match(await ask('POST', `${path}/accept`, { all: true }, 404), { code: 'not_found' })
  t.equal((await deactivate(b.userId)).statusCode, 429)
  t.equal((await held()).length, 1)
  await ask('PATCH', `/directories/${directoryId}`, { guard: { percent: null } })
  t.equal((await deactivate(b.userId)).statusCode, 200, 'off again')
})

t.test('of removals that come at one moment no more than the limit get through', async t => {
  const { people, deactivate, held } = await makeGuarded(t, { people: 3 }, 8)
  const replies = await Promise.all(people.map(({ userId }) => deactivate(userId)))
  t.equal(replies.filter(reply => reply.statusCode === 200).length, 3)
  t.equal(replies.filter(reply => reply.statusCode === 429).length, 5)
  t.equal((await held()).length, 5)
})

t.test('a directory without a guard pays no statement for it', async t => {
  const { people, deactivate, statements, ask, directoryId } = await makeGuarded(t, {}, 3)
  const [a, b] = people as [(typeof people)[0], (typeof people)[0]]
  const without = await statements(() => deactivate(a.userId))
  await ask('PATCH', `/directories/${directoryId}`, { guard: { people: 100 } })
  const withGuard = await statements(() => deactivate(b.userId))
  t.equal(without.length, 1)
  t.ok(withGuard.length > 1)
})
