import { AppError } from '../errors.ts'
import type { AuthorizationResponse, IdTokenClaims, ProvenSignIn } from '../oidc/provider.ts'
import {
  findStartedTest,
  finishTest,
  takeLoginTest,
  type FinishedTest,
  type StartedLoginTest,
} from '../sso/login-tests.ts'
import { authenticationParameters, checkAuthentication, readSessionExpiry } from './authentication.ts'
import type { AuthenticationCheck } from './authentication.ts'
import { loginTestUrl } from './front-end.ts'
import { readPerson } from './linking.ts'
import { makeAttemptSecrets, saveAttempt, type LoginAttempt } from './login-attempts.ts'
import { proveSignIn } from './prove-sign-in.ts'
import { rehearse } from './rehearse.ts'
import { beginAt, type LoginDependencies, type StartedLogin } from './start-login.ts'
import { failedReport, testedReport, type Tested } from './test-report.ts'

export interface OpenedLoginTest {
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
export async function startLoginTest(
  dependencies: LoginDependencies,
  { workspaceId, token, network, requestId }: OpenedLoginTest,
): Promise<StartedLogin | { location: string }> {
  const { config, db, box } = dependencies
  const test = await takeLoginTest(db, box, { workspaceId, token })
  const { loginConfig, configVersion } = test
  const returnTo = loginTestUrl(config, test)
  const secrets = makeAttemptSecrets()
  let location: string
  try {
    location = await beginAt(dependencies, { loginConfig, secrets, extra: authenticationParameters(loginConfig) })
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    const report = failedReport(error, loginConfig)
    await db.transaction().execute(trx => finishTest(trx, box, { ...keyOf(test), passed: false, report, requestId }))
    return { location: returnTo }
  }
  await saveAttempt(db, box, {
    start: { workspaceId, returnTo, handoffChallenge: '' },
    secrets,
    issuer: loginConfig.issuer,
    configVersion: configVersion ?? 0,
    loginTestId: test.id,
    restarts: 0,
    network,
    limits: { minutes: config.loginAttemptMinutes, openAttempts: config.loginOpenAttempts },
  })
  const { state, browserSecret } = secrets
  return { location, state, browserSecret }
}

export interface AnsweredTest {
  attempt: LoginAttempt
  loginTestId: string
  response: AuthorizationResponse
  requestId: string
}

/** Goes all the way of a sign-in, and ends it in a report: no session, no member, no identity comes of it. */
export async function finishLoginTest(dependencies: LoginDependencies, answered: AnsweredTest): Promise<void> {
  const { db, box } = dependencies
  const { attempt, loginTestId: id, requestId } = answered
  const { workspaceId, stateHash } = attempt
  const test = await findStartedTest(db, box, { workspaceId, id })
  const finished = { ...(await run(dependencies, test, answered)), ...keyOf(test), requestId }
  await db.transaction().execute(async trx => {
    await finishTest(trx, box, finished)
    await trx
      .updateTable('login_attempts')
      .set({ outcome: 'tested' })
      .where('workspace_id', '=', workspaceId)
      .where('state_hash', '=', stateHash)
      .execute()
  })
}

function keyOf({ workspaceId, id }: StartedLoginTest) {
  return { workspaceId, id }
}

type Result = Omit<FinishedTest, 'workspaceId' | 'id' | 'requestId'>

async function run(dependencies: LoginDependencies, test: StartedLoginTest, answered: AnsweredTest): Promise<Result> {
  const { attempt, response, requestId } = answered
  const { loginConfig, configVersion } = test
  if (configVersion !== null && configVersion !== loginConfig.version) return changedMeanwhile()
  let proven: ProvenSignIn
  try {
    proven = await proveSignIn(dependencies, { attempt, response, loginConfig, requestId })
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { passed: false, report: failedReport(error, loginConfig) }
  }
  const tested = await look(dependencies, { test, answered, proven })
  const report = testedReport(tested)
  const { outcome } = tested
  return {
    passed: report.checks.every(check => check.result !== 'fail'),
    report,
    claims: { ...proven.claims, ...(proven.contact.source === 'userinfo' && { userinfo: proven.contact }) },
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
  test: StartedLoginTest
  answered: AnsweredTest
  proven: ProvenSignIn
}

async function look({ config, db }: LoginDependencies, { test, answered, proven }: Look): Promise<Tested> {
  const { loginConfig, adminId } = test
  const { requestId, attempt } = answered
  const { startedAt } = attempt
  const { clockToleranceSeconds } = config
  const person = readPerson(proven, loginConfig, config)
  const check = { policy: loginConfig, startedAt, clockToleranceSeconds }
  const policyRefusal = policyRefusalOf(proven.claims, check)
  const outcome = await rehearse(db, { person, loginConfig, config, requestId }, proven).catch((error: unknown) => {
    if (error instanceof AppError) return error
    throw error
  })
  const clockSkewSeconds = proven.claims.iat - Math.floor(Date.now() / 1000)
  return { proven, person, loginConfig, clockSkewSeconds, outcome, policyRefusal, adminId }
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
