import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../src/development/embedded-postgres.ts'
import { onDatabase, runSql } from '../tools/admin-sql.ts'

/** A Postgres server for one contender, so that the CPU time of its processes belongs to that contender. */
export interface BenchPostgres {
  pid: number
  urlOf: (database: string) => string
  run: (database: string, text: string) => Promise<Record<string, unknown>[]>
  create: (database: string, template?: string) => Promise<void>
  drop: (database: string) => Promise<void>
  stop: () => Promise<void>
}

/** Starts a durable Postgres server with default settings. */
export async function startBenchPostgres(folder: string): Promise<BenchPostgres> {
  await mkdir(folder, { recursive: true })
  const server = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), durable: true, log: console.error })
  const run = (database: string, text: string) => runSql(onDatabase(server.url, database), text)
  return {
    pid: Number.parseInt(await readFile(join(server.dataDir, 'postmaster.pid'), 'utf8'), 10),
    urlOf: database => onDatabase(server.url, database),
    run,
    create: async (database, template = 'template1') => {
      await run('postgres', `CREATE DATABASE ${database} TEMPLATE ${template} STRATEGY file_copy`)
    },
    drop: async database => {
      await run('postgres', `DROP DATABASE ${database} WITH (FORCE)`)
    },
    stop: server.stop,
  }
}
