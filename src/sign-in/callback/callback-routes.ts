import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import { AppError, type ErrorCode } from '../../errors.ts'
import { clearAttemptCookie, readAttemptCookie, setAttemptCookie } from '../../http/attempt-cookies.ts'
import { setBrowserHeaders } from '../../http/browser-headers.ts'
import { loginHint, workspaceParams } from '../../http/params.ts'
import { logRefusal, problemResponses, problemStatus } from '../../http/problem.ts'
import { createTurns } from '../../http/request-limits.ts'
import { asRefusal, finishSignIn, recordRefusedSignIn } from './finish-sign-in.ts'
import { failedUrl, type StartRequest } from '../attempt/front-end.ts'
import { AttemptRefusal } from '../attempt/attempts.ts'
import { startSignInTest } from '../sign-in-test/run-sign-in-test.ts'
import { createRateLimit } from '../../rate-limit.ts'
import { parseReturnTo } from '../attempt/return-to.ts'
import type { Visitor } from '../admission/sign-in.ts'
import { startSignIn, type AttemptDependencies } from '../attempt/start-sign-in.ts'
import { visitorAddress, visitorNetwork } from '../attempt/visitor.ts'
import { redirectErrors } from '../attempt/redirect-errors.ts'

const startQuery = z.strictObject({
  return_to: z
    .string()
    .optional()
    .meta({ description: 'A path of the front-end, or a URL at one of its origins', example: '/inbox' }),
  handoff_challenge: z.string().optional().meta({
    description: 'base64url(SHA-256(verifier)) of a random verifier that the front-end keeps for POST /v1/sessions',
    example: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
  }),
  login_hint: loginHint.optional(),
  prompt: z.enum(['select_account', 'login']).optional().meta({
    description: 'Asks the provider for another account, or for a new authentication',
  }),
  restarts: z.coerce.number().int().min(0).max(1).optional().meta({ description: 'Set by this service only' }),
})

/** Where a browser signs in: `start` sends it to the identity provider, which sends it back to `callback`. */
export const signInRoutes: FastifyPluginAsyncZodOpenApi<AttemptDependencies> = async (app, dependencies) => {
  const { config } = dependencies
  redirectErrors(app, config)
  const starts = createRateLimit({ perMinute: config.signInStartsPerMinute })
  const callbacks = createRateLimit({ perMinute: config.signInStartsPerMinute })
  // A quarter of the pool: with the half of its SCIM requests, a workspace leaves connections to the others.
  const turns = createTurns(Math.max(1, Math.floor(config.databasePoolSize / 4)))
  app.addHook('onRequest', async (request, reply) => {
    setBrowserHeaders(config, reply)
    refuseOtherMethods(request, reply)
  })
  const shared = { tags: ['Sign-in'], security: [], params: workspaceParams }
  const nothing = { description: 'A prefetch: nothing was used up' }
  const seeOther = { description: 'To the identity provider, or to the front-end (see `Location`)' }

  app.get(
    '/sso/:workspaceId/start',
    {
      exposeHeadRoute: false,
      schema: {
        ...shared,
        operationId: 'startSignIn',
        summary: 'Begin a sign-in: opened by the browser',
        querystring: startQuery,
        response: {
          204: nothing,
          303: seeOther,
          ...problemResponses('sso_return_to_invalid', 'sso_handoff_invalid', 'rate_limited'),
        },
      },
    },
    async (request, reply) => {
      if (isPrefetch(request)) return reply.code(204).send()
      const { workspaceId } = request.params
      const { return_to: returnTo, handoff_challenge: challenge, login_hint, prompt, restarts } = request.query
      const network = visitorNetwork(request.ip)
      let start: StartRequest | undefined
      const begin = async () => {
        start = {
          workspaceId,
          returnTo: parseReturnTo(returnTo, config),
          handoffChallenge: checkChallenge(challenge),
        }
        starts.use(`${workspaceId} ${network}`)
        const started = await startSignIn(dependencies, { start, network, prompt, restarts, loginHint: login_hint })
        setAttemptCookie(config, { request, reply }, started)
        return started.location
      }
      const location = await begin().catch((error: unknown) => refusedUrl(request, { workspaceId, start, error }))
      return reply.redirect(location, 303)
    },
  )

  app.get(
    '/sso/:workspaceId/callback',
    {
      exposeHeadRoute: false,
      schema: {
        ...shared,
        operationId: 'finishSignIn',
        summary: 'The redirect URI: opened by the browser, with the answer of the identity provider',
        description:
          'Takes the parameters of RFC 6749 §4.1.2 and RFC 9207; unknown ones are ignored, as RFC 6749 demands. Every ' +
          'outcome is a redirect to the front-end: its signed-in page with `code`, or its error page with `code`, `ref` and, ' +
          'where trying again makes sense, `retry`.',
        response: { 204: nothing, 303: seeOther, ...problemResponses('method_not_allowed', 'rate_limited') },
      },
    },
    async (request, reply) => {
      if (isPrefetch(request)) return reply.code(204).send()
      const { workspaceId } = request.params
      const query = new URL(request.url, config.publicUrl).searchParams
      const readCookie = (state: string) => readAttemptCookie(config, request, state)
      const finish = async () => {
        callbacks.use(`${workspaceId} ${visitorNetwork(request.ip)}`)
        const callback = { workspaceId, query, readCookie, visitor: visitorOf(request) }
        const { location, state, refusal } = await finishSignIn({ ...dependencies, takeTurn: turns.take }, callback)
        clearAttemptCookie(config, reply, state)
        if (refusal) logRefusal(refusal, problemStatus[refusal.code], request)
        return location
      }
      const location = await finish().catch((error: unknown) => {
        return refusedUrl(request, {
          workspaceId,
          start: error instanceof AttemptRefusal ? error.start : undefined,
          error,
        })
      })
      return reply.redirect(location, 303)
    },
  )

  app.get(
    '/sso/:workspaceId/sign-in-tests/:token',
    {
      exposeHeadRoute: false,
      schema: {
        ...shared,
        params: workspaceParams.extend({
          token: z
            .string()
            .max(200)
            .meta({ description: 'Of the start URL', example: 'tst_AZCmyI8AcACAAAAAAAAAAd2Yp0gK' }),
        }),
        operationId: 'startSignInTest',
        summary: 'Begin a sign-in test: opened by the browser of the admin who made it',
        response: { 204: nothing, 303: seeOther, ...problemResponses('rate_limited') },
      },
    },
    async (request, reply) => {
      if (isPrefetch(request)) return reply.code(204).send()
      const { workspaceId, token } = request.params
      const network = visitorNetwork(request.ip)
      const begin = async () => {
        starts.use(`${workspaceId} ${network}`)
        const started = await startSignInTest(dependencies, { workspaceId, token, network, requestId: request.id })
        if ('state' in started) setAttemptCookie(config, { request, reply }, started)
        return started.location
      }
      const location = await begin().catch((error: unknown) =>
        refusedUrl(request, { workspaceId, start: undefined, error }),
      )
      return reply.redirect(location, 303)
    },
  )

  /**
   * Records a refusal for the admin.
   * @returns the front-end's error page
   */
  async function refusedUrl(
    request: FastifyRequest,
    { workspaceId, start, error }: { workspaceId: string; start: StartRequest | undefined; error: unknown },
  ): Promise<string> {
    const refusal = asRefusal(error)
    logRefusal(refusal, problemStatus[refusal.code], request)
    const refused = { workspaceId, refusal, requestId: request.id, strangerFrom: visitorNetwork(request.ip) }
    if (!unrecorded.has(refusal.code)) {
      await recordRefusedSignIn(dependencies, refused).catch((cause: unknown) => {
        // The database is away: the log has the request.
        request.log.error({ err: cause }, 'refused sign-in was not recorded')
      })
    }
    return failedUrl(config, { code: refusal.code, ref: request.id, start })
  }

  answerOtherMethods(app)
}

/** Refusals without an entry: floods, and requests that no front-end of the workspace sends. */
const unrecorded = new Set<ErrorCode>(['rate_limited', 'sso_return_to_invalid', 'sso_handoff_invalid', 'invalid'])

/** Routes for the methods that browsers and scanners try, so that none of them is mistaken for a delivery. */
function answerOtherMethods(app: FastifyInstance): void {
  for (const url of [
    '/sso/:workspaceId/start',
    '/sso/:workspaceId/callback',
    '/sso/:workspaceId/sign-in-tests/:token',
  ]) {
    app.route({ method: ['HEAD', 'POST'], url, schema: { hide: true }, handler: async () => undefined })
  }
}

/** Before a body is read: HEAD and POST must neither start nor finish anything. */
function refuseOtherMethods(request: FastifyRequest, reply: FastifyReply): void {
  if (request.method === 'GET') return
  reply.header('allow', 'GET')
  throw new AppError(
    'method_not_allowed',
    'Only GET is answered here. If an identity provider posts its answer, set the response mode of this application there to query: response_mode=form_post withholds the cookies of this site.',
  )
}

/** A page that the browser fetches ahead of a click must not use anything up. */
function isPrefetch({ headers }: FastifyRequest): boolean {
  const purposes = [headers['sec-purpose'], headers.purpose, headers['x-purpose'], headers['x-moz']]
  return purposes.some(purpose => typeof purpose === 'string' && /\b(prefetch|preview)\b/i.test(purpose))
}

/** RFC 7636 §4.2, S256: 43 characters. */
function checkChallenge(challenge: string | undefined): string {
  if (challenge !== undefined && /^[A-Za-z0-9_-]{43}$/.test(challenge)) return challenge
  throw new AppError(
    'sso_handoff_invalid',
    'handoff_challenge must be base64url(SHA-256(verifier)), 43 characters: keep the verifier for POST /v1/sessions.',
  )
}

function visitorOf(request: FastifyRequest): Visitor {
  return {
    address: visitorAddress(request.ip) ?? null,
    network: visitorNetwork(request.ip),
    userAgent: request.headers['user-agent']?.slice(0, 500) ?? null,
    requestId: request.id,
  }
}
