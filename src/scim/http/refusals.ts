import { LRUCache } from 'lru-cache'
import type { Actor } from '../../actor.ts'
import { recordRefusal } from '../../activity/activity.ts'
import type { Db } from '../../db/database.ts'
import type { AppError, ErrorCode } from '../../errors.ts'
import type { Caller } from '../storage/credential.ts'
import { refusalReason, scimStatus } from './error.ts'

/** What needs no entry: that something is not there, what is no fault of the request, and what has one of its own. */
const unrecorded: ReadonlySet<ErrorCode> = new Set([
  'not_found',
  'request_aborted',
  'unavailable',
  'internal',
  'scim_removal_held',
])

/** Directories whose 429 was recorded within the last minute: a sync that is too fast would fill the log. */
const limited = new LRUCache<string, true>({ max: 10_000, ttl: 60_000 })

export interface RefusedRequest {
  /** Null where it was not let in, for whatever reason but its credential. */
  caller: Caller | null
  actor: Actor | null
  method: string
  /** The route, such as `/Users/:id`: never a URL, in which a filter may name people. */
  path: string | undefined
  /** Of the operation in a bulk request. */
  pointer?: string
}

/**
 * Tells the workspace's admins what was refused and why, as the provider's own log rarely does. Look-ups that find nothing
 * are the daily work of a sync and leave no entry.
 */
export async function recordScimRefusal(db: Db, refusal: AppError, request: RefusedRequest): Promise<void> {
  const { caller, actor, method, path, pointer = '' } = request
  const { code, message, errors } = refusal
  if (!caller || !actor || unrecorded.has(code)) return
  if (code === 'rate_limited') {
    if (limited.has(caller.directoryId)) return
    limited.set(caller.directoryId, true)
  }
  const detail = { method, path, status: scimStatus(code), message, pointer: `${pointer}${errors?.[0]?.pointer ?? ''}` }
  await recordRefusal(db, {
    workspaceId: caller.workspaceId,
    action: 'directory.request_refused',
    reason: refusalReason(code),
    actor,
    target: { type: 'directory', id: caller.directoryId },
    detail,
  })
}
