import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Db } from '../../db/database.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { id, workspaceParams } from '../../http/params.ts'
import { readPastedSecret } from './pasted-secret.ts'
import { problemResponses } from '../../http/problem.ts'
import { addKey, addSecret, changeExpiry, deleteCredential, listCredentials } from './client-credentials.ts'
import type { SecretBox } from '../../secret-box.ts'
import { getSsoConfig } from '../config/sso-config.ts'
import { secret, secretExpiresAt } from '../config/sso-schemas.ts'

const credential = z
  .object({
    id: z.uuid(),
    kind: z.enum(['secret', 'key']),
    keyId: z.string().nullable().meta({ description: 'Of a key: its kid in the set at jwksUri' }),
    expiresAt: secretExpiresAt,
    acceptedAt: z.iso.datetime().nullable().meta({ description: 'When the provider first took it' }),
    refusedAt: z.iso.datetime().nullable().meta({ description: 'Since when the provider refuses it' }),
    isReadable: z.boolean().meta({
      description: 'False where SEAL_KEYS of this service does not have its key any more: add it again',
    }),
    createdAt: z.iso.datetime(),
  })
  .meta({ id: 'SsoCredential', description: 'A client secret or key: never the secret or private key itself' })

const addition = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('secret'), clientSecret: secret, expiresAt: secretExpiresAt.optional() }),
  z.strictObject({ kind: z.literal('key') }),
])

const params = workspaceParams.extend({ credentialId: id })

/**
 * What proves to the provider who we are; guarded by the scope that they are registered in. A new secret or key is tried
 * first, and the one before stays as the fallback until the new one has worked.
 */
export const credentialRoutes: FastifyPluginAsyncZodOpenApi<{ db: Db; box: SecretBox }> = async (app, { db, box }) => {
  const url = '/v1/workspaces/:workspaceId/sso-config/credentials'
  const shared = { tags: ['SSO'], security: [{ assistToken: [] }] }

  app.get(
    url,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'listSsoCredentials',
        summary: 'The client secrets and keys, in the order in which they are tried',
        response: { 200: z.object({ items: z.array(credential) }), ...problemResponses('sso_not_configured') },
      },
    },
    async request => {
      await getSsoConfig(db, request.params.workspaceId)
      return { items: await listCredentials(db, box, request.params.workspaceId) }
    },
  )

  app.post(
    url,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'addSsoCredential',
        summary: 'Add a client secret, or make a key: the one before stays until the new one has worked',
        description:
          'At most two of each kind are live. A third takes the place of the one that has not worked or, where both have, of the older.',
        body: addition,
        response: { 201: credential, ...problemResponses('sso_not_configured') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const change = { workspaceId, box, actor: actorOf(request) }
      reply.code(201)
      if (request.body.kind === 'key') return addKey(db, change)
      const { clientSecret, expiresAt } = request.body
      const { secret: pasted } = readPastedSecret(clientSecret)
      return addSecret(db, { ...change, secret: pasted, expiresAt })
    },
  )

  app.patch(
    `${url}/:credentialId`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'changeSsoCredential',
        summary: 'Say when the provider stops taking a client secret',
        body: z.strictObject({ expiresAt: secretExpiresAt }),
        response: { 200: credential, ...problemResponses() },
      },
    },
    async request => {
      const { workspaceId, credentialId } = request.params
      const change = { workspaceId, box, id: credentialId, ...request.body, actor: actorOf(request) }
      return db.transaction().execute(trx => changeExpiry(trx, change))
    },
  )

  app.delete(
    `${url}/:credentialId`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'deleteSsoCredential',
        summary: 'Delete a client secret or key that is not needed any more',
        response: {
          204: { description: 'Deleted' },
          ...problemResponses('sso_not_configured', 'sso_enforced', 'conflict'),
        },
      },
    },
    async (request, reply) => {
      const { workspaceId, credentialId } = request.params
      const change = { workspaceId, box, id: credentialId, actor: actorOf(request) }
      await db.transaction().execute(trx => deleteCredential(trx, change))
      return reply.code(204).send()
    },
  )
}
