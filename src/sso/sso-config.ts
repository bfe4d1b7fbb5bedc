import { sql } from 'kysely'
import type { Db } from '../db/database.ts'
import { prepared } from '../db/prepared.ts'
import { AppError } from '../errors.ts'
import type { ProviderMetadata } from '../oidc/provider.ts'
import type { SecretBox } from './secret-box.ts'

export type TokenAuthMethod = 'client_secret_basic' | 'client_secret_post'

/** The part of the configuration that an admin decides, save the secret. */
export interface SsoSettings {
  issuer: string
  clientId: string
  /** The admin's choice; null: chosen from the provider's metadata (Discovery 1.0 section 3). */
  tokenAuthMethod: TokenAuthMethod | null
  autoProvision: boolean
  allowedDomains: string[]
  trustUnverifiedEmail: boolean
  /** The claim that equals a directory's externalId; null: only the e-mail address finds a member. */
  directoryClaim: 'sub' | 'oid' | null
  enabled: boolean
}

/** What a sign-in needs to know about its workspace's SSO configuration. */
export interface LoginConfig extends SsoSettings {
  workspaceId: string
  /** Newest first; the ones after it are tried only where the provider refuses the one before. */
  clientSecrets: string[]
  version: number
  /** The domains that this workspace has proved to be its own. */
  verifiedDomains: string[]
  /** The workspace's policy (sign-in-policy.ts); null: the operator's lifetime. */
  sessionHours: number | null
  sessionIdleMinutes: number | null
  maxAgeSeconds: number | null
  acrValues: string[]
}

/** What is stored, with the newest secret still sealed. */
export interface StoredSsoConfig extends SsoSettings {
  /** As the last inspection found it. Sign-in reads its own fresh copy. */
  metadata: ProviderMetadata
  secretId: string
  sealedSecret: Buffer
  /** Until when the secret before is tried too, where there is one. */
  previousSecretUntil: string | null
  version: number
  createdAt: string
  updatedAt: string
}

const settings = sql`
  c.issuer, c.client_id AS "clientId", c.token_auth_method AS "tokenAuthMethod", c.auto_provision AS "autoProvision",
  c.allowed_domains AS "allowedDomains", c.trust_unverified_email AS "trustUnverifiedEmail",
  c.directory_claim AS "directoryClaim", c.enabled, c.version`

interface LoginConfigRow extends Omit<LoginConfig, 'clientSecrets'> {
  secretIds: string[]
  sealedSecrets: Buffer[]
}

const findConfig = prepared<{ workspaceId: string }, LoginConfigRow>(
  'sso_config_find',
  ({ workspaceId }) => sql`
    SELECT c.workspace_id AS "workspaceId", ${settings}, s.ids AS "secretIds", s.sealed AS "sealedSecrets",
           ARRAY(SELECT d.domain FROM domains d WHERE d.workspace_id = c.workspace_id AND d.verified_at IS NOT NULL)
             AS "verifiedDomains",
           p.session_hours AS "sessionHours", p.session_idle_minutes AS "sessionIdleMinutes",
           p.max_age_seconds AS "maxAgeSeconds", coalesce(p.acr_values, '{}') AS "acrValues"
      FROM sso_configs c
      LEFT JOIN sign_in_policies p ON p.workspace_id = c.workspace_id
     CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(s.id::text ORDER BY s.id DESC), '{}') AS ids,
              coalesce(array_agg(s.sealed ORDER BY s.id DESC), '{}') AS sealed
         FROM sso_client_secrets s
        WHERE s.workspace_id = c.workspace_id AND (s.expires_at IS NULL OR s.expires_at > now())
     ) s
     WHERE c.workspace_id = ${workspaceId}::uuid`,
)

/** The configuration that a sign-in goes by, its secrets opened; undefined where the workspace has none. */
export async function findLoginConfig(db: Db, box: SecretBox, workspaceId: string): Promise<LoginConfig | undefined> {
  const [row] = await findConfig(db, { workspaceId })
  if (!row) return undefined
  const { secretIds, sealedSecrets, ...config } = row
  const open = (sealed: Buffer, index: number) => box.open(sealed, secretContext(workspaceId, secretIds[index] ?? ''))
  return { ...config, clientSecrets: sealedSecrets.map(open) }
}

/** The stored configuration; undefined where the workspace has none. */
export async function findSsoConfig(db: Db, workspaceId: string): Promise<StoredSsoConfig | undefined> {
  const { rows } = await sql<StoredSsoConfig>`
    SELECT ${settings}, c.metadata, c.created_at AS "createdAt", c.updated_at AS "updatedAt",
           s.id AS "secretId", s.sealed AS "sealedSecret",
           (SELECT max(p.expires_at) FROM sso_client_secrets p WHERE p.workspace_id = c.workspace_id AND p.expires_at > now())
             AS "previousSecretUntil"
      FROM sso_configs c JOIN sso_client_secrets s ON s.workspace_id = c.workspace_id AND s.expires_at IS NULL
     WHERE c.workspace_id = ${workspaceId}`.execute(db)
  return rows[0]
}

/** @throws {AppError} `sso_not_configured` */
export async function getSsoConfig(db: Db, workspaceId: string): Promise<StoredSsoConfig> {
  const config = await findSsoConfig(db, workspaceId)
  if (!config) throw notConfigured()
  return config
}

export function notConfigured(): AppError {
  return new AppError('sso_not_configured', 'This workspace has no SSO configuration. Make one with PUT.')
}

/** What the seal of a client secret is bound to: its row. */
export function secretContext(workspaceId: string, id: string): string {
  return `sso_client_secrets/${workspaceId}/${id}`
}

export interface SsoUrls {
  redirectUri: string
  /** Where the provider's portal sends people who start there (Core 1.0 §4). */
  initiateLoginUri: string
  /** Where the provider sends logout tokens (Back-Channel Logout 1.0 §2.2). */
  backchannelLogoutUri: string
  startUrl: string
}

/** What an admin registers at the provider, and where people start. One callback a workspace is a defence against mix-up. */
export function ssoUrls(publicUrl: string, workspaceId: string): SsoUrls {
  const base = `${publicUrl}/sso/${workspaceId}`
  return {
    redirectUri: `${base}/callback`,
    initiateLoginUri: `${base}/initiate`,
    backchannelLogoutUri: `${base}/backchannel-logout`,
    startUrl: `${base}/start`,
  }
}
