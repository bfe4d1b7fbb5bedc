// The floor shows what Fastify and pg can do on this machine. Each request is one named statement that also writes its
// activity row, and only SQL constraints check anything. It is a reference for measurements, not a SCIM server.
import { createHash } from 'node:crypto'
import { parseArgs } from 'node:util'
import fastify from 'fastify'
import { openDatabase } from './database.ts'
import { groupRoutes } from './groups.ts'
import { signInRoutes } from './sign-in.ts'
import { userRoutes } from './users.ts'

declare module 'fastify' {
  interface FastifyRequest {
    workspace: number
  }
}

const { values } = parseArgs({
  options: { port: { type: 'string' }, database: { type: 'string' }, tokens: { type: 'string' } },
})
const run = openDatabase(values.database!)
/** Workspace numbers by token hash, from 1, in the order of the tokens. */
const workspaces = new Map(values.tokens!.split(',').map((token, index) => [hash(token), index + 1]))

const app = fastify({ bodyLimit: 64 * 1024 * 1024 })
app.decorateRequest('workspace', 0)
app.addContentTypeParser('application/scim+json', { parseAs: 'string' }, (_request, body, done) => {
  done(null, JSON.parse(body as string))
})
await app.register(async scim => {
  scim.addHook('onRequest', async (request, reply) => {
    const workspace = workspaces.get(hash((request.headers.authorization ?? '').slice('Bearer '.length)))
    if (workspace === undefined) return reply.code(401).send()
    request.workspace = workspace
    return undefined
  })
  userRoutes(scim, run)
  groupRoutes(scim, run)
})
signInRoutes(app, run)
await app.listen({ host: '127.0.0.1', port: Number(values.port) })

function hash(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}
