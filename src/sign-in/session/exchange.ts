import { sql } from 'kysely'
import { insertEntrySql } from '../../activity/activity.ts'
import type { Db } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { AppError } from '../../errors.ts'
import type { Session } from '../../members/sessions.ts'
import { makeOpaqueToken, readOpaqueToken } from '../../opaque-token.ts'
import { s256 } from '../../opaque-token.ts'

interface RedeemValues {
  workspaceId: string
  codeHash: Buffer
  challenge: string
  tokenHash: Buffer
  replacedWorkspaceId: string | null
  replacedHash: Buffer | null
  requestId: string
}

/**
 * The code is used up whatever becomes of it: its UPDATE does not depend on the checks, which are made on what it
 * returns. The session comes to life by the hash of its token; another one that the browser held ends.
 */
const redeem = prepared<RedeemValues, Session & { returnTo: string }>(
  'exchange_code_redeem',
  p => sql`
    WITH code AS (
      UPDATE exchange_codes SET used_at = now()
       WHERE workspace_id = ${p.workspaceId}::uuid AND code_hash = ${p.codeHash}::bytea AND used_at IS NULL
      RETURNING session_id, return_to, expires_at > now() AND handoff_challenge = ${p.challenge}::text AS fits
    ), holder AS (
      -- Look-ups instead of a join, so that each row is read by its key on any statistics.
      SELECT id, email, display_name, role FROM members
       WHERE workspace_id = ${p.workspaceId}::uuid AND status = 'active'
         AND id = (SELECT member_id FROM sessions
                    WHERE workspace_id = ${p.workspaceId}::uuid AND id = (SELECT session_id FROM code WHERE fits)
                      -- "Not redeemed yet", said so that the sweep's index is not taken for the way to one session.
                      AND coalesce(token_hash, '') = '' AND ended_at IS NULL AND expires_at > now())
    ), session AS (
      UPDATE sessions s SET token_hash = ${p.tokenHash}::bytea, last_seen_at = now()
        FROM holder m, code c
       WHERE s.workspace_id = ${p.workspaceId}::uuid AND s.id = (SELECT session_id FROM code WHERE fits)
         AND coalesce(s.token_hash, '') = '' AND s.ended_at IS NULL
      RETURNING s.workspace_id, s.id, s.member_id, s.method, m.email, m.display_name, m.role, s.auth_time, s.acr, s.amr,
                s.created_at, s.expires_at, c.return_to
    ), replaced AS (
      UPDATE sessions SET ended_at = now(), end_reason = 'replaced'
       WHERE workspace_id = ${p.replacedWorkspaceId}::uuid AND token_hash = ${p.replacedHash}::bytea AND ended_at IS NULL
         AND EXISTS (SELECT FROM session)
      RETURNING workspace_id, id, member_id
    ), entry AS (${insertEntrySql({
      workspaceId: sql`replaced.workspace_id`,
      action: sql`'session.ended'`,
      actorType: sql`'member'`,
      actorId: sql`replaced.member_id::text`,
      requestId: sql`${p.requestId}::text`,
      memberId: sql`replaced.member_id`,
      targetType: sql`'session'`,
      targetId: sql`replaced.id::text`,
      detail: sql`'{"reason": "replaced"}'::jsonb`,
      from: sql`replaced`,
    })})
    SELECT workspace_id AS "workspaceId", id, member_id AS "memberId", method, email, display_name AS "displayName", role,
           auth_time AS "authTime", acr, amr, created_at AS "createdAt", expires_at AS "expiresAt",
           return_to AS "returnTo"
      FROM session`,
)

export interface RedeemedCode {
  session: Session
  /** The session's own secret: for the cookie, or for a front-end on another site. */
  sessionToken: string
  returnTo: string
}

export interface Redemption {
  code: string
  /** Of the challenge that the sign-in was started with (RFC 7636 §4.1). */
  verifier: string
  /** The session token that this browser holds already. */
  replacedToken?: string | undefined
  requestId: string
}

/**
 * Trades an exchange code for its session, in one statement. The first attempt uses the code up, right or wrong.
 * @throws {AppError} `exchange_code_invalid`, the same whatever was wrong
 */
export async function redeemExchangeCode(
  db: Db,
  { code, verifier, replacedToken, requestId }: Redemption,
): Promise<RedeemedCode> {
  const read = readOpaqueToken('exc', code)
  if (!read) throw invalid()
  const { workspaceId } = read
  const { token: sessionToken, hash: tokenHash } = makeOpaqueToken('ses', workspaceId)
  const replaced = replacedToken === undefined ? undefined : readOpaqueToken('ses', replacedToken)
  const [row] = await redeem(db, {
    workspaceId,
    codeHash: read.hash,
    challenge: s256(verifier),
    tokenHash,
    replacedWorkspaceId: replaced?.workspaceId ?? null,
    replacedHash: replaced?.hash ?? null,
    requestId,
  })
  if (!row) throw invalid()
  const { returnTo, ...session } = row
  return { session, sessionToken, returnTo }
}

function invalid(): AppError {
  return new AppError(
    'exchange_code_invalid',
    'The exchange code is not valid: it is for one use, within 60 seconds, with the verifier of its challenge.',
  )
}
