import { openConnection } from '../connection.ts'
import { ask, idOf, measure, type Session } from '../measure.ts'
import { groupOf } from '../resources.ts'
import type { Workload } from './workload.ts'

/** Latency of small requests of one tenant while another reads and writes its largest group continuously. */
export const neighbours: Workload = async function* (session, { members }) {
  const size = Math.min(Math.max(...members.filter(each => each <= 50_000)), session.users)
  const ids = Array.from({ length: size }, (_, index) => session.userId(index))
  const body = Buffer.from(groupOf(`large group ${session.nextIndex()}`, ids))

  const heavy = await openConnection(session.endpoint)
  const group = `/Groups/${idOf(await ask(heavy, 'POST /Groups', { expect: 201, body }))}`
  yield await small(session, 'small get alone', size)
  yield await smallDuring(session, 'small get during group reads', size, () => ask(heavy, `GET ${group}`))
  yield await smallDuring(session, 'small get during group writes', size, () => ask(heavy, `PUT ${group}`, { body }))
  await ask(heavy, `DELETE ${group}`, { expect: 204 })
  heavy.close()
}

async function smallDuring(session: Session, step: string, size: number, again: () => Promise<unknown>) {
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

/** Sends about 600 requests per second from four clients, far below the capacity of the server. */
function small(session: Session, step: string, members: number) {
  const { endpoint, userIds } = session.neighbour
  const load = { step, members, endpoint, connections: 4, pauseMs: 5 }
  return measure(session, load, connection => {
    const id = userIds[Math.floor(Math.random() * userIds.length)]!
    return ask(connection, `GET /Users/${id}`)
  })
}
