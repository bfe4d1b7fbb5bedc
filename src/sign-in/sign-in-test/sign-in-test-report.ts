import type { RoleReason } from '../../access/derivation/roles.ts'
import type { ErrorCode } from '../../errors.ts'

/** One thing that a sign-in test looked at, in the order in which a sign-in comes to it. */
export interface SignInTestCheck {
  name:
    | 'configuration'
    | 'discovery'
    | 'provider_answer'
    | 'token_endpoint'
    | 'client_authentication'
    | 'id_token'
    | 'clock'
    | 'userinfo'
    | 'sign_in_policy'
    | 'email'
    | 'domain'
    | 'groups'
    | 'membership'
    | 'role'
    | 'own_account'
  result: 'pass' | 'warn' | 'fail'
  message: string
  /** What to change, and where. */
  fix?: string
  /** The code with which a sign-in would be refused. */
  code?: ErrorCode
}

/** What would have become of a sign-in. */
export interface SignInTestReport {
  checks: SignInTestCheck[]
  /** Of the ID token or UserInfo; what says who the person is only as far as it helps. */
  claims: { name: string; value: string; source: 'id_token' | 'userinfo' }[]
  token: { algorithm: string; keyId: string | null; clockSkewSeconds: number } | null
  /** Absent where the sign-in did not come so far. */
  domain: { name: string; isListed: boolean; isProved: boolean } | null
  membership: {
    decision: 'known' | 'link' | 'link_required' | 'provision' | 'refuse'
    memberId: string | null
    /** On whose word. */
    trust: string | null
    isOwnAccount: boolean
  } | null
  role: { value: string; why: RoleReason; groupIds: string[] } | null
}

/** Claims that say nothing about who the person is. */
const shownClaims = new Set('iss aud azp iat exp nbf auth_time session_expiry acr amr email_verified hd tid'.split(' '))

/**
 * A claim as a report shows it: that it is there, and of what kind it is. Of an address the domain shows, since decisions
 * rest on it.
 */
export function maskClaim(name: string, value: unknown): string {
  if (shownClaims.has(name)) return storable(JSON.stringify(value), 300)
  if (typeof value === 'string') return maskText(value)
  if (Array.isArray(value)) return `${value.length} values`
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value === 'number') return 'a number'
  return String(value)
}

function maskText(text: string): string {
  const [, domain] = /^[^@]+@([^@]+)$/.exec(text) ?? []
  // Of a short text the first character would be most of it.
  const first = text.length < 4 ? '' : storable(String.fromCodePoint(text.codePointAt(0) ?? 0), 2)
  return `${first}…${domain === undefined ? ` (${text.length} characters)` : `@${storable(domain, 253)}`}`
}

/** A stranger's text as JSON in the database can hold it: neither NUL nor half of a character, as cutting may leave. */
export function storable(text: string, maxLength: number): string {
  return text.slice(0, maxLength).toWellFormed().replaceAll('\0', '\ufffd')
}
