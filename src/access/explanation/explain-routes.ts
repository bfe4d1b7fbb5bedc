import { Readable } from 'node:stream'
import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import type { Work } from '../../db/work-class.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { id, workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { instant } from '../../http/validation.ts'
import { idPageQuery, pageOf } from '../../page.ts'
import { reportAccess, reportAccessAsCsv } from './access-report.ts'
import { defaultRoleChange, getDefaultRole, setDefaultRole } from '../mappings/default-role.ts'
import { explainAccess } from './explain.ts'
import { accessPreview, previewQuery, previewVersion, roleReason } from '../mappings/preview-schema.ts'
import { previewAccess } from '../derivation/preview.ts'
import { reconcileAccess } from '../derivation/reconcile.ts'

const role = z.string().meta({ description: "One of this deployment's roles", example: 'member' })
const at = instant.optional().meta({
  description: 'An instant in the past; absent: now',
  example: '2026-03-01T00:00:00Z',
})

const causingEntry = z
  .object({
    id: z.string().meta({ description: 'Of the activity entry' }),
    at: z.iso.datetime(),
    action: z.string(),
    actor: z.object({ type: z.enum(['member', 'user', 'service', 'directory', 'system']), id: z.string().nullable() }),
    requestId: z.string().nullable(),
  })
  .meta({ id: 'CausingEntry' })

const changedBy = causingEntry.nullable().meta({ description: 'The entry that made it so' })

const explainedAccess = z
  .object({
    memberId: z.uuid(),
    at: z.string(),
    status: z.object({ value: z.string(), changedBy }),
    role: z.object({ value: role, why: roleReason, changedBy }),
    groups: z.array(z.object({ id: z.uuid(), name: z.string().nullable(), mappingIds: z.array(z.uuid()), changedBy })),
    rules: z
      .array(
        z.object({
          mappingId: z.uuid(),
          directoryId: z.uuid().nullable(),
          scimGroupId: z.uuid().nullable(),
          scimGroupName: z.string().nullable(),
          claimedGroup: z.string().nullable(),
          role: role.nullable(),
          groupId: z.uuid().nullable(),
          outcome: z.enum(['gives_role', 'outranked', 'gives_no_role']),
          changedBy,
        }),
      )
      .meta({ description: 'All mappings that reach the member, those that lost too' }),
    manual: z.object({ role, policy: z.enum(['floor', 'locked']), changedBy }).nullable(),
    defaultRole: z.object({ role, changedBy }),
  })
  .meta({ id: 'ExplainedAccess' })

const accessReport = pageOf(
  z.object({
    memberId: z.uuid(),
    email: z.string().nullable().meta({ description: 'As it is now: the history keeps no addresses' }),
    displayName: z.string().nullable(),
    role,
    groups: z.array(z.object({ id: z.uuid(), name: z.string().nullable() })),
    since: z.string().meta({ description: 'Since when they had access without a break, at that instant' }),
  }),
)
  .extend({ at: z.string() })
  .meta({ id: 'AccessReport' })

/** Who has which access and why, now and then; guarded by the scope that it is registered in. */
export const explainRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db; work: Work }> = async (
  app,
  { config, db, work: { scans, batches } },
) => {
  const { roles } = config
  const shared = { tags: ['Access'], security: [{ assistToken: [] }], params: workspaceParams }
  const workspace = '/v1/workspaces/:workspaceId'

  app.get(
    `${workspace}/members/:memberId/access`,
    {
      schema: {
        ...shared,
        params: workspaceParams.extend({ memberId: id }),
        operationId: 'explainAccess',
        summary: 'Why a member has their role and groups, now or at an instant',
        querystring: z.strictObject({ at }),
        response: { 200: explainedAccess, ...problemResponses('at_in_future', 'at_before_history') },
      },
    },
    async request => explainAccess(db, { ...request.params, ...request.query, roles }),
  )

  app.get(
    `${workspace}/access-report`,
    {
      schema: {
        ...shared,
        operationId: 'reportAccess',
        summary: 'Everybody with access, now or at an instant',
        querystring: idPageQuery.extend({ at }).strict(),
        response: { 200: accessReport, ...problemResponses('at_in_future', 'at_before_history') },
      },
    },
    async request =>
      scans.run(request.params.workspaceId, on => reportAccess(on, { ...request.params, ...request.query })),
  )

  app.get(
    `${workspace}/access-report.csv`,
    {
      schema: {
        ...shared,
        operationId: 'reportAccessAsCsv',
        summary: 'Everybody with access, now or at an instant, as one CSV file',
        querystring: z.strictObject({ at }),
        response: {
          200: {
            description: 'Lines of at, member_id, email, display_name, role, groups, since',
            content: { 'text/csv': { schema: z.custom<Readable>().meta({ override: { type: 'string' } }) } },
          },
          ...problemResponses('at_in_future', 'at_before_history'),
        },
      },
    },
    async (request, reply) => {
      const lines = await reportAccessAsCsv(scans, { ...request.params, ...request.query })
      reply.type('text/csv; charset=utf-8').header('content-disposition', 'attachment; filename="access-report.csv"')
      return reply.send(Readable.from(lines))
    },
  )

  app.post(
    `${workspace}/access/reconcile`,
    {
      schema: {
        ...shared,
        operationId: 'reconcileAccess',
        summary: "Derive everybody's access anew from its sources, and repair what differs: expected none",
        response: {
          200: z.object({ members: z.int32(), repaired: z.int32() }).meta({ id: 'Reconciliation' }),
          ...problemResponses(),
        },
      },
    },
    async request => {
      const reconciliation = { ...request.params, actor: actorOf(request), roles }
      return batches.transact(request.params.workspaceId, trx => reconcileAccess(trx, reconciliation))
    },
  )

  app.get(
    `${workspace}/default-role`,
    {
      schema: {
        ...shared,
        operationId: 'getDefaultRole',
        summary: 'The role of members to whom nothing else gives one',
        response: { 200: z.object({ role }), ...problemResponses() },
      },
    },
    async request => ({ role: await getDefaultRole(db, request.params.workspaceId) }),
  )

  app.put(
    `${workspace}/default-role`,
    {
      schema: {
        ...shared,
        operationId: 'setDefaultRole',
        summary: 'Set the default role; access changes at once',
        body: z.strictObject({ role, previewVersion }),
        response: {
          200: z.object({ role }),
          ...problemResponses('role_unknown', 'role_above_own', 'last_owner', 'preview_stale'),
        },
      },
    },
    async request => {
      const change = { ...request.params, ...request.body, actor: actorOf(request), roles }
      await batches.transact(request.params.workspaceId, trx => setDefaultRole(trx, change))
      return { role: change.role }
    },
  )

  app.post(
    `${workspace}/default-role/preview`,
    {
      schema: {
        ...shared,
        operationId: 'previewDefaultRole',
        summary: 'Who would gain, lose and keep what with another default role',
        querystring: previewQuery.strict(),
        body: z.strictObject({ role }),
        response: { 200: accessPreview, ...problemResponses('role_unknown', 'role_above_own') },
      },
    },
    async request => {
      const change = { ...request.params, ...request.body, actor: actorOf(request), roles }
      const question = { ...request.query, roles }
      return scans.run(request.params.workspaceId, async on =>
        previewAccess(on, await defaultRoleChange(on, change), question),
      )
    },
  )
}
