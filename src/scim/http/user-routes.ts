import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isCurrent, readIfMatch } from '../protocol/conditions.ts'
import { readListQuery } from '../protocol/list-query.ts'
import { readPatch } from '../protocol/patch/message.ts'
import { returnsAttribute } from '../protocol/projection.ts'
import { readResource } from '../protocol/resource.ts'
import { locationOf, serializeUser, userEtag } from '../protocol/serialize.ts'
import type { UserAnswer } from '../protocol/serialize.ts'
import { listAnswer } from '../lists/list-answer.ts'
import { callerOf, contextOf, idOf, listContextOf, projectionOf, serve, type ScimOptions } from './serve.ts'
import { patchUser, replaceUser } from '../users/change-user.ts'
import { createUser } from '../users/create-user.ts'
import { deleteUser } from '../users/delete-user.ts'
import { getUser } from '../users/users.ts'

/** /Users (RFC 7644 §3). */
export async function userRoutes(app: FastifyInstance, options: ScimOptions): Promise<void> {
  const prepare = (request: FastifyRequest) => {
    const { projection, leniencies } = projectionOf(request, 'User')
    const context = contextOf(request, options, { withGroups: returnsAttribute(projection, 'groups') })
    const send = (reply: FastifyReply, user: UserAnswer) => {
      reply.header('etag', userEtag(user))
      return serializeUser(user, { baseUrl: context.baseUrl, projection })
    }
    return { context, leniencies, send, ifMatch: readIfMatch(request.headers['if-match']) }
  }

  serve(app, '/Users', {
    GET: {
      operationId: 'listUsers',
      summary: 'List or find users',
      handler: async request => {
        const { query } = readListQuery(request.query, callerOf(request).mode)
        return listAnswer(listContextOf(request, options), { types: ['User'], query })
      },
    },
    POST: {
      operationId: 'createUser',
      summary: 'Create a user and their member',
      body: 'A User (RFC 7643 section 4.1)',
      status: 201,
      handler: async (request, reply) => {
        const { context, leniencies, send } = prepare(request)
        const read = readResource('User', request.body, context.caller.mode)
        const user = await createUser(context, { ...read, leniencies: [...leniencies, ...read.leniencies] })
        reply.code(201).header('location', locationOf('User', user.id, context.baseUrl))
        return send(reply, user)
      },
    },
  })

  serve(app, '/Users/:id', {
    GET: {
      operationId: 'getUser',
      summary: 'Get a user',
      handler: async (request, reply) => {
        const { context, send } = prepare(request)
        const user = await getUser(context, await idOf(request, options, 'User'))
        const etag = userEtag(user)
        if (isCurrent(request.headers['if-none-match'], etag)) return reply.code(304).header('etag', etag).send()
        return send(reply, user)
      },
    },
    PUT: {
      operationId: 'replaceUser',
      summary: 'Replace a user',
      body: 'A User (RFC 7643 section 4.1)',
      handler: async (request, reply) => {
        const { context, leniencies, ifMatch, send } = prepare(request)
        const id = await idOf(request, options, 'User')
        const { resource, ...read } = readResource('User', request.body, context.caller.mode)
        const used = [...leniencies, ...read.leniencies]
        return send(reply, await replaceUser(context, { id, resource, ifMatch, leniencies: used }))
      },
    },
    PATCH: {
      operationId: 'patchUser',
      summary: 'Change parts of a user',
      body: 'A PatchOp (RFC 7644 section 3.5.2)',
      handler: async (request, reply) => {
        const { context, leniencies, ifMatch, send } = prepare(request)
        const id = await idOf(request, options, 'User')
        const { operations, ...read } = readPatch('User', request.body, context.caller.mode)
        const patch = { id, operations, ifMatch, leniencies: [...leniencies, ...read.leniencies] }
        return send(reply, await patchUser(context, patch))
      },
    },
    DELETE: {
      operationId: 'deleteUser',
      summary: 'Delete a user; the member stays, without access',
      status: 204,
      handler: async (request, reply) => {
        const { context, ifMatch } = prepare(request)
        await deleteUser(context, { id: await idOf(request, options, 'User'), ifMatch })
        return reply.code(204).send()
      },
    },
  })
}
