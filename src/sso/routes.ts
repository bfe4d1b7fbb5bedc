import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../config.ts'
import { actorOf } from '../http/admin-auth.ts'
import { workspaceParams } from '../http/params.ts'
import { problemResponses } from '../http/problem.ts'
import { ifMatchHeader, withEtag } from '../http/versions.ts'
import { changeSsoConfig, deleteSsoConfig, saveSsoConfig, type SsoDependencies } from './save-sso-config.ts'
import { getSsoConfig, ssoUrls, type StoredSsoConfig } from './sso-config.ts'
import { testSsoConfig } from './test-sso-config.ts'

const secret = z.string().min(1).max(1024).meta({
  description: 'Never shown again. Absent, the stored one stays, as long as the issuer does',
  example: 'the secret that the provider shows once',
})
const enforced = z.literal(false, 'SSO cannot be enforced yet: leave it out, or send false')

const settings = {
  issuer: z.string().min(1).max(1100).meta({
    description: 'The issuer as the provider calls itself; its discovery URL may be pasted',
    example: 'https://idp.example.com',
  }),
  clientId: z.string().trim().min(1).max(255).meta({ example: '0oa1b2c3d4' }),
  tokenAuthMethod: z
    .enum(['client_secret_basic', 'client_secret_post'])
    .nullable()
    .meta({ description: "How the secret is sent; null: as the provider's metadata says" }),
  autoProvision: z.boolean().meta({ description: 'Whoever the provider signs in becomes a member' }),
  allowedDomains: z
    .array(z.string().max(1000))
    .max(100)
    .meta({ description: 'E-mail domains that may sign in, compared whole; empty: all', example: ['example.com'] }),
  trustUnverifiedEmail: z.boolean().meta({
    description: 'Lets in addresses that the provider calls unverified. Recorded in the activity log',
  }),
  directoryClaim: z.enum(['sub', 'oid']).nullable().meta({
    description:
      'The claim that a directory sends as externalId (Okta: sub, Entra: oid); null: only e-mail finds a member',
  }),
  enabled: z.boolean().meta({ description: 'People can sign in by it' }),
}

const replacement = z.strictObject({
  ...settings,
  clientSecret: secret.optional(),
  tokenAuthMethod: settings.tokenAuthMethod.default(null),
  autoProvision: settings.autoProvision.default(false),
  allowedDomains: settings.allowedDomains.default([]),
  trustUnverifiedEmail: settings.trustUnverifiedEmail.default(false),
  directoryClaim: settings.directoryClaim.default(null),
  enabled: settings.enabled.default(true),
  enforced: enforced.optional(),
})

const changes = z.strictObject({ ...settings, clientSecret: secret, enforced }).partial()

const ssoConfig = z
  .object({
    ...settings,
    hasClientSecret: z.boolean(),
    previousSecretUntil: z.iso.datetime().nullable().meta({
      description: 'Until when the secret before is tried where the provider refuses the new one',
    }),
    enforced: z.literal(false),
    redirectUri: z.string().meta({ description: 'Register this one at the provider' }),
    initiateLoginUri: z.string().meta({
      description: "The provider's portal sends people here who start there (OpenID Connect Core §4)",
    }),
    backchannelLogoutUri: z.string().meta({
      description: 'The provider sends logout tokens here (OpenID Connect Back-Channel Logout 1.0)',
    }),
    startUrl: z.string().meta({ description: 'Where a sign-in starts, with return_to and handoff_challenge' }),
    endpoints: z
      .object({
        authorization: z.string(),
        token: z.string(),
        jwks: z.string(),
        userinfo: z.string().nullable(),
        endSession: z.string().nullable(),
      })
      .meta({ description: 'As the provider announced them when they were last checked' }),
    version: z.number().int(),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
  })
  .meta({ id: 'SsoConfig' })

const draft = z
  .strictObject({ issuer: settings.issuer, allowedDomains: settings.allowedDomains })
  .partial()
  .nullish()
  .meta({ description: 'Settings to test before they are saved; absent: the saved ones' })

const test = z
  .object({
    passed: z.boolean(),
    issuer: z.string(),
    checks: z.array(
      z.object({
        name: z.string().meta({ example: 'reachable' }),
        result: z.enum(['pass', 'warn', 'fail']),
        message: z.string(),
        fix: z.string().optional().meta({ description: 'What to change, and where' }),
        code: z.string().optional().meta({ description: 'The code with which saving would be refused' }),
      }),
    ),
  })
  .meta({ id: 'SsoTest' })

const saveCodes = [
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
  'version_conflict',
  'conflict',
] as const

/** A workspace's OpenID Connect settings; guarded by the scope that they are registered in. */
export const ssoRoutes: FastifyPluginAsyncZodOpenApi<SsoDependencies & { config: Config }> = async (app, options) => {
  const { config, db } = options
  const url = '/v1/workspaces/:workspaceId/sso-config'
  const shared = { tags: ['SSO'], security: [{ assistToken: [] }], params: workspaceParams }

  const describe = (workspaceId: string, stored: StoredSsoConfig) => {
    const { metadata, sealedSecret: _sealed, secretId: _id, ...shown } = stored
    return {
      ...shown,
      hasClientSecret: true,
      enforced: false as const,
      ...ssoUrls(config.publicUrl, workspaceId),
      endpoints: {
        authorization: metadata.authorization_endpoint,
        token: metadata.token_endpoint,
        jwks: metadata.jwks_uri,
        userinfo: metadata.userinfo_endpoint ?? null,
        endSession: metadata.end_session_endpoint ?? null,
      },
    }
  }

  app.get(
    url,
    {
      schema: {
        ...shared,
        operationId: 'getSsoConfig',
        summary: 'The SSO configuration, without its secret',
        response: { 200: ssoConfig, ...problemResponses('sso_not_configured') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      return withEtag(reply, describe(workspaceId, await getSsoConfig(db, workspaceId)))
    },
  )

  app.put(
    url,
    {
      schema: {
        ...shared,
        operationId: 'saveSsoConfig',
        summary: 'Create or replace the SSO configuration, after checking the provider',
        headers: ifMatchHeader,
        body: replacement,
        response: { 200: ssoConfig, ...problemResponses(...saveCodes) },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const { clientSecret, enforced: _enforced, ...rest } = request.body
      const expectedVersion = request.headers['if-match']
      const change = { workspaceId, settings: rest, clientSecret, expectedVersion, actor: actorOf(request) }
      return withEtag(reply, describe(workspaceId, await saveSsoConfig(options, change)))
    },
  )

  app.patch(
    url,
    {
      schema: {
        ...shared,
        operationId: 'changeSsoConfig',
        summary: 'Change single settings of the SSO configuration',
        headers: ifMatchHeader,
        body: changes,
        response: { 200: ssoConfig, ...problemResponses('sso_not_configured', ...saveCodes) },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      const { clientSecret, enforced: _enforced, ...rest } = request.body
      const expectedVersion = request.headers['if-match']
      const change = { workspaceId, settings: given(rest), clientSecret, expectedVersion, actor: actorOf(request) }
      return withEtag(reply, describe(workspaceId, await changeSsoConfig(options, change)))
    },
  )

  app.delete(
    url,
    {
      schema: {
        ...shared,
        operationId: 'deleteSsoConfig',
        summary: 'Delete the SSO configuration and its secret; members and sessions stay',
        headers: ifMatchHeader,
        response: { 204: { description: 'Deleted' }, ...problemResponses('sso_not_configured', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const { workspaceId } = request.params
      await deleteSsoConfig(options, {
        workspaceId,
        expectedVersion: request.headers['if-match'],
        actor: actorOf(request),
      })
      return reply.code(204).send()
    },
  )

  app.post(
    `${url}/test`,
    {
      schema: {
        ...shared,
        operationId: 'testSsoConfig',
        summary: 'Test the saved settings or a draft, check by check',
        body: draft,
        response: { 200: test, ...problemResponses('sso_not_configured') },
      },
    },
    async request => {
      const { workspaceId } = request.params
      return testSsoConfig(options, { workspaceId, draft: given(request.body ?? {}), actor: actorOf(request) })
    },
  )
}

/** Without the settings that were not sent: they are not to be changed. */
function given<Body extends object>(body: Body): { [Name in keyof Body]?: Exclude<Body[Name], undefined> } {
  const entries = Object.entries(body).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as { [Name in keyof Body]?: Exclude<Body[Name], undefined> }
}
