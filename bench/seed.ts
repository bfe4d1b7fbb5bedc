import type { BenchPostgres } from './postgres.ts'
import { externalIdOf, seedEpoch, userNameOf } from './resources.ts'

export interface CloneOptions {
  postgres: BenchPostgres
  database: string
  /** In an order that satisfies foreign keys. */
  tables: string[]
  /** The user to clone, created over HTTP with index 0. */
  userId: string
  /** Clones get the indexes from 1 to `users - 1`. */
  users: number
}

/**
 * Clones a user that was created over HTTP. The clones differ only in ids, names and numbers. Each row that contains the
 * user's id is converted to JSON text, its ids, names and numbers are replaced, and the text is converted back to a row.
 * This works for any schema, so it does not depend on the tables of a contender.
 */
export async function cloneUser({ postgres, database, tables, userId, users }: CloneOptions): Promise<void> {
  const run = (text: string) => postgres.run(database, text)
  const memberId = await findMember(run, tables, userId)
  for (const table of tables) {
    const columns = (await run(columnsOf(table))).map(row => String(row['column_name'])).join(', ')
    const mention = [userId, ...memberId].map(id => `line LIKE '%${id}%'`).join(' OR ')
    await run(`
      INSERT INTO ${table} (${columns})
      SELECT ${columns}
      FROM (SELECT line FROM ${table} AS one, row_to_json(one) AS json, CAST(json AS text) AS line WHERE ${mention}) AS source,
        generate_series(1, ${users - 1}) AS n,
        json_populate_record(NULL::${table}, CAST(${exchange(userId, memberId)} AS json))`)
  }
}

/** Returns the id of the member that the service keeps for the user; empty for the floor, which has no members. */
async function findMember(run: (text: string) => Promise<Record<string, unknown>[]>, tables: string[], userId: string) {
  if (!tables.includes('scim_users')) return []
  return (await run(`SELECT member_id FROM scim_users WHERE id = '${userId}'`)).map(row => String(row['member_id']))
}

/** SQL expression that turns the text of user 0 into the text of user `n`. */
function exchange(userId: string, memberIds: string[]): string {
  const exchanges: [text: string, by: string][] = [
    [userId, idOf('8000')],
    ...memberIds.map((id): [string, string] => [id, idOf('8001')]),
    [externalIdOf(0), `'ext-' || lpad(CAST(n AS text), 9, '0')`],
    [userNameOf(0), `'u' || lpad(CAST(n AS text), 7, '0') || '@bench.example.com'`],
    ['Given0000000', `'Given' || lpad(CAST(n AS text), 7, '0')`],
    ['Family0000000', `'Family' || lpad(CAST(n AS text), 7, '0')`],
    ['"0000000"', `'"' || lpad(CAST(n AS text), 7, '0') || '"'`],
  ]
  return exchanges.reduce((sql, [text, by]) => `replace(${sql}, '${text}', ${by})`, 'line')
}

/** SQL expression of `seededId` (resources.ts). Members differ from users in the fourth part. */
function idOf(part: string): string {
  return `CAST(lpad(to_hex(${seedEpoch} + n), 12, '0') || '7000${part}' || lpad(to_hex(n), 12, '0') AS uuid)::text`
}

/** Query for the columns of a table except identity columns, which Postgres fills. */
function columnsOf(table: string): string {
  return `SELECT column_name FROM information_schema.columns
    WHERE table_name = '${table}' AND is_identity = 'NO' ORDER BY ordinal_position`
}
