import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Work } from '../db/work-class.ts'
import { workspaceParams } from '../http/params.ts'
import { problemResponses } from '../http/problem.ts'
import { instant } from '../http/validation.ts'
import { pageOf, pageQuery } from '../page.ts'
import { actions, listActivity } from './activity.ts'

const kinds = [...new Set([...actions.map(action => action.slice(0, action.indexOf('.'))), ...actions])]

const entry = z
  .object({
    id: z.string(),
    at: z.iso.datetime(),
    action: z.string().meta({ description: `One of ${actions.join(', ')}`, example: 'sso_sign_in.succeeded' }),
    outcome: z.enum(['succeeded', 'refused', 'failed']),
    reason: z.string().nullable().meta({ description: 'The stable code of a refusal' }),
    actor: z.object({
      type: z.enum(['member', 'user', 'service', 'directory', 'system']),
      id: z.string().nullable(),
    }),
    memberId: z.uuid().nullable(),
    target: z.object({ type: z.string(), id: z.string() }).nullable(),
    requestId: z.string().nullable().meta({ description: 'Finds the request in the service log' }),
    detail: z.record(z.string(), z.unknown()).meta({ description: 'What is needed to understand it, by action' }),
  })
  .meta({ id: 'ActivityEntry' })

const query = pageQuery.extend({
  after: z
    .string()
    .regex(/^\d{1,18}$/, 'must be the `next` of a page')
    .optional(),
  kind: z
    .enum(kinds as [string, ...string[]])
    .optional()
    .meta({
      description: 'An action, or an area such as `sso_sign_in` for all of its actions',
    }),
  actor: z.string().min(1).max(255).optional().meta({ description: 'The id of who did it' }),
  outcome: z.enum(['succeeded', 'refused', 'failed']).optional(),
  member: z.uuid().optional().meta({ description: 'The member whom it concerns' }),
  targetId: z.string().min(1).max(255).optional().meta({ description: 'The id of what it was done to' }),
  requestId: z.uuid().optional().meta({ description: 'The request that it was done in, as the service log names it' }),
  from: instant.optional().meta({ description: 'From this instant on' }),
  to: instant.optional().meta({ description: 'Before this instant' }),
})

/** The activity log of a workspace; guarded by the scope that it is registered in. */
export const activityRoutes: FastifyPluginAsyncZodOpenApi<{ work: Work }> = async (app, { work: { scans } }) => {
  app.get(
    '/v1/workspaces/:workspaceId/activity',
    {
      schema: {
        tags: ['Activity'],
        operationId: 'listActivity',
        summary: 'What happened, newest first',
        security: [{ assistToken: [] }],
        params: workspaceParams,
        querystring: query.strict(),
        response: { 200: pageOf(entry), ...problemResponses() },
      },
    },
    async request => {
      const { workspaceId } = request.params
      const { actor: actorId, member: memberId, ...filter } = request.query
      return scans.run(workspaceId, on => listActivity(on, { workspaceId, actorId, memberId, ...filter }))
    },
  )
}
