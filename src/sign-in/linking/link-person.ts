import { sql } from 'kysely'
import { recomputeAccess, recordAccessChange } from '../../access/derivation/access.ts'
import type { Actor } from '../../actor.ts'
import { recordActivity } from '../../activity/activity.ts'
import type { Config } from '../../config.ts'
import { isUniqueViolation, type Trx } from '../../db/database.ts'
import type { SignInConfig } from '../../sso/config/sso-config.ts'
import { uuid7 } from '../../uuid7.ts'
import { factsKey, lockFacts } from './linking-facts.ts'
import { decideLinking, linkingFacts } from './linking.ts'
import type { LinkedBy, LinkingDecision, LinkingRules, Person, Trust } from './linking.ts'

export interface Linking {
  person: Person
  signInConfig: SignInConfig
  config: Config
  requestId: string
}

/** How a person came to their member, for the entry. */
export interface Linked {
  trust: Trust | 'identity'
  /** Absent: they had their identity already. */
  linkedBy?: LinkedBy
}

/**
 * Gives a person their identity, and where they have none a membership.
 * @returns on what trust, for the entry
 */
export async function linkPerson(trx: Trx, linking: Linking): Promise<Linked> {
  const { person, signInConfig, config } = linking
  const { workspaceId } = signInConfig
  await lockPerson(trx, workspaceId, person)
  if (await isLinked(trx, workspaceId, person)) return { trust: 'identity' }
  const stored = await lockFacts(trx, factsKey(workspaceId, person))
  // Another tab may have linked the person while this one waited for the locks.
  if (stored.candidates.some(({ identities }) => identities.some(each => isIdentityOf(each, person)))) {
    return { trust: 'identity' }
  }
  const facts = linkingFacts(stored, signInConfig)
  const rules: LinkingRules = config
  const decision = decideLinking(person, facts, { config: signInConfig, rules })
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

async function createMember(
  trx: Trx,
  linking: Linking,
  { email, trust }: LinkingDecision & { kind: 'create' },
): Promise<void> {
  const { person, signInConfig } = linking
  const { workspaceId } = signInConfig
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
  { memberId, linkedBy, trust, openMembership, before }: LinkingDecision & { kind: 'link' },
): Promise<void> {
  const { issuer, subject } = linking.person
  await dropIdentity(trx, linking, memberId)
  await insertIdentity(trx, linking, { memberId, linkedBy })
  const entry = memberEntry(linking, memberId)
  const detail = { issuer, subject, linkedBy, trust }
  await (before.length === 0
    ? recordActivity(trx, { ...entry, action: 'identity.linked', detail })
    : recordActivity(trx, { ...entry, action: 'identity.relinked', detail: { ...detail, before } }))
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
    .where('workspace_id', '=', linking.signInConfig.workspaceId)
    .where('id', '=', memberId)
    .returning('role')
    .executeTakeFirstOrThrow()
  const action = openMembership === 'invitation' ? 'member.activated' : 'member.provisioned'
  const entryId = await recordActivity(trx, { ...entry, action, detail: { issuer, subject } })
  await openAccess(trx, linking, { memberId, entryId, statusBefore: 'invited', roleBefore: role })
}

function memberEntry({ signInConfig, requestId }: Linking, memberId: string) {
  const actor: Actor = { type: 'member', id: memberId, requestId }
  return { workspaceId: signInConfig.workspaceId, actor, memberId, target: { type: 'member', id: memberId } }
}

/** The subject that the issuer gave a member before, where a claim that never changes says that it is them. */
async function dropIdentity(trx: Trx, { person, signInConfig }: Linking, memberId: string): Promise<void> {
  await trx
    .deleteFrom('identities')
    .where('workspace_id', '=', signInConfig.workspaceId)
    .where('member_id', '=', memberId)
    .where('issuer', '=', person.issuer)
    .execute()
}

async function insertIdentity(
  trx: Trx,
  { person, signInConfig }: Linking,
  { memberId, linkedBy }: { memberId: string; linkedBy: LinkedBy },
): Promise<void> {
  const { issuer, subject, stableId } = person
  const key = { workspace_id: signInConfig.workspaceId, issuer, subject }
  await trx
    .insertInto('identities')
    .values({ ...key, member_id: memberId, linked_by: linkedBy, stable_id: stableId ?? null })
    .execute()
}

interface OpenedAccess {
  memberId: string
  entryId: number
  statusBefore: 'invited' | null
  roleBefore: string | null
}

/** The history of a membership that began, then what the member's sources give beyond it. */
async function openAccess(trx: Trx, { signInConfig, config }: Linking, opened: OpenedAccess): Promise<void> {
  const { workspaceId } = signInConfig
  const { memberId, entryId, statusBefore, roleBefore } = opened
  await recordAccessChange(trx, { workspaceId, memberId, entryId, statusBefore, roleBefore })
  await recomputeAccess(trx, { workspaceId, memberIds: [memberId], entryId, roles: config.roles })
}

/** Whether somebody else (an invitation, a directory, another tab) has made the same member or identity meanwhile. */
export function isLostRace(error: unknown): boolean {
  return ['members_email', 'identities_pkey', 'identities_member'].some(index => isUniqueViolation(error, index))
}

function isIdentityOf({ issuer, subject }: { issuer: string; subject: string }, person: Person): boolean {
  return issuer === person.issuer && subject === person.subject
}
