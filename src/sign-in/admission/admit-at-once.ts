import { sql, type RawBuilder } from 'kysely'
import { accessHistoryOfNew } from '../../access/derivation/access.ts'
import { statusHistory } from '../../access/derivation/end-access.ts'
import { isAbove } from '../../access/derivation/roles.ts'
import { insertEntrySql } from '../../activity/activity.ts'
import { retryDeadlocks, type Db } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import { AppError } from '../../errors.ts'
import { uuid7 } from '../../uuid7.ts'
import { isLostRace, type Linking } from '../linking/link-person.ts'
import { factsSql, findFacts } from '../linking/linking-facts.ts'
import { decideLinking, linkingFacts } from '../linking/linking.ts'
import type { Candidate, LinkedBy, LinkingDecision, StoredFacts, Trust } from '../linking/linking.ts'
import { findLimit } from '../linking/linkable-role.ts'
import { sessionCtes, type SessionValues } from '../session/start-session.ts'

/**
 * Ordinary first sign-ins, each in one statement: somebody new, an invitation accepted, a member who is linked to nobody yet.
 *
 * The decision is made by facts that nobody has locked. So the statement reads them once more and writes nothing unless they
 * are the same, and nothing where somebody else holds the row that it stands on: they may be about to change it. What
 * happens between reading and locking the row shows in its version; what somebody else inserts meanwhile, in a unique index
 * (save a link at another issuer in that very instant, of a workspace that changes its provider: both vouch for the person).
 * In each of these cases, and in all that are not ordinary, the transaction of link-person.ts decides, which waits.
 *
 * Nothing is derived anew: nobody new has been given anything but the default role, and of a member who comes in the
 * status is no source of access (access/derivation/derive.ts).
 */

interface AdmissionValues extends SessionValues {
  memberId: string
  displayName: string | null
  linkedBy: string
  /** As JSON: what the decision was made by. */
  facts: string
}

const areFacts = (p: Params<AdmissionValues>): RawBuilder<boolean> => sql`(${factsSql(p)}) = ${p.facts}::jsonb`

/** The identity of `person`, as the body of a CTE. */
function identitySql(p: Params<AdmissionValues>): RawBuilder<unknown> {
  return sql`
    INSERT INTO identities (workspace_id, issuer, subject, member_id, linked_by, stable_id, last_sign_in_at)
    SELECT ${p.workspaceId}::uuid, ${p.issuer}::text, ${p.subject}::text, id, ${p.linkedBy}::text, ${p.stableId}::text, now()
      FROM person`
}

/** An entry of `person` about themselves, as the body of a CTE. */
function entrySql(
  p: Params<AdmissionValues>,
  { action, detail, from }: { action: RawBuilder<string>; detail: RawBuilder<string>; from: RawBuilder<unknown> },
): RawBuilder<unknown> {
  return insertEntrySql({
    workspaceId: sql`${p.workspaceId}::uuid`,
    action,
    actorType: sql`'member'`,
    actorId: sql`person.id::text`,
    requestId: sql`${p.requestId}::text`,
    memberId: sql`person.id`,
    targetType: sql`'member'`,
    targetId: sql`person.id::text`,
    detail: sql`${detail}::jsonb`,
    from,
  })
}

interface ProvisionValues extends AdmissionValues {
  email: string
  provisionedDetail: string
  /** The roles that may simply be given: those of the configuration, up to the limit of the settings. */
  roles: readonly string[]
}

const provision = prepared<ProvisionValues, { id: string }>(
  'sign_in_provision',
  p => sql`
    WITH workspace AS MATERIALIZED (
      SELECT id, default_role FROM workspaces
       WHERE id = ${p.workspaceId}::uuid AND default_role = ANY (${p.roles}::text[]) AND ${areFacts(p)}
         -- A change of the default waits for us.
         FOR SHARE SKIP LOCKED
    ), person AS (
      INSERT INTO members (workspace_id, id, email, email_key, display_name, status, role, origin)
      SELECT id, ${p.memberId}::uuid, ${p.email}::text, ${p.emailKey}::text, ${p.displayName}::text, 'active', default_role, 'sso'
        FROM workspace
      RETURNING workspace_id, id, status, role
    ), identity AS (${identitySql(p)}),
    entry AS (${entrySql(p, { action: sql`'member.provisioned'`, detail: p.provisionedDetail, from: sql`person` })}),
    history AS (${accessHistoryOfNew(sql`person`)}),
    ${sessionCtes(p, sql` CROSS JOIN entry`)}
    SELECT id FROM person`,
)

interface LinkValues extends AdmissionValues {
  version: number
  status: string
  linkedDetail: string
  openedDetail: string
}

/** Links a member who is active, or whose invitation is open, which makes it a membership. */
const link = prepared<LinkValues, { id: string }>(
  'sign_in_link',
  p => sql`
    WITH candidate AS MATERIALIZED (
      SELECT id, status FROM members
       WHERE workspace_id = ${p.workspaceId}::uuid AND id = ${p.memberId}::uuid AND version = ${p.version}::int
         AND status = ${p.status}::text AND ${areFacts(p)}
         FOR UPDATE SKIP LOCKED
    ), opened AS (
      UPDATE members m
         SET status = 'active', invitation_expires_at = NULL, display_name = coalesce(m.display_name, ${p.displayName}::text),
             version = m.version + 1, updated_at = now()
       WHERE m.workspace_id = ${p.workspaceId}::uuid AND m.id = ${p.memberId}::uuid
         AND EXISTS (SELECT FROM candidate WHERE status = 'invited')
      RETURNING m.id AS member_id, 'invited' AS status_before, m.status, m.role, m.rules, m.manual_role, m.manual_policy
    ), person AS (
      SELECT id, status FROM candidate WHERE status = 'active' UNION ALL SELECT member_id, status FROM opened
    ), identity AS (${identitySql(p)}),
    linked AS (${entrySql(p, { action: sql`'identity.linked'`, detail: p.linkedDetail, from: sql`person` })}),
    entry AS (${entrySql(p, {
      action: sql`'member.activated'`,
      detail: p.openedDetail,
      from: sql`opened JOIN person ON person.id = opened.member_id CROSS JOIN linked`,
    })}),
    history AS (${statusHistory(sql`${p.workspaceId}::uuid`, sql`opened`)}),
    told AS MATERIALIZED (SELECT max(id) FROM (SELECT id FROM linked UNION ALL SELECT id FROM entry) each),
    ${sessionCtes(p, sql` CROSS JOIN told`)}
    SELECT id FROM person`,
)

/**
 * Lets a person in who has no identity yet, where that is an ordinary matter.
 * @returns whether they are in; if not, nothing was written
 */
export async function admitAtOnce(db: Db, linking: Linking, values: SessionValues): Promise<boolean> {
  const facts = await findFacts(db, values)
  const decision = decide(linking, facts)
  if (!decision) return false
  const admission = { linking, facts, values }
  const admit = () =>
    decision.kind === 'create' ? provisionPerson(db, admission, decision) : linkMember(db, admission, decision)
  const rows = await retryDeadlocks(admit).catch((error: unknown) => {
    if (!isLostRace(error)) throw error
    return []
  })
  return rows.length > 0
}

/** Refusals are the transaction's as well: it may wait for what changes them. */
function decide({ person, signInConfig, config }: Linking, facts: StoredFacts): LinkingDecision | undefined {
  try {
    return decideLinking(person, linkingFacts(facts, signInConfig), { config: signInConfig, rules: config })
  } catch (error) {
    if (error instanceof AppError) return undefined
    throw error
  }
}

interface Admission {
  linking: Linking
  facts: StoredFacts
  values: SessionValues
}

function admissionValues(
  { linking: { person }, facts, values }: Admission,
  { linkedBy, trust }: { linkedBy: LinkedBy; trust: Trust },
): Omit<AdmissionValues, 'memberId'> {
  const { issuer, subject, displayName = null } = person
  const detail = JSON.stringify({ issuer, subject, trust, linkedBy })
  return { ...values, detail, displayName, linkedBy, facts: JSON.stringify(facts) }
}

async function provisionPerson(
  db: Db,
  admission: Admission,
  { email, trust }: LinkingDecision & { kind: 'create' },
): Promise<{ id: string }[]> {
  const {
    person: { issuer, subject },
    signInConfig: { maxLinkableRole },
    config: { roles },
  } = admission.linking
  return provision(db, {
    ...admissionValues(admission, { linkedBy: 'provisioned', trust }),
    memberId: uuid7(),
    email: email.text,
    provisionedDetail: JSON.stringify({ issuer, subject, trust }),
    roles: roles.filter(role => !isAbove(roles, role, maxLinkableRole)),
  })
}

async function linkMember(
  db: Db,
  admission: Admission,
  decision: LinkingDecision & { kind: 'link' },
): Promise<{ id: string }[]> {
  const { memberId, linkedBy, trust } = decision
  const member = admission.facts.candidates.find(each => each.memberId === memberId)
  if (!member || !isOrdinary(member, decision, admission.linking)) return []
  const { issuer, subject } = admission.linking.person
  return link(db, {
    ...admissionValues(admission, { linkedBy, trust }),
    memberId,
    version: member.version,
    status: member.status,
    linkedDetail: JSON.stringify({ issuer, subject, linkedBy, trust }),
    openedDetail: JSON.stringify({ issuer, subject }),
  })
}

/** No owners, nobody who is linked already, no invitation that has lapsed, no role above a limit or that is none any more. */
function isOrdinary(
  member: Candidate,
  { before, openMembership }: LinkingDecision & { kind: 'link' },
  { signInConfig: { maxLinkableRole }, config: { roles } }: Linking,
): boolean {
  if (member.role === 'owner' || before.length > 0 || openMembership === 'provisioning') return false
  if (!roles.includes(member.role)) return false
  return findLimit(member, { roles, maxLinkableRole }) === undefined
}
