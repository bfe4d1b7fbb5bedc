import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { actorOf } from '../http/admin-auth.ts'
import { id, workspaceParams } from '../http/params.ts'
import { problemResponses } from '../http/problem.ts'
import { idPageQuery, pageOf } from '../page.ts'
import { endSessions } from './end-sessions.ts'
import { getMember } from './members.ts'
import { listedSession } from './session-schema.ts'
import { listSessions } from './sessions.ts'

const session = z.object({ ...listedSession, memberId: z.uuid() }).meta({ id: 'WorkspaceSession' })

const sessionsEnded = z
  .object({ sessionsEnded: z.int32().meta({ description: 'Those that were over are not counted' }) })
  .meta({ id: 'SessionsEnded' })

/**
 * Who is signed in where, and the end of it; guarded by the scope that it is registered in. Ending sessions takes nothing
 * from a member but their next click: it needs no higher role than theirs.
 */
export const workspaceSessionRoutes: FastifyPluginAsyncZodOpenApi<{ db: Db }> = async (app, { db }) => {
  const list = '/v1/workspaces/:workspaceId/sessions'
  const shared = { tags: ['Members'], security: [{ assistToken: [] }] }

  app.get(
    list,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'listWorkspaceSessions',
        summary: 'Who is signed in, and where',
        querystring: idPageQuery.extend({ memberId: id.optional() }).strict(),
        response: { 200: pageOf(session), ...problemResponses() },
      },
    },
    async request => listSessions(db, { ...request.params, ...request.query }),
  )

  app.delete(
    list,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'endWorkspaceSessions',
        summary: 'Sign everybody out, at once',
        description: 'Members stay members, and can sign in again. It ends the session of the caller too.',
        response: { 200: sessionsEnded, ...problemResponses() },
      },
    },
    async request => {
      const ending = { ...request.params, reason: 'ended_by_admin', actor: actorOf(request) } as const
      return { sessionsEnded: await endSessions(db, ending) }
    },
  )

  app.delete(
    `${list}/:sessionId`,
    {
      schema: {
        ...shared,
        params: workspaceParams.extend({ sessionId: id }),
        operationId: 'endWorkspaceSession',
        summary: 'Sign somebody out in one place',
        response: { 204: { description: 'The session is over' }, ...problemResponses() },
      },
    },
    async (request, reply) => {
      const ending = { ...request.params, reason: 'ended_by_admin', actor: actorOf(request) } as const
      if ((await endSessions(db, ending)) === 0) {
        throw new AppError('not_found', 'There is no such session, or it is over already.')
      }
      return reply.code(204).send()
    },
  )

  app.delete(
    '/v1/workspaces/:workspaceId/members/:memberId/sessions',
    {
      schema: {
        ...shared,
        params: workspaceParams.extend({ memberId: id }),
        operationId: 'endMemberSessions',
        summary: 'Sign a member out everywhere, at once',
        response: { 200: sessionsEnded, ...problemResponses() },
      },
    },
    async request => {
      await getMember(db, request.params)
      const ending = { ...request.params, reason: 'ended_by_admin', actor: actorOf(request) } as const
      return { sessionsEnded: await endSessions(db, ending) }
    },
  )
}
