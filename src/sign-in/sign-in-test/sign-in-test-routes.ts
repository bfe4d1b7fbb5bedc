import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { id, workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { ifMatchHeader } from '../../http/versions.ts'
import { applySignInTest, createSignInTest, getSignInTest, linkTestedAccount, showClaims } from './sign-in-tests.ts'
import type { SsoDependencies } from '../../sso/saving/save-sso-config.ts'
import { secret, secretExpiresAt, settings } from '../../sso/config/sso-schemas.ts'

const { enabled: _enabled, relinkByEmailUntil: _until, ...tested } = settings

const draft = z
  .strictObject({ ...tested, clientSecret: secret, clientSecretExpiresAt: secretExpiresAt })
  .partial()
  .refine(body => body.clientSecret !== undefined || body.clientSecretExpiresAt === undefined, {
    path: ['clientSecretExpiresAt'],
    message: 'belongs to a clientSecret',
  })
  .nullish()
  .meta({
    description: 'Settings to test before they are saved; what is left out is as it is saved. Absent: the saved ones',
    example: {
      issuer: 'https://idp.example.com',
      clientId: '0oa1b2c3d4',
      clientSecret: 'the secret that the provider shows',
    },
  })

const check = z.object({
  name: z.string().meta({ example: 'client_authentication' }),
  result: z.enum(['pass', 'warn', 'fail']),
  message: z.string(),
  fix: z.string().optional().meta({ description: 'What to change, and where' }),
  code: z.string().optional().meta({ description: 'The code with which a sign-in would be refused' }),
})

const report = z.object({
  checks: z
    .array(check)
    .meta({ description: 'In the order in which a sign-in comes to them; the first that fails ends it' }),
  claims: z
    .array(z.object({ name: z.string(), value: z.string(), source: z.enum(['id_token', 'userinfo']) }))
    .meta({ description: 'What the provider sent, masked where it says who the person is' }),
  token: z
    .object({
      algorithm: z.string(),
      keyId: z.string().nullable(),
      clockSkewSeconds: z.number().int().meta({ description: "How far the provider's clock is ahead of ours" }),
    })
    .nullable(),
  domain: z.object({ name: z.string(), isListed: z.boolean(), isProved: z.boolean() }).nullable().meta({
    description: "The domain of the address, and whether it is on the list, and proved to be the workspace's",
  }),
  membership: z
    .object({
      decision: z.enum(['known', 'link', 'provision', 'refuse']),
      memberId: z.uuid().nullable(),
      trust: z.string().nullable().meta({ description: 'On whose word' }),
      isOwnAccount: z.boolean().meta({ description: 'Of the admin who made the test' }),
    })
    .nullable(),
  role: z
    .object({
      value: z.string(),
      why: z.object({ by: z.string(), mappingIds: z.array(z.string()) }),
      groupIds: z.array(z.string()),
    })
    .nullable(),
})

const testShape = {
  id: z.uuid(),
  status: z.enum(['waiting', 'running', 'passed', 'failed', 'expired']),
  isDraft: z.boolean().meta({ description: 'Of settings that were not saved when it was made' }),
  settings: z.object(settings),
  configVersion: z.number().int().nullable().meta({
    description: 'The version of the saved configuration that it tests, or as which it was applied',
  }),
  report: report.nullable(),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  finishedAt: z.iso.datetime().nullable(),
}

const signInTest = z.object(testShape).meta({ id: 'SignInTest' })

const newSignInTest = z
  .object({
    ...testShape,
    startUrl: z.url().meta({
      description: 'Open it in your browser, once: it ends at FRONTEND_SIGN_IN_TEST_PATH with workspace and test',
    }),
  })
  .meta({ id: 'NewSignInTest' })

const params = workspaceParams.extend({ signInTestId: id })

const draftCodes = [
  'sso_not_configured',
  'sso_issuer_invalid',
  'sso_issuer_insecure',
  'sso_issuer_blocked',
  'sso_issuer_multi_tenant',
  'sso_issuer_mismatch',
  'sso_discovery_failed',
  'sso_discovery_invalid',
  'sso_domain_invalid',
  'sso_domain_required',
  'sso_domain_unverified',
  'sso_secret_missing',
] as const

/** Sign-ins that end in a report; guarded by the scope that they are registered in. */
export const signInTestRoutes: FastifyPluginAsyncZodOpenApi<SsoDependencies & { config: Config }> = async (
  app,
  dependencies,
) => {
  const { db, box } = dependencies
  const url = '/v1/workspaces/:workspaceId/sso-config/sign-in-tests'
  const shared = { tags: ['SSO'], security: [{ assistToken: [] }] }

  app.post(
    url,
    {
      schema: {
        ...shared,
        params: workspaceParams,
        operationId: 'createSignInTest',
        summary: 'Prepare a real sign-in that ends in a report instead of a session',
        body: draft,
        response: { 201: newSignInTest, ...problemResponses(...draftCodes) },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const given = Object.fromEntries(Object.entries(request.body ?? {}).filter(([, value]) => value !== undefined))
      const test = await createSignInTest(dependencies, {
        workspaceId,
        draft: given,
        actor: actorOf(request),
      })
      return reply.code(201).header('cache-control', 'no-store').send(test)
    },
  )

  app.get(
    `${url}/:signInTestId`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'getSignInTest',
        summary: 'What became of a sign-in test',
        response: { 200: signInTest, ...problemResponses() },
      },
    },
    async request => getSignInTest(db, keyOf(request.params)),
  )

  app.post(
    `${url}/:signInTestId/claims`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'showSignInTestClaims',
        summary: 'The claims of a sign-in test as they were sent; each look is an entry',
        response: {
          200: z.object({ claims: z.record(z.string(), z.unknown()) }),
          ...problemResponses('sign_in_test_unfinished'),
        },
      },
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store')
      return { claims: await showClaims(db, box, { ...keyOf(request.params), actor: actorOf(request) }) }
    },
  )

  app.post(
    `${url}/:signInTestId/link`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'linkSignInTest',
        summary: 'Link the account of a sign-in test to yourself, who made it',
        response: {
          200: signInTest,
          ...problemResponses('admin_not_member', 'sign_in_test_unfinished', 'sso_identity_conflict'),
        },
      },
    },
    async request => linkTestedAccount(db, { ...keyOf(request.params), actor: actorOf(request) }),
  )

  app.post(
    `${url}/:signInTestId/apply`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'applySignInTest',
        summary: 'Save the draft that a sign-in test has proved, its secret included',
        description: 'While SSO is enforced, this is the way to another issuer, client id or way of authenticating.',
        headers: ifMatchHeader,
        response: {
          200: z.object({ version: z.number().int(), notices: z.array(z.string()) }),
          ...problemResponses(
            ...draftCodes,
            'sign_in_test_unfinished',
            'sign_in_test_failed',
            'sso_enforced',
            'version_conflict',
            'conflict',
          ),
        },
      },
    },
    async request => {
      const expectedVersion = request.headers['if-match']
      const applied = { ...keyOf(request.params), expectedVersion, actor: actorOf(request) }
      const { stored, notices } = await applySignInTest(dependencies, applied)
      return { version: stored.version, notices }
    },
  )
}

function keyOf({ workspaceId, signInTestId }: { workspaceId: string; signInTestId: string }) {
  return { workspaceId, id: signInTestId }
}
