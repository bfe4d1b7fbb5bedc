import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import fastify, { LogController } from 'fastify'
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { JWTVerifyGetKey } from 'jose'
import { explainRoutes } from './access/explanation/explain-routes.ts'
import { memberRoutes } from './access/members/member-routes.ts'
import { accessRoutes } from './access/mappings/mapping-routes.ts'
import { createRepeatedRefusals } from './activity/repeated-refusals.ts'
import { activityRoutes } from './activity/routes.ts'
import type { Actor } from './actor.ts'
import type { Config } from './config.ts'
import type { Db } from './db/database.ts'
import { createWorkClass, type Work } from './db/work-class.ts'
import { directoryRoutes } from './directories/routes.ts'
import { AppError } from './errors.ts'
import { authenticator, requireSettingsAdmin, requireWorkspaceAdmin } from './http/admin-auth.ts'
import { assistTokenVerifier } from './http/assist-token.ts'
import { createBytesInFlight } from './http/body/bytes-in-flight.ts'
import { readJsonBodies } from './http/body/json-bodies.ts'
import { releaseBodies } from './http/body/read-body.ts'
import { docsRoutes } from './http/docs.ts'
import { healthRoutes } from './http/health.ts'
import { logRequests, requestLogger } from './http/log.ts'
import { createRequestLimits } from './http/request-limits.ts'
import { problemErrors, sendProblem } from './http/problem.ts'
import { answerConnectionError, maxHeaderBytes, refuseEncodedBodies, refuseMalformedUrls } from './http/raw-requests.ts'
import { maxBodyBytes, toAppError } from './http/refusal.ts'
import { refuseUnreadInput } from './http/unread-input.ts'
import { zodCompilers } from './http/validation.ts'
import { createAccessTokens } from './sign-in/session/access-tokens.ts'
import { backchannelLogoutRoutes } from './sign-in/session/backchannel-logout-routes.ts'
import { initiateRoutes } from './sign-in/callback/initiate-routes.ts'
import { signInOptionsRoutes } from './sign-in/options/sign-in-options-routes.ts'
import { recoveryRoutes } from './sign-in/recovery/recovery-routes.ts'
import { signInRoutes } from './sign-in/callback/callback-routes.ts'
import { sessionRoutes } from './sign-in/session/session-routes.ts'
import { workspaceSessionRoutes } from './members/workspace-session-routes.ts'
import { getSessionById, getSessionByToken, sessionActor } from './members/sessions.ts'
import { createOutboundFetch, type OutboundOptions } from './oidc/outbound-fetch.ts'
import { createProviders } from './oidc/provider.ts'
import { scimError, toScimRefusal } from './scim/http/error.ts'
import { scim } from './scim/plugin.ts'
import { clientKeyRoutes } from './sso/credentials/client-key-routes.ts'
import { credentialRoutes } from './sso/credentials/credential-routes.ts'
import { recordBlocked } from './sso/enforcement/enforcement.ts'
import { enforcementRoutes } from './sso/enforcement/enforcement-routes.ts'
import { signInTestRoutes } from './sign-in/sign-in-test/sign-in-test-routes.ts'
import { ssoRoutes } from './sso/saving/sso-routes.ts'
import { signInPolicyRoutes } from './sso/policy/sign-in-policy-routes.ts'
import { createSecretBox } from './secret-box.ts'
import { uuid7 } from './uuid7.ts'
import { domainRoutes } from './workspaces/domain-routes.ts'
import { createTxtResolver } from './workspaces/txt-records.ts'
import { workspaceRoutes } from './workspaces/routes.ts'
import { findGatedWorkspace } from './workspaces/workspaces.ts'

export interface AppOptions {
  config: Config
  db: Db
  /** Connections for work that a tenant can make expensive; absent: those of `db`. */
  workDbs?: { scans: Db; batches: Db } | undefined
  logger: FastifyBaseLogger
  /** The public keys of Assist's access tokens. */
  assistKeys: JWTVerifyGetKey
  /** How identity providers are reached, over what the settings say: tests have a small internet of their own. */
  outbound?: Partial<OutboundOptions> & { failureStepMs?: number }
  /** How long refusals of one stranger for one reason share an entry, in milliseconds. */
  repeatWindowMs?: number
  /** A plugin that sees every route as it is made, such as the one that describes them. */
  observer?: FastifyPluginAsync
}

/** The service: every plugin, in order. Tests build the same app. */
export async function buildApp({
  config,
  db,
  workDbs = { scans: db, batches: db },
  logger,
  assistKeys,
  outbound = {},
  repeatWindowMs = 600_000,
  observer,
}: AppOptions): Promise<FastifyInstance> {
  const app = fastify({
    loggerInstance: logger,
    childLoggerFactory: requestLogger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: uuid7,
    schemaController: { compilersFactory: zodCompilers },
    trustProxy: config.trustedProxies.length > 0 ? config.trustedProxies : false,
    bodyLimit: maxBodyBytes,
    forceCloseConnections: 'idle',
    // Longer than identity providers and load balancers keep idle connections, so that the client closes first.
    keepAliveTimeout: 75_000,
    requestTimeout: 60_000,
    // A request that comes in on an open connection while stopping is finished like the ones before it.
    return503OnClosing: false,
    http: { maxHeaderSize: maxHeaderBytes },
    // A domain name, the longest name in a path, has 253 characters at most.
    routerOptions: { maxParamLength: 256 },
    clientErrorHandler: answerConnectionError,
    frameworkErrors: (error, request, reply) => void answerUnroutable(error, request, reply),
  })
  app.decorateRequest('actor', null)
  app.removeAllContentTypeParsers()
  logRequests(app)
  refuseEncodedBodies(app)
  refuseMalformedUrls(app)
  const inFlight = createBytesInFlight({
    replica: config.bodyBytesInFlight,
    owner: config.bodyBytesInFlightPerWorkspace,
  })
  releaseBodies(app)
  readJsonBodies(app, inFlight)
  problemErrors(app)
  app.setNotFoundHandler(async request => {
    throw new AppError('not_found', `There is no ${request.method} here. See /docs for what there is.`)
  })

  const slots = config.databaseScanConnections
  const work: Work = {
    scans: createWorkClass({ db: workDbs.scans, slots }),
    batches: createWorkClass({ db: workDbs.batches, slots }),
  }
  const box = createSecretBox(config)
  const accessTokens = createAccessTokens({ config, db, box })
  const authenticate = authenticator(config, {
    assistToken: assistTokenVerifier(config, assistKeys),
    ownToken: async token => sessionActor(await getSessionById(db, await accessTokens.verify(token))),
    sessionToken: async token => sessionActor(await getSessionByToken(db, token)),
  })

  const { failureStepMs, ...network } = outbound
  const guard = createOutboundFetch({
    allowedNetworks: config.outboundAllowedNetworks,
    allowedPorts: config.outboundPorts,
    allowHttp: config.outboundAllowHttp,
    ...network,
  })
  app.addHook('onClose', () => guard.close())
  const providers = createProviders({
    guard,
    allowHttp: config.outboundAllowHttp,
    clockToleranceSeconds: config.clockToleranceSeconds,
    ...(failureStepMs !== undefined && { failureStepMs }),
  })

  await app.register(cookie)
  await app.register(cors, {
    origin: config.frontendOrigins,
    credentials: true,
    methods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    // OPTIONS from what is no browser is answered like any preflight, and not as a malformed one.
    strictPreflight: false,
  })
  if (observer) await app.register(observer)

  const repeatedRefusals = createRepeatedRefusals({
    windowMs: repeatWindowMs,
    onError: error => logger.warn({ err: error }, 'repeated refusals were not recorded'),
  })
  app.addHook('onClose', () => repeatedRefusals.flush())

  // Open to all
  await app.register(healthRoutes, { db })
  await app.register(docsRoutes)
  await app.register(clientKeyRoutes, { db })
  await app.register(signInRoutes, { config, db, box, providers, repeatedRefusals })
  await app.register(initiateRoutes, { config, db, box })
  await app.register(backchannelLogoutRoutes, { config, db, box, providers, repeatedRefusals })
  await app.register(sessionRoutes, { config, db, box, providers, accessTokens })
  await app.register(signInOptionsRoutes, { config, db, authenticate })
  await app.register(recoveryRoutes, { config, db })

  // Assist's back-ends
  await app.register(workspaceRoutes, { config, db, authenticate })

  // Identity providers that keep a directory in sync
  await app.register(scim, { config, db, work, box, inFlight })

  const adminGate = {
    config,
    authenticate,
    findWorkspace: (id: string) => findGatedWorkspace(db, id),
    onBlocked: (blocked: { workspaceId: string; actor: Actor }) => recordBlocked(db, blocked),
    limits: createRequestLimits({
      requestsPerSecond: config.adminRequestsPerSecond,
      burst: config.adminBurstRequests,
      concurrent: config.adminConcurrentRequests,
      subject: 'A workspace',
    }),
  }

  // Admins of a workspace
  await app.register(async admin => {
    problemErrors(admin)
    requireWorkspaceAdmin(admin, adminGate)
    refuseUnreadInput(admin)
    await admin.register(activityRoutes, { work })
    await admin.register(memberRoutes, { config, db })
    await admin.register(accessRoutes, { config, db, work })
    await admin.register(explainRoutes, { config, db, work })
    await admin.register(workspaceSessionRoutes, { db })
    await admin.register(directoryRoutes, { config, db, work })
  })

  // How people sign in: also for owners who come by a recovery code
  await app.register(async settings => {
    problemErrors(settings)
    requireSettingsAdmin(settings, adminGate)
    refuseUnreadInput(settings)
    await settings.register(domainRoutes, { config, db, resolveTxt: createTxtResolver(config) })
    await settings.register(ssoRoutes, { config, db, box, providers })
    await settings.register(credentialRoutes, { db, box })
    await settings.register(signInTestRoutes, { config, db, box, providers })
    await settings.register(enforcementRoutes, { config, db, box, work })
    await settings.register(signInPolicyRoutes, { config, db })
  })

  return app
}

/** A URL that cannot be decoded belongs to no route, and so to no scope that would shape the answer. */
function answerUnroutable(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (!request.url.startsWith('/scim/')) return sendProblem(toAppError(error), request, reply)
  const refusal = scimError(toScimRefusal(error))
  return reply.code(Number(refusal.status)).type('application/scim+json').serializer(JSON.stringify).send(refusal)
}
