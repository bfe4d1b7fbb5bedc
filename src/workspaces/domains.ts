import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import { isUniqueViolation, type Db, type Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { isEnforcedNow } from './workspaces.ts'

/** An e-mail domain of a workspace: its own as soon as it is verified, claimed before. */
export interface Domain {
  domain: string
  verifiedAt: string | null
  verifiedBy: 'operator' | 'dns' | null
  /** The record to publish; null where the operator has vouched for the domain without one. */
  proof: DomainProof | null
  /** When DNS was last asked for it. */
  checkedAt: string | null
  /** Since when the record of a verified domain has been gone. */
  missingSince: string | null
  createdAt: string
}

/** A DNS record that only whoever controls the domain can publish. */
export interface DomainProof {
  type: 'TXT'
  name: string
  value: string
}

/** A name of its own, so that the record is in nobody's way and says what it is for. */
export function proofOf(domain: string, challenge: string): DomainProof {
  return { type: 'TXT', name: `_assist-challenge.${domain}`, value: `assist-domain-verification=${challenge}` }
}

export interface DomainKey {
  workspaceId: string
  /** In lower-case ASCII, as parseDomain gives it. */
  domain: string
}

const columns = [
  'domain',
  'verified_at as verifiedAt',
  'verified_by as verifiedBy',
  'challenge',
  'checked_at as checkedAt',
  'missing_since as missingSince',
  'created_at as createdAt',
] as const

interface DomainRow extends Omit<Domain, 'proof'> {
  challenge: string | null
}

function toDomain({ challenge, ...row }: DomainRow): Domain {
  return { ...row, proof: challenge === null ? null : proofOf(row.domain, challenge) }
}

/** All domains of a workspace, in the order of their names; they are few (domain-proof.ts). */
export async function listDomains(db: Db, workspaceId: string): Promise<Domain[]> {
  const rows = await db
    .selectFrom('domains')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .orderBy('domain')
    .execute()
  return rows.map(toDomain)
}

/** @throws {AppError} `not_found` */
export async function getDomain(db: Db, { workspaceId, domain }: DomainKey): Promise<Domain> {
  const row = await db
    .selectFrom('domains')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .where('domain', '=', domain)
    .executeTakeFirstOrThrow(() => new AppError('not_found', `The domain ${domain} is not on this workspace's list.`))
  return toDomain(row)
}

/**
 * Takes the operator's word that a domain is the workspace's. Approving it again changes and records nothing.
 * @throws {AppError} `domain_taken` where it belongs to another workspace
 */
export async function approveDomain(trx: Trx, { workspaceId, domain }: DomainKey, actor: Actor): Promise<Domain> {
  const now = new Date().toISOString()
  const approved = await trx
    .insertInto('domains')
    .values({ workspace_id: workspaceId, domain, verified_at: now, verified_by: 'operator' })
    .onConflict(conflict =>
      conflict
        .columns(['workspace_id', 'domain'])
        .doUpdateSet({ verified_at: now, verified_by: 'operator' })
        .where('domains.verified_at', 'is', null),
    )
    .returning(columns)
    .executeTakeFirst()
    .catch((error: unknown) => {
      throw isUniqueViolation(error, 'domains_verified_once') ? domainTaken(domain) : error
    })
  if (!approved) return getDomain(trx, { workspaceId, domain })
  const target = { type: 'domain', id: domain }
  await recordActivity(trx, { workspaceId, action: 'domain.approved', actor, target })
  return toDomain(approved)
}

export function domainTaken(domain: string): AppError {
  return new AppError(
    'domain_taken',
    `The domain ${domain} belongs to another workspace. If it has changed hands, its record has to go there first, or ` +
      'the operator of this service has to remove it.',
  )
}

/**
 * Takes a domain off the workspace's list. Admins take back what they claimed; what the operator has vouched for is the
 * operator's to take.
 * @throws {AppError} `not_found`, `forbidden`; `sso_enforced` for a proved one on which everybody's sign-in may rest
 */
export async function removeDomain(trx: Trx, key: DomainKey, actor: Actor): Promise<void> {
  const { workspaceId, domain } = key
  const { verifiedBy } = await getDomain(trx, key)
  if (verifiedBy === 'operator' && actor.type !== 'service') {
    throw new AppError('forbidden', `The operator of this service has vouched for ${domain}, and only they remove it.`)
  }
  if (verifiedBy !== null && actor.type !== 'service' && (await isEnforcedNow(trx, workspaceId))) {
    throw new AppError('sso_enforced', `SSO is enforced: ${domain} stays until the enforcement is lifted.`)
  }
  await trx.deleteFrom('domains').where('workspace_id', '=', workspaceId).where('domain', '=', domain).execute()
  const target = { type: 'domain', id: domain }
  await recordActivity(trx, { workspaceId, action: 'domain.removed', actor, target })
}

/** Those of the domains that another workspace has proved to be its own. */
export async function findForeignDomains(db: Db, workspaceId: string, domains: string[]): Promise<string[]> {
  if (domains.length === 0) return []
  const rows = await db
    .selectFrom('domains')
    .select('domain')
    .where('domain', 'in', domains)
    .where('verified_at', 'is not', null)
    .where('workspace_id', '<>', workspaceId)
    .execute()
  return rows.map(row => row.domain)
}
