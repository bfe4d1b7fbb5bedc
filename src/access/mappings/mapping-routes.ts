import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import type { Work } from '../../db/work-class.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { id, workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { ifMatchHeader, withEtag } from '../../http/versions.ts'
import { idPageQuery, pageOf } from '../../page.ts'
import {
  changeMapping,
  createMapping,
  deleteMapping,
  getMapping,
  groupDeletion,
  listMappings,
  mappingChange,
  mappingDeletion,
  newMappingChange,
  type MappingSource,
} from './group-mappings.ts'
import { accessPreview, previewQuery, previewVersion } from './preview-schema.ts'
import { previewAccess } from '../derivation/preview.ts'
import { createGroup, deleteGroup, getGroup, listGroupMembers, listGroups, renameGroup } from './groups.ts'

const name = z.string().trim().min(1).max(200).meta({ example: 'Support' })
const role = z.string().meta({ description: "One of this deployment's roles", example: 'member' })

const group = z
  .object({
    id: z.uuid(),
    name,
    version: z.int32(),
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
    through: z
      .array(
        z.object({ mappingId: z.uuid(), scimGroupName: z.string().nullable(), claimedGroup: z.string().nullable() }),
      )
      .meta({ description: 'The mappings by which they came in' }),
  })
  .meta({ id: 'GroupMember' })

const mapping = z
  .object({
    id: z.uuid(),
    directoryId: z.uuid().nullable(),
    scimGroupId: z.uuid().nullable(),
    scimGroupName: z.string().nullable().meta({ description: 'As the directory calls it now, or will when it comes' }),
    isAwaited: z.boolean().meta({ description: 'The directory has not sent a group of this name yet' }),
    claimedGroup: z.string().nullable().meta({ description: "A value of the sign-in's groups claim" }),
    groupId: z.uuid().nullable(),
    groupName: z.string().nullable(),
    role: role.nullable(),
    version: z.int32(),
    createdAt: z.iso.datetime(),
  })
  .meta({ id: 'GroupMapping' })

const joinedGroup = id.meta({ description: 'The Assist group that they join' })
const mappedRole = role.meta({ description: 'The role that they have at least' })
const newMapping = z
  .strictObject({
    directoryId: id.optional(),
    scimGroupId: id.optional().meta({ description: 'One of /directories/{directoryId}/groups' }),
    scimGroupName: z.string().min(1).max(1024).optional().meta({
      description: 'The exact name of a group that the directory may not have sent yet; it is bound when it comes',
    }),
    claimedGroup: z.string().min(1).max(1024).optional().meta({
      description: "Without a directory: a value of the sign-in's groups claim, such as an Entra group's object id",
    }),
    groupId: joinedGroup.optional(),
    role: mappedRole.optional(),
  })
  .refine(given => given.groupId !== undefined || given.role !== undefined, 'needs a groupId, a role, or both')
  .refine(
    ({ directoryId, scimGroupId, scimGroupName, claimedGroup }) =>
      [scimGroupId, scimGroupName, claimedGroup].filter(each => each !== undefined).length === 1 &&
      (directoryId === undefined) === (claimedGroup !== undefined),
    'needs one group: a directoryId with a scimGroupId or a scimGroupName, or a claimedGroup',
  )

const mappingChanges = z.strictObject({
  groupId: joinedGroup.nullable().optional(),
  role: mappedRole.nullable().optional(),
})

const previewBody = z.discriminatedUnion('change', [
  z.strictObject({ change: z.literal('create'), mapping: newMapping }),
  z.strictObject({ change: z.literal('update'), mappingId: id, ...mappingChanges.shape }),
  z.strictObject({ change: z.literal('delete'), mappingId: id }),
])

const mappingQuery = idPageQuery.extend({ directory: id.optional(), group: id.optional() })
const deletionQuery = z.strictObject({ previewVersion })

function sourceOf({
  directoryId,
  scimGroupId,
  scimGroupName,
  claimedGroup,
}: z.output<typeof newMapping>): MappingSource {
  if (claimedGroup !== undefined) return { claimedGroup }
  if (directoryId !== undefined && scimGroupId !== undefined) return { directoryId, scimGroupId }
  if (directoryId !== undefined && scimGroupName !== undefined) return { directoryId, scimGroupName }
  throw new Error('The schema of a new mapping asks for one source.')
}

const mappingRefusals = [
  'role_unknown',
  'role_above_own',
  'sso_not_confirmed',
  'group_unknown',
  'scim_group_unknown',
  'mapping_exists',
] as const

/** Assist groups, and the mappings that fill them and give roles; guarded by the scope that they are registered in. */
export const accessRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db; work: Work }> = async (
  app,
  { config, db, work: { scans, batches } },
) => {
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
        summary: 'Delete an Assist group that no mapping names, or by the version of a preview any other',
        headers: ifMatchHeader,
        querystring: deletionQuery,
        response: {
          204: { description: 'Deleted' },
          ...problemResponses('group_mapped', 'version_conflict', 'preview_stale'),
        },
      },
    },
    async (request, reply) => {
      const expectedVersion = request.headers['if-match']
      const deletion = { ...request.params, ...request.query, expectedVersion, actor: actorOf(request), roles }
      await batches.transact(request.params.workspaceId, trx => deleteGroup(trx, deletion))
      return reply.code(204).send()
    },
  )

  app.post(
    `${groupsUrl}/:groupId/deletion-preview`,
    {
      schema: {
        ...groups,
        operationId: 'previewGroupDeletion',
        summary: 'Who would lose what if an Assist group were deleted',
        querystring: previewQuery.strict(),
        response: { 200: accessPreview, ...problemResponses() },
      },
    },
    async request => {
      await getGroup(db, request.params)
      const question = { ...request.query, roles }
      return scans.run(request.params.workspaceId, on => previewAccess(on, groupDeletion(request.params), question))
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
        summary: 'Map a group to an Assist group, a role, or both; access changes at once',
        body: newMapping.safeExtend({ previewVersion }),
        response: { 201: mapping, ...problemResponses(...mappingRefusals, 'preview_stale') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const { previewVersion: version, groupId: given, role: givenRole } = request.body
      const source = sourceOf(request.body)
      const input = {
        workspaceId,
        source,
        groupId: given,
        role: givenRole,
        previewVersion: version,
        actor: actorOf(request),
        roles,
      }
      const created = await batches.transact(request.params.workspaceId, trx => createMapping(trx, input))
      reply.code(201).header('location', `/v1/workspaces/${workspaceId}/group-mappings/${created.id}`)
      return withEtag(reply, created)
    },
  )

  app.post(
    `${mappingsUrl}/preview`,
    {
      schema: {
        ...mappings,
        params: workspaceParams,
        operationId: 'previewGroupMapping',
        summary: 'Who would gain, lose and keep what, and why, if a mapping were created, changed or deleted',
        querystring: previewQuery.strict(),
        body: previewBody,
        response: { 200: accessPreview, ...problemResponses(...mappingRefusals) },
      },
    },
    async request => {
      const by = { ...request.params, actor: actorOf(request), roles }
      const { body } = request
      const change = await (body.change === 'create'
        ? newMappingChange(db, { ...by, ...body.mapping, source: sourceOf(body.mapping) })
        : body.change === 'update'
          ? mappingChange(db, { ...by, ...body })
          : mappingDeletion(db, { ...by, ...body }))
      const question = { ...request.query, roles }
      return scans.run(request.params.workspaceId, on => previewAccess(on, change, question))
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
    async (request, reply) => withEtag(reply, await getMapping(db, request.params)),
  )

  app.patch(
    `${mappingsUrl}/:mappingId`,
    {
      schema: {
        ...mappings,
        operationId: 'changeGroupMapping',
        summary: 'Change what a group mapping gives; access changes at once',
        headers: ifMatchHeader,
        body: mappingChanges.extend({ previewVersion }),
        response: {
          200: mapping,
          ...problemResponses(...mappingRefusals, 'last_owner', 'version_conflict', 'preview_stale'),
        },
      },
    },
    async (request, reply) => {
      const expectedVersion = request.headers['if-match']
      const change = { ...request.params, ...request.body, expectedVersion, actor: actorOf(request), roles }
      return withEtag(reply, await batches.transact(request.params.workspaceId, trx => changeMapping(trx, change)))
    },
  )

  app.delete(
    `${mappingsUrl}/:mappingId`,
    {
      schema: {
        ...mappings,
        operationId: 'deleteGroupMapping',
        summary: 'Delete a group mapping; access changes at once',
        querystring: deletionQuery,
        response: {
          204: { description: 'Deleted' },
          ...problemResponses('role_above_own', 'last_owner', 'preview_stale'),
        },
      },
    },
    async (request, reply) => {
      const deletion = { ...request.params, ...request.query, actor: actorOf(request), roles }
      await batches.transact(request.params.workspaceId, trx => deleteMapping(trx, deletion))
      return reply.code(204).send()
    },
  )
}
