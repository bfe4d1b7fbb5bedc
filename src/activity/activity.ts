import { sql, type RawBuilder } from 'kysely'
import type { Actor } from '../actor.ts'
import type { Db, Trx } from '../db/database.ts'
import { toPage, type Page } from '../page.ts'

/** Everything that an entry can say happened, by area. `openapi.yaml` lists the same. */
export const actions = [
  'workspace.saved',
  'domain.claimed',
  'domain.verified',
  'domain.proof_missing',
  'domain.proof_found',
  'domain.proof_lost',
  'domain.approved',
  'domain.removed',
  'sso_config.saved',
  'sso_config.deleted',
  'sso_config.tested',
  'sso_credential.added',
  'sso_credential.updated',
  'sso_credential.deleted',
  'sso_credential.refused',
  'sso_credential.replaced',
  'sso_credential.expiring',
  'sso_credential.expired',
  'sso_sign_in_test.finished',
  'sso_sign_in_test.claims_shown',
  'sso_sign_in_test.refused',
  'sso_enforcement.enabled',
  'sso_enforcement.lifted',
  'sso_enforcement.blocked',
  'recovery_codes.created',
  'recovery.used',
  'recovery.refused',
  'sso_sign_in.succeeded',
  'sso_sign_in.refused',
  'sign_in_policy.saved',
  'sign_in_policy.deleted',
  'session.ended',
  'session.all_ended',
  'session.ended_by_provider',
  'session.logout_refused',
  'member.invited',
  'member.invitation_withdrawn',
  'member.provisioned',
  'member.activated',
  'member.updated',
  'member.owner_kept',
  'member.groups_claimed',
  'member.deactivated',
  'member.reactivated',
  'member.email_changed',
  'member.email_conflict',
  'identity.linked',
  'identity.relinked',
  'identity.unlinked',
  'directory.created',
  'directory.updated',
  'directory.deleted',
  'directory.request_refused',
  'directory_token.created',
  'directory_token.revoked',
  'scim_user.created',
  'scim_user.updated',
  'scim_user.deactivated',
  'scim_user.reactivated',
  'scim_user.deleted',
  'scim_user.name_conflict',
  'scim_user.removal_held',
  'scim_user.removal_accepted',
  'scim_user.removal_released',
  'scim_group.created',
  'scim_group.name_conflict',
  'scim_group.updated',
  'scim_group.deleted',
  'group.created',
  'group.updated',
  'group.deleted',
  'group_mapping.created',
  'group_mapping.updated',
  'group_mapping.deleted',
  'group_mapping.bound',
  'access.reconciled',
] as const

export type Action = (typeof actions)[number]

export type Outcome = 'succeeded' | 'refused' | 'failed'

/** One fact to append. `detail` holds what an admin needs to understand it: never a secret, never a request body. */
export interface Entry {
  workspaceId: string
  action: Action
  actor: Actor
  memberId?: string | undefined
  target?: { type: string; id: string } | undefined
  detail?: Record<string, unknown> | undefined
}

/** A fact about something that did not happen, with the stable code of the refusal as its reason. */
export interface RefusedEntry extends Entry {
  reason: string
}

/**
 * Appends an entry in the transaction of the change that it tells of.
 * @returns its id, which the access changes that it caused point to
 */
export async function recordActivity(trx: Trx, entry: Entry): Promise<number> {
  return insertEntry(trx, entry, { outcome: 'succeeded', reason: null })
}

/**
 * Appends what was refused, in a statement of its own: there is no change to share a transaction with.
 * @returns its id, the reference that the refused person is shown
 */
export async function recordRefusal(db: Db, { reason, ...entry }: RefusedEntry): Promise<number> {
  return insertEntry(db, entry, { outcome: 'refused', reason })
}

async function insertEntry(db: Db, entry: Entry, end: { outcome: Outcome; reason: string | null }): Promise<number> {
  const { id } = await db
    .insertInto('activity_entries')
    .values({
      workspace_id: entry.workspaceId,
      action: entry.action,
      outcome: end.outcome,
      reason: end.reason,
      actor_type: entry.actor.type,
      actor_id: entry.actor.id,
      member_id: entry.memberId ?? null,
      target_type: entry.target?.type ?? null,
      target_id: entry.target?.id ?? null,
      request_id: entry.actor.requestId ?? null,
      detail: JSON.stringify(entry.detail ?? {}),
    })
    .returning('id')
    .executeTakeFirstOrThrow()
  return id
}

/** What a hot statement puts into its entry: SQL expressions over the row source that it names. */
export interface EntrySql {
  workspaceId: RawBuilder<string>
  action: RawBuilder<string>
  actorType: RawBuilder<string>
  actorId: RawBuilder<string>
  requestId: RawBuilder<string>
  memberId?: RawBuilder<string | null>
  targetType: RawBuilder<string>
  targetId: RawBuilder<string>
  detail: RawBuilder<unknown>
  /** The code of a refusal; without one the entry tells of a success. */
  reason?: RawBuilder<string>
  /** `FROM …`: an entry is appended for each of its rows. */
  from: RawBuilder<unknown>
}

/** The same append as the body of a CTE, for statements that do everything in one round trip. Returns `id`. */
export function insertEntrySql(entry: EntrySql): RawBuilder<{ id: number }> {
  return sql`
    INSERT INTO activity_entries (workspace_id, action, outcome, reason, actor_type, actor_id, member_id, target_type, target_id, request_id, detail)
    SELECT ${entry.workspaceId}, ${entry.action}, ${entry.reason ? sql`'refused'` : sql`'succeeded'`},
           ${entry.reason ?? sql`NULL::text`}, ${entry.actorType}, ${entry.actorId},
           ${entry.memberId ?? sql`NULL::uuid`}, ${entry.targetType}, ${entry.targetId}, ${entry.requestId}, ${entry.detail}
      FROM ${entry.from}
    RETURNING id`
}

export interface ActivityFilter {
  workspaceId: string
  /** An action, or an area such as `sso_sign_in` for all of its actions. */
  kind?: string | undefined
  actorId?: string | undefined
  outcome?: Outcome | undefined
  memberId?: string | undefined
  targetId?: string | undefined
  requestId?: string | undefined
  /** ISO 8601 instants: from (included) to (excluded). */
  from?: string | undefined
  to?: string | undefined
  limit: number
  after?: string | undefined
}

export interface ActivityEntry {
  id: string
  at: string
  action: string
  outcome: Outcome
  reason: string | null
  actor: { type: Actor['type']; id: string | null }
  memberId: string | null
  target: { type: string; id: string } | null
  requestId: string | null
  detail: Record<string, unknown>
}

/** The entries of a workspace, newest first, by keyset: the cost of a page does not grow with its depth. */
export async function listActivity(db: Db, filter: ActivityFilter): Promise<Page<ActivityEntry>> {
  const { workspaceId, kind, actorId, outcome, memberId, targetId, requestId, from, to, limit, after } = filter
  let query = db
    .selectFrom('activity_entries')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .orderBy('id', 'desc')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('id', '<', Number(after))
  if (kind !== undefined) query = query.where('action', 'in', actionsOf(kind))
  if (actorId !== undefined) query = query.where('actor_id', '=', actorId)
  if (outcome !== undefined) query = query.where('outcome', '=', outcome)
  if (memberId !== undefined) query = query.where('member_id', '=', memberId)
  if (targetId !== undefined) query = query.where('target_id', '=', targetId)
  if (requestId !== undefined) query = query.where('request_id', '=', requestId)
  if (from !== undefined) query = query.where('at', '>=', from)
  if (to !== undefined) query = query.where('at', '<', to)
  const rows = await query.execute()
  const items = rows.map((row): ActivityEntry => ({
    id: String(row.id),
    at: row.at,
    action: row.action,
    outcome: row.outcome,
    reason: row.reason,
    actor: { type: row.actor_type, id: row.actor_id },
    memberId: row.member_id,
    target: row.target_type === null || row.target_id === null ? null : { type: row.target_type, id: row.target_id },
    requestId: row.request_id,
    detail: row.detail as Record<string, unknown>,
  }))
  return toPage(items, limit, last => last.id)
}

/** The actions that a kind stands for: itself, or all of its area; none for a word that is neither. */
function actionsOf(kind: string): string[] {
  return actions.filter(action => action === kind || action.startsWith(`${kind}.`)).concat(kind as Action)
}
