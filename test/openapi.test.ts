import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import { parse } from 'yaml'
import { problemStatus } from '../src/http/problem.ts'
import { describeRoutes, openApiYaml } from '../scripts/describe-routes.ts'
import { makeApp } from './helpers/app.ts'

interface Body {
  content?: Record<string, { schema?: unknown; example?: unknown; examples?: unknown }>
}

interface Operation {
  operationId?: string
  summary?: string
  tags?: string[]
  security?: Record<string, string[]>[]
  parameters?: { name: string; in: string; schema?: unknown; example?: unknown }[]
  requestBody?: Body
  responses: Record<string, Body & { description: string }>
}

interface Document {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, unknown>; securitySchemes: Record<string, unknown> }
}

const scimTypes = (
  'invalidFilter tooMany uniqueness mutability invalidSyntax invalidPath noTarget invalidValue invalidVers sensitive ' +
  'invalidCursor expiredCursor invalidCount'
).split(' ')

const text = await readFile(join(import.meta.dirname, '../openapi.yaml'), 'utf8')
const document = parse(text) as Document
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, ...operation })),
)

t.test('openapi.yaml is what the routes say, whatever the settings: `npm run openapi`', async t => {
  const { app } = await makeApp(t, { options: { observer: describeRoutes } })
  t.equal(text, await openApiYaml(app))
})

t.test('/docs shows that document, from local files alone', async t => {
  const { app } = await makeApp(t)
  const page = await app.inject('/docs')
  t.equal(page.statusCode, 200)
  t.match(page.headers['content-type'], /^text\/html/)
  const files = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, file]) => new URL(file!, 'http://here/docs'))
  t.ok(files.length > 4)
  for (const { host, pathname } of files) {
    t.equal(host, 'here')
    t.equal((await app.inject(pathname)).statusCode, 200, pathname)
  }
  t.same((await app.inject('/docs/json')).json(), document)
  t.match((await app.inject('/docs/nothing')).json(), { status: 404, code: 'not_found' })
  t.equal((await app.inject({ method: 'HEAD', url: '/docs' })).body, '')
})

t.test('openapi.yaml is valid OpenAPI 3.1', async t => {
  // A SCIM attribute is named $ref, which the validator takes for a reference of the document.
  const copy = JSON.parse(JSON.stringify(document).replaceAll('"$ref":{', '"ref":{')) as Record<string, unknown>
  const { valid, errors } = await new Validator().validate(copy)
  t.ok(valid, { errors })
  t.match(document.openapi, /^3\.1\./)
})

t.test('every operation has an id, a summary, one tag, and says who may call it', async t => {
  const ids = operations.map(each => each.operationId ?? '')
  t.same(
    ids.filter((id, index) => !/^[a-z][A-Za-z]+$/.test(id) || ids.indexOf(id) !== index),
    [],
    'ids are camelCase and unique',
  )
  t.same(
    offences(each => each.summary !== undefined && /^[A-Z].*[^.]$/.test(each.summary)),
    [],
    'summaries',
  )
  t.same(
    offences(each => each.tags?.length === 1),
    [],
    'tags',
  )
  // An empty list says "nobody needs to prove anything"; an absent one says that somebody forgot.
  t.same(
    offences(each => each.security !== undefined),
    [],
    'security',
  )
  const schemes = new Set(operations.flatMap(each => each.security ?? []).flatMap(each => Object.keys(each)))
  t.same(schemes.difference(new Set(Object.keys(document.components.securitySchemes))), new Set())
})

t.test('every operation names the codes that it refuses with, and no others exist', async t => {
  const named = operations.map(({ name, responses }) => {
    const refusals = Object.entries(responses).filter(([status]) => /^[45]/.test(status))
    const words = refusals.flatMap(([, { description }]) =>
      [...description.matchAll(/`(\w+)`/g)].map(([, word]) => word!),
    )
    return { name, statuses: refusals.map(([status]) => status), words }
  })
  const scim = named.filter(each => each.name.includes('/scim/v2/'))
  const others = named.filter(each => !each.name.includes('/scim/v2/'))
  t.same(
    others.filter(each => each.words.length === 0).map(each => each.name),
    // It says that the process is alive, or nothing at all.
    ['GET /healthz'],
  )
  t.same(
    others.flatMap(each => each.words).filter(word => !(word in problemStatus)),
    [],
  )
  // SCIM has words for some refusals only (RFC 7644 table 9, RFC 9865 section 2.1), and statuses for all.
  t.same(
    scim.filter(each => !each.statuses.includes('401') || !each.statuses.includes('503')).map(each => each.name),
    [],
  )
  t.same(
    scim.flatMap(each => each.words).filter(word => !scimTypes.includes(word)),
    [],
  )
})

t.test('every operation that takes input shows an example of it', async t => {
  t.same(
    offences(({ requestBody, parameters }) => {
      if (requestBody) return hasExample(requestBody)
      const inPath = parameters?.filter(each => each.in === 'path') ?? []
      return inPath.every(each => hasExample(each))
    }),
    [],
  )
})

t.test('every answer with a body has a schema', async t => {
  const bodies = operations.flatMap(({ name, responses }) =>
    Object.entries(responses).flatMap(([status, { content }]) =>
      Object.values(content ?? {}).map(each => ({ name: `${name} ${status}`, ...each })),
    ),
  )
  t.same(
    bodies.filter(({ schema }) => !schema || Object.keys(schema).length === 0).map(each => each.name),
    [],
  )
})

function offences(isRight: (operation: Operation) => boolean): string[] {
  return operations.filter(each => !isRight(each)).map(each => each.name)
}

/** Is there an example anywhere in it, also in the components that it refers to? */
function hasExample(node: unknown, seen = new Set<unknown>()): boolean {
  if (typeof node !== 'object' || node === null || seen.has(node)) return false
  seen.add(node)
  const { $ref: reference } = node as { $ref?: unknown }
  if (typeof reference === 'string') {
    return hasExample(document.components.schemas[reference.replace('#/components/schemas/', '')], seen)
  }
  return 'example' in node || 'examples' in node || Object.values(node).some(each => hasExample(each, seen))
}

t.test('every integer that a request can contain has the bounds of its column', t => {
  const unbounded: string[] = []
  const visit = (node: unknown, path: string) => {
    if (typeof node !== 'object' || node === null) return
    const { type, maximum, minimum } = node as { type?: string; maximum?: number; minimum?: number }
    if (type === 'integer' && !(maximum !== undefined && maximum <= 2_147_483_647 && minimum !== undefined)) {
      unbounded.push(path)
    }
    for (const [key, value] of Object.entries(node)) visit(value, `${path}/${key}`)
  }
  for (const [path, methods] of Object.entries(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(
      methods as Record<string, { requestBody?: unknown; parameters?: unknown }>,
    )) {
      visit([operation.requestBody, operation.parameters], `${method} ${path}`)
    }
  }
  t.same(unbounded, [])
  t.end()
})
