import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Db, Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { sha256 } from '../opaque-token.ts'
import { getActingMember } from './acting-member.ts'

const codesAtOnce = 10

/** Crockford's base 32: no letter that looks like a digit. 20 of them are 100 random bits, which need no slow hash. */
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

function makeCode(): string {
  const letters = Array.from(randomBytes(20), byte => alphabet[byte % 32])
  return letters.join('').replaceAll(/(.{5})(?!$)/g, '$1-')
}

/** The hash of a code as somebody has typed it: in any case, with or without dashes (also those that a text
 * program makes of them), with letters taken for digits. */
export function hashRecoveryCode(text: string): Buffer {
  const plain = text
    .toUpperCase()
    .replaceAll(/[\s\p{Pd}\p{Cf}]/gu, '')
    .replaceAll('O', '0')
    .replaceAll(/[IL]/g, '1')
  return sha256(`recovery/${plain}`)
}

export interface RecoveryCodesStatus {
  /** Of the caller. */
  unused: number
  createdAt: string | null
}

/**
 * Makes new codes for the calling owner, in place of the ones before, used or not. They are shown once.
 * @throws {AppError} `admin_not_member`; `forbidden` unless an owner
 */
export async function createRecoveryCodes(
  db: Db,
  { workspaceId, actor, roles }: { workspaceId: string; actor: Actor; roles: readonly string[] },
): Promise<string[]> {
  const { memberId, role } = await getActingMember(db, { workspaceId, actor })
  if (role !== roles.at(-1)) throw new AppError('forbidden', 'Recovery codes are for owners.')
  if (actor.recovery)
    throw new AppError('recovery_limited', 'A recovery session makes no further codes. Sign in by SSO.')
  const codes = Array.from({ length: codesAtOnce }, makeCode)
  await db.transaction().execute(async trx => {
    await deleteCodes(trx, { workspaceId, memberId })
    await trx
      .insertInto('recovery_codes')
      .values(
        codes.map(code => ({ workspace_id: workspaceId, member_id: memberId, code_hash: hashRecoveryCode(code) })),
      )
      .execute()
    const target = { type: 'member', id: memberId }
    await recordActivity(trx, { workspaceId, action: 'recovery_codes.created', actor, memberId, target })
  })
  return codes
}

async function deleteCodes(
  trx: Trx,
  { workspaceId, memberId }: { workspaceId: string; memberId: string },
): Promise<void> {
  await trx
    .deleteFrom('recovery_codes')
    .where('workspace_id', '=', workspaceId)
    .where('member_id', '=', memberId)
    .execute()
}

/** How many codes the caller has left. @throws {AppError} `admin_not_member` */
export async function getRecoveryCodesStatus(
  db: Db,
  caller: { workspaceId: string; actor: Actor },
): Promise<RecoveryCodesStatus> {
  const { workspaceId } = caller
  const { memberId } = await getActingMember(db, caller)
  return db
    .selectFrom('recovery_codes as c')
    .select(({ fn }) => [
      sql<number>`count(*) FILTER (WHERE ${isUsableCode})::int`.as('unused'),
      fn.max('created_at').as('createdAt'),
    ])
    .where('workspace_id', '=', workspaceId)
    .where('member_id', '=', memberId)
    .executeTakeFirstOrThrow()
}

/**
 * Whether a code `c` of an active owner still works: used by nobody, and made since they were last deactivated. Whoever
 * comes back makes new ones.
 */
export const isUsableCode = sql<boolean>`
  c.used_at IS NULL AND NOT EXISTS (
    SELECT FROM access_changes h
     WHERE h.workspace_id = c.workspace_id AND h.member_id = c.member_id AND h.status_after = 'deactivated'
       AND h.at >= c.created_at)`

/** Active owners who hold a code that still works. */
export async function countRecoverableOwners(db: Db, workspaceId: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    SELECT count(DISTINCT m.id)::int AS count
      FROM recovery_codes c JOIN members m ON m.workspace_id = c.workspace_id AND m.id = c.member_id
     WHERE c.workspace_id = ${workspaceId} AND ${isUsableCode} AND m.status = 'active' AND m.role = 'owner'`.execute(db)
  return rows[0]?.count ?? 0
}
