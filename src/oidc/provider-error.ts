import { ClientError, ResponseBodyError } from 'openid-client'
import { AppError } from '../errors.ts'
import { printable } from './authorization-response.ts'
import { OutboundError } from './outbound-fetch.ts'
import { tokenFault } from './id-token.ts'

export type Stage = 'discovery' | 'endpoints' | 'token' | 'keys' | 'userinfo'

/**
 * What a failed discovery means for the admin who saves or tests a configuration. Apart from addresses that may not be
 * called, every way in which a host can fail is one code and one text: the difference would let an admin map our network.
 */
export function discoveryRefusal(stage: Stage, error: unknown): unknown {
  if (!(error instanceof OutboundError)) return error
  const detail = outboundDetail(stage, error)
  if (error.fault === 'blocked') {
    return new AppError(
      'sso_issuer_blocked',
      'The issuer, or an endpoint that it names, is not at a public internet address and permitted port. ' +
        'An identity provider in a private network has to be allowed by the operator of this service.',
      { detail },
    )
  }
  if (error.fault === 'not_json') {
    return new AppError(
      'sso_discovery_invalid',
      "The provider's discovery document cannot be used: the address answers with something else than JSON, such as a sign-in page.",
      { detail },
    )
  }
  return new AppError(
    'sso_discovery_failed',
    'The discovery document could not be read. Check the issuer: opened in a browser, the issuer followed by ' +
      '/.well-known/openid-configuration must show it.',
    { detail },
  )
}

/** What a failure means for the person signing in. A blocked address is, to them, one that cannot be reached. */
export function signInRefusal(stage: Stage, error: unknown): unknown {
  if (error instanceof OutboundError) return outboundRefusal(stage, error)
  if (error instanceof AppError) return stage === 'discovery' ? documentRefusal(error) : error
  if (error instanceof ResponseBodyError) return tokenErrorRefusal(error)
  if (error instanceof ClientError) {
    const outbound = findCause(error, OutboundError)
    return outbound ? outboundRefusal(stage, outbound) : libraryRefusal(stage, error)
  }
  return error
}

function outboundRefusal(stage: Stage, error: OutboundError): AppError {
  const detail = outboundDetail(stage, error)
  const answered = ['redirect', 'not_json', 'too_large', 'undecodable'].includes(error.fault)
  // A start or callback without discovery has no provider at all, whatever the host answers.
  return answered && stage !== 'discovery' ? idpError(detail) : unreachable(detail)
}

function outboundDetail(stage: Stage, { fault, host, systemCode }: OutboundError): Record<string, unknown> {
  return { stage, reason: fault, host, ...(systemCode !== undefined && { systemCode }) }
}

function documentRefusal({ code, detail }: AppError): AppError {
  return idpError({ ...detail, stage: 'discovery', reason: code })
}

/** An error of the token endpoint (RFC 6749 §5.2). Its description stays there: it is a stranger's text, and may hold addresses. */
function tokenErrorRefusal({ error, error_description, status }: ResponseBodyError): AppError {
  // Entra's description begins with the number that its documentation explains: AADSTS7000222 is an expired secret.
  const idpCode = /^[A-Z]{2,10}[0-9]{3,10}\b/.exec(error_description ?? '')?.[0]
  const detail = { stage: 'token', idpError: printable(error), ...(idpCode !== undefined && { idpCode }), status }
  // RFC 6749 §5.2 defines 401 for failed client authentication only. Keycloak names it unauthorized_client, Auth0 access_denied.
  return error === 'invalid_client' || status === 401 ? clientRejected(detail) : idpError(detail)
}

/** openid-client's own checks of what a provider answered. Its errors hold tokens, so none goes on as a cause. */
function libraryRefusal(stage: Stage, error: ClientError): AppError {
  if (error.cause instanceof Response && error.cause.status >= 400) return statusRefusal(stage, error.cause.status)
  const cause = error.cause as { message?: unknown; cause?: { claim?: unknown; attribute?: unknown } } | undefined
  const { claim, attribute } = cause?.cause ?? {}
  if (typeof claim === 'string') return tokenFault(claim)
  if (attribute === 'sub') return tokenFault('userinfo_sub')
  // "JWT "nonce" (nonce) claim missing", "ID Token "auth_time" (authentication time)" must be …, "unexpected JWT "alg" header parameter", ""response" body "id_token" property …"
  const message = String(cause?.message)
  const subject =
    /(?:JWT|ID Token) "(\w+)"/.exec(message)?.[1] ?? (message.includes('"id_token"') ? 'id_token_missing' : undefined)
  if (subject !== undefined) return tokenFault(subject)
  if (stage === 'token' && /JWT|JWE/.test(message)) return tokenFault('malformed')
  return idpError({ stage, reason: error.code ?? 'unknown' })
}

export function statusRefusal(stage: Stage, status: number): AppError {
  if (stage === 'token' && status === 401) return clientRejected({ stage, status })
  return status >= 500 || status === 429 ? unreachable({ stage, status }) : idpError({ stage, status })
}

export function unreachable(detail: Record<string, unknown>): AppError {
  return new AppError('sso_idp_unreachable', 'The identity provider cannot be reached. Try again in a moment.', {
    detail,
  })
}

export function idpError(detail: Record<string, unknown>): AppError {
  return new AppError('sso_idp_error', 'The identity provider could not complete the sign-in. Try again.', { detail })
}

function clientRejected(detail: Record<string, unknown>): AppError {
  return new AppError(
    'sso_client_rejected',
    'The identity provider did not accept the credentials of this service. An owner of the workspace has to renew the client secret or key.',
    { detail },
  )
}

function findCause<Kind extends Error>(error: Error, kind: new (...parameters: never[]) => Kind): Kind | undefined {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof kind) return cause
  }
  return undefined
}
