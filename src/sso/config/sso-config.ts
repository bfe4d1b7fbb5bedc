import { sql, type RawBuilder } from 'kysely'
import type { Db } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { AppError } from '../../errors.ts'
import type { ClientKey } from '../../oidc/client-key.ts'
import type { ProviderClient, ProviderMetadata } from '../../oidc/provider.ts'
import type { SecretBox } from '../../secret-box.ts'

export type TokenAuthMethod = 'client_secret_basic' | 'client_secret_post' | 'private_key_jwt'

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
  externalIdClaim: 'sub' | 'oid' | null
  /** Until when whoever is linked at another issuer is linked anew by an address that is vouched for; null: never. */
  relinkByEmailUntil: string | null
  /** The claim of the ID token whose values group mappings may name; null: sign-ins say nothing about groups. */
  groupsClaim: string | null
  enabled: boolean
}

/** A secret or key as a sign-in uses it. */
export interface UsableCredential {
  id: string
  /** The provider has taken it before. */
  isAccepted: boolean
  /** The provider has refused it since. */
  isRefused: boolean
}

/** What a sign-in needs to know about its workspace's SSO configuration. */
export interface SignInConfig extends SsoSettings {
  workspaceId: string
  /** Newest first; the ones after it are tried only where the provider refuses the one before. */
  clientSecrets: string[]
  /** The same for private_key_jwt: of the two lists one is empty. */
  clientKeys: ClientKey[]
  /** What is known of each secret or key of the list that is not empty. */
  credentials: UsableCredential[]
  version: number
  enforcedAt: string | null
  /** The highest role that a sign-in may newly link or give (save-sso-config.ts); null: every one. */
  maxLinkableRole: string | null
  /** The domains that this workspace has proved to be its own. */
  verifiedDomains: string[]
  /** The workspace's policy (sign-in-policy.ts); null: the operator's lifetime. */
  sessionHours: number | null
  sessionIdleMinutes: number | null
  maxAgeSeconds: number | null
  acrValues: string[]
}

/** What is stored, save what proves to the provider who we are (client-credentials.ts). */
export interface StoredSsoConfig extends SsoSettings {
  /** As the last inspection found it. Sign-in reads its own fresh copy. */
  metadata: ProviderMetadata
  hasClientSecret: boolean
  enforcedAt: string | null
  /** The highest role that a sign-in may newly link or give: that of whoever set what decides; null: every one. */
  maxLinkableRole: string | null
  version: number
  createdAt: string
  updatedAt: string
}

const settings = sql`
  c.issuer, c.client_id AS "clientId", c.token_auth_method AS "tokenAuthMethod", c.auto_provision AS "autoProvision",
  c.allowed_domains AS "allowedDomains", c.trust_unverified_email AS "trustUnverifiedEmail",
  c.external_id_claim AS "externalIdClaim", c.relink_by_email_until AS "relinkByEmailUntil",
  c.groups_claim AS "groupsClaim", c.enabled,
  c.enforced_at AS "enforcedAt", c.max_linkable_role AS "maxLinkableRole", c.version`

/** As it is stored, its secrets sealed. */
export interface SignInConfigRow extends Omit<SignInConfig, 'clientSecrets' | 'clientKeys' | 'credentials'> {
  credentials: (UsableCredential & {
    /** In base64. */
    sealed: string
  })[]
}

/** The configuration that a sign-in goes by; no row where the workspace has none. */
export function signInConfigSql(workspaceId: RawBuilder<string>): RawBuilder<SignInConfigRow> {
  return sql`
    SELECT c.workspace_id AS "workspaceId", ${settings}, s.credentials,
           ARRAY(SELECT d.domain FROM domains d WHERE d.workspace_id = c.workspace_id AND d.verified_at IS NOT NULL)
             AS "verifiedDomains",
           p.session_hours AS "sessionHours", p.session_idle_minutes AS "sessionIdleMinutes",
           p.max_age_seconds AS "maxAgeSeconds", coalesce(p.acr_values, '{}') AS "acrValues"
      FROM sso_configs c
      LEFT JOIN sign_in_policies p ON p.workspace_id = c.workspace_id
     CROSS JOIN LATERAL (
       SELECT coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'sealed', encode(s.sealed, 'base64'),
                                                    'isAccepted', s.accepted_at IS NOT NULL,
                                                    'isRefused', s.refused_at IS NOT NULL) ORDER BY s.id DESC), '[]') AS credentials
         FROM sso_client_credentials s
        WHERE s.workspace_id = c.workspace_id
          AND (s.public_jwk IS NOT NULL) = (c.token_auth_method IS NOT DISTINCT FROM 'private_key_jwt')
     ) s
     WHERE c.workspace_id = ${workspaceId}::uuid`
}

const findConfig = prepared<{ workspaceId: string }, SignInConfigRow>('sso_config_find', ({ workspaceId }) =>
  signInConfigSql(workspaceId),
)

/** The configuration that a sign-in goes by; undefined where the workspace has none. */
export async function findSignInConfig(db: Db, box: SecretBox, workspaceId: string): Promise<SignInConfig | undefined> {
  const [row] = await findConfig(db, { workspaceId })
  return row && openSignInConfig(box, row)
}

/**
 * The configuration with its secrets opened. A secret whose key is not in SEAL_KEYS any more is one that is missing: the admin
 * enters it again.
 */
export function openSignInConfig(box: SecretBox, row: SignInConfigRow): SignInConfig {
  const rows = row.credentials.map(({ sealed, ...credential }) => ({
    credential,
    sealed: Buffer.from(sealed, 'base64'),
  }))
  return { ...row, ...openUsable(box, row, rows) }
}

interface SealedCredential {
  credential: UsableCredential
  sealed: Buffer
}

/** Opens what can be opened of a workspace's secrets or keys, in the order in which they are tried. */
export function openUsable(
  box: SecretBox,
  { workspaceId, tokenAuthMethod }: Pick<SignInConfig, 'workspaceId' | 'tokenAuthMethod'>,
  rows: SealedCredential[],
): Pick<SignInConfig, 'clientSecrets' | 'clientKeys' | 'credentials'> {
  const usable = rows.flatMap(({ credential, sealed }) => {
    const text = box.find(sealed, credentialContext(workspaceId, credential.id))
    return text === undefined ? [] : [{ credential, text }]
  })
  const texts = usable.map(each => each.text)
  const byKey = tokenAuthMethod === 'private_key_jwt'
  return {
    clientSecrets: byKey ? [] : texts,
    clientKeys: byKey ? texts.map(text => JSON.parse(text) as ClientKey) : [],
    credentials: usable.map(each => each.credential),
  }
}

/** Who this service is at the provider. */
export function providerClient({
  clientId,
  clientSecrets,
  clientKeys,
  tokenAuthMethod,
}: Pick<SignInConfig, 'clientId' | 'clientSecrets' | 'clientKeys' | 'tokenAuthMethod'>): ProviderClient {
  return { clientId, clientSecrets, clientKeys, authMethod: tokenAuthMethod }
}

/** The stored configuration; undefined where the workspace has none. */
export async function findSsoConfig(db: Db, workspaceId: string): Promise<StoredSsoConfig | undefined> {
  const { rows } = await sql<StoredSsoConfig>`
    SELECT ${settings}, c.metadata, c.created_at AS "createdAt", c.updated_at AS "updatedAt",
           EXISTS (SELECT FROM sso_client_credentials s WHERE s.workspace_id = c.workspace_id AND s.public_jwk IS NULL)
             AS "hasClientSecret"
      FROM sso_configs c WHERE c.workspace_id = ${workspaceId}`.execute(db)
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

/** What the seal of a client secret or key is bound to: its row. */
export function credentialContext(workspaceId: string, id: string): string {
  return `sso_client_credentials/${workspaceId}/${id}`
}

export interface SsoUrls {
  redirectUri: string
  /** Where the provider's portal sends people who start there (Core 1.0 §4). */
  initiateLoginUri: string
  /** Where the provider sends logout tokens (Back-Channel Logout 1.0 §2.2). */
  backchannelLogoutUri: string
  /** Where the provider fetches the keys of private_key_jwt. */
  jwksUri: string
  startUrl: string
}

/** What an admin registers at the provider, and where people start. One callback a workspace is a defence against mix-up. */
export function ssoUrls(publicUrl: string, workspaceId: string): SsoUrls {
  const base = `${publicUrl}/sso/${workspaceId}`
  return {
    redirectUri: `${base}/callback`,
    initiateLoginUri: `${base}/initiate`,
    backchannelLogoutUri: `${base}/backchannel-logout`,
    jwksUri: `${base}/jwks.json`,
    startUrl: `${base}/start`,
  }
}
