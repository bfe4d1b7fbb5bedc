import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import { isUniqueViolation, type Db, type Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { domainTaken, getDomain, proofOf, type Domain, type DomainKey, type DomainProof } from './domains.ts'
import type { ResolveTxt } from './txt-records.ts'

/** Domains that a workspace can have on its list, proved or not: each is looked up in DNS, again and again. */
const maxDomains = 200

/**
 * Puts a domain on the workspace's list, with the record to publish. It counts for nothing until it is proved, and nobody
 * is told whether another workspace has it. Claiming it again changes nothing, and answers with the same record.
 * @throws {AppError} `conflict` where the list is full
 */
export async function claimDomain(trx: Trx, key: DomainKey, actor: Actor): Promise<Domain> {
  const { workspaceId, domain } = key
  const { count } = await trx
    .selectFrom('domains')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('workspace_id', '=', workspaceId)
    .where('domain', '<>', domain)
    .executeTakeFirstOrThrow()
  if (count >= maxDomains) {
    throw new AppError('conflict', `A workspace can have ${maxDomains} domains. Remove one that is not needed.`)
  }
  const challenge = randomBytes(24).toString('base64url')
  const claimed = await trx
    .insertInto('domains')
    .values({ workspace_id: workspaceId, domain, challenge })
    .onConflict(conflict =>
      conflict.columns(['workspace_id', 'domain']).doUpdateSet({ challenge }).where('domains.challenge', 'is', null),
    )
    .returning('created_at')
    .executeTakeFirst()
  if (claimed) {
    await recordActivity(trx, { workspaceId, action: 'domain.claimed', actor, target: { type: 'domain', id: domain } })
  }
  return getDomain(trx, key)
}

interface DomainProofOptions {
  db: Db
  resolveTxt: ResolveTxt
}

/**
 * Looks for the record now. A domain that is proved already stays so: only the re-check takes a proof away.
 * @throws {AppError} `not_found`; `domain_not_proven`, saying what was found instead; `domain_dns_failed` where DNS has no
 *   answer; `domain_taken` where another workspace has proved it
 */
export async function verifyDomain(
  { db, resolveTxt }: DomainProofOptions,
  key: DomainKey,
  actor: Actor,
): Promise<Domain> {
  const { workspaceId, domain } = key
  const { proof } = await getDomain(db, key)
  if (!proof) {
    throw new AppError('not_found', `${domain} was approved without a record. Claim it first (POST …/domains).`)
  }
  const found = await resolveTxt(proof.name).catch((error: unknown) => {
    throw new AppError('domain_dns_failed', `DNS gave no answer for ${proof.name}. Try again in a few minutes.`, {
      detail: { name: proof.name, systemCode: (error as NodeJS.ErrnoException).code },
    })
  })
  if (!isProven(proof, found)) throw notProven(proof, found)
  return db.transaction().execute(async trx => {
    const verified = await trx
      .updateTable('domains')
      .set({ verified_at: sql`now()`, verified_by: 'dns', checked_at: sql`now()` })
      .where('workspace_id', '=', workspaceId)
      .where('domain', '=', domain)
      .where('verified_at', 'is', null)
      .executeTakeFirst()
      .catch((error: unknown) => {
        throw isUniqueViolation(error, 'domains_verified_once') ? domainTaken(domain) : error
      })
    if (verified.numUpdatedRows > 0n) {
      const target = { type: 'domain', id: domain }
      await recordActivity(trx, { workspaceId, action: 'domain.verified', actor, target, detail: { by: 'dns' } })
    }
    return getDomain(trx, key)
  })
}

/** DNS consoles keep blanks and quotation marks that were copied along: the value is there all the same. */
function isProven({ value }: DomainProof, found: string[]): boolean {
  return found.some(text => text.replaceAll(/^[\s"]+|[\s"]+$/g, '') === value)
}

/** The records are public, and seeing them is how a mistyped one is found. */
function notProven({ name, value }: { name: string; value: string }, found: string[]): AppError {
  const shown = found.slice(0, 3).map(text => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text))
  const instead =
    found.length === 0 ? 'there is none' : `there ${found.length === 1 ? 'is' : 'are'} ${shown.join(', ')}`
  return new AppError(
    'domain_not_proven',
    `The name ${name} needs a TXT record with the value ${value}; ${instead}. New records can take an hour to be seen.`,
  )
}

export interface RecheckOptions extends DomainProofOptions {
  /** How often each proof is looked at. */
  recheckHours: number
  /** How long a record may be gone before the proof is. In this time it is looked for every hour. */
  graceHours: number
}

interface Recheck extends DomainKey {
  challenge: string
  missingSince: string | null
  isOver: boolean
}

/** Names that are looked up at a time. */
const batch = 20

/**
 * Looks at the proofs that were not looked at for longest. Where DNS has no answer nothing changes; a record that is gone is
 * told at once, and takes the domain with it when it stays away. Several replicas may do it at once: each takes its own.
 * @returns how many were looked at
 */
export async function recheckDomains({ db, resolveTxt, recheckHours, graceHours }: RecheckOptions): Promise<number> {
  const { rows } = await sql<Recheck>`
    UPDATE domains d SET checked_at = now()
      FROM (SELECT workspace_id, domain FROM domains
             WHERE verified_by = 'dns' AND checked_at < now() - interval '1 hour'
               AND (missing_since IS NOT NULL OR checked_at < now() - ${recheckHours}::int * interval '1 hour')
             ORDER BY checked_at LIMIT ${batch} FOR UPDATE SKIP LOCKED) due
     WHERE d.workspace_id = due.workspace_id AND d.domain = due.domain
    RETURNING d.workspace_id AS "workspaceId", d.domain, d.challenge, d.missing_since AS "missingSince",
              coalesce(d.missing_since <= now() - ${graceHours}::int * interval '1 hour', false) AS "isOver"`.execute(
    db,
  )
  await Promise.all(
    rows.map(async recheck => {
      const proof = proofOf(recheck.domain, recheck.challenge)
      const found = await resolveTxt(proof.name).catch(() => undefined)
      if (found) await noteRecheck(db, { ...recheck, isThere: isProven(proof, found), graceHours })
    }),
  )
  return rows.length
}

async function noteRecheck(db: Db, recheck: Recheck & { isThere: boolean; graceHours: number }): Promise<void> {
  const { workspaceId, domain, isThere, missingSince, isOver, graceHours } = recheck
  const [action, change] = isThere
    ? (['domain.proof_found', { missing_since: null }] as const)
    : isOver
      ? (['domain.proof_lost', { missing_since: null, verified_at: null, verified_by: null }] as const)
      : (['domain.proof_missing', { missing_since: sql<string>`now()` }] as const)
  const isNews = isThere ? missingSince !== null : isOver || missingSince === null
  if (!isNews) return
  await db.transaction().execute(async trx => {
    const changed = await trx
      .updateTable('domains')
      .set(change)
      .where('workspace_id', '=', workspaceId)
      .where('domain', '=', domain)
      .where('verified_by', '=', 'dns')
      .where('challenge', '=', recheck.challenge)
      .executeTakeFirst()
    if (changed.numUpdatedRows === 0n) return
    await recordActivity(trx, {
      workspaceId,
      action,
      actor: { type: 'system', id: 'domains' },
      target: { type: 'domain', id: domain },
      ...(action === 'domain.proof_missing' && { detail: { lostAfterHours: graceHours } }),
    })
  })
}
