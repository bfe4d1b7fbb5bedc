/**
 * Every refusal of this service, by its stable code. The message is written for the person who will read it: what was
 * wrong, and what to change. Knows no HTTP; each edge (problem+json, SCIM, browser) has one table from code to status.
 */
export type ErrorCode =
  // requests
  | 'invalid'
  | 'malformed_json'
  | 'unsupported_media_type'
  | 'body_too_large'
  | 'request_aborted'
  | 'method_not_allowed'
  | 'not_found'
  | 'conflict'
  | 'version_conflict'
  | 'rate_limited'
  | 'unavailable'
  | 'internal'
  // callers
  | 'unauthenticated'
  | 'forbidden'
  | 'session_ended'
  // SSO configuration
  | 'sso_not_configured'
  | 'sso_issuer_invalid'
  | 'sso_issuer_insecure'
  | 'sso_issuer_blocked'
  | 'sso_issuer_multi_tenant'
  | 'sso_issuer_mismatch'
  | 'sso_discovery_failed'
  | 'sso_discovery_invalid'
  | 'sso_domain_invalid'
  | 'sso_domain_required'
  | 'sso_domain_unverified'
  | 'sso_secret_missing'
  | 'sso_enforced'
  | 'sso_not_proven'
  | 'sso_recovery_missing'
  | 'sso_members_locked_out'
  | 'sso_not_safe'
  | 'sign_in_test_unfinished'
  | 'sign_in_test_failed'
  | 'sign_in_test_unconfirmed'
  | 'sign_in_test_other_browser'
  | 'sign_in_test_other_account'
  | 'admin_not_member'
  | 'domain_taken'
  | 'domain_not_proven'
  | 'domain_dns_failed'
  // sign-in
  | 'sso_disabled'
  | 'sso_state_invalid'
  | 'sso_attempt_expired'
  | 'sso_return_to_invalid'
  | 'sso_handoff_invalid'
  | 'sso_access_denied'
  | 'sso_idp_error'
  | 'sso_idp_unreachable'
  | 'sso_client_rejected'
  | 'sso_token_invalid'
  | 'sso_email_missing'
  | 'sso_email_invalid'
  | 'sso_email_unverified'
  | 'sso_domain_not_allowed'
  | 'sso_not_provisioned'
  | 'sso_identity_conflict'
  | 'sso_identity_link_required'
  | 'sso_member_deactivated'
  | 'sso_authentication_too_old'
  | 'sso_authentication_too_weak'
  | 'sso_groups_invalid'
  | 'sso_groups_overage'
  | 'sso_not_confirmed'
  | 'exchange_code_invalid'
  | 'sso_required'
  | 'recovery_code_invalid'
  | 'recovery_limited'
  // members and access
  | 'last_owner'
  | 'role_unknown'
  | 'role_above_own'
  | 'directory_owned'
  | 'token_limit'
  | 'directory_limit'
  | 'group_unknown'
  | 'group_mapped'
  | 'scim_group_unknown'
  | 'mapping_exists'
  | 'preview_stale'
  | 'at_in_future'
  | 'at_before_history'
  // SCIM (RFC 7644 section 3.12: the code is mapped to its scimType)
  | 'scim_invalid_filter'
  | 'scim_too_many'
  | 'scim_uniqueness'
  | 'scim_mutability'
  | 'scim_invalid_syntax'
  | 'scim_invalid_path'
  | 'scim_no_target'
  | 'scim_invalid_value'
  | 'scim_invalid_version'
  | 'scim_invalid_cursor'
  | 'scim_expired_cursor'
  | 'scim_invalid_count'
  | 'scim_sensitive'
  | 'scim_not_implemented'
  | 'scim_group_cycle'
  | 'scim_removal_held'

/** One fault in a request body, at an RFC 6901 JSON pointer. */
export interface FieldError {
  pointer: string
  message: string
}

export interface AppErrorOptions {
  /** Faults by field, for bodies that fail validation. */
  errors?: FieldError[]
  /** After how many seconds trying again makes sense. */
  retryAfter?: number
  /** For the operator's log and the activity entry; never sent to the caller. */
  detail?: Record<string, unknown>
  cause?: unknown
}

export class AppError extends Error {
  readonly code: ErrorCode
  readonly errors: FieldError[] | undefined
  readonly retryAfter: number | undefined
  readonly detail: Record<string, unknown> | undefined

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.errors = options.errors
    this.retryAfter = options.retryAfter
    this.detail = options.detail
  }
}
