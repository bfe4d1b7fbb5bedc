import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../config.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { actorOf, requireService } from '../http/admin-auth.ts'
import { workspaceParams } from '../http/params.ts'
import { problemResponses } from '../http/problem.ts'
import { parseDomain } from '../members/email.ts'
import { approveDomain, getDomain, listDomains, removeDomain } from './domains.ts'

const domain = z
  .object({
    domain: z.string().meta({ example: 'example.com' }),
    verifiedAt: z.iso.datetime().nullable(),
    verifiedBy: z.enum(['operator', 'dns']).nullable(),
  })
  .meta({ id: 'Domain' })

const params = workspaceParams.extend({
  domain: z.string().max(300).meta({ description: 'In any case and script', example: 'example.com' }),
})

/** The e-mail domains of a workspace: its admins see them, Assist's back-ends approve them. */
export const domainRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db }> = async (app, { config, db }) => {
  const url = '/v1/workspaces/:workspaceId/domains'
  const shared = { tags: ['Domains'], security: [{ assistToken: [] }] }

  app.get(
    url,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'listDomains',
        summary: 'The e-mail domains that belong to the workspace',
        response: { 200: z.object({ items: z.array(domain) }), ...problemResponses() },
      },
    },
    async request => ({ items: await listDomains(db, request.params.workspaceId) }),
  )

  app.get(
    `${url}/:domain`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'getDomain',
        summary: 'One e-mail domain of the workspace',
        response: { 200: domain, ...problemResponses('sso_domain_invalid') },
      },
    },
    async request => getDomain(db, domainKey(request.params)),
  )

  app.put(
    `${url}/:domain`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'approveDomain',
        summary: "Vouch that an e-mail domain is the workspace's (services only)",
        response: { 200: domain, ...problemResponses('sso_domain_invalid', 'conflict') },
      },
    },
    async request => {
      const actor = actorOf(request)
      requireService(actor, config)
      return db.transaction().execute(trx => approveDomain(trx, domainKey(request.params), actor))
    },
  )

  app.delete(
    `${url}/:domain`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'removeDomain',
        summary: 'Take an e-mail domain from the workspace (services only)',
        response: { 204: { description: 'Removed' }, ...problemResponses('sso_domain_invalid') },
      },
    },
    async (request, reply) => {
      const actor = actorOf(request)
      requireService(actor, config)
      await db.transaction().execute(trx => removeDomain(trx, domainKey(request.params), actor))
      return reply.code(204).send()
    },
  )
}

function domainKey({ workspaceId, domain: text }: { workspaceId: string; domain: string }) {
  const name = parseDomain(text)
  if (name === undefined)
    throw new AppError('sso_domain_invalid', 'The path does not end in a domain such as example.com.')
  return { workspaceId, domain: name }
}
