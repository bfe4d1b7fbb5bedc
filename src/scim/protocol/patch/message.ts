import { AppError } from '../../../errors.ts'
import { at } from '../../../json-pointer.ts'
import { findAttribute } from '../attributes.ts'
import type { Mode, ResourceTypeName } from '../attributes.ts'
import { parsePath } from '../filter.ts'
import type { Path } from '../filter.ts'
import { allow, isObject, namesSchema, readKeys, refuse } from '../reading.ts'
import type { Leniency, Place, Reading } from '../reading.ts'

/** Reads the body of a PATCH request: a PatchOp message (RFC 7644 §3.5.2). */

export interface Operation {
  op: 'add' | 'replace' | 'remove'
  /** Absent: `value` is an object whose keys are the paths. */
  path?: Path
  value?: unknown
  /** Pointer to the operation, such as `/Operations/0`. */
  pointer: string
}

export const MAX_OPERATIONS = 5000

/**
 * Reads a PatchOp message.
 * @throws {AppError} `scim_invalid_syntax`, `scim_invalid_path`, `scim_invalid_value`; `scim_no_target` for a `remove`
 * without path; `body_too_large` above 5,000 operations
 */
export function readPatch(
  type: ResourceTypeName,
  body: unknown,
  mode: Mode,
): { operations: Operation[]; leniencies: Leniency[] } {
  const reading: Reading = { type, mode, leniencies: [] }
  const { schemas, operations } = readKeys(body, ['schemas', 'Operations'], { reading, pointer: '' })
  if (!namesSchema(schemas, PATCH_OP)) {
    const message = `schemas must be ["${PATCH_OP}"].`
    allow(reading, 'schemas_missing', { code: 'scim_invalid_syntax', message, pointer: '/schemas' })
  }
  if (!Array.isArray(operations)) {
    throw refuse({ code: 'scim_invalid_syntax', message: 'Operations must be an array.', pointer: '/Operations' })
  }
  if (operations.length === 0) {
    const message = 'Operations is empty. Send at least one operation.'
    allow(reading, 'operations_empty', { code: 'scim_invalid_syntax', message, pointer: '/Operations' })
  }
  if (operations.length > MAX_OPERATIONS) {
    throw new AppError(
      'body_too_large',
      `A PATCH may hold at most ${MAX_OPERATIONS} operations. Split it into several requests.`,
    )
  }
  const read = operations.map((operation: unknown, index) =>
    readOperation(operation, { reading, pointer: `/Operations/${index}` }),
  )
  return { operations: read, leniencies: reading.leniencies }
}

export const PATCH_OP = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'

export function readOperation(sent: unknown, place: Place): Operation {
  const { pointer } = place
  const { op: verb, path, value } = readKeys(sent, ['op', 'path', 'value'], place)
  const op = typeof verb === 'string' ? verbs.find(known => known === verb.toLowerCase()) : undefined
  if (op === undefined) {
    throw refuse({
      code: 'scim_invalid_syntax',
      message: 'op must be add, replace or remove.',
      pointer: at(pointer, 'op'),
    })
  }
  if (op !== 'remove' && value === undefined) {
    throw refuse({ code: 'scim_invalid_value', message: `${op} needs a value.`, pointer: at(pointer, 'value') })
  }
  const operation: Operation = { op, pointer, ...(value === undefined ? {} : { value }) }
  if (path !== undefined && path !== null && path !== '')
    return { ...operation, path: readPath(path, at(pointer, 'path')) }
  if (op === 'remove') {
    throw refuse({ code: 'scim_no_target', message: 'remove needs a path.', pointer: at(pointer, 'path') })
  }
  if (!isObject(value)) {
    const message = `${op} without a path needs an object of attributes as value.`
    throw refuse({ code: 'scim_invalid_value', message, pointer: at(pointer, 'value') })
  }
  const message = `${op} needs a path.`
  allow(place.reading, 'path_missing', { code: 'scim_invalid_syntax', message, pointer })
  return operation
}

export const verbs = ['add', 'replace', 'remove'] as const

export function readPath(path: unknown, pointer: string): Path {
  if (typeof path !== 'string') throw refuse({ code: 'scim_invalid_path', message: 'path must be text.', pointer })
  try {
    return parsePath(path)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw refuse({ code: error.code, message: error.message, pointer })
  }
}

/**
 * The top-level attributes that operations name, by canonical name. Undefined when a name does not resolve. When only
 * `active` or `members` change, the caller need not read the resource: `applyPatch({}, …)` is enough.
 */
export function touchedAttributes(
  type: ResourceTypeName,
  operations: readonly Operation[],
): ReadonlySet<string> | undefined {
  const touched = new Set<string>()
  for (const { path, value } of operations) {
    const names = path === undefined ? Object.keys(isObject(value) ? value : {}) : [path.attribute]
    for (const name of names) {
      const found = findAttribute(type, name)
      if (found?.names[0] === undefined) return undefined
      touched.add(found.names[0])
    }
  }
  return touched
}
