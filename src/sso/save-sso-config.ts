import { isDeepStrictEqual } from 'node:util'
import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Db, Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { ProviderMetadata, Providers } from '../oidc/provider.ts'
import { uuid7 } from '../uuid7.ts'
import { checkDomainsFit, checkDomainsFree, parseAllowedDomains, type DomainRules } from './allowed-domains.ts'
import type { SecretBox } from './secret-box.ts'
import { findSsoConfig, getSsoConfig, notConfigured, secretContext } from './sso-config.ts'
import type { SsoSettings, StoredSsoConfig } from './sso-config.ts'

/** How long the secret before is tried beside a new one: the admin changes the provider and this service one by one. */
const secretOverlap = sql`interval '7 days'`

export interface SsoDependencies {
  db: Db
  box: SecretBox
  providers: Providers
  config: DomainRules
}

export interface SsoChange<Settings> {
  workspaceId: string
  settings: Settings
  /** Absent: the stored one goes on, as long as the issuer stays. */
  clientSecret?: string | undefined
  /** The version that must still be the stored one. */
  expectedVersion?: number | undefined
  actor: Actor
}

/**
 * Creates or replaces a workspace's SSO configuration. The issuer's metadata is fetched and checked first; whatever is
 * wrong refuses, and the configuration before stays in force.
 * @throws {AppError} `sso_issuer_*`, `sso_discovery_*`, `sso_domain_*`, `sso_secret_missing`, `version_conflict`,
 *   `conflict` where somebody else saved meanwhile
 */
export async function saveSsoConfig(
  dependencies: SsoDependencies,
  change: SsoChange<SsoSettings>,
): Promise<StoredSsoConfig> {
  const stored = await findSsoConfig(dependencies.db, change.workspaceId)
  checkVersion(change.expectedVersion, stored)
  const metadata = await dependencies.providers.inspect(change.settings.issuer)
  return store(dependencies, { ...change, stored, metadata })
}

/**
 * Changes single settings. The provider is asked only where the issuer is given or sign-in is switched on, so that the rest
 * can be changed, and sign-in switched off, while the provider is away.
 * @throws {AppError} as saveSsoConfig, and `sso_not_configured`
 */
export async function changeSsoConfig(
  dependencies: SsoDependencies,
  change: SsoChange<Partial<SsoSettings>>,
): Promise<StoredSsoConfig> {
  const stored = await getSsoConfig(dependencies.db, change.workspaceId)
  checkVersion(change.expectedVersion, stored)
  const settings = { ...settingsOf(stored), ...change.settings }
  const needsProvider = change.settings.issuer !== undefined || (settings.enabled && !stored.enabled)
  const metadata = needsProvider ? await dependencies.providers.inspect(settings.issuer) : stored.metadata
  return store(dependencies, { ...change, settings, stored, metadata })
}

/**
 * Removes the configuration and its secrets. Nobody can sign in by it any more; members and sessions stay.
 * @throws {AppError} `sso_not_configured`, `version_conflict`
 */
export async function deleteSsoConfig(
  { db, providers }: Pick<SsoDependencies, 'db' | 'providers'>,
  { workspaceId, expectedVersion, actor }: Omit<SsoChange<never>, 'settings'>,
): Promise<void> {
  const issuer = await db.transaction().execute(async trx => {
    let query = trx.deleteFrom('sso_configs').where('workspace_id', '=', workspaceId)
    if (expectedVersion !== undefined) query = query.where('version', '=', expectedVersion)
    const deleted = await query.returning('issuer').executeTakeFirst()
    if (!deleted) throw (await findSsoConfig(trx, workspaceId)) ? versionConflict() : notConfigured()
    const entry = { action: 'sso_config.deleted', target: { type: 'sso_config', id: workspaceId } } as const
    await recordActivity(trx, { ...entry, workspaceId, actor, detail: { issuer: deleted.issuer } })
    return deleted.issuer
  })
  providers.forget(issuer)
}

interface Write extends SsoChange<SsoSettings> {
  stored: StoredSsoConfig | undefined
  metadata: ProviderMetadata
}

async function store(dependencies: SsoDependencies, write: Write): Promise<StoredSsoConfig> {
  const { db, box, providers, config } = dependencies
  const { workspaceId, stored, metadata } = write
  // The provider's own spelling of its issuer is the one that tokens carry.
  const settings = {
    ...write.settings,
    issuer: metadata.issuer,
    allowedDomains: parseAllowedDomains(write.settings.allowedDomains),
  }
  checkDomainsFit(settings.issuer, settings.allowedDomains, config)
  const clientSecret = newSecret(box, { ...write, settings })
  const changed = changedSettings(settings, stored)
  if (clientSecret !== undefined) changed.push('clientSecret')
  if (stored && changed.length === 0 && isDeepStrictEqual(metadata, stored.metadata)) return stored

  const saved = await db.transaction().execute(async trx => {
    await checkDomainsFree(trx, workspaceId, settings.allowedDomains)
    await writeSettings(trx, { ...write, settings })
    if (clientSecret !== undefined) {
      await writeSecret(trx, { workspaceId, keepPrevious: stored?.issuer === settings.issuer, box, clientSecret })
    }
    await recordActivity(trx, {
      workspaceId,
      action: 'sso_config.saved',
      actor: write.actor,
      target: { type: 'sso_config', id: workspaceId },
      detail: { changed, ...settings },
    })
    return getSsoConfig(trx, workspaceId)
  })
  if (stored) providers.forget(stored.issuer)
  return saved
}

/** The secret to store, or undefined where the stored one goes on. */
function newSecret(box: SecretBox, { workspaceId, settings, stored, clientSecret }: Write): string | undefined {
  const kept = stored?.issuer === settings.issuer ? stored : undefined
  if (clientSecret !== undefined) {
    const isKnown = kept && box.open(kept.sealedSecret, secretContext(workspaceId, kept.secretId)) === clientSecret
    return isKnown ? undefined : clientSecret
  }
  if (kept) return undefined
  throw new AppError(
    'sso_secret_missing',
    stored
      ? 'The stored client secret belongs to the issuer before. Give the clientSecret of this one.'
      : 'Give the clientSecret that the identity provider shows for this application.',
  )
}

function settingsOf({ issuer, clientId, tokenAuthMethod, ...stored }: StoredSsoConfig): SsoSettings {
  const { autoProvision, allowedDomains, trustUnverifiedEmail, directoryClaim, enabled } = stored
  const people = { autoProvision, allowedDomains, trustUnverifiedEmail, directoryClaim }
  return { issuer, clientId, tokenAuthMethod, ...people, enabled }
}

function changedSettings(settings: SsoSettings, stored: StoredSsoConfig | undefined): string[] {
  const names = Object.keys(settings) as (keyof SsoSettings)[]
  return names.filter(name => !stored || !isDeepStrictEqual(settings[name], stored[name]))
}

/** Writes only where the version is still the one that everything before was decided by. */
async function writeSettings(trx: Trx, { workspaceId, settings, metadata, stored, expectedVersion }: Write) {
  const values = {
    issuer: settings.issuer,
    client_id: settings.clientId,
    token_auth_method: settings.tokenAuthMethod,
    auto_provision: settings.autoProvision,
    allowed_domains: settings.allowedDomains,
    trust_unverified_email: settings.trustUnverifiedEmail,
    directory_claim: settings.directoryClaim,
    enabled: settings.enabled,
    metadata: JSON.stringify(metadata),
  }
  const written = stored
    ? await trx
        .updateTable('sso_configs')
        .set({ ...values, version: stored.version + 1, updated_at: sql`now()` })
        .where('workspace_id', '=', workspaceId)
        .where('version', '=', stored.version)
        .returning('version')
        .executeTakeFirst()
    : await trx
        .insertInto('sso_configs')
        .values({ workspace_id: workspaceId, ...values })
        .onConflict(conflict => conflict.doNothing())
        .returning('version')
        .executeTakeFirst()
  if (written) return
  if (expectedVersion !== undefined) throw versionConflict()
  throw new AppError('conflict', 'Somebody else saved the SSO configuration at the same time. Read it and save again.')
}

/** Seals and stores a new secret; of the ones before at most the newest stays, for a while, and only for the same issuer. */
async function writeSecret(
  trx: Trx,
  secret: { workspaceId: string; clientSecret: string; keepPrevious: boolean; box: SecretBox },
): Promise<void> {
  const { workspaceId, clientSecret, keepPrevious, box } = secret
  const isPrevious = sql<boolean>`(${keepPrevious} AND expires_at IS NULL)`
  await trx
    .deleteFrom('sso_client_secrets')
    .where('workspace_id', '=', workspaceId)
    .where(({ not }) => not(isPrevious))
    .execute()
  await trx
    .updateTable('sso_client_secrets')
    .set({ expires_at: sql`now() + ${secretOverlap}` })
    .where('workspace_id', '=', workspaceId)
    .execute()
  const id = uuid7()
  const sealed = box.seal(clientSecret, secretContext(workspaceId, id))
  await trx.insertInto('sso_client_secrets').values({ workspace_id: workspaceId, id, sealed }).execute()
}

/** Spares the provider a call whose result could not be stored; what holds is the version in the write itself. */
function checkVersion(expected: number | undefined, stored: StoredSsoConfig | undefined): void {
  if (expected !== undefined && expected !== stored?.version) throw versionConflict()
}

function versionConflict(): AppError {
  return new AppError(
    'version_conflict',
    'The SSO configuration has changed since you read it. Read it again, and send its ETag with your change.',
  )
}
