import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Db, Trx } from '../db/database.ts'
import { prepared } from '../db/prepared.ts'
import { AppError } from '../errors.ts'
import { readOpaqueToken } from '../opaque-token.ts'

/** A live session with what its holder may know of it. */
export interface Session {
  workspaceId: string
  id: string
  memberId: string
  email: string | null
  displayName: string | null
  role: string
  authTime: string | null
  acr: string | null
  amr: string[] | null
  createdAt: string
  expiresAt: string
}

export interface SessionKey {
  workspaceId: string
  /** By the hash of its token, or by its id where an access token names it. */
  tokenHash: Buffer | null
  sessionId: string | null
  idleMinutes: number
}

/**
 * Finds a live session: not ended, not expired, not idle for too long, its member active. The check that makes
 * revocation immediate on every replica: it reads the row on every request. Marks the use at most once a minute, so
 * that reading stays reading.
 */
const findLiveSession = prepared<SessionKey, Session>(
  'session_find_live',
  ({ workspaceId, tokenHash, sessionId, idleMinutes }) => sql`
    WITH found AS (
      SELECT s.workspace_id, s.id, s.member_id, m.email, m.display_name, m.role, s.auth_time, s.acr, s.amr,
             s.created_at, s.expires_at, s.last_seen_at
        FROM sessions s JOIN members m ON m.workspace_id = s.workspace_id AND m.id = s.member_id
       WHERE s.workspace_id = ${workspaceId}::uuid
         AND (s.token_hash = ${tokenHash}::bytea OR (s.id = ${sessionId}::uuid AND s.token_hash IS NOT NULL))
         AND s.ended_at IS NULL AND s.expires_at > now()
         AND s.last_seen_at > now() - ${idleMinutes}::int * interval '1 minute'
         AND m.status = 'active'
    ), seen AS (
      UPDATE sessions s SET last_seen_at = now()
        FROM found f
       WHERE s.workspace_id = f.workspace_id AND s.id = f.id AND f.last_seen_at < now() - interval '1 minute'
    )
    SELECT workspace_id AS "workspaceId", id, member_id AS "memberId", email, display_name AS "displayName", role,
           auth_time AS "authTime", acr, amr, created_at AS "createdAt", expires_at AS "expiresAt"
      FROM found`,
)

/**
 * The session of a session token.
 * @throws {AppError} `session_ended` where the token is none, or its session is over for whatever reason
 */
export async function getSessionByToken(db: Db, token: string, idleMinutes: number): Promise<Session> {
  const read = readOpaqueToken('ses', token)
  if (!read) throw sessionEnded()
  const key = { workspaceId: read.workspaceId, tokenHash: read.hash, sessionId: null, idleMinutes }
  const [session] = await findLiveSession(db, key)
  if (!session) throw sessionEnded()
  return session
}

/**
 * The session that an access token names.
 * @throws {AppError} `session_ended` where it is over for whatever reason
 */
export async function getSessionById(
  db: Db,
  { workspaceId, sessionId, idleMinutes }: { workspaceId: string; sessionId: string; idleMinutes: number },
): Promise<Session> {
  const [session] = await findLiveSession(db, { workspaceId, tokenHash: null, sessionId, idleMinutes })
  if (!session) throw sessionEnded()
  return session
}

export function sessionEnded(): AppError {
  return new AppError('session_ended', 'The session is over. Sign in again.')
}

/** The member of a session, as the caller of what it asks for. */
export function sessionActor(session: Session): Actor {
  const { workspaceId, memberId, role, id } = session
  return { type: 'member', id: memberId, workspaceId, role, sessionId: id }
}

/** Ends a session by its holder's wish. Ending one that is over already changes nothing. */
export async function endSession(trx: Trx, actor: Actor): Promise<void> {
  const { workspaceId, sessionId, id: memberId } = actor
  if (workspaceId === undefined || sessionId === undefined) return
  const ended = await trx
    .updateTable('sessions')
    .set({ ended_at: sql`now()`, end_reason: 'signed_out' })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', sessionId)
    .where('ended_at', 'is', null)
    .executeTakeFirst()
  if (ended.numUpdatedRows === 0n) return
  await recordActivity(trx, {
    workspaceId,
    action: 'session.ended',
    actor,
    memberId,
    target: { type: 'session', id: sessionId },
    detail: { reason: 'signed_out' },
  })
}
