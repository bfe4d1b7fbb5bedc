import { sql, type RawBuilder } from 'kysely'
import type { Actor } from '../actor.ts'
import { insertEntrySql, type Action } from '../activity/activity.ts'
import type { Db } from '../db/database.ts'
import { prepared } from '../db/prepared.ts'

/** Which sessions of a workspace: one, all of a member, or all. A session that is not the given member's is none. */
export interface SessionsToEnd {
  workspaceId: string
  sessionId?: string | undefined
  memberId?: string | undefined
  reason: 'signed_out' | 'signed_out_everywhere' | 'ended_by_admin'
  actor: Actor
}

/**
 * Ends sessions with one entry, in one statement, before the caller's reply is sent: each use of a session, on every
 * replica, reads its row. Sign-ins that are not redeemed yet end too. Members stay what they are; endAccess
 * (src/access/derivation/end-access.ts) is for those who leave.
 * @returns how many ended; those that were over count as none
 */
export async function endSessions(db: Db, ending: SessionsToEnd): Promise<number> {
  const { workspaceId, sessionId, memberId, reason, actor } = ending
  const { action, target } = describe(ending)
  const { rows } = await sql<{ sessionsEnded: number }>`
    WITH ended AS (
      UPDATE sessions SET ended_at = now(), end_reason = ${reason}
       WHERE workspace_id = ${workspaceId}::uuid AND ended_at IS NULL AND expires_at > now()
         ${sessionId === undefined ? sql`` : sql`AND id = ${sessionId}::uuid`}
         ${memberId === undefined ? sql`` : sql`AND member_id = ${memberId}::uuid`}
      RETURNING member_id
    ), counted AS (SELECT count(*)::int AS sessions, min(member_id::text)::uuid AS member_id FROM ended),
    entry AS (${insertEntrySql({
      workspaceId: sql`${workspaceId}::uuid`,
      action: sql`${action}`,
      actorType: sql`${actor.type}`,
      actorId: sql`${actor.id}`,
      requestId: sql`${actor.requestId ?? null}::text`,
      memberId: target.type === 'workspace' ? sql`NULL::uuid` : sql`counted.member_id`,
      targetType: sql`${target.type}`,
      targetId: sql`${target.id}`,
      detail: endingDetail(sql`${reason}::text`),
      from: sql`counted WHERE sessions > 0`,
    })})
    SELECT sessions AS "sessionsEnded" FROM counted`.execute(db)
  return rows[0]?.sessionsEnded ?? 0
}

function describe(ending: SessionsToEnd): { action: Action; target: { type: string; id: string } } {
  const { workspaceId, sessionId, memberId } = ending
  if (sessionId !== undefined) return { action: 'session.ended', target: { type: 'session', id: sessionId } }
  const target = memberId === undefined ? { type: 'workspace', id: workspaceId } : { type: 'member', id: memberId }
  return { action: 'session.all_ended', target }
}

function endingDetail(reason: RawBuilder<string>): RawBuilder<unknown> {
  return sql`jsonb_build_object('reason', ${reason}, 'sessionsEnded', counted.sessions)`
}

/** A logout token that has been verified (Back-Channel Logout 1.0 §2.4). */
export interface ProviderLogout {
  workspaceId: string
  issuer: string
  jtiHash: Buffer
  subject: string | null
  /** What the provider calls its own session. */
  idpSessionId: string | null
  requestId: string
}

/**
 * The token is remembered for as long as its `iat` lets it be used (five minutes around it), whatever its `exp`. With `sid`
 * that session of the provider ends, and those of the subject of which nobody knows to which of the provider's they
 * belong; without it, all of the subject (§2.7).
 */
const obeyLogout = prepared<ProviderLogout, { sessionsEnded: number }>(
  'session_provider_logout',
  p => sql`
    WITH token AS (
      INSERT INTO logout_tokens (workspace_id, issuer, jti_hash, expires_at)
      VALUES (${p.workspaceId}::uuid, ${p.issuer}::text, ${p.jtiHash}::bytea, now() + interval '11 minutes')
      ON CONFLICT DO NOTHING
      RETURNING true
    ), meant AS (
      SELECT s.id FROM sessions s, token
       WHERE s.workspace_id = ${p.workspaceId}::uuid AND s.issuer = ${p.issuer}::text
         AND s.idp_session_id = ${p.idpSessionId}::text
         AND (${p.subject}::text IS NULL OR s.subject = ${p.subject}::text)
      UNION
      SELECT s.id FROM sessions s, token
       WHERE s.workspace_id = ${p.workspaceId}::uuid
         AND s.member_id = (SELECT member_id FROM identities
                             WHERE workspace_id = ${p.workspaceId}::uuid AND issuer = ${p.issuer}::text
                               AND subject = ${p.subject}::text)
         AND s.issuer = ${p.issuer}::text AND s.subject = ${p.subject}::text
         AND (${p.idpSessionId}::text IS NULL OR s.idp_session_id IS NULL)
    ), ended AS (
      UPDATE sessions SET ended_at = now(), end_reason = 'signed_out_at_provider'
       WHERE workspace_id = ${p.workspaceId}::uuid AND id IN (SELECT id FROM meant)
         AND ended_at IS NULL AND expires_at > now()
      RETURNING member_id
    ), counted AS (SELECT count(*)::int AS sessions, min(member_id::text)::uuid AS member_id FROM ended),
    entry AS (${insertEntrySql({
      workspaceId: sql`${p.workspaceId}::uuid`,
      action: sql`'session.ended_by_provider'`,
      actorType: sql`'system'`,
      actorId: sql`'sign-out'`,
      requestId: sql`${p.requestId}::text`,
      memberId: sql`counted.member_id`,
      targetType: sql`'member'`,
      targetId: sql`counted.member_id::text`,
      detail: endingDetail(sql`'signed_out_at_provider'::text`),
      from: sql`counted WHERE sessions > 0`,
    })})
    SELECT sessions AS "sessionsEnded" FROM counted`,
)

/**
 * Ends the sessions that a logout token means, in one statement.
 * @returns how many ended: none where they were over, or the token was obeyed before
 */
export async function endProviderSessions(db: Db, logout: ProviderLogout): Promise<number> {
  const [obeyed] = await obeyLogout(db, logout)
  return obeyed?.sessionsEnded ?? 0
}
