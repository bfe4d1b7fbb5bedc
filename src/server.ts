import { createRemoteJWKSet } from 'jose'
import { buildApp } from './app.ts'
import { ConfigError, readConfig, type Config } from './config.ts'
import { openDatabase, unreachableDatabase } from './db/database.ts'
import { ForeignSchemaError, migrate } from './db/migrate.ts'
import { createLogger } from './http/log.ts'
import { sweepExpired } from './sign-in/sweep.ts'
import { remindOfExpiry, resealCredentials } from './sso/credentials/client-credentials.ts'
import { createSecretBox } from './secret-box.ts'
import { recheckDomains } from './workspaces/domain-proof.ts'
import { createTxtResolver } from './workspaces/txt-records.ts'

/** Where development keeps its database and keys, under the folder that the process is started in. */
const dataDir = '.data'

const config = readConfigOrExit()
const logger = createLogger(config.logLevel)

const embedded = config.databaseUrl === 'postgres://embedded' ? await startEmbeddedOrExit() : undefined
const databaseUrl = embedded?.url ?? config.databaseUrl
if (config.migrateOnStart) {
  const applied = await migrateOrExit()
  if (applied.length > 0) logger.info({ applied }, 'migrated')
}

const connection = {
  url: databaseUrl,
  onConnectionLost: (error: Error) => logger.warn({ err: error }, 'database connection lost'),
}
const db = openDatabase({ ...connection, poolSize: config.databasePoolSize })
const expensive = { ...connection, poolSize: config.databaseScanConnections }
const workDbs = {
  scans: openDatabase({ ...expensive, statementTimeoutMs: 10_000 }),
  batches: openDatabase({ ...expensive, statementTimeoutMs: 30_000 }),
}
const issuer = config.developmentTokens ? await openIssuer(config) : undefined
const assistKeys = issuer?.keys ?? createRemoteJWKSet(new URL(config.assistJwksUrl), { timeoutDuration: 5_000 })
const app = await buildApp({ config, db, workDbs, logger, assistKeys })

await listenOrExit()
logger.info({ publicUrl: config.publicUrl, docs: `${config.publicUrl}/docs` }, 'ready')
if (issuer) {
  const token = await issuer.sign({ sub: 'development', scope: config.assistServiceScope }, '12h')
  console.log(`\nDevelopment mode. Docs: ${config.publicUrl}/docs\nService token (12 h, all workspaces):\n${token}\n`)
}

const resolveTxt = createTxtResolver(config)
const box = createSecretBox(config)
const { domainRecheckHours: recheckHours, domainGraceHours: graceHours } = config
/** What is done every minute, beside other replicas that do the same. */
const chores: Record<string, () => Promise<unknown>> = {
  sweep: () => sweepExpired(db),
  reminders: () => remindOfExpiry(db),
  seals: () => resealCredentials(db, box),
  domains: () => recheckDomains({ db, resolveTxt, recheckHours, graceHours }),
}
// The wait is a little different for each replica.
const choresMs = 60_000 + Math.random() * 10_000
setInterval(() => {
  for (const [chore, run] of Object.entries(chores)) {
    run().catch((error: unknown) => logger.warn({ err: error, chore }, 'chore failed'))
  }
}, choresMs).unref()

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    // Stop accepting, finish what is under way, then let go of the database.
    stop().catch(error => {
      logger.fatal({ err: error }, 'stop failed')
      process.exit(1)
    })
  })
}

async function stop(): Promise<void> {
  logger.info('stopping')
  await app.close()
  await Promise.all([db, workDbs.scans, workDbs.batches].map(each => each.destroy()))
  await embedded?.stop()
  process.exit(0)
}

function readConfigOrExit(): Config {
  try {
    return readConfig()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    console.error(error.message)
    process.exit(1)
  }
}

async function migrateOrExit(): Promise<string[]> {
  try {
    return await migrate(databaseUrl)
  } catch (error) {
    const sentence = error instanceof ForeignSchemaError ? error.message : unreachableDatabase(error, databaseUrl)
    if (sentence === undefined) throw error
    console.error(sentence)
    process.exit(1)
  }
}

async function listenOrExit(): Promise<void> {
  const { host, port } = config
  try {
    await app.listen({ host, port })
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    const taken = code === 'EADDRINUSE'
    console.error(
      taken ? `Port ${port} of ${host} is taken: set PORT.` : `Cannot listen on ${host}:${port}: ${message}`,
    )
    await embedded?.stop()
    process.exit(1)
  }
}

/** src/development is not in the production image, so nothing of it is imported before it is asked for. */
async function openIssuer(settings: Config) {
  const { openDevelopmentIssuer } = await import('./development/development-issuer.ts')
  return openDevelopmentIssuer(settings, dataDir)
}

async function startEmbeddedOrExit() {
  const { startEmbeddedPostgres } = await import('./development/embedded-postgres.ts')
  const options = { dataDir: `${dataDir}/postgres`, durable: true, log: (line: string) => logger.info(line) }
  return startEmbeddedPostgres(options).catch((error: Error) => {
    console.error(error.message)
    process.exit(1)
  })
}
