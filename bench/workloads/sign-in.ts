import { createHash, randomBytes } from 'node:crypto'
import type { Connection } from '../connection.ts'
import { ask, measure, type SignIn } from '../measure.ts'
import { codeOf } from '../provider.ts'
import { userNameOf } from '../resources.ts'
import type { Workload } from './workload.ts'

/**
 * Users of the directory sign in. Start, callback and redemption of the code together count as one request. Contenders
 * without sign-in skip this workload.
 */
export const signIn: Workload = async function* (session, { connections }) {
  const { signIn: place, neighbour } = session
  if (!place) return
  const load = { connections, most: 3000, endpoint: { baseUrl: place.origin } }
  const work = (connection: Connection) => {
    const index = Math.floor(Math.random() * neighbour.userIds.length)
    return signInOnce(connection, place, { subject: `subject-${index}`, email: userNameOf(index) })
  }
  yield await measure(session, { ...load, step: 'sign-in, no ANALYZE' }, work)
  await session.analyze()
  yield await measure(session, { ...load, step: 'sign-in' }, work)
}

/** Signs one person in. Returns the response of POST /v1/sessions, which sets the session cookie. */
export async function signInOnce(connection: Connection, place: SignIn, person: { subject: string; email: string }) {
  const verifier = randomBytes(32).toString('base64url')
  const challenge = createHash('sha256').update(verifier).digest('base64url')
  const path = `/sso/${place.workspaceId}`
  const start = await ask(connection, `GET ${path}/start?return_to=/&handoff_challenge=${challenge}`, { expect: 303 })
  const authorization = new URL(start.headers('location')[0]!).searchParams
  const cookie = start
    .headers('set-cookie')
    .map(each => each.split(';')[0])
    .join('; ')

  const answer = new URLSearchParams({
    code: codeOf({ ...person, nonce: authorization.get('nonce')! }),
    state: authorization.get('state')!,
  })
  const callback = await ask(connection, `GET ${path}/callback?${answer.toString()}`, {
    expect: 303,
    headers: { cookie },
  })
  const signedIn = new URL(callback.headers('location')[0]!)
  if (!signedIn.pathname.endsWith('/complete')) throw new Error(`A sign-in ended at ${signedIn.href}`)

  const body = JSON.stringify({ code: signedIn.searchParams.get('code'), verifier })
  return ask(connection, 'POST /v1/sessions', { expect: 201, body, contentType: 'application/json' })
}
