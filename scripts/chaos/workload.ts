import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { LoopbackProvider } from '../../tools/loopback-provider.ts'
import type { Client, Reply } from './client.ts'
import { newFact, type Fact, type Facts } from './facts.ts'
import type { Random } from './random.ts'

export interface Workspace {
  /** Of the proxy before the replicas. */
  baseUrl: string
  workspaceId: string
  adminToken: string
  directoryId: string
  directoryToken: string
  provider: LoopbackProvider
}

export interface Work {
  client: Client
  facts: Facts
  workspace: Workspace
  random: Random
  /** Unique among the writers, and part of every name that this one makes. */
  writer: string
}

/** Does one thing. Loops call it until the run ends. */
export type Step = (work: Work) => Promise<void>

const patchOp = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'
const userSchema = 'urn:ietf:params:scim:schemas:core:2.0:User'
const groupSchema = 'urn:ietf:params:scim:schemas:core:2.0:Group'

/** An identity provider creates, renames, deactivates, reactivates and deletes its users. */
export const writeUsers: Step = async work => {
  const { facts, random, writer } = work
  const own = facts.users.filter(
    each => each.key.startsWith(`${writer}-`) && each.id !== undefined && each.deleted === 'no',
  )
  const choice = random.below(10)
  const user = own.length > 0 ? random.pick(own) : undefined
  if (user === undefined || choice < 5) return createUser(work)
  if (choice < 7) return patchUser(work, user, { displayName: makeName(random) })
  if (choice < 9) return patchUser(work, user, { active: !user.active.has(true) })
  return deleteUser(work, user)
}

async function createUser(work: Work): Promise<void> {
  const { facts, random, writer } = work
  const name = makeName(random)
  const fact = newFact(`${writer}-${facts.users.length}@example.com`, name)
  facts.users.push(fact)
  const body = { schemas: [userSchema], userName: fact.key, externalId: fact.key, displayName: name, active: true }
  noteCreation(work, fact, await scim(work, 'POST', '/Users', body))
}

async function patchUser(work: Work, user: Fact, change: { displayName?: string; active?: boolean }): Promise<void> {
  const Operations = Object.entries(change).map(([path, value]) => ({ op: 'replace', path, value }))
  const reply = await scim(work, 'PATCH', `/Users/${user.id}`, { schemas: [patchOp], Operations })
  const isDone = isSuccess(work, reply, `PATCH of ${user.key}`)
  if (change.displayName !== undefined) note(user.names, change.displayName, isDone)
  if (change.active !== undefined) note(user.active, change.active, isDone)
}

async function deleteUser(work: Work, user: Fact): Promise<void> {
  const isDone = isSuccess(work, await scim(work, 'DELETE', `/Users/${user.id}`), `DELETE of ${user.key}`)
  user.deleted = isDone ? 'yes' : 'maybe'
}

/** Groups of users that exist, each created once. */
export const writeScimGroups: Step = async work => {
  const { facts, random, writer } = work
  const members = facts.users.filter(each => each.id !== undefined && each.deleted === 'no' && random.below(8) === 0)
  const fact = newFact(`${writer}-${facts.scimGroups.length}`, '')
  facts.scimGroups.push(fact)
  const body = {
    schemas: [groupSchema],
    displayName: fact.key,
    members: members.slice(0, 5).map(({ id }) => ({ value: id })),
  }
  const reply = await scim(work, 'POST', '/Groups', body)
  // A member may have been deleted meanwhile by its own writer.
  if (reply?.status === 400 || reply?.status === 404) facts.scimGroups.splice(facts.scimGroups.indexOf(fact), 1)
  else noteCreation(work, fact, reply)
}

/** An admin creates and renames Assist groups. */
export const writeGroups: Step = async work => {
  const { facts, random, writer } = work
  const own = facts.groups.filter(each => each.id !== undefined)
  if (own.length > 0 && random.below(2) === 0) {
    const group = random.pick(own)
    // The first name stays in front, so that it finds the group.
    const name = `${group.key} ${makeName(random)}`
    const reply = await admin(work, 'PATCH', `/groups/${group.id}`, { name })
    note(group.names, name, isSuccess(work, reply, `PATCH of group ${group.key}`))
    return
  }
  const key = `${writer}-${facts.groups.length}`
  const fact = newFact(key, key)
  facts.groups.push(fact)
  noteCreation(work, fact, await admin(work, 'POST', '/groups', { name: key }))
}

/** A person signs in through the browser; earlier sessions must go on or answer 503, never 401. */
export const signIn: Step = async work => {
  const { client, facts, random, workspace } = work
  if (facts.sessions.length > 0) {
    const { cookie } = random.pick(facts.sessions)
    const reply = await client.send('GET', `${workspace.baseUrl}/v1/session`, { headers: { cookie } })
    if (reply && ![200, 429, 503].includes(reply.status)) client.violations.push(`A live session gets ${reply.status}`)
  }
  const verifier = randomBytes(32).toString('base64url')
  const challenge = createHash('sha256').update(verifier).digest('base64url')
  const path = `${workspace.baseUrl}/sso/${workspace.workspaceId}`
  const start = await client.send('GET', `${path}/start?return_to=/&handoff_challenge=${challenge}`)
  const location = start?.headers.get('location') ?? ''
  if (!location.startsWith(workspace.provider.issuer)) return noteLanding(work, location)
  const cookie = start ? cookiesOf(start) : ''
  const callback = await workspace.provider.signIn(location, random.pick(workspace.provider.accounts).sub)
  const landing = await client.send('GET', callback, { headers: { cookie } })
  const page = landing?.headers.get('location') ?? ''
  const code =
    URL.canParse(page) && new URL(page).pathname.endsWith('/complete') ? new URL(page).searchParams.get('code') : null
  if (code === null) return noteLanding(work, page)
  const session = await client.send('POST', `${workspace.baseUrl}/v1/sessions`, { body: { code, verifier } })
  if (session && session.status >= 400 && session.status < 500)
    client.violations.push(`A new code gets ${session.status}`)
  if (session?.status !== 201) return
  facts.acknowledged++
  facts.sessions.push({ id: session.body.id, cookie: cookiesOf(session) })
}

/** An admin reads the newest page of the activity log. */
export const readActivity: Step = async work => {
  const reply = await admin(work, 'GET', '/activity?limit=100')
  if (reply?.status !== 200) return
  for (const { id } of reply.body.items) work.facts.entries.add(id)
  await delay(500)
}

/** A sign-in that fails says that it may be tried again; `internal` is a fault of the service. */
function noteLanding({ client }: Work, page: string): void {
  const code = URL.canParse(page) ? new URL(page).searchParams.get('code') : null
  if (code !== null && code !== 'unavailable') client.violations.push(`A sign-in ended in ${code}`)
}

/** The cookies that a reply sets, as the browser sends them back. */
function cookiesOf({ headers }: Reply): string {
  const cookies = headers.getSetCookie().map(each => each.split(';')[0])
  return cookies.join('; ')
}

function scim({ client, workspace }: Work, method: string, path: string, body?: unknown): Promise<Reply | undefined> {
  const { baseUrl, directoryId, directoryToken } = workspace
  return client.send(method, `${baseUrl}/scim/v2/${directoryId}${path}`, { headers: bearer(directoryToken), body })
}

function admin({ client, workspace }: Work, method: string, path: string, body?: unknown): Promise<Reply | undefined> {
  const url = `${workspace.baseUrl}/v1/workspaces/${workspace.workspaceId}${path}`
  return client.send(method, url, { headers: bearer(workspace.adminToken), body })
}

export function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` }
}

function noteCreation(work: Work, fact: Fact, reply: Reply | undefined): void {
  if (!isSuccess(work, reply, `Creation of ${fact.key}`)) return
  fact.created = 'yes'
  fact.id = reply!.body.id
}

/** Whether a write was acknowledged. Otherwise it may have happened or not: a 503 can mean that the commit reply was lost. */
function isSuccess({ client, facts }: Work, reply: Reply | undefined, what: string): boolean {
  if (reply === undefined || reply.status === 503 || reply.status === 429) return false
  if (reply.status < 300) {
    facts.acknowledged++
    return true
  }
  if (reply.status < 500) client.violations.push(`${what}: ${reply.status} ${JSON.stringify(reply.body).slice(0, 200)}`)
  return false
}

/** After an acknowledgement only the new value is allowed; without one the old values are allowed too. */
function note<Value>(allowed: Set<Value>, value: Value, isDone: boolean): void {
  if (isDone) allowed.clear()
  allowed.add(value)
}

function makeName(random: Random): string {
  return `name ${random.below(1_000_000)}`
}
