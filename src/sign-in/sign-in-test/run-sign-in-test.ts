import { AppError } from '../../errors.ts'
import { makeOpaqueToken } from '../../opaque-token.ts'
import type { AuthorizationResponse, IdTokenClaims, ProvenSignIn } from '../../oidc/provider.ts'
import {
  findStartedTest,
  finishTest,
  takeSignInTest,
  type FinishedTest,
  type StartedSignInTest,
} from './sign-in-tests.ts'
import { authenticationParameters, checkAuthentication, readSessionExpiry } from '../attempt/authentication.ts'
import type { AuthenticationCheck } from '../attempt/authentication.ts'
import { signInTestUrl } from '../attempt/front-end.ts'
import { readPerson } from '../linking/linking.ts'
import { makeAttemptSecrets, saveAttempt, sealOutcomeCode, type SignInAttempt } from '../attempt/attempts.ts'
import { proveSignIn } from '../admission/prove-sign-in.ts'
import { rehearse } from './rehearse.ts'
import { beginAt, type AttemptDependencies, type StartedSignIn } from '../attempt/start-sign-in.ts'
import { failedReport, testedReport, type Tested } from './write-report.ts'

export interface OpenedSignInTest {
  workspaceId: string
  token: string
  /** visitorNetwork of the browser's address. */
  network: string
  requestId: string
}

/**
 * Sends the admin's browser to the provider, as a sign-in would.
 * @returns where to go on; without an attempt where the provider is of no use, which the report then says
 * @throws {AppError} `sso_attempt_expired`, `rate_limited`
 */
export async function startSignInTest(
  dependencies: AttemptDependencies,
  { workspaceId, token, network, requestId }: OpenedSignInTest,
): Promise<StartedSignIn | { location: string }> {
  const { config, db, box } = dependencies
  const test = await takeSignInTest(db, box, { workspaceId, token })
  const { signInConfig, configVersion } = test
  const returnTo = signInTestUrl(config, test)
  const secrets = makeAttemptSecrets()
  let location: string
  try {
    location = await beginAt(dependencies, { signInConfig, secrets, extra: authenticationParameters(signInConfig) })
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    const report = failedReport(error, signInConfig)
    await db.transaction().execute(trx => finishTest(trx, box, { ...keyOf(test), passed: false, report, requestId }))
    return { location: returnTo }
  }
  await saveAttempt(db, box, {
    start: { workspaceId, returnTo, handoffChallenge: '' },
    secrets,
    issuer: signInConfig.issuer,
    configVersion: configVersion ?? 0,
    signInTestId: test.id,
    restarts: 0,
    network,
    limits: { minutes: config.signInAttemptMinutes, openAttempts: config.signInOpenAttempts },
  })
  const { state, browserSecret } = secrets
  return { location, state, browserSecret }
}

export interface AnsweredTest {
  attempt: SignInAttempt
  signInTestId: string
  response: AuthorizationResponse
  requestId: string
}

/**
 * Runs a whole sign-in and ends it in a report. Creates no session, member or identity.
 * @returns the code with which the creator's browser confirms the test; undefined when no person signed in
 */
export async function finishSignInTest(
  dependencies: AttemptDependencies,
  answered: AnsweredTest,
): Promise<string | undefined> {
  const { db, box } = dependencies
  const { attempt, signInTestId: id, requestId } = answered
  const { workspaceId, stateHash } = attempt
  const test = await findStartedTest(db, box, { workspaceId, id })
  const result = await run(dependencies, test, answered)
  const code = result.subject === undefined ? undefined : makeOpaqueToken('tsc', workspaceId)
  const finished = { ...result, ...keyOf(test), codeHash: code?.hash, requestId }
  await db.transaction().execute(async trx => {
    await finishTest(trx, box, finished)
    await trx
      .updateTable('sign_in_attempts')
      .set({ outcome: 'tested', outcome_code: code ? sealOutcomeCode(box, attempt, code.token) : null })
      .where('workspace_id', '=', workspaceId)
      .where('state_hash', '=', stateHash)
      .execute()
  })
  return code?.token
}

function keyOf({ workspaceId, id }: StartedSignInTest) {
  return { workspaceId, id }
}

type Result = Omit<FinishedTest, 'workspaceId' | 'id' | 'requestId' | 'codeHash'>

async function run(
  dependencies: AttemptDependencies,
  test: StartedSignInTest,
  answered: AnsweredTest,
): Promise<Result> {
  const { attempt, response, requestId } = answered
  const { signInConfig, configVersion } = test
  if (configVersion !== null && configVersion !== signInConfig.version) return changedMeanwhile()
  let proven: ProvenSignIn
  try {
    proven = await proveSignIn(dependencies, { attempt, response, signInConfig, requestId })
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { passed: false, report: failedReport(error, signInConfig) }
  }
  const tested = await look(dependencies, { test, answered, proven })
  const report = testedReport(tested)
  const { outcome } = tested
  return {
    passed: report.checks.every(check => check.result !== 'fail'),
    report,
    claims: { ...proven.claims, ...(proven.contact.source === 'userinfo' && { userinfo: proven.contact }) },
    emailKey: tested.person.email?.key,
    subject: proven.claims.sub,
    memberId: outcome instanceof AppError || outcome.linkedBy === 'provisioned' ? undefined : outcome.memberId,
  }
}

function changedMeanwhile(): Result {
  const message = 'The SSO configuration was saved while the test was running.'
  const check = { name: 'configuration', result: 'fail', message, fix: 'Make a new test.' } as const
  const nothing = { claims: [], token: null, domain: null, membership: null, role: null }
  return { passed: false, report: { checks: [check], ...nothing } }
}

interface Look {
  test: StartedSignInTest
  answered: AnsweredTest
  proven: ProvenSignIn
}

async function look({ config, db }: AttemptDependencies, { test, answered, proven }: Look): Promise<Tested> {
  const { signInConfig, adminId } = test
  const { requestId, attempt } = answered
  const { startedAt } = attempt
  const { clockToleranceSeconds } = config
  const person = readPerson(proven, signInConfig, config)
  const check = { policy: signInConfig, startedAt, clockToleranceSeconds }
  const policyRefusal = policyRefusalOf(proven.claims, check)
  const outcome = await rehearse(db, { person, signInConfig, config, requestId }, proven).catch((error: unknown) => {
    if (error instanceof AppError) return error
    throw error
  })
  const clockSkewSeconds = proven.claims.iat - Math.floor(Date.now() / 1000)
  return { proven, person, signInConfig, clockSkewSeconds, outcome, policyRefusal, adminId }
}

function policyRefusalOf(claims: IdTokenClaims, check: AuthenticationCheck): AppError | undefined {
  try {
    checkAuthentication(claims, check)
    readSessionExpiry(claims)
    return undefined
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
}
