import { AppError } from '../errors.ts'

/** What an authorization endpoint sends back through the browser (RFC 6749 §4.1.2, RFC 9207). */
export interface AuthorizationResponse {
  state: string
  code?: string | undefined
  iss?: string | undefined
  error?: string | undefined
}

/**
 * Reads the callback's query. Parameters must not repeat (RFC 6749 §3.1), and without a state nothing can be answered.
 * `error_description` is not read: it is text of a stranger.
 * @throws {AppError} `sso_state_invalid`
 */
export function readAuthorizationResponse(query: URLSearchParams): AuthorizationResponse {
  const once = (name: string): string | undefined => {
    const values = query.getAll(name)
    if (values.length > 1) throw stateInvalid(`${name}_repeated`)
    return values[0] === '' ? undefined : values[0]
  }
  const [state, code, iss, error] = [once('state'), once('code'), once('iss'), once('error')]
  if (state === undefined) throw stateInvalid('state_missing')
  return { state, code, iss, error }
}

function stateInvalid(reason: string): AppError {
  return new AppError('sso_state_invalid', 'This is not the answer to a sign-in that was started here. Start again.', {
    detail: { reason },
  })
}

/**
 * Compares the response's `iss` with the issuer that the sign-in was started at (RFC 9207 §2.4), before anything is sent
 * anywhere: a code that belongs to another provider must not reach this one, nor the other way round.
 * @throws {AppError} `sso_issuer_mismatch`
 */
export function checkResponseIssuer(issuer: string, response: AuthorizationResponse): void {
  if (response.iss !== undefined && response.iss !== issuer) throw issuerMismatch('iss_foreign')
}

/** A provider that announces `iss` always sends it, in errors too (RFC 9207 §2.3). */
export function requireResponseIssuer(response: AuthorizationResponse): void {
  if (response.iss === undefined) throw issuerMismatch('iss_missing')
}

function issuerMismatch(reason: string): AppError {
  return new AppError('sso_issuer_mismatch', 'The answer came from another identity provider than the one asked.', {
    detail: { reason },
  })
}

/**
 * The refusal that an error response stands for (RFC 6749 §4.1.2.1, Core §3.1.2.6), where there is one.
 * @returns `sso_access_denied` or `sso_idp_error`, with the provider's code in the detail
 */
export function responseRefusal({ error }: AuthorizationResponse): AppError | undefined {
  if (error === undefined) return undefined
  const detail = { stage: 'authorization', idpError: printable(error) }
  if (error === 'access_denied') {
    return new AppError('sso_access_denied', 'The sign-in was cancelled or refused at the identity provider.', {
      detail,
    })
  }
  return new AppError('sso_idp_error', 'The identity provider reported an error.', { detail })
}

/** A provider's own code as it may stand in an entry: printable ASCII, at most 200 characters. */
export function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 200)
}
