import { claimGroups, followClaimedGroups, type ClaimingSignIn } from '../../access/mappings/claimed-groups.ts'
import { lockClaims } from '../../access/mappings/group-mappings.ts'
import type { Config } from '../../config.ts'
import { retryDeadlocks, type Db, type Trx } from '../../db/database.ts'
import type { ProvenSignIn } from '../../oidc/provider.ts'
import { makeOpaqueToken } from '../../opaque-token.ts'
import type { SecretBox } from '../../secret-box.ts'
import type { SignInConfig } from '../../sso/config/sso-config.ts'
import { uuid7 } from '../../uuid7.ts'
import { admitAtOnce } from './admit-at-once.ts'
import { readSeconds, readSessionExpiry } from '../attempt/authentication.ts'
import { readClaimedGroups, requireValues } from '../linking/claimed-groups.ts'
import { followAddress } from '../linking/contact-address.ts'
import { isLostRace, linkPerson, type Linked, type Linking } from '../linking/link-person.ts'
import { factsKey } from '../linking/linking-facts.ts'
import { deactivated, readPerson, type Person } from '../linking/linking.ts'
import { sealOutcomeCode, type SignInAttempt } from '../attempt/attempts.ts'
import { checkReach } from '../linking/linkable-role.ts'
import { startSession, type SessionValues } from '../session/start-session.ts'
import { cleanText } from '../attempt/clean-text.ts'
import { idTokenContext } from '../session/start-session.ts'

/** The browser that signs in, for the session's row and the entries. */
export interface Visitor {
  address: string | null
  /** visitorNetwork of the address. */
  network: string
  userAgent: string | null
  requestId: string
}

export interface SignIn {
  attempt: SignInAttempt
  signInConfig: SignInConfig
  proven: ProvenSignIn
  visitor: Visitor
}

export interface SignInDependencies {
  config: Config
  db: Db
  box: SecretBox
}

/**
 * Makes a proven sign-in a session. Whoever is known by (workspace, issuer, subject) goes in by one statement, whatever
 * their address; anybody else is first linked or provisioned (linking.ts): by one statement more where that is an ordinary
 * matter, else in one transaction with the session.
 * @returns the exchange code, which is stored nowhere in the clear
 * @throws {AppError} the refusals of linking.ts
 */
export async function signIn(dependencies: SignInDependencies, signingIn: SignIn): Promise<string> {
  const { config, db, box } = dependencies
  const { signInConfig, proven, visitor } = signingIn
  const exchangeCode = makeOpaqueToken('exc', signInConfig.workspaceId)
  const person = readPerson(proven, signInConfig, config)
  const values = sessionValues({ config, box }, { ...signingIn, person, exchangeCode })
  const linking = { person, signInConfig, config, requestId: visitor.requestId }
  const claiming = readClaiming(proven, linking)

  if (claiming) await followClaimedGroups(db, claiming)
  const known = await startSession(db, values)
  if (known) {
    if (known.status !== 'active') throw deactivated(known.memberId)
    await followAddress(db, { ...known, ...linking, rules: config })
    return exchangeCode.token
  }
  if (!claiming && (await admitAtOnce(db, linking, values))) return exchangeCode.token
  const linkAndStart = () =>
    db.transaction().execute(async trx => {
      const detail = await admit(trx, { ...linking, claiming })
      const linked = {
        ...values,
        detail: JSON.stringify({ issuer: person.issuer, subject: person.subject, ...detail }),
      }
      const member = await startSession(trx, linked)
      if (member?.status !== 'active') throw deactivated(member?.memberId)
    })
  await retryConflicts(() => retryDeadlocks(linkAndStart))
  return exchangeCode.token
}

/** What the sign-in says of the person's groups; undefined where nobody asks. */
export function readClaiming(
  { claims }: ProvenSignIn,
  { signInConfig, config, requestId }: Omit<Linking, 'person'>,
): ClaimingSignIn | undefined {
  const { workspaceId, issuer, groupsClaim, maxLinkableRole } = signInConfig
  const claimed = readClaimedGroups(claims, groupsClaim)
  if (!claimed) return undefined
  const values = () => requireValues(claimed)
  return { workspaceId, issuer, subject: claims.sub, values, requestId, roles: config.roles, maxLinkableRole }
}

/**
 * Makes somebody a member with an identity, and gives them what their groups give.
 * @returns on what trust, for the entry
 * @throws {AppError} the refusals of linking.ts; `sso_not_confirmed`
 */
export async function admit(
  trx: Trx,
  { claiming, ...linking }: Linking & { claiming: ClaimingSignIn | undefined },
): Promise<Linked> {
  if (claiming) await lockClaims(trx, { workspaceId: claiming.workspaceId, mode: 'shared' })
  const linked = await linkPerson(trx, linking)
  if (claiming) await claimGroups(trx, claiming)
  await checkReach(trx, linking, linked)
  return linked
}

function sessionValues(
  { config, box }: Omit<SignInDependencies, 'db'>,
  {
    attempt,
    signInConfig,
    proven,
    visitor,
    person,
    exchangeCode,
  }: SignIn & { person: Person; exchangeCode: { token: string; hash: Buffer } },
): SessionValues {
  const { claims, idToken } = proven
  const { workspaceId, issuer, version: configVersion } = signInConfig
  const sessionId = uuid7()
  return {
    ...visitor,
    ...factsKey(workspaceId, person),
    subject: claims.sub,
    configVersion,
    sessionId,
    idpSessionId: readSid(claims.sid),
    idTokenSealed: box.seal(idToken, idTokenContext(workspaceId, sessionId)),
    authTime: readSeconds(claims.auth_time),
    sessionExpiry: readSessionExpiry(claims),
    acr: textClaim(claims.acr),
    amr: Array.isArray(claims.amr)
      ? claims.amr
          .map(textClaim)
          .filter(each => each !== null)
          .slice(0, 20)
      : null,
    hours: signInConfig.sessionHours ?? config.sessionHours,
    idleMinutes: signInConfig.sessionIdleMinutes ?? config.sessionIdleMinutes,
    codeHash: exchangeCode.hash,
    codeSealed: sealOutcomeCode(box, attempt, exchangeCode.token),
    stateHash: attempt.stateHash,
    handoffChallenge: attempt.handoffChallenge,
    returnTo: attempt.returnTo,
    detail: JSON.stringify({
      issuer,
      subject: claims.sub,
      trust: 'identity',
      ...(proven.contact.fault && { userInfoFault: proven.contact.fault.detail?.reason ?? proven.contact.fault.code }),
    }),
  }
}

/** Compared with that of logout tokens: one that cannot be kept as it is counts as not known. */
function readSid(sid: unknown): string | null {
  return typeof sid === 'string' && /^[^\p{Cc}\p{Cs}]{1,255}$/u.test(sid) ? sid : null
}

function textClaim(value: unknown): string | null {
  return typeof value === 'string' ? (cleanText(value, 255) ?? null) : null
}

/** Somebody else (an invitation, a directory) made the same member meanwhile: look again, and find them. */
async function retryConflicts(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt === 3 || !isLostRace(error)) throw error
    }
  }
}
