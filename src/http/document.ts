import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import { createSerializerCompiler, fastifyZodOpenApiPlugin, fastifyZodOpenApiTransformers } from 'fastify-zod-openapi'
import { validate } from './validation.ts'

const description = `Single sign-on and directory sync for Assist workspaces.

Three kinds of callers: the Assist front-end and back-ends (\`/v1\`, with an access token of Assist or a session of this
service), browsers that sign in (\`/sso\`), and identity providers (\`/scim/v2\`, SCIM 2.0, with a directory token).

Refusals under \`/v1\` are RFC 9457 problem details with a stable \`code\`; SCIM refusals are RFC 7644 error bodies.`

/** Validates and serialises by the routes' zod schemas, collects them as OpenAPI 3.1, and serves `/docs` from local files. */
export const openApiDocument = fastifyPlugin(async (app: FastifyInstance) => {
  app.setValidatorCompiler(validate)
  // The schema is checked either way; compiling a serialiser for each answer costs half a second at start, and saves none.
  app.setSerializerCompiler(createSerializerCompiler({ stringify: JSON.stringify }))
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
            description: 'A directory token, made under /v1/workspaces/{workspaceId}/directories/{directoryId}/tokens',
          },
        },
      },
    },
    ...fastifyZodOpenApiTransformers,
  })
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, uiConfig: { validatorUrl: null } })
})
