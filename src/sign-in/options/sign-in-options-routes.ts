import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import type { Authenticate } from '../../http/admin-auth.ts'
import { id, loginHint } from '../../http/params.ts'
import { problemErrors, problemResponses } from '../../http/problem.ts'
import { findSignInOptions } from './sign-in-options.ts'
import { createRateLimit } from '../../rate-limit.ts'
import { visitorNetwork } from '../attempt/visitor.ts'

const question = z
  .strictObject({
    // Keyboards and copied texts put blanks around it.
    email: z
      .string()
      .trim()
      .pipe(loginHint)
      .optional()
      .meta({ description: 'What the person typed', example: 'ana@example.com' }),
    workspaceId: id.optional().meta({ description: 'Where they want to go; it alone decides then' }),
  })
  .refine(body => body.email !== undefined || body.workspaceId !== undefined, 'must name an email or a workspaceId')

const signInOptions = z
  .object({
    sso: z
      .object({
        workspaceId: z.uuid(),
        startUrl: z.url().meta({ description: 'Add return_to and handoff_challenge, and open it in the browser' }),
      })
      .nullable()
      .meta({ description: 'null: no SSO here' }),
    passwordOpen: z.boolean().meta({
      description:
        'Whether anything else than SSO may let them in: passwords, magic links, resets, other accounts. Ask before each',
    }),
  })
  .meta({ id: 'SignInOptions' })

export interface SignInOptionsRoutes {
  config: Config
  db: Db
  authenticate: Authenticate
}

/** Where people find out how to sign in, before they are anybody; and what Assist's back-end asks before it opens another way. */
export const signInOptionsRoutes: FastifyPluginAsyncZodOpenApi<SignInOptionsRoutes> = async (app, options) => {
  const { config, authenticate } = options
  problemErrors(app)
  const questions = createRateLimit({ perMinute: config.signInStartsPerMinute })

  app.post(
    '/v1/sign-in-options',
    {
      schema: {
        tags: ['Sign-in'],
        security: [{}, { assistToken: [] }],
        operationId: 'getSignInOptions',
        summary: 'Which ways to sign in are open, by workspace or by e-mail address',
        description:
          'By an address: that of the workspace that has proved its domain. The answer never says whether a person, a ' +
          'workspace or a configuration exists. Limited by network; not for back-ends of Assist, with their token.',
        body: question,
        response: { 200: signInOptions, ...problemResponses('rate_limited') },
      },
    },
    async (request, reply) => {
      if (request.headers.authorization !== undefined) await authenticate(request)
      if (request.actor?.type !== 'service') questions.use(visitorNetwork(request.ip))
      reply.header('cache-control', 'no-store')
      return findSignInOptions(options, request.body)
    },
  )
}
