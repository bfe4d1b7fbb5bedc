import { ask, idOf, measure } from '../measure.ts'
import { groupOf, patchOf } from '../resources.ts'
import { findAndCreateUser } from './users.ts'
import type { Workload } from './workload.ts'

const groupSize = 100

/** The first sync of a directory: looks up and creates all users, then creates and fills groups of 100. */
export const sync: Workload = async function* (session, { connections, syncUsers }) {
  const made: string[] = []
  const users = { step: 'initial sync, a user', connections, most: syncUsers, warmUp: 'none' as const }
  yield await measure({ ...session, seconds: 60 }, users, async connection => {
    const answer = await findAndCreateUser(session, connection)
    made.push(idOf(answer))
    return answer
  })

  let next = 0
  const groups = { step: 'initial sync, a group', connections: 4, most: syncUsers / groupSize, warmUp: 'none' as const }
  yield await measure({ ...session, seconds: 60 }, groups, async connection => {
    const value = made.slice(next, (next += groupSize)).map(id => ({ value: id }))
    const group = await ask(connection, 'POST /Groups', {
      expect: 201,
      body: groupOf(`synced ${session.nextIndex()}`),
    })
    const operation = { op: 'add', path: 'members', value }
    return ask(connection, `PATCH /Groups/${idOf(group)}`, { expect: 204, body: patchOf(operation) })
  })
}
