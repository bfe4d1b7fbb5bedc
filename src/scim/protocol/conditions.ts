import { AppError } from '../../errors.ts'

/** Conditional requests (RFC 7644 §3.14, RFC 9110 §13.1). Tags are weak, and compared as such. */

/** The versions that the resource may have (RFC 7644 §3.14); null without a condition. */
export type IfMatch = readonly number[] | null

/**
 * The versions that If-Match allows: the number at the start of each tag, because the rest of a tag describes the
 * response and not of the resource. A tag that this service did not issue matches no version.
 * @returns null without a condition: no header, or `*`
 */
export function readIfMatch(header: string | undefined): IfMatch {
  if (header === undefined || header.trim() === '*') return null
  return header.split(',').map(tag => Number(/^(?:W\/)?"(\d{1,9})(?:-[0-9a-f]+)?"$/.exec(tag.trim())?.[1] ?? -1))
}

/** Reports whether If-None-Match names this entity tag, so that 304 suffices. */
export function isCurrent(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false
  return ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some(tag => opaque(tag) === opaque(etag))
}

function opaque(tag: string): string {
  return tag.trim().replace(/^W\//, '')
}

export function versionConflict(): AppError {
  return new AppError('version_conflict', 'The resource has changed since the version in If-Match. Read it again.')
}
