import { sql } from 'kysely'
import type { Actor } from '../../actor.ts'
import { insertEntrySql, recordActivity } from '../../activity/activity.ts'
import type { Db, Trx } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { makeClientKey, type ClientKey } from '../../oidc/client-key.ts'
import { uuid7 } from '../../uuid7.ts'
import { isEnforcedNow } from '../../workspaces/workspaces.ts'
import type { SecretBox } from '../../secret-box.ts'
import { credentialContext, getSsoConfig, openUsable } from '../config/sso-config.ts'
import type { TokenAuthMethod, UsableCredential } from '../config/sso-config.ts'

/** What proves to the provider who we are, as an admin sees it: never the secret or private key itself. */
export interface ClientCredential {
  id: string
  kind: 'secret' | 'key'
  /** Of a key: its name in the published set. */
  keyId: string | null
  /** When the provider stops taking it, as the admin says. */
  expiresAt: string | null
  /** When the provider first took it. */
  acceptedAt: string | null
  /** Since when the provider refuses it. */
  refusedAt: string | null
  /** SEAL_KEYS has the key that sealed it. */
  isReadable: boolean
  createdAt: string
}

/** The live credentials of a workspace, in the order in which they are tried: at most two of each kind. */
export async function listCredentials(db: Db, box: SecretBox, workspaceId: string): Promise<ClientCredential[]> {
  const { rows } = await sql<Omit<ClientCredential, 'isReadable'> & { sealed: Buffer }>`
    SELECT id, sealed, CASE WHEN public_jwk IS NULL THEN 'secret' ELSE 'key' END AS kind, public_jwk ->> 'kid' AS "keyId",
           expires_at AS "expiresAt", accepted_at AS "acceptedAt", refused_at AS "refusedAt", created_at AS "createdAt"
      FROM sso_client_credentials WHERE workspace_id = ${workspaceId} ORDER BY id DESC`.execute(db)
  return rows.map(({ sealed, ...row }) => {
    return { ...row, isReadable: box.find(sealed, credentialContext(workspaceId, row.id)) !== undefined }
  })
}

/** The public halves of a workspace's keys, as its provider fetches them: none where it has no keys, or does not exist. */
export async function listPublicKeys(db: Db, workspaceId: string): Promise<Record<string, unknown>[]> {
  const rows = await db
    .selectFrom('sso_client_credentials')
    .select('public_jwk')
    .where('workspace_id', '=', workspaceId)
    .where('public_jwk', 'is not', null)
    .orderBy('id', 'desc')
    .execute()
  return rows.map(row => row.public_jwk as Record<string, unknown>)
}

export interface NewSecret {
  workspaceId: string
  box: SecretBox
  secret: string
  expiresAt?: string | null | undefined
}

/** Seals and stores a new secret, to be tried first. @returns its id */
export async function insertSecret(trx: Trx, { workspaceId, box, secret, expiresAt }: NewSecret): Promise<string> {
  await makeRoom(trx, { workspaceId, kind: 'secret' })
  const id = uuid7()
  const sealed = box.seal(secret, credentialContext(workspaceId, id))
  await trx
    .insertInto('sso_client_credentials')
    .values({ workspace_id: workspaceId, id, sealed, expires_at: expiresAt ?? null })
    .execute()
  return id
}

/** Makes, seals and stores a new key. @returns its id */
export async function insertKey(
  trx: Trx,
  { workspaceId, box }: { workspaceId: string; box: SecretBox },
): Promise<string> {
  const { privateJwk, publicJwk } = await makeClientKey()
  await makeRoom(trx, { workspaceId, kind: 'key' })
  const id = uuid7()
  const sealed = box.seal(JSON.stringify(privateJwk), credentialContext(workspaceId, id))
  await trx
    .insertInto('sso_client_credentials')
    .values({ workspace_id: workspaceId, id, sealed, public_jwk: JSON.stringify(publicJwk) })
    .execute()
  return id
}

/**
 * Leaves one credential of the kind, as the fallback of the next: the one that works, as far as is known, else the newest.
 * One that was never taken by the provider does not push out one that was.
 */
async function makeRoom(
  trx: Trx,
  { workspaceId, kind }: { workspaceId: string; kind: ClientCredential['kind'] },
): Promise<void> {
  await sql`
    DELETE FROM sso_client_credentials
     WHERE workspace_id = ${workspaceId} AND (public_jwk IS NOT NULL) = ${kind === 'key'}
       AND id <> (SELECT id FROM sso_client_credentials
                   WHERE workspace_id = ${workspaceId} AND (public_jwk IS NOT NULL) = ${kind === 'key'}
                   ORDER BY accepted_at IS NOT NULL AND refused_at IS NULL DESC, id DESC LIMIT 1)`.execute(trx)
}

export interface CredentialChange {
  workspaceId: string
  box: SecretBox
  actor: Actor
}

/**
 * Adds a secret beside the live one, which stays as the fallback until the new one has worked.
 * @throws {AppError} `sso_not_configured`
 */
export async function addSecret(db: Db, { actor, ...secret }: NewSecret & { actor: Actor }): Promise<ClientCredential> {
  return add(db, { ...secret, actor }, trx => insertSecret(trx, secret))
}

/**
 * Adds a key: published at once, tried first, the one before being the fallback until the provider has taken the new one.
 * @throws {AppError} `sso_not_configured`
 */
export async function addKey(db: Db, change: CredentialChange): Promise<ClientCredential> {
  return add(db, change, trx => insertKey(trx, change))
}

async function add(
  db: Db,
  { workspaceId, box, actor }: CredentialChange,
  insert: (trx: Trx) => Promise<string>,
): Promise<ClientCredential> {
  return db.transaction().execute(async trx => {
    await getSsoConfig(trx, workspaceId)
    const id = await insert(trx)
    const added = await getCredential(trx, box, { workspaceId, id })
    const { kind, keyId, expiresAt } = added
    await recordActivity(trx, {
      workspaceId,
      action: 'sso_credential.added',
      actor,
      target: { type: 'sso_credential', id },
      detail: { kind, ...(keyId !== null && { keyId }), ...(expiresAt !== null && { expiresAt }) },
    })
    return added
  })
}

interface CredentialKey {
  workspaceId: string
  id: string
}

/** @throws {AppError} `not_found` */
export async function getCredential(
  db: Db,
  box: SecretBox,
  { workspaceId, id }: CredentialKey,
): Promise<ClientCredential> {
  const found = (await listCredentials(db, box, workspaceId)).find(each => each.id === id)
  if (!found) throw new AppError('not_found', 'There is no such client secret or key. It may have been replaced.')
  return found
}

/**
 * Sets when the provider stops taking a secret, for the reminders; null: never, or not known. Reminders begin anew.
 * @throws {AppError} `not_found`
 */
export async function changeExpiry(
  trx: Trx,
  { workspaceId, box, id, expiresAt, actor }: CredentialChange & { id: string; expiresAt: string | null },
): Promise<ClientCredential> {
  const before = await getCredential(trx, box, { workspaceId, id })
  if (before.expiresAt === expiresAt) return before
  await trx
    .updateTable('sso_client_credentials')
    .set({ expires_at: expiresAt, reminded_days: null })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .execute()
  await recordActivity(trx, {
    workspaceId,
    action: 'sso_credential.updated',
    actor,
    target: { type: 'sso_credential', id },
    detail: { expiresAt: { before: before.expiresAt, after: expiresAt } },
  })
  return getCredential(trx, box, { workspaceId, id })
}

/**
 * Deletes a secret or key.
 * @throws {AppError} `not_found`; `conflict` for the last one of the kind that signs people in; `sso_enforced` where it is
 *   the only one that is known to work, and everybody depends on it
 */
export async function deleteCredential(
  trx: Trx,
  { workspaceId, box, id, actor }: CredentialChange & { id: string },
): Promise<void> {
  const isEnforced = await isEnforcedNow(trx, workspaceId)
  const { tokenAuthMethod } = await getSsoConfig(trx, workspaceId)
  const { kind, keyId } = await getCredential(trx, box, { workspaceId, id })
  const inUse = kind === (tokenAuthMethod === 'private_key_jwt' ? 'key' : 'secret')
  const others = (await listCredentials(trx, box, workspaceId)).filter(each => each.kind === kind && each.id !== id)
  if (inUse && others.length === 0) {
    throw new AppError('conflict', 'Nobody could sign in without it. Add its successor first.')
  }
  if (inUse && isEnforced && !others.some(works)) {
    throw new AppError(
      'sso_enforced',
      'SSO is enforced, and no other secret or key is known to work. Sign in once with the other one first.',
    )
  }
  await remove(trx, { workspaceId, id })
  const target = { type: 'sso_credential', id }
  const detail = { kind, ...(keyId !== null && { keyId }) }
  await recordActivity(trx, { workspaceId, action: 'sso_credential.deleted', actor, target, detail })
}

/** Whether the provider has taken a credential, and not refused it since, and it can still be sent. */
export function works({ acceptedAt, refusedAt, isReadable }: ClientCredential): boolean {
  return acceptedAt !== null && refusedAt === null && isReadable
}

/** The secrets or keys of a workspace for a way of authenticating, opened: of the two lists one is empty. */
export interface OpenCredentials {
  clientSecrets: string[]
  clientKeys: ClientKey[]
  credentials: UsableCredential[]
}

/** What a sign-in with this method would prove itself by, in the order in which it is tried. */
export async function openCredentials(
  db: Db,
  box: SecretBox,
  { workspaceId, tokenAuthMethod }: { workspaceId: string; tokenAuthMethod: TokenAuthMethod | null },
): Promise<OpenCredentials> {
  const byKey = tokenAuthMethod === 'private_key_jwt'
  const rows = await db
    .selectFrom('sso_client_credentials')
    .select(['id', 'sealed', 'accepted_at as acceptedAt', 'refused_at as refusedAt'])
    .where('workspace_id', '=', workspaceId)
    .where('public_jwk', byKey ? 'is not' : 'is', null)
    .orderBy('id', 'desc')
    .execute()
  const sealedRows = rows.map(({ id, sealed, acceptedAt, refusedAt }) => {
    return { sealed, credential: { id, isAccepted: acceptedAt !== null, isRefused: refusedAt !== null } }
  })
  return openUsable(box, { workspaceId, tokenAuthMethod }, sealedRows)
}

interface CredentialUse {
  workspaceId: string
  /** In the order in which they were tried. */
  credentials: readonly UsableCredential[]
  /** The one that the provider took; undefined: none. */
  usedIndex: number | undefined
  requestId: string
}

/**
 * Notes what a token request has shown of the credentials, where it is news: the first refusal of each, with one entry
 * however often it comes again; and that a new one works, upon which its predecessors go.
 */
export async function noteCredentialUse(db: Db, use: CredentialUse): Promise<void> {
  const { workspaceId, credentials, usedIndex = credentials.length, requestId } = use
  const used = credentials[usedIndex]
  const refused = credentials.slice(0, usedIndex).filter(each => !each.isRefused)
  const replaced = credentials.slice(usedIndex + 1)
  const isNews = used !== undefined && (!used.isAccepted || used.isRefused)
  if (refused.length === 0 && replaced.length === 0 && !isNews) return
  const entry = (id: string) => ({
    workspaceId,
    actor: { type: 'system', id: 'sign-in', requestId } as const,
    target: { type: 'sso_credential', id },
  })
  await db.transaction().execute(async trx => {
    for (const { id } of refused) {
      if (!(await markRefused(trx, { workspaceId, id }))) continue
      const detail = { fallback: used !== undefined }
      await recordActivity(trx, { ...entry(id), action: 'sso_credential.refused', detail })
    }
    if (isNews) await markAccepted(trx, { workspaceId, id: used.id })
    for (const { id } of replaced) {
      if (!(await remove(trx, { workspaceId, id }))) continue
      await recordActivity(trx, { ...entry(id), action: 'sso_credential.replaced', detail: { by: used?.id } })
    }
  })
}

/** @returns whether it is the first refusal: of two sign-ins at once one has the news */
async function markRefused(trx: Trx, { workspaceId, id }: CredentialKey): Promise<boolean> {
  const marked = await trx
    .updateTable('sso_client_credentials')
    .set({ refused_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .where('refused_at', 'is', null)
    .executeTakeFirst()
  return marked.numUpdatedRows > 0n
}

async function markAccepted(trx: Trx, { workspaceId, id }: CredentialKey): Promise<void> {
  await trx
    .updateTable('sso_client_credentials')
    .set({ accepted_at: sql`coalesce(accepted_at, now())`, refused_at: null })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .execute()
}

/** @returns whether it was there */
async function remove(trx: Trx, { workspaceId, id }: CredentialKey): Promise<boolean> {
  const removed = await trx
    .deleteFrom('sso_client_credentials')
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .executeTakeFirst()
  return removed.numDeletedRows > 0n
}

/**
 * Reminds of secrets that are about to expire, by an entry each 30, 7 and 1 days before and when the day has passed. Whoever
 * enters a date late gets the reminder that is due by then. Several replicas may do it at once.
 * @returns how many entries it appended
 */
export async function remindOfExpiry(db: Db): Promise<number> {
  const { rows } = await sql`
    WITH due AS (
      SELECT workspace_id, id, CASE WHEN expires_at <= now() THEN 0
                                    WHEN expires_at <= now() + interval '1 day' THEN 1
                                    WHEN expires_at <= now() + interval '7 days' THEN 7 ELSE 30 END AS days
        FROM sso_client_credentials
       WHERE expires_at <= now() + interval '30 days' AND reminded_days IS DISTINCT FROM 0
         FOR UPDATE SKIP LOCKED
    ), reminded AS (
      UPDATE sso_client_credentials c SET reminded_days = due.days
        FROM due
       WHERE c.workspace_id = due.workspace_id AND c.id = due.id AND coalesce(c.reminded_days, 31) > due.days
      RETURNING c.workspace_id, c.id, due.days, c.expires_at
    )
    ${insertEntrySql({
      workspaceId: sql`workspace_id`,
      action: sql`CASE WHEN days = 0 THEN 'sso_credential.expired' ELSE 'sso_credential.expiring' END`,
      actorType: sql`'system'`,
      actorId: sql`'reminders'`,
      requestId: sql`NULL::text`,
      targetType: sql`'sso_credential'`,
      targetId: sql`id::text`,
      detail: sql`jsonb_build_object('expiresAt', expires_at, 'daysBefore', days)`,
      from: sql`reminded`,
    })}`.execute(db)
  return rows.length
}

/** Credentials a transaction, so that none holds locks for long. */
const batch = 500

/**
 * Seals anew the secrets and keys that an older key of SEAL_KEYS has sealed, so that it can be dropped without anybody
 * entering a secret again. Several replicas may do it at once.
 * @returns how many it sealed
 */
export async function resealCredentials(db: Db, box: SecretBox): Promise<number> {
  if (box.olderKeyIds.length === 0) return 0
  let total = 0
  let count: number
  do {
    count = await db.transaction().execute(trx => resealBatch(trx, box))
    total += count
  } while (count === batch)
  return total
}

async function resealBatch(trx: Trx, box: SecretBox): Promise<number> {
  const { rows } = await sql<CredentialKey & { sealed: Buffer }>`
    SELECT workspace_id AS "workspaceId", id, sealed FROM sso_client_credentials
     WHERE convert_from(substr(sealed, 3, get_byte(sealed, 1)), 'UTF8') = ANY (${box.olderKeyIds}::text[])
     LIMIT ${batch} FOR UPDATE SKIP LOCKED`.execute(trx)
  const sealedAnew = rows.map(({ workspaceId, id, sealed }) => {
    const context = credentialContext(workspaceId, id)
    return box.seal(box.open(sealed, context), context)
  })
  const [workspaceIds, ids] = [rows.map(row => row.workspaceId), rows.map(row => row.id)]
  await sql`
    UPDATE sso_client_credentials c SET sealed = n.sealed
      FROM unnest(${workspaceIds}::uuid[], ${ids}::uuid[], ${sealedAnew}::bytea[]) AS n (workspace_id, id, sealed)
     WHERE c.workspace_id = n.workspace_id AND c.id = n.id`.execute(trx)
  return rows.length
}
