import { sql } from 'kysely'
import type { Db } from '../src/db/database.ts'

interface Column {
  table: string
  column: string
  type: string
  nullable: boolean
  generated: 'always' | 'default' | 'never'
  /** The definition of the CHECK, its own or its domain's, that lists the column's values. */
  listed: string | null
}

const types: Record<string, string> = {
  uuid: 'string',
  text: 'string',
  boolean: 'boolean',
  smallint: 'number',
  integer: 'number',
  bigint: 'number',
  bytea: 'Buffer',
  inet: 'string',
  // Text on purpose: the parsers in database.ts leave json unparsed and write instants as ISO 8601.
  json: 'string',
  'timestamp with time zone': 'string',
  xid8: 'string',
  jsonb: 'unknown',
  'uuid[]': 'string[]',
  'text[]': 'string[]',
}

const header = `// Written by \`npm run db:types\` from the migrated database; a test holds the two together.
import type { Generated, GeneratedAlways } from 'kysely'
`

/** The source of src/db/tables.ts: one interface a table, in the order of their names. */
export async function tableTypes(db: Db): Promise<string> {
  const columns = await listColumns(db)
  const tables = [...new Set(columns.map(each => each.table))]
  const interfaces = tables.map(table => {
    const lines = columns.filter(each => each.table === table).map(each => `  ${each.column}: ${columnType(each)}`)
    return `export interface ${interfaceName(table)} {\n${lines.join('\n')}\n}\n`
  })
  const database = tables.map(table => `  ${table}: ${interfaceName(table)}`).join('\n')
  return [header, ...interfaces, `export interface Database {\n${database}\n}\n`].join('\n')
}

function interfaceName(table: string): string {
  return table.replaceAll(/(?:^|_)(\w)/g, (_match, letter: string) => letter.toUpperCase()) + 'Table'
}

function columnType({ table, column, type, nullable, generated, listed }: Column): string {
  const plain = listed ? listedValues(listed) : types[type]
  if (!plain) throw new Error(`No TypeScript type is known for ${table}.${column} (${type}).`)
  const full = nullable && plain !== 'unknown' ? `${plain} | null` : plain
  if (generated === 'always') return `GeneratedAlways<${full}>`
  return generated === 'default' ? `Generated<${full}>` : full
}

/** `CHECK ((status = ANY (ARRAY['a'::text, 'b'::text])))` as a union of literals. */
function listedValues(check: string): string {
  return [...check.matchAll(/'([^']*)'::text/g)].map(match => `'${match[1]}'`).join(' | ')
}

async function listColumns(db: Db): Promise<Column[]> {
  const { rows } = await sql<Column>`
    SELECT c.relname AS "table", a.attname AS "column", regexp_replace(format_type(coalesce(nullif(t.typbasetype, 0), t.oid), a.atttypmod), '\\(\\d+\\)', '') AS "type",
           NOT a.attnotnull AS "nullable",
           CASE WHEN a.attidentity = 'a' THEN 'always' WHEN a.atthasdef THEN 'default' ELSE 'never' END AS "generated",
           (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
             WHERE k.contype = 'c'
               AND (k.conrelid = c.oid AND k.conkey = ARRAY[a.attnum]
                    AND pg_get_constraintdef(k.oid) LIKE 'CHECK ((' || a.attname || ' = ANY (ARRAY[%' OR k.contypid = t.oid)) AS "listed"
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
     WHERE n.nspname = 'public' AND c.relkind = 'r' AND c.relname NOT LIKE 'schema_migrations%'
     ORDER BY c.relname, a.attnum`.execute(db)
  return rows
}
