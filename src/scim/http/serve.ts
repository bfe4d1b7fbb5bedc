import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import type { BodyLimit } from '../../http/body/read-body.ts'
import type { SecretBox } from '../../secret-box.ts'
import type { Mode, ResourceTypeName } from '../protocol/attributes.ts'
import { readProjectionQuery } from '../protocol/list-query.ts'
import type { ProjectionQuery } from '../protocol/list-query.ts'
import { readProjection } from '../protocol/projection.ts'
import type { Projection } from '../protocol/projection.ts'
import type { Leniency } from '../protocol/reading.ts'
import { isResourceId } from '../protocol/resource-id.ts'
import type { SlicedText } from '../protocol/serialize.ts'
import { requireLiveCredential, type Caller } from '../storage/credential.ts'
import type { RequestLimits } from '../../http/request-limits.ts'
import type { Work, WorkClass } from '../../db/work-class.ts'
import type { Anchors } from '../lists/list.ts'
import type { ListContext } from '../lists/list-answer.ts'
import { operationSchema } from './operation-schema.ts'
import type { RefusedRequest } from './refusals.ts'
import type { Context } from '../storage/write.ts'

/** What the routes of this scope share. */
export interface ScimOptions {
  config: Config
  db: Db
  box: SecretBox
  anchors: Anchors
  limits: RequestLimits
  work: Work
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The directory that the request speaks for; set by the guard of the SCIM scope. */
    caller: Caller | null
    /** Gives the request's turn at the main pool to the next one; set before the handler runs. */
    releaseTurn: (() => void) | null
    /** The work classes of this scope. */
    work: Work | null
    /** The connections of a request that runs as a batch. */
    batchDb: Db | null
  }
  interface FastifyContextConfig {
    takesLargeBodies?: boolean
  }
}

/** What the bodies of this endpoint may be: of groups and bulk requests, and of everything else. */
export function scimBodyLimits(config: Config): { small: BodyLimit; large: BodyLimit } {
  const large = { bytes: config.scimMaxBodyBytes, values: config.scimMaxBodyValues }
  const small = {
    bytes: Math.min(config.scimMaxSmallBodyBytes, large.bytes),
    values: Math.min(config.scimMaxSmallBodyValues, large.values),
  }
  return { small, large }
}

export const MEDIA_TYPE = 'application/scim+json'

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
const methods: readonly Method[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']

export interface Route {
  operationId: string
  summary: string
  /** Answers with JSON text, or has sent the reply. */
  handler: (request: FastifyRequest, reply: FastifyReply) => Promise<string | FastifyReply>
  body?: string
  /** A body that may have the members of a group; any other is small. */
  takesLargeBodies?: boolean
  /** Statuses of success, 200 where nothing is said. */
  status?: 200 | 201 | 204
}

/**
 * Registers what a path of the endpoint answers, with and without a slash at its end; any other method is a 405 that names
 * those there are.
 */
export function serve(app: FastifyInstance, path: string, routes: Partial<Record<Method, Route>>): void {
  const allow = methods
    .flatMap(method => (routes[method] ? (method === 'GET' ? [method, 'HEAD'] : [method]) : []))
    .join(', ')
  for (const method of methods) {
    const route = routes[method]
    const url = [path, `${path}/`]
    if (route === undefined) {
      const handler = async (_request: FastifyRequest, reply: FastifyReply) => {
        reply.header('allow', allow)
        throw new AppError('method_not_allowed', `${method} is not for this path, which takes ${allow}.`)
      }
      for (const each of url) app.route({ method, url: each, schema: { hide: true }, handler })
      continue
    }
    const handler = async (request: FastifyRequest, reply: FastifyReply) => {
      const run = async () => route.handler(request, reply)
      const answer = await (isLargeWrite(request) ? asBatch(request, run) : run())
      if (typeof answer !== 'string') return answer
      return reply.type(MEDIA_TYPE).send(answer)
    }
    const { operationId, summary, body, status = 200, takesLargeBodies = false } = route
    const config = { takesLargeBodies }
    const schema = operationSchema({ operationId, summary, path, method, body, status, takesLargeBodies })
    app.route({ method, url: path, config, schema, validatorCompiler, handler })
    app.route({ method, url: `${path}/`, config, schema: { hide: true }, handler })
  }
}

/**
 * Sends each slice when the one before has left the process, so that no more is in memory, whoever reads how slowly. Whoever
 * has gone gets nothing more.
 */
export async function sendSlices(reply: FastifyReply, { length, slices }: SlicedText): Promise<FastifyReply> {
  const { raw } = reply.type(MEDIA_TYPE).header('content-length', length).hijack()
  raw.statusCode = reply.statusCode
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value)
  for (const slice of slices) {
    const error = await new Promise(written => void raw.write(slice, written))
    if (error) return reply
  }
  raw.end()
  return reply
}

/** Requests are read by the attribute table; the schema only describes them. */
function validatorCompiler() {
  return (value: unknown) => ({ value })
}

/** The caller, on a route behind the guard of this scope. */
export function callerOf({ caller }: FastifyRequest): Caller {
  if (!caller) throw new Error('The guard of the SCIM scope has not run.')
  return caller
}

export function baseUrlOf({ publicUrl }: Config, { directoryId }: Caller): string {
  return `${publicUrl}/scim/v2/${directoryId}`
}

/** A scan waits for its own turn, so the request gives up the one at the main pool: its workspace's other requests go on. */
function leavingTurn(request: FastifyRequest, scans: WorkClass): WorkClass {
  return {
    ...scans,
    run: (workspaceId, work) => {
      request.releaseTurn?.()
      return scans.run(workspaceId, work)
    },
  }
}

/** Runs a large write as a batch, so that it holds no connection of the main pool. */
export async function asBatch<Result>(request: FastifyRequest, write: () => Promise<Result>): Promise<Result> {
  if (!request.work) throw new Error('The guard of the SCIM scope has not run.')
  request.releaseTurn?.()
  return request.work.batches.run(callerOf(request).workspaceId, batchDb => {
    request.batchDb = batchDb
    return write()
  })
}

/** Whether the body is large: most writes have a few hundred bytes, a group of 10,000 members has 600,000. */
export function isLargeWrite({ headers }: FastifyRequest): boolean {
  return headers['content-length'] === undefined
    ? headers['transfer-encoding'] !== undefined
    : Number(headers['content-length']) > LARGE_WRITE_BYTES
}

const LARGE_WRITE_BYTES = 65_536

export function listContextOf(request: FastifyRequest, options: ScimOptions): ListContext {
  const { db, box, anchors, config, work } = options
  const caller = callerOf(request)
  return { db, box, anchors, scans: leavingTurn(request, work.scans), caller, baseUrl: baseUrlOf(config, caller) }
}

/** What the activity log says of a request that is refused. */
export function refusedRequest(request: FastifyRequest): RefusedRequest {
  const { caller, method, routeOptions, id: requestId } = request
  const actor = request.actor && { ...request.actor, requestId }
  return { caller, actor, method, path: routeOptions.url?.replace('/scim/v2/:directoryId', '') }
}

export function contextOf(
  request: FastifyRequest,
  { config, db }: ScimOptions,
  { withGroups }: { withGroups: boolean },
): Context {
  const caller = callerOf(request)
  return {
    db: request.batchDb ?? db,
    caller,
    roles: config.roles,
    baseUrl: baseUrlOf(config, caller),
    requestId: request.id,
    withGroups,
  }
}

/**
 * The id in the path.
 * @throws {AppError} `not_found`
 */
export async function idOf(request: FastifyRequest, { db }: ScimOptions, type: ResourceTypeName): Promise<string> {
  const { id } = request.params as { id: string }
  if (isResourceId(id)) return id
  await requireLiveCredential(db, callerOf(request))
  throw new AppError('not_found', `There is no ${type.toLowerCase()} of this id in this directory.`)
}

/** What the query leaves of the answer with one resource. */
export function projectionOf(
  request: FastifyRequest,
  type: ResourceTypeName,
): { projection: Projection | undefined; leniencies: Leniency[] } {
  const { mode } = callerOf(request)
  const { query, leniencies } = readProjectionQuery(request.query, mode)
  const { projection, leniencies: more } = toProjection(type, query, mode)
  return { projection, leniencies: [...leniencies, ...more] }
}

export function toProjection(
  type: ResourceTypeName,
  { attributes, excludedAttributes }: ProjectionQuery,
  mode: Mode,
): { projection: Projection | undefined; leniencies: Leniency[] } {
  const { projection, leniencies } = readProjection(type, { attributes, excludedAttributes }, mode)
  return { projection, leniencies }
}
