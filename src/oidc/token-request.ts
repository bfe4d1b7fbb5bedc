import * as oidc from 'openid-client'
import { AppError } from '../errors.ts'
import type { AuthorizationResponse } from './authorization-response.ts'
import { signClientAssertion, type ClientKey } from './client-key.ts'
import { configureClient } from './client.ts'
import type { OutboundFetch } from './outbound-fetch.ts'
import { tokenFault } from './id-token.ts'
import type { ProviderMetadata } from './metadata.ts'
import { idpError, signInRefusal } from './provider-error.ts'

export type ClientAuthMethod = 'client_secret_basic' | 'client_secret_post' | 'private_key_jwt'

type SecretMethod = Exclude<ClientAuthMethod, 'private_key_jwt'>

/** This service as the provider knows it. */
export interface ProviderClient {
  clientId: string
  /** Live secrets, the one to try first in front. The next is tried only where the provider refuses one (`invalid_client`). */
  clientSecrets: readonly string[]
  /** The same for keys, which are used with `private_key_jwt` in place of secrets. */
  clientKeys?: readonly ClientKey[]
  /** The admin's choice; absent: by the provider's metadata, which chooses between the two ways to send a secret. */
  authMethod?: ClientAuthMethod | null | undefined
}

export interface CodeExchange {
  issuer: string
  client: ProviderClient
  /** Exactly as it was in the authorization request. */
  redirectUri: string
  /** From readAuthorizationResponse. */
  response: AuthorizationResponse
  /** Of the sign-in attempt. */
  state: string
  nonce: string
  codeVerifier: string
}

export interface Tokens {
  accessToken: string
  /** Not verified yet. */
  idToken: string
  /** Which of the client's secrets or keys the provider accepted. */
  credentialIndex: number
}

interface TokenRequestOptions {
  guard: OutboundFetch
  metadata: ProviderMetadata
  exchange: CodeExchange
  /** By performance.now(). */
  deadline: number
}

/**
 * Sends a code to the token endpoint (Core §3.1.3): once; with two live secrets or keys a second time where the provider
 * refused the first, which it does before it looks at the code (RFC 6749 §4.1.3).
 * @throws {AppError} `sso_client_rejected`, `sso_idp_error`, `sso_idp_unreachable`, `sso_token_invalid`,
 *   `sso_secret_missing`
 */
export async function requestTokens({ guard, metadata, exchange, deadline }: TokenRequestOptions): Promise<Tokens> {
  const { client, nonce, state, codeVerifier } = exchange
  const callback = callbackUrl(exchange)
  const checks = { expectedNonce: nonce, expectedState: state, pkceCodeVerifier: codeVerifier, idTokenExpected: true }
  const credentials = clientCredentials(client, metadata)
  for (const [credentialIndex, prove] of credentials.entries()) {
    const auth = await prove()
    const config = configureClient({ guard, metadata, clientId: client.clientId, auth, deadline })
    try {
      const tokens = await oidc.authorizationCodeGrant(config, callback, checks)
      if (tokens.id_token === undefined) throw tokenFault('id_token_missing')
      return { accessToken: tokens.access_token, idToken: tokens.id_token, credentialIndex }
    } catch (error) {
      const refusal = signInRefusal('token', error)
      const another = credentialIndex + 1 < credentials.length
      if (!(another && refusal instanceof AppError && refusal.code === 'sso_client_rejected')) throw refusal
    }
  }
  throw new AppError('sso_secret_missing', 'The SSO configuration has no client secret or key.')
}

/** The ways in which the client can prove itself, in the order to try them; each is made ready only when its turn comes. */
function clientCredentials(
  { clientId, authMethod, clientSecrets, clientKeys = [] }: ProviderClient,
  metadata: ProviderMetadata,
): (() => Promise<oidc.ClientAuth>)[] {
  if (authMethod === 'private_key_jwt') {
    return clientKeys.map(
      key => async () => authenticateByAssertion(await signClientAssertion(key, { clientId, metadata })),
    )
  }
  const method = authMethod ?? chooseAuthMethod(metadata)
  return clientSecrets.map(secret => async () => authenticateBySecret(method, secret))
}

/** Client authentication by a signed assertion (RFC 7521 §4.2, RFC 7523 §2.2). */
function authenticateByAssertion(assertion: string): oidc.ClientAuth {
  return (_server, { client_id: clientId }, body) => {
    body.set('client_id', clientId)
    body.set('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
    body.set('client_assertion', assertion)
  }
}

/** The library takes redirect_uri from the URL that it is handed: the registered one, never one built from a request. */
function callbackUrl({ redirectUri, response, state }: CodeExchange): URL {
  if (response.code === undefined) throw idpError({ stage: 'authorization', reason: 'code_missing' })
  const url = new URL(redirectUri)
  url.searchParams.set('code', response.code)
  url.searchParams.set('state', state)
  if (response.iss !== undefined) url.searchParams.set('iss', response.iss)
  return url
}

/** Announced Basic wins: it is what every provider must support for secrets (RFC 6749 §2.3.1). */
function chooseAuthMethod(metadata: ProviderMetadata): SecretMethod {
  const announced = metadata.token_endpoint_auth_methods_supported
  return announced.includes('client_secret_post') && !announced.includes('client_secret_basic')
    ? 'client_secret_post'
    : 'client_secret_basic'
}

/**
 * Client authentication by secret (RFC 6749 §2.3.1). Written here because the library's Basic percent-encodes characters
 * that form encoding leaves alone, such as the hyphens of an Entra client id, which not every provider decodes.
 */
function authenticateBySecret(method: SecretMethod, secret: string): oidc.ClientAuth {
  return (_server, client, body, headers) => {
    if (method === 'client_secret_post') {
      body.set('client_id', client.client_id)
      body.set('client_secret', secret)
      return
    }
    const credentials = `${formEncode(client.client_id)}:${formEncode(secret)}`
    headers.set('authorization', `Basic ${Buffer.from(credentials).toString('base64')}`)
  }
}

function formEncode(value: string): string {
  return new URLSearchParams({ _: value }).toString().slice(2)
}
