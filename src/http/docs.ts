import { join } from 'node:path'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { AppError } from '../errors.ts'
import { uuid7 } from '../uuid7.ts'
import { problemErrors } from './problem.ts'

const specification = { path: join(import.meta.dirname, '../../openapi.yaml'), baseDir: '' }

/**
 * `/docs`: openapi.yaml to read and to try, from local files alone. It is an app of its own, made by the first request for
 * it: most processes are never asked, and it is a tenth of what they would hold.
 */
export async function docsRoutes(app: FastifyInstance): Promise<void> {
  let docs: Promise<FastifyInstance> | undefined
  const answer = async (request: FastifyRequest, reply: FastifyReply) => {
    docs ??= openDocs()
    const { routing } = await docs
    reply.hijack()
    routing(request.raw, reply.raw)
  }
  for (const path of ['/docs', '/docs/*']) app.get(path, { schema: { hide: true } }, answer)
  app.addHook('onClose', async () => (await docs)?.close())
}

async function openDocs(): Promise<FastifyInstance> {
  const [{ default: swagger }, { default: swaggerUi }] = await Promise.all([
    import('@fastify/swagger'),
    import('@fastify/swagger-ui'),
  ])
  const docs = fastify({ genReqId: uuid7 })
  problemErrors(docs)
  docs.setNotFoundHandler(async () => {
    throw new AppError('not_found', 'There is no such page under /docs.')
  })
  await docs.register(swagger, { mode: 'static', specification })
  await docs.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, uiConfig: { validatorUrl: null } })
  await docs.ready()
  return docs
}
