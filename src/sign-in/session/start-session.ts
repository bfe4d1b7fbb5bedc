import { sql, type RawBuilder } from 'kysely'
import { insertEntrySql } from '../../activity/activity.ts'
import type { Db } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import type { MemberStatus } from '../../members/members.ts'
import type { FactsKey } from '../linking/linking-facts.ts'

export interface SessionValues extends FactsKey {
  subject: string
  sessionId: string
  idpSessionId: string | null
  idTokenSealed: Buffer
  /** Seconds since the epoch, as in the ID token. */
  authTime: number | null
  sessionExpiry: number | null
  acr: string | null
  amr: string[] | null
  address: string | null
  userAgent: string | null
  hours: number
  idleMinutes: number
  codeHash: Buffer
  codeSealed: Buffer
  stateHash: Buffer
  handoffChallenge: string
  returnTo: string
  detail: string
  requestId: string
  configVersion: number
}

/**
 * What a sign-in leaves behind, as CTEs: session, exchange code, entry, and the attempt's outcome. Nobody signs in unless
 * `person (id, status)` is active.
 * @param after a row source to wait for, of one row: entries are read in the order in which they were made
 */
export function sessionCtes(p: Params<SessionValues>, after: RawBuilder<unknown> = sql``): RawBuilder<unknown> {
  return sql`
    session AS (
      INSERT INTO sessions (workspace_id, id, member_id, issuer, subject, config_version, idp_session_id, id_token_sealed, auth_time, acr,
                            amr, address, user_agent, idle_minutes, expires_at)
      SELECT ${p.workspaceId}::uuid, ${p.sessionId}::uuid, id, ${p.issuer}::text, ${p.subject}::text, ${p.configVersion}::int,
             ${p.idpSessionId}::text, ${p.idTokenSealed}::bytea, to_timestamp(${p.authTime}::float8), ${p.acr}::text,
             ${p.amr}::text[], ${p.address}::inet, ${p.userAgent}::text, ${p.idleMinutes}::int,
             least(now() + ${p.hours}::int * interval '1 hour', to_timestamp(${p.sessionExpiry}::float8))
        FROM person WHERE status = 'active'
      RETURNING id, member_id
    ), code AS (
      INSERT INTO exchange_codes (workspace_id, code_hash, session_id, handoff_challenge, return_to, expires_at)
      SELECT ${p.workspaceId}::uuid, ${p.codeHash}::bytea, id, ${p.handoffChallenge}::text, ${p.returnTo}::text,
             now() + interval '60 seconds'
        FROM session
    ), signed_in AS (${insertEntrySql({
      workspaceId: sql`${p.workspaceId}::uuid`,
      action: sql`'sso_sign_in.succeeded'`,
      actorType: sql`'member'`,
      actorId: sql`session.member_id::text`,
      requestId: sql`${p.requestId}::text`,
      memberId: sql`session.member_id`,
      targetType: sql`'session'`,
      targetId: sql`session.id::text`,
      detail: sql`${p.detail}::jsonb`,
      from: sql`session${after}`,
    })}), closed AS (
      UPDATE sign_in_attempts SET outcome = 'signed_in', outcome_code = ${p.codeSealed}::bytea, outcome_entry_id = signed_in.id
        FROM signed_in WHERE workspace_id = ${p.workspaceId}::uuid AND state_hash = ${p.stateHash}::bytea
    )`
}

/** Whom an identity belongs to; nobody has signed in unless `active`. */
export interface KnownMember {
  memberId: string
  status: MemberStatus
  emailKey: string | null
}

const start = prepared<SessionValues, KnownMember>(
  'sign_in_start_session',
  p => sql`
    WITH person AS (
      SELECT id, status, email_key FROM members
       WHERE workspace_id = ${p.workspaceId}::uuid
         -- Look-ups instead of a join, so that both rows are read by their keys on any statistics.
         AND id = (SELECT member_id FROM identities
                    WHERE workspace_id = ${p.workspaceId}::uuid AND issuer = ${p.issuer}::text
                      AND subject = ${p.subject}::text)
         FOR SHARE
    ),
    ${sessionCtes(p)},
    seen AS (
      UPDATE identities SET last_sign_in_at = now(), stable_id = coalesce(${p.stableId}::text, stable_id)
       WHERE workspace_id = ${p.workspaceId}::uuid AND issuer = ${p.issuer}::text AND subject = ${p.subject}::text
         AND EXISTS (SELECT FROM session)
    )
    SELECT id AS "memberId", status, email_key AS "emailKey" FROM person`,
)

/**
 * Signs in whoever the identity belongs to, all in one statement. The lock on the member makes it wait for a deactivation
 * under way, and then see it.
 * @returns undefined where it is nobody's
 */
export async function startSession(db: Db, values: SessionValues): Promise<KnownMember | undefined> {
  const [known] = await start(db, values)
  return known
}

/** What the seal of an ID token, kept as a hint for signing out, is bound to. */
export function idTokenContext(workspaceId: string, sessionId: string): string {
  return `sessions.id_token/${workspaceId}/${sessionId}`
}
