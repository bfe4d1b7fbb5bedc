// `npm run migrate`: applies pending migrations to DATABASE_URL. Run it before replicas start with MIGRATE_ON_START=false.
import { ConfigError, readConfig } from '../src/config.ts'
import { unreachableDatabase } from '../src/db/database.ts'
import { ForeignSchemaError, migrate } from '../src/db/migrate.ts'

try {
  const { databaseUrl } = readConfig()
  if (databaseUrl === 'postgres://embedded') {
    throw new ConfigError('Set DATABASE_URL. `npm start` migrates the embedded development database.')
  }
  const applied = await migrate(databaseUrl).catch((error: unknown) => {
    const sentence = unreachableDatabase(error, databaseUrl)
    throw sentence === undefined ? error : new ConfigError(sentence)
  })
  console.log(applied.length > 0 ? `Applied ${applied.join(', ')}.` : 'Nothing to do.')
} catch (error) {
  console.error(error instanceof ConfigError || error instanceof ForeignSchemaError ? error.message : error)
  process.exitCode = 1
}
