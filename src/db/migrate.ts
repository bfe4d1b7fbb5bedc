import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'kysely'
import { Migrator, type Migration, type MigrationProvider } from 'kysely/migration'
import { openDatabase, type Db } from './database.ts'

const folder = join(import.meta.dirname, '../../migrations')

const sqlFiles: MigrationProvider = {
  async getMigrations() {
    const names = (await readdir(folder)).filter(name => name.endsWith('.sql')).toSorted()
    const entries = names.map(async (name): Promise<[string, Migration]> => {
      const text = await readFile(join(folder, name), 'utf8')
      return [name.slice(0, -'.sql'.length), { up: async db => void (await sql.raw(text).execute(db)) }]
    })
    return Object.fromEntries(await Promise.all(entries))
  },
}

/**
 * Applies the pending files of migrations/ in order, all in one transaction, under a session-level advisory lock: of
 * several replicas that start at once one migrates and the others wait. Needs a direct connection, not a pooler.
 * @returns the names of the files applied
 */
export async function migrate(databaseUrl: string): Promise<string[]> {
  const db = openDatabase({ url: databaseUrl, poolSize: 2, statementTimeoutMs: 0 })
  try {
    // Also where the next release has migrated already: this one may start again beside it, and must not mind its files.
    const pending = await pendingMigrations(db)
    if (pending.length === 0) return []
    const foreign = await foreignMigrations(db)
    if (foreign.length > 0) throw new ForeignSchemaError(foreign, pending)
    const { error, results } = await migratorOf(db).migrateToLatest()
    if (error !== undefined) throw new Error('The migration failed and nothing of it was kept.', { cause: error })
    return (results ?? []).map(result => result.migrationName)
  } finally {
    await db.destroy()
  }
}

/** The files of migrations/ that this database has not seen: none, where this release can run on it. */
export async function pendingMigrations(db: Db): Promise<string[]> {
  const migrations = await migratorOf(db).getMigrations()
  return migrations.filter(each => !each.executedAt).map(each => each.name)
}

/** Migrations that the database has and this release does not. */
async function foreignMigrations(db: Db): Promise<string[]> {
  const known = new Set((await migratorOf(db).getMigrations()).map(each => each.name))
  const { rows: tables } = await sql<{ name: string | null }>`SELECT to_regclass('schema_migrations') AS name`.execute(
    db,
  )
  if (!tables[0]?.name) return []
  const { rows } = await sql<{ name: string }>`SELECT name FROM schema_migrations ORDER BY name`.execute(db)
  return rows.map(row => row.name).filter(name => !known.has(name))
}

/** The database was migrated by a version whose files this release neither has nor follows. */
export class ForeignSchemaError extends Error {
  constructor(foreign: readonly string[], pending: readonly string[]) {
    super(
      `The database has migrations of another version (${foreign.join(', ')}) and lacks ${pending.join(', ')}. ` +
        'Start the version that migrated it, or give this one a new database.',
    )
    this.name = 'ForeignSchemaError'
  }
}

function migratorOf(db: Db): Migrator {
  return new Migrator({
    db,
    provider: sqlFiles,
    migrationTableName: 'schema_migrations',
    migrationLockTableName: 'schema_migrations_lock',
  })
}
