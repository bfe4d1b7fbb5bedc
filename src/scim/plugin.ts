import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { BytesInFlight } from '../http/body/bytes-in-flight.ts'
import { readJson } from '../http/body/read-body.ts'
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
import { MEDIA_TYPE, refusedRequest, scimBodyLimits } from './http/serve.ts'
import { searchRoutes } from './http/search-routes.ts'
import { userRoutes } from './http/user-routes.ts'

export interface ScimPlugin {
  config: Config
  db: Db
  work: Work
  /** Seals cursors. */
  box: SecretBox
  inFlight: BytesInFlight
}

/**
 * SCIM 2.0 (RFC 7643, RFC 7644) under /scim/v2/{directoryId}: the guard, the media types and the shape of errors, and
 * behind them the routes.
 */
export async function scim(app: FastifyInstance, { config, db, work, box, inFlight }: ScimPlugin): Promise<void> {
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
  readScimBodies(app, { config, inFlight })
  app.setErrorHandler((error, request, reply) => sendRefusal({ db, authenticator }, error, request, reply))

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

/** JSON under both of its names; a request without a body may well name a type. */
function readScimBodies(app: FastifyInstance, { config, inFlight }: Pick<ScimPlugin, 'config' | 'inFlight'>): void {
  const { small, large } = scimBodyLimits(config)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    [MEDIA_TYPE, 'application/json'],
    async (request: FastifyRequest, payload: FastifyRequest['raw']) => {
      const { caller, routeOptions } = request
      if (caller?.mode === 'strict' && !isScim(request.headers['content-type'])) {
        throw new AppError('unsupported_media_type', `Send the body as ${MEDIA_TYPE}: this directory is strict.`)
      }
      if (!isUtf8(request.headers['content-type'])) {
        throw new AppError('unsupported_media_type', 'Send the body in UTF-8, the one encoding of JSON (RFC 8259).')
      }
      const limit = routeOptions.config.takesLargeBodies ? large : small
      return readJson(request, payload, { inFlight, limit, owner: caller?.workspaceId ?? request.ip })
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
  { db, authenticator }: { db: Db; authenticator: Authenticator },
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const refusal = toScimRefusal(error)
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
