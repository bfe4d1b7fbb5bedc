import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { pino, type DestinationStream, type Logger } from 'pino'

/** Wherever one of these is logged, at the top or one or two levels down, its value is not. */
const secretKeys = [
  'authorization',
  'cookie',
  'code',
  'state',
  'nonce',
  'password',
  'secret',
  'token',
  'clientSecret',
  'client_secret',
  'codeVerifier',
  'code_verifier',
  'accessToken',
  'access_token',
  'idToken',
  'id_token',
  'email',
  'userName',
  'body',
]

/**
 * The process log: JSON lines on standard output. Requests are logged by their route, never by their URL, because URLs
 * carry codes, states and people's names.
 */
export function createLogger(level: string, stream?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    // `code` at the top is our own error code; everywhere else it may be an authorization code.
    redact: {
      paths: [...secretKeys.filter(key => key !== 'code'), ...secretKeys.flatMap(key => [`*.${key}`, `*.*.${key}`])],
      censor: '[redacted]',
    },
    serializers: { err: describeError },
  }
  return stream ? pino(options, stream) : pino(options)
}

/** An error by its name, code and stack: the whole object of a database error holds the client and its parameters. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: String(error) }
  const { name, stack, cause } = error
  const { code, constraint, table } = error as { code?: string; constraint?: string; table?: string }
  return {
    name,
    errorCode: code,
    constraint,
    table,
    stack,
    ...(cause !== undefined && { cause: describeError(cause) }),
  }
}

/**
 * A request's logger, made when the request first writes a line: most write none, and binding the request's id to a logger
 * takes a search of it for secrets.
 */
export function requestLogger(logger: FastifyBaseLogger, bindings: Record<string, unknown>): FastifyBaseLogger {
  let made: FastifyBaseLogger | undefined
  const own = () => (made ??= logger.child(bindings))
  const write =
    (level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace') =>
    (...line: unknown[]): void =>
      own()[level](...(line as [string]))
  return {
    level: logger.level,
    silent: () => {},
    fatal: write('fatal'),
    error: write('error'),
    warn: write('warn'),
    info: write('info'),
    debug: write('debug'),
    trace: write('trace'),
    child: (...child) => own().child(...child),
  }
}

/** One line a request: at debug, so that a hot path does not pay for it. */
export function logRequests(app: FastifyInstance): void {
  if (app.log.level !== 'debug' && app.log.level !== 'trace') return
  app.addHook('onResponse', async (request, reply) => {
    request.log.debug(
      {
        method: request.method,
        route: request.routeOptions.url ?? 'none',
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime * 10) / 10,
        actor: request.actor && `${request.actor.type}:${request.actor.id}`,
      },
      'request',
    )
  })
}
