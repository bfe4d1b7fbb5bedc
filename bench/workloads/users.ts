import { ask, measure, measureMemory, type Session } from '../measure.ts'
import { externalIdOf, patchOf, userNameOf, userOf } from '../resources.ts'
import type { Answer, Connection } from '../connection.ts'
import type { Workload } from './workload.ts'

const pageSize = 100

export const idle: Workload = async function* (session) {
  yield measureMemory(session, 'idle')
}

export const create: Workload = async function* (session, { connections }) {
  yield await measure(session, { step: 'create user', connections }, connection => createUser(session, connection))
}

export const get: Workload = async function* (session, { connections }) {
  yield await measure(session, { step: 'get user', connections }, connection =>
    ask(connection, `GET /Users/${randomUserId(session)}`),
  )
}

export const lookup: Workload = async function* (session, { connections }) {
  const lookups: Record<string, (index: number) => string> = {
    userName: userNameOf,
    externalId: externalIdOf,
    'emails.value': userNameOf,
  }
  for (const [attribute, valueOf] of Object.entries(lookups)) {
    yield await measure(session, { step: `look up by ${attribute}`, connections }, async connection => {
      const index = random(session.users)
      const answer = await findUser(connection, attribute, valueOf(index))
      if (answer.bytes < 500) throw new Error(`User ${index} was not found by ${attribute}.`)
      return answer
    })
  }
}

export const list: Workload = async function* (session) {
  const deep = Math.max(1, session.users - pageSize)
  for (const [step, startIndex] of [
    ['page of 100, first', 1],
    ['page of 100, deep', deep],
  ] as const) {
    const page = `GET /Users?startIndex=${startIndex}&count=${pageSize}`
    let checked = false
    yield await measure(session, { step }, async connection => {
      const answer = await ask(connection, page)
      if (!checked) checkPage(session, answer)
      checked = true
      return answer
    })
  }
  let cursor = ''
  yield await measure(session, { step: 'page of 100, cursor' }, async connection => {
    const answer = await ask(connection, `GET /Users?count=${pageSize}&cursor=${cursor}`)
    cursor = encodeURIComponent(/"nextCursor" *: *"([^"]+)"/.exec(answer.text())?.[1] ?? '')
    return answer
  })
}

export const patch: Workload = async function* (session, { connections }) {
  let turn = 0
  yield await measure(session, { step: 'patch active', connections }, connection => {
    const { index, active } = nextSwitch(turn++, session.users)
    return patchUser(connection, session.userId(index), { op: 'replace', path: 'active', value: active })
  })
  yield await measure(session, { step: 'patch title', connections }, connection =>
    patchUser(connection, randomUserId(session), { op: 'replace', path: 'title', value: `Title ${random(1000)}` }),
  )
}

/**
 * Returns the user and the new value of `active` for a turn. A batch of users spread over the directory is deactivated, then
 * reactivated, so that each PATCH changes something.
 */
function nextSwitch(turn: number, users: number): { index: number; active: boolean } {
  const batch = 64
  const place = Math.floor(turn / (2 * batch)) * batch + (turn % batch)
  return { index: (place * 7919) % users, active: Math.floor(turn / batch) % 2 === 1 }
}

/** The daily work of an identity provider: look up a user, then change it. One user in ten is new. */
export const cycle: Workload = async function* (session, { connections }) {
  yield await measure(session, { step: 'sync cycle', connections }, async connection => {
    if (random(10) === 0) return findAndCreateUser(session, connection)
    const found = await findUser(connection, 'userName', userNameOf(random(session.users)))
    const id = /"Resources".*?"id" *: *"([^"]+)"/.exec(found.text())?.[1]
    if (id === undefined) throw new Error('A look-up found no user.')
    return patchUser(connection, id, { op: 'replace', path: 'title', value: `Title ${random(1000)}` })
  })
}

async function createUser(session: Session, connection: Connection): Promise<Answer> {
  return ask(connection, 'POST /Users', { expect: 201, body: JSON.stringify(userOf(session.nextIndex())) })
}

/** Looks up a user that does not exist, then creates it. */
export async function findAndCreateUser(session: Session, connection: Connection): Promise<Answer> {
  const index = session.nextIndex()
  await findUser(connection, 'userName', userNameOf(index))
  return ask(connection, 'POST /Users', { expect: 201, body: JSON.stringify(userOf(index)) })
}

export async function findUser(connection: Connection, attribute: string, value: string): Promise<Answer> {
  return ask(connection, `GET /Users?filter=${encodeURIComponent(`${attribute} eq "${value}"`)}`)
}

async function patchUser(connection: Connection, id: string, operation: Parameters<typeof patchOf>[0]) {
  const answer = await connection.request(`PATCH /Users/${id}`, { body: patchOf(operation) })
  if (answer.status === 200 || answer.status === 204) return answer
  throw new Error(`PATCH of a user returned ${answer.status}: ${answer.text().slice(0, 300)}`)
}

function checkPage(session: Session, answer: Answer): void {
  const { totalResults, Resources } = JSON.parse(answer.text()) as { totalResults: number; Resources: object[] }
  if (totalResults >= session.users && Resources.length === pageSize) return
  throw new Error(
    `A page has ${Resources.length} of ${totalResults} users; it should have ${pageSize} of ${session.users} or more.`,
  )
}

function randomUserId(session: Session): string {
  return session.userId(random(session.users))
}

function random(below: number): number {
  return Math.floor(Math.random() * below)
}
