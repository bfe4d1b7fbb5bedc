import type { FastifySchemaCompiler, FastifyServerOptions } from 'fastify'
import type { FastifySerializerCompiler } from 'fastify/types/schema.js'
import { z } from 'zod'
import { at } from '../json-pointer.ts'
import { AppError, type FieldError } from '../errors.ts'

/** Faults in words for the admin who made them, whatever schema finds them; a schema's own message comes first. */
z.config({ customError: issue => faultMessage(issue) })

const kinds: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  record: 'an object',
  array: 'a list',
}

const formats: Record<string, string> = {
  uuid: 'an id, such as 0190a6c8-8f00-7000-8000-000000000002',
  datetime: 'an instant by ISO 8601, such as 2026-01-31T12:00:00Z',
  url: 'a URL',
  email: 'an e-mail address',
}

function faultMessage(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined ? 'is missing' : `must be ${kinds[issue.expected] ?? issue.expected}`
    case 'too_small':
      return `must ${size(issue.origin)} ${issue.minimum} at least`
    case 'too_big':
      return `must ${size(issue.origin)} ${issue.maximum} at most`
    case 'invalid_value':
      return `must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.join(', ')}`
    case 'invalid_format':
      return formats[issue.format] && `must be ${formats[issue.format]}`
    case 'invalid_union':
      if (issue.input === undefined) return 'is missing'
      return Array.isArray(issue.options) && issue.discriminator !== undefined
        ? `must have ${issue.discriminator}: ${issue.options.join(', ')}`
        : 'has none of the forms that are taken here'
    case 'unrecognized_keys':
      return `does not have ${issue.keys.join(', ')}`
    case 'invalid_key':
    case 'invalid_element':
    case 'not_multiple_of':
    case 'custom':
      return undefined
  }
}

function size(origin: string): string {
  if (origin === 'string') return 'have a length of'
  return origin === 'array' || origin === 'set' ? 'have a number of items of' : 'be'
}

/**
 * The validator of every route: what Postgres cannot store as text (NUL, half of a surrogate pair) is refused wherever it
 * stands, before the route's own schema is asked. Schemas that are not of zod only describe.
 */
const validate: FastifySchemaCompiler<unknown> = ({ schema, httpPart = 'body' }) => {
  const zod = schema instanceof z.ZodType ? schema : z.unknown()
  return input => {
    const pointer = findUnstorable(input)
    if (pointer !== undefined) {
      const message = 'must not hold NUL characters or unpaired surrogates'
      return {
        error: new AppError('invalid', `The text at ${pointer} ${message}.`, { errors: [{ pointer, message }] }),
      }
    }
    const { success, data, error } = zod.safeParse(input)
    return success ? { value: data } : { error: invalid(error.issues, httpPart) }
  }
}

/** The serialiser of every route: an answer that is not what its schema says is a fault of ours. */
const serialize: FastifySerializerCompiler<unknown> = ({ schema }) => {
  const zod = schema instanceof z.ZodType ? schema : z.unknown()
  return answer => JSON.stringify(zod.parse(answer))
}

/**
 * Both, in place of Fastify's own for JSON Schema, which are then not even loaded. The types know of no others.
 */
export const zodCompilers = {
  buildValidator: () => validate,
  buildSerializer: () => serialize,
} as unknown as NonNullable<NonNullable<FastifyServerOptions['schemaController']>['compilersFactory']>

const places: Record<string, string> = { querystring: 'query', params: 'path', headers: 'header', body: 'body' }

function invalid(issues: readonly z.core.$ZodIssue[], part: string): AppError {
  const errors = issues.flatMap(fieldErrors)
  const first = errors[0]
  const where = first?.pointer ? ` at ${first.pointer}` : ''
  const message = `The request ${places[part] ?? part} is not valid${where}: ${first?.message ?? 'see errors'}.`
  return new AppError('invalid', message, { errors })
}

function fieldErrors(issue: z.core.$ZodIssue): FieldError[] {
  if (issue.code !== 'unrecognized_keys') return [{ pointer: pointerTo(issue.path), message: issue.message }]
  return issue.keys.map(key => ({
    pointer: pointerTo([...issue.path, key]),
    message: 'is not known here, leave it out',
  }))
}

/** A JSON pointer (RFC 6901): empty for the whole. */
function pointerTo(path: readonly PropertyKey[]): string {
  return path.reduce<string>((pointer, step) => at(pointer, String(step)), '')
}

/** The JSON pointer (RFC 6901) of the first text, or name, that cannot be stored. Does not recurse over what was sent. */
function findUnstorable(input: unknown): string | undefined {
  if (typeof input === 'string') return isStorable(input) ? undefined : ''
  if (!isContainer(input)) return undefined
  const left: { value: object; pointer: string }[] = [{ value: input, pointer: '' }]
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    for (const [key, value] of Object.entries(next.value) as [string, unknown][]) {
      if (key === '__proto__') throw new AppError('malformed_json', 'The request body has a forbidden key: __proto__.')
      const isText = typeof value === 'string'
      if (isStorable(key) && !isContainer(value) && !(isText && !isStorable(value))) continue
      const pointer = at(next.pointer, key)
      if (!isStorable(key) || isText) return pointer
      left.push({ value: value as object, pointer })
    }
  }
  return undefined
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}

/** An instant with any offset, as UTC. Postgres takes years from 1 on. */
export const instant = z.iso
  .datetime({ offset: true })
  .transform(text => new Date(text))
  .refine(date => date.getUTCFullYear() >= 1 && date.getUTCFullYear() <= 9999, 'must be within the years 1 to 9999')
  .transform(date => date.toISOString())
