import type { FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { RepeatedRefusals } from '../../activity/repeated-refusals.ts'
import { recordRefusal } from '../../activity/activity.ts'
import type { Config } from '../../config.ts'
import { AppError, type ErrorCode } from '../../errors.ts'
import { maxFormBytes, readForms } from '../../http/forms.ts'
import { workspaceParams } from '../../http/params.ts'
import { logRefusal, problemStatus } from '../../http/problem.ts'
import { toAppError } from '../../http/refusal.ts'
import { obeyLogoutToken, type LogoutDependencies } from './backchannel-logout.ts'
import { createRateLimit } from '../../rate-limit.ts'
import { visitorNetwork } from '../attempt/visitor.ts'

/** Other fields are ignored (Back-Channel Logout 1.0 §2.5). */
const logout = z.object({
  logout_token: z.string().min(1).max(16_384).meta({
    description: 'A JWT signed by the provider (Back-Channel Logout 1.0 section 2.4)',
    example: 'eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLmNvbSJ9.c2lnbmF0dXJl',
  }),
})

const failure = z
  .object({
    error: z.enum(['invalid_request', 'temporarily_unavailable']),
    error_description: z.string().meta({ description: 'Which check failed' }),
  })
  .meta({ id: 'LogoutFailure', description: 'Back-Channel Logout 1.0 section 2.8' })

/** What is no fault of the provider's request keeps its status; everything else is 400 (§2.8). */
const ownFaults = new Set([429, 500, 503])

/** Where an identity provider says that somebody has signed out there (Back-Channel Logout 1.0), a path a workspace. */
export const backchannelLogoutRoutes: FastifyPluginAsyncZodOpenApi<
  LogoutDependencies & { config: Config; repeatedRefusals: RepeatedRefusals }
> = async (app, { config, repeatedRefusals, ...dependencies }) => {
  readForms(app)
  app.addHook('onRequest', async (_request, reply) => void reply.header('cache-control', 'no-store'))
  app.setErrorHandler((error, request, reply) => {
    const refusal = toAppError(error, maxFormBytes)
    const status = ownFaults.has(problemStatus[refusal.code]) ? problemStatus[refusal.code] : 400
    logRefusal(refusal, status, request)
    if (refusal.retryAfter !== undefined) reply.header('retry-after', String(refusal.retryAfter))
    return reply
      .code(status)
      .type('application/json')
      .serializer(JSON.stringify)
      .send({
        error: isPassing(refusal) ? 'temporarily_unavailable' : 'invalid_request',
        error_description: describe(refusal),
      })
  })
  const tokens = createRateLimit({
    // Each token may cost a few signature verifications.
    perMinute: Math.min(300, config.signInStartsPerMinute),
    message: 'Too many invalid logout tokens came from this address. Try again after the seconds in Retry-After.',
  })
  const failed = { content: { 'application/json': { schema: failure } } }

  app.post(
    '/sso/:workspaceId/backchannel-logout',
    {
      schema: {
        tags: ['Sign-in'],
        security: [],
        params: workspaceParams,
        operationId: 'backchannelLogout',
        summary: 'Somebody has signed out at the provider: called by it',
        description:
          'Register it as the backchannel_logout_uri of the application. With `sid` the sessions of that session of the provider end, else all of `sub`, before the answer is sent.',
        body: { content: { 'application/x-www-form-urlencoded': { schema: logout } } },
        response: {
          200: { description: 'The sessions are over; also where they were before' },
          400: {
            description: `Codes in the activity log: ${named('sso_token_invalid', 'sso_idp_unreachable', 'sso_idp_error', 'sso_not_configured')}`,
            ...failed,
          },
          429: { description: `Too many invalid tokens: ${named('rate_limited')}`, ...failed },
          503: { description: `Try again: ${named('unavailable')}`, ...failed },
        },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const token = request.body?.logout_token
      if (token === undefined) throw new AppError('invalid', 'Send logout_token, as a form.')
      const giveBack = tokens.use(`${workspaceId} ${visitorNetwork(request.ip)}`)
      await obeyLogoutToken(dependencies, { workspaceId, token, requestId: request.id }).catch((error: unknown) =>
        refuse(request, { workspaceId, error }),
      )
      giveBack()
      return reply.code(200).send()
    },
  )

  /** Leaves an entry for the admin. The limit above bounds how many a stranger can cause. */
  async function refuse(
    request: FastifyRequest,
    { workspaceId, error }: { workspaceId: string; error: unknown },
  ): Promise<never> {
    const refusal = toAppError(error)
    if (!refusal.code.startsWith('sso_')) throw refusal
    if (refusal.code !== 'sso_not_configured') {
      const network = visitorNetwork(request.ip)
      const record = (more: Record<string, unknown>) =>
        recordRefusal(dependencies.db, {
          workspaceId,
          action: 'session.logout_refused',
          reason: refusal.code,
          actor: { type: 'system', id: 'sign-out', requestId: request.id },
          target: { type: 'sso_config', id: workspaceId },
          detail: { ...refusal.detail, ...more },
        })
      const key = `${workspaceId} ${network} ${refusal.code} ${String(refusal.detail?.reason)}`
      if (repeatedRefusals.isFirst(key, count => record({ count, network }))) await record({})
    }
    throw refusal
  }
}

function named(...codes: ErrorCode[]): string {
  return codes.map(code => `\`${code}\``).join(', ')
}

function isPassing({ code }: AppError): boolean {
  return code === 'sso_idp_unreachable' || ownFaults.has(problemStatus[code])
}

/** The check that failed: whoever runs the provider looks for it. */
function describe({ code, message, detail }: AppError): string {
  if (code === 'unsupported_media_type') return 'Send logout_token, as a form (application/x-www-form-urlencoded).'
  return code === 'sso_token_invalid' ? `The logout token is not valid here: ${String(detail?.reason)}.` : message
}
