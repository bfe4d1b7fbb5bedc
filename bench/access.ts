// `npm run bench:access -- 100000`: the cost of mapping a large group, and its effect on the latency of another tenant.
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDevelopmentIssuer } from '../src/development/development-issuer.ts'
import { readConfig } from '../src/config.ts'
import { openConnection, type Connection } from './connection.ts'
import { endpointOf, startServer, type Tenant } from './contenders/contender.ts'
import { service } from './contenders/service.ts'
import { startBenchPostgres, type BenchPostgres } from './postgres.ts'
import { startProvider } from './provider.ts'
import { cpuMicroseconds, memoryOf } from './usage.ts'

const members = Number(process.argv[2] ?? 100_000)
const cleanUp = new AsyncDisposableStack()
try {
  await bench()
} finally {
  await cleanUp.disposeAsync()
}
process.exit()

async function bench(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'assist-identity-bench-'))
  await chmod(folder, 0o755)
  cleanUp.defer(() => rm(folder, { recursive: true, force: true }))
  const postgres = await startBenchPostgres(folder)
  cleanUp.defer(() => postgres.stop())
  const provider = await startProvider()
  cleanUp.defer(() => provider.stop())
  await postgres.create('bench')
  const server = await startServer(service, { databaseUrl: postgres.urlOf('bench'), folder })
  cleanUp.defer(() => server.stop())
  const [tenant, neighbour] = await service.makeTenants({ origin: server.origin, folder, issuer: provider.issuer })
  const groupId = await fill(postgres, tenant)

  const issuer = await openDevelopmentIssuer(readConfig({}), join(folder, '.data'))
  const token = await issuer.sign({ sub: 'bench', scope: 'assist:workspaces' }, '1h')
  const admin = await openConnection({ baseUrl: `${server.origin}/v1/workspaces/${tenant.workspaceId}`, token })
  const scim = await openConnection(endpointOf(server.origin, tenant))
  const other = await openConnection(endpointOf(server.origin, neighbour))

  const directoryId = tenant.scimPath.split('/').at(-1)!
  const { id: desk } = await call(admin, 'POST /groups', { name: 'Desk' })
  const mapping = { directoryId, scimGroupId: groupId, groupId: desk, role: 'admin' }
  const before = memoryOf(server.pid)
  const preview = () => call(admin, 'POST /group-mappings/preview', { change: 'create', mapping })
  const alone = await measureLatency(other, () => new Promise(resolve => setTimeout(resolve, 2_000)))
  const cpu = () => cpuMicroseconds(server.pid) + cpuMicroseconds(postgres.pid)
  const timed = async (what: string, work: () => Promise<Json>): Promise<Json> => {
    const [start, used] = [performance.now(), cpu()]
    const result = await work()
    const ms = Math.round(performance.now() - start)
    console.log(`${what}: ${ms} ms, ${Math.round((cpu() - used) / 1000)} ms of CPU`)
    return result
  }
  console.log(`${members} members; the service holds ${before.rssMiB} MiB`)
  console.log(`another tenant reads a user in ${alone} when alone`)

  const { version } = await timed('first preview, before ANALYZE', preview)
  await postgres.run('bench', 'VACUUM ANALYZE')
  await timed('preview', preview)
  await timed('preview', preview)
  const meanwhile = await measureLatency(other, async () => {
    await timed('create the mapping with the version of the preview', () =>
      call(admin, 'POST /group-mappings', { ...mapping, previewVersion: version }),
    )
  })
  console.log(`  meanwhile the other tenant reads a user in ${meanwhile}`)
  const { items } = await call(admin, 'GET /group-mappings')
  const mappingId = items[0].id as string
  await timed('preview of another role', () =>
    call(admin, 'POST /group-mappings/preview', { change: 'update', mappingId, role: 'viewer' }),
  )
  await timed('change the role', () => call(admin, `PATCH /group-mappings/${mappingId}`, { role: 'viewer' }))

  const outsider = await call(scim, 'POST /Users', {
    schemas: ['urn:ietf:params:scim:schemas:core:2.0:User'],
    userName: 'outsider@bench.example.com',
  })
  const patch = (op: string) => ({
    schemas: ['urn:ietf:params:scim:api:messages:2.0:PatchOp'],
    Operations: [{ op, path: 'members', value: [{ value: outsider.id }] }],
  })
  for (let round = 0; round < 3; round++) {
    await timed('add one user to the group', () => call(scim, `PATCH /Groups/${groupId}`, patch('add')))
    await timed('remove the user', () => call(scim, `PATCH /Groups/${groupId}`, patch('remove')))
  }
  const memberId = (await call(admin, 'GET /members?limit=1')).items[0].id as string
  await timed('explain the access of one member', () => call(admin, `GET /members/${memberId}/access`))
  await timed('one page of 500 members of the access report', () => call(admin, 'GET /access-report?limit=500'))
  await timed('reconcile all members', () => call(admin, 'POST /access/reconcile'))
  await timed('delete the mapping', () => call(admin, `DELETE /group-mappings/${mappingId}`))
  const after = memoryOf(server.pid)
  console.log(`the service holds ${after.rssMiB} MiB, peak ${after.peakMiB} MiB`)
  for (const connection of [admin, scim, other]) connection.close()
}

// A response body. Each step reads the attributes that it needs.
// oxlint-disable-next-line typescript/no-explicit-any
type Json = Record<string, any>

async function call(connection: Connection, line: string, body?: object): Promise<Json> {
  const contentType =
    line.includes('/Groups/') || line.includes('/Users') ? 'application/scim+json' : 'application/json'
  const answer = await connection.request(line, { ...(body && { body: JSON.stringify(body), contentType }) })
  const text = answer.text()
  if (answer.status >= 300) throw new Error(`${line} returned ${answer.status}: ${text.slice(0, 500)}`)
  return text === '' ? {} : (JSON.parse(text) as Json)
}

/** Measures the latency of small requests on `connection` while `work` runs. */
async function measureLatency(connection: Connection, work: () => Promise<unknown>): Promise<string> {
  const waits: number[] = []
  const loop = { over: false }
  const ask = async () => {
    while (!loop.over) {
      const start = performance.now()
      await call(connection, 'GET /Users?count=1')
      waits.push(performance.now() - start)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
  const asking = ask()
  await work()
  loop.over = true
  await asking
  waits.sort((a, b) => a - b)
  const at = (part: number) => waits[Math.min(waits.length - 1, Math.floor(waits.length * part))]!.toFixed(1)
  return `${at(0.5)} ms (median), ${at(0.99)} ms (p99)`
}

/** SQL expression of a UUIDv7 for row `n`. */
function idOf(part: string): string {
  return `(lpad(to_hex(n), 12, '0') || '7000${part}' || lpad(to_hex(n), 12, '0'))::uuid`
}

/** Inserts `members` users, all in one group, as after months of sync. Returns the id of the group. */
async function fill(postgres: BenchPostgres, { workspaceId, scimPath }: Tenant): Promise<string> {
  const directoryId = scimPath.split('/').at(-1)!
  const run = (text: string) => postgres.run('bench', text)
  const here = `'${workspaceId}'::uuid, '${directoryId}'::uuid`
  const numbers = `generate_series(1, ${members}) AS n`
  const groupId = '0190a6c8-8f00-7000-8000-00000000beef'
  await run(`
    INSERT INTO members (workspace_id, id, email, email_key, status, role, origin)
    SELECT '${workspaceId}', ${idOf('8001')}, 'u' || n || '@bench.example.com', 'u' || n || '@bench.example.com', 'active', 'member', 'directory'
      FROM ${numbers};
    INSERT INTO access_changes (workspace_id, member_id, entry_id, status_after, role_after)
    SELECT '${workspaceId}', ${idOf('8001')}, 1, 'active', 'member' FROM ${numbers};
    INSERT INTO scim_users (workspace_id, directory_id, id, user_name, user_name_key, active, member_id, doc)
    SELECT ${here}, ${idOf('8000')}, 'u' || n, 'u' || n, true, ${idOf('8001')}, '{}' FROM ${numbers};
    INSERT INTO scim_groups (workspace_id, directory_id, id, display_name, display_name_key, doc)
    VALUES (${here}, '${groupId}', 'All users', 'all users', '{}');
    INSERT INTO scim_group_memberships (workspace_id, directory_id, group_id, user_id)
    SELECT ${here}, '${groupId}', ${idOf('8000')} FROM ${numbers}`)
  return groupId
}
