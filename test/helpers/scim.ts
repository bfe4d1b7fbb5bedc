import { sql } from 'kysely'
import type { LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { makeOpaqueToken } from '../../src/opaque-token.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { makeApp, makeWorkspace, type TestApp, type TestAppOptions } from './app.ts'

export const USER = 'urn:ietf:params:scim:schemas:core:2.0:User'
export const GROUP = 'urn:ietf:params:scim:schemas:core:2.0:Group'
export const ENTERPRISE = 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'
export const PATCH_OP = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
export type Headers = Record<string, string>
// A response body. Each test checks the attributes that it needs.
// oxlint-disable-next-line typescript/no-explicit-any
export type Json = Record<string, any>

export interface Operation {
  op: string
  path?: string
  value?: unknown
}

/** A directory with a client that calls it over HTTP. */
export interface TestDirectory extends TestApp {
  workspaceId: string
  directoryId: string
  token: string
  /** URL of the workspace in the admin API, with headers of an owner. */
  url: string
  headers: { authorization: string }
  send: (method: Method, path: string, sent?: { body?: unknown; headers?: Headers }) => Promise<LightMyRequestResponse>
  /** Sends a GET and returns the body. Another status fails the test. */
  get: (path: string, status?: number) => Promise<Json>
  createUser: (user: Json, status?: number) => Promise<Json>
  createGroup: (displayName: string, memberIds?: string[], status?: number) => Promise<Json>
  patch: (path: string, ...operations: Operation[]) => Promise<LightMyRequestResponse>
  /** Returns the member of a SCIM user. */
  memberOf: (userId: string) => Promise<Json>
  /** Returns the activity entries of SCIM requests, oldest first. */
  entries: () => Promise<{ action: string; reason: string | null; member_id: string | null; detail: Json }[]>
}

export interface TestDirectoryOptions extends TestAppOptions {
  mode?: 'tolerant' | 'strict'
  /** Creates the directory in the workspace of this directory or app. */
  sibling?: TestApp & Pick<TestDirectory, 'workspaceId' | 'url' | 'headers'>
  /** Creates the directory in a new workspace of this app. */
  on?: TestApp
}

export async function makeDirectory(t: Test, options: TestDirectoryOptions = {}): Promise<TestDirectory> {
  const { mode = 'tolerant', sibling, on, ...rest } = options
  const test = sibling ?? on ?? (await makeApp(t, rest))
  const { workspaceId, url, headers } = sibling ?? (await makeWorkspace(test))
  const directoryId = uuid7()
  const { db } = test
  await db
    .insertInto('directories')
    .values({ workspace_id: workspaceId, id: directoryId, name: 'Okta', mode })
    .execute()
  const token = await makeToken(test, { workspaceId, directoryId })
  return {
    ...test,
    ...callsOf(t, test, { directoryId, token }),
    workspaceId,
    directoryId,
    token,
    url,
    headers,
    ...readsOf(test, workspaceId),
  }
}

/** Returns the same directory through another replica of the service. */
export async function makeReplica(
  t: Test,
  directory: TestDirectory,
  options: TestAppOptions = {},
): Promise<TestDirectory> {
  const test = await makeApp(t, { ...options, replicaOf: directory })
  return { ...directory, ...test, ...callsOf(t, test, directory) }
}

export async function makeToken(
  { db }: Pick<TestApp, 'db'>,
  { workspaceId, directoryId }: { workspaceId: string; directoryId: string },
): Promise<string> {
  const { token, hash } = makeOpaqueToken('scim', workspaceId)
  await sql`
    INSERT INTO directory_credentials (workspace_id, directory_id, id, enabled, is_guarded, nests_groups, token_hash, hint)
    SELECT workspace_id, id, ${uuid7()}::uuid, enabled, is_guarded, nests_groups, ${hash}, ${token.slice(-4)}
      FROM directories WHERE workspace_id = ${workspaceId} AND id = ${directoryId}`.execute(db)
  return token
}

function callsOf(t: Test, { app }: TestApp, { directoryId, token }: { directoryId: string; token: string }) {
  const send: TestDirectory['send'] = async (method, path, { body, headers = {} } = {}) =>
    app.inject({
      method,
      url: `/scim/v2/${directoryId}${path}`,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { 'content-type': 'application/scim+json' }),
        ...headers,
      },
      ...(body !== undefined && { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
  const expect = async (status: number, reply: LightMyRequestResponse): Promise<Json> => {
    if (reply.statusCode !== status) t.fail(`expected ${status}, got ${reply.statusCode} ${reply.body.slice(0, 500)}`)
    return reply.body === '' ? {} : reply.json<Json>()
  }
  return {
    send,
    get: async (path: string, status = 200) => expect(status, await send('GET', path)),
    createUser: async (user: Json, status = 201) =>
      expect(status, await send('POST', '/Users', { body: { schemas: [USER], ...user } })),
    createGroup: async (displayName: string, memberIds: string[] = [], status = 201) => {
      const members = memberIds.map(value => ({ value }))
      return expect(status, await send('POST', '/Groups', { body: { schemas: [GROUP], displayName, members } }))
    },
    patch: async (path: string, ...operations: Operation[]) =>
      send('PATCH', path, { body: { schemas: [PATCH_OP], Operations: operations } }),
  }
}

function readsOf({ db }: TestApp, workspaceId: string) {
  return {
    memberOf: async (userId: string): Promise<Json> => {
      const user = db.selectFrom('scim_users').select('member_id').where('id', '=', userId)
      return db.selectFrom('members').selectAll().where('id', '=', user).executeTakeFirstOrThrow()
    },
    entries: async () => {
      const rows = await db
        .selectFrom('activity_entries')
        .select(['action', 'reason', 'member_id', 'detail'])
        .where('workspace_id', '=', workspaceId)
        .where(eb => eb.or([eb('action', 'like', 'scim_%'), eb('action', '=', 'directory.request_refused')]))
        .orderBy('id')
        .execute()
      return rows.map(row => ({ ...row, detail: row.detail as Json }))
    },
  }
}

/** Inserts a session of a member like a sign-in. */
export async function startSession({ db }: Pick<TestApp, 'db'>, member: Json): Promise<{ authorization: string }> {
  const { token, hash } = makeOpaqueToken('ses', member.workspace_id)
  await db
    .insertInto('sessions')
    .values({
      workspace_id: member.workspace_id,
      id: uuid7(),
      member_id: member.id,
      token_hash: hash,
      issuer: 'https://idp.example.com',
      subject: member.id,
      idle_minutes: 60,
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    })
    .execute()
  return { authorization: `Bearer ${token}` }
}
