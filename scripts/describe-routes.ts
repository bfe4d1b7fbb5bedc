import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import { fastifyZodOpenApiPlugin, fastifyZodOpenApiTransformers } from 'fastify-zod-openapi'
import { stringify } from 'yaml'

const description = `Single sign-on and directory sync for Assist workspaces.

Three kinds of callers: the Assist front-end and back-ends (\`/v1\`, with an access token of Assist or a session of this
service), browsers that sign in (\`/sso\`), and identity providers (\`/scim/v2\`, SCIM 2.0, with a directory token).

Refusals under \`/v1\` are RFC 9457 problem details with a stable \`code\`; SCIM refusals are RFC 7644 error bodies.`

/** Collects the schemas of all routes. Pass it to `buildApp` as `observer`. */
export const describeRoutes = fastifyPlugin(async (app: FastifyInstance) => {
  await app.register(fastifyZodOpenApiPlugin)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Assist identity',
        version: '1.0.0',
        description,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          assistToken: {
            type: 'http',
            scheme: 'bearer',
            bearerFormat: 'JWT',
            description: 'An access token of Assist, or one of this service (POST /v1/sessions, GET /v1/session)',
          },
          sessionToken: {
            type: 'http',
            scheme: 'bearer',
            description: 'A session token (POST /v1/sessions), where the front-end is on another site',
          },
          sessionCookie: {
            type: 'apiKey',
            in: 'cookie',
            name: '__Host-assist-session',
            description: 'The same, where it is on the same site; `assist-session` over plain http in development',
          },
          directoryToken: {
            type: 'http',
            scheme: 'bearer',
            description:
              'A directory token, made under /v1/workspaces/{workspaceId}/directories/{directoryId}/tokens. A tolerant directory also takes it without the word Bearer before it',
          },
        },
      },
    },
    ...fastifyZodOpenApiTransformers,
  })
})

/** Returns the text of openapi.yaml: the routes' schemas as OpenAPI 3.1. The text is the same on every run. */
export async function openApiYaml(app: FastifyInstance): Promise<string> {
  await app.ready()
  return stringify(app.swagger(), { aliasDuplicateObjects: false })
}
