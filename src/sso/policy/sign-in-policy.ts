import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { shortenSessions, type SessionLifetimes } from '../../members/sessions.ts'
import { isEnforcedNow } from '../../workspaces/workspaces.ts'

/** How strict a workspace is about sign-ins, and about the sessions that come of them. */
export interface SignInPolicy extends SessionLifetimes {
  /** How long before the sign-in the person may have authenticated; null: however long. */
  maxAgeSeconds: number | null
  /** One of these authentication contexts must have been reached, the most wanted first; empty: any. */
  acrValues: string[]
}

export interface StoredSignInPolicy extends SignInPolicy {
  /** 0 where the workspace has none of its own, and goes by the operator's. */
  version: number
  updatedAt: string | null
}

/** The workspace's policy, or else the operator's lifetimes and nothing more. */
export async function getSignInPolicy(
  db: Db,
  { workspaceId, defaults }: { workspaceId: string; defaults: SessionLifetimes },
): Promise<StoredSignInPolicy> {
  const stored = await db
    .selectFrom('sign_in_policies')
    .select(['session_hours as sessionHours', 'session_idle_minutes as sessionIdleMinutes'])
    .select(['max_age_seconds as maxAgeSeconds', 'acr_values as acrValues', 'version', 'updated_at as updatedAt'])
    .where('workspace_id', '=', workspaceId)
    .executeTakeFirst()
  return stored ?? { ...lifetimesOf(defaults), maxAgeSeconds: null, acrValues: [], version: 0, updatedAt: null }
}

interface PolicyChange {
  workspaceId: string
  defaults: SessionLifetimes
  /** The version that must still be the stored one. */
  expectedVersion?: number | undefined
  actor: Actor
}

/**
 * Sets the policy. Shorter lifetimes hold for the sessions that are there, at once; everything else for the next sign-in.
 * @throws {AppError} `version_conflict`; `sso_enforced` where it would be stricter about sign-ins while SSO is enforced
 */
export async function saveSignInPolicy(
  db: Db,
  { policy, ...change }: PolicyChange & { policy: SignInPolicy },
): Promise<StoredSignInPolicy> {
  const { workspaceId, expectedVersion, actor } = change
  const values = {
    session_hours: policy.sessionHours,
    session_idle_minutes: policy.sessionIdleMinutes,
    max_age_seconds: policy.maxAgeSeconds,
    acr_values: policy.acrValues,
  }
  return db.transaction().execute(async trx => {
    const seen = await getSignInPolicy(trx, change)
    checkVersion(expectedVersion, seen.version)
    if (isStricter(policy, seen) && (await isEnforcedNow(trx, workspaceId))) throw stricterRefusal()
    const written = await trx
      .insertInto('sign_in_policies')
      .values({ workspace_id: workspaceId, ...values })
      .onConflict(conflict =>
        conflict
          .column('workspace_id')
          .doUpdateSet({ ...values, version: seen.version + 1, updated_at: sql`now()` })
          .where('sign_in_policies.version', '=', seen.version),
      )
      .returning('version')
      .executeTakeFirst()
    if (!written) throw versionConflict()
    const sessionsShortened = await shortenSessions(trx, { workspaceId, ...policy })
    const entry = { workspaceId, actor, target: { type: 'workspace', id: workspaceId } }
    await recordActivity(trx, { ...entry, action: 'sign_in_policy.saved', detail: { ...policy, sessionsShortened } })
    return getSignInPolicy(trx, change)
  })
}

/**
 * Goes back to the operator's lifetimes, and to whatever authentication the provider finds good enough. Where there is
 * no policy, nothing changes.
 * @throws {AppError} `version_conflict`
 */
export async function deleteSignInPolicy(db: Db, change: PolicyChange): Promise<void> {
  const { workspaceId, defaults, expectedVersion, actor } = change
  await db.transaction().execute(async trx => {
    const deleted = await trx
      .deleteFrom('sign_in_policies')
      .where('workspace_id', '=', workspaceId)
      .returning('version')
      .executeTakeFirst()
    checkVersion(expectedVersion, deleted?.version ?? 0)
    if (!deleted) return
    const sessionsShortened = await shortenSessions(trx, { workspaceId, ...lifetimesOf(defaults) })
    const entry = { workspaceId, actor, target: { type: 'workspace', id: workspaceId } }
    await recordActivity(trx, { ...entry, action: 'sign_in_policy.deleted', detail: { sessionsShortened } })
  })
}

/** Whether a sign-in that was good enough might not be any more; lifetimes of sessions keep nobody out. */
function isStricter(policy: SignInPolicy, seen: SignInPolicy): boolean {
  const { maxAgeSeconds, acrValues } = policy
  const mustBeFresher = maxAgeSeconds !== null && (seen.maxAgeSeconds === null || maxAgeSeconds < seen.maxAgeSeconds)
  const mustBeStronger =
    acrValues.length > 0 && (seen.acrValues.length === 0 || seen.acrValues.some(value => !acrValues.includes(value)))
  return mustBeFresher || mustBeStronger
}

function stricterRefusal(): AppError {
  return new AppError(
    'sso_enforced',
    'SSO is enforced: maxAgeSeconds and acrValues cannot become stricter, since nobody knows yet whether the provider does ' +
      'what they ask. Lift the enforcement, save them, and prove them by a sign-in before it is enforced again.',
  )
}

/** The settings of the process hold more than the lifetimes. */
function lifetimesOf({ sessionHours, sessionIdleMinutes }: SessionLifetimes): SessionLifetimes {
  return { sessionHours, sessionIdleMinutes }
}

function checkVersion(expected: number | undefined, found: number): void {
  if (expected !== undefined && expected !== found) throw versionConflict()
}

function versionConflict(): AppError {
  return new AppError(
    'version_conflict',
    'The sign-in policy has changed since you read it. Read it again, and send its ETag with your change.',
  )
}
