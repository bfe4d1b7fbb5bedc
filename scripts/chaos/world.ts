import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../../src/config.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDevelopmentIssuer } from '../../src/development/development-issuer.ts'
import { uuid7 } from '../../src/uuid7.ts'
import type { LoopbackProvider, ProviderOptions } from '../../tools/loopback-provider.ts'
import type { Client } from './client.ts'
import { installDiskFault, type Target } from './faults.ts'
import { createPostgresServer, initCluster } from './postgres-server.ts'
import { createRandom } from './random.ts'
import { startReplicas } from './replicas.ts'
import { attachStandby } from './standby.ts'
import { startTcpProxy } from './tcp-proxy.ts'
import { bearer, type Workspace } from './workload.ts'

export interface World {
  target: Target
  workspace: Workspace
  /** With the logs of the replicas and of Postgres. */
  folder: string
  close: () => Promise<void>
}

const replicaCount = 3
const people = 20

/** Two Postgres servers, three replicas behind a proxy, an OpenID Provider, and one workspace. */
export async function startWorld(client: Client, seed: number): Promise<World> {
  const closers: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const closer of closers.splice(0).toReversed()) await closer()
  }
  try {
    const folder = await mkdtemp(join(tmpdir(), 'assist-identity-chaos-'))
    // Started by root, Postgres runs as another account, which must be able to come here.
    await chmod(folder, 0o755)
    const primary = await createPostgresServer(folder, 'a')
    const standby = await createPostgresServer(folder, 'b')
    for (const { kill, place } of [primary, standby]) {
      closers.push(() => rm(place.dataDir, { recursive: true, force: true }), kill)
    }
    await initCluster(primary)
    await primary.start()
    await migrate(primary.url)
    await installDiskFault(primary)
    await attachStandby(primary, standby)

    const target = { primary, standby, random: createRandom(seed) } as Target
    target.databaseProxy = await startTcpProxy(() => [target.primary.port])
    closers.push(target.databaseProxy.stop)
    target.httpProxy = await startTcpProxy(() => target.replicas.inTurn())
    closers.push(target.httpProxy.stop)
    const baseUrl = `http://localhost:${target.httpProxy.port}`
    const settings = {
      NODE_ENV: 'development',
      DATABASE_URL: `postgres://postgres@127.0.0.1:${target.databaseProxy.port}/postgres`,
      PUBLIC_URL: baseUrl,
      LOG_LEVEL: 'warn',
      SIGN_IN_STARTS_PER_MINUTE: '10000',
    }
    target.replicas = await startReplicas(replicaCount, { folder, settings })
    closers.push(target.replicas.stop)
    await target.replicas.waitUntilReady()
    const workspace = await makeWorkspace(client, { baseUrl, folder, settings })
    closers.push(workspace.provider.close)
    return { target, workspace, folder, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function makeWorkspace(
  client: Client,
  { baseUrl, folder, settings }: { baseUrl: string; folder: string; settings: Record<string, string> },
): Promise<Workspace> {
  const workspaceId = uuid7()
  const config = readConfig(settings)
  const { sign } = await openDevelopmentIssuer(config, join(folder, '.data'))
  const serviceToken = await sign({ sub: 'chaos', scope: config.assistServiceScope }, '12h')
  const adminToken = await sign({ sub: 'chaos-owner', workspace: workspaceId, role: 'owner' }, '12h')
  const ask = async (method: string, path: string, body?: unknown, token = adminToken) => {
    const url = `${baseUrl}/v1/workspaces/${workspaceId}${path}`
    const reply = await client.send(method, url, { headers: bearer(token), body })
    if (!reply || reply.status >= 300)
      throw new Error(`${method} ${path}: ${reply?.status} ${JSON.stringify(reply?.body)}`)
    return reply.body
  }
  await ask('PUT', '', { name: 'chaos' }, serviceToken)
  const directory = await ask('POST', '/directories', { name: 'Okta' })
  // The guard would hold back the deletions of this test.
  await ask('PATCH', `/directories/${directory.id}`, { guard: { people: null, percent: null, minutes: 60 } })
  const { token } = await ask('POST', `/directories/${directory.id}/tokens`)

  const accounts = Array.from({ length: people }, (_account, index) => ({
    sub: `person-${index}`,
    email: `person-${index}@corp.example`,
    email_verified: true,
    name: `Person ${index}`,
  }))
  const registered = { clientId: 'chaos', clientSecret: 'known-to-this-script-only' }
  const redirectUris = [`${baseUrl}/sso/${workspaceId}/callback`]
  const provider = await startQuietProvider({ accounts, clients: [{ ...registered, redirectUris }] })
  await ask('PUT', '/sso-config', {
    ...registered,
    issuer: provider.issuer,
    allowedDomains: ['corp.example'],
    autoProvision: true,
    trustUnverifiedEmail: true,
  })
  return { baseUrl, workspaceId, adminToken, directoryId: directory.id, directoryToken: token, provider }
}

/** The provider prints warnings for production from the moment that it is loaded. */
async function startQuietProvider(options: ProviderOptions): Promise<LoopbackProvider> {
  const { warn } = console
  console.warn = () => {}
  try {
    const { startProvider } = await import('../../tools/loopback-provider.ts')
    return await startProvider(options)
  } finally {
    console.warn = warn
  }
}
