import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import type { Work } from '../../db/work-class.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { createRecoveryCodes, getRecoveryCodesStatus } from '../../members/recovery-codes.ts'
import { idPageQuery, pageOf } from '../../page.ts'
import { enforceSso, getEnforcement, liftEnforcement, listLockedOut } from './enforcement.ts'
import type { SecretBox } from '../../secret-box.ts'

const lockedOut = z
  .object({
    id: z.uuid(),
    email: z.string().nullable(),
    displayName: z.string().nullable(),
    role: z.string(),
    reason: z.enum(['no_email', 'domain_not_allowed', 'linked_elsewhere', 'unless_verified', 'not_confirmed']).meta({
      description:
        'no_email: nothing to find them by; domain_not_allowed: their domain is not on the list; linked_elsewhere: at another ' +
        'issuer, and relinkByEmailUntil is not ahead; unless_verified: an admin or owner, found only by an address that the ' +
        "provider has verified; not_confirmed: the directory's maxLinkableRole is below their role",
    }),
  })
  .meta({ id: 'LockedOutMember' })

const enforcement = z
  .object({
    enforced: z.boolean(),
    since: z.iso.datetime().nullable(),
    verdict: z.object({
      isSafe: z.boolean().meta({ description: 'Nothing fails: it can be enforced by whoever asked' }),
      checks: z.array(
        z.object({
          name: z.string().meta({ example: 'proven_sign_in' }),
          result: z.enum(['pass', 'warn', 'fail']),
          message: z.string(),
          fix: z.string().optional(),
          code: z.string().optional().meta({ description: 'The code with which enforcing would be refused' }),
        }),
      ),
      lockedOutMembers: z.int32().meta({ description: 'Active members who might not be able to sign in' }),
      lockedOut: z.array(lockedOut).meta({ description: 'The first of them' }),
    }),
  })
  .meta({ id: 'SsoEnforcement' })

const order = z.strictObject({
  lockedOutMembers: z.int32().min(0).default(0).meta({
    description: 'How many members the verdict has named: enforcing is refused where it has become another number',
    example: 0,
  }),
})

/** That nobody enters the workspace by anything but SSO; guarded by the scope that they are registered in. */
export const enforcementRoutes: FastifyPluginAsyncZodOpenApi<{
  config: Config
  db: Db
  box: SecretBox
  work: Work
}> = async (app, { config, db, box, work: { scans } }) => {
  const url = '/v1/workspaces/:workspaceId/sso-config'
  const shared = { tags: ['SSO'], security: [{ assistToken: [] }], params: workspaceParams }
  const { roles } = config

  app.get(
    `${url}/enforcement`,
    {
      schema: {
        ...shared,
        operationId: 'getSsoEnforcement',
        summary: 'Is SSO enforced, and would it be safe',
        response: { 200: enforcement, ...problemResponses('sso_not_configured') },
      },
    },
    async request => {
      const question = { ...request.params, box, actor: actorOf(request), roles }
      return scans.run(request.params.workspaceId, on => getEnforcement(on, question))
    },
  )

  app.get(
    `${url}/enforcement/locked-out`,
    {
      schema: {
        ...shared,
        operationId: 'listLockedOutMembers',
        summary: 'The active members who might not be able to sign in, and why',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(lockedOut), ...problemResponses() },
      },
    },
    async request => {
      const question = { ...request.params, roles, ...request.query }
      return scans.run(request.params.workspaceId, on => listLockedOut(on, question))
    },
  )

  app.put(
    `${url}/enforcement`,
    {
      schema: {
        ...shared,
        operationId: 'enforceSso',
        summary: 'Enforce SSO, as an owner who has proved that it works',
        description: 'Everything that was begun otherwise ends at once. An identity provider that fails opens nothing.',
        body: order,
        response: {
          200: enforcement,
          ...problemResponses(
            'sso_not_configured',
            'sso_disabled',
            'sso_not_proven',
            'sso_recovery_missing',
            'sso_secret_missing',
            'sso_not_safe',
            'sso_members_locked_out',
          ),
        },
      },
    },
    async request => enforceSso(db, { ...request.params, ...request.body, box, actor: actorOf(request), roles }),
  )

  app.delete(
    `${url}/enforcement`,
    {
      schema: {
        ...shared,
        operationId: 'liftSsoEnforcement',
        summary: 'Lift the enforcement, as an owner or a back-end of Assist',
        response: { 204: { description: 'Not enforced any more' }, ...problemResponses('sso_not_configured') },
      },
    },
    async (request, reply) => {
      await liftEnforcement(db, { ...request.params, actor: actorOf(request), roles })
      return reply.code(204).send()
    },
  )

  app.get(
    `${url}/recovery-codes`,
    {
      schema: {
        ...shared,
        operationId: 'getRecoveryCodes',
        summary: 'How many recovery codes the caller has left',
        response: {
          200: z.object({ unused: z.int32(), createdAt: z.iso.datetime().nullable() }),
          ...problemResponses('admin_not_member'),
        },
      },
    },
    async request => getRecoveryCodesStatus(db, { ...request.params, actor: actorOf(request) }),
  )

  app.post(
    `${url}/recovery-codes`,
    {
      schema: {
        ...shared,
        operationId: 'createRecoveryCodes',
        summary: 'Make recovery codes for yourself, an owner, in place of the ones before; shown once',
        response: {
          201: z.object({ codes: z.array(z.string().meta({ example: '7K2MP-QX4TD-0VB9N-W3HRC' })) }),
          ...problemResponses('admin_not_member', 'recovery_limited'),
        },
      },
    },
    async (request, reply) => {
      const codes = await createRecoveryCodes(db, { ...request.params, actor: actorOf(request), roles })
      return reply.code(201).header('cache-control', 'no-store').send({ codes })
    },
  )
}
