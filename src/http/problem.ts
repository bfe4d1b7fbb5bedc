import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { AppError, ErrorCode } from '../errors.ts'
import { toAppError } from './refusal.ts'

/** The status of each code in the admin API (RFC 9110). */
export const problemStatus: Record<ErrorCode, number> = {
  invalid: 400,
  malformed_json: 400,
  unsupported_media_type: 415,
  body_too_large: 413,
  request_aborted: 400,
  method_not_allowed: 405,
  not_found: 404,
  conflict: 409,
  version_conflict: 412,
  rate_limited: 429,
  unavailable: 503,
  internal: 500,
  unauthenticated: 401,
  forbidden: 403,
  session_ended: 401,
  sso_not_configured: 404,
  sso_issuer_invalid: 400,
  sso_issuer_insecure: 400,
  sso_issuer_blocked: 400,
  sso_issuer_multi_tenant: 400,
  sso_issuer_mismatch: 400,
  sso_discovery_failed: 400,
  sso_discovery_invalid: 400,
  sso_domain_invalid: 400,
  sso_domain_required: 400,
  sso_domain_unverified: 400,
  sso_secret_missing: 400,
  sso_enforced: 409,
  sso_not_proven: 409,
  sso_recovery_missing: 409,
  sso_members_locked_out: 409,
  sso_not_safe: 409,
  sign_in_test_unfinished: 409,
  sign_in_test_failed: 409,
  sign_in_test_unconfirmed: 409,
  sign_in_test_other_browser: 403,
  sign_in_test_other_account: 409,
  admin_not_member: 409,
  domain_taken: 409,
  domain_not_proven: 409,
  domain_dns_failed: 502,
  sso_disabled: 409,
  sso_state_invalid: 400,
  sso_attempt_expired: 400,
  sso_return_to_invalid: 400,
  sso_handoff_invalid: 400,
  sso_access_denied: 403,
  sso_idp_error: 502,
  sso_idp_unreachable: 502,
  sso_client_rejected: 502,
  sso_token_invalid: 502,
  sso_email_missing: 403,
  sso_email_invalid: 403,
  sso_email_unverified: 403,
  sso_domain_not_allowed: 403,
  sso_not_provisioned: 403,
  sso_identity_conflict: 409,
  sso_identity_link_required: 403,
  sso_member_deactivated: 403,
  sso_authentication_too_old: 403,
  sso_authentication_too_weak: 403,
  sso_groups_invalid: 403,
  sso_groups_overage: 403,
  sso_not_confirmed: 403,
  exchange_code_invalid: 400,
  sso_required: 403,
  recovery_code_invalid: 403,
  recovery_limited: 403,
  last_owner: 409,
  role_unknown: 400,
  role_above_own: 403,
  directory_owned: 409,
  token_limit: 409,
  directory_limit: 409,
  group_unknown: 404,
  group_mapped: 409,
  scim_group_unknown: 404,
  mapping_exists: 409,
  preview_stale: 409,
  at_in_future: 400,
  at_before_history: 400,
  scim_invalid_filter: 400,
  scim_too_many: 400,
  scim_uniqueness: 409,
  scim_mutability: 400,
  scim_invalid_syntax: 400,
  scim_invalid_path: 400,
  scim_no_target: 400,
  scim_invalid_value: 400,
  scim_invalid_version: 412,
  scim_invalid_cursor: 400,
  scim_expired_cursor: 400,
  scim_invalid_count: 400,
  scim_sensitive: 403,
  scim_not_implemented: 501,
  scim_group_cycle: 400,
  scim_removal_held: 429,
}

/** RFC 9457 problem details, as every refusal of the admin API is answered. */
export const problem = z
  .object({
    type: z.string().meta({ description: 'about:blank: `code` tells the problems apart' }),
    title: z.string().meta({ description: 'The HTTP status in words' }),
    status: z.int32(),
    code: z.string().meta({ description: 'Stable; branch on this' }),
    detail: z.string().meta({ description: 'What was wrong and what to change, for a person' }),
    requestId: z.string().meta({ description: 'Finds the request in the service log' }),
    errors: z.array(z.object({ pointer: z.string(), message: z.string() })).optional(),
  })
  .meta({ id: 'Problem' })

const titles: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  412: 'Precondition Failed',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
}

/**
 * Answers every error of a scope, and every route it does not have, as problem+json.
 * @param bodyLimit of the scope, in bytes; absent: that of the app
 */
export function problemErrors(scope: FastifyInstance, bodyLimit?: number): void {
  scope.setErrorHandler((error, request, reply) => sendProblem(toAppError(error, bodyLimit), request, reply))
}

/** Sends one refusal as application/problem+json. */
export function sendProblem(error: AppError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const status = problemStatus[error.code]
  logRefusal(error, status, request)
  if (error.retryAfter !== undefined) reply.header('retry-after', String(error.retryAfter))
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .serializer(JSON.stringify)
    .send({
      type: 'about:blank',
      title: titles[status],
      status,
      code: error.code,
      detail: error.message,
      requestId: request.id,
      ...(error.errors && { errors: error.errors }),
    })
}

/**
 * A fault of ours is an error with its cause; what passes by itself, such as a database that is away, a warning with the
 * code of its cause, since every request has it then; what the caller can mend is one line without it.
 */
export function logRefusal(error: AppError, status: number, request: FastifyRequest): void {
  const line = { code: error.code, status, ...error.detail }
  if (status < 500 || status === 501) request.log.info(line, 'request refused')
  else if (status === 503) request.log.warn({ ...line, cause: causeCode(error) }, 'request put off')
  else request.log.error({ ...line, err: error.cause ?? error }, 'request failed')
}

function causeCode({ cause }: AppError): string | undefined {
  return (cause as { code?: string } | undefined)?.code
}

const documented = { content: { 'application/problem+json': { schema: problem } } }

/** The error answers of a route for its OpenAPI description, by the codes that it can answer. */
export function problemResponses(...codes: ErrorCode[]) {
  const byStatus = new Map<number, ErrorCode[]>()
  for (const code of ['unauthenticated', 'forbidden', 'not_found', 'invalid', 'unavailable', ...codes] as ErrorCode[]) {
    const status = problemStatus[code]
    if (!byStatus.get(status)?.includes(code)) byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  return Object.fromEntries(
    [...byStatus].map(([status, list]) => [
      status,
      { description: `Codes: ${list.map(each => `\`${each}\``).join(', ')}`, ...documented },
    ]),
  )
}
