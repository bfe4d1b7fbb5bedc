import { isDeepStrictEqual } from 'node:util'
import { sql } from 'kysely'
import { recordActivity, recordRefusal } from '../../activity/activity.ts'
import type { Actor } from '../../actor.ts'
import type { Db, Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { findActingMember, getActingMember } from '../../members/acting-member.ts'
import { linkIdentity } from '../../members/identities.ts'
import { makeOpaqueToken, readOpaqueToken, s256 } from '../../opaque-token.ts'
import { uuid7 } from '../../uuid7.ts'
import { checkDomainsFit, checkDomainsFree, parseAllowedDomains } from '../../sso/config/allowed-domains.ts'
import { readPastedSecret } from '../../sso/credentials/pasted-secret.ts'
import { openCredentials } from '../../sso/credentials/client-credentials.ts'
import type { SignInTestReport } from './sign-in-test-report.ts'
import {
  limitAfter,
  saveSsoConfig,
  settingsOf,
  type SavedSsoConfig,
  type SsoDependencies,
} from '../../sso/saving/save-sso-config.ts'
import type { SecretBox } from '../../secret-box.ts'
import { findSignInConfig, findSsoConfig } from '../../sso/config/sso-config.ts'
import type { SignInConfig, SsoSettings, StoredSsoConfig } from '../../sso/config/sso-config.ts'

/** How long the admin has, from making the test to the end of the sign-in. */
const lifetime = sql<string>`now() + interval '30 minutes'`

/** The settings that an admin tries out; what is left out is as it is saved. */
export interface SignInTestDraft extends Partial<Omit<SsoSettings, 'enabled' | 'relinkByEmailUntil'>> {
  clientSecret?: string
  clientSecretExpiresAt?: string | null
}

export interface SignInTestKey {
  workspaceId: string
  id: string
}

/** A sign-in that ends in a report. */
export interface SignInTest {
  id: string
  /** `unconfirmed`: a person signed in, and the browser that created the test has not yet presented the code. */
  status: 'waiting' | 'running' | 'unconfirmed' | 'passed' | 'failed' | 'expired'
  /** Of settings that are not saved. */
  isDraft: boolean
  settings: SsoSettings
  /** The version of the saved configuration that it tests, or was saved as. */
  configVersion: number | null
  /** Null until the test is confirmed, because the report is about the person who signed in. */
  report: SignInTestReport | null
  createdAt: string
  expiresAt: string
  finishedAt: string | null
}

/** A test and the URL that runs it, in the admin's own browser, once. */
export interface NewSignInTest extends SignInTest {
  startUrl: string
}

/** What of a draft is kept beside its settings, sealed. */
interface DraftSecret {
  clientSecret: string
  expiresAt: string | null
}

function secretContext({ workspaceId, id }: SignInTestKey): string {
  return `sso_sign_in_tests.secret/${workspaceId}/${id}`
}

function claimsContext({ workspaceId, id }: SignInTestKey): string {
  return `sso_sign_in_tests.claims/${workspaceId}/${id}`
}

/**
 * Prepares a test of the saved configuration or, with a draft, of one that is not saved. A draft's issuer and domains are
 * checked as when saving.
 * @param challenge S256 of a verifier that stays in the creator's browser. The test belongs to that browser: a start URL that
 *   another person opens must neither show their claims nor link their account (RFC 9700 §4.7).
 * @throws {AppError} `sso_not_configured` where neither says enough; `sso_issuer_*`, `sso_discovery_*`, `sso_domain_*`,
 *   `sso_secret_missing`
 */
export async function createSignInTest(
  dependencies: SsoDependencies & { config: { publicUrl: string } },
  {
    workspaceId,
    draft,
    challenge,
    actor,
  }: { workspaceId: string; draft: SignInTestDraft; challenge: string; actor: Actor },
): Promise<NewSignInTest> {
  const { db, box, config } = dependencies
  const stored = await findSsoConfig(db, workspaceId)
  const { clientSecret: pasted, clientSecretExpiresAt: expiresAt = null, ...given } = draft
  const clientSecret = pasted === undefined ? undefined : readPastedSecret(pasted).secret
  const settings = await readSettings(dependencies, { workspaceId, stored, given })
  const isSaved = stored !== undefined && clientSecret === undefined && isDeepStrictEqual(settings, settingsOf(stored))
  if (!isSaved && clientSecret === undefined) await checkCredential(db, box, { workspaceId, stored, settings })
  const key = { workspaceId, id: uuid7() }
  const { token, hash } = makeOpaqueToken('tst', workspaceId)
  const secret = clientSecret === undefined ? undefined : { clientSecret, expiresAt }
  const admin = await findActingMember(db, { workspaceId, actor })
  await db
    .insertInto('sso_sign_in_tests')
    .values({
      workspace_id: workspaceId,
      id: key.id,
      start_hash: hash,
      challenge,
      settings: JSON.stringify(settings),
      sealed_secret: secret ? box.seal(JSON.stringify(secret satisfies DraftSecret), secretContext(key)) : null,
      config_version: isSaved ? stored.version : null,
      base_version: db.selectFrom('sso_configs').select('settings_version').where('workspace_id', '=', workspaceId),
      is_draft: !isSaved,
      actor_type: actor.type,
      actor_id: actor.id,
      admin_id: admin?.memberId ?? null,
      max_linkable_role: isSaved ? stored.maxLinkableRole : limitAfter(config.roles, { stored, settings, actor }),
      expires_at: lifetime,
    })
    .execute()
  const startUrl = `${config.publicUrl}/sso/${workspaceId}/sign-in-tests/${token}`
  return { ...(await getSignInTest(db, key)), startUrl }
}

async function readSettings(
  { db, providers, config }: SsoDependencies,
  {
    workspaceId,
    stored,
    given,
  }: { workspaceId: string; stored: StoredSsoConfig | undefined; given: Partial<SsoSettings> },
): Promise<SsoSettings> {
  if (stored && Object.keys(given).length === 0) return settingsOf(stored)
  const unsaved = {
    tokenAuthMethod: null,
    autoProvision: false,
    allowedDomains: [],
    trustUnverifiedEmail: false,
    externalIdClaim: null,
    relinkByEmailUntil: null,
    groupsClaim: null,
    enabled: true,
  }
  const { issuer, clientId, ...rest } = { ...unsaved, ...(stored && settingsOf(stored)), ...given }
  if (issuer === undefined || clientId === undefined) {
    throw new AppError(
      'sso_not_configured',
      'Nothing is saved yet: give issuer, clientId and clientSecret to test them.',
    )
  }
  const metadata = await providers.inspect(issuer)
  const settings = {
    ...rest,
    issuer: metadata.issuer,
    clientId,
    allowedDomains: parseAllowedDomains(rest.allowedDomains),
  }
  checkDomainsFit(settings.issuer, settings.allowedDomains, config)
  await checkDomainsFree(db, workspaceId, settings.allowedDomains)
  return settings
}

/** A secret or key goes on only with its issuer, also in a test. */
async function checkCredential(
  db: Db,
  box: SecretBox,
  {
    workspaceId,
    stored,
    settings,
  }: { workspaceId: string; stored: StoredSsoConfig | undefined; settings: SsoSettings },
): Promise<void> {
  const { tokenAuthMethod } = settings
  const isKept = stored?.issuer === settings.issuer
  if (isKept && (await openCredentials(db, box, { workspaceId, tokenAuthMethod })).credentials.length > 0) return
  throw new AppError(
    'sso_secret_missing',
    tokenAuthMethod === 'private_key_jwt'
      ? 'There is no key for this issuer yet. Save the settings with enabled false, register jwksUri at the provider, and test then.'
      : 'There is no client secret for this issuer yet. Give clientSecret too; it is kept for this test only.',
  )
}

const columns = [
  'id',
  'settings',
  'config_version as configVersion',
  'passed',
  'report',
  'created_at as createdAt',
  'expires_at as expiresAt',
  'started_at as startedAt',
  'finished_at as finishedAt',
  'is_draft as isDraft',
  'confirmed_at as confirmedAt',
  'subject',
] as const

/** @throws {AppError} `not_found` */
export async function getSignInTest(db: Db, { workspaceId, id }: SignInTestKey): Promise<SignInTest> {
  const { passed, startedAt, confirmedAt, subject, ...row } = await db
    .selectFrom('sso_sign_in_tests')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(
      () => new AppError('not_found', 'No sign-in test has this id. Sign-in tests are kept for a week.'),
    )
  const isOver = Date.parse(row.expiresAt) <= Date.now()
  const unfinished = isOver ? 'expired' : startedAt === null ? 'waiting' : 'running'
  const test = { ...row, settings: row.settings as SsoSettings }
  // A test that failed before a person was known says nothing about anyone.
  if (subject !== null && confirmedAt === null) return { ...test, status: 'unconfirmed', report: null }
  return {
    ...test,
    status: passed === null ? unfinished : passed ? 'passed' : 'failed',
    report: row.report as SignInTestReport | null,
  }
}

/** What proves that a request comes from the browser that created a test. */
export interface CreatorProof {
  verifier: string
  actor: Actor
}

/**
 * Confirms a finished test: the creator's browser presents its verifier and the code that the browser which signed in
 * received. Only then are report, claims and account available, because only then are both the same person's.
 * @returns the test with its report
 * @throws {AppError} `not_found`; `sign_in_test_unfinished`; `sign_in_test_other_browser`, which is recorded
 */
export async function confirmSignInTest(
  db: Db,
  { workspaceId, id, code, verifier, actor }: SignInTestKey & CreatorProof & { code: string },
): Promise<SignInTest> {
  const hash = readOpaqueToken('tsc', code)?.hash ?? null
  const confirmed = await db
    .updateTable('sso_sign_in_tests')
    .set({ confirmed_at: sql`coalesce(confirmed_at, now())` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .where('code_hash', '=', hash)
    .where('challenge', '=', s256(verifier))
    .executeTakeFirst()
  const test = await getSignInTest(db, { workspaceId, id })
  if (confirmed.numUpdatedRows > 0n) return test
  if (test.status === 'waiting' || test.status === 'running' || test.status === 'expired') {
    throw new AppError('sign_in_test_unfinished', 'The test has not finished. Open its startUrl and sign in first.')
  }
  return throwOtherBrowser(db, { workspaceId, id, actor })
}

/**
 * Requires a confirmed test and its verifier.
 * @throws {AppError} `not_found`; `sign_in_test_unfinished`; `sign_in_test_unconfirmed`; `sign_in_test_other_browser`
 */
async function getConfirmedTest(
  db: Db,
  { verifier, actor, ...key }: SignInTestKey & CreatorProof,
): Promise<SignInTest> {
  const test = await getSignInTest(db, key)
  const { challenge } = await db
    .selectFrom('sso_sign_in_tests')
    .select('challenge')
    .where('workspace_id', '=', key.workspaceId)
    .where('id', '=', key.id)
    .executeTakeFirstOrThrow()
  if (challenge !== s256(verifier)) return throwOtherBrowser(db, { ...key, actor })
  if (test.status === 'unconfirmed') {
    throw new AppError(
      'sign_in_test_unconfirmed',
      'Confirm the test first (POST …/confirm): present the code that the test page received and the verifier.',
    )
  }
  return test
}

/** Records the attempt to use a test from another browser, and throws. */
async function throwOtherBrowser(db: Db, { workspaceId, id, actor }: SignInTestKey & { actor: Actor }): Promise<never> {
  const reason = 'sign_in_test_other_browser'
  const target = { type: 'sso_sign_in_test', id }
  await recordRefusal(db, { workspaceId, action: 'sso_sign_in_test.refused', reason, actor, target })
  throw new AppError(
    reason,
    'Code or verifier do not belong to this sign-in test. Only the browser that created a test can use its result, ' +
      'and only after signing in itself. Create a new test and open its startUrl in your own browser.',
  )
}

/** A test that its start URL has opened. */
export interface StartedSignInTest extends SignInTestKey {
  /** As a sign-in would have it. */
  signInConfig: SignInConfig
  configVersion: number | null
  /** Who runs it, where they are known as a member. */
  adminId: string | null
}

/**
 * Opens a test by the token of its start URL, once.
 * @throws {AppError} `sso_attempt_expired`
 */
export async function takeSignInTest(
  db: Db,
  box: SecretBox,
  { workspaceId, token }: { workspaceId: string; token: string },
): Promise<StartedSignInTest> {
  const read = readOpaqueToken('tst', token)
  const taken =
    read?.workspaceId === workspaceId &&
    (await db
      .updateTable('sso_sign_in_tests')
      .set({ started_at: sql`now()` })
      .where('workspace_id', '=', workspaceId)
      .where('start_hash', '=', read.hash)
      .where('started_at', 'is', null)
      .where('expires_at', '>', sql<string>`now()`)
      .returning('id')
      .executeTakeFirst())
  if (!taken) {
    throw new AppError(
      'sso_attempt_expired',
      'The link of a sign-in test works once, for half an hour. Make a new test.',
    )
  }
  return findStartedTest(db, box, { workspaceId, id: taken.id })
}

/** The test that a callback belongs to, with the configuration that it is of. */
export async function findStartedTest(db: Db, box: SecretBox, key: SignInTestKey): Promise<StartedSignInTest> {
  const { workspaceId, id } = key
  const row = await db
    .selectFrom('sso_sign_in_tests')
    .select(['settings', 'sealed_secret as sealedSecret', 'config_version as configVersion'])
    .select(['admin_id as adminId', 'is_draft as isDraft', 'max_linkable_role as maxLinkableRole'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .executeTakeFirstOrThrow()
  const settings = row.settings as SsoSettings
  const saved = await findSignInConfig(db, box, workspaceId)
  const around = saved ?? (await unsavedConfig(db, workspaceId))
  const none = { clientSecrets: [], clientKeys: [], credentials: [] }
  const secret = row.sealedSecret === null ? undefined : openSecret(box, key, row.sealedSecret)
  const { tokenAuthMethod } = settings
  // Somebody may have saved another issuer since: the stored secret is not for this one then.
  const stored =
    saved?.issuer === settings.issuer ? await openCredentials(db, box, { workspaceId, tokenAuthMethod }) : none
  const opened = secret ? { ...none, clientSecrets: [secret.clientSecret] } : stored
  // What a draft shows of the stored credentials, with another client id perhaps, says nothing about them.
  const credentials = row.isDraft ? [] : opened.credentials
  const { configVersion, adminId, maxLinkableRole } = row
  return {
    ...key,
    configVersion,
    adminId,
    signInConfig: { ...around, ...settings, ...opened, credentials, maxLinkableRole },
  }
}

function openSecret(box: SecretBox, key: SignInTestKey, sealed: Buffer): DraftSecret {
  return JSON.parse(box.open(sealed, secretContext(key))) as DraftSecret
}

/** What surrounds the settings of a workspace that has saved none. */
async function unsavedConfig(db: Db, workspaceId: string) {
  const domains = await db
    .selectFrom('domains')
    .select('domain')
    .where('workspace_id', '=', workspaceId)
    .where('verified_at', 'is not', null)
    .execute()
  const policy = { sessionHours: null, sessionIdleMinutes: null, maxAgeSeconds: null, acrValues: [] }
  return {
    workspaceId,
    version: 0,
    enforcedAt: null,
    maxLinkableRole: null,
    verifiedDomains: domains.map(each => each.domain),
    ...policy,
  }
}

export interface FinishedTest extends SignInTestKey {
  passed: boolean
  report: SignInTestReport
  /** Of the verified ID token; absent when there was none. */
  claims?: Record<string, unknown> | undefined
  /** Comparison key of the person's e-mail address. */
  emailKey?: string | undefined
  /** Hash of the code for the browser that signed in. */
  codeHash?: Buffer | undefined
  subject?: string | undefined
  memberId?: string | undefined
  requestId: string
}

/** What is kept of the person, sealed. */
interface Kept {
  claims: Record<string, unknown>
  emailKey?: string | undefined
}

/** Ends a test with its report. A test that has already ended does not change. */
export async function finishTest(trx: Trx, box: SecretBox, finished: FinishedTest): Promise<void> {
  const { workspaceId, id, passed, report, claims, emailKey, codeHash, subject, memberId, requestId } = finished
  const written = await trx
    .updateTable('sso_sign_in_tests')
    .set({
      finished_at: sql`now()`,
      passed,
      report: JSON.stringify(report),
      claims_sealed:
        claims === undefined
          ? null
          : box.seal(JSON.stringify({ claims, emailKey } satisfies Kept), claimsContext(finished)),
      code_hash: codeHash ?? null,
      subject: subject ?? null,
      member_id: memberId ?? null,
    })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .where('finished_at', 'is', null)
    .executeTakeFirst()
  if (written.numUpdatedRows === 0n) return
  const failed = report.checks.filter(check => check.result === 'fail')
  await recordActivity(trx, {
    workspaceId,
    action: 'sso_sign_in_test.finished',
    actor: { type: 'system', id: 'sign-in', requestId },
    target: { type: 'sso_sign_in_test', id },
    detail: { passed, failed: failed.map(({ name, code }) => ({ check: name, ...(code && { code }) })) },
  })
}

/**
 * Returns the claims as the provider sent them. They are about a person, so each call is an entry.
 * @throws {AppError} `not_found`; `sign_in_test_unfinished` without claims; those of getConfirmedTest
 */
export async function showClaims(
  db: Db,
  box: SecretBox,
  proof: SignInTestKey & CreatorProof,
): Promise<Record<string, unknown>> {
  const { workspaceId, id, actor } = proof
  await getConfirmedTest(db, proof)
  return db.transaction().execute(async trx => {
    const { claims } = await openKept(trx, box, { workspaceId, id })
    const target = { type: 'sso_sign_in_test', id }
    await recordActivity(trx, { workspaceId, action: 'sso_sign_in_test.claims_shown', actor, target })
    return claims
  })
}

/** @throws {AppError} `sign_in_test_unfinished` */
async function openKept(trx: Trx, box: SecretBox, { workspaceId, id }: SignInTestKey): Promise<Kept> {
  const { sealed } = await trx
    .selectFrom('sso_sign_in_tests')
    .select('claims_sealed as sealed')
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .executeTakeFirstOrThrow()
  if (sealed === null) {
    throw new AppError('sign_in_test_unfinished', 'The test has no claims, because it ended before a valid ID token.')
  }
  return JSON.parse(box.open(sealed, claimsContext({ workspaceId, id }))) as Kept
}

/**
 * Links the account of a passed test to the admin who created it. This is how admins and owners sign in whose address the
 * provider does not vouch for.
 * @throws {AppError} `not_found`, `admin_not_member`; `forbidden` for the test of another admin; those of getConfirmedTest;
 *   `sign_in_test_failed`; `sign_in_test_other_account` when the e-mail address is not the member's; `sso_identity_conflict`
 */
export async function linkTestedAccount(
  db: Db,
  box: SecretBox,
  proof: SignInTestKey & CreatorProof,
): Promise<SignInTest> {
  const { workspaceId, id, actor } = proof
  const { memberId } = await getActingMember(db, { workspaceId, actor })
  const test = await getConfirmedTest(db, proof)
  if (test.status === 'failed') {
    throw new AppError(
      'sign_in_test_failed',
      'A failed test links no account. Its report says what to change; then create a new test.',
    )
  }
  await db.transaction().execute(async trx => {
    const { subject, adminId, emailKey } = await trx
      .selectFrom('sso_sign_in_tests as t')
      .innerJoin('members as m', join => join.onRef('m.workspace_id', '=', 't.workspace_id').on('m.id', '=', memberId))
      .select(['t.subject', 't.admin_id as adminId', 'm.email_key as emailKey'])
      .where('t.workspace_id', '=', workspaceId)
      .where('t.id', '=', id)
      .executeTakeFirstOrThrow()
    if (adminId !== memberId) {
      throw new AppError(
        'forbidden',
        'Only the admin who created the test can link its account, and only to themselves.',
      )
    }
    if (subject === null) {
      throw new AppError('sign_in_test_unfinished', 'The test proved no account. Open its startUrl and sign in first.')
    }
    const kept = await openKept(trx, box, { workspaceId, id })
    if (kept.emailKey === undefined || kept.emailKey !== emailKey) {
      throw new AppError(
        'sign_in_test_other_account',
        'The e-mail address of the tested account is not your address in this workspace. Sign in with your own account, ' +
          'or correct the address at the provider or of the member.',
      )
    }
    const { issuer } = test.settings
    await linkIdentity(trx, { workspaceId, memberId, issuer, subject, actor, testId: id })
  })
  return test
}

/**
 * Saves the settings that a test proved, with their secret: the way to another issuer or client while SSO is enforced.
 * Works once, and only while the saved settings are those that the draft was based on, so that no later change is lost.
 * @throws {AppError} `not_found`; those of getConfirmedTest; `sign_in_test_unfinished`, `sign_in_test_failed`; `conflict`;
 *   those of saveSsoConfig
 */
export async function applySignInTest(
  dependencies: SsoDependencies,
  { expectedVersion, ...proof }: SignInTestKey & CreatorProof & { expectedVersion?: number | undefined },
): Promise<SavedSsoConfig> {
  const { db, box } = dependencies
  const { workspaceId, id, actor } = proof
  const { status, settings, isDraft, report } = await getConfirmedTest(db, proof)
  if (status === 'failed') {
    throw new AppError(
      'sign_in_test_failed',
      'This test failed. Its report says what to change; then create a new test.',
    )
  }
  if (status !== 'passed')
    throw new AppError('sign_in_test_unfinished', 'Finish the test first: open its startUrl and sign in.')
  if (report?.membership?.decision === 'link_required') {
    throw new AppError(
      'sign_in_test_failed',
      'With these settings you could not sign in yet. Link the account of this test (POST …/link), then test again.',
    )
  }
  if (!isDraft) throw new AppError('conflict', 'This test is of the saved configuration: there is nothing to apply.')
  const { sealed, base, current, version } = await db
    .selectFrom('sso_sign_in_tests as t')
    .leftJoin('sso_configs as c', 'c.workspace_id', 't.workspace_id')
    .select(['t.sealed_secret as sealed', 't.base_version as base'])
    .select(['c.settings_version as current', 'c.version'])
    .where('t.workspace_id', '=', workspaceId)
    .where('t.id', '=', id)
    .executeTakeFirstOrThrow()
  if (base !== current) {
    throw new AppError(
      'conflict',
      'The SSO configuration was saved after this test was made. Make a new test, of what is saved now and your changes.',
    )
  }
  const secret = sealed === null ? undefined : openSecret(box, { workspaceId, id }, sealed)
  const saved = await saveSsoConfig(dependencies, {
    workspaceId,
    settings,
    ...(secret && { clientSecret: secret.clientSecret, clientSecretExpiresAt: secret.expiresAt }),
    expectedVersion: expectedVersion ?? version ?? undefined,
    provenBy: id,
    actor,
  })
  await db
    .updateTable('sso_sign_in_tests')
    .set({ config_version: saved.stored.version })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .execute()
  return saved
}
