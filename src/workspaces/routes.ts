import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../config.ts'
import { retryDeadlocks, type Db } from '../db/database.ts'
import { actorOf, requireServiceScope, type Authenticate } from '../http/admin-auth.ts'
import { problemErrors, problemResponses } from '../http/problem.ts'
import { workspaceParams } from '../http/params.ts'
import { getWorkspace, saveWorkspace } from './workspaces.ts'

const workspace = z
  .object({
    id: z.uuid(),
    name: z.string(),
    defaultRole: z.string(),
    version: z.int32(),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
  })
  .meta({ id: 'Workspace' })

const body = z.strictObject({
  name: z.string().trim().min(1).max(200).meta({ example: 'acme' }),
  defaultRole: z
    .string()
    .optional()
    .meta({ description: 'The role of a member to whom nothing else gives one; absent: it stays', example: 'member' }),
})

export interface WorkspaceRoutes {
  config: Config
  db: Db
  authenticate: Authenticate
}

/** What Assist's back-end calls when a workspace comes to be or is renamed. */
export const workspaceRoutes: FastifyPluginAsyncZodOpenApi<WorkspaceRoutes> = async (app, options) => {
  const { config, db, authenticate } = options
  problemErrors(app)
  requireServiceScope(app, authenticate, config.assistServiceScope)
  const shared = { tags: ['Workspaces'], security: [{ assistToken: [] }], params: workspaceParams }

  app.put(
    '/v1/workspaces/:workspaceId',
    {
      schema: {
        ...shared,
        operationId: 'saveWorkspace',
        summary: 'Create a workspace, or bring it to this state',
        body,
        response: { 200: workspace, ...problemResponses('role_unknown', 'last_owner') },
      },
    },
    async request => {
      const { workspaceId } = request.params
      const input = { id: workspaceId, ...request.body, actor: actorOf(request), config }
      return retryDeadlocks(() => db.transaction().execute(trx => saveWorkspace(trx, input)))
    },
  )

  app.get(
    '/v1/workspaces/:workspaceId',
    {
      schema: {
        ...shared,
        operationId: 'getWorkspace',
        summary: 'Get a workspace',
        response: { 200: workspace, ...problemResponses() },
      },
    },
    async request => getWorkspace(db, request.params.workspaceId),
  )
}
