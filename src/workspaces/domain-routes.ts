import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../config.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { actorOf, requireService } from '../http/admin-auth.ts'
import { workspaceParams } from '../http/params.ts'
import { problemResponses } from '../http/problem.ts'
import { parseDomain } from '../members/email.ts'
import { claimDomain, verifyDomain } from './domain-proof.ts'
import { approveDomain, getDomain, listDomains, removeDomain } from './domains.ts'
import type { ResolveTxt } from './txt-records.ts'

const domain = z
  .object({
    domain: z.string().meta({ example: 'example.com' }),
    verifiedAt: z.iso.datetime().nullable(),
    verifiedBy: z.enum(['operator', 'dns']).nullable(),
    proof: z
      .object({ type: z.literal('TXT'), name: z.string(), value: z.string() })
      .nullable()
      .meta({ description: 'The DNS record that proves it; null where the operator has vouched for it without one' }),
    checkedAt: z.iso.datetime().nullable().meta({ description: 'When DNS was last asked' }),
    missingSince: z.iso.datetime().nullable().meta({
      description: 'Since when the record of a verified domain has been gone; when it stays away, the proof goes too',
    }),
    createdAt: z.iso.datetime(),
  })
  .meta({ id: 'Domain' })

const params = workspaceParams.extend({
  domain: z.string().max(300).meta({ description: 'In any case and script', example: 'example.com' }),
})

export interface DomainRoutes {
  config: Config
  db: Db
  resolveTxt: ResolveTxt
}

/** The e-mail domains of a workspace: its admins claim and prove them, Assist's back-ends can vouch for them. */
export const domainRoutes: FastifyPluginAsyncZodOpenApi<DomainRoutes> = async (app, { config, db, resolveTxt }) => {
  const url = '/v1/workspaces/:workspaceId/domains'
  const shared = { tags: ['Domains'], security: [{ assistToken: [] }] }

  app.get(
    url,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'listDomains',
        summary: 'The e-mail domains of the workspace, proved or claimed',
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

  app.post(
    url,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'claimDomain',
        summary: 'Claim an e-mail domain, and get the DNS record that proves it',
        body: z.strictObject({ domain: params.shape.domain }),
        response: { 201: domain, ...problemResponses('sso_domain_invalid', 'conflict') },
      },
    },
    async (request, reply) => {
      const key = ownDomainKey({ ...request.params, ...request.body }, config)
      const claimed = await db.transaction().execute(trx => claimDomain(trx, key, actorOf(request)))
      return reply.code(201).send(claimed)
    },
  )

  app.post(
    `${url}/:domain/verify`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'verifyDomain',
        summary: 'Look for the DNS record now',
        description: 'A proof is looked at again every day, and goes some days after its record.',
        response: {
          200: domain,
          ...problemResponses('sso_domain_invalid', 'domain_not_proven', 'domain_taken', 'domain_dns_failed'),
        },
      },
    },
    async request => verifyDomain({ db, resolveTxt }, domainKey(request.params), actorOf(request)),
  )

  app.put(
    `${url}/:domain`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'approveDomain',
        summary: "Vouch that an e-mail domain is the workspace's (services only)",
        response: { 200: domain, ...problemResponses('sso_domain_invalid', 'domain_taken') },
      },
    },
    async request => {
      const actor = actorOf(request)
      requireService(actor, config)
      return db.transaction().execute(trx => approveDomain(trx, ownDomainKey(request.params, config), actor))
    },
  )

  app.delete(
    `${url}/:domain`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'removeDomain',
        summary: 'Take an e-mail domain off the list of the workspace',
        response: { 204: { description: 'Removed' }, ...problemResponses('sso_domain_invalid', 'sso_enforced') },
      },
    },
    async (request, reply) => {
      await db.transaction().execute(trx => removeDomain(trx, domainKey(request.params), actorOf(request)))
      return reply.code(204).send()
    },
  )
}

function domainKey({ workspaceId, domain: text }: { workspaceId: string; domain: string }) {
  const name = parseDomain(text)
  if (name === undefined) throw new AppError('sso_domain_invalid', 'This is not a domain such as example.com.')
  return { workspaceId, domain: name }
}

/** A domain that can be a workspace's own: not one where anybody can have an address. */
function ownDomainKey(given: { workspaceId: string; domain: string }, { webmailDomains }: Config) {
  const key = domainKey(given)
  if (!webmailDomains.includes(key.domain)) return key
  throw new AppError('sso_domain_invalid', `Anybody can have an address at ${key.domain}: it is no workspace's own.`)
}
