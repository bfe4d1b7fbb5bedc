import { stringify } from 'yaml'
import type { FastifyInstance } from 'fastify'

/** The text of openapi.yaml: the routes' schemas as OpenAPI 3.1, the same bytes on every run. */
export async function openApiYaml(app: FastifyInstance): Promise<string> {
  await app.ready()
  return stringify(app.swagger(), { aliasDuplicateObjects: false })
}
