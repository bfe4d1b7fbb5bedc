import { readPastedSecret } from '../credentials/pasted-secret.ts'
import { isDeepStrictEqual } from 'node:util'
import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { isAbove, roleLimitOf } from '../../access/derivation/roles.ts'
import { recordActivity } from '../../activity/activity.ts'
import type { Db, Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import type { ProviderMetadata, Providers } from '../../oidc/provider.ts'
import { checkDomainsFit, checkDomainsFree, parseAllowedDomains, type DomainRules } from '../config/allowed-domains.ts'
import { changeExpiry, insertKey, insertSecret } from '../credentials/client-credentials.ts'
import { checkEnforcedEdit, enforcedRefusal } from '../config/enforced-edits.ts'
import type { SecretBox } from '../../secret-box.ts'
import { credentialContext, findSsoConfig, getSsoConfig, notConfigured } from '../config/sso-config.ts'
import type { SsoSettings, StoredSsoConfig } from '../config/sso-config.ts'

export interface SsoDependencies {
  db: Db
  box: SecretBox
  providers: Providers
  /** `roles`: lowest first. */
  config: DomainRules & { roles: readonly string[] }
}

export interface SsoChange<Settings> {
  workspaceId: string
  settings: Settings
  /** Absent: the stored one goes on, as long as the issuer stays. */
  clientSecret?: string | undefined
  /** When the provider stops taking it; null or absent: never, or not known. */
  clientSecretExpiresAt?: string | null | undefined
  /** The sign-in test that has proved these settings: while SSO is enforced, nothing else may replace an issuer or client. */
  provenBy?: string | undefined
  /** The version that must still be the stored one. */
  expectedVersion?: number | undefined
  actor: Actor
}

export interface SavedSsoConfig {
  stored: StoredSsoConfig
  /** What was made of the input, and what the admin should do next. */
  notices: string[]
}

/**
 * Creates or replaces a workspace's SSO configuration. The issuer's metadata is fetched and checked first; whatever is
 * wrong refuses, and the configuration before stays in force.
 * @throws {AppError} `sso_issuer_*`, `sso_discovery_*`, `sso_domain_*`, `sso_secret_missing`, `sso_enforced`,
 *   `version_conflict`, `conflict` where somebody else saved meanwhile
 */
export async function saveSsoConfig(
  dependencies: SsoDependencies,
  change: SsoChange<SsoSettings>,
): Promise<SavedSsoConfig> {
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
): Promise<SavedSsoConfig> {
  const stored = await getSsoConfig(dependencies.db, change.workspaceId)
  checkVersion(change.expectedVersion, stored)
  const settings = { ...settingsOf(stored), ...change.settings }
  const needsProvider = change.settings.issuer !== undefined || (settings.enabled && !stored.enabled)
  const metadata = needsProvider ? await dependencies.providers.inspect(settings.issuer) : stored.metadata
  return store(dependencies, { ...change, settings, stored, metadata })
}

/**
 * Removes the configuration and its secrets. Nobody can sign in by it any more; members and sessions stay.
 * @throws {AppError} `sso_not_configured`, `version_conflict`, `sso_enforced`
 */
export async function deleteSsoConfig(
  { db, providers }: Pick<SsoDependencies, 'db' | 'providers'>,
  { workspaceId, expectedVersion, actor }: Omit<SsoChange<never>, 'settings'>,
): Promise<void> {
  const issuer = await db.transaction().execute(async trx => {
    let query = trx.deleteFrom('sso_configs').where('workspace_id', '=', workspaceId).where('enforced_at', 'is', null)
    if (expectedVersion !== undefined) query = query.where('version', '=', expectedVersion)
    const deleted = await query.returning('issuer').executeTakeFirst()
    if (!deleted) {
      const stored = await findSsoConfig(trx, workspaceId)
      if (!stored) throw notConfigured()
      throw stored.enforcedAt === null ? versionConflict() : enforcedRefusal('The SSO configuration cannot be deleted')
    }
    // Versions begin anew with the next configuration, which these have not tested.
    await trx
      .updateTable('sso_sign_in_tests')
      .set({ config_version: null })
      .where('workspace_id', '=', workspaceId)
      .execute()
    const entry = { action: 'sso_config.deleted', target: { type: 'sso_config', id: workspaceId } } as const
    await recordActivity(trx, { ...entry, workspaceId, actor, detail: { issuer: deleted.issuer } })
    return deleted.issuer
  })
  providers.markStale(issuer)
}

interface Write extends SsoChange<SsoSettings> {
  stored: StoredSsoConfig | undefined
  metadata: ProviderMetadata
}

async function store(dependencies: SsoDependencies, write: Write): Promise<SavedSsoConfig> {
  const { db, box, providers, config } = dependencies
  const { workspaceId, stored, metadata, actor } = write
  const pasted = write.clientSecret === undefined ? undefined : readPastedSecret(write.clientSecret)
  // The provider's own spelling of its issuer is the one that tokens carry.
  const settings = {
    ...write.settings,
    issuer: metadata.issuer,
    allowedDomains: parseAllowedDomains(write.settings.allowedDomains),
    relinkByEmailUntil: toInstant(write.settings.relinkByEmailUntil),
  }
  checkDomainsFit(settings.issuer, settings.allowedDomains, config)
  if (settings.relinkByEmailUntil !== stored?.relinkByEmailUntil) checkRelinkWindow(settings.relinkByEmailUntil)
  if (stored) checkEnforcedEdit(stored, settings, write.provenBy)
  const notices = [
    ...spellingNotices(write.settings.issuer, settings.issuer),
    ...(pasted?.notice ? [pasted.notice] : []),
  ]
  const changed = changedSettings(settings, stored)
  const maxLinkableRole = limitAfter(config.roles, { stored, settings, actor })
  if (stored && stored.enforcedAt !== null && maxLinkableRole !== null) {
    throw new AppError(
      'forbidden',
      'While SSO is enforced, an owner changes what it rests on: nobody else vouches for owners.',
    )
  }

  const saved = await db.transaction().execute(async trx => {
    const credentialWrite = { ...write, clientSecret: pasted?.secret, settings, box }
    const added = await chooseCredentials(trx, credentialWrite)
    const { clientSecretExpiresAt: expiresAt } = write
    if (added.knownId !== undefined && expiresAt !== undefined) {
      await changeExpiry(trx, { workspaceId, box, id: added.knownId, expiresAt, actor })
    }
    if (added.secret !== undefined) changed.push('clientSecret')
    if (added.needsKey) changed.push('clientKey')
    const isSame = stored !== undefined && changed.length === 0 && isDeepStrictEqual(metadata, stored.metadata)
    if (isSame && maxLinkableRole === stored.maxLinkableRole) return stored
    await checkDomainsFree(trx, workspaceId, settings.allowedDomains)
    await writeSettings(trx, { ...write, settings, maxLinkableRole, isSame })
    await writeCredentials(trx, credentialWrite, added)
    await recordActivity(trx, {
      workspaceId,
      action: 'sso_config.saved',
      actor,
      target: { type: 'sso_config', id: workspaceId },
      detail: {
        changed,
        ...settings,
        maxLinkableRole: maxLinkableRole ?? config.roles.at(-1),
        ...(write.provenBy !== undefined && { provenBy: write.provenBy }),
      },
    })
    return getSsoConfig(trx, workspaceId)
  })
  if (stored) providers.markStale(stored.issuer)
  notices.push(...limitNotices(saved), ...(await migrationNotices(db, { workspaceId, stored, saved })))
  return { stored: saved, notices }
}

/** What decides whom a sign-in names. */
const deciding = ['issuer', 'clientId', 'externalIdClaim', 'groupsClaim', 'relinkByEmailUntil'] as const

/**
 * The highest role that settings may newly link or give once somebody has saved them: that of whoever changes what decides,
 * and otherwise of the highest who has saved them since, which is how an owner confirms what an admin has set up.
 * @returns null: every one
 */
export function limitAfter(
  roles: readonly string[],
  { stored, settings, actor }: { stored: StoredSsoConfig | undefined; settings: SsoSettings; actor: Actor },
): string | null {
  const own = roleLimitOf(roles, actor)
  const decides = (name: (typeof deciding)[number]) =>
    // Closing the window gives nobody anything.
    settings[name] !== stored?.[name] && !(name === 'relinkByEmailUntil' && settings[name] === null)
  if (!stored || own === null || deciding.some(decides)) return own
  return stored.maxLinkableRole !== null && isAbove(roles, own, stored.maxLinkableRole) ? own : stored.maxLinkableRole
}

function limitNotices({ maxLinkableRole }: StoredSsoConfig): string[] {
  if (maxLinkableRole === null) return []
  return [
    `These settings link nobody above the role ${maxLinkableRole}, and give nobody more, until an owner saves them too (an empty ` +
      'PATCH will do). Owners who are linked already sign in as before.',
  ]
}

/** An instant in the one spelling in which they are stored. */
function toInstant(text: string | null): string | null {
  return text === null ? null : new Date(text).toISOString()
}

const maxRelinkDays = 30

/** A window that nobody remembers is a door: it closes by itself. */
function checkRelinkWindow(until: string | null): void {
  if (until === null) return
  const days = (Date.parse(until) - Date.now()) / 86_400_000
  if (days > 0 && days <= maxRelinkDays) return
  throw new AppError('invalid', `relinkByEmailUntil must lie ahead, by ${maxRelinkDays} days at most.`, {
    errors: [{ pointer: '/relinkByEmailUntil', message: `must lie ahead, by ${maxRelinkDays} days at most` }],
  })
}

/** What the admin typed may be one of several spellings; tokens carry the provider's own. */
function spellingNotices(typed: string, issuer: string): string[] {
  if (typed === issuer) return []
  return [`The provider calls itself ${issuer}, and was saved by this name; you gave ${typed}.`]
}

/** Members stay when the issuer changes; who of them signs in at once is up to the admin. */
async function migrationNotices(
  db: Db,
  { workspaceId, stored, saved }: { workspaceId: string; stored: StoredSsoConfig | undefined; saved: StoredSsoConfig },
): Promise<string[]> {
  if (!stored || stored.issuer === saved.issuer) return []
  const { rows } = await sql<{ count: number }>`
    SELECT count(*)::int AS count FROM members m
     WHERE m.workspace_id = ${workspaceId} AND m.status = 'active'
       AND EXISTS (SELECT FROM identities i WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id)
       AND NOT EXISTS (SELECT FROM identities i
                        WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id AND i.issuer = ${saved.issuer})`.execute(
    db,
  )
  const count = rows[0]?.count ?? 0
  if (count === 0) return []
  return [
    `${count} active members are linked at another issuer than ${saved.issuer}. They stay members, and are linked anew by ` +
      'externalIdClaim where a directory provides them, or by a vouched e-mail address while relinkByEmailUntil is ahead.',
  ]
}

/** What is to be stored to prove to the provider who we are. */
interface NewCredentials {
  secret: string | undefined
  /** The stored secret that was given again. */
  knownId: string | undefined
  needsKey: boolean
}

interface CredentialWrite extends Write {
  box: SecretBox
}

/**
 * The secret that was given, unless it is the stored one, and a key of ours where the method wants one and there is none.
 * What is stored never goes on with another issuer.
 * @throws {AppError} `sso_secret_missing`
 */
async function chooseCredentials(
  trx: Trx,
  { workspaceId, settings, stored, clientSecret, box }: CredentialWrite,
): Promise<NewCredentials> {
  const rows = await trx
    .selectFrom('sso_client_credentials')
    .select(['id', 'sealed', 'public_jwk'])
    .where('workspace_id', '=', workspaceId)
    .orderBy('id', 'desc')
    .execute()
  const kept = stored?.issuer === settings.issuer ? rows : []
  const newestSecret = kept.find(row => row.public_jwk === null)
  const byKey = settings.tokenAuthMethod === 'private_key_jwt'
  if (!byKey && clientSecret === undefined && !newestSecret) {
    throw new AppError(
      'sso_secret_missing',
      stored && stored.issuer !== settings.issuer
        ? 'The stored client secret belongs to the issuer before. Give the clientSecret of this one.'
        : 'Give the clientSecret that the identity provider shows for this application, or set tokenAuthMethod to private_key_jwt.',
    )
  }
  const isKnown = ({ id, sealed }: { id: string; sealed: Buffer }) =>
    clientSecret !== undefined && box.find(sealed, credentialContext(workspaceId, id)) === clientSecret
  const knownId = newestSecret && isKnown(newestSecret) ? newestSecret.id : undefined
  const needsKey = byKey && kept.every(row => row.public_jwk === null)
  return { secret: knownId === undefined ? clientSecret : undefined, knownId, needsKey }
}

async function writeCredentials(
  trx: Trx,
  { workspaceId, settings, stored, box, clientSecretExpiresAt: expiresAt }: CredentialWrite,
  { secret, needsKey }: NewCredentials,
): Promise<void> {
  if (stored && stored.issuer !== settings.issuer) {
    await trx.deleteFrom('sso_client_credentials').where('workspace_id', '=', workspaceId).execute()
  }
  if (secret !== undefined) await insertSecret(trx, { workspaceId, box, secret, expiresAt })
  if (needsKey) await insertKey(trx, { workspaceId, box })
}

/** The part of what is stored that an admin decides. */
export function settingsOf({ issuer, clientId, tokenAuthMethod, ...stored }: StoredSsoConfig): SsoSettings {
  const {
    autoProvision,
    allowedDomains,
    trustUnverifiedEmail,
    externalIdClaim,
    relinkByEmailUntil,
    groupsClaim,
    enabled,
  } = stored
  const people = {
    autoProvision,
    allowedDomains,
    trustUnverifiedEmail,
    externalIdClaim,
    relinkByEmailUntil,
    groupsClaim,
  }
  return { issuer, clientId, tokenAuthMethod, ...people, enabled }
}

function changedSettings(settings: SsoSettings, stored: StoredSsoConfig | undefined): string[] {
  const names = Object.keys(settings) as (keyof SsoSettings)[]
  return names.filter(name => !stored || !isDeepStrictEqual(settings[name], stored[name]))
}

/** Writes only where the version is still the one that everything before was decided by. */
async function writeSettings(
  trx: Trx,
  {
    workspaceId,
    settings,
    metadata,
    stored,
    expectedVersion,
    maxLinkableRole,
    isSame,
  }: Write & { maxLinkableRole: string | null; isSame: boolean },
) {
  const values = {
    max_linkable_role: maxLinkableRole,
    issuer: settings.issuer,
    client_id: settings.clientId,
    token_auth_method: settings.tokenAuthMethod,
    auto_provision: settings.autoProvision,
    allowed_domains: settings.allowedDomains,
    trust_unverified_email: settings.trustUnverifiedEmail,
    external_id_claim: settings.externalIdClaim,
    relink_by_email_until: settings.relinkByEmailUntil,
    groups_claim: settings.groupsClaim,
    enabled: settings.enabled,
    metadata: JSON.stringify(metadata),
  }
  const written = stored
    ? await trx
        .updateTable('sso_configs')
        .set({ ...values, version: stored.version + 1, updated_at: sql`now()` })
        // Whoever only confirms the settings makes no other ones: what has proved them still does.
        .$if(!isSame, query => query.set({ settings_version: stored.version + 1 }))
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
