import { inStretches } from '../../turns.ts'

/**
 * Reports whether text can be the id of a resource. Ids are case-exact (RFC 7643 §3.1), so only the spelling that we issue
 * matches.
 */
export function isResourceId(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
}

/** Byte classes for checking ids: 0 for every hexadecimal digit, the byte itself for all others. */
const kinds = Uint8Array.from({ length: 256 }, (_, byte) => (/[0-9a-f]/.test(String.fromCharCode(byte)) ? 0 : byte))

const idAndComma = Buffer.from('00000000-0000-0000-0000-000000000000,').map(byte => kinds[byte] ?? byte)

/** As `isResourceId`, for `count` ids joined by commas: a quarter of the time for tens of thousands. */
export function areResourceIds(joined: string, count: number): boolean {
  const bytes = Buffer.from(joined)
  const { length } = idAndComma
  // The length fixes the number of ids; the loop fixes the place of each comma.
  if (bytes.length !== Math.max(0, count * length - 1)) return false
  for (let index = 0, place = 0; index < bytes.length; index++) {
    if (kinds[bytes[index] ?? 0] !== idAndComma[place]) return false
    place = place + 1 === length ? 0 : place + 1
  }
  return true
}

const STEP_IDS = 2_000

/**
 * Joins ids by commas, in stretches.
 * @returns undefined when one of them cannot be the id of a resource
 */
export async function joinResourceIds(ids: readonly string[]): Promise<string | undefined> {
  return inStretches(joinSteps(ids))
}

function* joinSteps(ids: readonly string[]): Generator<void, string | undefined> {
  const joined: string[] = []
  for (let start = 0; start < ids.length; start += STEP_IDS) {
    const step = ids.slice(start, start + STEP_IDS)
    const text = step.join(',')
    if (!areResourceIds(text, step.length)) return undefined
    joined.push(text)
    yield
  }
  return joined.join(',')
}
