import type { Test } from 'tap'
import { bearer } from './app.ts'
import { makeDirectory, type Headers, type Json, type TestDirectory, type TestDirectoryOptions } from './scim.ts'

type Verb = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** A directory with its provider, and an owner and an admin of the workspace who call the admin API over HTTP. */
export interface AccessWorld extends TestDirectory {
  /** Sends a request as the owner and returns the body. Another status fails the test. */
  ask: (method: Verb, path: string, payload?: object, status?: number) => Promise<Json>
  /** Sends a request as an admin who is not an owner. */
  askAsAdmin: (method: Verb, path: string, payload?: object, status?: number) => Promise<Json>
  /** Creates a user through SCIM and returns the ids of user and member. */
  addPerson: (name: string) => Promise<{ userId: string; memberId: string }>
  addGroup: (name: string, ...userIds: string[]) => Promise<string>
  addAssistGroup: (name: string) => Promise<string>
  join: (groupId: string, ...userIds: string[]) => Promise<void>
  leave: (groupId: string, userId: string) => Promise<void>
  map: (scimGroupId: string, gives: object) => Promise<Json>
  accessOf: (memberId: string) => Promise<{ role: string; groups: string[] }>
}

export async function makeAccessWorld(t: Test, options: TestDirectoryOptions = {}): Promise<AccessWorld> {
  return accessWorldOf(t, await makeDirectory(t, options))
}

/** Returns the same directory through another replica of the service. */
export async function accessWorldOf(t: Test, directory: TestDirectory): Promise<AccessWorld> {
  const { app, db, url, headers, directoryId, workspaceId } = directory
  const admin = await bearer({ workspace: workspaceId, role: 'admin' })
  const askWith =
    (by: Headers): AccessWorld['ask'] =>
    async (method, path, payload, status = method === 'POST' ? 201 : 200) => {
      const reply = await app.inject({ method, url: `${url}${path}`, headers: by, ...(payload && { payload }) })
      if (reply.statusCode !== status) t.fail(`${method} ${path}: ${reply.statusCode} ${reply.body.slice(0, 500)}`)
      return reply.body === '' ? {} : reply.json<Json>()
    }
  const ask = askWith(headers)
  const patched = async (groupId: string, operation: { op: string; path: string; value?: unknown }) => {
    const reply = await directory.patch(`/Groups/${groupId}`, operation)
    if (reply.statusCode >= 300) t.fail(reply.body)
  }
  return {
    ...directory,
    ask,
    askAsAdmin: askWith(admin),
    addPerson: async name => {
      const { id: userId } = await directory.createUser({ userName: `${name}@example.com`, displayName: name })
      return { userId, memberId: (await directory.memberOf(userId)).id }
    },
    addGroup: async (name, ...userIds) => (await directory.createGroup(name, userIds)).id,
    addAssistGroup: async name => (await ask('POST', '/groups', { name })).id,
    join: (groupId, ...userIds) =>
      patched(groupId, { op: 'add', path: 'members', value: userIds.map(value => ({ value })) }),
    leave: (groupId, userId) => patched(groupId, { op: 'remove', path: `members[value eq "${userId}"]` }),
    map: (scimGroupId, gives) => ask('POST', '/group-mappings', { directoryId, scimGroupId, ...gives }),
    accessOf: async memberId => {
      const { role } = await db
        .selectFrom('members')
        .select('role')
        .where('id', '=', memberId)
        .executeTakeFirstOrThrow()
      const held = db.selectFrom('group_memberships').select('group_id').where('member_id', '=', memberId)
      return { role, groups: (await held.execute()).map(each => each.group_id).toSorted() }
    },
  }
}
