import { sql, type RawBuilder } from 'kysely'
import type { Actor } from '../actor.ts'
import type { Db, Trx } from '../db/database.ts'
import { prepared } from '../db/prepared.ts'
import { AppError } from '../errors.ts'
import { readOpaqueToken } from '../opaque-token.ts'
import { toPage, type Page } from '../page.ts'

/** A live session with what its holder may know of it. */
export interface Session {
  workspaceId: string
  id: string
  memberId: string
  /** How it was begun: `recovery` is for the SSO settings only. */
  method: 'sso' | 'recovery'
  email: string | null
  displayName: string | null
  role: string
  authTime: string | null
  acr: string | null
  amr: string[] | null
  createdAt: string
  expiresAt: string
}

/**
 * Finds a live session: not ended, not expired, not idle for too long, its member active. The check that makes
 * revocation immediate on every replica: it reads the row on every request. Marks the use at most once a minute, so
 * that reading stays reading. Each table is read by one key, whatever is known of them: a join could begin with all of the
 * workspace.
 */
function liveSessionSql(workspaceId: RawBuilder<string>, isMeant: RawBuilder<unknown>): RawBuilder<Session> {
  return sql`
    WITH found AS MATERIALIZED (
      SELECT id, member_id, method, auth_time, acr, amr, created_at, expires_at, last_seen_at
        FROM sessions
       WHERE workspace_id = ${workspaceId}::uuid AND ${isMeant} AND ended_at IS NULL AND expires_at > now()
         AND last_seen_at > now() - idle_minutes * interval '1 minute'
    ), holder AS MATERIALIZED (
      SELECT email, display_name, role FROM members
       WHERE workspace_id = ${workspaceId}::uuid AND id = (SELECT member_id FROM found) AND status = 'active'
         AND (reactivated_at IS NULL OR reactivated_at <= (SELECT created_at FROM found))
    ), seen AS (
      UPDATE sessions SET last_seen_at = now()
       WHERE workspace_id = ${workspaceId}::uuid
         AND id = (SELECT id FROM found WHERE last_seen_at < now() - interval '1 minute')
         AND EXISTS (SELECT FROM holder)
    )
    SELECT ${workspaceId}::uuid AS "workspaceId", id, member_id AS "memberId", method, email, display_name AS "displayName", role,
           auth_time AS "authTime", acr, amr, created_at AS "createdAt", expires_at AS "expiresAt"
      FROM found, holder`
}

const findByToken = prepared<{ workspaceId: string; tokenHash: Buffer }, Session>('session_by_token', p =>
  liveSessionSql(p.workspaceId, sql`token_hash = ${p.tokenHash}::bytea`),
)

/** A session that nobody has redeemed yet is none. */
const findById = prepared<{ workspaceId: string; sessionId: string }, Session>('session_by_id', p =>
  liveSessionSql(p.workspaceId, sql`id = ${p.sessionId}::uuid AND coalesce(token_hash, '') <> ''`),
)

/**
 * The session of a session token.
 * @throws {AppError} `session_ended` where the token is none, or its session is over for whatever reason
 */
export async function getSessionByToken(db: Db, token: string): Promise<Session> {
  const read = readOpaqueToken('ses', token)
  if (!read) throw sessionEnded()
  const [session] = await findByToken(db, { workspaceId: read.workspaceId, tokenHash: read.hash })
  if (!session) throw sessionEnded()
  return session
}

/**
 * The session that an access token names.
 * @throws {AppError} `session_ended` where it is over for whatever reason
 */
export async function getSessionById(db: Db, named: { workspaceId: string; sessionId: string }): Promise<Session> {
  const [session] = await findById(db, named)
  if (!session) throw sessionEnded()
  return session
}

function sessionEnded(): AppError {
  return new AppError('session_ended', 'The session is over. Sign in again.')
}

/** The member of a session, as the caller of what it asks for. */
export function sessionActor(session: Session): Actor {
  const { workspaceId, memberId, role, id, method } = session
  const limits = method === 'recovery' ? { recovery: true as const } : {}
  return { type: 'member', id: memberId, workspaceId, role, sessionId: id, ...limits }
}

/** Where somebody is signed in, as they and the admins of their workspace see it. */
export interface ListedSession {
  id: string
  memberId: string
  /** Of the browser at the sign-in. */
  address: string | null
  userAgent: string | null
  authTime: string | null
  acr: string | null
  amr: string[] | null
  createdAt: string
  lastSeenAt: string
  /** At the latest; sooner where it is not used. */
  expiresAt: string
}

export interface SessionFilter {
  workspaceId: string
  memberId?: string | undefined
  limit: number
  after?: string | undefined
}

/** The live sessions of a workspace, or of one member, oldest first. */
export async function listSessions(db: Db, filter: SessionFilter): Promise<Page<ListedSession>> {
  const { workspaceId, memberId, limit, after } = filter
  let query = db
    .selectFrom('sessions as s')
    .innerJoin('members as m', join =>
      join.onRef('m.workspace_id', '=', 's.workspace_id').onRef('m.id', '=', 's.member_id'),
    )
    .select([
      's.id',
      's.member_id as memberId',
      's.user_agent as userAgent',
      's.auth_time as authTime',
      's.acr',
      's.amr',
    ])
    .select(['s.created_at as createdAt', 's.last_seen_at as lastSeenAt', 's.expires_at as expiresAt'])
    .select(sql<string | null>`host(s.address)`.as('address'))
    .where('s.workspace_id', '=', workspaceId)
    .where('s.token_hash', 'is not', null)
    .where('s.ended_at', 'is', null)
    .where('s.expires_at', '>', sql<string>`now()`)
    .where(sql<boolean>`s.last_seen_at > now() - s.idle_minutes * interval '1 minute'`)
    .where('m.status', '=', 'active')
    .orderBy('s.id')
    .limit(limit + 1)
  if (memberId !== undefined) query = query.where('s.member_id', '=', memberId)
  if (after !== undefined) query = query.where('s.id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

export interface SessionLifetimes {
  /** From the sign-in on, used or not. */
  sessionHours: number
  /** Without being used. */
  sessionIdleMinutes: number
}

/**
 * Brings live sessions inside lifetimes that have become shorter. Longer ones are for new sessions: a session that has run
 * out never comes back.
 * @returns how many were shortened
 */
export async function shortenSessions(
  trx: Trx,
  { workspaceId, sessionHours, sessionIdleMinutes }: SessionLifetimes & { workspaceId: string },
): Promise<number> {
  const end = sql<string>`created_at + ${sessionHours}::int * interval '1 hour'`
  const shortened = await trx
    .updateTable('sessions')
    .set({
      expires_at: sql`least(expires_at, ${end})`,
      idle_minutes: sql`least(idle_minutes, ${sessionIdleMinutes}::int)`,
    })
    .where('workspace_id', '=', workspaceId)
    .where('ended_at', 'is', null)
    .where('expires_at', '>', sql<string>`now()`)
    .where(({ or, eb }) => or([eb('expires_at', '>', end), eb('idle_minutes', '>', sessionIdleMinutes)]))
    .executeTakeFirst()
  return Number(shortened.numUpdatedRows)
}
