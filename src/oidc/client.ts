import * as oidc from 'openid-client'
import type { OutboundFetch } from './outbound-fetch.ts'
import { usableAlgorithms, type ProviderMetadata } from './metadata.ts'

export interface ClientOptions {
  guard: OutboundFetch
  metadata: ProviderMetadata
  clientId: string
  /** How the client proves itself at the token endpoint; absent for everything else. */
  auth?: oidc.ClientAuth
  /** When a sign-in has taken too long, by performance.now(). */
  deadline?: number | undefined
}

/**
 * The library, set for one client at one provider: every call goes through the guard, before the deadline; only asymmetric
 * algorithms count as announced; and the checks of times are left to `id-token.ts`, which names both clocks.
 */
export function configureClient({
  guard,
  metadata,
  clientId,
  auth = oidc.None(),
  deadline,
}: ClientOptions): oidc.Configuration {
  const settings = { [oidc.clockTolerance]: Number.MAX_SAFE_INTEGER }
  const config = new oidc.Configuration(serverMetadata(metadata), clientId, settings, auth)
  // The library's own limit, in seconds; the guard has one for each call.
  config.timeout = 0
  config[oidc.customFetch] = (url, { method, headers, body }) =>
    guard.fetch(url, { method, headers, body: body as URLSearchParams | undefined, deadline })
  // Only an issuer that was accepted with http has http endpoints; the guard has the last word on both.
  if (metadata.issuer.startsWith('http:')) oidc.allowInsecureRequests(config)
  return config
}

/** What the library reads of the metadata; it copies them for every configuration. */
function serverMetadata(metadata: ProviderMetadata): oidc.ServerMetadata {
  const { userinfo_endpoint, end_session_endpoint } = metadata
  return {
    issuer: metadata.issuer,
    authorization_endpoint: metadata.authorization_endpoint,
    token_endpoint: metadata.token_endpoint,
    ...(userinfo_endpoint !== undefined && { userinfo_endpoint }),
    ...(end_session_endpoint !== undefined && { end_session_endpoint }),
    id_token_signing_alg_values_supported: usableAlgorithms(metadata),
    authorization_response_iss_parameter_supported: metadata.authorization_response_iss_parameter_supported,
  }
}
