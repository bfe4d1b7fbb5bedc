import { sql } from 'kysely'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { conceivableDomains, parseEmail } from '../../members/email.ts'
import { ssoUrls } from '../../sso/config/sso-config.ts'

export interface SignInQuestion {
  /** Leads to the workspace that has proved its domain; with a workspace it is only the hint for the provider's page. */
  email?: string | undefined
  workspaceId?: string | undefined
}

/** How somebody can sign in. Nothing in it depends on whether they exist. */
export interface SignInOptions {
  sso: { workspaceId: string; startUrl: string } | null
  /** Whether Assist may let them in by a password, or by anything else than SSO. */
  passwordOpen: boolean
}

interface OpenWays {
  workspaceId: string
  isOpen: boolean
  isEnforced: boolean
}

const openWays = sql`
  c.workspace_id AS "workspaceId", c.enforced_at IS NOT NULL AS "isEnforced",
  c.enabled AND EXISTS (
    SELECT FROM sso_client_credentials s
     WHERE s.workspace_id = c.workspace_id
       AND (s.public_jwk IS NOT NULL) = (c.token_auth_method IS NOT DISTINCT FROM 'private_key_jwt')) AS "isOpen"`

const findOpenWays = prepared<{ workspaceId: string | null; domain: string | null }, OpenWays>(
  'sign_in_options',
  ({ workspaceId, domain }) => sql`
    SELECT ${openWays}
      FROM sso_configs c
     WHERE c.workspace_id = coalesce(${workspaceId}::uuid, (
             SELECT workspace_id FROM domains WHERE domain = ${domain}::text AND verified_at IS NOT NULL))`,
)

const findEnforced = prepared<{ domains: string[] }, OpenWays>(
  'sign_in_options_enforced',
  ({ domains }) => sql`
    SELECT ${openWays}
      FROM domains d JOIN sso_configs c ON c.workspace_id = d.workspace_id AND c.enforced_at IS NOT NULL
     WHERE d.domain = ANY (${domains}::text[]) AND d.verified_at IS NOT NULL
     LIMIT 1`,
)

/**
 * Where somebody signs in: by their workspace or, knowing only their address, the workspace that has proved its domain. One
 * that was only typed into a list leads nowhere, or whoever types first could draw others' people to their own page. People
 * are never looked up, so known and unknown ones have the same answer after the same statement.
 *
 * What is no address here may be one to whoever asks (`Ana <ana@corp.example>`): where SSO is enforced for a domain that
 * could be read in it, it is not what opens the password.
 */
export async function findSignInOptions(
  { config, db }: { config: Config; db: Db },
  { email, workspaceId }: SignInQuestion,
): Promise<SignInOptions> {
  const asked = workspaceId === undefined ? email : undefined
  const domain = asked === undefined ? undefined : parseEmail(asked)?.domain
  const domains = asked === undefined || domain !== undefined ? [] : conceivableDomains(asked)
  const [ways] =
    domains.length > 0
      ? await findEnforced(db, { domains })
      : await findOpenWays(db, { workspaceId: workspaceId ?? null, domain: domain ?? null })
  if (!ways) return { sso: null, passwordOpen: true }
  const passwordOpen = !ways.isEnforced
  if (!ways.isOpen) return { sso: null, passwordOpen }
  const startUrl = new URL(ssoUrls(config.publicUrl, ways.workspaceId).startUrl)
  if (email !== undefined) startUrl.searchParams.set('login_hint', email)
  return { sso: { workspaceId: ways.workspaceId, startUrl: startUrl.href }, passwordOpen }
}
