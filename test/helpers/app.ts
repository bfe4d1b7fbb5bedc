import { createLocalJWKSet, exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { buildApp, type AppOptions } from '../../src/app.ts'
import { readConfig, type Config } from '../../src/config.ts'
import type { Db } from '../../src/db/database.ts'
import { openDatabase } from '../../src/db/database.ts'
import { createLogger } from '../../src/http/log.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { makeDatabase } from './database.ts'

const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
const assistKeys = createLocalJWKSet({ keys: [{ ...(await exportJWK(publicKey)), kid: 'assist-test', alg: 'ES256' }] })

export interface TestApp {
  app: FastifyInstance
  db: Db
  databaseUrl: string
  config: Config
  /** Returns all log lines of the app. */
  log: () => string
  /** The statements that `work` sent to the database. */
  statements: (work: () => Promise<unknown>) => Promise<string[]>
}

export interface TestAppOptions {
  /** Environment variables that override the test defaults. */
  settings?: Record<string, string>
  /** Additional options of buildApp, such as the network. */
  options?: Partial<AppOptions>
  /** Starts another replica on the database of this app. */
  replicaOf?: TestApp
}

/** Starts the app on a new copy of the migrated database, or on the database of `replicaOf`. Both are removed when `t` ends. */
export async function makeApp(
  t: Test,
  { settings = {}, options = {}, replicaOf }: TestAppOptions = {},
): Promise<TestApp> {
  const { url } = replicaOf ? { url: replicaOf.databaseUrl } : await makeDatabase(t)
  const config = readConfig({
    NODE_ENV: 'test',
    PUBLIC_URL: 'https://sso.assist.example',
    FRONTEND_ORIGINS: 'https://app.assist.example',
    ASSIST_TOKEN_ISSUER: 'https://auth.assist.example',
    LOG_LEVEL: 'debug',
    // Tests send requests faster than the default limits allow.
    SCIM_REQUESTS_PER_SECOND: '100000',
    SCIM_BURST_REQUESTS: '100000',
    ADMIN_REQUESTS_PER_SECOND: '100000',
    ADMIN_BURST_REQUESTS: '100000',
    ADMIN_CONCURRENT_REQUESTS: '10000',
    ...settings,
  })
  const lines: string[] = []
  const counted: string[] = []
  const logger = createLogger(config.logLevel, { write: line => void lines.push(line) })
  const db = openDatabase({ url, onStatement: sql => void counted.push(sql) })
  const app = await buildApp({ config, db, logger, assistKeys, repeatWindowMs: 0, ...options })
  await app.ready()
  t.teardown(async () => {
    await app.close()
    await db.destroy()
  })
  return {
    app,
    db,
    databaseUrl: url,
    config,
    log: () => lines.join(''),
    statements: async work => {
      const before = counted.length
      await work()
      return counted.slice(before)
    },
  }
}

/** Returns headers with an access token of Assist for a person with a role in a workspace. */
export async function bearer(
  claims: { workspace: string; role?: string; sub?: string } | { scope: string },
): Promise<{ authorization: string }> {
  const full = { role: 'owner', sub: 'user-1', ...claims }
  return { authorization: `Bearer ${await signToken(full)}` }
}

/** Returns headers of a back-end of Assist that may act in every workspace. */
export const serviceHeaders = await bearer({ scope: 'assist:workspaces' })

/** Signs claims like Assist. Tests can override every header and claim. */
export async function signToken(claims: Record<string, unknown>): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const full = { iss: 'https://auth.assist.example', aud: 'assist-identity', iat: now, exp: now + 300, ...claims }
  return new SignJWT(full).setProtectedHeader({ alg: 'ES256', kid: 'assist-test' }).sign(privateKey)
}

/** Creates a workspace through the public API and returns it with headers of its owner. */
export async function makeWorkspace(
  { app }: TestApp,
  body: { name: string; defaultRole?: string } = { name: 'acme' },
): Promise<{ workspaceId: string; headers: { authorization: string }; url: string }> {
  const workspaceId = uuid7()
  const url = `/v1/workspaces/${workspaceId}`
  const reply = await app.inject({ method: 'PUT', url, headers: serviceHeaders, payload: body })
  if (reply.statusCode !== 200) throw new Error(reply.body)
  return { workspaceId, headers: await bearer({ workspace: workspaceId }), url }
}
