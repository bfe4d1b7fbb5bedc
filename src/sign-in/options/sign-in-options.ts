import { AppError } from '../../errors.ts'
import { sql } from 'kysely'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { parseEmail } from '../../members/email.ts'
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

/**
 * Finds how a person can sign in: by their workspace or, from an address alone, by the workspace that proved its domain. A domain
 * that is only listed in allowedDomains leads nowhere, because anyone could list a foreign domain. People are never looked up,
 * so that known and unknown addresses have the same answer after the same statement.
 * @throws {AppError} `invalid` for an address that cannot be read: another reader might find the domain of an enforced
 *   workspace in it, so nothing may answer that passwords are open
 */
export async function findSignInOptions(
  { config, db }: { config: Config; db: Db },
  { email, workspaceId }: SignInQuestion,
): Promise<SignInOptions> {
  const domain = email === undefined || workspaceId !== undefined ? undefined : readDomain(email)
  const [ways] = await findOpenWays(db, { workspaceId: workspaceId ?? null, domain: domain ?? null })
  if (!ways) return { sso: null, passwordOpen: true }
  const passwordOpen = !ways.isEnforced
  if (!ways.isOpen) return { sso: null, passwordOpen }
  const startUrl = new URL(ssoUrls(config.publicUrl, ways.workspaceId).startUrl)
  if (email !== undefined) startUrl.searchParams.set('login_hint', email)
  return { sso: { workspaceId: ways.workspaceId, startUrl: startUrl.href }, passwordOpen }
}

function readDomain(email: string): string {
  const parsed = parseEmail(email)
  // `%40` and routed addresses (`ana%corp.example@relay.example`) name a second domain.
  if (parsed !== undefined && !/[%!]/.test(email)) return parsed.domain
  const message = 'is not an e-mail address such as ana@example.com'
  throw new AppError('invalid', `The request body is not valid at /email: ${message}.`, {
    errors: [{ pointer: '/email', message }],
  })
}
