import { sql } from 'kysely'
import { recordActivity, recordRefusal } from '../../activity/activity.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { parseEmail } from '../../members/email.ts'
import { hashRecoveryCode, isUsableCode } from '../../members/recovery-codes.ts'
import { getSessionByToken, type Session } from '../../members/sessions.ts'
import { makeOpaqueToken } from '../../opaque-token.ts'
import { isEnforced } from '../../sso/enforcement/enforcement.ts'
import { uuid7 } from '../../uuid7.ts'
import type { Visitor } from '../admission/sign-in.ts'

export interface RecoveryAttempt {
  workspaceId: string
  email: string
  code: string
  visitor: Visitor
}

export interface RecoverySession {
  session: Session
  sessionToken: string
}

/**
 * Lets an owner at the SSO settings while SSO is enforced and the provider is of no use: by a code, once, for an hour, and
 * for nothing else. Every owner finds the entry. Who may not is told the same, whatever the reason.
 * @throws {AppError} `recovery_code_invalid`
 */
export async function startRecovery(db: Db, attempt: RecoveryAttempt): Promise<RecoverySession> {
  const { workspaceId, visitor } = attempt
  const { token: sessionToken, hash: tokenHash } = makeOpaqueToken('ses', workspaceId)
  const memberId = await redeemCode(db, { ...attempt, tokenHash })
  if (memberId === undefined) {
    if (await isEnforced(db, workspaceId)) {
      await recordRefusal(db, {
        workspaceId,
        action: 'recovery.refused',
        reason: 'recovery_code_invalid',
        actor: { type: 'system', id: 'sign-in', requestId: visitor.requestId },
        target: { type: 'workspace', id: workspaceId },
        detail: { address: visitor.address },
      })
    }
    throw new AppError(
      'recovery_code_invalid',
      'This address and code open nothing here: a code is for an owner of a workspace that enforces SSO, and works once.',
    )
  }
  return { session: await getSessionByToken(db, sessionToken), sessionToken }
}

/** @returns whose code it was; undefined where it opens nothing */
async function redeemCode(
  db: Db,
  { workspaceId, email, code, visitor, tokenHash }: RecoveryAttempt & { tokenHash: Buffer },
): Promise<string | undefined> {
  const emailKey = parseEmail(email)?.key ?? null
  const sessionId = uuid7()
  return db.transaction().execute(async trx => {
    const { rows } = await sql<{ memberId: string; unused: number; owners: string[] }>`
      WITH owner AS (
        SELECT m.id FROM members m JOIN sso_configs c ON c.workspace_id = m.workspace_id
         WHERE m.workspace_id = ${workspaceId} AND m.email_key = ${emailKey}::text AND m.status = 'active' AND m.role = 'owner'
           AND c.enforced_at IS NOT NULL
           FOR SHARE OF m
      ), used AS (
        UPDATE recovery_codes c SET used_at = now()
          FROM owner o
         WHERE c.workspace_id = ${workspaceId} AND c.code_hash = ${hashRecoveryCode(code)} AND c.member_id = o.id
           AND ${isUsableCode}
        RETURNING c.member_id
      ), session AS (
        INSERT INTO sessions (workspace_id, id, member_id, token_hash, method, address, user_agent, idle_minutes, expires_at)
        SELECT ${workspaceId}, ${sessionId}, member_id, ${tokenHash}, 'recovery', ${visitor.address}::inet, ${visitor.userAgent},
               60, now() + interval '1 hour'
          FROM used
      )
      SELECT member_id AS "memberId",
             (SELECT count(*) FROM recovery_codes r
               WHERE r.workspace_id = ${workspaceId} AND r.member_id = used.member_id AND r.used_at IS NULL)::int - 1 AS unused,
             ARRAY(SELECT m.id::text FROM members m
                    WHERE m.workspace_id = ${workspaceId} AND m.role = 'owner' AND m.status = 'active' ORDER BY m.id) AS owners
        FROM used`.execute(trx)
    const [row] = rows
    if (!row) return undefined
    const { memberId, unused, owners } = row
    await recordActivity(trx, {
      workspaceId,
      action: 'recovery.used',
      actor: { type: 'member', id: memberId, requestId: visitor.requestId },
      memberId,
      target: { type: 'session', id: sessionId },
      detail: { unusedCodes: unused, concerns: owners, address: visitor.address },
    })
    return memberId
  })
}
