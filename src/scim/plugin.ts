import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { recordRefusal } from '../activity/activity.ts'
import type { Config } from '../config.ts'
import type { Db } from '../db/database.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import { logRefusal } from '../http/problem.ts'
import { createAuthenticator, type Authenticator } from './credential.ts'
import { discoveryRoutes } from './discovery-routes.ts'
import { refusalReason, scimError, scimStatus, toScimRefusal } from './error.ts'
import { groupRoutes } from './group-routes.ts'
import { createAnchors } from './list.ts'
import { MEDIA_TYPE } from './routes.ts'
import { searchRoutes } from './search-routes.ts'
import { userRoutes } from './user-routes.ts'

/**
 * SCIM 2.0 (RFC 7643, RFC 7644) under /scim/v2/{directoryId}: the guard, the media types and the shape of errors, and
 * behind them the routes.
 */
export async function scim(app: FastifyInstance, { config, db }: { config: Config; db: Db }): Promise<void> {
  const authenticator = createAuthenticator(db)
  app.decorateRequest('caller', null)
  readScimBodies(app, config.scimMaxBodyBytes)
  app.setErrorHandler((error, request, reply) => sendRefusal({ db, authenticator }, error, request, reply))

  await app.register(
    async directory => {
      directory.addHook('onRequest', async request => {
        const { directoryId } = request.params as { directoryId: string }
        const { authorization } = request.headers
        const caller = await authenticator.authenticate(directoryId.toLowerCase(), authorization)
        request.caller = caller
        request.actor = { type: 'directory', id: caller.directoryId, workspaceId: caller.workspaceId }
      })
      const options = { config, db, anchors: createAnchors() }
      await directory.register(discoveryRoutes, options)
      await directory.register(userRoutes, options)
      await directory.register(groupRoutes, options)
      await directory.register(searchRoutes, options)
      refuseTheRest(directory)
    },
    { prefix: '/scim/v2/:directoryId' },
  )
}

/** JSON under both of its names, of any size up to the limit; a request without a body may well name a type. */
function readScimBodies(app: FastifyInstance, bodyLimit: number): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser<string>(
    [MEDIA_TYPE, 'application/json'],
    { parseAs: 'string', bodyLimit },
    (_request, body, done) => {
      if (body === '') {
        done(null, undefined)
        return
      }
      try {
        done(null, JSON.parse(body))
      } catch (cause) {
        done(new AppError('malformed_json', 'The request body is not valid JSON.', { cause }))
      }
    },
  )
}

function refuseTheRest(app: FastifyInstance): void {
  app.all('/Me', { schema: { hide: true } }, async () => {
    throw new AppError('scim_not_implemented', 'A directory token stands for no person, so there is no /Me.')
  })
  app.all('/*', { schema: { hide: true } }, async () => {
    throw new AppError('not_found', 'There is no such endpoint: see /ResourceTypes.')
  })
}

/** What needs no entry: that something is not there, and what is no fault of the request. */
const unrecorded: ReadonlySet<ErrorCode> = new Set(['not_found', 'rate_limited', 'unavailable', 'internal'])

async function sendRefusal(
  { db, authenticator }: { db: Db; authenticator: Authenticator },
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const refusal = toScimRefusal(error)
  const status = scimStatus(refusal.code)
  logRefusal(refusal, status, request)
  await record({ db, authenticator }, refusal, request).catch((cause: unknown) => {
    request.log.error({ err: cause }, 'the refusal could not be recorded')
  })
  if (refusal.retryAfter !== undefined) reply.header('retry-after', String(refusal.retryAfter))
  if (status === 401) reply.header('www-authenticate', 'Bearer realm="SCIM"')
  return reply
    .code(status)
    .type(MEDIA_TYPE)
    .send(JSON.stringify(scimError(refusal)))
}

/** Tells the workspace's admins what was refused and why, as the provider's own log rarely does. */
async function record(
  { db, authenticator }: { db: Db; authenticator: Authenticator },
  refusal: AppError,
  request: FastifyRequest,
): Promise<void> {
  const { code, message, errors } = refusal
  if (code === 'unauthenticated') {
    const { directoryId } = request.params as { directoryId: string }
    return authenticator.recordUnauthenticated(directoryId.toLowerCase(), refusal, request.id)
  }
  const { caller, actor } = request
  if (!caller || !actor || unrecorded.has(code)) return
  const path = request.routeOptions.url?.replace('/scim/v2/:directoryId', '')
  await recordRefusal(db, {
    workspaceId: caller.workspaceId,
    action: 'directory.request_refused',
    reason: refusalReason(code),
    actor: { ...actor, requestId: request.id },
    target: { type: 'directory', id: caller.directoryId },
    detail: { method: request.method, path, status: scimStatus(code), message, pointer: errors?.[0]?.pointer },
  })
}
