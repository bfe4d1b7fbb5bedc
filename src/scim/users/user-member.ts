import { sql, type RawBuilder } from 'kysely'
import { endAccessCtes, endedAccessHistory, statusHistory } from '../../access/derivation/end-access.ts'
import { insertEntrySql } from '../../activity/activity.ts'
import type { Params } from '../../db/prepared.ts'
import type { CallerKey } from '../storage/credential.ts'
import type { Profile } from './profile.ts'

/** The member behind a user: the parts that the general statements which write users share. */

export interface ProfileValues extends Profile {
  requestId: string
  /** JSON text; null where none was used. */
  leniencies: string | null
  /** The transaction holds `lockOwners`. */
  ownersLocked: boolean
  /** The guard against mass deprovisioning has let this through. */
  guardPassed: boolean
}

export type Written = Params<CallerKey & ProfileValues>

/**
 * Columns of `verdict`: what a member `m` takes over from its user, without an address that another member holds; or, where
 * it does not `follow`, what it has. An owner keeps their address where somebody below them has a token of the directory `a`:
 * it is what a sign-in finds them by.
 */
export function followedColumns(values: Written, follows: RawBuilder<boolean>): RawBuilder<unknown> {
  const { email, emailKey, displayName } = values
  const keeps = sql`
    coalesce(m.role = 'owner', false) AND m.email_key IS NOT NULL
    AND EXISTS (SELECT FROM directories d WHERE d.workspace_id = a.workspace_id AND d.id = a.directory_id AND d.max_linkable_role IS NOT NULL)`
  return sql`
    CASE WHEN NOT ${follows} OR (${keeps}) THEN m.email WHEN NOT c.email_conflict THEN ${email}::text END AS email,
    CASE WHEN NOT ${follows} OR (${keeps}) THEN m.email_key WHEN NOT c.email_conflict THEN ${emailKey}::text END AS email_key,
    (${follows} AND ${keeps} AND m.email_key IS DISTINCT FROM ${emailKey}::text) AS keeps_address,
    CASE WHEN NOT ${follows} THEN m.display_name ELSE ${displayName}::text END AS display_name`
}

/**
 * What becomes of the member of a written user, as CTEs. Needs `verdict (member_id, status, email, email_key, display_name)`,
 * with the member's status as it was (null for a new one), and `written (workspace_id, member_id, active)`, empty where
 * nothing was.
 *
 * An inactive user ends the access; an active one restores what the directory had ended and completes an invitation. What
 * an admin has ended stays so.
 */
export function memberCtes({ workspaceId }: Written): RawBuilder<unknown> {
  const profile = sql`(email, email_key, display_name) = (SELECT v.email, v.email_key, v.display_name FROM verdict v)`
  const comesBack = sql`(w.active AND (m.status = 'invited' OR m.deactivated_by = 'directory'))`
  return sql`
    leaving AS (
      SELECT w.member_id FROM written w JOIN verdict v ON v.status <> 'deactivated' WHERE NOT w.active
    ),
    ${endAccessCtes({
      workspaceId: sql`${workspaceId}::uuid`,
      by: sql`'directory'`,
      reason: sql`'scim_user.deactivated'`,
      also: sql`, ${profile}`,
    })},
    followed AS (
      UPDATE members m
         SET status = CASE WHEN ${comesBack} THEN 'active' ELSE m.status END,
             reactivated_at = CASE WHEN w.active AND m.deactivated_by = 'directory' THEN clock_timestamp() ELSE m.reactivated_at END,
             deactivated_by = CASE WHEN ${comesBack} THEN NULL ELSE m.deactivated_by END,
             invitation_expires_at = CASE WHEN ${comesBack} THEN NULL ELSE m.invitation_expires_at END,
             ${profile}, version = m.version + 1, updated_at = now()
        FROM written w, verdict v
       WHERE m.workspace_id = ${workspaceId}::uuid AND m.id = w.member_id AND m.id NOT IN (SELECT member_id FROM ending)
         AND (${comesBack} OR (m.email, m.display_name) IS DISTINCT FROM (v.email, v.display_name))
      RETURNING m.id AS member_id, m.status, m.role, m.rules, m.manual_role, m.manual_policy
    )`
}

/** The history of what `memberCtes` did. */
export function historyCtes({ workspaceId }: Written): RawBuilder<unknown> {
  return sql`
    history_of_end AS (${endedAccessHistory(sql`${workspaceId}::uuid`)}),
    history_of_return AS (
      ${statusHistory(
        sql`${workspaceId}::uuid`,
        sql`(SELECT f.*, v.status AS status_before FROM followed f JOIN verdict v ON v.member_id = f.member_id AND v.status <> f.status)`,
      )}
    )`
}

/** The entry about a user who was `written`, as the body of a CTE; `from` names its row `w`. */
export function userEntrySql(
  { requestId }: Params<Pick<ProfileValues, 'requestId'>>,
  { action, detail, from }: { action: RawBuilder<string>; detail: RawBuilder<unknown>; from: RawBuilder<unknown> },
): RawBuilder<unknown> {
  return insertEntrySql({
    workspaceId: sql`w.workspace_id`,
    action,
    actorType: sql`'directory'`,
    actorId: sql`w.directory_id::text`,
    requestId: sql`${requestId}::text`,
    memberId: sql`w.member_id`,
    targetType: sql`'scim_user'`,
    targetId: sql`w.id::text`,
    detail: sql`jsonb_strip_nulls(${detail})`,
    from,
  })
}

/** The entry of a general statement, with what an admin would otherwise ask about. */
export function entryCte(
  values: Written,
  { action, detail }: { action: RawBuilder<string>; detail: RawBuilder<unknown> },
): RawBuilder<unknown> {
  return sql`
    entry AS (${userEntrySql(values, {
      action,
      detail: sql`${detail} || jsonb_build_object(
        'emailConflict', CASE WHEN v.email_conflict THEN true END,
        'ownerKeepsAddress', CASE WHEN v.keeps_address THEN true END,
        'sessionsEnded', CASE WHEN EXISTS (SELECT FROM ended) THEN (SELECT count(*) FROM ended_sessions) END,
        'keptLastOwner', CASE WHEN EXISTS (SELECT FROM leaving) AND NOT EXISTS (SELECT FROM ended) THEN true END,
        'deactivatedByAdmin', CASE WHEN w.active AND v.status = 'deactivated' AND v.deactivated_by = 'admin' THEN true END,
        'leniencies', ${values.leniencies}::jsonb)`,
      from: sql`written w JOIN verdict v ON true`,
    })})`
}
