import pg from 'pg'

export interface NamedStatement {
  name: string
  text: string
  values: readonly unknown[]
}

export type Row = Record<string, unknown>

/** How a Postgres type, by its number, is read from its text. */
export type TypeParserOf = (oid: number) => (text: string) => unknown

interface Column {
  name: string
  parse: (text: string) => unknown
}

/** A connection of pg; its types say the half of it. */
interface Wire {
  parsedStatements: Record<string, string | undefined>
  stream: { cork: () => void; uncork: () => void }
  parse: (statement: { name: string; text: string }) => void
  bind: (values: { statement: string; values: readonly unknown[] }) => void
  describe: (portal: { type: 'P' }) => void
  execute: () => void
  sync: () => void
}

const { prepareValue } = (pg as unknown as { utils: { prepareValue: (value: unknown) => unknown } }).utils

/**
 * What the rows of a statement are, by connection and name. A connection has prepared the statement for itself, and Postgres then runs it with rows of the
 * same form or not at all ("cached plan must not change result type").
 */
const knownColumns = new WeakMap<Wire, Map<string, Column[]>>()

/** What pg asks of a query that others write, such as its cursors. */
export interface NamedQuery extends pg.Submittable {
  name: string
  text: string
  /** pg puts a function of its own in front, which stops the clock. */
  callback: (error: Error | null, rows?: Row[]) => void
  handleRowDescription: (message: { fields: { name: string; dataTypeID: number }[] }) => void
  handleDataRow: (message: { fields: (string | null)[] }) => void
  handleCommandComplete: () => void
  handleError: (error: Error) => void
  handleReadyForQuery: () => void
}

/**
 * A hot statement on its way, by its name. pg's own query has the rows described each time, and pays for events that
 * nobody listens to: half as much again for each statement.
 */
export function namedQuery(
  { name, text, values }: NamedStatement,
  typeParserOf: TypeParserOf,
  callback: NamedQuery['callback'],
): NamedQuery {
  let known: Map<string, Column[]> | undefined
  let columns: Column[] | undefined
  let fault: Error | undefined
  const rows: Row[] = []
  const query: NamedQuery = {
    name,
    text,
    callback,
    /** @returns the fault of a value that cannot be sent: then nothing has been */
    submit: (connection: unknown) => {
      const wire = connection as Wire
      let prepared: unknown[]
      try {
        prepared = values.map(value => prepareValue(value))
      } catch (error) {
        return error as Error
      }
      known = columnsOf(wire)
      columns = known.get(name)
      wire.stream.cork()
      if (wire.parsedStatements[name] === undefined) wire.parse({ name, text })
      wire.bind({ statement: name, values: prepared })
      if (!columns) wire.describe({ type: 'P' })
      wire.execute()
      wire.sync()
      wire.stream.uncork()
      return null
    },
    handleRowDescription: ({ fields }) => {
      columns = fields.map(field => ({ name: field.name, parse: typeParserOf(field.dataTypeID) }))
    },
    handleDataRow: ({ fields }) => {
      if (!columns || fault) return
      const row: Row = {}
      try {
        let index = 0
        for (const { name: column, parse } of columns) {
          const value = fields[index++]
          row[column] = typeof value === 'string' ? parse(value) : null
        }
      } catch (error) {
        fault = error as Error
      }
      rows.push(row)
    },
    handleCommandComplete: () => {
      known?.set(name, columns ?? [])
    },
    handleError: error => query.callback(fault ?? error),
    handleReadyForQuery: () => query.callback(fault ?? null, rows),
  }
  return query
}

function columnsOf(wire: Wire): Map<string, Column[]> {
  const known = knownColumns.get(wire) ?? new Map<string, Column[]>()
  knownColumns.set(wire, known)
  return known
}
