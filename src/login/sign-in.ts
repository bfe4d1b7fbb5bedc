import { sql } from 'kysely'
import { recordActivity, insertEntrySql } from '../activity/activity.ts'
import type { Actor } from '../actor.ts'
import { recomputeAccess, recordAccessChange } from '../access/access.ts'
import { claimGroups, followClaimedGroups } from '../access/claimed-groups.ts'
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
import { cleanText, decideLinking, deactivated, readPerson } from './linking.ts'
import type { Candidate, LinkingDecision, LinkingFacts, LinkingRules, Person } from './linking.ts'
import { sealOutcomeCode, type LoginAttempt } from './login-attempts.ts'

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
      SELECT m.id, m.status, m.email_key
        FROM identities i JOIN members m ON m.workspace_id = i.workspace_id AND m.id = i.member_id
       WHERE i.workspace_id = ${p.workspaceId}::uuid AND i.issuer = ${p.issuer}::text AND i.subject = ${p.subject}::text
         FOR SHARE OF m
    ), session AS (
      INSERT INTO sessions (workspace_id, id, member_id, issuer, subject, idp_session_id, id_token_sealed, auth_time, acr,
                            amr, address, user_agent, idle_minutes, expires_at)
      SELECT ${p.workspaceId}::uuid, ${p.sessionId}::uuid, id, ${p.issuer}::text, ${p.subject}::text,
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
      UPDATE identities SET last_sign_in_at = now()
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
  const values = sessionValues(config, box, signingIn, exchangeCode)
  const person = readPerson(proven, loginConfig, config)
  const { workspaceId, issuer } = loginConfig
  const claimed = readClaimedGroups(proven.claims, loginConfig.groupsClaim)
  const claiming = claimed && {
    workspaceId,
    issuer,
    subject: proven.claims.sub,
    values: () => requireValues(claimed),
    requestId: visitor.requestId,
    roles: config.roles,
  }

  if (claiming) await followClaimedGroups(db, claiming)
  const [known] = await startSession(db, values)
  if (known) {
    if (known.status !== 'active') throw deactivated(known.memberId)
    await followAddress(db, { ...known, person, loginConfig, rules: config, requestId: visitor.requestId })
    return exchangeCode.token
  }
  const linkAndStart = () =>
    db.transaction().execute(async trx => {
      if (claiming) await lockClaims(trx, { workspaceId, mode: 'shared' })
      const detail = await linkPerson(trx, { person, loginConfig, config, requestId: visitor.requestId })
      if (claiming) await claimGroups(trx, claiming)
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

function sessionValues(
  config: Config,
  box: SecretBox,
  { attempt, loginConfig, proven, visitor }: SignIn,
  exchangeCode: { token: string; hash: Buffer },
): SessionValues {
  const { claims, idToken } = proven
  const { workspaceId, issuer } = loginConfig
  const sessionId = uuid7()
  return {
    ...visitor,
    workspaceId,
    issuer,
    subject: claims.sub,
    sessionId,
    idpSessionId: textClaim(claims.sid),
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

function textClaim(value: unknown): string | null {
  return typeof value === 'string' ? (cleanText(value, 255) ?? null) : null
}

interface Linking {
  person: Person
  loginConfig: LoginConfig
  config: Config
  requestId: string
}

/**
 * Gives a person their identity, and where they have none a membership.
 * @returns on what trust, for the entry
 */
async function linkPerson(trx: Trx, linking: Linking): Promise<Record<string, unknown>> {
  const { person, loginConfig, config } = linking
  const { workspaceId } = loginConfig
  await lockPerson(trx, workspaceId, person)
  if (await isLinked(trx, workspaceId, person)) return { trust: 'identity' }
  const facts = await findFacts(trx, workspaceId, person)
  const rules: LinkingRules = config
  const decision = decideLinking(person, facts, { config: loginConfig, rules })
  const { trust } = decision
  if (decision.kind === 'create') {
    await createMember(trx, linking, decision)
    return { trust, linkedBy: 'provisioned' }
  }
  await linkMember(trx, linking, decision)
  return { trust, linkedBy: decision.linkedBy }
}

/** Two first sign-ins of one person, or of two with one address, go one after the other, on whatever replicas. */
async function lockPerson(trx: Trx, workspaceId: string, { issuer, subject, email }: Person): Promise<void> {
  const keys = [`${workspaceId} ${issuer} ${subject}`, ...(email ? [`${workspaceId} ${email.key}`] : [])]
  await sql`SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM unnest(${keys}::text[]) AS key`.execute(trx)
}

async function isLinked(trx: Trx, workspaceId: string, { issuer, subject }: Person): Promise<boolean> {
  const identity = await trx
    .selectFrom('identities')
    .select('member_id')
    .where('workspace_id', '=', workspaceId)
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .executeTakeFirst()
  return identity !== undefined
}

/** Whom the claims point to, their rows locked until the sign-in is through. */
async function findFacts(trx: Trx, workspaceId: string, { email, directoryId }: Person): Promise<LinkingFacts> {
  const emailKey = email?.key ?? null
  const { rows: candidates } = await sql<Candidate>`
    SELECT f.found_by AS "foundBy", m.id AS "memberId", m.status, m.role,
           coalesce(m.invitation_expires_at > now(), false) AS "invitationOpen",
           ARRAY(SELECT jsonb_build_object('issuer', i.issuer, 'subject', i.subject)
                   FROM identities i WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id) AS identities
      FROM (
        SELECT u.member_id, 'directory' AS found_by
          FROM directories d
          JOIN scim_users u ON u.workspace_id = d.workspace_id AND u.directory_id = d.id AND u.external_id = ${directoryId ?? null}::text
         WHERE d.workspace_id = ${workspaceId}
        UNION
        SELECT id, 'email' FROM members WHERE workspace_id = ${workspaceId} AND email_key = ${emailKey}::text
      ) f
      JOIN members m ON m.workspace_id = ${workspaceId} AND m.id = f.member_id
       FOR UPDATE OF m`.execute(trx)
  if (candidates.length > 0 || emailKey === null) return { candidates, inactiveInDirectory: false }
  const inactive = await trx
    .selectFrom('scim_users')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('email_keys', '@>', sql<string[]>`ARRAY[${emailKey}]::text[]`)
    .where('active', '=', false)
    .executeTakeFirst()
  return { candidates, inactiveInDirectory: inactive !== undefined }
}

async function createMember(
  trx: Trx,
  linking: Linking,
  { email, trust }: LinkingDecision & { kind: 'create' },
): Promise<void> {
  const { person, loginConfig } = linking
  const { workspaceId } = loginConfig
  const memberId = uuid7()
  await trx
    .insertInto('members')
    .columns(['workspace_id', 'id', 'email', 'email_key', 'display_name', 'status', 'role', 'origin'])
    .expression(
      trx
        .selectFrom('workspaces')
        .select(({ val }) => [
          'id',
          sql<string>`${memberId}::uuid`.as('member_id'),
          sql<string>`${email.text}::text`.as('email'),
          sql<string>`${email.key}::text`.as('email_key'),
          sql<string | null>`${person.displayName ?? null}::text`.as('display_name'),
          val('active').as('status'),
          'default_role',
          val('sso').as('origin'),
        ])
        .where('id', '=', workspaceId)
        // A change of the default waits for us, or we for it, and then read what it set.
        .forShare(),
    )
    .execute()
  await insertIdentity(trx, linking, { memberId, linkedBy: 'provisioned' })
  const { issuer, subject } = person
  const entryId = await recordActivity(trx, {
    ...memberEntry(linking, memberId),
    action: 'member.provisioned',
    detail: { issuer, subject, trust },
  })
  await openAccess(trx, linking, { memberId, entryId, statusBefore: null, roleBefore: null })
}

async function linkMember(
  trx: Trx,
  linking: Linking,
  { memberId, linkedBy, trust, openMembership }: LinkingDecision & { kind: 'link' },
): Promise<void> {
  const { issuer, subject } = linking.person
  await insertIdentity(trx, linking, { memberId, linkedBy })
  const entry = memberEntry(linking, memberId)
  await recordActivity(trx, { ...entry, action: 'identity.linked', detail: { issuer, subject, linkedBy, trust } })
  if (!openMembership) return
  const { role } = await trx
    .updateTable('members')
    .set({
      status: 'active',
      invitation_expires_at: null,
      display_name: sql`coalesce(display_name, ${linking.person.displayName ?? null}::text)`,
      version: sql`version + 1`,
      updated_at: sql`now()`,
      // The role of an invitation that has lapsed was never given.
      ...(openMembership === 'provisioning' && { manual_role: null, manual_policy: null }),
    })
    .where('workspace_id', '=', linking.loginConfig.workspaceId)
    .where('id', '=', memberId)
    .returning('role')
    .executeTakeFirstOrThrow()
  const action = openMembership === 'invitation' ? 'member.activated' : 'member.provisioned'
  const entryId = await recordActivity(trx, { ...entry, action, detail: { issuer, subject } })
  await openAccess(trx, linking, { memberId, entryId, statusBefore: 'invited', roleBefore: role })
}

function memberEntry({ loginConfig, requestId }: Linking, memberId: string) {
  const actor: Actor = { type: 'member', id: memberId, requestId }
  return { workspaceId: loginConfig.workspaceId, actor, memberId, target: { type: 'member', id: memberId } }
}

async function insertIdentity(
  trx: Trx,
  { person, loginConfig }: Linking,
  { memberId, linkedBy }: { memberId: string; linkedBy: 'email' | 'invitation' | 'directory' | 'provisioned' },
): Promise<void> {
  const { issuer, subject } = person
  const key = { workspace_id: loginConfig.workspaceId, issuer, subject }
  await trx
    .insertInto('identities')
    .values({ ...key, member_id: memberId, linked_by: linkedBy })
    .execute()
}

interface OpenedAccess {
  memberId: string
  entryId: number
  statusBefore: 'invited' | null
  roleBefore: string | null
}

/** The history of a membership that began, then what the member's sources give beyond it. */
async function openAccess(trx: Trx, { loginConfig, config }: Linking, opened: OpenedAccess): Promise<void> {
  const { workspaceId } = loginConfig
  const { memberId, entryId, statusBefore, roleBefore } = opened
  await recordAccessChange(trx, { workspaceId, memberId, entryId, statusBefore, roleBefore })
  await recomputeAccess(trx, { workspaceId, memberIds: [memberId], entryId, roles: config.roles })
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
