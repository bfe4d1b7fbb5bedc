import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { ifMatchHeader, withEtag } from '../../http/versions.ts'
import { deleteSignInPolicy, getSignInPolicy, saveSignInPolicy } from './sign-in-policy.ts'

const acrValue = z.string().regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 visible ASCII characters without blanks')

const policy = {
  sessionHours: z.int32().min(1).max(720).meta({
    description: 'How long a session lasts at most, from the sign-in on',
    example: 12,
  }),
  sessionIdleMinutes: z.int32().min(5).max(10_080).meta({
    description: 'How long a session lasts without being used',
    example: 120,
  }),
  maxAgeSeconds: z.int32().min(0).max(2_592_000).nullable().meta({
    description:
      'How long before a sign-in the person may have authenticated at the provider; 0: they must do so each time; null: however long. Sent as max_age, and held against auth_time (OpenID Connect Core §2)',
    example: 28_800,
  }),
  acrValues: z
    .array(acrValue)
    .max(10)
    .refine(values => new Set(values).size === values.length, 'must not name a value twice')
    .meta({
      description:
        "Authentication contexts of which one must have been reached, the most wanted first; empty: any. Sent as acr_values, and held against the ID token's acr",
      example: ['phr', 'mfa'],
    }),
}

const storedPolicy = z
  .object({
    ...policy,
    version: z.int32().meta({ description: "0 where the workspace goes by the operator's lifetimes" }),
    updatedAt: z.iso.datetime().nullable(),
  })
  .meta({ id: 'SignInPolicy' })

/** A workspace's policy for sign-ins and sessions; guarded by the scope that it is registered in. */
export const signInPolicyRoutes: FastifyPluginAsyncZodOpenApi<{ config: Config; db: Db }> = async (
  app,
  { config, db },
) => {
  const url = '/v1/workspaces/:workspaceId/sign-in-policy'
  const shared = { tags: ['SSO'], security: [{ assistToken: [] }], params: workspaceParams }

  app.get(
    url,
    {
      schema: {
        ...shared,
        operationId: 'getSignInPolicy',
        summary: 'How long sessions last, and what a sign-in must have been',
        response: { 200: storedPolicy, ...problemResponses() },
      },
    },
    async (request, reply) => withEtag(reply, await getSignInPolicy(db, { ...request.params, defaults: config })),
  )

  app.put(
    url,
    {
      schema: {
        ...shared,
        operationId: 'saveSignInPolicy',
        summary: 'Set the policy',
        description:
          'Shorter lifetimes hold for the sessions that are there, at once; everything else from the next sign-in on.',
        headers: ifMatchHeader,
        body: z.strictObject(policy),
        response: { 200: storedPolicy, ...problemResponses('version_conflict', 'sso_enforced') },
      },
    },
    async (request, reply) => {
      const change = { ...request.params, defaults: config, actor: actorOf(request) }
      const expectedVersion = request.headers['if-match']
      return withEtag(reply, await saveSignInPolicy(db, { ...change, policy: request.body, expectedVersion }))
    },
  )

  app.delete(
    url,
    {
      schema: {
        ...shared,
        operationId: 'deleteSignInPolicy',
        summary: "Go back to the operator's lifetimes",
        headers: ifMatchHeader,
        response: {
          204: { description: 'The workspace has no policy of its own' },
          ...problemResponses('version_conflict'),
        },
      },
    },
    async (request, reply) => {
      const change = { ...request.params, defaults: config, actor: actorOf(request) }
      await deleteSignInPolicy(db, { ...change, expectedVersion: request.headers['if-match'] })
      return reply.code(204).send()
    },
  )
}
