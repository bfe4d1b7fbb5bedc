import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { listText, locationOf, userEtag, userText, type UserAnswer } from './answer.ts'
import { isCurrent, readIfMatch } from './conditions.ts'
import { listUsers } from './list.ts'
import { applyPatch, readPatch, touchedAttributes, type Operation } from './patch.ts'
import { returnsAttribute } from './projection.ts'
import { readListQuery } from './query.ts'
import { readResource } from './resource.ts'
import { baseUrlOf, callerOf, contextOf, idOf, projectionOf, serve, toProjection, type ScimOptions } from './routes.ts'
import { createUser, deleteUser, getUser, patchUser, replaceUser, setUserActive } from './users.ts'
import type { Context, IfMatch } from './users.ts'
import type { Leniency } from './value.ts'

/** /Users (RFC 7644 §3). */
export async function userRoutes(app: FastifyInstance, options: ScimOptions): Promise<void> {
  const prepare = (request: FastifyRequest) => {
    const { projection, leniencies } = projectionOf(request, 'User')
    const context = contextOf(request, options, { withGroups: returnsAttribute(projection, 'groups') })
    const send = (reply: FastifyReply, user: UserAnswer) => {
      reply.header('etag', userEtag(user))
      return userText(user, { baseUrl: context.baseUrl, projection })
    }
    return { context, leniencies, send, ifMatch: readIfMatch(request.headers['if-match']) }
  }

  serve(app, '/Users', {
    GET: {
      operationId: 'listUsers',
      summary: 'List or find users',
      handler: async request => {
        const caller = callerOf(request)
        const baseUrl = baseUrlOf(options.config, caller)
        const { query } = readListQuery(request.query, caller.mode)
        const { projection } = toProjection('User', query, caller.mode)
        const withRelation = returnsAttribute(projection, 'groups')
        const { totalResults, resources } = await listUsers({ ...options, caller, baseUrl, withRelation }, query)
        const texts = resources.map(user => userText(user, { baseUrl, projection }))
        return listText({ totalResults, startIndex: query.startIndex, resources: texts })
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
        return send(reply, await patchActiveOrMore(context, patch))
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

export interface UserPatch {
  id: string
  operations: readonly Operation[]
  ifMatch: IfMatch
  leniencies: readonly Leniency[]
}

/** A PATCH that only sets `active`, the most frequent of all, needs not read the user. */
export async function patchActiveOrMore(context: Context, patch: UserPatch): Promise<UserAnswer> {
  const touched = touchedAttributes('User', patch.operations)
  if (touched?.size !== 1 || !touched.has('active')) return patchUser(context, patch)
  const { resource, leniencies } = applyPatch({}, patch.operations, { type: 'User', mode: context.caller.mode })
  const { active } = resource
  if (typeof active !== 'boolean') return patchUser(context, patch)
  return setUserActive(context, { ...patch, active, leniencies: [...patch.leniencies, ...leniencies] })
}
