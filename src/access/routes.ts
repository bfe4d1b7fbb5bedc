import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../config.ts'
import type { Db } from '../db/database.ts'
import { actorOf } from '../http/admin-auth.ts'
import { id, workspaceParams } from '../http/params.ts'
import { problemResponses } from '../http/problem.ts'
import { ifMatchHeader, withEtag } from '../http/versions.ts'
import { idPageQuery, pageOf } from '../page.ts'
import { createMapping, deleteMapping, getMapping, listMappings } from './group-mappings.ts'
import { createGroup, deleteGroup, getGroup, listGroupMembers, listGroups, renameGroup } from './groups.ts'

const name = z.string().trim().min(1).max(200).meta({ example: 'Support' })
const role = z.string().meta({ description: "One of this deployment's roles", example: 'member' })

const group = z
  .object({
    id: z.uuid(),
    name,
    version: z.number().int(),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
  })
  .meta({ id: 'Group' })

const groupMember = z
  .object({
    id: z.uuid(),
    email: z.string().nullable(),
    displayName: z.string().nullable(),
    status: z.enum(['invited', 'active', 'deactivated']),
    role,
  })
  .meta({ id: 'GroupMember' })

const mapping = z
  .object({
    id: z.uuid(),
    directoryId: z.uuid(),
    scimGroupId: z.uuid(),
    scimGroupName: z.string().meta({ description: 'As the directory calls it now' }),
    groupId: z.uuid().nullable(),
    groupName: z.string().nullable(),
    role: role.nullable(),
    createdAt: z.iso.datetime(),
  })
  .meta({ id: 'GroupMapping' })

const newMapping = z
  .strictObject({
    directoryId: id,
    scimGroupId: id.meta({ description: 'One of /directories/{directoryId}/groups' }),
    groupId: id.optional().meta({ description: 'The Assist group that they join' }),
    role: role.optional().meta({ description: 'The role that they have at least' }),
  })
  .refine(
    ({ groupId, role: given }) => groupId !== undefined || given !== undefined,
    'needs a groupId, a role, or both',
  )

const mappingQuery = idPageQuery.extend({ directory: id.optional(), group: id.optional() })

/** Assist groups, and the mappings that fill them and give roles; guarded by the scope that they are registered in. */
export const accessRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db }> = async (app, { config, db }) => {
  const { roles } = config
  const security = [{ assistToken: [] }]
  const groups = { tags: ['Groups'], security, params: workspaceParams.extend({ groupId: id }) }
  const mappings = { tags: ['Group mappings'], security, params: workspaceParams.extend({ mappingId: id }) }
  const groupsUrl = '/v1/workspaces/:workspaceId/groups'
  const mappingsUrl = '/v1/workspaces/:workspaceId/group-mappings'

  app.get(
    groupsUrl,
    {
      schema: {
        ...groups,
        params: workspaceParams,
        operationId: 'listGroups',
        summary: 'The Assist groups of the workspace',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(group), ...problemResponses() },
      },
    },
    async request => listGroups(db, { ...request.params, ...request.query }),
  )

  app.post(
    groupsUrl,
    {
      schema: {
        ...groups,
        params: workspaceParams,
        operationId: 'createGroup',
        summary: 'Create an Assist group; mappings fill it',
        body: z.strictObject({ name }),
        response: { 201: group, ...problemResponses('conflict') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const input = { workspaceId, ...request.body, actor: actorOf(request) }
      const created = await db.transaction().execute(trx => createGroup(trx, input))
      reply.code(201).header('location', `/v1/workspaces/${workspaceId}/groups/${created.id}`)
      return withEtag(reply, created)
    },
  )

  app.get(
    `${groupsUrl}/:groupId`,
    {
      schema: {
        ...groups,
        operationId: 'getGroup',
        summary: 'One Assist group',
        response: { 200: group, ...problemResponses() },
      },
    },
    async (request, reply) => withEtag(reply, await getGroup(db, request.params)),
  )

  app.patch(
    `${groupsUrl}/:groupId`,
    {
      schema: {
        ...groups,
        operationId: 'renameGroup',
        summary: 'Rename an Assist group',
        headers: ifMatchHeader,
        body: z.strictObject({ name }),
        response: { 200: group, ...problemResponses('conflict', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const expectedVersion = request.headers['if-match']
      const change = { ...request.params, ...request.body, expectedVersion, actor: actorOf(request) }
      return withEtag(reply, await db.transaction().execute(trx => renameGroup(trx, change)))
    },
  )

  app.delete(
    `${groupsUrl}/:groupId`,
    {
      schema: {
        ...groups,
        operationId: 'deleteGroup',
        summary: 'Delete an Assist group that no mapping names',
        headers: ifMatchHeader,
        response: { 204: { description: 'Deleted' }, ...problemResponses('conflict', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const deletion = { ...request.params, expectedVersion: request.headers['if-match'], actor: actorOf(request) }
      await db.transaction().execute(trx => deleteGroup(trx, deletion))
      return reply.code(204).send()
    },
  )

  app.get(
    `${groupsUrl}/:groupId/members`,
    {
      schema: {
        ...groups,
        operationId: 'listGroupMembers',
        summary: 'Who is in an Assist group',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(groupMember), ...problemResponses() },
      },
    },
    async request => listGroupMembers(db, { ...request.params, ...request.query }),
  )

  app.get(
    mappingsUrl,
    {
      schema: {
        ...mappings,
        params: workspaceParams,
        operationId: 'listGroupMappings',
        summary: 'Which scim groups give which Assist groups and roles',
        querystring: mappingQuery.strict(),
        response: { 200: pageOf(mapping), ...problemResponses() },
      },
    },
    async request => {
      const { directory: directoryId, group: groupId, ...page } = request.query
      return listMappings(db, { ...request.params, directoryId, groupId, ...page })
    },
  )

  app.post(
    mappingsUrl,
    {
      schema: {
        ...mappings,
        params: workspaceParams,
        operationId: 'createGroupMapping',
        summary: 'Map a scim group to an Assist group, a role, or both; access changes at once',
        body: newMapping,
        response: { 201: mapping, ...problemResponses('role_unknown', 'role_above_own', 'conflict') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const input = { workspaceId, ...request.body, actor: actorOf(request), roles }
      const created = await db.transaction().execute(trx => createMapping(trx, input))
      reply.code(201).header('location', `/v1/workspaces/${workspaceId}/group-mappings/${created.id}`)
      return created
    },
  )

  app.get(
    `${mappingsUrl}/:mappingId`,
    {
      schema: {
        ...mappings,
        operationId: 'getGroupMapping',
        summary: 'One group mapping',
        response: { 200: mapping, ...problemResponses() },
      },
    },
    async request => getMapping(db, request.params),
  )

  app.delete(
    `${mappingsUrl}/:mappingId`,
    {
      schema: {
        ...mappings,
        operationId: 'deleteGroupMapping',
        summary: 'Delete a group mapping; access changes at once',
        response: { 204: { description: 'Deleted' }, ...problemResponses('role_above_own', 'last_owner') },
      },
    },
    async (request, reply) => {
      const deletion = { ...request.params, actor: actorOf(request), roles }
      await db.transaction().execute(trx => deleteMapping(trx, deletion))
      return reply.code(204).send()
    },
  )
}
