import { z } from 'zod'
import { MAX_JSON_DEPTH, MAX_OBJECT_KEYS, MAX_TOKEN_BYTES } from '../../http/body/parse-json.ts'
import { ENTERPRISE_SCHEMA, GROUP_SCHEMA, resourceTypes, USER_SCHEMA } from '../protocol/attributes.ts'
import type { Attribute, ResourceTypeName } from '../protocol/attributes.ts'
import { DEFAULT_COUNT, MAX_COUNT } from '../protocol/list-query.ts'

/** What openapi.yaml says of a SCIM operation. It only describes: requests are read by the attribute table. */

type JsonSchema = Record<string, unknown>

/** As of a Postgres `integer`. */
const MAX_INTEGER = 2 ** 31 - 1

const simpleTypes = {
  string: { type: 'string' },
  boolean: { type: 'boolean' },
  dateTime: { type: 'string', format: 'date-time' },
  reference: { type: 'string', format: 'uri-reference' },
  binary: { type: 'string', contentEncoding: 'base64' },
} satisfies Record<Exclude<Attribute['type'], 'complex'>, JsonSchema>

const PATCH_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'
const SEARCH_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:SearchRequest'
const BULK_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:BulkRequest'
const BULK_RESPONSE_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:BulkResponse'
const LIST_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:ListResponse'
const ERROR_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:Error'

const exampleId = '0190a6c8-8f00-7000-8000-000000000003'
const userExample = {
  schemas: [USER_SCHEMA, ENTERPRISE_SCHEMA],
  externalId: '00u1ana',
  userName: 'ana@example.com',
  name: { givenName: 'Ana', familyName: 'Example' },
  displayName: 'Ana Example',
  emails: [{ value: 'ana@example.com', type: 'work', primary: true }],
  active: true,
  [ENTERPRISE_SCHEMA]: { department: 'Engineering' },
}
const groupExample = { schemas: [GROUP_SCHEMA], displayName: 'Engineering', members: [{ value: exampleId }] }

/** The bodies of requests and answers, each a component of the document. */
const bodies = {
  User: component('ScimUser', resourceSchema('User'), userExample),
  Group: component('ScimGroup', resourceSchema('Group'), groupExample),
  PatchOp: component(
    'ScimPatchOp',
    {
      type: 'object',
      description: 'RFC 7644 section 3.5.2; all operations or none',
      properties: {
        schemas: listOf({ type: 'string' }),
        Operations: listOf({
          type: 'object',
          properties: {
            op: { type: 'string', enum: ['add', 'replace', 'remove'] },
            path: { type: 'string' },
            value: {},
          },
          required: ['op'],
        }),
      },
      required: ['schemas', 'Operations'],
    },
    { schemas: [PATCH_SCHEMA], Operations: [{ op: 'replace', path: 'active', value: false }] },
  ),
  SearchRequest: component(
    'ScimSearchRequest',
    { type: 'object', description: 'RFC 7644 section 3.4.3: the parameters of a list', properties: {} },
    { schemas: [SEARCH_SCHEMA], filter: 'userName eq "ana@example.com"', startIndex: 1, count: 10 },
  ),
  ListResponse: component(
    'ScimListResponse',
    {
      type: 'object',
      description: 'RFC 7644 section 3.4.2',
      properties: {
        schemas: listOf({ type: 'string' }),
        totalResults: { type: 'integer', minimum: 0, maximum: MAX_INTEGER },
        itemsPerPage: { type: 'integer', minimum: 0, maximum: MAX_INTEGER },
        startIndex: { type: 'integer', minimum: 0, maximum: MAX_INTEGER },
        Resources: listOf({ type: 'object' }),
      },
      required: ['schemas', 'totalResults'],
    },
    { schemas: [LIST_SCHEMA], totalResults: 1, itemsPerPage: 1, startIndex: 1, Resources: [userExample] },
  ),
  BulkRequest: component(
    'ScimBulkRequest',
    {
      type: 'object',
      description: 'RFC 7644 section 3.7; each operation stands and falls for itself',
      properties: {
        schemas: listOf({ type: 'string' }),
        failOnErrors: { type: 'integer', minimum: 1, maximum: MAX_INTEGER },
        Operations: listOf({
          type: 'object',
          properties: {
            method: { type: 'string', enum: ['POST', 'PUT', 'PATCH', 'DELETE'] },
            path: { type: 'string' },
            bulkId: { type: 'string' },
            version: { type: 'string' },
            data: { type: 'object' },
          },
          required: ['method', 'path'],
        }),
      },
      required: ['schemas', 'Operations'],
    },
    {
      schemas: [BULK_SCHEMA],
      Operations: [{ method: 'POST', path: '/Users', bulkId: 'ana', data: userExample }],
    },
  ),
  BulkResponse: component(
    'ScimBulkResponse',
    {
      type: 'object',
      description: 'RFC 7644 section 3.7.3: what became of each operation',
      properties: {
        schemas: listOf({ type: 'string' }),
        Operations: listOf({
          type: 'object',
          properties: {
            method: { type: 'string' },
            bulkId: { type: 'string' },
            version: { type: 'string' },
            location: { type: 'string' },
            status: { type: 'string' },
            response: { type: 'object' },
          },
          required: ['method', 'status'],
        }),
      },
      required: ['schemas', 'Operations'],
    },
    {
      schemas: [BULK_RESPONSE_SCHEMA],
      Operations: [{ method: 'POST', bulkId: 'ana', status: '201' }],
    },
  ),
  Discovery: component('ScimDiscovery', { type: 'object', description: 'RFC 7643 sections 5 to 7' }),
  Error: component(
    'ScimError',
    {
      type: 'object',
      description: 'RFC 7644 section 3.12',
      properties: {
        schemas: listOf({ type: 'string' }),
        status: { type: 'string' },
        scimType: { type: 'string' },
        detail: { type: 'string', description: 'What was wrong and what to change' },
      },
      required: ['schemas', 'status', 'detail'],
    },
    { schemas: [ERROR_SCHEMA], status: '409', scimType: 'uniqueness', detail: 'userName is taken in this directory.' },
  ),
}

export interface DescribedOperation {
  operationId: string
  summary: string
  /** Path after the directory, such as `/Users/:id`. */
  path: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** What the request body is, in words; absent where there is none. */
  body?: string | undefined
  status: 200 | 201 | 204
  takesLargeBodies: boolean
}

/** The schema of a route of the SCIM scope, for openapi.yaml only. */
export function operationSchema(operation: DescribedOperation): object {
  const { operationId, summary, path, method, body, status, takesLargeBodies } = operation
  const isOne = path.endsWith(':id')
  const type = (['User', 'Group'] as const).find(each => path === `/${each}s` || path === `/${each}s/:id`)
  return {
    tags: ['SCIM'],
    operationId,
    summary,
    security: [{ directoryToken: [] }],
    params: isOne ? z.object({ directoryId, id: resourceId(type) }) : z.object({ directoryId }),
    ...(method === 'GET' && type && { querystring: isOne ? projectionQuery : listQuery }),
    ...(body !== undefined && { body: { description: body, ...json(bodies[requestBody(method, { path, type })]) } }),
    response: {
      [status]:
        status === 204
          ? { description: 'Done' }
          : { description: summary, ...json(bodies[answerBody(method, { path, isOne, type })]) },
      ...(method === 'PATCH' &&
        type === 'Group' && { 204: { description: 'Done, where no `attributes` are asked for' } }),
      ...refusals(method, { isOne, type, takesLargeBodies }),
    },
  }
}

interface Place {
  path: string
  type: ResourceTypeName | undefined
}

function requestBody(method: string, { path, type }: Place): keyof typeof bodies {
  if (path === '/Bulk') return 'BulkRequest'
  return method === 'PATCH' ? 'PatchOp' : (type ?? 'SearchRequest')
}

function answerBody(method: string, { path, isOne, type }: Place & { isOne: boolean }): keyof typeof bodies {
  if (path === '/Bulk') return 'BulkResponse'
  if (!type && method === 'GET') return 'Discovery'
  return type && (isOne || method !== 'GET') ? type : 'ListResponse'
}

/** The refusals of a method by status, with the `scimType` of each that has one. */
function refusals(
  method: string,
  { isOne, type, takesLargeBodies }: Pick<Place, 'type'> & { isOne: boolean; takesLargeBodies: boolean },
) {
  const changes = method === 'POST' || method === 'PUT' || method === 'PATCH'
  const described: Record<number, string | false> = {
    400: invalidTypes(method, type),
    401: 'The token is not live in this directory; the activity log says why',
    404: isOne && 'There is no such resource in this directory',
    409: changes && type !== undefined && '`uniqueness`',
    412: isOne && method !== 'GET' && 'The resource is not what If-Match says',
    413: changes && largeBodies(takesLargeBodies),
    429: 'More than the directory, or large bodies, may take at once: go on after Retry-After',
    503: 'Try again after Retry-After',
  }
  const entries = Object.entries(described).filter(([, description]) => description !== false)
  return Object.fromEntries(entries.map(([status, description]) => [status, { description, ...json(bodies.Error) }]))
}

function largeBodies(takesLargeBodies: boolean): string {
  const [bytes, values] = takesLargeBodies
    ? ['SCIM_MAX_BODY_BYTES', 'SCIM_MAX_BODY_VALUES']
    : ['SCIM_MAX_SMALL_BODY_BYTES', 'SCIM_MAX_SMALL_BODY_VALUES']
  return (
    `The body has more than ${bytes} bytes or ${values} values, nests more than ${MAX_JSON_DEPTH} deep, has more than ` +
    `${MAX_OBJECT_KEYS} keys in an object, or a string of more than ${MAX_TOKEN_BYTES} bytes`
  )
}

function invalidTypes(method: string, type: ResourceTypeName | undefined): string | false {
  if (!type && method === 'GET') return false
  if (method === 'GET') return '`invalidFilter`, `invalidValue`, `tooMany`'
  if (method === 'DELETE') return '`invalidValue`'
  const paths = method === 'PATCH' ? ', `invalidPath`, `noTarget`' : ''
  return `\`invalidSyntax\`, \`invalidValue\`, \`mutability\`${paths}`
}

const directoryId = z.string().meta({ description: 'The directory', example: '0190a6c8-8f00-7000-8000-000000000002' })

function resourceId(type: ResourceTypeName | undefined) {
  return z.string().meta({ description: type ? 'As the service made it' : 'Its name or URN', example: exampleId })
}

const projectionQuery = z.object({
  attributes: z
    .string()
    .optional()
    .meta({ description: 'Only these, separated by commas', example: 'userName,active' }),
  excludedAttributes: z.string().optional().meta({ description: 'All but these', example: 'members' }),
})

const listQuery = projectionQuery.extend({
  filter: z
    .string()
    .optional()
    .meta({ description: 'RFC 7644 section 3.4.2.2', example: 'userName eq "ana@example.com"' }),
  startIndex: z.int32().optional().meta({ description: 'From 1 on' }),
  count: z
    .int32()
    .optional()
    .meta({ description: `At most ${MAX_COUNT}; ${DEFAULT_COUNT} where it is not given` }),
  sortBy: z.string().optional().meta({ example: 'userName' }),
  sortOrder: z.enum(['ascending', 'descending']).optional(),
})

function json(schema: z.ZodType) {
  return { content: { 'application/scim+json': { schema } } }
}

function component(id: string, schema: JsonSchema, example?: unknown): z.ZodType {
  return z.any().meta({ id, override: { ...schema, ...(example !== undefined && { example }) } })
}

/** The attribute table as JSON Schema. */
function resourceSchema(type: ResourceTypeName): JsonSchema {
  const { common, attributes, extensions, description } = resourceTypes[type]
  const all = [...common, ...attributes, ...extensions]
  return {
    type: 'object',
    description,
    properties: propertiesOf(all),
    required: all.filter(each => each.required && each.mutability !== 'readOnly').map(each => each.name),
  }
}

function propertiesOf(attributes: readonly Attribute[]): Record<string, JsonSchema> {
  return Object.fromEntries(attributes.map(attribute => [attribute.name, attributeSchema(attribute)]))
}

function attributeSchema(attribute: Attribute): JsonSchema {
  const { type, multiValued, description, mutability, subAttributes } = attribute
  const value: JsonSchema =
    type === 'complex' ? { type: 'object', properties: propertiesOf(subAttributes ?? []) } : simpleTypes[type]
  return {
    ...(multiValued ? listOf(value) : value),
    description,
    ...(mutability === 'readOnly' && { readOnly: true }),
  }
}

function listOf(items: JsonSchema): JsonSchema {
  return { type: 'array', items }
}
