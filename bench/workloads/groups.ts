import { openConnection } from '../connection.ts'
import { ask, idOf, measure, type Session } from '../measure.ts'
import { groupOf, patchOf } from '../resources.ts'
import type { Workload } from './workload.ts'

/** Number of users outside the largest group, so that they can be added to it. */
const outsiders = 200

/** All operations on a group, for each size. */
export const groups: Workload = async function* (session, { members }) {
  const sizes = new Set(members.map(size => Math.min(size, session.users - outsiders)))
  for (const size of sizes) yield* groupOfSize(session, size)
}

async function* groupOfSize(session: Session, size: number) {
  const load = { members: size }
  const ids = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, index) => session.userId(from + index))
  const inside = ids(0, size)
  const exchanged = Math.max(1, Math.min(Math.floor(size / 10), Math.floor((session.users - size) / 2)))
  const outside = ids(size, Math.min(session.users, size + exchanged + 3000))
  const displayName = `group ${session.nextIndex()}`
  // Create the bodies once, because serializing a megabyte of JSON would delay this process in reading responses.
  const original = Buffer.from(groupOf(displayName, inside))
  const other = Buffer.from(groupOf(displayName, [...inside.slice(exchanged), ...outside.slice(0, exchanged)]))

  const made: string[] = []
  const most = Math.min(50, Math.max(2, Math.round(20_000 / size)))
  yield await measure({ ...session, seconds: 30 }, { ...load, step: 'create group', most }, async connection => {
    const body = made.length === 0 ? original : groupOf(`group ${session.nextIndex()}`, inside)
    const answer = await ask(connection, 'POST /Groups', { expect: 201, body })
    made.push(idOf(answer))
    return answer
  })
  const group = `/Groups/${made[0]}`
  await checkMembers(session, group, size)

  let turn = 0
  const exchange = (step: string, warmUp?: 'none') =>
    measure({ ...session, seconds: 10 }, { ...load, step, most: 6, ...(warmUp && { warmUp }) }, connection =>
      ask(connection, `PUT ${group}`, { body: turn++ % 2 === 0 ? other : original }),
    )
  // Statistics still show few memberships or none.
  yield await exchange('put group, 10 % exchanged, no ANALYZE', 'none')
  await session.analyze()
  yield await exchange('put group, 10 % exchanged')

  const same = turn % 2 === 0 ? original : other
  yield await measure({ ...session, seconds: 10 }, { ...load, step: 'put group, unchanged', most: 6 }, connection =>
    ask(connection, `PUT ${group}`, { body: same }),
  )
  yield await measure(session, { ...load, step: 'get group' }, connection => ask(connection, `GET ${group}`))
  yield await measure(session, { ...load, step: 'get group without members' }, connection =>
    ask(connection, `GET ${group}?excludedAttributes=members`),
  )

  const candidates = outside.slice(exchanged)
  const added: string[] = []
  const additions = mostOf(candidates.length)
  yield await measure(session, { ...load, step: 'add one member', most: additions }, connection => {
    const value = candidates.pop()!
    added.push(value)
    const body = patchOf({ op: 'add', path: 'members', value: [{ value }] })
    return ask(connection, `PATCH ${group}`, { expect: 204, body })
  })
  const removals = mostOf(added.length)
  yield await measure(session, { ...load, step: 'remove one member', most: removals }, connection => {
    const body = patchOf({ op: 'remove', path: `members[value eq "${added.pop()}"]` })
    return ask(connection, `PATCH ${group}`, { expect: 204, body })
  })
  const deletions = mostOf(made.length)
  yield await measure({ ...session, seconds: 30 }, { ...load, step: 'delete group', most: deletions }, connection =>
    ask(connection, `DELETE /Groups/${made.pop()}`, { expect: 204 }),
  )
}

/** Returns how many of `available` single-use items to measure, so that the warm-up can use a third as many. */
function mostOf(available: number): number {
  return Math.floor(((available - 1) * 3) / 4)
}

async function checkMembers(session: Session, group: string, size: number): Promise<void> {
  const connection = await openConnection(session.endpoint)
  const answer = await ask(connection, `GET ${group}`)
  connection.close()
  const { members } = JSON.parse(answer.text()) as { members: unknown[] }
  if (members.length !== size) throw new Error(`A group was created with ${size} members but has ${members.length}.`)
}
