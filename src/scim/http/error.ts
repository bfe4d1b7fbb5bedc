import { AppError, type ErrorCode } from '../../errors.ts'
import { problemStatus } from '../../http/problem.ts'
import { toAppError } from '../../http/refusal.ts'

/** SCIM error answers (RFC 7644 §3.12). The status of a code is the one that the admin API has for it. */

/** The `scimType` of each code that has one (RFC 7644 table 9, RFC 9865 §2.1). */
const scimTypes: Partial<Record<ErrorCode, string>> = {
  invalid: 'invalidSyntax',
  malformed_json: 'invalidSyntax',
  scim_invalid_filter: 'invalidFilter',
  scim_too_many: 'tooMany',
  scim_uniqueness: 'uniqueness',
  scim_mutability: 'mutability',
  scim_invalid_syntax: 'invalidSyntax',
  scim_invalid_path: 'invalidPath',
  scim_no_target: 'noTarget',
  scim_invalid_value: 'invalidValue',
  scim_group_cycle: 'invalidValue',
  scim_invalid_version: 'invalidVers',
  scim_invalid_cursor: 'invalidCursor',
  scim_expired_cursor: 'expiredCursor',
  scim_invalid_count: 'invalidCount',
  scim_sensitive: 'sensitive',
}

const ERROR_SCHEMA = 'urn:ietf:params:scim:api:messages:2.0:Error'

export interface ScimError {
  schemas: string[]
  /** The HTTP status, as text (RFC 7644 §3.12). */
  status: string
  scimType?: string
  detail: string
}

export function scimStatus(code: ErrorCode): number {
  return problemStatus[code]
}

/** The code that an admin is shown for a refusal: its `scimType`, or what stands for it where SCIM has none. */
export function refusalReason(code: ErrorCode): string {
  return scimTypes[code] ?? code
}

export function scimError({ code, message }: AppError): ScimError {
  const scimType = scimTypes[code]
  return {
    schemas: [ERROR_SCHEMA],
    status: String(scimStatus(code)),
    ...(scimType !== undefined && { scimType }),
    detail: message,
  }
}

/** Any thrown value as the refusal that this endpoint answers it with. */
export function toScimRefusal(error: unknown): AppError {
  const refusal = toAppError(error)
  if (refusal === error || refusal.code !== 'unsupported_media_type') return refusal
  return new AppError('unsupported_media_type', 'Send the body as application/scim+json or application/json.')
}
