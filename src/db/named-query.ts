import pg from 'pg'

export interface NamedStatement {
  name: string
  text: string
  values: readonly unknown[]
}

export type Row = Record<string, unknown>

/** How a Postgres type, by its number, is read from its text. */
export type TypeParserOf = (oid: number) => (text: string) => unknown

/** The form of a statement's rows. */
interface RowForm {
  columns: { name: string; parse: (text: string) => unknown }[]
  /** A row of nothing but nulls: to copy and fill one costs a fraction of letting one grow. */
  empty: Row
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
 * By connection and name. A connection has prepared the statement for itself, and Postgres then runs it with rows of the
 * same form or not at all ("cached plan must not change result type").
 */
const knownForms = new WeakMap<Wire, Map<string, RowForm>>()

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
  let forms: Map<string, RowForm> | undefined
  let form: RowForm | undefined
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
      forms = formsOf(wire)
      form = forms.get(name)
      wire.stream.cork()
      if (wire.parsedStatements[name] === undefined) wire.parse({ name, text })
      wire.bind({ statement: name, values: prepared })
      if (!form) wire.describe({ type: 'P' })
      wire.execute()
      wire.sync()
      wire.stream.uncork()
      return null
    },
    handleRowDescription: ({ fields }) => {
      const columns = fields.map(field => ({ name: field.name, parse: typeParserOf(field.dataTypeID) }))
      form = { columns, empty: Object.fromEntries(columns.map(column => [column.name, null])) }
    },
    handleDataRow: ({ fields }) => {
      if (!form || fault) return
      const row = { ...form.empty }
      try {
        for (const [index, column] of form.columns.entries()) {
          const value = fields[index]
          if (typeof value === 'string') row[column.name] = column.parse(value)
        }
      } catch (error) {
        fault = error as Error
      }
      rows.push(row)
    },
    handleCommandComplete: () => {
      forms?.set(name, form ?? { columns: [], empty: {} })
    },
    handleError: error => query.callback(fault ?? error),
    handleReadyForQuery: () => query.callback(fault ?? null, rows),
  }
  return query
}

function formsOf(wire: Wire): Map<string, RowForm> {
  const known = knownForms.get(wire) ?? new Map<string, RowForm>()
  knownForms.set(wire, known)
  return known
}
