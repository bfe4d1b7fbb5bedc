import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { id, workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { ifMatchHeader, withEtag } from '../../http/versions.ts'
import { parseEmail } from '../../members/email.ts'
import { getMember, listMembers } from '../../members/members.ts'
import { idPageQuery, pageOf } from '../../page.ts'
import { inviteMember, withdrawInvitation } from './invitations.ts'
import {
  changeManualRole,
  deactivateMember,
  reactivateMember,
  renameMember,
  resetIdentities,
} from './member-changes.ts'

const status = z.enum(['invited', 'active', 'deactivated'])
const role = z.string().meta({ description: "One of this deployment's roles", example: 'member' })

const member = z
  .object({
    id: z.uuid(),
    email: z.string().nullable(),
    displayName: z.string().nullable(),
    status,
    deactivatedBy: z.enum(['admin', 'directory']).nullable(),
    role: role.meta({ description: 'What all sources together give: mappings, the default role and the manual role' }),
    manualRole: role.nullable(),
    manualPolicy: z.enum(['floor', 'locked']).nullable().meta({
      description: 'floor: never below the manual role; locked: exactly it',
    }),
    origin: z.enum(['invite', 'sso', 'directory']).meta({ description: 'How they came to be' }),
    invitationExpiresAt: z.iso.datetime().nullable(),
    ownedBy: z
      .object({
        email: z.enum(['directory', 'sso', 'admin']),
        displayName: z.enum(['directory', 'admin']),
        status: z.enum(['directory', 'admin']),
        role: z.enum(['manual', 'mappings', 'default']),
      })
      .meta({ description: 'Who decides on what; what a directory does is refused here with `directory_owned`' }),
    directoryUsers: z
      .array(z.object({ directoryId: z.uuid(), userId: z.uuid(), active: z.boolean() }))
      .meta({ description: 'The directories that own this person; where there is none, admins do' }),
    identities: z
      .array(z.object({ issuer: z.string(), subject: z.string(), linkedBy: z.string() }))
      .meta({ description: 'How identity providers know this person' }),
    lastSignInAt: z.iso.datetime().nullable(),
    version: z.int32(),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
  })
  .meta({ id: 'Member' })

const query = idPageQuery.extend({
  status: status.optional(),
  role: role.optional(),
  q: z
    .string()
    .trim()
    .min(1)
    .max(254)
    .optional()
    .meta({ description: 'How the e-mail address begins', example: 'ana@' }),
})

const invitation = z.strictObject({
  email: z.string().trim().max(254).meta({ example: 'ana@example.com' }),
  displayName: z.string().trim().min(1).max(200).optional().meta({ example: 'Ana Example' }),
  role: role.optional().meta({ description: "Never below this one; absent: the workspace's default role" }),
})

const manualRole = z.discriminatedUnion('grant', [
  z.strictObject({ grant: z.enum(['floor', 'locked']), role }),
  z.strictObject({ grant: z.literal('none') }),
])

const profile = z.strictObject({ displayName: z.string().trim().min(1).max(200).meta({ example: 'Ana Example' }) })

const params = workspaceParams.extend({ memberId: id })

/** The people of a workspace; guarded by the scope that it is registered in. */
export const memberRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db }> = async (app, { config, db }) => {
  const { roles } = config
  const list = '/v1/workspaces/:workspaceId/members'
  const one = `${list}/:memberId`
  const tags = ['Members']
  const security = [{ assistToken: [] }]

  app.get(
    list,
    {
      schema: {
        tags,
        security,
        params: workspaceParams,
        operationId: 'listMembers',
        summary: 'The members of the workspace, invited ones too',
        querystring: query.strict(),
        response: { 200: pageOf(member), ...problemResponses('role_unknown') },
      },
    },
    async request => {
      const { q, ...filter } = request.query
      if (filter.role !== undefined && !roles.includes(filter.role)) {
        throw new AppError('role_unknown', `There is no role ${filter.role}. Choose one of ${roles.join(', ')}.`)
      }
      return listMembers(db, { ...request.params, ...filter, emailPrefix: q })
    },
  )

  app.post(
    list,
    {
      schema: {
        tags,
        security,
        params: workspaceParams,
        operationId: 'inviteMember',
        summary: 'Invite somebody by their e-mail address',
        body: invitation,
        response: { 201: member, ...problemResponses('role_unknown', 'role_above_own', 'conflict') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const email = parseEmail(request.body.email)
      if (!email) {
        const fault = { pointer: '/email', message: 'is not an e-mail address such as ana@example.com' }
        throw new AppError('invalid', `The request body is not valid at /email: it ${fault.message}.`, {
          errors: [fault],
        })
      }
      const shared = { workspaceId, email, days: config.invitationDays, actor: actorOf(request), roles }
      const invited = await db.transaction().execute(trx => inviteMember(trx, { ...request.body, ...shared }))
      reply.code(201).header('location', `/v1/workspaces/${workspaceId}/members/${invited.id}`)
      return withEtag(reply, invited)
    },
  )

  app.get(
    one,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'getMember',
        summary: 'One member',
        response: { 200: member, ...problemResponses() },
      },
    },
    async (request, reply) => withEtag(reply, await getMember(db, request.params)),
  )

  app.patch(
    one,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'changeMemberRole',
        summary: 'Give a role by hand, as a floor or locked, or take it back',
        headers: ifMatchHeader,
        body: manualRole,
        response: {
          200: member,
          ...problemResponses('role_unknown', 'role_above_own', 'last_owner', 'version_conflict'),
        },
      },
    },
    async (request, reply) => {
      const { body } = request
      const manual = body.grant === 'none' ? undefined : { role: body.role, policy: body.grant }
      const expectedVersion = request.headers['if-match']
      const change = { ...request.params, manual, expectedVersion, actor: actorOf(request), roles }
      return withEtag(reply, await db.transaction().execute(trx => changeManualRole(trx, change)))
    },
  )

  app.patch(
    `${one}/profile`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'changeMemberProfile',
        summary: 'Change what a member is called, where no directory provides it',
        headers: ifMatchHeader,
        body: profile,
        response: { 200: member, ...problemResponses('role_above_own', 'directory_owned', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const expectedVersion = request.headers['if-match']
      const change = { ...request.params, ...request.body, expectedVersion, actor: actorOf(request), roles }
      return withEtag(reply, await db.transaction().execute(trx => renameMember(trx, change)))
    },
  )

  app.delete(
    one,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'withdrawInvitation',
        summary: 'Withdraw an invitation',
        response: { 204: { description: 'Withdrawn' }, ...problemResponses('role_above_own', 'conflict') },
      },
    },
    async (request, reply) => {
      const withdrawal = { ...request.params, actor: actorOf(request), roles }
      await db.transaction().execute(trx => withdrawInvitation(trx, withdrawal))
      return reply.code(204).send()
    },
  )

  app.post(
    `${one}/deactivate`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'deactivateMember',
        summary: "End a member's access, sessions included, at once",
        response: { 200: member, ...problemResponses('role_above_own', 'last_owner', 'conflict') },
      },
    },
    async (request, reply) => {
      const change = { ...request.params, actor: actorOf(request), roles }
      return withEtag(reply, await db.transaction().execute(trx => deactivateMember(trx, change)))
    },
  )

  app.post(
    `${one}/reactivate`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'reactivateMember',
        summary: 'Let a deactivated member in again',
        response: { 200: member, ...problemResponses('role_above_own', 'directory_owned', 'conflict') },
      },
    },
    async (request, reply) => {
      const change = { ...request.params, actor: actorOf(request), roles }
      return withEtag(reply, await db.transaction().execute(trx => reactivateMember(trx, change)))
    },
  )

  app.delete(
    `${one}/identities`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'resetMemberIdentities',
        summary: 'Forget how identity providers know a member, so that the next sign-in links anew',
        response: { 204: { description: 'Forgotten; sessions have ended' }, ...problemResponses('role_above_own') },
      },
    },
    async (request, reply) => {
      const change = { ...request.params, actor: actorOf(request), roles }
      await db.transaction().execute(trx => resetIdentities(trx, change))
      return reply.code(204).send()
    },
  )
}
