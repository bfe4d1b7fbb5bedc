import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  sql,
  type CompiledQuery,
  type RawBuilder,
} from 'kysely'
import type { Database } from './tables.ts'

/** The names by which hot statements are sent, by their text. */
export const statementNames = new Map<string, string>()

/** The parameters of each hot statement, `$1` first, by its name. docs/sql shows them. */
export const statementParameters = new Map<string, readonly string[]>()

/** A place in a statement that a value of each run takes. */
export type Params<Values> = { readonly [Key in keyof Values]-?: RawBuilder<Values[Key]> }

const parameter = Symbol('parameter')

const compiler = new Kysely<Database>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: db => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
})

/**
 * A hot statement: written once with Kysely's `sql`, compiled once, and executed by its name, so that neither we nor
 * Postgres build it again for each request (an unnamed statement costs half as much again, a stock Kysely transaction
 * more than twice as much).
 *
 * Each parameter is one `$n` however often it is used. Give it a cast where Postgres cannot infer its type.
 * @param name unique in the process, at most 63 bytes; shows in pg_prepared_statements
 */
export function prepared<Values extends object, Row>(
  name: string,
  build: (params: Params<Values>) => RawBuilder<Row>,
): (db: Kysely<Database>, values: Values) => Promise<Row[]> {
  const params = new Proxy({} as Params<Values>, {
    get: (_target, key) => sql.val({ [parameter]: key }),
  })
  const compiled = build(params).compile(compiler)
  const keys: (keyof Values)[] = []
  const place = compiled.parameters.map(value => {
    const key = (value as { [parameter]?: keyof Values } | null)?.[parameter]
    if (key === undefined) throw new Error(`Statement ${name} has a value that is not one of its parameters.`)
    return (keys.includes(key) ? keys.indexOf(key) : keys.push(key) - 1) + 1
  })
  const text = compiled.sql.replaceAll(/\$(\d+)/g, (_match, index) => `$${place[Number(index) - 1]}`)
  if ([...statementNames.values()].includes(name)) throw new Error(`Statement name ${name} is taken.`)
  statementNames.set(text, name)
  statementParameters.set(name, keys.map(String))
  return async (db, values) => {
    const query: CompiledQuery<Row> = { ...compiled, sql: text, parameters: keys.map(key => values[key]) }
    return (await db.executeQuery(query)).rows
  }
}
