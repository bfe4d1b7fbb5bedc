import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { insertEntrySql } from '../../activity/activity.ts'
import type { Db } from '../../db/database.ts'
import { prepared } from '../../db/prepared.ts'
import { AppError, type ErrorCode } from '../../errors.ts'
import { sha256 } from '../../opaque-token.ts'
import type { SecretBox } from '../../secret-box.ts'
import { signInConfigSql, type SignInConfigRow } from '../../sso/config/sso-config.ts'
import type { StartRequest } from './front-end.ts'
import { createRateLimited } from '../../rate-limit.ts'
import { s256 } from '../../opaque-token.ts'

/** A started sign-in. All of it is in the database: any replica can finish what another began. */
export interface SignInAttempt extends StartRequest {
  stateHash: Buffer
  nonce: string
  codeVerifier: string
  issuer: string
  configVersion: number
  /** How often this chain of attempts was begun anew by itself. */
  restarts: number
  /** ISO 8601. */
  startedAt: string
  /** The sign-in test that it is for; null: it is a sign-in. */
  signInTestId: string | null
}

/** What leaves the process once: the state and nonce to the provider, the browser secret as a cookie. */
export interface AttemptSecrets {
  state: string
  browserSecret: string
  nonce: string
  codeVerifier: string
  /** S256 of the verifier (RFC 7636 §4.2). */
  codeChallenge: string
}

/** Four independent values of 256 bits, 43 URL-safe characters each, and the hash of one. The state carries no data. */
export function makeAttemptSecrets(): AttemptSecrets {
  const random = randomBytes(128)
  const text = (index: number) => random.toString('base64url', 32 * index, 32 * (index + 1))
  const codeVerifier = text(3)
  return { state: text(0), browserSecret: text(1), nonce: text(2), codeVerifier, codeChallenge: s256(codeVerifier) }
}

function verifierContext(workspaceId: string, stateHash: Buffer): string {
  return `sign_in_attempts.verifier/${workspaceId}/${stateHash.toString('hex')}`
}

function outcomeContext(workspaceId: string, stateHash: Buffer): string {
  return `sign_in_attempts.outcome/${workspaceId}/${stateHash.toString('hex')}`
}

const insertAttempt = prepared<
  {
    workspaceId: string
    stateHash: Buffer
    browserHash: Buffer
    nonce: string
    verifierSealed: Buffer
    issuer: string
    configVersion: number
    returnTo: string
    handoffChallenge: string
    restarts: number
    signInTestId: string | null
    network: string
    minutes: number
    limit: number
  },
  { inserted: boolean }
>(
  'sign_in_attempt_insert',
  p => sql`
    INSERT INTO sign_in_attempts (workspace_id, state_hash, browser_hash, nonce, verifier_sealed, issuer, config_version,
                                return_to, handoff_challenge, restarts, sign_in_test_id, address, expires_at)
    SELECT ${p.workspaceId}::uuid, ${p.stateHash}, ${p.browserHash}, ${p.nonce}, ${p.verifierSealed}, ${p.issuer},
           ${p.configVersion}::int, ${p.returnTo}, ${p.handoffChallenge}, ${p.restarts}::smallint, ${p.signInTestId}::uuid,
           ${p.network}::inet,
           now() + ${p.minutes}::int * interval '1 minute'
     WHERE (SELECT count(*) FROM (SELECT FROM sign_in_attempts
                                   WHERE address = ${p.network}::inet AND workspace_id = ${p.workspaceId}::uuid
                                     AND taken_at IS NULL AND expires_at > now()
                                   LIMIT ${p.limit}::int) open_attempts) < ${p.limit}::int
    RETURNING true AS inserted`,
)

export interface NewAttempt {
  start: StartRequest
  secrets: AttemptSecrets
  issuer: string
  configVersion: number
  restarts: number
  /** The sign-in test that it is for; absent: it is a sign-in. */
  signInTestId?: string | undefined
  /** visitorNetwork of the browser's address. */
  network: string
}

export interface AttemptLimits {
  /** How long the person may take at the provider. */
  minutes: number
  /** Open attempts of one network in one workspace at most, over all replicas. */
  openAttempts: number
}

/**
 * Keeps a new attempt.
 * @throws {AppError} `rate_limited` when the network has too many open attempts in the workspace; none is given up for it
 */
export async function saveAttempt(
  db: Db,
  box: SecretBox,
  { start, secrets, limits, signInTestId, ...attempt }: NewAttempt & { limits: AttemptLimits },
): Promise<void> {
  const stateHash = sha256(secrets.state)
  const [row] = await insertAttempt(db, {
    ...attempt,
    ...start,
    signInTestId: signInTestId ?? null,
    stateHash,
    browserHash: sha256(secrets.browserSecret),
    nonce: secrets.nonce,
    verifierSealed: box.seal(secrets.codeVerifier, verifierContext(start.workspaceId, stateHash)),
    minutes: limits.minutes,
    limit: limits.openAttempts,
  })
  if (!row) throw createRateLimited(60)
}

interface AttemptRow extends Omit<SignInAttempt, 'workspaceId' | 'issuer' | 'codeVerifier'> {
  attemptIssuer: string
  verifierSealed: Buffer
  delivery: 'first' | 'repeated' | 'expired' | 'used' | 'other_browser'
}

/** The attempt beside the workspace's configuration, if it has one. */
type TakenRow = AttemptRow & (SignInConfigRow | { [Column in keyof SignInConfigRow]: null })

/**
 * Takes an attempt, and reads in the same round trip what each callback goes by next: the configuration as it is now.
 */
const take = prepared<{ workspaceId: string; stateHash: Buffer; browserHash: Buffer | null }, TakenRow>(
  'sign_in_attempt_take',
  ({ workspaceId, stateHash, browserHash }) => sql`
    WITH found AS MATERIALIZED (
      SELECT *, coalesce(browser_hash = ${browserHash}::bytea, false) AS same_browser
        FROM sign_in_attempts WHERE workspace_id = ${workspaceId}::uuid AND state_hash = ${stateHash}
    ), taken AS (
      UPDATE sign_in_attempts SET taken_at = now()
       WHERE workspace_id = ${workspaceId}::uuid AND state_hash = ${stateHash} AND browser_hash = ${browserHash}::bytea
         -- "Not taken yet", said so that the index of open attempts is not taken for the way to one.
         AND coalesce(taken_at, 'infinity') = 'infinity' AND expires_at > now()
      RETURNING true
    )
    SELECT f.state_hash AS "stateHash", f.nonce, f.verifier_sealed AS "verifierSealed", f.issuer AS "attemptIssuer",
           f.config_version AS "configVersion", f.return_to AS "returnTo", f.handoff_challenge AS "handoffChallenge",
           f.restarts, f.created_at AS "startedAt", f.sign_in_test_id AS "signInTestId",
           CASE WHEN EXISTS (SELECT FROM taken) THEN 'first'
                WHEN f.taken_at IS NULL AND f.expires_at <= now() THEN 'expired'
                WHEN NOT f.same_browser THEN 'other_browser'
                -- Without a time it was taken while this statement ran, by the same callback delivered twice at once.
                WHEN f.taken_at IS NULL OR f.taken_at > now() - interval '60 seconds' THEN 'repeated'
                ELSE 'used' END AS delivery,
           c.*
      FROM found f LEFT JOIN (${signInConfigSql(workspaceId)}) c ON true`,
)

export interface Delivery {
  attempt: SignInAttempt
  /** Of the workspace as it is now; undefined where it has none. */
  configRow: SignInConfigRow | undefined
  /** The first delivery of this callback carries on; a repeated one, within 60 s, waits for what comes of it. */
  kind: 'first' | 'repeated'
}

/** A callback that belongs to no attempt which may go on. */
export class AttemptRefusal extends AppError {
  /** To begin anew with, where the state was ours. */
  readonly start: StartRequest | undefined

  constructor(code: 'sso_state_invalid' | 'sso_attempt_expired', reason: string, start?: StartRequest) {
    const messages = {
      sso_state_invalid:
        'This is not the answer to a sign-in that was started in this browser. Cookies are needed to sign in.',
      sso_attempt_expired: 'The sign-in took too long. Start again.',
    }
    super(code, messages[code], { detail: { reason } })
    this.start = start
  }
}

/**
 * Takes the attempt that a callback answers: once, by one UPDATE, and only for the browser that began it. A missing or
 * wrong cookie uses nothing up, and neither does the path of another workspace: the attempt is looked up by its own.
 * @throws {AttemptRefusal}
 */
export async function takeAttempt(
  db: Db,
  box: SecretBox,
  callback: { workspaceId: string; state: string; browserSecret: string | undefined },
): Promise<Delivery> {
  const { workspaceId, state, browserSecret } = callback
  const browserHash = browserSecret === undefined ? null : sha256(browserSecret)
  const [row] = await take(db, { workspaceId, stateHash: sha256(state), browserHash })
  if (!row) throw new AttemptRefusal('sso_state_invalid', 'state_unknown')
  const {
    stateHash,
    nonce,
    verifierSealed,
    attemptIssuer: issuer,
    configVersion,
    returnTo,
    handoffChallenge,
    restarts,
    startedAt,
    signInTestId,
    delivery,
    ...config
  } = row
  const start = { workspaceId, returnTo, handoffChallenge }
  switch (delivery) {
    case 'expired':
      throw new AttemptRefusal('sso_attempt_expired', 'attempt_expired', start)
    case 'other_browser':
      throw new AttemptRefusal(
        'sso_state_invalid',
        browserSecret === undefined ? 'cookie_missing' : 'cookie_wrong',
        start,
      )
    case 'used':
      throw new AttemptRefusal('sso_state_invalid', 'state_used', start)
    case 'first':
    case 'repeated':
  }
  const codeVerifier = box.open(verifierSealed, verifierContext(workspaceId, stateHash))
  const attempt = { ...start, stateHash, nonce, codeVerifier, issuer, configVersion, restarts, startedAt, signInTestId }
  return { kind: delivery, attempt, configRow: config.clientId === null ? undefined : config }
}

/** How the first delivery of a callback ended. */
export type AttemptOutcome =
  | { outcome: 'signed_in'; exchangeCode: string }
  | { outcome: 'restarted' }
  /** A sign-in test has its report. `testCode` lets the creator's browser confirm it; absent when no person signed in. */
  | { outcome: 'tested'; testCode?: string | undefined }
  /** `ref`: the request id of the first delivery. */
  | { outcome: ErrorCode; ref: string | null }

const findOutcome = prepared<
  { workspaceId: string; stateHash: Buffer },
  { outcome: string | null; code: Buffer | null; ref: string | null }
>(
  'sign_in_attempt_outcome',
  ({ workspaceId, stateHash }) => sql`
    SELECT outcome, outcome_code AS code,
           (SELECT request_id FROM activity_entries e
             WHERE e.workspace_id = a.workspace_id AND e.id = a.outcome_entry_id) AS ref
      FROM sign_in_attempts a WHERE workspace_id = ${workspaceId}::uuid AND state_hash = ${stateHash}`,
)

/** A sign-in has 10 s for its calls to the provider; a little more for the database. */
const outcomeWaitMs = 12_000

/**
 * Waits for the outcome of the delivery that came first.
 * @throws {AttemptRefusal} where none comes: the process that had it ended
 */
export async function awaitOutcome(db: Db, box: SecretBox, attempt: SignInAttempt): Promise<AttemptOutcome> {
  const { workspaceId, stateHash } = attempt
  const givesUpAt = performance.now() + outcomeWaitMs
  for (let pause = 50; performance.now() < givesUpAt; pause = Math.min(pause * 2, 400)) {
    const [row] = await findOutcome(db, { workspaceId, stateHash })
    if (row?.outcome === 'signed_in' && row.code) {
      return { outcome: 'signed_in', exchangeCode: box.open(row.code, outcomeContext(workspaceId, stateHash)) }
    }
    if (row?.outcome === 'restarted') return { outcome: 'restarted' }
    if (row?.outcome === 'tested') {
      const testCode = row.code ? box.open(row.code, outcomeContext(workspaceId, stateHash)) : undefined
      return { outcome: 'tested', testCode }
    }
    if (row?.outcome) return { outcome: row.outcome as ErrorCode, ref: row.ref }
    await sleep(pause)
  }
  throw new AttemptRefusal('sso_state_invalid', 'first_delivery_unfinished', attempt)
}

/** The code that an attempt ended with, sealed for a second delivery of the same callback. */
export function sealOutcomeCode(box: SecretBox, attempt: SignInAttempt, code: string): Buffer {
  return box.seal(code, outcomeContext(attempt.workspaceId, attempt.stateHash))
}

/** Notes that an attempt was begun anew. */
export async function recordRestart(db: Db, { workspaceId, stateHash }: SignInAttempt): Promise<void> {
  await db
    .updateTable('sign_in_attempts')
    .set({ outcome: 'restarted' })
    .where('workspace_id', '=', workspaceId)
    .where('state_hash', '=', stateHash)
    .execute()
}

const insertRefusal = prepared<
  {
    workspaceId: string
    stateHash: Buffer | null
    code: string
    memberId: string | null
    detail: string
    requestId: string
  },
  { id: number }
>(
  'sign_in_refuse',
  ({ workspaceId, stateHash, code, memberId, detail, requestId }) => sql`
    WITH entry AS (${insertEntrySql({
      workspaceId: sql`w.workspace_id`,
      action: sql`'sso_sign_in.refused'`,
      reason: code,
      actorType: sql`'system'`,
      actorId: sql`'sign-in'`,
      requestId,
      memberId: sql`${memberId}::uuid`,
      targetType: sql`'sso_config'`,
      targetId: sql`w.workspace_id::text`,
      detail: sql`${detail}::jsonb`,
      // A workspace without SSO has no sign-ins to refuse: its log is not for strangers to fill.
      from: sql`sso_configs w WHERE w.workspace_id = ${workspaceId}::uuid`,
    })}), closed AS (
      UPDATE sign_in_attempts SET outcome = ${code}, outcome_entry_id = entry.id
        FROM entry WHERE workspace_id = ${workspaceId}::uuid AND state_hash = ${stateHash}::bytea
    )
    SELECT id FROM entry`,
)

export interface SignInRefusal {
  workspaceId: string
  /** The attempt that ends with it; absent where the callback could not be tied to one. */
  stateHash?: Buffer | undefined
  code: ErrorCode
  /** What an admin needs to understand it, and what to change. */
  detail: Record<string, unknown>
  memberId?: string | undefined
  requestId: string
}

/**
 * Appends the entry of a refused sign-in and ends its attempt, in one statement.
 * @returns the entry's id; undefined when the workspace has no SSO configuration
 */
export async function recordSignInRefusal(db: Db, refusal: SignInRefusal): Promise<number | undefined> {
  const { workspaceId, stateHash = null, code, detail, memberId = null, requestId } = refusal
  const values = { workspaceId, stateHash, code, memberId, requestId, detail: JSON.stringify(detail) }
  const [entry] = await insertRefusal(db, values)
  return entry?.id
}

/** Ends an attempt whose refusal is counted in another entry. */
export async function closeRefusedAttempt(
  db: Db,
  { workspaceId, stateHash, code }: { workspaceId: string; stateHash: Buffer; code: ErrorCode },
): Promise<void> {
  await db
    .updateTable('sign_in_attempts')
    .set({ outcome: code })
    .where('workspace_id', '=', workspaceId)
    .where('state_hash', '=', stateHash)
    .execute()
}
