import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { refuseForeignOrigin } from '../../http/admin-auth.ts'
import { id } from '../../http/params.ts'
import { problemErrors, problemResponses } from '../../http/problem.ts'
import { setSessionCookie } from '../../http/session-cookie.ts'
import { createRateLimit } from '../../rate-limit.ts'
import { startRecovery } from './recovery.ts'
import { visitorAddress, visitorNetwork } from '../attempt/visitor.ts'

const attempt = z.strictObject({
  workspaceId: id,
  email: z.string().trim().max(320).meta({ example: 'owner@example.com' }),
  code: z.string().max(100).meta({ description: 'One of the recovery codes', example: '7K2MP-QX4TD-0VB9N-W3HRC' }),
})

const recoverySession = z
  .object({
    id: z.uuid(),
    workspaceId: z.uuid(),
    memberId: z.uuid(),
    expiresAt: z.iso.datetime(),
    sessionToken: z.string().optional().meta({
      description: 'Only where the front-end is on another site, which no cookie reaches: send it as a bearer',
    }),
  })
  .meta({ id: 'RecoverySession' })

/** People mistype codes; nobody types ten a minute. */
const attemptsPerMinute = 10

/** The way in for owners of a workspace that enforces SSO, when the identity provider is of no use. */
export const recoveryRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db }> = async (app, { config, db }) => {
  problemErrors(app)
  const attempts = createRateLimit({ perMinute: attemptsPerMinute })

  app.post(
    '/v1/recovery-sessions',
    {
      schema: {
        tags: ['Sign-in'],
        security: [],
        operationId: 'createRecoverySession',
        summary: 'Get at the SSO settings with a recovery code, for an hour',
        description:
          'For owners, while SSO is enforced. The session is good for domains and the SSO configuration, and has no access token.',
        body: attempt,
        response: { 201: recoverySession, ...problemResponses('recovery_code_invalid', 'rate_limited') },
      },
    },
    async (request, reply) => {
      if (request.headers.origin !== undefined) refuseForeignOrigin(config, request)
      attempts.use(visitorNetwork(request.ip))
      const address = visitorAddress(request.ip) ?? null
      const network = visitorNetwork(request.ip)
      const userAgent = request.headers['user-agent']?.slice(0, 500) ?? null
      const visitor = { address, network, userAgent, requestId: request.id }
      const { session, sessionToken } = await startRecovery(db, { ...request.body, visitor })
      const { id: sessionId, workspaceId, memberId, expiresAt } = session
      reply.code(201).header('cache-control', 'no-store')
      const answer = { id: sessionId, workspaceId, memberId, expiresAt }
      if (request.headers['sec-fetch-site'] === 'cross-site') return { ...answer, sessionToken }
      setSessionCookie(config, reply, { token: sessionToken, expiresAt })
      return answer
    },
  )
}
