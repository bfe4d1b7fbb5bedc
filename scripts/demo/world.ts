import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/development/embedded-postgres.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDevelopmentIssuer } from '../../src/development/development-issuer.ts'
import { createLogger } from '../../src/http/log.ts'
import { ssoUrls } from '../../src/sso/config/sso-config.ts'
import { uuid7 } from '../../src/uuid7.ts'
import type { LoopbackProvider, ProviderOptions } from '../../tools/loopback-provider.ts'
import { makeDemoFolder } from './folder.ts'
import { startFrontEnd, type FrontEnd } from './front-end.ts'
import { DemoError } from './narration.ts'

/** All servers of the demo. Each is real and runs on this machine. */
export interface World {
  /** URL of the service, without a trailing slash. */
  baseUrl: string
  /** Chosen by Assist, so it is known before the workspace exists. */
  workspaceId: string
  /** Access token of a back-end of Assist. */
  serviceToken: string
  /** Access token of the owner of the workspace. */
  adminToken: string
  client: { clientId: string; clientSecret: string }
  provider: LoopbackProvider
  frontEnd: FrontEnd
  /** Stops all servers and removes the folder. */
  close: () => Promise<void>
}

/** Accounts at the identity provider. Alex has another domain, so the workspace rejects the sign-in. */
const accounts = [
  { sub: 'idp-robin', email: 'robin@example.com', name: 'Robin Reed' },
  { sub: 'idp-sam', email: 'sam@example.com', name: 'Sam Stone' },
  { sub: 'idp-kim', email: 'kim@example.com', name: 'Kim Keller' },
  { sub: 'idp-alex', email: 'alex@example.org', name: 'Alex Ash' },
]

/** Starts Postgres, the service on `port`, a certified OpenID Provider and a front-end. Other ports are free ones. */
export async function startWorld({ port }: { port?: number | undefined }): Promise<World> {
  const closers: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const closer of closers.splice(0).toReversed()) await closer()
  }
  try {
    const folder = await makeDemoFolder()
    closers.push(() => rm(folder, { recursive: true, force: true }))
    const postgres = await startEmbeddedPostgres({
      dataDir: join(folder, 'postgres'),
      durable: false,
      log: console.error,
    })
    closers.push(() => rm(postgres.dataDir, { recursive: true, force: true }), postgres.stop)
    await migrate(postgres.url)
    const db = openDatabase({ url: postgres.url })
    closers.push(() => db.destroy())

    const workspaceId = uuid7()
    const frontEnd = await startFrontEnd({ workspaceId })
    closers.push(frontEnd.close)

    const { config, app, sign } = await onFreePort(port, async portNumber => {
      const settings = { PORT: String(portNumber), FRONTEND_ORIGINS: frontEnd.origin, LOG_LEVEL: 'error' }
      const readSettings = readConfig(settings)
      const issuer = await openDevelopmentIssuer(readSettings, folder)
      const logger = createLogger(readSettings.logLevel)
      const built = await buildApp({ config: readSettings, db, logger, assistKeys: issuer.keys })
      await listen(built, portNumber)
      return { config: readSettings, app: built, sign: issuer.sign }
    })
    closers.push(() => app.close())
    const owner = { sub: 'demo-owner', workspace: workspaceId, role: 'owner' }
    const adminToken = await sign(owner, '12h')
    frontEnd.connectTo({ url: config.publicUrl, adminToken })

    const client = { clientId: 'assist', clientSecret: 'known-to-the-demo-only' }
    const { redirectUri, backchannelLogoutUri } = ssoUrls(config.publicUrl, workspaceId)
    const postLogoutRedirectUris = [`${frontEnd.origin}/`]
    const clients = [{ ...client, redirectUris: [redirectUri], postLogoutRedirectUris, backchannelLogoutUri }]
    const provider = await startQuietProvider({ accounts, clients })
    closers.push(provider.close)

    return {
      baseUrl: config.publicUrl,
      workspaceId,
      serviceToken: await sign({ sub: 'assist-back-end', scope: config.assistServiceScope }, '12h'),
      adminToken,
      client,
      provider,
      frontEnd,
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Loads and starts the provider without the warnings that it prints against use in production. */
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

/**
 * Calls `use` with a free port, because the settings of the service contain the port before it listens. If another process
 * takes the port meanwhile, tries again, at most five times.
 */
async function onFreePort<Result>(wanted: number | undefined, use: (port: number) => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await use(wanted ?? (await freePort()))
    } catch (error) {
      const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
      if (taken && wanted !== undefined) throw new DemoError(`Port ${wanted} is in use. Choose another port.`)
      if (!taken || attempt === 5) throw error
    }
  }
}

async function listen(app: FastifyInstance, port: number): Promise<void> {
  try {
    await app.listen({ host: 'localhost', port })
  } catch (error) {
    await app.close()
    throw error
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(listening => void server.listen(0, '127.0.0.1', listening))
  const { port } = server.address() as { port: number }
  await new Promise(closed => server.close(closed))
  return port
}
