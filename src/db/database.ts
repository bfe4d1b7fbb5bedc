import { Kysely, PostgresDialect, type LogEvent, type Transaction } from 'kysely'
import pg from 'pg'
import { AppError } from '../errors.ts'
import { namedQuery, type NamedQuery, type NamedStatement, type Row } from './named-query.ts'
import { statementNames } from './prepared.ts'
import type { Database } from './tables.ts'

export type Db = Kysely<Database>
export type Trx = Transaction<Database>

export interface DatabaseOptions {
  /** postgres:// URL of Postgres 15 or newer. */
  url: string
  /** Connections at most, for this process. */
  poolSize?: number
  /** How long a statement may run, in milliseconds; 0: as long as it takes, as migrations may. */
  statementTimeoutMs?: number
  /** Told of a connection that was lost; the pool has already dropped it, and a statement under way fails by itself. */
  onConnectionLost?: (error: Error) => void
  /** Told of each statement run: tests count round trips with it. */
  onStatement?: (sql: string) => void
}

/** How long after its statement's time is up Postgres may take to say so, in milliseconds. */
const SILENCE_MS = 2_000

/** Opens a pool. Connects on first use, so the process starts while the database is away. */
export function openDatabase({
  url,
  poolSize = 10,
  statementTimeoutMs = 30_000,
  onConnectionLost = () => {},
  onStatement,
}: DatabaseOptions): Db {
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    application_name: 'assist-identity',
    options: [
      'timezone=UTC',
      `statement_timeout=${statementTimeoutMs}`,
      'idle_in_transaction_session_timeout=60000',
      // A named statement is planned once: by its keys, and not by how few rows a table had at the time.
      'plan_cache_mode=force_generic_plan',
      'enable_seqscan=off',
      'jit=off',
      // One scan of a tenant occupies one core and not all of them.
      'max_parallel_workers_per_gather=0',
    ]
      .map(setting => `-c ${setting}`)
      .join(' '),
    types: { getTypeParser },
    Client: NamedClient,
    // Its own setting, which the pool hands on to each of its connections.
    ...(statementTimeoutMs > 0 && { silenceMs: statementTimeoutMs + SILENCE_MS }),
  })
  // Without a listener a connection's end (a database restart) would end the process. The pool listens to idle ones
  // alone, so each has a listener of its own, and what the pool says is a repetition.
  pool.on('connect', connection => connection.on('error', onConnectionLost))
  pool.on('error', () => {})
  return new Kysely<Database>({
    dialect: new PostgresDialect({ pool }),
    ...(onStatement && {
      log: (event: LogEvent): void => void (event.level === 'query' && onStatement(event.query.sql)),
    }),
  })
}

/**
 * Sends a hot statement (prepared.ts) by its name, so that Postgres parses and plans it once a connection; and ends a
 * connection on which nothing is heard of a statement, as Postgres cannot say itself that it, or the network to it, has gone.
 *
 * One timer for each connection, set back by each statement: with the driver's, a new one for each, the rows of a page
 * outlived their answer, and half of the time of reading it went into collecting them.
 */
class NamedClient extends pg.Client {
  private readonly silence: NodeJS.Timeout | undefined
  private unanswered = 0

  constructor(settings: pg.ClientConfig & { silenceMs?: number } = {}) {
    super(settings)
    const { silenceMs } = settings
    if (silenceMs === undefined) return
    this.silence = setTimeout(() => this.unanswered > 0 && this.giveUp(), silenceMs).unref()
    this.once('end', () => clearTimeout(this.silence))
  }

  override query(...args: unknown[]): never {
    const [text, values] = args as [text: string, values: unknown[]]
    const name = statementNames.get(text)
    const result =
      name === undefined
        ? (super.query as (...sent: unknown[]) => unknown)(...args)
        : this.queryByName({ name, text, values })
    if (result instanceof Promise) this.listenFor(result)
    return result as never
  }

  private queryByName(statement: NamedStatement): Promise<{ rows: Row[] }> {
    return new Promise((resolve, reject) => {
      const done: NamedQuery['callback'] = (error, rows = []) => (error ? reject(error) : resolve({ rows }))
      super.query(namedQuery(statement, getTypeParser, done))
    })
  }

  private listenFor(answer: Promise<unknown>): void {
    this.unanswered++
    this.silence?.refresh()
    const heard = () => void this.unanswered--
    answer.then(heard, heard)
  }

  /** The statement under way fails with this error. */
  private giveUp(): void {
    const { stream } = (this as unknown as { connection: { stream: { destroy: (error: Error) => void } } }).connection
    stream.destroy(new Error('Query read timeout'))
  }
}

type Oid = pg.CustomTypesConfig['getTypeParser'] extends (oid: infer Id) => unknown ? Id : never

/** How Postgres types reach us: json stays the text it is (it is spliced into answers), instants are ISO 8601 strings. */
const parsers = new Map<number, (text: string) => unknown>([
  [pg.types.builtins.JSON, text => text],
  [pg.types.builtins.TIMESTAMPTZ, text => isoInstant(text)],
  [pg.types.builtins.INT8, text => Number(text)],
])

function getTypeParser(oid: Oid): (text: string) => unknown {
  return parsers.get(oid) ?? (pg.types.getTypeParser(oid, 'text') as (text: string) => unknown)
}

/** `2026-01-01 00:00:00.5+00`, as Postgres prints it in UTC, as `2026-01-01T00:00:00.500Z`. */
function isoInstant(text: string): string {
  const fraction = text.slice(20, -3)
  return `${text.slice(0, 10)}T${text.slice(11, 19)}.${fraction.padEnd(3, '0')}Z`
}

/** Faults outside those classes that pass without a change of ours: network errors, and states that a failover ends. */
const unavailableCodes = new Set([
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETUNREACH',
  'ENOENT',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
  '25006', // read-only: a standby that has not been promoted yet
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
  '28000',
  '28P01',
  '3D000',
])

/**
 * Classes of SQLSTATE that name a fault of the server (Postgres manual, appendix A): connection, insufficient resources such
 * as a full disk, operator intervention, system errors.
 */
const unavailableClasses = new Set(['08', '53', '57', '58'])

/** A table or a column that this release needs is not there: it has started before its migrations. */
const missingCodes = new Set(['42P01', '42703'])

/**
 * The refusal that a database fault stands for, or undefined where it is no fault of the database but of our code.
 * Transient trouble is always `unavailable` with a time to come back, never "not found" or "not authenticated": an
 * identity provider quarantines a sync on those.
 */
export function databaseRefusal(error: unknown): AppError | undefined {
  const { code, message } = error as { code?: string; message?: string }
  if (code === '57014') {
    return new AppError('unavailable', 'The request took too long and was stopped. Try again later.', {
      retryAfter: 10,
      cause: error,
    })
  }
  if (isSerializationFault(error)) {
    return new AppError('unavailable', 'Too many changes to the same data at once. Try again.', {
      retryAfter: 1,
      cause: error,
    })
  }
  if (code !== undefined && missingCodes.has(code)) {
    return new AppError('unavailable', 'The service waits for its database to be migrated. Try again shortly.', {
      retryAfter: 10,
      detail: { missing: message },
      cause: error,
    })
  }
  const lost =
    /^(Connection terminated|timeout exceeded when trying to connect|Client (has encountered|was closed)|Query read timeout|The server does not support SSL)/.test(
      message ?? '',
    )
  if (lost || (code !== undefined && isUnavailable(code))) {
    return new AppError('unavailable', 'The service is temporarily unavailable. Try again shortly.', {
      retryAfter: 5,
      cause: error,
    })
  }
  return undefined
}

function isUnavailable(code: string): boolean {
  return unavailableCodes.has(code) || (code.length === 5 && unavailableClasses.has(code.slice(0, 2)))
}

/**
 * Why nothing could be asked of the database at all, in a sentence for whoever runs the service; undefined for any other
 * fault. Of the URL it has host and port alone: the rest may hold a password.
 */
export function unreachableDatabase(error: unknown, url: string): string | undefined {
  if (databaseRefusal(error)?.code !== 'unavailable') return undefined
  const { code, message } = error as { code?: string; message: string }
  const reason = [message, code].find(each => each !== undefined && each !== '') ?? 'no reason given'
  return `The database at ${new URL(url).host} (DATABASE_URL) cannot be reached: ${reason}.`
}

/** Whether a statement failed because of this unique index. The transaction is then over; the caller refuses. */
export function isUniqueViolation(error: unknown, index: string): boolean {
  const { code, constraint } = error as { code?: string; constraint?: string }
  return code === '23505' && constraint === index
}

/** Whether a statement failed because a row is missing, or still in use, by this table's foreign keys. */
export function isForeignKeyViolation(error: unknown, table: string): boolean {
  const fault = error as { code?: string; table?: string }
  return fault.code === '23503' && fault.table === table
}

function isSerializationFault(error: unknown): boolean {
  const { code } = error as { code?: string }
  return code === '40P01' || code === '40001'
}

/**
 * Runs work again when Postgres chose it as the victim of a deadlock: at most three times more, after a short random
 * wait. The work must be a whole transaction or one statement.
 */
export async function retryDeadlocks<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt > 3 || !isSerializationFault(error)) throw error
      await new Promise(resolve => setTimeout(resolve, Math.random() * 20 * attempt))
    }
  }
}
