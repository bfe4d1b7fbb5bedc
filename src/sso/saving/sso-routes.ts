import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Config } from '../../config.ts'
import { actorOf } from '../../http/admin-auth.ts'
import { workspaceParams } from '../../http/params.ts'
import { problemResponses } from '../../http/problem.ts'
import { createRateLimit } from '../../rate-limit.ts'
import { ifMatchHeader, withEtag } from '../../http/versions.ts'
import type { ProviderMetadata } from '../../oidc/provider.ts'
import { guideTo } from '../guides/provider-guides.ts'
import { changeSsoConfig, deleteSsoConfig, saveSsoConfig, type SsoDependencies } from './save-sso-config.ts'
import { findSsoConfig, getSsoConfig, ssoUrls, type StoredSsoConfig } from '../config/sso-config.ts'
import { guide, registeredUris, secret, secretExpiresAt, settings } from '../config/sso-schemas.ts'
import { checkSsoConfig } from './check-sso-config.ts'

interface GivenSecret {
  clientSecret?: string | undefined
  clientSecretExpiresAt?: string | null | undefined
}

const hasItsSecret = ({ clientSecret, clientSecretExpiresAt }: GivenSecret) =>
  clientSecret !== undefined || clientSecretExpiresAt === undefined

const secretMissing = {
  path: ['clientSecretExpiresAt'],
  message: 'belongs to a clientSecret; that of a stored one is changed under sso-config/credentials',
}

const replacement = z
  .strictObject({
    ...settings,
    clientSecret: secret.optional(),
    clientSecretExpiresAt: secretExpiresAt.optional(),
    tokenAuthMethod: settings.tokenAuthMethod.default(null),
    autoProvision: settings.autoProvision.default(false),
    allowedDomains: settings.allowedDomains.default([]),
    trustUnverifiedEmail: settings.trustUnverifiedEmail.default(false),
    externalIdClaim: settings.externalIdClaim.default(null),
    relinkByEmailUntil: settings.relinkByEmailUntil.default(null),
    groupsClaim: settings.groupsClaim.default(null),
    enabled: settings.enabled.default(true),
  })
  .refine(hasItsSecret, secretMissing)

const changes = z
  .strictObject({ ...settings, clientSecret: secret, clientSecretExpiresAt: secretExpiresAt })
  .partial()
  .refine(hasItsSecret, secretMissing)

const ssoConfig = z
  .object({
    ...settings,
    hasClientSecret: z.boolean().meta({ description: 'What is known of it: sso-config/credentials' }),
    maxLinkableRole: z.string().meta({
      description:
        'The highest role whose members a sign-in newly links, or which its groups give: the role of whoever set issuer, ' +
        'clientId, externalIdClaim, groupsClaim or relinkByEmailUntil. An owner who saves raises it to owner',
      example: 'owner',
    }),
    enforced: z.boolean().meta({ description: 'Nobody enters the workspace by anything but SSO' }),
    ...registeredUris,
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
    guide,
    version: z.int32(),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
    notices: z.array(z.string()).optional().meta({
      description:
        'After saving: what was made of the input, and what to do next. Absent where there is nothing to say',
    }),
  })
  .meta({ id: 'SsoConfig' })

const setup = z.object({ ...registeredUris, guide }).meta({ id: 'SsoSetup' })

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
  .meta({ id: 'SsoConfigCheck' })

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
  'sso_enforced',
  'version_conflict',
  'conflict',
] as const

/** A workspace's OpenID Connect settings; guarded by the scope that they are registered in. */
/** Configuration checks per workspace and minute. Each one fetches documents of up to 512 KB from the provider. */
const checksPerMinute = 20

export const ssoRoutes: FastifyPluginAsyncZodOpenApi<SsoDependencies & { config: Config }> = async (app, options) => {
  const checks = createRateLimit({
    perMinute: checksPerMinute,
    message: `A workspace can check its configuration ${checksPerMinute} times a minute. Try again after the seconds in Retry-After.`,
  })
  const { config, db } = options
  const url = '/v1/workspaces/:workspaceId/sso-config'
  const shared = { tags: ['SSO'], security: [{ assistToken: [] }], params: workspaceParams }

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
      return withEtag(reply, describe(config, workspaceId, await getSsoConfig(db, workspaceId)))
    },
  )

  app.get(
    `${url}/setup`,
    {
      schema: {
        ...shared,
        operationId: 'getSsoSetup',
        summary: 'What to register at a provider and where, before there is a configuration',
        querystring: z.strictObject({
          issuer: settings.issuer.optional().meta({
            description:
              'Issuer of the provider to describe. Default: the saved issuer, or a generic guide when there is none',
          }),
        }),
        response: { 200: setup, ...problemResponses() },
      },
    },
    async request => {
      const { workspaceId } = request.params
      const { issuer } = request.query
      const stored = issuer === undefined ? await findSsoConfig(db, workspaceId) : undefined
      const uris = urisOf(config, workspaceId)
      const whose = { issuer: issuer?.trim() ?? stored?.issuer, metadata: stored?.metadata }
      return { ...uris, guide: describeGuide(whose, uris) }
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
      const { clientSecret, clientSecretExpiresAt, ...rest } = request.body
      const credential = { clientSecret, clientSecretExpiresAt }
      const expectedVersion = request.headers['if-match']
      const change = { workspaceId, settings: rest, ...credential, expectedVersion, actor: actorOf(request) }
      const { stored, notices } = await saveSsoConfig(options, change)
      return withEtag(reply, describe(config, workspaceId, stored, notices))
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
      const { clientSecret, clientSecretExpiresAt, ...rest } = request.body
      const credential = { clientSecret, clientSecretExpiresAt }
      const expectedVersion = request.headers['if-match']
      const change = { workspaceId, settings: given(rest), ...credential, expectedVersion, actor: actorOf(request) }
      const { stored, notices } = await changeSsoConfig(options, change)
      return withEtag(reply, describe(config, workspaceId, stored, notices))
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
        response: {
          204: { description: 'Deleted' },
          ...problemResponses('sso_not_configured', 'sso_enforced', 'version_conflict'),
        },
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
    `${url}/check`,
    {
      schema: {
        ...shared,
        operationId: 'checkSsoConfig',
        summary: 'Test the saved settings or a draft, check by check',
        body: draft,
        response: { 200: test, ...problemResponses('sso_not_configured', 'rate_limited') },
      },
    },
    async request => {
      const { workspaceId } = request.params
      checks.use(workspaceId)
      return checkSsoConfig(options, { workspaceId, draft: given(request.body ?? {}), actor: actorOf(request) })
    },
  )
}

function describe(config: Config, workspaceId: string, stored: StoredSsoConfig, notices: string[] = []) {
  const { metadata, enforcedAt, ...shown } = stored
  const uris = urisOf(config, workspaceId)
  return {
    ...shown,
    maxLinkableRole: stored.maxLinkableRole ?? config.roles.at(-1) ?? '',
    enforced: enforcedAt !== null,
    ...uris,
    startUrl: ssoUrls(config.publicUrl, workspaceId).startUrl,
    endpoints: {
      authorization: metadata.authorization_endpoint,
      token: metadata.token_endpoint,
      jwks: metadata.jwks_uri,
      userinfo: metadata.userinfo_endpoint ?? null,
      endSession: metadata.end_session_endpoint ?? null,
    },
    guide: describeGuide(stored, uris),
    ...(notices.length > 0 && { notices }),
  }
}

type RegisteredUris = Record<keyof typeof registeredUris, string>

function urisOf(config: Config, workspaceId: string): RegisteredUris {
  const { startUrl: _start, ...uris } = ssoUrls(config.publicUrl, workspaceId)
  return { ...uris, postLogoutRedirectUri: `${config.frontendOrigins[0]}${config.frontendSignedOutPath}` }
}

interface GuidedProvider {
  issuer: string | undefined
  metadata?: ProviderMetadata | undefined
}

/** The guide to a provider, with the URIs of this workspace filled in. */
function describeGuide({ issuer, metadata }: GuidedProvider, uris: RegisteredUris) {
  const { paste, copy, ...rest } = guideTo(issuer, metadata)
  return {
    ...rest,
    paste: Object.entries(paste).map(([name, { isPlainLink = false, ...place }]) => {
      const uri = uris[name as keyof RegisteredUris]
      return { name, value: isPlainLink ? `${uri}?iss=${encodeURIComponent(issuer ?? '')}` : uri, ...place }
    }),
    copy: Object.entries(copy).map(([name, place]) => ({ name, ...place })),
  }
}

/** Without the settings that were not sent: they are not to be changed. */
function given<Body extends object>(body: Body): { [Name in keyof Body]?: Exclude<Body[Name], undefined> } {
  const entries = Object.entries(body).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as { [Name in keyof Body]?: Exclude<Body[Name], undefined> }
}
