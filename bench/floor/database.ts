import pg from 'pg'

/** Runs a named statement. Postgres parses and plans it once per connection. */
export type Run = <Row extends pg.QueryResultRow>(name: string, text: string, values: unknown[]) => Promise<Row[]>

/** As in the service, json stays text and timestamps become ISO 8601. */
const parsers = new Map<number, (text: string) => unknown>([
  [pg.types.builtins.JSON, text => text],
  [pg.types.builtins.TIMESTAMPTZ, text => `${text.slice(0, 10)}T${text.slice(11).replace('+00', 'Z')}`],
])

/**
 * Forces generic plans that use indexes. A named statement keeps the plan of its first run, when its tables may be almost
 * empty. A sequential scan planned then took 30 seconds for a group of 50,000.
 */
const planning = '-c plan_cache_mode=force_generic_plan -c enable_seqscan=off'

export function openDatabase(url: string): Run {
  const pool = new pg.Pool({
    connectionString: url,
    max: 10,
    options: `-c timezone=UTC ${planning}`,
    types: { getTypeParser: (oid: number) => parsers.get(oid) ?? pg.types.getTypeParser(oid, 'text') },
  })
  pool.on('error', error => console.error(error.message))
  return async (name, text, values) => (await pool.query({ name, text, values })).rows
}
