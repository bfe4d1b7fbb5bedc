import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import fastifyPlugin from 'fastify-plugin'
import type { FastifyInstance, HTTPMethods } from 'fastify'
import { parse } from 'yaml'

/** JSON Schema as openapi.yaml has it. */
export interface JsonSchema {
  $ref?: string
  type?: string | string[]
  const?: unknown
  enum?: unknown[]
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  properties?: Record<string, JsonSchema>
  required?: string[]
  items?: JsonSchema
  format?: string
  minimum?: number
  maximum?: number
  example?: unknown
}

export interface Route {
  method: HTTPMethods
  /** As registered, such as `/v1/workspaces/:workspaceId`. */
  url: string
  isDocumented: boolean
  /** Which credential the route asks for. */
  guard: 'none' | 'session' | 'assist' | 'directory'
  /** The names in the path. */
  parameters: string[]
  query: Record<string, JsonSchema>
  body: { mediaType: string; schema: JsonSchema } | undefined
}

interface Operation {
  security?: Record<string, string[]>[]
  parameters?: { name: string; in: string; schema: JsonSchema }[]
  requestBody?: { content: Record<string, { schema: JsonSchema }> }
}

interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, JsonSchema> }
}

const document = parse(await readFile(join(import.meta.dirname, '../../openapi.yaml'), 'utf8')) as Document

/** Follows a reference of openapi.yaml. */
export function resolveSchema(schema: JsonSchema): JsonSchema {
  const [, name] = /^#\/components\/schemas\/(.+)$/.exec(schema.$ref ?? '') ?? []
  return name === undefined ? schema : (document.components.schemas[name] ?? {})
}

/**
 * Every route of an app, documented or not. Pass `observer` to the app, and read `routes` when the app is ready. Schemas come
 * from openapi.yaml, which another test holds to the routes.
 */
export function observeRoutes() {
  const routes: Route[] = []
  const observer = fastifyPlugin(async (app: FastifyInstance) => {
    app.addHook('onRoute', ({ method, url }) => {
      for (const each of [method].flat()) routes.push(describeRoute(each, url))
    })
  })
  return { observer, routes }
}

function describeRoute(method: HTTPMethods, url: string): Route {
  const path = url.replaceAll(/:(\w+)/g, '{$1}')
  const operation = document.paths[path]?.[method === 'HEAD' ? 'get' : method.toLowerCase()]
  const queries = (operation?.parameters ?? []).filter(each => each.in === 'query')
  const [content] = Object.entries(operation?.requestBody?.content ?? {})
  return {
    method,
    url,
    isDocumented: operation !== undefined,
    guard: guardOf(url, operation),
    parameters: [...url.matchAll(/:(\w+)/g)].map(([, name]) => name!),
    query: Object.fromEntries(queries.map(({ name, schema }) => [name, schema])),
    body: content && { mediaType: content[0], schema: content[1].schema },
  }
}

/** A route that openapi.yaml does not list is guarded by its scope. A new scope without a guard must be added here. */
function guardOf(url: string, operation: Operation | undefined): Route['guard'] {
  if (url.startsWith('/scim/v2/')) return 'directory'
  if (url.startsWith('/v1/workspaces/')) return 'assist'
  const names = new Set((operation?.security ?? []).flatMap(each => Object.keys(each)))
  return names.has('sessionToken') ? 'session' : 'none'
}
