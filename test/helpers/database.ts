import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import type { Db } from '../../src/db/database.ts'
import { assertInvariants } from './invariants.ts'
import { onDatabase, runSql } from '../../tools/admin-sql.ts'

/** Creates a migrated, empty database that is dropped when the test `t` ends. */
export async function makeDatabase(t: Test): Promise<{ url: string; db: Db }> {
  const { TEST_ADMIN_URL: adminUrl, TEST_TEMPLATE: template } = process.env
  if (!adminUrl || !template) throw new Error('Run tests with `npm test -- FILE`, which starts Postgres.')

  const name = `${template}_${randomBytes(6).toString('hex')}`
  await runSql(adminUrl, `CREATE DATABASE ${name} TEMPLATE ${template}`)
  const url = onDatabase(adminUrl, name)
  const db = openDatabase({ url })
  t.teardown(async () => {
    try {
      await assertInvariants(db)
    } catch (error) {
      // The test may have dropped the tables.
      if ((error as { code?: string }).code !== '42P01') throw error
    } finally {
      await db.destroy()
    }
    await runSql(adminUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  })
  return { url, db }
}
