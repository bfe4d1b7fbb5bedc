import pg from 'pg'

/** Runs a named statement: Postgres parses and plans it once a connection. */
export type Run = <Row extends pg.QueryResultRow>(name: string, text: string, values: unknown[]) => Promise<Row[]>

/** json stays the text it is and an instant becomes ISO 8601, as in the service. */
const parsers = new Map<number, (text: string) => unknown>([
  [pg.types.builtins.JSON, text => text],
  [pg.types.builtins.TIMESTAMPTZ, text => `${text.slice(0, 10)}T${text.slice(11).replace('+00', 'Z')}`],
])

export function openDatabase(url: string): Run {
  const pool = new pg.Pool({
    connectionString: url,
    max: 10,
    types: { getTypeParser: (oid: number) => parsers.get(oid) ?? pg.types.getTypeParser(oid, 'text') },
  })
  pool.on('error', error => console.error(error.message))
  return async (name, text, values) => (await pool.query({ name, text, values })).rows
}
