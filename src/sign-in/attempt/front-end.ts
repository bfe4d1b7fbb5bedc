import type { Config } from '../../config.ts'
import type { ErrorCode } from '../../errors.ts'
import { ssoUrls } from '../../sso/config/sso-config.ts'

/** What a sign-in was started with, and must be given again to start it anew. */
export interface StartRequest {
  workspaceId: string
  /** An absolute URL at one of the front-end's origins (parseReturnTo). */
  returnTo: string
  /** S256 of the verifier that the front-end keeps (RFC 7636 §4.2). */
  handoffChallenge: string
}

export interface StartChanges {
  restarts?: number | undefined
  /** Asks the provider for another account, or to authenticate anew (Core §3.1.2.1). */
  prompt?: 'select_account' | 'login' | undefined
}

/** The URL that begins a sign-in. */
export function startUrl(config: Config, start: StartRequest, { restarts = 0, prompt }: StartChanges = {}): string {
  const url = new URL(ssoUrls(config.publicUrl, start.workspaceId).startUrl)
  url.searchParams.set('return_to', start.returnTo)
  url.searchParams.set('handoff_challenge', start.handoffChallenge)
  if (restarts > 0) url.searchParams.set('restarts', String(restarts))
  if (prompt) url.searchParams.set('prompt', prompt)
  return url.href
}

/** The front-end's page that redeems the exchange code. */
export function signedInUrl(config: Config, returnTo: string, exchangeCode: string): string {
  return withCode(config, new URL(config.frontendSignedInPath, new URL(returnTo).origin), exchangeCode)
}

/** The front-end's page that shows the report of a sign-in test. */
export function signInTestUrl(config: Config, { workspaceId, id }: { workspaceId: string; id: string }): string {
  const url = new URL(config.frontendSignInTestPath, config.frontendOrigins[0])
  url.searchParams.set('workspace', workspaceId)
  url.searchParams.set('test', id)
  return url.href
}

/** The same page after a person signed in, with the code that confirms the test. */
export function testedUrl(config: Config, signInTestPage: string, testCode: string | undefined): string {
  return testCode === undefined ? signInTestPage : withCode(config, new URL(signInTestPage), testCode)
}

/** Puts a code where the front-end reads it. A fragment stays in the browser, so proxies and analytics never see it. */
function withCode({ frontendCodeIn }: Config, url: URL, code: string): string {
  if (frontendCodeIn === 'fragment') url.hash = new URLSearchParams({ code }).toString()
  else url.searchParams.set('code', code)
  return url.href
}

export interface InitiatedStart {
  workspaceId: string
  /** As a StartRequest has it. */
  returnTo: string
  loginHint?: string | undefined
}

/**
 * The front-end's page that begins a sign-in on behalf of the provider's portal: only the front-end can make the verifier
 * that the exchange code will be bound to.
 */
export function initiatedUrl(config: Config, { workspaceId, returnTo, loginHint }: InitiatedStart): string {
  const url = new URL(config.frontendInitiatePath, new URL(returnTo).origin)
  url.searchParams.set('workspace', workspaceId)
  url.searchParams.set('return_to', returnTo)
  if (loginHint !== undefined) url.searchParams.set('login_hint', loginHint)
  return url.href
}

export interface Failure {
  code: ErrorCode
  /** The request id, which finds the activity entry and the log line. */
  ref: string
  /** Known unless the callback could not be tied to a sign-in. */
  start?: StartRequest | undefined
  /** The domain of the address that was refused, for this person only. */
  domain?: string | undefined
}

/** Refusals that nothing the person does can change: an owner of the workspace has to act first. */
const final = new Set<ErrorCode>([
  'sso_not_configured',
  'sso_disabled',
  'sso_secret_missing',
  'sso_client_rejected',
  'sso_member_deactivated',
  'sso_groups_invalid',
  'sso_groups_overage',
  'sso_not_confirmed',
])

/** Refusals of the account rather than of the attempt: trying again means choosing another account. */
const ofAccount = new Set<ErrorCode>([
  'sso_email_missing',
  'sso_email_invalid',
  'sso_email_unverified',
  'sso_domain_not_allowed',
  'sso_not_provisioned',
  'sso_identity_conflict',
  'sso_identity_link_required',
])

/** Refusals of how the person signed in at the provider: trying again means doing so afresh. */
const ofAuthentication = new Set<ErrorCode>(['sso_authentication_too_old', 'sso_authentication_too_weak'])

function retryPrompt(code: ErrorCode): StartChanges['prompt'] {
  if (ofAuthentication.has(code)) return 'login'
  return ofAccount.has(code) ? 'select_account' : undefined
}

/**
 * The front-end's page for a sign-in that failed: a stable code and a reference, and where it makes sense the URL of
 * another try. Nothing that the provider said is in it.
 */
export function failedUrl(config: Config, { code, ref, start, domain }: Failure): string {
  const origin = start ? new URL(start.returnTo).origin : config.frontendOrigins[0]
  const url = new URL(config.frontendErrorPath, origin)
  url.searchParams.set('code', code)
  url.searchParams.set('ref', ref)
  if (domain !== undefined) url.searchParams.set('domain', domain)
  if (start && !final.has(code)) {
    url.searchParams.set('retry', startUrl(config, start, { prompt: retryPrompt(code) }))
  }
  return url.href
}
