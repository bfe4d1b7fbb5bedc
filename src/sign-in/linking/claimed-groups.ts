import { AppError } from '../../errors.ts'
import type { IdTokenClaims } from '../../oidc/provider.ts'

/** What a sign-in says of its person's groups: their values, or why they cannot be told. */
export type ClaimedGroups = { values: string[] } | { fault: AppError }

const MAX_GROUPS = 1_000
const MAX_LENGTH = 1_024
/** Core §5.6.2: names claims that are to be fetched from another place. */
const ELSEWHERE = '_claim_names'

/**
 * Reads the groups claim of an ID token. An absent one says that there are no groups, as most providers leave an empty claim
 * out; save where the provider says that there are too many to list (Entra ID: above 200 it names another endpoint in
 * `_claim_names`, or sends `hasgroups`), which must not be taken for none.
 * @param name the configured claim; null: sign-ins say nothing about groups
 * @returns the values in order, each once, at most 1,000 of 1,024 characters
 */
export function readClaimedGroups(claims: IdTokenClaims, name: string | null): ClaimedGroups | undefined {
  if (name === null) return undefined
  const claim = claims[name]
  if (claim === undefined || claim === null) return isOverage(claims, name) ? { fault: overage(name) } : { values: [] }
  const values: unknown[] = Array.isArray(claim) ? claim : [claim]
  if (values.length > MAX_GROUPS || !values.every(isGroup)) return { fault: invalid(name) }
  return { values: [...new Set(values)].toSorted() }
}

/** @throws {AppError} `sso_groups_overage`, `sso_groups_invalid`, with `detail.fix` */
export function requireValues(claimed: ClaimedGroups): string[] {
  if ('fault' in claimed) throw claimed.fault
  return claimed.values
}

function isGroup(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value !== '' &&
    value.length <= MAX_LENGTH &&
    value.isWellFormed() &&
    !value.includes('\0')
  )
}

function isOverage(claims: IdTokenClaims, name: string): boolean {
  const elsewhere: unknown = claims[ELSEWHERE]
  const isElsewhere = typeof elsewhere === 'object' && elsewhere !== null && name in elsewhere
  return isElsewhere || claims.hasgroups === true || claims.hasgroups === 'true'
}

function overage(name: string): AppError {
  return new AppError('sso_groups_overage', 'You are in more groups than the identity provider lists at a sign-in.', {
    detail: {
      claim: name,
      fix: 'Have the provider send only the groups that are assigned to the application (Entra ID: Token configuration, groups claim), or connect a directory, which has no such limit.',
    },
  })
}

function invalid(name: string): AppError {
  return new AppError('sso_groups_invalid', 'The groups that the identity provider sent cannot be read.', {
    detail: {
      claim: name,
      fix: `Have the provider send ${name} as a list of at most 1,000 group ids or names, each text.`,
    },
  })
}
