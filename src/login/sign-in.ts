import { sql } from 'kysely'
import { insertEntrySql } from '../activity/activity.ts'
import { claimGroups, followClaimedGroups, type ClaimingSignIn } from '../access/claimed-groups.ts'
import { lockClaims } from '../access/group-mappings.ts'
import type { Config } from '../config.ts'
import { isUniqueViolation, retryDeadlocks, type Db, type Trx } from '../db/database.ts'
import { prepared } from '../db/prepared.ts'
import type { ProvenSignIn } from '../oidc/provider.ts'
import { makeOpaqueToken } from '../opaque-token.ts'
import type { SecretBox } from '../sso/secret-box.ts'
import type { LoginConfig } from '../sso/sso-config.ts'
import { uuid7 } from '../uuid7.ts'
import { readSeconds, readSessionExpiry } from './authentication.ts'
import { readClaimedGroups, requireValues } from './claimed-groups.ts'
import { followAddress } from './contact-address.ts'
import { linkPerson, type Linked, type Linking } from './link-person.ts'
import { cleanText, deactivated, readPerson } from './linking.ts'
import { sealOutcomeCode, type LoginAttempt } from './login-attempts.ts'
import { checkReach } from './reach.ts'

/** The browser that signs in, for the session's row and the entries. */
export interface Visitor {
  address: string | null
  userAgent: string | null
  requestId: string
}

export interface SignIn {
  attempt: LoginAttempt
  loginConfig: LoginConfig
  proven: ProvenSignIn
  visitor: Visitor
}

export interface SignInDependencies {
  config: Config
  db: Db
  box: SecretBox
}

interface SessionValues {
  workspaceId: string
  issuer: string
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
  stableId: string | null
  configVersion: number
}

/** Whom an identity belongs to; nobody has signed in unless `active`. */
interface KnownMember {
  memberId: string
  status: 'invited' | 'active' | 'deactivated'
  emailKey: string | null
}

/**
 * Signs in whoever the identity belongs to, all in one statement: session, exchange code, entry, and the attempt's
 * outcome. The lock on the member makes it wait for a deactivation under way, and then see it.
 */
const startSession = prepared<SessionValues, KnownMember>(
  'login_start_session',
  p => sql`
    WITH person AS (
      SELECT id, status, email_key FROM members
       WHERE workspace_id = ${p.workspaceId}::uuid
         -- Not a join: whatever is known of the tables, both are read by one key.
         AND id = (SELECT member_id FROM identities
                    WHERE workspace_id = ${p.workspaceId}::uuid AND issuer = ${p.issuer}::text
                      AND subject = ${p.subject}::text)
         FOR SHARE
    ), session AS (
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
    ), seen AS (
      UPDATE identities SET last_sign_in_at = now(), stable_id = coalesce(${p.stableId}::text, stable_id)
       WHERE workspace_id = ${p.workspaceId}::uuid AND issuer = ${p.issuer}::text AND subject = ${p.subject}::text
         AND EXISTS (SELECT FROM session)
    ), entry AS (${insertEntrySql({
      workspaceId: sql`${p.workspaceId}::uuid`,
      action: sql`'sso_login.succeeded'`,
      actorType: sql`'member'`,
      actorId: sql`session.member_id::text`,
      requestId: sql`${p.requestId}::text`,
      memberId: sql`session.member_id`,
      targetType: sql`'session'`,
      targetId: sql`session.id::text`,
      detail: sql`${p.detail}::jsonb`,
      from: sql`session`,
    })}), closed AS (
      UPDATE login_attempts SET outcome = 'signed_in', outcome_code = ${p.codeSealed}::bytea, outcome_entry_id = entry.id
        FROM entry WHERE workspace_id = ${p.workspaceId}::uuid AND state_hash = ${p.stateHash}::bytea
    )
    SELECT id AS "memberId", status, email_key AS "emailKey" FROM person`,
)

/**
 * Makes a proven sign-in a session. Whoever is known by (workspace, issuer, subject) goes in by one statement, whatever
 * their address; anybody else is first linked or provisioned (linking.ts), in one transaction with the session.
 * @returns the exchange code, which is stored nowhere in the clear
 * @throws {AppError} the refusals of linking.ts
 */
export async function signIn(dependencies: SignInDependencies, signingIn: SignIn): Promise<string> {
  const { config, db, box } = dependencies
  const { loginConfig, proven, visitor } = signingIn
  const exchangeCode = makeOpaqueToken('exc', loginConfig.workspaceId)
  const person = readPerson(proven, loginConfig, config)
  const values = { ...sessionValues(config, box, signingIn, exchangeCode), stableId: person.stableId ?? null }
  const claiming = readClaiming(proven, { loginConfig, config, requestId: visitor.requestId })

  if (claiming) await followClaimedGroups(db, claiming)
  const [known] = await startSession(db, values)
  if (known) {
    if (known.status !== 'active') throw deactivated(known.memberId)
    await followAddress(db, { ...known, person, loginConfig, rules: config, requestId: visitor.requestId })
    return exchangeCode.token
  }
  const linkAndStart = () =>
    db.transaction().execute(async trx => {
      const detail = await admit(trx, { person, loginConfig, config, requestId: visitor.requestId, claiming })
      const linked = {
        ...values,
        detail: JSON.stringify({ issuer: person.issuer, subject: person.subject, ...detail }),
      }
      const [member] = await startSession(trx, linked)
      if (member?.status !== 'active') throw deactivated(member?.memberId)
    })
  await retryConflicts(() => retryDeadlocks(linkAndStart))
  return exchangeCode.token
}

/** What the sign-in says of the person's groups; undefined where nobody asks. */
export function readClaiming(
  { claims }: ProvenSignIn,
  { loginConfig, config, requestId }: Omit<Linking, 'person'>,
): ClaimingSignIn | undefined {
  const { workspaceId, issuer, groupsClaim, linksUpTo } = loginConfig
  const claimed = readClaimedGroups(claims, groupsClaim)
  if (!claimed) return undefined
  const values = () => requireValues(claimed)
  return { workspaceId, issuer, subject: claims.sub, values, requestId, roles: config.roles, linksUpTo }
}

/**
 * Makes somebody a member with an identity, and gives them what their groups give.
 * @returns on what trust, for the entry
 * @throws {AppError} the refusals of linking.ts; `sso_not_confirmed`
 */
export async function admit(
  trx: Trx,
  { claiming, ...linking }: Linking & { claiming: ClaimingSignIn | undefined },
): Promise<Linked> {
  if (claiming) await lockClaims(trx, { workspaceId: claiming.workspaceId, mode: 'shared' })
  const linked = await linkPerson(trx, linking)
  if (claiming) await claimGroups(trx, claiming)
  await checkReach(trx, linking, linked)
  return linked
}

function sessionValues(
  config: Config,
  box: SecretBox,
  { attempt, loginConfig, proven, visitor }: SignIn,
  exchangeCode: { token: string; hash: Buffer },
): Omit<SessionValues, 'stableId'> {
  const { claims, idToken } = proven
  const { workspaceId, issuer, version: configVersion } = loginConfig
  const sessionId = uuid7()
  return {
    ...visitor,
    workspaceId,
    issuer,
    subject: claims.sub,
    configVersion,
    sessionId,
    idpSessionId: readSid(claims.sid),
    idTokenSealed: box.seal(idToken, idTokenContext(workspaceId, sessionId)),
    authTime: readSeconds(claims.auth_time),
    sessionExpiry: readSessionExpiry(claims),
    acr: textClaim(claims.acr),
    amr: Array.isArray(claims.amr)
      ? claims.amr
          .map(textClaim)
          .filter(each => each !== null)
          .slice(0, 20)
      : null,
    hours: loginConfig.sessionHours ?? config.sessionHours,
    idleMinutes: loginConfig.sessionIdleMinutes ?? config.sessionIdleMinutes,
    codeHash: exchangeCode.hash,
    codeSealed: sealOutcomeCode(box, attempt, exchangeCode.token),
    stateHash: attempt.stateHash,
    handoffChallenge: attempt.handoffChallenge,
    returnTo: attempt.returnTo,
    detail: JSON.stringify({ issuer, subject: claims.sub, trust: 'identity' }),
  }
}

/** What the seal of an ID token, kept as a hint for signing out, is bound to. */
export function idTokenContext(workspaceId: string, sessionId: string): string {
  return `sessions.id_token/${workspaceId}/${sessionId}`
}

/** Compared with that of logout tokens: one that cannot be kept as it is counts as not known. */
function readSid(sid: unknown): string | null {
  return typeof sid === 'string' && /^[^\p{Cc}\p{Cs}]{1,255}$/u.test(sid) ? sid : null
}

function textClaim(value: unknown): string | null {
  return typeof value === 'string' ? (cleanText(value, 255) ?? null) : null
}

/** Somebody else (an invitation, a directory) made the same member meanwhile: look again, and find them. */
async function retryConflicts(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      const lostRace = ['members_email', 'identities_pkey', 'identities_member'].some(index =>
        isUniqueViolation(error, index),
      )
      if (attempt === 3 || !lostRace) throw error
    }
  }
}
