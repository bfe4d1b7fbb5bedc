import { sql } from 'kysely'
import type { Db } from '../db/database.ts'
import { prepared } from '../db/prepared.ts'
import type { SecretBox } from './secret-box.ts'

export type TokenAuthMethod = 'client_secret_basic' | 'client_secret_post'

/** What a sign-in needs to know about its workspace's SSO configuration. */
export interface LoginConfig {
  workspaceId: string
  issuer: string
  clientId: string
  /** Newest first; the ones after it are tried only where the provider refuses the one before. */
  clientSecrets: string[]
  /** The admin's choice; null: chosen from the provider's metadata (Discovery 1.0 section 3). */
  tokenAuthMethod: TokenAuthMethod | null
  autoProvision: boolean
  allowedDomains: string[]
  trustUnverifiedEmail: boolean
  enabled: boolean
  version: number
  /** The domains that this workspace has proved to be its own. */
  verifiedDomains: string[]
}

interface LoginConfigRow extends Omit<LoginConfig, 'clientSecrets'> {
  secretIds: string[]
  sealedSecrets: Buffer[]
}

const findConfig = prepared<{ workspaceId: string }, LoginConfigRow>(
  'sso_config_find',
  ({ workspaceId }) => sql`
    SELECT c.workspace_id AS "workspaceId", c.issuer, c.client_id AS "clientId",
           c.token_auth_method AS "tokenAuthMethod", c.auto_provision AS "autoProvision",
           c.allowed_domains AS "allowedDomains", c.trust_unverified_email AS "trustUnverifiedEmail",
           c.enabled, c.version, s.ids AS "secretIds", s.sealed AS "sealedSecrets",
           ARRAY(SELECT d.domain FROM domains d WHERE d.workspace_id = c.workspace_id AND d.verified_at IS NOT NULL)
             AS "verifiedDomains"
      FROM sso_configs c
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

/** What the seal of a client secret is bound to: its row. */
function secretContext(workspaceId: string, id: string): string {
  return `sso_client_secrets/${workspaceId}/${id}`
}
