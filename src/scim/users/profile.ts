import { parseEmail } from '../../members/email.ts'
import { isObject } from '../protocol/reading.ts'
import type { ScimResource } from '../protocol/reading.ts'
import { isPrimary } from '../protocol/value.ts'

/** What a member takes over from the user that the directory sent. */
export interface Profile {
  /** Null where the directory gave no address that can be one. */
  email: string | null
  emailKey: string | null
  displayName: string | null
}

/**
 * A member's address is the primary e-mail, else the one for work, else the first, else the userName where it is an
 * address; the name is displayName, else the formatted name, else its parts, else the userName.
 */
export function profileOf(resource: ScimResource): Profile {
  const email = addresses(resource)
    .map(parseEmail)
    .find(parsed => parsed !== undefined)
  return { email: email?.text ?? null, emailKey: email?.key ?? null, displayName: displayNameOf(resource) }
}

function addresses({ emails, userName }: ScimResource): string[] {
  const entries = Array.isArray(emails) ? emails.filter(isObject) : []
  const values = entries.toSorted((a, b) => rank(a) - rank(b)).map(entry => entry.value)
  return [...values, userName].filter(value => typeof value === 'string')
}

/** Primary before work before the rest. */
function rank(entry: Record<string, unknown>): number {
  if (isPrimary(entry)) return 0
  return entry.type === 'work' ? 1 : 2
}

/** As long as an admin's list can show it. */
const MAX_NAME = 200

function displayNameOf({ displayName, name, userName }: ScimResource): string | null {
  const { formatted, givenName, familyName } = isObject(name) ? name : {}
  const parts = [givenName, familyName].filter(part => typeof part === 'string' && part !== '').join(' ')
  const found = [displayName, formatted, parts, userName].find(text => typeof text === 'string' && text.trim() !== '')
  return typeof found === 'string' ? found.slice(0, MAX_NAME).toWellFormed() : null
}
