import { recordActivity } from '../../activity/activity.ts'
import type { Actor } from '../../actor.ts'
import type { Db } from '../../db/database.ts'
import { AppError, type ErrorCode } from '../../errors.ts'
import type { ProviderCheck } from '../../oidc/provider.ts'
import { checkDomainsFit, checkDomainsFree, parseAllowedDomains } from '../config/allowed-domains.ts'
import { listCredentials, type ClientCredential } from '../credentials/client-credentials.ts'
import type { SsoDependencies } from './save-sso-config.ts'
import { findSsoConfig, notConfigured, type SsoSettings, type StoredSsoConfig } from '../config/sso-config.ts'

export interface SsoCheck extends Omit<ProviderCheck, 'name'> {
  name: ProviderCheck['name'] | 'allowed_domains' | 'client_secret'
}

export interface SsoConfigCheck {
  /** Nothing failed; there may be warnings. */
  passed: boolean
  issuer: string
  checks: SsoCheck[]
}

export interface SsoConfigCheckInput {
  workspaceId: string
  /** Settings that are not saved yet, over the saved ones. */
  draft: Partial<Pick<SsoSettings, 'issuer' | 'allowedDomains'>>
  actor: Actor
}

/**
 * Tests the saved configuration, or a draft before it is saved, check by check, each with what to change. Nothing but the
 * entry is stored.
 * @throws {AppError} `sso_not_configured` where there is neither a draft issuer nor a saved one
 */
export async function checkSsoConfig(
  { db, box, providers, config }: SsoDependencies,
  { workspaceId, draft, actor }: SsoConfigCheckInput,
): Promise<SsoConfigCheck> {
  const stored = await findSsoConfig(db, workspaceId)
  const issuer = draft.issuer ?? stored?.issuer
  if (issuer === undefined) throw notConfigured()
  const domains = draft.allowedDomains ?? stored?.allowedDomains ?? []
  const checks: SsoCheck[] = [
    ...(await providers.test(issuer)),
    await checkDomains(async () => {
      const parsed = parseAllowedDomains(domains)
      checkDomainsFit(issuer, parsed, config)
      await checkDomainsFree(db, workspaceId, parsed)
      return parsed
    }),
    checkSecret(stored, { issuer, credentials: await listCredentials(db, box, workspaceId) }),
  ]
  const failed = checks.filter(check => check.result === 'fail')
  await recordTest(db, { workspaceId, issuer, failed, actor })
  return { passed: failed.length === 0, issuer, checks }
}

async function checkDomains(parse: () => Promise<string[]>): Promise<SsoCheck> {
  const name = 'allowed_domains'
  try {
    const domains = await parse()
    if (domains.length > 0) return { name, result: 'pass', message: `Addresses must be at ${domains.join(', ')}.` }
    const message = 'Addresses may be at any domain: whoever the provider lets in can sign in.'
    return { name, result: 'warn', message, fix: 'List the domains of your organization in allowedDomains.' }
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { name, result: 'fail', message: error.message, code: error.code }
  }
}

/** Whether the provider accepts it shows at a sign-in only (or a sign-in test): it is asked for with a code. */
function checkSecret(
  stored: StoredSsoConfig | undefined,
  { issuer, credentials }: { issuer: string; credentials: ClientCredential[] },
): SsoCheck {
  const name = 'client_secret'
  const kind = stored?.tokenAuthMethod === 'private_key_jwt' ? 'key' : 'secret'
  const own = credentials.filter(each => each.kind === kind)
  if (stored?.issuer === issuer && own.length > 0 && !own.some(each => each.isReadable)) {
    const message = `The client ${kind} cannot be read any more: SEAL_KEYS of this service lacks the key that sealed it.`
    return {
      name,
      result: 'fail',
      message,
      fix: 'Enter the secret again, or make a new key.',
      code: 'sso_secret_missing',
    }
  }
  if (stored?.tokenAuthMethod === 'private_key_jwt') {
    return { name, result: 'pass', message: 'This service proves itself by a key of its own, published at jwksUri.' }
  }
  if (stored?.hasClientSecret && stored.issuer === issuer) {
    return { name, result: 'pass', message: 'A client secret is stored for this issuer.' }
  }
  const message = 'No client secret is stored for this issuer.'
  return { name, result: 'warn', message, fix: 'Give the clientSecret when you save.' }
}

interface TestEntry {
  workspaceId: string
  issuer: string
  failed: SsoCheck[]
  actor: Actor
}

async function recordTest(db: Db, { workspaceId, issuer, failed, actor }: TestEntry): Promise<void> {
  const codes = failed.map(({ name, code }): { check: string; code?: ErrorCode } => ({
    check: name,
    ...(code && { code }),
  }))
  await db.transaction().execute(async trx =>
    recordActivity(trx, {
      workspaceId,
      action: 'sso_config.tested',
      actor,
      target: { type: 'sso_config', id: workspaceId },
      detail: { issuer: issuer.slice(0, 1000), passed: failed.length === 0, failed: codes },
    }),
  )
}
