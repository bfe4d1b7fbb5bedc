import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import { isUniqueViolation, type Db, type Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'

/** An e-mail domain that belongs to a workspace. */
export interface Domain {
  domain: string
  verifiedAt: string | null
  verifiedBy: 'operator' | 'dns' | null
}

export interface DomainKey {
  workspaceId: string
  /** In lower-case ASCII, as parseDomain gives it. */
  domain: string
}

const columns = ['domain', 'verified_at as verifiedAt', 'verified_by as verifiedBy'] as const

/** All domains of a workspace, in the order of their names; an operator approves each by hand, so they are few. */
export async function listDomains(db: Db, workspaceId: string): Promise<Domain[]> {
  return db.selectFrom('domains').select(columns).where('workspace_id', '=', workspaceId).orderBy('domain').execute()
}

/** @throws {AppError} `not_found` */
export async function getDomain(db: Db, { workspaceId, domain }: DomainKey): Promise<Domain> {
  return db
    .selectFrom('domains')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .where('domain', '=', domain)
    .executeTakeFirstOrThrow(() => new AppError('not_found', `The domain ${domain} does not belong to this workspace.`))
}

/**
 * Takes the operator's word that a domain is the workspace's. Approving it again changes and records nothing.
 * @throws {AppError} `conflict` where it belongs to another workspace
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
      if (!isUniqueViolation(error, 'domains_verified_once')) throw error
      throw new AppError(
        'conflict',
        `The domain ${domain} belongs to another workspace. Remove it there first, if it has changed hands.`,
      )
    })
  if (!approved) return getDomain(trx, { workspaceId, domain })
  const target = { type: 'domain', id: domain }
  await recordActivity(trx, { workspaceId, action: 'domain.approved', actor, target })
  return approved
}

/** @throws {AppError} `not_found` */
export async function removeDomain(trx: Trx, { workspaceId, domain }: DomainKey, actor: Actor): Promise<void> {
  const { numDeletedRows } = await trx
    .deleteFrom('domains')
    .where('workspace_id', '=', workspaceId)
    .where('domain', '=', domain)
    .executeTakeFirst()
  if (numDeletedRows === 0n) {
    throw new AppError('not_found', `The domain ${domain} does not belong to this workspace.`)
  }
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
