import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { logRefusal } from '../http/problem.ts'
import { createRequestLimits, createTurns, enterUntilEnd, onEnd } from '../http/request-limits.ts'
import type { Work } from '../db/work-class.ts'
import type { SecretBox } from '../secret-box.ts'
import { bulkRoutes } from './bulk/bulk-routes.ts'
import { createAuthenticator, tokenIn, type Authenticator, type Shown } from './storage/credential.ts'
import { discoveryRoutes } from './http/discovery-routes.ts'
import { scimError, scimStatus, toScimRefusal } from './http/error.ts'
import { groupRoutes } from './http/group-routes.ts'
import { createAnchors } from './lists/list.ts'
import { recordScimRefusal } from './http/refusals.ts'
import { MEDIA_TYPE, refusedRequest } from './http/serve.ts'
import { searchRoutes } from './http/search-routes.ts'
import { userRoutes } from './http/user-routes.ts'

export interface ScimPlugin {
  config: Config
  db: Db
  work: Work
  /** Seals cursors. */
  box: SecretBox
}

/**
 * SCIM 2.0 (RFC 7643, RFC 7644) under /scim/v2/{directoryId}: the guard, the media types and the shape of errors, and
 * behind them the routes.
 */
export async function scim(app: FastifyInstance, { config, db, work, box }: ScimPlugin): Promise<void> {
  const authenticator = createAuthenticator(db)
  const limits = createRequestLimits({
    requestsPerSecond: config.scimRequestsPerSecond,
    burst: config.scimBurstRequests,
    concurrent: config.scimConcurrentRequests,
    subject: 'A directory',
  })
  // Several directories of one workspace share twice the limits of one.
  const workspaceLimits = createRequestLimits({
    requestsPerSecond: 2 * config.scimRequestsPerSecond,
    burst: 2 * config.scimBurstRequests,
    concurrent: 2 * config.scimConcurrentRequests,
    subject: 'The directories of a workspace together',
  })
  const turns = createTurns(Math.max(2, Math.floor(config.databasePoolSize / 2)))
  app.decorateRequest('caller', null)
  app.decorateRequest('releaseTurn', null)
  app.decorateRequest('work', null)
  app.decorateRequest('batchDb', null)
  const { scimMaxBodyBytes: bodyLimit } = config
  readScimBodies(app, bodyLimit)
  app.setErrorHandler((error, request, reply) => sendRefusal({ db, authenticator, bodyLimit }, error, request, reply))

  await app.register(
    async directory => {
      directory.addHook('onRequest', async (request, reply) => {
        const caller = await authenticator.authenticate(shownBy(request))
        request.caller = caller
        request.actor = { type: 'directory', id: caller.directoryId, workspaceId: caller.workspaceId }
        await enterUntilEnd(reply, [
          [limits, caller.directoryId],
          [workspaceLimits, caller.workspaceId],
        ])
      })
      // After the body has come in, so that a slow upload holds no turn.
      directory.addHook('preHandler', async (request, reply) => {
        if (!request.caller) return
        request.work = work
        request.releaseTurn = await turns.take(request.caller.workspaceId)
        onEnd(reply, request.releaseTurn)
      })
      const options = { config, db, work, box, limits, anchors: createAnchors() }
      await directory.register(discoveryRoutes, options)
      await directory.register(userRoutes, options)
      await directory.register(groupRoutes, options)
      await directory.register(searchRoutes, options)
      await directory.register(bulkRoutes, options)
      refuseTheRest(directory)
    },
    { prefix: '/scim/v2/:directoryId' },
  )
}

const LARGE_BODY = 262_144

/** JSON under both of its names, of any size up to the limit; a request without a body may well name a type. */
function readScimBodies(app: FastifyInstance, bodyLimit: number): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser<string>(
    [MEDIA_TYPE, 'application/json'],
    { parseAs: 'string', bodyLimit },
    (request, body, done) => {
      if (request.caller?.mode === 'strict' && !isScim(request.headers['content-type'])) {
        done(new AppError('unsupported_media_type', `Send the body as ${MEDIA_TYPE}: this directory is strict.`))
        return
      }
      if (!isUtf8(request.headers['content-type'])) {
        done(new AppError('unsupported_media_type', 'Send the body in UTF-8, the one encoding of JSON (RFC 8259).'))
        return
      }
      if (body === '') {
        done(null, undefined)
        return
      }
      try {
        // .NET clients begin with a byte order mark, which RFC 8259 §8.1 lets a reader overlook.
        const parsed: unknown = JSON.parse(body.startsWith('\ufeff') ? body.slice(1) : body)
        // To parse a large one took milliseconds: others have their turn before it is read.
        if (body.length > LARGE_BODY) setImmediate(done, null, parsed)
        else done(null, parsed)
      } catch (cause) {
        done(new AppError('malformed_json', 'The request body is not valid JSON.', { cause }))
      }
    },
  )
}

function isScim(contentType = ''): boolean {
  return contentType.split(';', 1)[0]?.trim().toLowerCase() === MEDIA_TYPE
}

/** Whether a content type names no other encoding than the one that is read. */
function isUtf8(contentType = ''): boolean {
  const [, charset] = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(contentType) ?? []
  return charset === undefined || /^(?:utf-?8|us-ascii)$/i.test(charset)
}

function refuseTheRest(app: FastifyInstance): void {
  for (const path of ['/Me', '/Me/']) {
    app.all(path, { schema: { hide: true } }, async () => {
      throw new AppError('scim_not_implemented', 'A directory token stands for no person, so there is no /Me.')
    })
  }
  for (const path of ['/', '/*']) {
    app.all(path, { schema: { hide: true } }, async () => {
      throw new AppError('not_found', 'There is no such endpoint: see /ResourceTypes.')
    })
  }
}

async function sendRefusal(
  { db, authenticator, bodyLimit }: { db: Db; authenticator: Authenticator; bodyLimit: number },
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const refusal = toScimRefusal(error, bodyLimit)
  const status = scimStatus(refusal.code)
  logRefusal(refusal, status, request)
  const recorded =
    refusal.code === 'unauthenticated'
      ? authenticator.recordUnauthenticated(refusal, { ...shownBy(request), requestId: request.id })
      : recordScimRefusal(db, refusal, refusedRequest(request))
  await recorded.catch((cause: unknown) => request.log.error({ err: cause }, 'the refusal could not be recorded'))
  if (refusal.retryAfter !== undefined) reply.header('retry-after', String(refusal.retryAfter))
  if (status === 401) reply.header('www-authenticate', challenge(request.headers.authorization))
  return reply
    .code(status)
    .type(MEDIA_TYPE)
    .send(JSON.stringify(scimError(refusal)))
}

/** RFC 6750 §3.1: the error is named only to whoever showed a token. */
function challenge(authorization: string | undefined): string {
  const hasToken = /^bearer /i.test(authorization ?? '') || tokenIn(authorization) !== undefined
  return hasToken ? 'Bearer realm="SCIM", error="invalid_token"' : 'Bearer realm="SCIM"'
}

function shownBy({ params, headers }: FastifyRequest): Shown {
  const { directoryId } = params as { directoryId: string }
  return { directoryId: directoryId.toLowerCase(), authorization: headers.authorization }
}
