import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { id, workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { createRateLimit } from '../../rate-limit.ts'
import { ifMatchHeader } from '../../http/versions.ts'
import {
  applySignInTest,
  confirmSignInTest,
  createSignInTest,
  getSignInTest,
  linkTestedAccount,
  showClaims,
} from './sign-in-tests.ts'
import type { SsoDependencies } from '../../sso/saving/save-sso-config.ts'
import { secret, secretExpiresAt, settings } from '../../sso/config/sso-schemas.ts'

const { enabled: _enabled, relinkByEmailUntil: _until, ...tested } = settings

const draft = z
  .strictObject({
    challenge: z
      .string()
      .regex(/^[A-Za-z0-9_-]{43}$/, 'must be the S256 challenge of a verifier: 43 base64url characters')
      .meta({
        description:
          'S256 of a verifier that your front-end keeps (RFC 7636 §4.2). It binds the test to the browser that creates it: `confirm`, `claims`, `link` and `apply` need the verifier.',
        example: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      }),
    ...z.object({ ...tested, clientSecret: secret, clientSecretExpiresAt: secretExpiresAt }).partial().shape,
  })
  .refine(body => body.clientSecret !== undefined || body.clientSecretExpiresAt === undefined, {
    path: ['clientSecretExpiresAt'],
    message: 'belongs to a clientSecret',
  })
  .meta({
    description:
      'The challenge, and the settings to test before they are saved. Absent settings are taken from the saved ones',
    example: {
      challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      issuer: 'https://idp.example.com',
      clientId: '0oa1b2c3d4',
      clientSecret: 'the secret that the provider shows',
    },
  })

const verifier = z
  .string()
  .regex(/^[A-Za-z0-9._~-]{43,128}$/, 'must be 43 to 128 unreserved characters (RFC 7636 section 4.1)')
  .meta({
    description: 'The verifier of the challenge that the test was created with',
    example: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
  })

const proof = z.strictObject({ verifier })

const confirmation = z.strictObject({
  verifier,
  code: z.string().max(200).meta({
    description: 'From the URL of the test page (FRONTEND_SIGN_IN_TEST_PATH), in the browser that signed in',
    example: 'tsc_AZCmyI8AcACAAAAAAAAAAd2Yp0gKqkqGv4C5a9n1rQx7sT3uVwXyZ0123456789ab',
  }),
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
      clockSkewSeconds: z.int32().meta({ description: "How far the provider's clock is ahead of ours" }),
    })
    .nullable(),
  domain: z.object({ name: z.string(), isListed: z.boolean(), isProved: z.boolean() }).nullable().meta({
    description: "The domain of the address, and whether it is on the list, and proved to be the workspace's",
  }),
  membership: z
    .object({
      decision: z.enum(['known', 'link', 'link_required', 'provision', 'refuse']),
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
  status: z.enum(['waiting', 'running', 'unconfirmed', 'passed', 'failed', 'expired']).meta({
    description: '`unconfirmed`: a person signed in; the report is available after `confirm`',
  }),
  isDraft: z.boolean().meta({ description: 'Of settings that were not saved when it was made' }),
  settings: z.object(settings),
  configVersion: z.int32().nullable().meta({
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
      description:
        'Open it in your own browser, once. It ends at FRONTEND_SIGN_IN_TEST_PATH with workspace, test and code',
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

/** Sign-in tests created per workspace and minute. Each one of a draft fetches the provider's metadata. */
const testsPerMinute = 20

/** Sign-ins that end in a report; guarded by the scope that they are registered in. */
export const signInTestRoutes: FastifyPluginAsyncZodOpenApi<SsoDependencies & { config: Config }> = async (
  app,
  dependencies,
) => {
  const { db, box } = dependencies
  const created = createRateLimit({
    perMinute: testsPerMinute,
    message: `A workspace can create ${testsPerMinute} sign-in tests a minute. Try again after the seconds in Retry-After.`,
  })
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
        response: { 201: newSignInTest, ...problemResponses(...draftCodes, 'rate_limited') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      created.use(workspaceId)
      const { challenge, ...settingsGiven } = request.body
      const given = Object.fromEntries(Object.entries(settingsGiven).filter(([, value]) => value !== undefined))
      const test = await createSignInTest(dependencies, {
        workspaceId,
        draft: given,
        challenge,
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
    `${url}/:signInTestId/confirm`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'confirmSignInTest',
        summary: 'Confirm that the browser that created a sign-in test is the one that signed in',
        description:
          'Returns the test with its report. Without this step a start URL that another person opened would show their claims or link their account (RFC 9700 §4.7). A test that failed before a person signed in needs no confirmation.',
        body: confirmation,
        response: {
          200: signInTest,
          ...problemResponses('sign_in_test_unfinished', 'sign_in_test_other_browser'),
        },
      },
    },
    async request => confirmSignInTest(db, { ...keyOf(request.params), ...request.body, actor: actorOf(request) }),
  )

  app.post(
    `${url}/:signInTestId/claims`,
    {
      schema: {
        ...shared,
        params,
        body: proof,
        operationId: 'showSignInTestClaims',
        summary: 'The claims of a sign-in test as they were sent; each look is an entry',
        response: {
          200: z.object({ claims: z.record(z.string(), z.unknown()) }),
          ...problemResponses('sign_in_test_unfinished', 'sign_in_test_unconfirmed', 'sign_in_test_other_browser'),
        },
      },
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store')
      const shown = { ...keyOf(request.params), ...request.body, actor: actorOf(request) }
      return { claims: await showClaims(db, box, shown) }
    },
  )

  app.post(
    `${url}/:signInTestId/link`,
    {
      schema: {
        ...shared,
        params,
        operationId: 'linkSignInTest',
        summary: 'Link the account of a passed sign-in test to yourself',
        description:
          'The test must be yours, confirmed and passed, and the e-mail address of the account must be your address in the workspace.',
        body: proof,
        response: {
          200: signInTest,
          ...problemResponses(
            'admin_not_member',
            'sign_in_test_unfinished',
            'sign_in_test_unconfirmed',
            'sign_in_test_other_browser',
            'sign_in_test_failed',
            'sign_in_test_other_account',
            'sso_identity_conflict',
          ),
        },
      },
    },
    async request => linkTestedAccount(db, box, { ...keyOf(request.params), ...request.body, actor: actorOf(request) }),
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
        body: proof,
        response: {
          200: z.object({ version: z.int32(), notices: z.array(z.string()) }),
          ...problemResponses(
            ...draftCodes,
            'sign_in_test_unfinished',
            'sign_in_test_unconfirmed',
            'sign_in_test_other_browser',
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
      const applied = { ...keyOf(request.params), ...request.body, expectedVersion, actor: actorOf(request) }
      const { stored, notices } = await applySignInTest(dependencies, applied)
      return { version: stored.version, notices }
    },
  )
}

function keyOf({ workspaceId, signInTestId }: { workspaceId: string; signInTestId: string }) {
  return { workspaceId, id: signInTestId }
}
