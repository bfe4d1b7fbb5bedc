import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { readConfig } from '../../src/config.ts'
import { openDevelopmentIssuer } from '../../src/development/development-issuer.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { makeDatabase } from '../helpers/database.ts'
import { GROUP, startSession, USER, type Json } from '../helpers/scim.ts'

const patchOp = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'
const bulkRequest = 'urn:ietf:params:scim:api:messages:2.0:BulkRequest'

t.test(
  'two processes, one database: however access is ended through one, the other refuses the next request',
  async t => {
    const { db, url: databaseUrl } = await makeDatabase(t)
    const folder = await mkdtemp(join(tmpdir(), 'assist-identity-test-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const one = await startProcess(databaseUrl, folder)
    const other = await startProcess(databaseUrl, folder)
    const issuer = await openDevelopmentIssuer(readConfig({}), join(folder, '.data'))
    const service = `Bearer ${await issuer.sign({ sub: 'test', scope: 'assist:workspaces' }, '1h')}`
    const workspace = `/v1/workspaces/${uuid7()}`
    const ask = async (method: string, path: string, body?: object) => send(one, { method, path, body, by: service })
    await ask('PUT', workspace, { name: 'acme' })
    const { id: directoryId } = await ask('POST', `${workspace}/directories`, { name: 'Okta' })
    const { token } = await ask('POST', `${workspace}/directories/${directoryId}/tokens`)
    const scim = async (method: string, path: string, body?: object) =>
      send(one, { method, path: `/scim/v2/${directoryId}${path}`, body, by: `Bearer ${token}` })
    const group = await scim('POST', '/Groups', { schemas: [GROUP], displayName: 'Admins' })
    const mapping = { directoryId, scimGroupId: group.id, role: 'admin' }
    await ask('POST', `${workspace}/group-mappings`, mapping)

    const active = { op: 'replace', path: 'active', value: false }
    const ways: Record<string, (user: Json) => Promise<Json>> = {
      PATCH: ({ id }) => scim('PATCH', `/Users/${id}`, { schemas: [patchOp], Operations: [active] }),
      PUT: ({ id, userName }) => scim('PUT', `/Users/${id}`, { schemas: [USER], userName, active: false }),
      Bulk: ({ id }) =>
        scim('POST', '/Bulk', {
          schemas: [bulkRequest],
          Operations: [{ method: 'PATCH', path: `/Users/${id}`, data: { schemas: [patchOp], Operations: [active] } }],
        }),
      DELETE: ({ id }) => scim('DELETE', `/Users/${id}`),
      'an admin': ({ memberId }) => ask('POST', `${workspace}/members/${memberId}/deactivate`),
    }
    for (const [way, end] of Object.entries(ways)) {
      const user = await scim('POST', '/Users', { schemas: [USER], userName: `${uuid7()}@example.com` })
      const members = [{ value: user.id }]
      await scim('PATCH', `/Groups/${group.id}`, {
        schemas: [patchOp],
        Operations: [{ op: 'add', path: 'members', value: members }],
      })
      const found = db.selectFrom('scim_users').select('member_id').where('id', '=', user.id)
      const member = await db.selectFrom('members').selectAll().where('id', '=', found).executeTakeFirstOrThrow()
      const sessions = [await startSession({ db }, member), await startSession({ db }, member)]
      const seen = () => Promise.all(sessions.map(headers => statusOf(other, headers)))
      t.same(await seen(), [200, 200], `${way}: signed in`)
      await end({ ...user, memberId: member.id })
      t.same(await seen(), [401, 401], `${way}: over, on the next request`)

      const { items } = await ask('GET', `${workspace}/activity?member=${member.id}`)
      const ended = items.find((entry: Json) => entry.detail.sessionsEnded !== undefined)
      t.match(ended, { outcome: 'succeeded', detail: { sessionsEnded: 2 } }, `${way}: the entry has the numbers`)
      if (way !== 'PATCH') continue
      await scim('PATCH', `/Users/${user.id}`, { schemas: [patchOp], Operations: [{ ...active, value: true }] })
      t.match(await ask('GET', `${workspace}/members/${member.id}`), { status: 'active', role: 'admin' })
      t.same(await seen(), [401, 401], 'who is let in again has the mapped access, and has to sign in')
    }
    t.match(await ask('POST', `${workspace}/access/reconcile`), { repaired: 0 })

    /** Starts the service as an operator would, and waits until it serves. */
    async function startProcess(url: string, cwd: string): Promise<string> {
      const port = await findFreePort()
      const env = { PATH: process.env['PATH'], NODE_ENV: 'development', DATABASE_URL: url, PORT: String(port) }
      const server = join(import.meta.dirname, '../../src/server.ts')
      const child = spawn(process.execPath, [server], { cwd, env, stdio: ['ignore', 'ignore', 'inherit'] })
      t.teardown(async () => {
        if (child.exitCode !== null) return
        child.kill('SIGTERM')
        await once(child, 'exit')
      })
      const origin = `http://127.0.0.1:${port}`
      for (let attempt = 0; attempt < 200; attempt++) {
        const isReady = await fetch(`${origin}/readyz`).then(
          answer => answer.ok,
          () => false,
        )
        if (isReady) return origin
        await delay(50)
      }
      throw new Error('The service did not start within ten seconds.')
    }
  },
)

interface Sent {
  method: string
  path: string
  body?: object | undefined
  by: string
}

async function send(origin: string, { method, path, body, by }: Sent): Promise<Json> {
  const type = path.startsWith('/scim') ? 'application/scim+json' : 'application/json'
  const answer = await fetch(`${origin}${path}`, {
    method,
    headers: { authorization: by, ...(body && { 'content-type': type }) },
    ...(body && { body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${text}`)
  return text === '' ? {} : (JSON.parse(text) as Json)
}

async function statusOf(origin: string, headers: Record<string, string>): Promise<number> {
  return (await fetch(`${origin}/v1/session`, { headers })).status
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
