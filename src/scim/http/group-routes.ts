import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isCurrent, readIfMatch } from '../protocol/conditions.ts'
import { readListQuery } from '../protocol/list-query.ts'
import { readPatch } from '../protocol/patch/message.ts'
import { returnsAttribute } from '../protocol/projection.ts'
import { groupEtag, groupSlices, locationOf, serializeGroup } from '../protocol/serialize.ts'
import type { GroupAnswer } from '../protocol/serialize.ts'
import { createGroup, deleteGroup, getGroup, patchGroup, replaceGroup } from '../groups/groups.ts'
import { listAnswer } from '../lists/list-answer.ts'
import {
  asBatch,
  callerOf,
  contextOf,
  idOf,
  listContextOf,
  projectionOf,
  sendSlices,
  serve,
  type ScimOptions,
} from './serve.ts'

/** /Groups (RFC 7644 §3). */
export async function groupRoutes(app: FastifyInstance, options: ScimOptions): Promise<void> {
  const prepare = (request: FastifyRequest) => {
    const { projection, leniencies } = projectionOf(request, 'Group')
    const context = contextOf(request, options, { withGroups: false })
    const send = async (reply: FastifyReply, group: GroupAnswer) => {
      reply.header('etag', groupEtag(group))
      const answer = { baseUrl: context.baseUrl, projection }
      const large = groupSlices(group, answer)
      return large === undefined ? serializeGroup(group, answer) : sendSlices(reply, large)
    }
    const withMembers = returnsAttribute(projection, 'members')
    return { context, projection, withMembers, leniencies, send, ifMatch: readIfMatch(request.headers['if-match']) }
  }

  serve(app, '/Groups', {
    GET: {
      operationId: 'listScimGroups',
      summary: 'List or find groups',
      handler: async request => {
        const { query } = readListQuery(request.query, callerOf(request).mode)
        return listAnswer(listContextOf(request, options), { types: ['Group'], query })
      },
    },
    POST: {
      operationId: 'createScimGroup',
      summary: 'Create a group',
      body: 'A Group (RFC 7643 section 4.2)',
      takesLargeBodies: true,
      status: 201,
      handler: async (request, reply) => {
        const { context, leniencies, send } = prepare(request)
        const group = await createGroup(context, { body: request.body, leniencies })
        reply.code(201).header('location', locationOf('Group', group.id, context.baseUrl))
        return send(reply, group)
      },
    },
  })

  serve(app, '/Groups/:id', {
    GET: {
      operationId: 'getScimGroup',
      summary: 'Get a group',
      handler: async (request, reply) => {
        const { context, withMembers, send } = prepare(request)
        const id = await idOf(request, options, 'Group')
        const ifNoneMatch = request.headers['if-none-match']
        if (ifNoneMatch !== undefined) {
          // The tag is that of the group's row: members are not read to find that nothing is new.
          const etag = groupEtag(await getGroup(context, { id, withMembers: false }))
          if (isCurrent(ifNoneMatch, etag)) return reply.code(304).header('etag', etag).send()
        }
        return send(reply, await getGroup(context, { id, withMembers }))
      },
    },
    PUT: {
      operationId: 'replaceScimGroup',
      summary: 'Replace a group',
      body: 'A Group (RFC 7643 section 4.2)',
      takesLargeBodies: true,
      handler: async (request, reply) => {
        const { context, withMembers, leniencies, ifMatch, send } = prepare(request)
        const id = await idOf(request, options, 'Group')
        const group = await replaceGroup(context, { id, body: request.body, ifMatch, leniencies })
        if (group.members || !withMembers) return send(reply, group)
        return send(reply, await getGroup(context, { id, withMembers }))
      },
    },
    PATCH: {
      operationId: 'patchScimGroup',
      summary: 'Change parts of a group; answers with it only where attributes are asked for',
      body: 'A PatchOp (RFC 7644 section 3.5.2)',
      handler: async (request, reply) => {
        const { context, projection, withMembers, leniencies, ifMatch, send } = prepare(request)
        const id = await idOf(request, options, 'Group')
        const { operations, ...read } = readPatch('Group', request.body, context.caller.mode)
        const used = [...leniencies, ...read.leniencies]
        const group = await patchGroup(context, { id, operations, ifMatch, leniencies: used })
        // RFC 7644 §3.5.2: without `attributes` the answer may be empty, and nobody waits for 50,000 members.
        if (projection === undefined) return reply.code(204).header('etag', groupEtag(group)).send()
        return send(reply, withMembers ? await getGroup(context, { id, withMembers }) : group)
      },
    },
    DELETE: {
      operationId: 'deleteScimGroup',
      summary: 'Delete a group; its members stay',
      status: 204,
      handler: async (request, reply) => {
        const { context, ifMatch } = prepare(request)
        const id = await idOf(request, options, 'Group')
        // A group may have a hundred thousand memberships.
        await asBatch(request, async () =>
          deleteGroup({ ...context, db: request.batchDb ?? context.db }, { id, ifMatch }),
        )
        return reply.code(204).send()
      },
    },
  })
}
