// Deterministic resources of the size and shape that Okta and Entra ID send. seed.ts derives the same users from their
// index in SQL; a run checks that both agree.

const schemas = {
  user: 'urn:ietf:params:scim:schemas:core:2.0:User',
  enterprise: 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User',
  group: 'urn:ietf:params:scim:schemas:core:2.0:Group',
  patch: 'urn:ietf:params:scim:api:messages:2.0:PatchOp',
}

export function userNameOf(index: number): string {
  return `u${digits(index, 7)}@bench.example.com`
}

export function externalIdOf(index: number): string {
  return `ext-${digits(index, 9)}`
}

export function userOf(index: number): object {
  const givenName = `Given${digits(index, 7)}`
  const familyName = `Family${digits(index, 7)}`
  const displayName = `${givenName} ${familyName}`
  const work = { type: 'work' }
  return {
    schemas: [schemas.user, schemas.enterprise],
    externalId: externalIdOf(index),
    userName: userNameOf(index),
    active: true,
    displayName,
    name: { formatted: displayName, givenName, familyName },
    title: 'Software Engineer',
    preferredLanguage: 'en-US',
    emails: [{ ...work, value: userNameOf(index), primary: true }],
    phoneNumbers: [{ ...work, value: '+1-555-010-0000' }],
    addresses: [
      {
        ...work,
        streetAddress: '100 Universal Way',
        locality: 'Springfield',
        region: 'CA',
        postalCode: '91608',
        country: 'US',
      },
    ],
    [schemas.enterprise]: {
      employeeNumber: digits(index, 7),
      costCenter: '4130',
      organization: 'Bench',
      department: 'Engineering',
    },
  }
}

export function groupOf(displayName: string, memberIds?: string[]): string {
  const members = memberIds?.map(value => ({ value }))
  return JSON.stringify({ schemas: [schemas.group], displayName, ...(members && { members }) })
}

export function patchOf(...operations: { op: string; path: string; value?: unknown }[]): string {
  return JSON.stringify({ schemas: [schemas.patch], Operations: operations })
}

/** Seeded ids are UUIDv7 from this time on, one per millisecond, so that they all precede ids created during a run. */
export const seedEpoch = Date.UTC(2026, 0, 1)

export function seededId(index: number): string {
  const time = (seedEpoch + index).toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${index.toString(16).padStart(12, '0')}`
}

function digits(index: number, length: number): string {
  return String(index).padStart(length, '0')
}
