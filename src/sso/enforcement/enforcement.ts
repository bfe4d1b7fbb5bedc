import { sql, type RawBuilder } from 'kysely'
import { recordActivity, insertEntrySql } from '../../activity/activity.ts'
import type { Actor } from '../../actor.ts'
import type { Db, Trx } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { AppError, type ErrorCode } from '../../errors.ts'
import { findActingMember } from '../../members/acting-member.ts'
import { countRecoverableOwners } from '../../members/recovery-codes.ts'
import { toPage, type Page } from '../../page.ts'
import { listDomains } from '../../workspaces/domains.ts'
import { listCredentials, works, type ClientCredential } from '../credentials/client-credentials.ts'
import { isProvenBy, provesNow } from './proof.ts'
import type { SecretBox } from '../../secret-box.ts'
import { findSsoConfig, getSsoConfig, type StoredSsoConfig } from '../config/sso-config.ts'

/** One condition of a safe enforcement. */
export interface EnforcementCheck {
  name: 'enabled' | 'proven_sign_in' | 'recovery' | 'client_credential' | 'domains' | 'members'
  result: 'pass' | 'warn' | 'fail'
  message: string
  fix?: string
  /** The code with which enabling is refused. */
  code?: ErrorCode
}

/** Why a member might not be able to sign in. */
export type LockOutReason = 'no_email' | 'domain_not_allowed' | 'linked_elsewhere' | 'unless_verified' | 'not_confirmed'

export interface LockedOutMember {
  id: string
  email: string | null
  displayName: string | null
  role: string
  reason: LockOutReason
}

export interface EnforcementVerdict {
  /** Nothing fails; there may be warnings. */
  isSafe: boolean
  checks: EnforcementCheck[]
  /** Active members who might not be able to sign in, and the first of them. */
  lockedOutMembers: number
  lockedOut: LockedOutMember[]
}

export interface Enforcement {
  enforced: boolean
  since: string | null
  verdict: EnforcementVerdict
}

interface EnforcementQuestion {
  workspaceId: string
  box: SecretBox
  actor: Actor
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/** Members that a verdict shows; the rest is a list of its own. */
const shownMembers = 20
const dayMs = 86_400_000

/**
 * Whether SSO is enforced, and whether it would be safe: for whoever asks, with what is stored now.
 * @throws {AppError} `sso_not_configured`
 */
export async function getEnforcement(db: Db, question: EnforcementQuestion): Promise<Enforcement> {
  const config = await getSsoConfig(db, question.workspaceId)
  const verdict = await judge(db, { ...question, config })
  return { enforced: config.enforcedAt !== null, since: config.enforcedAt, verdict }
}

async function judge(
  db: Db,
  { workspaceId, box, actor, roles, config }: EnforcementQuestion & { config: StoredSsoConfig },
): Promise<EnforcementVerdict> {
  const { rows } = await sql<{ count: number }>`
    SELECT count(*)::int AS count FROM (${lockedOutSql(workspaceId, roles)}) l`.execute(db)
  const lockedOutMembers = rows[0]?.count ?? 0
  const checks = [
    checkEnabled(config),
    await checkProven(db, { workspaceId, actor, version: config.version }),
    checkRecovery(await countRecoverableOwners(db, workspaceId)),
    checkCredentials(config, await listCredentials(db, box, workspaceId)),
    await checkDomains(db, workspaceId, config),
    checkMembers(lockedOutMembers),
  ]
  const { items } = await listLockedOut(db, { workspaceId, roles, limit: shownMembers })
  return { isSafe: checks.every(check => check.result !== 'fail'), checks, lockedOutMembers, lockedOut: items }
}

function checkEnabled({ enabled }: StoredSsoConfig): EnforcementCheck {
  const name = 'enabled'
  if (enabled) return { name, result: 'pass', message: 'Sign-in by SSO is switched on.' }
  const message = 'Sign-in by SSO is switched off.'
  return { name, result: 'fail', message, fix: 'Set enabled in the SSO configuration.', code: 'sso_disabled' }
}

async function checkProven(
  db: Db,
  { workspaceId, actor, version }: { workspaceId: string; actor: Actor; version: number },
): Promise<EnforcementCheck> {
  const name = 'proven_sign_in'
  const refused = { name, result: 'fail', code: 'sso_not_proven' } as const
  const admin = await findActingMember(db, { workspaceId, actor })
  if (!admin) {
    const message = 'You are not known as a member of this workspace, so no sign-in of yours can prove anything.'
    return { ...refused, message, fix: 'Sign in by SSO, and enforce it from that session.' }
  }
  if (await isProvenBy(db, { workspaceId, memberId: admin.memberId })) {
    return { name, result: 'pass', message: 'You have signed in by this very configuration and sign-in policy.' }
  }
  const message = `You have not signed in by version ${version} of the configuration, and by the sign-in policy as it is.`
  const fix =
    'Sign in by SSO with your own account, or run a sign-in test to its end (POST …/sso-config/sign-in-tests).'
  return { ...refused, message, fix }
}

function checkRecovery(owners: number): EnforcementCheck {
  const name = 'recovery'
  const hold = owners === 1 ? '1 owner holds' : `${owners} owners hold`
  if (owners > 0) return { name, result: 'pass', message: `${hold} unused recovery codes.` }
  const message = 'No active owner holds recovery codes: when the provider fails, nobody could change anything here.'
  const fix = 'Let an owner make codes and keep them outside of Assist (POST …/sso-config/recovery-codes).'
  return { name, result: 'fail', message, fix, code: 'sso_recovery_missing' }
}

function checkCredentials({ tokenAuthMethod }: StoredSsoConfig, all: ClientCredential[]): EnforcementCheck {
  const name = 'client_credential'
  const kind = tokenAuthMethod === 'private_key_jwt' ? 'key' : 'secret'
  const live = all.filter(each => each.kind === kind)
  const working = live.find(works)
  if (live.length > 0 && live.every(each => !each.isReadable)) {
    const message = `The client ${kind} cannot be read any more: SEAL_KEYS of this service lacks the key that sealed it.`
    const fix =
      kind === 'key'
        ? 'Make a new key (POST …/sso-config/credentials), or have the operator bring the old SEAL_KEYS back.'
        : 'Enter the secret again (PATCH …/sso-config), or have the operator bring the old SEAL_KEYS back.'
    return { name, result: 'fail', message, fix, code: 'sso_secret_missing' }
  }
  if (!working) {
    const message = `The provider has not taken the client ${kind} yet, or refuses it.`
    return {
      name,
      result: 'fail',
      message,
      fix: 'Run a sign-in test: it says what the provider makes of it.',
      code: 'sso_not_safe',
    }
  }
  if (working.expiresAt === null) {
    const message = kind === 'key' ? 'Our key does not expire.' : 'The client secret works; nothing says when it ends.'
    const fix = 'Enter the date that the provider shows, and be reminded of it.'
    return { name, result: kind === 'key' ? 'pass' : 'warn', message, ...(kind === 'secret' && { fix }) }
  }
  const days = Math.floor((Date.parse(working.expiresAt) - Date.now()) / dayMs)
  const fix = 'Make a new one at the provider and add it here: the old one stays until the new one has worked.'
  if (days < 7) {
    const message = `The client secret ends ${days < 0 ? 'before today' : `in ${days} days`}.`
    return { name, result: 'fail', message, fix, code: 'sso_not_safe' }
  }
  if (days < 30) return { name, result: 'warn', message: `The client secret ends in ${days} days.`, fix }
  return { name, result: 'pass', message: `The client secret works for ${days} more days.` }
}

async function checkDomains(
  db: Db,
  workspaceId: string,
  { allowedDomains }: StoredSsoConfig,
): Promise<EnforcementCheck> {
  const name = 'domains'
  const proved = (await listDomains(db, workspaceId)).filter(each => each.verifiedAt !== null)
  const fading = proved.filter(each => each.missingSince !== null).map(each => each.domain)
  if (fading.length > 0) {
    const message = `The DNS record of ${fading.join(', ')} is gone; the proof will go too.`
    return { name, result: 'warn', message, fix: 'Publish the record again (GET …/domains shows it).' }
  }
  const names = proved.map(each => each.domain)
  const unproved = allowedDomains.filter(domain => !names.includes(domain))
  if (names.length > 0 && unproved.length === 0) {
    return { name, result: 'pass', message: `${names.join(', ')} is proved: addresses there lead to SSO.` }
  }
  const which = unproved.length > 0 ? `Not proved is ${unproved.join(', ')}` : 'No domain is proved'
  const message = `${which}: people who give an address only, and no workspace, are not led to SSO.`
  return { name, result: 'warn', message, fix: 'Prove the domains by a DNS record (POST …/domains).' }
}

function checkMembers(count: number): EnforcementCheck {
  const name = 'members'
  if (count === 0) return { name, result: 'pass', message: 'Every active member can sign in.' }
  const message = `${count} active ${count === 1 ? 'member' : 'members'} might not be able to sign in.`
  const fix = 'Each is listed with the reason. To go on all the same, send their number as lockedOutMembers.'
  return { name, result: 'warn', message, fix }
}

/**
 * Active members who have no account at the issuer yet, and whom their first sign-in might not find. Whoever a directory
 * provides with the configured claim is found by it, unless the directory may not speak for their role, and whoever has passed a
 * sign-in test as it has shown.
 */
function lockedOutSql(workspaceId: string, roles: readonly string[]): RawBuilder<LockedOutMember> {
  const privileged = roles.slice(roles.indexOf('admin'))
  return sql`
    SELECT m.id, m.email, m.display_name AS "displayName", m.role, r.reason
      FROM sso_configs c
      LEFT JOIN sign_in_policies p ON p.workspace_id = c.workspace_id
      JOIN members m ON m.workspace_id = c.workspace_id AND m.status = 'active'
     CROSS JOIN LATERAL (SELECT CASE
         WHEN EXISTS (SELECT FROM scim_users u JOIN directories d ON d.workspace_id = u.workspace_id AND d.id = u.directory_id
                       WHERE u.workspace_id = m.workspace_id AND u.member_id = m.id
                         AND array_position(${roles}::text[], m.role) > array_position(${roles}::text[], d.max_linkable_role))
           THEN 'not_confirmed'
         WHEN m.email_key IS NULL THEN 'no_email'
         WHEN c.allowed_domains <> '{}' AND split_part(m.email_key, '@', 2) <> ALL (c.allowed_domains) THEN 'domain_not_allowed'
         WHEN coalesce(c.relink_by_email_until <= now(), true)
              AND EXISTS (SELECT FROM identities i WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id)
           THEN 'linked_elsewhere'
         WHEN m.role = ANY (${privileged}::text[]) THEN 'unless_verified' END AS reason) r
     WHERE c.workspace_id = ${workspaceId}
       AND r.reason IS NOT NULL
       AND NOT EXISTS (SELECT FROM identities i
                        WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id AND i.issuer = c.issuer)
       AND NOT EXISTS (SELECT FROM sso_sign_in_tests t WHERE t.member_id = m.id AND ${provesNow})
       AND NOT (r.reason <> 'not_confirmed' AND c.external_id_claim IS NOT NULL AND EXISTS (
             SELECT FROM scim_users u
              WHERE u.workspace_id = m.workspace_id AND u.member_id = m.id AND u.external_id IS NOT NULL))`
}

/** The active members who might not be able to sign in, oldest first. */
export async function listLockedOut(
  db: Db,
  filter: { workspaceId: string; roles: readonly string[]; limit: number; after?: string | undefined },
): Promise<Page<LockedOutMember>> {
  const { workspaceId, roles, limit, after = null } = filter
  const { rows } = await sql<LockedOutMember>`
    SELECT * FROM (${lockedOutSql(workspaceId, roles)}) l
     WHERE ${after}::uuid IS NULL OR l.id > ${after}::uuid
     ORDER BY l.id LIMIT ${limit + 1}`.execute(db)
  return toPage(rows, limit, last => last.id)
}

export interface EnforcementChange extends EnforcementQuestion {
  /** How many members the admin has seen that they might lock out. */
  lockedOutMembers: number
}

/**
 * Enforces SSO: nobody enters the workspace by anything else from now on, and what was begun otherwise ends.
 * @throws {AppError} `sso_not_configured`, `forbidden` unless an owner; the code of the check that fails;
 *   `sso_members_locked_out` where others are concerned than the admin has seen
 */
export async function enforceSso(db: Db, change: EnforcementChange): Promise<Enforcement> {
  const { workspaceId, actor, roles, lockedOutMembers } = change
  requireOwner(actor, roles)
  await db.transaction().execute(async trx => {
    const config = await lockConfig(trx, workspaceId)
    if (config.enforcedAt !== null) return
    const verdict = await judge(trx, { ...change, config })
    const failed = verdict.checks.find(check => check.result === 'fail')
    if (failed) throw new AppError(failed.code ?? 'sso_not_safe', `${failed.message} ${failed.fix ?? ''}`.trim())
    if (verdict.lockedOutMembers !== lockedOutMembers) {
      throw new AppError(
        'sso_members_locked_out',
        `${verdict.lockedOutMembers} active members might not be able to sign in (GET …/sso-config/enforcement). Help ` +
          'them first, or send this number as lockedOutMembers.',
      )
    }
    await setEnforced(trx, workspaceId, sql`now()`)
    // An owner who lets everybody in by these settings only has confirmed them.
    await trx
      .updateTable('sso_configs')
      .set({ max_linkable_role: null })
      .where('workspace_id', '=', workspaceId)
      .execute()
    const ended = await endOtherSessions(trx, workspaceId)
    const detail = { version: config.version, lockedOutMembers, sessionsEnded: ended }
    const target = { type: 'sso_config', id: workspaceId }
    await recordActivity(trx, { workspaceId, action: 'sso_enforcement.enabled', actor, target, detail })
  })
  return getEnforcement(db, change)
}

/**
 * Lifts the enforcement: an act of its own, never a side effect. Lifting it again changes nothing.
 * @throws {AppError} `sso_not_configured`; `forbidden` unless an owner, also by a recovery session, or a back-end
 */
export async function liftEnforcement(
  db: Db,
  { workspaceId, actor, roles }: Omit<EnforcementQuestion, 'box'>,
): Promise<void> {
  if (actor.type !== 'service') requireOwner(actor, roles)
  await db.transaction().execute(async trx => {
    const config = await lockConfig(trx, workspaceId)
    if (config.enforcedAt === null) return
    await setEnforced(trx, workspaceId, sql`NULL`)
    const detail = { since: config.enforcedAt, ...(actor.recovery && { by: 'recovery' }) }
    const target = { type: 'sso_config', id: workspaceId }
    await recordActivity(trx, { workspaceId, action: 'sso_enforcement.lifted', actor, target, detail })
  })
}

function requireOwner({ role }: Actor, roles: readonly string[]): void {
  if (role === roles.at(-1)) return
  throw new AppError('forbidden', 'Only an owner decides how everybody enters the workspace.')
}

/** Holds up saves and other enforcements until the transaction ends. */
async function lockConfig(trx: Trx, workspaceId: string): Promise<StoredSsoConfig> {
  await trx
    .selectFrom('sso_configs')
    .select('version')
    .where('workspace_id', '=', workspaceId)
    .forUpdate()
    .executeTakeFirst()
  return getSsoConfig(trx, workspaceId)
}

async function setEnforced(trx: Trx, workspaceId: string, at: RawBuilder<string | null>): Promise<void> {
  await trx
    .updateTable('sso_configs')
    .set({ enforced_at: at, version: sql`version + 1`, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .execute()
}

async function endOtherSessions(trx: Trx, workspaceId: string): Promise<number> {
  const ended = await trx
    .updateTable('sessions')
    .set({ ended_at: sql`now()`, end_reason: 'sso_enforced' })
    .where('workspace_id', '=', workspaceId)
    .where('method', '<>', 'sso')
    .where('ended_at', 'is', null)
    .executeTakeFirst()
  return Number(ended.numUpdatedRows)
}

const recordBlockedOnce = prepared<
  { workspaceId: string; actorType: string; actorId: string; requestId: string },
  { id: number }
>(
  'sso_enforcement_blocked',
  p => sql`
    ${insertEntrySql({
      workspaceId: sql`${p.workspaceId}::uuid`,
      action: sql`'sso_enforcement.blocked'`,
      reason: sql`'sso_required'`,
      actorType: sql`${p.actorType}::text`,
      actorId: sql`${p.actorId}::text`,
      requestId: sql`${p.requestId}::text`,
      targetType: sql`'workspace'`,
      targetId: sql`${p.workspaceId}::text`,
      detail: sql`'{}'::jsonb`,
      from: sql`(SELECT) once WHERE NOT EXISTS (
        SELECT FROM activity_entries
         WHERE workspace_id = ${p.workspaceId}::uuid AND actor_id = ${p.actorId}::text AND actor_type <> 'directory'
           AND action = 'sso_enforcement.blocked' AND at > now() - interval '1 hour')`,
    })}`,
)

/** Notes that somebody came by another way than SSO: once an hour for each, however often they try. */
export async function recordBlocked(
  db: Db,
  { workspaceId, actor }: { workspaceId: string; actor: Actor },
): Promise<void> {
  const { type: actorType, id: actorId, requestId = '' } = actor
  await recordBlockedOnce(db, { workspaceId, actorType, actorId, requestId })
}

/** Whether a workspace enforces SSO; one without a configuration does not. */
export async function isEnforced(db: Db, workspaceId: string): Promise<boolean> {
  const config = await findSsoConfig(db, workspaceId)
  return (config?.enforcedAt ?? null) !== null
}
