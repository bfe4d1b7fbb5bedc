import { AppError } from '../../errors.ts'
import { at } from '../../json-pointer.ts'
import type { Mode, ResourceTypeName } from '../protocol/attributes.ts'
import { readIfMatch } from '../protocol/conditions.ts'
import type { IfMatch } from '../protocol/conditions.ts'
import { readPatch } from '../protocol/patch/message.ts'
import { allow, namesSchema, printable, readKeys, refuse } from '../protocol/reading.ts'
import type { Leniency, MessagePlace } from '../protocol/reading.ts'
import { isResourceId } from '../protocol/resource-id.ts'
import { readResource } from '../protocol/resource.ts'
import { MAX_BULK_OPERATIONS } from '../protocol/schemas.ts'
import { groupEtag, locationOf, userEtag } from '../protocol/serialize.ts'
import { scimError, scimStatus, toScimRefusal, type ScimError } from '../http/error.ts'
import { createGroup, deleteGroup, patchGroup, replaceGroup } from '../groups/groups.ts'
import { patchUser, replaceUser } from '../users/change-user.ts'
import { createUser } from '../users/create-user.ts'
import { deleteUser } from '../users/delete-user.ts'
import type { Context } from '../storage/write.ts'
import { findReferences, type References } from './references.ts'

/**
 * Bulk (RFC 7644 §3.7): operations that stand and fall one by one, in an order in which each finds what it refers to.
 */

const REQUEST_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:BulkRequest'
export const RESPONSE_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:BulkResponse'

type Method = 'POST' | 'PUT' | 'PATCH' | 'DELETE'

export interface BulkOperation {
  method: Method
  bulkId?: string
  /** Where it stands in the request. */
  pointer: string
  /** What it asks, or why that is refused. */
  task: Task | AppError
  /** What was overlooked in the request around its data. */
  leniencies: readonly Leniency[]
}

interface Task {
  type: ResourceTypeName
  /** Absent for a POST; perhaps `bulkId:…`. */
  id?: string
  data: unknown
  ifMatch: IfMatch
}

/** The outcome of one operation, as it is answered. */
export interface BulkResult {
  method: Method
  bulkId?: string
  version?: string
  location?: string
  /** The HTTP status, as text. */
  status: string
  response?: ScimError
}

export interface BulkRequest {
  operations: BulkOperation[]
  /** After how many failures to stop; absent where never. */
  failOnErrors?: number
}

/**
 * Reads a BulkRequest. A fault within one operation is a failure of that one (RFC 7644 §3.7.3), unless it cannot even be
 * said which one failed.
 * @throws {AppError} `scim_invalid_syntax`, `scim_invalid_value`, with the pointer; `body_too_large` above 1,000 operations
 */
export function readBulk(body: unknown, mode: Mode): BulkRequest {
  const reading: MessageReading = { mode, leniencies: [] }
  const keys = ['schemas', 'Operations', 'failOnErrors']
  const { schemas, operations: sent, failonerrors: failOnErrors } = readKeys(body, keys, { reading, pointer: '' })
  if (!Array.isArray(sent)) {
    const message = 'Send a BulkRequest with Operations.'
    throw refuse({ code: 'scim_invalid_syntax', message, pointer: '/Operations' })
  }
  if (!namesSchema(schemas, REQUEST_SCHEMA)) {
    const message = `schemas must be ["${REQUEST_SCHEMA}"].`
    allow(reading, 'schemas_missing', { code: 'scim_invalid_syntax', message, pointer: '/schemas' })
  }
  if (sent.length > MAX_BULK_OPERATIONS) {
    throw new AppError(
      'body_too_large',
      `A bulk request takes at most ${MAX_BULK_OPERATIONS} operations: send several.`,
    )
  }
  const operations = sent.map((operation, index) => readOperation(operation, `/Operations/${index}`, reading))
  const bulkIds = new Set<string>()
  const twice = operations.find(({ bulkId }) => {
    const isTaken = bulkId !== undefined && bulkIds.has(bulkId)
    if (bulkId !== undefined) bulkIds.add(bulkId)
    return isTaken
  })?.bulkId
  if (twice !== undefined) {
    const message = `bulkId ${printable(twice)} is given twice.`
    throw refuse({ code: 'scim_invalid_syntax', message, pointer: '/Operations' })
  }
  if (failOnErrors === undefined || failOnErrors === null) return { operations }
  if (typeof failOnErrors !== 'number' || !Number.isInteger(failOnErrors) || failOnErrors < 1) {
    throw refuse({
      code: 'scim_invalid_value',
      message: 'failOnErrors must be a whole number from 1 on.',
      pointer: '/failOnErrors',
    })
  }
  return { operations, failOnErrors }
}

type MessageReading = MessagePlace['reading']

function readOperation(sent: unknown, pointer: string, request: MessageReading): BulkOperation {
  const reading: MessageReading = { mode: request.mode, leniencies: [...request.leniencies] }
  const read = readKeys(sent, ['method', 'path', 'bulkId', 'version', 'data'], { reading, pointer })
  const { bulkid: bulkId } = read
  const method =
    typeof read.method === 'string' ? methods.find(each => each === String(read.method).toUpperCase()) : undefined
  if (method === undefined) throw fault('method must be POST, PUT, PATCH or DELETE.', at(pointer, 'method'))
  const isNamed = typeof bulkId === 'string' && bulkId !== ''
  if (bulkId !== undefined && bulkId !== null && !isNamed) throw fault('bulkId must be text.', at(pointer, 'bulkId'))
  return {
    method,
    ...(isNamed && { bulkId }),
    pointer,
    task:
      method === 'POST' && !isNamed
        ? fault('A POST needs a bulkId.', at(pointer, 'bulkId'))
        : readTask(read, { method, pointer }),
    leniencies: reading.leniencies,
  }
}

const PATH = /^\/(Users|Groups)(?:\/([^/?]+))?\/?$/i

function readTask(
  { path, version, data }: Record<string, unknown>,
  { method, pointer }: { method: Method; pointer: string },
): Task | AppError {
  if (typeof path !== 'string') return fault('path must be text, such as /Users.', at(pointer, 'path'))
  const [, endpoint, id] = PATH.exec(path) ?? []
  if (endpoint === undefined) {
    const message = 'path must be /Users or /Groups, with an id but for POST.'
    return refuse({ code: 'not_found', message, pointer: at(pointer, 'path') })
  }
  if ((method === 'POST') === (id !== undefined)) {
    const message = 'path must have an id, but none for POST.'
    return refuse({ code: 'method_not_allowed', message, pointer: at(pointer, 'path') })
  }
  if (version !== undefined && version !== null && typeof version !== 'string') {
    return fault('version must be an entity tag.', at(pointer, 'version'))
  }
  return {
    type: endpoint.toLowerCase() === 'users' ? 'User' : 'Group',
    ...(id !== undefined && { id }),
    data,
    ifMatch: readIfMatch(version ?? undefined),
  }
}

function fault(message: string, pointer: string): AppError {
  return refuse({ code: 'scim_invalid_syntax', message, pointer })
}

const methods: readonly Method[] = ['POST', 'PUT', 'PATCH', 'DELETE']

/** A run over the operations of a request. */
interface Run {
  context: Context
  /** Bounds of the data of one operation that is no whole group. */
  maxValues: number
  results: Map<BulkOperation, BulkResult>
  references: References
  /** Told of each failure, and where in the request that begins to which the refusal points. */
  onRefusal: (refusal: AppError, pointer: string) => Promise<void>
  errors: number
}

/**
 * Runs the operations, and again and again those that wait for another's id, until none is left or all wait for each other
 * in a circle, which RFC 7644 §3.7.1 lets a service refuse: groups in a circle would be refused one by one, too.
 * @param options.maxValues of the data of one operation, unless it is a whole group
 * @returns results in the order of the request; those after the last allowed failure are not run, and missing
 */
export async function runBulk(
  context: Context,
  { operations, failOnErrors = Infinity }: BulkRequest,
  { maxValues, onRefusal }: Pick<Run, 'maxValues' | 'onRefusal'>,
): Promise<BulkResult[]> {
  const references = await findReferences(operations)
  const run: Run = { context, maxValues, results: new Map(), references, onRefusal, errors: 0 }
  let waiting = operations
  while (waiting.length > 0 && run.errors < failOnErrors) {
    const before = waiting.length
    for (const operation of waiting) {
      if (run.errors >= failOnErrors) break
      const { task } = operation
      if (task instanceof AppError) {
        await fail(run, operation, task)
        continue
      }
      const { missing, unknown } = references.of(operation)
      if (unknown !== undefined) await fail(run, operation, unknownBulkId(unknown))
      else if (missing === 0) await execute(run, operation, task)
    }
    waiting = waiting.filter(operation => !run.results.has(operation))
    if (waiting.length < before) continue
    for (const stuck of waiting) if (run.errors < failOnErrors) await fail(run, stuck, circle())
    break
  }
  return operations.map(operation => run.results.get(operation)).filter(result => result !== undefined)
}

function circle(): AppError {
  return new AppError('conflict', 'The operation refers to others in a circle: send one of the circle without.')
}

function unknownBulkId(bulkId: string): AppError {
  const message = `bulkId:${printable(bulkId)} is of no resource that this request has created.`
  return new AppError('scim_invalid_value', message)
}

async function execute(run: Run, operation: BulkOperation, task: Task): Promise<void> {
  const { method, bulkId, pointer, leniencies } = operation
  const context: Context = { ...run.context, within: { pointer: `${pointer}/data`, leniencies } }
  try {
    requireFew(run, operation, task)
    const done = await dispatch(context, method, task)
    if (bulkId !== undefined && done.id !== undefined) run.references.resolve(bulkId, done.id)
    const location = done.id === undefined ? {} : { location: locationOf(task.type, done.id, context.baseUrl) }
    run.results.set(operation, {
      ...described(operation),
      ...(done.version !== undefined && { version: done.version }),
      ...location,
      status: String(done.status),
    })
  } catch (error) {
    await fail(run, operation, error)
  }
}

/** The operation could not be sent as a request by itself, either. */
function requireFew({ references, maxValues }: Run, operation: BulkOperation, { type }: Task): void {
  const isWholeGroup = type === 'Group' && operation.method !== 'PATCH'
  if (isWholeGroup || references.of(operation).values <= maxValues) return
  throw new AppError('body_too_large', `The data of this operation has more than ${maxValues} values: send several.`)
}

function described({ method, bulkId }: BulkOperation): Pick<BulkResult, 'method' | 'bulkId'> {
  return { method, ...(bulkId !== undefined && { bulkId }) }
}

async function fail(run: Run, operation: BulkOperation, error: unknown): Promise<void> {
  const refusal = toScimRefusal(error)
  // What is no fault of one operation ends them all: the client sends the request again. A fault of ours is none of the
  // others, whose outcome would be lost with the answer.
  if (refusal.code === 'unavailable' || refusal.code === 'unauthenticated') throw refusal
  run.errors += 1
  const { bulkId, pointer, task } = operation
  if (bulkId !== undefined) run.references.giveUp(bulkId)
  await run.onRefusal(refusal, task instanceof AppError ? '' : `${pointer}/data`)
  const status = String(scimStatus(refusal.code))
  const location = placeOf(operation, run.context)
  run.results.set(operation, { ...described(operation), ...location, status, response: scimError(refusal) })
}

/** Where the resource is that an operation is about; nowhere as long as it is not made. */
function placeOf({ task }: BulkOperation, { baseUrl }: Context): { location?: string } {
  if (task instanceof AppError || task.id === undefined || task.id.startsWith('bulkId:')) return {}
  return { location: locationOf(task.type, task.id, baseUrl) }
}

interface Done {
  status: number
  id?: string
  version?: string
}

async function dispatch(context: Context, method: Method, task: Task): Promise<Done> {
  const { type, id = '', data, ifMatch } = task
  const { mode } = context.caller
  if (id !== '' && !isResourceId(id)) {
    throw new AppError('not_found', `There is no ${type.toLowerCase()} of this id in this directory.`)
  }
  if (method === 'DELETE') {
    await (type === 'User' ? deleteUser : deleteGroup)(context, { id, ifMatch })
    return { status: 204, id }
  }
  if (method === 'PATCH') {
    const patch = { id, ifMatch, ...readPatch(type, data, mode) }
    if (type === 'User') return { status: 200, id, version: userEtag(await patchUser(context, patch)) }
    return { status: 200, id, version: groupEtag(await patchGroup(context, patch)) }
  }
  if (type === 'Group') {
    const sent = { body: data, leniencies: [] }
    if (method === 'PUT') {
      return { status: 200, id, version: groupEtag(await replaceGroup(context, { id, ifMatch, ...sent })) }
    }
    const group = await createGroup(context, sent)
    return { status: 201, id: group.id, version: groupEtag(group) }
  }
  const read = readResource(type, data, mode)
  if (method === 'PUT') {
    return { status: 200, id, version: userEtag(await replaceUser(context, { id, ifMatch, ...read })) }
  }
  const user = await createUser(context, read)
  return { status: 201, id: user.id, version: userEtag(user) }
}
