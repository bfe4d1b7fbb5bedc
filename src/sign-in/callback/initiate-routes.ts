import type { FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { setBrowserHeaders } from '../../http/browser-headers.ts'
import { maxFormBytes, readForms } from '../../http/forms.ts'
import { loginHint, workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import type { SecretBox } from '../../secret-box.ts'
import { findSignInConfig } from '../../sso/config/sso-config.ts'
import { initiatedUrl } from '../attempt/front-end.ts'
import { createRateLimit } from '../../rate-limit.ts'
import { returnToOrFrontPage } from '../attempt/return-to.ts'
import { visitorNetwork } from '../attempt/visitor.ts'
import { redirectErrors } from '../attempt/redirect-errors.ts'

/** Parameters of Core §4, and `client_id` of the Enterprise Extensions; unknown ones are ignored, as Core demands. */
const initiation = z.object({
  iss: z.string().max(1100).optional().meta({ description: 'The issuer of the workspace, character by character' }),
  client_id: z.string().max(255).optional().meta({ description: 'Where it is sent, it must be ours at this issuer' }),
  // A portal may send a parameter without a value.
  login_hint: z.literal('').or(loginHint).optional(),
  target_link_uri: z.string().optional().meta({
    description: 'Where to be after signing in; what is no place of the front-end means its front page',
  }),
})
type Initiation = z.output<typeof initiation>

export interface InitiateOptions {
  config: Config
  db: Db
  box: SecretBox
}

/**
 * Third-party-initiated login (Core §4): the tile in a provider's portal. It proves nothing and signs nobody in. The
 * front-end's page makes a verifier, and then begins a sign-in like any other, with state, nonce and PKCE of its own.
 */
export const initiateRoutes: FastifyPluginAsyncZodOpenApi<InitiateOptions> = async (app, { config, db, box }) => {
  redirectErrors(app, config, maxFormBytes)
  readForms(app)
  app.addHook('onRequest', async (_request, reply) => setBrowserHeaders(config, reply))
  app.addHook('preValidation', async request => {
    request.query = withoutRepeats(request.query as Parameters)
    if (request.body !== undefined) request.body = withoutRepeats(request.body as Parameters)
  })
  const visits = createRateLimit({ perMinute: config.signInStartsPerMinute })
  const url = '/sso/:workspaceId/initiate'

  app.get(
    url,
    {
      schema: {
        ...describe(),
        operationId: 'initiateSignIn',
        summary: "Begin at the provider's portal: opened by the browser",
        querystring: initiation,
      },
    },
    (request, reply) => initiate(request, reply, { ...request.params, ...request.query }),
  )

  app.post(
    url,
    {
      schema: {
        ...describe(),
        operationId: 'initiateSignInByPost',
        summary: 'The same by a form',
        body: { content: { 'application/x-www-form-urlencoded': { schema: initiation } } },
      },
    },
    (request, reply) => initiate(request, reply, { ...request.params, ...request.body }),
  )

  async function initiate(
    request: FastifyRequest,
    reply: FastifyReply,
    { workspaceId, iss, client_id: clientId, login_hint: hint, target_link_uri: target }: Initiation & Workspace,
  ): Promise<FastifyReply> {
    visits.use(`${workspaceId} ${visitorNetwork(request.ip)}`)
    const signInConfig = await findSignInConfig(db, box, workspaceId)
    if (!signInConfig) throw new AppError('sso_not_configured', 'Single sign-on is not set up for this workspace.')
    if (iss !== signInConfig.issuer || (clientId && clientId !== signInConfig.clientId)) {
      throw new AppError(
        'sso_issuer_mismatch',
        'A sign-in is begun here by the identity provider of this workspace only: iss must be its issuer, character by character, and client_id, where sent, the one of its SSO configuration.',
      )
    }
    const returnTo = returnToOrFrontPage(target, config)
    return reply.redirect(initiatedUrl(config, { workspaceId, returnTo, loginHint: hint || undefined }), 303)
  }
}

type Parameters = Record<string, string | string[]>

/**
 * Portals append `iss` to a link that has it already (OneLogin and JumpCloud take plain links, which the guide gives with it).
 * A parameter that comes again with the same value says nothing new.
 * @throws {AppError} `sso_issuer_mismatch`, `invalid` where the values differ
 */
function withoutRepeats(parameters: Parameters): Record<string, string> {
  const entries = Object.entries(parameters).map(([name, values]) => {
    const [value = '', ...more] = new Set([values].flat())
    if (more.length === 0) return [name, value] as const
    const again = `${name} is there more than once, with different values.`
    throw name === 'iss'
      ? new AppError(
          'sso_issuer_mismatch',
          `${again} Register the address of this page with the issuer of this workspace, or without any.`,
        )
      : new AppError('invalid', `${again} Send it once.`)
  })
  return Object.fromEntries(entries)
}

/** Made for each route: the description of one must not share objects with that of the other. */
function describe() {
  return {
    tags: ['Sign-in'],
    security: [],
    params: workspaceParams,
    description:
      'Register it as the initiate_login_uri of the application. A foreign or missing `iss` starts nothing, and is never fetched.',
    response: {
      303: { description: "To the front-end's page that begins the sign-in" },
      ...problemResponses('sso_issuer_mismatch', 'sso_not_configured', 'rate_limited'),
    },
  }
}

interface Workspace {
  workspaceId: string
}
