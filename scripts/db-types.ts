// `npm run db:types`: writes src/db/tables.ts from a newly migrated database.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openDatabase } from '../src/db/database.ts'
import { migrate } from '../src/db/migrate.ts'
import { onDatabase, runSql } from '../tools/admin-sql.ts'
import { startTestPostgres } from '../tools/test-postgres.ts'
import { tableTypes } from '../tools/table-types.ts'

const server = await startTestPostgres()
const name = `types_${process.pid}`
try {
  await runSql(server.url, `CREATE DATABASE ${name}`)
  const url = onDatabase(server.url, name)
  await migrate(url)
  const db = openDatabase({ url })
  await writeFile(join(import.meta.dirname, '../src/db/tables.ts'), await tableTypes(db))
  await db.destroy()
} finally {
  await runSql(server.url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  await server.stop()
}
