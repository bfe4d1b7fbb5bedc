import { openConnection } from '../connection.ts'
import { ask, idOf, measure, type Session } from '../measure.ts'
import { groupOf } from '../resources.ts'
import type { Workload } from './workload.ts'

/** How long small requests of one tenant take while another reads and writes its largest group without a pause. */
export const neighbours: Workload = async function* (session, { members }) {
  const size = Math.min(Math.max(...members.filter(each => each <= 50_000)), session.users)
  const ids = Array.from({ length: size }, (_, index) => session.userId(index))
  const body = Buffer.from(groupOf(`large group ${session.nextIndex()}`, ids))

  const heavy = await openConnection(session.endpoint)
  const group = `/Groups/${idOf(await ask(heavy, 'POST /Groups', { expect: 201, body }))}`
  yield await small(session, 'small get alone', size)
  yield await beside(session, 'small get beside group reads', size, () => ask(heavy, `GET ${group}`))
  yield await beside(session, 'small get beside group writes', size, () => ask(heavy, `PUT ${group}`, { body }))
  await ask(heavy, `DELETE ${group}`, { expect: 204 })
  heavy.close()
}

async function beside(session: Session, step: string, size: number, again: () => Promise<unknown>) {
  const loop = { over: false }
  const repeat = async () => {
    while (!loop.over) await again()
  }
  const repeated = repeat()
  const measured = small(session, step, size)
  const measurement = await measured.finally(() => (loop.over = true))
  await repeated
  return measurement
}

/** About six hundred requests a second, from four clients: far from what the server can do. */
function small(session: Session, step: string, members: number) {
  const { endpoint, userIds } = session.neighbour
  const load = { step, members, endpoint, connections: 4, pauseMs: 5 }
  return measure(session, load, connection => {
    const id = userIds[Math.floor(Math.random() * userIds.length)]!
    return ask(connection, `GET /Users/${id}`)
  })
}
