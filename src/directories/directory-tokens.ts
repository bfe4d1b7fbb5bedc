import { sql } from 'kysely'
import { checkOutranked, roleLimitOf } from '../access/derivation/roles.ts'
import type { Actor } from '../actor.ts'
import { recordActivity } from '../activity/activity.ts'
import type { Db, Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { makeOpaqueToken } from '../opaque-token.ts'
import { toPage, type Page } from '../page.ts'
import { uuid7 } from '../uuid7.ts'
import { getDirectory, noDirectory, type DirectoryKey, type DirectoryPage } from './directories.ts'

/** A directory token as an admin sees it after the one time that it was shown. */
export interface DirectoryToken {
  id: string
  /** Its last four characters, to tell it from the other. */
  hint: string
  status: 'live' | 'expired' | 'revoked'
  createdAt: string
  expiresAt: string | null
  lastUsedAt: string | null
}

/** So that a new token can be entered at the identity provider while the old one still works. */
const liveAtOnce = 2

const isLive = sql<boolean>`(revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))`

const columns = [
  'id',
  'hint',
  'created_at as createdAt',
  'expires_at as expiresAt',
  'last_used_at as lastUsedAt',
  sql<DirectoryToken['status']>`
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'live' END`.as(
    'status',
  ),
] as const

/** The tokens of a directory, oldest first, the ended ones too. @throws {AppError} `not_found` */
export async function listTokens(
  db: Db,
  { workspaceId, directoryId, limit, after }: DirectoryPage & DirectoryKey,
): Promise<Page<DirectoryToken>> {
  await getDirectory(db, { workspaceId, directoryId })
  let query = db
    .selectFrom('directory_credentials')
    .select(columns)
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .orderBy('id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

export interface NewToken extends DirectoryKey {
  /** Days until it ends by itself; absent: it does not. */
  expiresInDays?: number | undefined
  actor: Actor
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
}

/**
 * Makes a token. Only its hash is kept: what is returned here is shown once. Whoever has it decides who is in which group and
 * has which address: so nobody makes one of a directory that gives a role above their own, and the directory's users are
 * linked to nobody above them until an owner has saved it.
 * @throws {AppError} `not_found`; `role_above_own`; `token_limit` where two are live already
 */
export async function createToken(trx: Trx, input: NewToken): Promise<DirectoryToken & { token: string }> {
  const { workspaceId, directoryId, expiresInDays, actor } = input
  // Two admins who make tokens at once wait for each other here; SCIM requests do not.
  const carried = await trx
    .selectFrom('directories')
    .select(['enabled', 'is_guarded', 'nests_groups'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .forNoKeyUpdate()
    .executeTakeFirstOrThrow(noDirectory)
  const maxLinkableRole = await limitReach(trx, input)
  const live = await trx
    .selectFrom('directory_credentials')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .where(isLive)
    .execute()
  if (live.length >= liveAtOnce) {
    throw new AppError(
      'token_limit',
      'Two tokens of this directory are live already. Revoke the one that the identity provider no longer uses.',
    )
  }
  const { token, hash } = makeOpaqueToken('scim', workspaceId)
  const created = await trx
    .insertInto('directory_credentials')
    .values({
      workspace_id: workspaceId,
      directory_id: directoryId,
      id: uuid7(),
      ...carried,
      token_hash: hash,
      hint: token.slice(-4),
      expires_at: expiresInDays === undefined ? null : sql`now() + ${expiresInDays}::int * interval '1 day'`,
    })
    .returning(columns)
    .executeTakeFirstOrThrow()
  await recordActivity(trx, {
    workspaceId,
    action: 'directory_token.created',
    actor,
    target: { type: 'directory', id: directoryId },
    detail: {
      tokenId: created.id,
      expiresAt: created.expiresAt,
      ...(maxLinkableRole !== undefined && { maxLinkableRole }),
    },
  })
  return { ...created, token }
}

/** @returns the limit, where the directory has a lower one now */
async function limitReach(trx: Trx, { workspaceId, directoryId, actor, roles }: NewToken): Promise<string | undefined> {
  const limit = roleLimitOf(roles, actor)
  if (limit === null) return undefined
  const mappings = await trx
    .selectFrom('group_mappings')
    .select('role')
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .where('role', 'is not', null)
    .execute()
  for (const { role } of mappings) checkOutranked(roles, role ?? '', actor)
  const above = roles.slice(roles.indexOf(limit) + 1)
  const lowered = await trx
    .updateTable('directories')
    .set({ max_linkable_role: limit })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', directoryId)
    .where(({ eb, or }) => or([eb('max_linkable_role', 'is', null), eb('max_linkable_role', 'in', above)]))
    .executeTakeFirst()
  return lowered.numUpdatedRows > 0n ? limit : undefined
}

/**
 * Ends a token: its next request is refused on every replica. Revoking one again changes and records nothing.
 * @throws {AppError} `not_found`
 */
export async function revokeToken(
  trx: Trx,
  { workspaceId, directoryId, tokenId, actor }: DirectoryKey & { tokenId: string; actor: Actor },
): Promise<void> {
  const token = await trx
    .selectFrom('directory_credentials')
    .select('revoked_at')
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .where('id', '=', tokenId)
    .forUpdate()
    .executeTakeFirstOrThrow(() => new AppError('not_found', 'There is no such token of this directory.'))
  if (token.revoked_at !== null) return
  await trx
    .updateTable('directory_credentials')
    .set({ revoked_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('directory_id', '=', directoryId)
    .where('id', '=', tokenId)
    .execute()
  const target = { type: 'directory', id: directoryId }
  await recordActivity(trx, { workspaceId, action: 'directory_token.revoked', actor, target, detail: { tokenId } })
}
