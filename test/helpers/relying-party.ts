import { createHash, randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { AppError } from '../../src/errors.ts'
import { readAuthorizationResponse } from '../../src/oidc/authorization-response.ts'
import { createOutboundFetch, type OutboundFetch, type OutboundOptions } from '../../src/oidc/outbound-fetch.ts'
import {
  createProviders,
  type CodeExchange,
  type ProvenSignIn,
  type Providers,
  type ProvidersOptions,
} from '../../src/oidc/provider.ts'
import type { AuthorizeOptions, ScriptedProvider } from './scripted-provider.ts'

export interface RelyingParty {
  guard: OutboundFetch
  providers: Providers
  /** The clock of the service. Increase `offsetMs` to advance it. */
  clock: { offsetMs: number; now: () => number }
  /** Runs a whole sign-in at a provider, from the authorization URL to the verified claims. */
  signIn: (idp: ScriptedProvider, changes?: SignInChanges) => Promise<ProvenSignIn>
  /** Starts a sign-in and returns its callback URL with a function that finishes it. */
  begin: (idp: ScriptedProvider, changes?: SignInChanges) => Promise<{ callback: string; exchange: CodeExchange }>
}

export interface SignInChanges extends AuthorizeOptions {
  issuer?: string
  client?: Partial<CodeExchange['client']>
  redirectUri?: string
}

/** Creates the outbound client and the OpenID Connect client of the service on a simulated network. */
export function makeRelyingParty(
  t: Test,
  outbound: OutboundOptions,
  options: Partial<ProvidersOptions> = {},
): RelyingParty {
  const guard = createOutboundFetch(outbound)
  t.teardown(() => guard.close())
  const clock = { offsetMs: 0, now: () => Date.now() + clock.offsetMs }
  const { allowHttp } = outbound
  const times = {
    clockToleranceSeconds: 30,
    failureStepMs: 20,
    now: clock.now,
    elapsed: () => performance.now() + clock.offsetMs,
  }
  const providers = createProviders({ guard, allowHttp, ...times, ...options })

  async function begin(idp: ScriptedProvider, changes: SignInChanges = {}) {
    const { issuer = idp.issuer, redirectUri = 'https://sso.assist.example/sso/w0/callback', ...rest } = changes
    const [state, nonce, codeVerifier] = [random(), random(), random()]
    const client = { clientId: 'assist-acme', clientSecrets: ['acme-secret'], ...changes.client }
    const codeChallenge = createHash('sha256').update(codeVerifier).digest('base64url')
    const { clientId } = client
    const url = await providers.authorizationUrl({ issuer, clientId, redirectUri, state, nonce, codeChallenge })
    const callback = idp.authorize(url, rest)
    const response = readAuthorizationResponse(new URL(callback).searchParams)
    return { callback, exchange: { issuer, client, redirectUri, response, state, nonce, codeVerifier } }
  }

  return {
    guard,
    providers,
    clock,
    begin,
    signIn: async (idp, changes) => providers.exchangeCode((await begin(idp, changes)).exchange),
  }
}

function random(): string {
  return randomBytes(32).toString('base64url')
}

/** Returns the AppError with which a promise rejects. Any other result fails the test. */
export async function refusal(work: Promise<unknown>): Promise<AppError> {
  const outcome = await work.catch((error: unknown) => error)
  if (outcome instanceof AppError) return outcome
  throw new Error('Expected a refusal.', { cause: outcome })
}
