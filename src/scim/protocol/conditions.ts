import { AppError } from '../../errors.ts'

/** Conditional requests (RFC 7644 §3.14, RFC 9110 §13.1). Tags are weak, and compared as such. */

/** A condition of RFC 7644 §3.14: versions of which the resource must have one; null where there is no condition. */
export type IfMatch = readonly number[] | null

/**
 * The versions that If-Match allows: the number at the start of each of our tags, since what may follow it tells of the
 * answer and not of the resource. A tag that is none of ours allows nothing.
 * @returns null where there is no condition: no header, or `*`
 */
export function readIfMatch(header: string | undefined): IfMatch {
  if (header === undefined || header.trim() === '*') return null
  return header.split(',').map(tag => Number(/^(?:W\/)?"(\d{1,9})(?:-[0-9a-f]+)?"$/.exec(tag.trim())?.[1] ?? -1))
}

/** Whether the client has what this tag stands for already. */
export function isCurrent(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false
  return ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some(tag => opaque(tag) === opaque(etag))
}

function opaque(tag: string): string {
  return tag.trim().replace(/^W\//, '')
}

export function versionConflict(): AppError {
  return new AppError('version_conflict', 'The resource is no longer of the version in If-Match: read it again.')
}
