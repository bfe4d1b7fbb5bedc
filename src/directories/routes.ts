import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../config.ts'
import { accessPreview, previewQuery, previewVersion } from '../access/mappings/preview-schema.ts'
import { previewAccess } from '../access/derivation/preview.ts'
import type { Db } from '../db/database.ts'
import type { Work } from '../db/work-class.ts'
import { actorOf } from '../http/admin-auth.ts'
import { id, workspaceParams } from '../http/params.ts'
import { problemResponses } from '../http/problem.ts'
import { ifMatchHeader, withEtag } from '../http/versions.ts'
import { idPageQuery, pageOf } from '../page.ts'
import { listDirectoryGroups, listDirectoryUsers } from './directory-contents.ts'
import {
  changeDirectory,
  createDirectory,
  deleteDirectory,
  directoryChange,
  getDirectory,
  listDirectories,
  scimEndpoint,
  type Directory,
} from './directories.ts'
import { decideHeldRemovals, listHeldRemovals } from './guarded-removals.ts'
import { createToken, listTokens, revokeToken } from './directory-tokens.ts'

const name = z.string().trim().min(1).max(200).meta({ example: 'Okta' })
const mode = z.enum(['tolerant', 'strict']).meta({
  description:
    'tolerant takes what identity providers really send and records each leniency; strict refuses by the RFCs',
})

const role = z.string().meta({ description: "One of this deployment's roles", example: 'owner' })
const whenOff = z.enum(['keep', 'release']).meta({
  description: 'What its groups give while it is off: what they gave, or nothing',
})
const guard = z
  .strictObject({
    people: z.int32().min(1).nullable(),
    percent: z.int32().min(1).max(100).nullable().meta({ description: "Of the directory's users" }),
    minutes: z.int32().min(1).max(10_080).meta({ description: 'The window' }),
  })
  .meta({
    description:
      'The guard against mass deprovisioning: where more would lose access within the window, removals are held until an admin decides. Off where both limits are null',
    example: { people: 50, percent: 10, minutes: 60 },
  })

const directory = z
  .object({
    id: z.uuid(),
    name,
    mode,
    enabled: z.boolean().meta({ description: 'Off: every SCIM request is refused; see `whenOff`' }),
    whenOff,
    guard,
    maxLinkableRole: role.meta({
      description:
        'The highest role whose members a sign-in newly finds by what this directory says of them: the role of whoever made ' +
        'the directory or its tokens. An owner who saves it raises it to owner',
    }),
    scimEndpoint: z.string().meta({ description: 'Enter it at the identity provider, with a token' }),
    version: z.int32(),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
  })
  .meta({ id: 'Directory' })

const token = z
  .object({
    id: z.uuid(),
    hint: z.string().meta({ description: 'Its last four characters', example: 'x7Qa' }),
    status: z.enum(['live', 'expired', 'revoked']),
    createdAt: z.iso.datetime(),
    expiresAt: z.iso.datetime().nullable(),
    lastUsedAt: z.iso.datetime().nullable().meta({ description: 'To the minute' }),
  })
  .meta({ id: 'DirectoryToken' })

const newToken = token
  .extend({
    token: z.string().meta({ description: 'Shown this once and stored nowhere' }),
    scimEndpoint: z.string().meta({ description: 'Where it is good' }),
  })
  .meta({ id: 'NewDirectoryToken' })

const directoryGroup = z
  .object({
    id: z.uuid(),
    displayName: z.string(),
    externalId: z.string().nullable(),
    updatedAt: z.iso.datetime(),
  })
  .meta({ id: 'DirectoryGroup' })

const directoryUser = z
  .object({
    id: z.uuid(),
    userName: z.string(),
    externalId: z.string().nullable(),
    active: z.boolean().meta({ description: 'As the directory says; its member may be deactivated by an admin' }),
    memberId: z.uuid(),
    updatedAt: z.iso.datetime(),
  })
  .meta({ id: 'DirectoryUser' })

const params = workspaceParams.extend({ directoryId: id })
const creation = z.strictObject({ name, mode: mode.default('tolerant') })
const access = z.strictObject({ enabled: z.boolean(), whenOff }).partial()
const changes = z.strictObject({ name, mode, guard: guard.partial() }).partial().extend(access.shape)
const held = z
  .object({
    userId: z.uuid(),
    userName: z.string().nullable(),
    memberId: z.uuid(),
    operation: z.enum(['deactivate', 'delete']),
    attempts: z.int32().meta({ description: 'How often the directory has asked for it' }),
    firstAt: z.iso.datetime(),
    lastAt: z.iso.datetime(),
  })
  .meta({ id: 'HeldRemoval' })
const whichHeld = z.union([
  z.strictObject({ userIds: z.array(id).min(1).max(1000) }),
  z.strictObject({ all: z.literal(true) }),
])
const tokenRequest = z
  .strictObject({
    expiresInDays: z.int32().min(1).max(1095).optional().meta({
      description: 'Days until it ends by itself; absent: it lasts until it is revoked',
      example: 365,
    }),
  })
  .nullish()

const decidedRemovals = z.object({ people: z.int32() }).meta({ id: 'DecidedRemovals' })

/** Directories, their tokens, and what they hold; guarded by the scope that they are registered in. */
export const directoryRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db; work: Work }> = async (
  app,
  options,
) => {
  const { config, db } = options
  const { scans, batches } = options.work
  const list = '/v1/workspaces/:workspaceId/directories'
  const one = `${list}/:directoryId`
  const tags = ['Directories']
  const security = [{ assistToken: [] }]
  const describe = ({ maxLinkableRole, ...found }: Directory) => {
    const limit = maxLinkableRole ?? config.roles.at(-1) ?? ''
    return { ...found, maxLinkableRole: limit, scimEndpoint: scimEndpoint(config.publicUrl, found.id) }
  }

  app.get(
    list,
    {
      schema: {
        tags,
        security,
        params: workspaceParams,
        operationId: 'listDirectories',
        summary: 'The directories of the workspace',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(directory), ...problemResponses() },
      },
    },
    async request => {
      const page = await listDirectories(db, { ...request.params, ...request.query })
      return { ...page, items: page.items.map(describe) }
    },
  )

  app.post(
    list,
    {
      schema: {
        tags,
        security,
        params: workspaceParams,
        operationId: 'createDirectory',
        summary: 'Add a directory; then make a token for it',
        body: creation,
        response: { 201: directory, ...problemResponses('directory_limit') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const input = { workspaceId, ...request.body, actor: actorOf(request), roles: config.roles }
      const created = await db.transaction().execute(trx => createDirectory(trx, input))
      reply.code(201).header('location', `/v1/workspaces/${workspaceId}/directories/${created.id}`)
      return withEtag(reply, describe(created))
    },
  )

  app.get(
    one,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'getDirectory',
        summary: 'One directory',
        response: { 200: directory, ...problemResponses() },
      },
    },
    async (request, reply) => withEtag(reply, describe(await getDirectory(db, request.params))),
  )

  app.patch(
    one,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'changeDirectory',
        summary: 'Rename a directory, change its mode, or switch it off',
        headers: ifMatchHeader,
        body: changes.extend({ previewVersion }),
        response: { 200: directory, ...problemResponses('version_conflict', 'last_owner', 'preview_stale') },
      },
    },
    async (request, reply) => {
      const expectedVersion = request.headers['if-match']
      const { previewVersion: version, ...wanted } = request.body
      const shared = { ...request.params, actor: actorOf(request), roles: config.roles }
      const change = { ...shared, changes: wanted, expectedVersion, previewVersion: version }
      const changed = await batches.transact(request.params.workspaceId, trx => changeDirectory(trx, change))
      return withEtag(reply, describe(changed))
    },
  )

  app.post(
    `${one}/preview`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'previewDirectory',
        summary: 'Who would gain, lose and keep what if the directory were switched on or off',
        querystring: previewQuery.strict(),
        body: access.meta({ example: { enabled: false, whenOff: 'release' } }),
        response: { 200: accessPreview, ...problemResponses() },
      },
    },
    async request => {
      const found = await getDirectory(db, request.params)
      const change = directoryChange(found, request.params, request.body)
      const question = { ...request.query, roles: config.roles }
      return scans.run(request.params.workspaceId, on => previewAccess(on, change, question))
    },
  )

  app.get(
    `${one}/held-removals`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'listHeldRemovals',
        summary: 'Whose deactivation or deletion the guard holds',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(held), ...problemResponses() },
      },
    },
    async request => listHeldRemovals(db, { ...request.params, ...request.query }),
  )

  for (const [verb, state, summary] of [
    ['accept', 'accepted', 'End the access of people whom the guard holds'],
    ['release', 'released', 'Let people whom the guard holds keep their access'],
  ] as const) {
    app.post(
      `${one}/held-removals/${verb}`,
      {
        schema: {
          tags,
          security,
          params,
          operationId: `${verb}HeldRemovals`,
          summary,
          body: whichHeld.meta({ example: { all: true } }),
          response: {
            200: decidedRemovals,
            ...problemResponses('role_above_own', 'last_owner'),
          },
        },
      },
      async request => {
        const userIds = 'all' in request.body ? undefined : request.body.userIds
        const decision = { ...request.params, userIds, state, actor: actorOf(request), roles: config.roles }
        return batches.transact(request.params.workspaceId, trx => decideHeldRemovals(trx, decision))
      },
    )
  }

  app.delete(
    one,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'deleteDirectory',
        summary: 'Delete a directory that holds no users',
        headers: ifMatchHeader,
        response: { 204: { description: 'Deleted' }, ...problemResponses('conflict', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const deletion = { ...request.params, expectedVersion: request.headers['if-match'], actor: actorOf(request) }
      await db.transaction().execute(trx => deleteDirectory(trx, deletion))
      return reply.code(204).send()
    },
  )

  app.get(
    `${one}/tokens`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'listDirectoryTokens',
        summary: 'The tokens of a directory, without their values',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(token), ...problemResponses() },
      },
    },
    async request => listTokens(db, { ...request.params, ...request.query }),
  )

  app.post(
    `${one}/tokens`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'createDirectoryToken',
        summary: 'Make a directory token; its value is shown this once',
        body: tokenRequest,
        response: { 201: newToken, ...problemResponses('role_above_own', 'token_limit') },
      },
    },
    async (request, reply) => {
      const { workspaceId, directoryId } = request.params
      const { expiresInDays } = request.body ?? {}
      const input = { workspaceId, directoryId, expiresInDays, actor: actorOf(request), roles: config.roles }
      const created = await db.transaction().execute(trx => createToken(trx, input))
      const location = `/v1/workspaces/${workspaceId}/directories/${directoryId}/tokens/${created.id}`
      reply.code(201).header('location', location).header('cache-control', 'no-store')
      return { ...created, scimEndpoint: scimEndpoint(config.publicUrl, directoryId) }
    },
  )

  app.delete(
    `${one}/tokens/:tokenId`,
    {
      schema: {
        tags,
        security,
        params: params.extend({ tokenId: id }),
        operationId: 'revokeDirectoryToken',
        summary: 'Revoke a directory token, at once and everywhere',
        response: { 204: { description: 'Revoked' }, ...problemResponses() },
      },
    },
    async (request, reply) => {
      const revocation = { ...request.params, actor: actorOf(request) }
      await db.transaction().execute(trx => revokeToken(trx, revocation))
      return reply.code(204).send()
    },
  )

  app.get(
    `${one}/groups`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'listDirectoryGroups',
        summary: 'The groups that the directory has sent',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(directoryGroup), ...problemResponses() },
      },
    },
    async request => listDirectoryGroups(db, { ...request.params, ...request.query }),
  )

  app.get(
    `${one}/users`,
    {
      schema: {
        tags,
        security,
        params,
        operationId: 'listDirectoryUsers',
        summary: 'The users that the directory has sent, and whose members they are',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(directoryUser), ...problemResponses() },
      },
    },
    async request => listDirectoryUsers(db, { ...request.params, ...request.query }),
  )
}
