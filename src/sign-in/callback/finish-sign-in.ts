import type { Config } from '../../config.ts'
import { databaseRefusal } from '../../db/database.ts'
import { AppError, type ErrorCode } from '../../errors.ts'
import { checkResponseIssuer, readAuthorizationResponse } from '../../oidc/authorization-response.ts'
import type { ProvenSignIn } from '../../oidc/provider.ts'
import { openSignInConfig } from '../../sso/config/sso-config.ts'
import { checkAuthentication } from '../attempt/authentication.ts'
import { failedUrl, signedInUrl, startUrl, testedUrl } from '../attempt/front-end.ts'
import {
  AttemptRefusal,
  awaitOutcome,
  closeRefusedAttempt,
  recordSignInRefusal,
  recordRestart,
  takeAttempt,
} from '../attempt/attempts.ts'
import type { AttemptOutcome, SignInAttempt } from '../attempt/attempts.ts'
import { finishSignInTest } from '../sign-in-test/run-sign-in-test.ts'
import { proveSignIn, type AnsweredAttempt } from '../admission/prove-sign-in.ts'
import { signIn, type SignIn, type Visitor } from '../admission/sign-in.ts'
import { requireOpen, type AttemptDependencies } from '../attempt/start-sign-in.ts'

export interface CallbackDependencies extends AttemptDependencies {
  /**
   * Waits for a turn of a workspace at the main pool, because a sign-in may wait for rows that a batch has locked. The
   * result ends the turn.
   */
  takeTurn: (workspaceId: string) => Promise<() => void>
}

export interface Callback {
  workspaceId: string
  query: URLSearchParams
  /** The value of the cookie that belongs to a state. */
  readCookie: (state: string) => string | undefined
  visitor: Visitor
}

export interface FinishedSignIn {
  /** The front-end's signed-in or error page, or a new start. */
  location: string
  /** Of the attempt that is over: its cookie has done its work. */
  state: string
  /** Why it was refused, for the log. */
  refusal?: AppError
}

/**
 * Answers a callback. State, cookie and `iss` are checked before anything is sent to the provider, the code is exchanged
 * once, and a second delivery of the same callback lands where the first did. Two round trips to the database for
 * someone who is known, four for most who are not.
 * @throws {AppError} `sso_state_invalid`, `sso_attempt_expired`: the callback belongs to no attempt that could end by it.
 *   Everything later is the attempt's outcome.
 */
export async function finishSignIn(dependencies: CallbackDependencies, callback: Callback): Promise<FinishedSignIn> {
  const { config, db, box } = dependencies
  const { workspaceId, query, readCookie, visitor } = callback
  const response = readAuthorizationResponse(query)
  const { state } = response
  const { kind, attempt, configRow } = await takeAttempt(db, box, {
    workspaceId,
    state,
    browserSecret: readCookie(state),
  })
  const endWith = (outcome: AttemptOutcome) => ({ location: outcomeUrl(config, { attempt, outcome, visitor }), state })
  if (kind === 'repeated') return endWith(await awaitOutcome(db, box, attempt))
  if (attempt.signInTestId !== null) {
    const { signInTestId } = attempt
    const answered = { attempt, signInTestId, response, requestId: visitor.requestId }
    return endWith({ outcome: 'tested', testCode: await finishSignInTest(dependencies, answered) })
  }
  let proven: ProvenSignIn | undefined
  try {
    const signInConfig = requireOpen(configRow && openSignInConfig(box, configRow))
    const answered = { attempt, response, signInConfig, requestId: visitor.requestId }
    if (!checkAnswer(answered)) {
      await recordRestart(db, attempt)
      return endWith({ outcome: 'restarted' })
    }
    proven = await proveSignIn(dependencies, answered)
    const { startedAt } = attempt
    const { clockToleranceSeconds } = config
    checkAuthentication(proven.claims, { policy: signInConfig, startedAt, clockToleranceSeconds })
    const code = await signInInTurn(dependencies, { attempt, signInConfig, proven, visitor })
    return endWith({ outcome: 'signed_in', exchangeCode: code })
  } catch (error) {
    const refusal = asRefusal(error)
    const detail = {
      issuer: attempt.issuer,
      ...claimedBy(proven),
      ...describedBy(query.get('error_description')),
    }
    const { requestId, network } = visitor
    const strangerFrom = proven === undefined ? network : undefined
    await recordRefusedSignIn(dependencies, { workspaceId, refusal, attempt, detail, requestId, strangerFrom })
    const domain = domainOf(refusal)
    return {
      location: failedUrl(config, { code: refusal.code, ref: requestId, start: attempt, domain }),
      state,
      refusal,
    }
  }
}

async function signInInTurn({ takeTurn, ...dependencies }: CallbackDependencies, signingIn: SignIn): Promise<string> {
  const release = await takeTurn(signingIn.signInConfig.workspaceId)
  try {
    return await signIn(dependencies, signingIn)
  } finally {
    release()
  }
}

/** Errors of providers that mean "ask again", such as Keycloak's for a tab that slept too long (Core §3.1.2.6). */
const askAgain = new Set(['login_required', 'interaction_required', 'temporarily_unavailable'])

/**
 * Checks an answer against the configuration as it is now: an admin's decision since the start holds.
 * @returns false where the sign-in has to begin anew, once for each chain
 */
function checkAnswer({ attempt, response, signInConfig }: AnsweredAttempt): boolean {
  checkResponseIssuer(attempt.issuer, response)
  // Versions begin anew with a configuration that is made after another was deleted: it may be of another provider.
  const changed = signInConfig.version !== attempt.configVersion || signInConfig.issuer !== attempt.issuer
  if ((changed || askAgain.has(response.error ?? '')) && attempt.restarts === 0) return false
  if (changed) throw new AttemptRefusal('sso_attempt_expired', 'config_changed', attempt)
  return true
}

function outcomeUrl(
  config: Config,
  { attempt, outcome, visitor }: { attempt: SignInAttempt; outcome: AttemptOutcome; visitor: Visitor },
): string {
  if ('exchangeCode' in outcome) return signedInUrl(config, attempt.returnTo, outcome.exchangeCode)
  if ('testCode' in outcome) return testedUrl(config, attempt.returnTo, outcome.testCode)
  if (!('ref' in outcome)) return startUrl(config, attempt, { restarts: attempt.restarts + 1 })
  return failedUrl(config, { code: outcome.outcome, ref: outcome.ref ?? visitor.requestId, start: attempt })
}

export interface RefusedSignIn {
  workspaceId: string
  refusal: AppError
  /** The attempt that ends with it. */
  attempt?: SignInAttempt | undefined
  detail?: Record<string, unknown>
  requestId: string
  /** The network of the browser, when no person was proven: such refusals cost a stranger nothing, so they are aggregated. */
  strangerFrom?: string | undefined
}

/**
 * Records a refused sign-in. Refusals of strangers are aggregated per network and reason, and a workspace without SSO gets no
 * entries at all: anyone could fill its log.
 */
export async function recordRefusedSignIn(
  { db, repeatedRefusals }: AttemptDependencies,
  refused: RefusedSignIn,
): Promise<void> {
  const { workspaceId, refusal, attempt, detail, requestId, strangerFrom } = refused
  if (refusal.code === 'sso_not_configured') return
  const { memberId, ...more } = refusal.detail ?? {}
  const entry = {
    workspaceId,
    code: refusal.code,
    memberId: typeof memberId === 'string' ? memberId : undefined,
    detail: { ...detail, ...more },
    requestId,
  }
  const reason = typeof more.reason === 'string' ? more.reason : ''
  const isCounted =
    strangerFrom !== undefined &&
    !repeatedRefusals.isFirst(`${workspaceId} ${strangerFrom} ${refusal.code} ${reason}`, count =>
      recordSignInRefusal(db, { ...entry, detail: { ...entry.detail, count, network: strangerFrom } }),
    )
  if (!isCounted) await recordSignInRefusal(db, { ...entry, stateHash: attempt?.stateHash })
  else if (attempt) await closeRefusedAttempt(db, { ...attempt, code: refusal.code })
}

/** Any thrown value as the refusal that the person's page and the entry can name. */
export function asRefusal(error: unknown): AppError {
  if (error instanceof AppError) return error
  return databaseRefusal(error) ?? new AppError('internal', 'Something went wrong here. Try again.', { cause: error })
}

function domainOf({ code, detail }: AppError): string | undefined {
  const domain = detail?.domain
  return code === ('sso_domain_not_allowed' satisfies ErrorCode) && typeof domain === 'string' ? domain : undefined
}

/** Who claimed to be signing in, for the admin who reads the entry. */
function claimedBy(proven: ProvenSignIn | undefined): Record<string, unknown> {
  if (!proven) return {}
  const { claims, contact } = proven
  return { subject: claims.sub, ...(contact.email !== undefined && { email: escapeText(contact.email, 254) }) }
}

function describedBy(description: string | null): Record<string, unknown> {
  return description === null ? {} : { idpDescription: escapeText(description, 200) }
}

/** A stranger's text as printable ASCII without markup, at most `limit` characters. */
function escapeText(text: string, limit: number): string {
  return text
    .slice(0, limit)
    .replaceAll(/[^\x20-\x7e]|[<>&"'`\\]/g, each => `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .slice(0, limit)
}
