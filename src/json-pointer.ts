/**
 * Appends a key or an index to a JSON pointer (RFC 6901 §3). Pointers are stored in the activity log, so a long key is cut
 * and characters that Postgres cannot store are replaced.
 */
export function at(pointer: string, step: string | number): string {
  const key = String(step).slice(0, MAX_POINTER_STEP).toWellFormed().replaceAll('\0', '\ufffd')
  return `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
}

const MAX_POINTER_STEP = 200
