import { buildEndSessionUrl } from 'openid-client'
import { AppError } from '../errors.ts'
import {
  checkResponseIssuer,
  requireResponseIssuer,
  responseRefusal,
  type AuthorizationResponse,
} from './authorization-response.ts'
import { createCache } from './cache.ts'
import { configureClient } from './client.ts'
import { OutboundError, type OutboundFetch } from './outbound-fetch.ts'
import {
  asTokenFault,
  isKeyFault,
  verifyIdToken,
  verifyLogoutToken,
  verifyUserInfo,
  type IdTokenClaims,
  type LogoutTokenClaims,
  type TokenRules,
} from './id-token.ts'
import { checkIssuer, discoveryUrl } from './issuer.ts'
import { readKeySet, sizeOfKeySet, type KeySet } from './key-set.ts'
import {
  calledEndpoints,
  readMetadata,
  usableAlgorithms,
  userInfoAlgorithms,
  type ProviderMetadata,
} from './metadata.ts'
import { runChecks, type ProviderCheck } from './provider-checks.ts'
import { discoveryRefusal, idpError, signInRefusal, type Stage } from './provider-error.ts'
import { requestTokens, type CodeExchange, type ProviderClient } from './token-request.ts'
import { fetchUserInfo } from './userinfo.ts'

export type {
  AuthorizationResponse,
  CodeExchange,
  IdTokenClaims,
  LogoutTokenClaims,
  ProviderCheck,
  ProviderClient,
  ProviderMetadata,
}

export interface ProvidersOptions {
  guard: OutboundFetch
  /** Accepts issuers with http; the guard still decides where they may be. Development only. */
  allowHttp: boolean
  /** For `exp` and `nbf` of tokens. */
  clockToleranceSeconds: number
  /** A failed inspection takes a whole number of these, so that its duration tells nothing about the network. */
  failureStepMs?: number
  /** For all calls of one sign-in together. */
  signInBudgetMs?: number
  /** Milliseconds since the epoch, for the times in tokens. */
  now?: () => number
  /** Milliseconds of a clock that never steps back, for the age of cached values. */
  elapsed?: () => number
}

export interface AuthorizationRequest {
  issuer: string
  clientId: string
  redirectUri: string
  state: string
  nonce: string
  /** S256 of the code verifier (RFC 7636 §4.2). */
  codeChallenge: string
  /** Default `openid email profile`. */
  scope?: string
  /** Further parameters, such as `login_hint` or `prompt`. They cannot replace one of the above. */
  extra?: Record<string, string>
}

export interface ProvenSignIn {
  /** The ID token's claims, verified. */
  claims: IdTokenClaims
  /** As `id_token_hint` at logout. */
  idToken: string
  contact: Contact
  /** Which of the client's secrets or keys the provider accepted. */
  credentialIndex: number
}

/** Contact data from one source: the ID token when it contains an address, else UserInfo. The two are never mixed. */
export interface Contact {
  /**
   * Why UserInfo could not be read. The verified ID token still proves who the person is, so this refuses only a person who has
   * to be found by their address.
   */
  fault?: AppError | undefined
  source: 'id_token' | 'userinfo'
  email?: string | undefined
  /** As sent: true, false, absent, or whatever else a provider thinks fit. */
  emailVerified?: unknown
  name?: string | undefined
}

export interface EndSessionRequest {
  issuer: string
  clientId: string
  idToken?: string | undefined
  postLogoutRedirectUri?: string | undefined
  state?: string | undefined
}

export interface Providers {
  /**
   * Reads an issuer as an admin typed it, fetches its metadata and checks every address that the service would call. Caches nothing that is not in use.
   * The metadata's `issuer` is the one to store: the provider's own spelling.
   * @throws {AppError} `sso_issuer_invalid`, `sso_issuer_insecure`, `sso_issuer_multi_tenant`, `sso_issuer_blocked`,
   *   `sso_issuer_mismatch`, `sso_discovery_failed`, `sso_discovery_invalid`
   */
  inspect: (issuer: string) => Promise<ProviderMetadata>
  /** The same as a list of checks, with the keys and what the metadata promises; throws nothing that a provider can cause. */
  test: (issuer: string) => Promise<ProviderCheck[]>
  /**
   * The metadata of a stored issuer: fresh for 10 minutes, used for 24 hours while the provider is away.
   * @throws {AppError} `sso_idp_unreachable`; `sso_idp_error` where the document has become unusable
   */
  discover: (issuer: string) => Promise<ProviderMetadata>
  /**
   * Where to send the browser: code flow with state, nonce and PKCE, whatever the provider announces (RFC 9700 §2.1.1).
   * @throws {AppError} as `discover`
   */
  authorizationUrl: (request: AuthorizationRequest) => Promise<string>
  /**
   * Exchanges a code and proves who signed in, within 10 seconds over all calls. With warm caches one call goes out, or
   * two when the ID token has no e-mail address. A UserInfo endpoint that fails is `contact.fault`, not an error.
   * @throws {AppError} `sso_issuer_mismatch` and `sso_access_denied` before the code goes anywhere; `sso_state_invalid`;
   *   `sso_client_rejected`, `sso_idp_error`, `sso_idp_unreachable`, `sso_token_invalid`, each with `detail`
   */
  exchangeCode: (exchange: CodeExchange) => Promise<ProvenSignIn>
  /**
   * Verifies a back-channel logout token with the issuer's keys.
   * @throws {AppError} `sso_token_invalid`, `sso_idp_unreachable`, `sso_idp_error`
   */
  verifyLogoutToken: (logout: { issuer: string; clientId: string; token: string }) => Promise<LogoutTokenClaims>
  /** Where to end the provider's own session (RP-Initiated Logout 1.0); undefined where it has no such endpoint or is away. */
  endSessionUrl: (request: EndSessionRequest) => Promise<string | undefined>
  /** The next use fetches the metadata of an issuer again. Cached metadata stay in use when that fails. */
  markStale: (issuer: string) => void
  /** Bytes of cached metadata and keys. */
  cachedBytes: () => number
}

interface KeyedWork<Result> {
  metadata: ProviderMetadata
  clientId: string
  verify: (rules: TokenRules) => Promise<Result>
  /** By performance.now(). */
  deadline?: number
}

const minute = 60_000
/** Memory for the metadata and for the keys of providers, per replica: about 2,000 ordinary ones. */
const maxBytes = 32 * 1024 * 1024

/** Bytes that the metadata of a provider occupy in memory, roughly. */
function sizeOfMetadata(metadata: ProviderMetadata): number {
  return 2 * JSON.stringify(metadata).length + 500
}

/** OpenID Connect towards providers: metadata and keys in bounded caches of this replica, and everything that uses them. */
export function createProviders(options: ProvidersOptions): Providers {
  const {
    guard,
    allowHttp,
    clockToleranceSeconds,
    failureStepMs = 1_000,
    signInBudgetMs = 10_000,
    now = Date.now,
    elapsed = () => performance.now(),
  } = options
  const times = { freshMs: 10 * minute, staleMs: 24 * 60 * minute, failureMs: minute / 2, now: elapsed }
  const caching = { ...times, maxBytes, maxFailures: 2_000 }
  const documents = createCache<ProviderMetadata>({ ...caching, sizeOf: sizeOfMetadata })
  // A token that no known key fits makes us ask for newer ones, at most every 10 s (Core §10.1.1). The first such token
  // is served at once, even right after an ordinary fetch: that is what a rotation looks like.
  const keySets = createCache<KeySet>({ ...caching, sizeOf: sizeOfKeySet, floorMs: 10_000 })

  async function inspect(typed: string): Promise<ProviderMetadata> {
    const issuer = checkIssuer(typed, { allowHttp })
    const startedAt = performance.now()
    try {
      const metadata = await fetchMetadata(guard, issuer).catch(refuseAt('discovery'))
      await checkEndpoints(guard, metadata).catch(refuseAt('endpoints'))
      documents.refresh(discoveryUrl(issuer), metadata)
      return metadata
    } catch (error) {
      if (isCode(error, 'sso_discovery_failed')) await sleepToStep(startedAt, failureStepMs)
      throw error
    }
  }

  async function reloadKeys(metadata: ProviderMetadata): Promise<KeySet> {
    const keySet = await fetchKeys(guard, metadata)
    keySets.refresh(keySetKey(metadata), keySet)
    return keySet
  }

  async function discover(issuer: string, deadline?: number): Promise<ProviderMetadata> {
    const url = discoveryUrl(issuer)
    const loading = documents.get(url, () => fetchMetadata(guard, issuer))
    const { value: metadata } = await signingIn('discovery', within(deadline, loading, url))
    // Compared character by character with what was stored, whatever the cache's key leaves out (Discovery 1.0 §4.3).
    if (metadata.issuer !== issuer) {
      throw idpError({ stage: 'discovery', reason: 'sso_issuer_mismatch', found: metadata.issuer })
    }
    return metadata
  }

  /** Verifies with the keys that are known and, where they do not fit, once more with newer ones. */
  async function withKeys<Result>({ metadata, clientId, verify, deadline }: KeyedWork<Result>): Promise<Result> {
    const key = keySetKey(metadata)
    const load = () => fetchKeys(guard, metadata)
    const wait = <Keys>(loading: Promise<Keys>) => signingIn('keys', within(deadline, loading, metadata.jwks_uri))
    const rules = { issuer: metadata.issuer, clientId, algorithms: usableAlgorithms(metadata), clockToleranceSeconds }
    const attempt = (keySet: KeySet) => verify({ ...rules, find: keySet.find, now: now() })

    const known = await wait(keySets.get(key, load))
    try {
      return await attempt(known.value)
    } catch (error) {
      if (!isKeyFault(error)) throw error
      const newer = await wait(keySets.replace(key, known, load))
      if (newer === undefined) throw asTokenFault(error, now())
      return await attempt(newer.value).catch((second: unknown) => {
        throw asTokenFault(second, now())
      })
    }
  }

  async function exchangeCode(exchange: CodeExchange): Promise<ProvenSignIn> {
    const { issuer, response, nonce } = exchange
    const { clientId } = exchange.client
    if (response.state !== exchange.state) {
      throw new AppError('sso_state_invalid', 'This is not the answer to the sign-in that was started. Start again.')
    }
    checkResponseIssuer(issuer, response)
    const refusal = responseRefusal(response)
    const deadline = performance.now() + signInBudgetMs
    const metadata = await discover(issuer, deadline).catch((error: unknown) => {
      throw refusal ?? error
    })
    if (metadata.authorization_response_iss_parameter_supported) requireResponseIssuer(response)
    if (refusal) throw refusal

    const { accessToken, idToken, credentialIndex } = await requestTokens({ guard, metadata, exchange, deadline })
    const verify = (rules: TokenRules) => verifyIdToken(idToken, nonce, rules)
    const claims = await withKeys({ metadata, clientId, verify, deadline })
    const contact = contactFrom('id_token', claims)
    if (contact.email !== undefined) return { claims, idToken, contact, credentialIndex }
    const verifyJwt = (token: string) => {
      const verified = (rules: TokenRules) =>
        verifyUserInfo(token, { ...rules, algorithms: userInfoAlgorithms(metadata) })
      return withKeys({ metadata, clientId, verify: verified, deadline })
    }
    const asked = { guard, metadata, accessToken, subject: claims.sub, verify: verifyJwt, deadline }
    try {
      const userinfo = await signingIn('userinfo', fetchUserInfo(asked))
      const found = userinfo === undefined ? contact : contactFrom('userinfo', userinfo)
      return { claims, idToken, contact: found, credentialIndex }
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      return { claims, idToken, contact: { ...contact, fault: error }, credentialIndex }
    }
  }

  return {
    inspect,
    test: issuer => runChecks(issuer, { inspect, reloadKeys }),
    discover: issuer => discover(issuer),
    exchangeCode,
    authorizationUrl: async ({ issuer, clientId, extra = {}, scope = 'openid email profile', ...request }) => {
      const { authorization_endpoint: endpoint } = await discover(issuer)
      return withParameters(endpoint, {
        ...extra,
        response_type: 'code',
        client_id: clientId,
        redirect_uri: request.redirectUri,
        scope,
        state: request.state,
        nonce: request.nonce,
        code_challenge: request.codeChallenge,
        code_challenge_method: 'S256',
      })
    },
    verifyLogoutToken: async ({ issuer, clientId, token }) => {
      const metadata = await discover(issuer)
      return withKeys({ metadata, clientId, verify: rules => verifyLogoutToken(token, rules) })
    },
    endSessionUrl: async ({ issuer, clientId, idToken, postLogoutRedirectUri, state }) => {
      const metadata = await discover(issuer).catch(() => undefined)
      if (metadata?.end_session_endpoint === undefined) return undefined
      const parameters = {
        ...(idToken !== undefined && { id_token_hint: idToken }),
        ...(postLogoutRedirectUri !== undefined && { post_logout_redirect_uri: postLogoutRedirectUri }),
        ...(state !== undefined && { state }),
      }
      return buildEndSessionUrl(configureClient({ guard, metadata, clientId }), parameters).href
    },
    markStale: issuer => documents.markStale(discoveryUrl(issuer)),
    cachedBytes: () => documents.size() + keySets.size(),
  }
}

/** An endpoint may have a query of its own, which stays (RFC 6749 §3.1); it cannot set one of ours. */
function withParameters(endpoint: string, parameters: Record<string, string>): string {
  const url = new URL(endpoint)
  const query = new URLSearchParams(url.search)
  for (const [name, value] of Object.entries(parameters)) query.set(name, value)
  url.search = query.toString()
  return url.href
}

const refuseAt = (stage: Stage) => (error: unknown) => {
  throw discoveryRefusal(stage, error)
}

/** Save-time check of every address that sign-ins will call; each call is guarded again when it is made. */
async function checkEndpoints(guard: OutboundFetch, metadata: ProviderMetadata): Promise<void> {
  const urls = calledEndpoints.map(name => metadata[name]).filter(url => url !== undefined)
  await Promise.all(urls.map(url => guard.check(url)))
}

async function fetchMetadata(guard: OutboundFetch, issuer: string): Promise<ProviderMetadata> {
  return readMetadata(issuer, await fetchJson(guard, discoveryUrl(issuer)))
}

async function fetchKeys(guard: OutboundFetch, { jwks_uri }: ProviderMetadata): Promise<KeySet> {
  return readKeySet(await fetchJson(guard, jwks_uri))
}

/** By issuer and address: were a key found by its kid alone, one workspace's provider could sign for another's. */
function keySetKey({ issuer, jwks_uri }: ProviderMetadata): string {
  return JSON.stringify([issuer, jwks_uri])
}

/** The JSON value at a URL, or undefined where it is none. */
async function fetchJson(guard: OutboundFetch, url: string): Promise<unknown> {
  const response = await guard.fetch(url, { headers: { accept: 'application/json' } })
  if (response.status !== 200) throw new OutboundError('unreachable', new URL(url).host, `HTTP_${response.status}`)
  try {
    return await response.json()
  } catch {
    return undefined
  }
}

function contactFrom(source: Contact['source'], claims: Record<string, unknown>): Contact {
  const { email, email_verified: emailVerified, name } = claims
  return { source, email: textOf(email), emailVerified, name: textOf(name) }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

async function signingIn<Result>(stage: Stage, work: Promise<Result>): Promise<Result> {
  try {
    return await work
  } catch (error) {
    throw signInRefusal(stage, error)
  }
}

/** Waits for a shared call to a URL, but not beyond one sign-in's deadline; the call itself goes on for the others. */
function within<Result>(deadline: number | undefined, work: Promise<Result>, url: string): Promise<Result> {
  if (deadline === undefined) return work
  return new Promise((resolve, reject) => {
    const expire = () => reject(new OutboundError('timeout', new URL(url).host))
    const timer = setTimeout(expire, deadline - performance.now())
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

async function sleepToStep(startedAt: number, stepMs: number): Promise<void> {
  const elapsed = performance.now() - startedAt
  const rest = Math.ceil(elapsed / stepMs) * stepMs - elapsed
  await new Promise(resolve => setTimeout(resolve, rest))
}

function isCode(error: unknown, code: AppError['code']): boolean {
  return error instanceof AppError && error.code === code
}
