import { LRUCache } from 'lru-cache'
import { sql, type RawBuilder } from 'kysely'
import { recordRefusal } from '../../activity/activity.ts'
import type { Db } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import { AppError } from '../../errors.ts'
import { readOpaqueToken } from '../../opaque-token.ts'
import { isUuid } from '../../uuid7.ts'
import type { Mode } from '../protocol/attributes.ts'

/** The directory that a request speaks for, by a credential that was good a moment ago. */
export interface Caller {
  workspaceId: string
  directoryId: string
  credentialId: string
  mode: Mode
  /** Whether its groups may be in others. */
  nestsGroups: boolean
  /** Whether this request shows the token without the word Bearer, which a tolerant directory may. */
  isBare?: boolean
}

/** What each statement needs to know of its caller. */
export type CallerKey = Pick<Caller, 'workspaceId' | 'directoryId' | 'credentialId'>

export function callerKey({ workspaceId, directoryId, credentialId }: Caller): CallerKey {
  return { workspaceId, directoryId, credentialId }
}

/**
 * The first CTE of each SCIM statement: one row `(workspace_id, directory_id, is_guarded, nests_groups)` while the credential is
 * live and the directory enabled, from the credential alone, which carries what a request must know of its directory.
 * With it a cached credential is checked in the same round trip as the work, so a revoked one is refused at its next
 * request on every replica. A statement selects from it, so that no row at all means: refused.
 */
export function allowed({ workspaceId, directoryId, credentialId }: Params<CallerKey>): RawBuilder<unknown> {
  return sql`allowed AS (
    SELECT workspace_id, directory_id, is_guarded, nests_groups FROM directory_credentials
     WHERE workspace_id = ${workspaceId}::uuid AND directory_id = ${directoryId}::uuid AND id = ${credentialId}::uuid
       AND enabled AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))`
}

/**
 * The first of a statement's rows, of which there is one at least while the caller is allowed.
 * @throws {AppError} `unauthenticated`
 */
export function firstRow<Row>(rows: readonly Row[]): Row {
  const [row] = rows
  if (row === undefined) throw refused('credential_ended')
  return row
}

const checkCredential = prepared<CallerKey, object>(
  'scim_credential_check',
  key => sql`WITH ${allowed(key)} SELECT FROM allowed`,
)

/** For requests that need nothing else of the database. */
export async function requireLiveCredential(db: Db, caller: Caller): Promise<void> {
  firstRow(await checkCredential(db, callerKey(caller)))
}

interface Found extends Caller {
  enabled: boolean
  revoked: boolean
  expired: boolean
}

/** Notes the use at most once a minute, so that reading stays reading. */
const findCredential = prepared<{ workspaceId: string; hash: Buffer; isBare: boolean }, Found>(
  'scim_credential_find',
  ({ workspaceId, hash, isBare }) => sql`
    WITH found AS (
      SELECT c.workspace_id, c.directory_id, c.id, d.mode, c.enabled, c.nests_groups, c.revoked_at IS NOT NULL AS revoked,
             coalesce(c.expires_at <= now(), false) AS expired,
             coalesce(c.last_used_at < now() - interval '1 minute', true) AS note
        FROM directory_credentials c
        JOIN directories d ON d.workspace_id = c.workspace_id AND d.id = c.directory_id
       WHERE c.workspace_id = ${workspaceId}::uuid AND c.token_hash = ${hash}::bytea
    ), used AS (
      UPDATE directory_credentials c SET last_used_at = now()
        FROM found f
       WHERE c.workspace_id = f.workspace_id AND c.directory_id = f.directory_id AND c.id = f.id
         AND f.note AND f.enabled AND NOT f.revoked AND NOT f.expired AND NOT (${isBare}::boolean AND f.mode = 'strict')
    )
    SELECT workspace_id AS "workspaceId", directory_id AS "directoryId", id AS "credentialId", mode, enabled, nests_groups AS "nestsGroups", revoked, expired
      FROM found`,
)

/** Why a request was not let in: for the workspace's activity log, never for the caller. */
type Reason =
  | 'token_missing'
  | 'token_malformed'
  | 'token_unknown'
  | 'token_of_another_directory'
  | 'token_revoked'
  | 'token_expired'
  | 'directory_disabled'
  | 'credential_ended'

function refused(reason: Reason): AppError {
  const message = 'Send a current token of this directory: `Authorization: Bearer TOKEN`.'
  return new AppError('unauthenticated', message, { detail: { reason } })
}

/** How long a credential is taken from memory; each statement checks it again all the same. */
const CACHED_MS = 5_000
/** How long the same refusal of a directory is not recorded again. */
const RECORDED_MS = 60_000
const MAX_CACHED = 10_000

/** Where a request comes in, and what it shows. */
export interface Shown {
  directoryId: string
  authorization: string | undefined
}

interface ShownToken {
  token: string
  /** Alone in the header, as an admin pastes it where Okta asks for the whole value: only our own tokens can be told so. */
  isBare: boolean
}

/** The token of an Authorization header, with its scheme (RFC 6750 §2.1) or without. */
export function tokenIn(authorization = ''): ShownToken | undefined {
  const [, token] = /^bearer +(\S+)$/i.exec(authorization) ?? []
  if (token !== undefined) return { token, isBare: false }
  return readOpaqueToken('scim', authorization) && { token: authorization, isBare: true }
}

export interface Authenticator {
  /**
   * The caller of a request to the endpoint of a directory.
   * @throws {AppError} `unauthenticated`, the same whatever the reason
   */
  authenticate: (shown: Shown) => Promise<Caller>
  /** Records why a request was not let in: once a minute for each reason, directory and replica. */
  recordUnauthenticated: (refusal: AppError, shown: Shown & { requestId: string }) => Promise<void>
}

export function createAuthenticator(db: Db): Authenticator {
  const cache = new LRUCache<string, Caller>({ max: MAX_CACHED, ttl: CACHED_MS })
  const recorded = new LRUCache<string, true>({ max: MAX_CACHED, ttl: RECORDED_MS })

  async function find({ token, isBare }: ShownToken): Promise<Caller> {
    const read = readOpaqueToken('scim', token)
    if (!read) throw refused('token_malformed')
    const key = read.hash.toString('base64')
    const cached = cache.get(key)
    if (cached) return cached
    const [found] = await findCredential(db, { workspaceId: read.workspaceId, hash: read.hash, isBare })
    if (!found) throw refused('token_unknown')
    const { enabled, revoked, expired, ...caller } = found
    if (revoked) throw refused('token_revoked')
    if (expired) throw refused('token_expired')
    if (!enabled) throw refused('directory_disabled')
    cache.set(key, caller)
    return caller
  }

  async function authenticate({ directoryId, authorization }: Shown): Promise<Caller> {
    const shown = tokenIn(authorization)
    if (shown === undefined) throw refused(authorization === undefined ? 'token_missing' : 'token_malformed')
    const caller = await find(shown)
    if (caller.directoryId !== directoryId) throw refused('token_of_another_directory')
    if (!shown.isBare) return caller
    if (caller.mode === 'strict') throw refused('token_malformed')
    return { ...caller, isBare: true }
  }

  /** Why the database no longer allows a credential that was taken from memory. */
  async function whyEnded(shown: Shown): Promise<Reason> {
    for (const [key, { directoryId }] of cache.entries()) if (directoryId === shown.directoryId) cache.delete(key)
    return authenticate(shown).then(() => 'credential_ended', reasonOf)
  }

  async function recordUnauthenticated(refusal: AppError, shown: Shown & { requestId: string }): Promise<void> {
    const { directoryId, requestId } = shown
    const first = reasonOf(refusal)
    const reason = first === 'credential_ended' ? await whyEnded(shown) : first
    const key = `${directoryId}:${reason}`
    if (!isUuid(directoryId) || recorded.has(key)) return
    recorded.set(key, true)
    const directory = await db
      .selectFrom('directories')
      .select('workspace_id')
      .where('id', '=', directoryId)
      .executeTakeFirst()
    if (!directory) return
    await recordRefusal(db, {
      workspaceId: directory.workspace_id,
      action: 'directory.request_refused',
      reason,
      // Whoever it was has not proved to be the directory.
      actor: { type: 'system', id: 'scim', requestId },
      target: { type: 'directory', id: directoryId },
    })
  }

  return { authenticate, recordUnauthenticated }
}

function reasonOf(error: unknown): Reason {
  if (error instanceof AppError && error.code === 'unauthenticated') return error.detail?.reason as Reason
  throw error
}
