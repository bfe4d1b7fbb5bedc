import { decodeProtectedHeader } from 'jose'
import type { RoleReason } from '../../access/derivation/roles.ts'
import type { ErrorCode } from '../../errors.ts'
import { AppError } from '../../errors.ts'
import type { ProvenSignIn } from '../../oidc/provider.ts'
import { maskClaim, storable, type SignInTestCheck, type SignInTestReport } from './sign-in-test-report.ts'
import type { SignInConfig } from '../../sso/config/sso-config.ts'
import type { Person } from '../linking/linking.ts'
import type { Rehearsal } from './rehearse.ts'

type CheckName = SignInTestCheck['name']

/** In the order in which a sign-in comes to them: what stands before the one that failed has passed. */
const protocolSteps = [
  'discovery',
  'provider_answer',
  'token_endpoint',
  'client_authentication',
  'id_token',
  'userinfo',
] as const

const passed: Record<(typeof protocolSteps)[number], string> = {
  discovery: 'The metadata of the provider can be read.',
  provider_answer: 'The provider sent the browser back with a code.',
  token_endpoint: 'The token endpoint answers.',
  client_authentication: 'The provider knows this service by its client id and secret or key.',
  id_token: 'The ID token is signed by a key that the provider publishes, and is for this sign-in.',
  userinfo: 'The claims about the person could be read.',
}

/** The report of a sign-in that broke off before anybody was known. */
export function failedReport(failure: AppError, { tokenAuthMethod }: SignInConfig): SignInTestReport {
  const name = failedStep(failure)
  const byKey = failure.code === 'sso_client_rejected' && tokenAuthMethod === 'private_key_jwt'
  const step: CheckName = name === 'clock' ? 'id_token' : name
  const before = protocolSteps.slice(
    0,
    protocolSteps.findIndex(each => each === step),
  )
  return {
    checks: [...before.map(pass), { ...failed(name, failure), ...(byKey && { fix: keyFix }) }],
    claims: [],
    token: null,
    domain: null,
    membership: null,
    role: null,
  }
}

export interface Tested {
  proven: ProvenSignIn
  person: Person
  signInConfig: SignInConfig
  /** Seconds by which the provider's clock is ahead of ours. */
  clockSkewSeconds: number
  /** What the sign-in would do, or why it would be refused. */
  outcome: Rehearsal | AppError
  policyRefusal: AppError | undefined
  adminId: string | null
}

/** The report of a sign-in that came as far as a person. */
export function testedReport(tested: Tested): SignInTestReport {
  const { proven, person, signInConfig, clockSkewSeconds, outcome, adminId } = tested
  const { alg, kid } = decodeProtectedHeader(proven.idToken)
  const rehearsal = outcome instanceof AppError ? undefined : outcome
  return {
    checks: [
      pass('discovery'),
      pass('provider_answer'),
      pass('token_endpoint'),
      checkClient(proven, signInConfig),
      { ...pass('id_token'), message: `${passed.id_token} Algorithm: ${alg}.` },
      checkClock(clockSkewSeconds),
      ...checkUserInfo(tested),
      checkPolicy(tested),
      ...checkPerson(tested),
    ],
    claims: shownClaims(proven),
    token: { algorithm: String(alg), keyId: kid ?? null, clockSkewSeconds },
    domain: domainOf(person, signInConfig),
    membership: isLinkRequired(tested)
      ? { decision: 'link_required', memberId: adminId, trust: null, isOwnAccount: true }
      : {
          decision: rehearsal ? decisionOf(rehearsal) : 'refuse',
          memberId: rehearsal && decisionOf(rehearsal) !== 'provision' ? rehearsal.memberId : null,
          trust: rehearsal?.trust ?? null,
          isOwnAccount: rehearsal !== undefined && rehearsal.memberId === adminId,
        },
    role: rehearsal ? { value: rehearsal.role, why: rehearsal.why, groupIds: rehearsal.groupIds } : null,
  }
}

function pass(name: (typeof protocolSteps)[number]): SignInTestCheck {
  return { name, result: 'pass', message: passed[name] }
}

function failed(name: CheckName, failure: AppError): SignInTestCheck {
  const { code, message } = failure
  return { name, result: 'fail', message: `${message}${reasonOf(failure)}`, fix: fixFor(failure), code }
}

/** The part of the detail that tells one cause of a code from another. */
function reasonOf({ detail }: AppError): string {
  const reasons = [detail?.idpError, detail?.idpCode, detail?.reason, detail?.status].filter(
    each => typeof each === 'string' || typeof each === 'number',
  )
  return reasons.length === 0 ? '' : ` (${reasons.join(', ')})`
}

function failedStep({ code, detail }: AppError): CheckName {
  if (code === 'sso_token_invalid') return detail?.hint === 'clock skew' ? 'clock' : 'id_token'
  if (code === 'sso_client_rejected' || code === 'sso_secret_missing') return 'client_authentication'
  switch (detail?.stage) {
    case 'discovery':
      return 'discovery'
    case 'token':
      return 'token_endpoint'
    case 'keys':
      return 'id_token'
    case 'userinfo':
      return 'userinfo'
    default:
      return 'provider_answer'
  }
}

const keyFix =
  'Register jwksUri at the provider for this client, and private_key_jwt as its way of authenticating: it fetches our keys from there.'

const fixes: Partial<Record<ErrorCode, string>> = {
  sso_access_denied: 'Assign the person to the application at the provider, and do not cancel there.',
  sso_issuer_mismatch:
    "Save the issuer in the provider's own spelling, and check that the browser reached this provider.",
  sso_idp_unreachable: 'Check that the provider answers from the internet, and test again.',
  sso_secret_missing: 'Give the clientSecret that the provider shows for this application.',
  sso_client_rejected:
    'Copy client id and secret from the provider again. If both are right, the provider expects them in another way: set tokenAuthMethod.',
  sso_authentication_too_old: 'Change maxAgeSeconds of the sign-in policy, or have the provider heed max_age.',
}

/** What Entra's numbers mean, of those that come up when it is set up. */
const entraFixes = new Map(
  Object.entries({
    AADSTS7000215: 'The secret is wrong. Copy its Value from Certificates & secrets, not its Secret ID.',
    AADSTS7000222:
      'The client secret has expired. Make a new one under Certificates & secrets, and save its Value here.',
    AADSTS700016: 'The client id is not of this tenant. Copy Application (client) ID and Directory (tenant) ID again.',
    AADSTS50011: 'Register the redirectUri of the SSO configuration under Authentication, platform Web.',
  }),
)

const providerErrorFixes = new Map(
  Object.entries({
    invalid_scope: 'Allow the scopes openid, email and profile for this application at the provider.',
    unauthorized_client: 'Allow the authorization code grant for this application at the provider.',
    unsupported_response_type: 'Allow the authorization code flow (response type code) for this application.',
    invalid_grant: 'Check that the redirectUri is registered character by character, and test again.',
    invalid_request: 'Check that the redirectUri is registered character by character at the provider.',
  }),
)

const tokenFixes = new Map(
  Object.entries({
    aud: 'The token is for another client. Copy the client id from the provider again.',
    iss: "The token names another issuer. Save the issuer in the provider's own spelling.",
    alg: 'Choose a signing algorithm with published keys, such as RS256, for this application (in authentik: a Signing Key).',
    sub: 'The subject has to be 1 to 255 printable ASCII characters: choose another attribute for sub at the provider.',
    auth_time: 'The provider must send auth_time as a number: seconds since the epoch.',
    session_expiry: 'The provider must send session_expiry as a time ahead, in whole seconds since the epoch.',
    nonce: 'The provider does not send back the nonce: it must, in the authorization code flow too.',
    id_token_missing: 'The provider sent no ID token. Allow the scope openid for this application.',
    signature: 'The key that signed the token is not the one that is published at jwks_uri.',
    unknown_key: 'The key that signed the token is not published at jwks_uri.',
  }),
)

function fixFor({ code, detail }: AppError): string {
  if (typeof detail?.fix === 'string') return detail.fix
  const known = [
    entraFixes.get(String(detail?.idpCode)),
    // Keycloak calls a wrong secret unauthorized_client, which otherwise means a grant that is not allowed.
    code === 'sso_client_rejected' ? undefined : providerErrorFixes.get(String(detail?.idpError)),
    code === 'sso_token_invalid' ? tokenFixes.get(String(detail?.reason)) : undefined,
    detail?.hint === 'clock skew'
      ? `Set the clock of the provider: its token says ${String(detail.tokenTime)}, and here it is ${String(detail.ourTime)}.`
      : undefined,
    fixes[code],
  ]
  return known.find(each => each !== undefined) ?? "Look the sign-in up in the provider's own log."
}

function checkClient({ credentialIndex }: ProvenSignIn, { tokenAuthMethod }: SignInConfig): SignInTestCheck {
  const name = 'client_authentication'
  const kind = tokenAuthMethod === 'private_key_jwt' ? 'key' : 'client secret'
  if (credentialIndex === 0) return { name, result: 'pass', message: `The provider takes the ${kind}.` }
  const message = `The provider refuses the new ${kind}, and takes the one before.`
  return { name, result: 'warn', message, fix: `Check the new ${kind} at the provider before the old one ends.` }
}

function checkClock(seconds: number): SignInTestCheck {
  const name = 'clock'
  const ahead = Math.abs(seconds)
  if (ahead <= 5) return { name, result: 'pass', message: 'The clocks agree.' }
  const message = `The clock of the provider is ${ahead} s ${seconds > 0 ? 'ahead' : 'behind'}.`
  return { name, result: 'warn', message, fix: 'Set it: above 300 s every sign-in is refused.' }
}

function checkPolicy({ policyRefusal }: Tested): SignInTestCheck {
  if (policyRefusal) return failed('sign_in_policy', policyRefusal)
  return {
    name: 'sign_in_policy',
    result: 'pass',
    message: 'The sign-in is what the policy of the workspace asks for.',
  }
}

/** Codes of refusals that are about the address or the groups, each shown by its own check. */
const namedBy: Partial<Record<ErrorCode, CheckName>> = {
  sso_email_missing: 'email',
  sso_email_invalid: 'email',
  sso_email_unverified: 'email',
  sso_domain_not_allowed: 'domain',
  sso_groups_invalid: 'groups',
  sso_groups_overage: 'groups',
}

function checkPerson(tested: Tested): SignInTestCheck[] {
  const { outcome, adminId } = tested
  const known = [checkEmail(tested), checkDomain(tested), ...checkGroups(tested)]
  if (!(outcome instanceof AppError)) {
    return [...known, checkMembership(outcome), checkRole(outcome), ...checkAccount(outcome, adminId)]
  }
  if (outcome === tested.proven.contact.fault) return []
  if (isLinkRequired(tested)) return [...known, linkRequired(outcome)]
  const name = namedBy[outcome.code] ?? 'membership'
  return [...known.filter(check => check.name !== name), failed(name, outcome)]
}

/** A UserInfo endpoint that fails refuses only a person who has to be found by their address. */
function checkUserInfo({ proven, outcome }: Tested): SignInTestCheck[] {
  const { fault } = proven.contact
  if (fault === undefined) return [pass('userinfo')]
  if (outcome === fault) return [failed('userinfo', fault)]
  return [
    {
      ...failed('userinfo', fault),
      result: 'warn',
      message: `UserInfo could not be read${reasonOf(fault)}. This person is known without it; a new person would be refused.`,
    },
  ]
}

/** Refusals that end when the member links the account. */
const endedByLinking = new Set<ErrorCode>(['sso_identity_link_required', 'sso_not_confirmed', 'sso_identity_conflict'])

/** Whether only linking is missing, and the creator of the test can do it: the account has their own address. */
function isLinkRequired({ outcome, adminId }: Tested): boolean {
  return (
    outcome instanceof AppError &&
    endedByLinking.has(outcome.code) &&
    adminId !== null &&
    outcome.detail?.memberId === adminId
  )
}

function linkRequired(refusal: AppError): SignInTestCheck {
  return {
    name: 'membership',
    result: 'warn',
    message: `This is your own account, but it is not linked to you yet. ${refusal.message}`,
    fix: 'Link the account of this sign-in test (POST …/link). You can then sign in with it.',
    code: refusal.code,
  }
}

function checkEmail({ person }: Tested): SignInTestCheck {
  const name = 'email'
  const { email, emailVerified, emailFault } = person
  if (!email) return warn(name, emailFault?.message ?? 'There is no e-mail address.', emailFault)
  if (emailVerified === 'yes') return { name, result: 'pass', message: 'The provider vouches for the e-mail address.' }
  const message =
    emailVerified === 'unsaid'
      ? 'The provider does not say whether it has verified the e-mail address (no email_verified).'
      : 'The provider says that it has not verified the e-mail address (email_verified is not true).'
  const fix =
    'Have the provider send email_verified true. Until then, admins and owners are not linked by their address.'
  return { name, result: 'warn', message, fix }
}

function checkDomain({ person, signInConfig }: Tested): SignInTestCheck {
  const name = 'domain'
  const domain = domainOf(person, signInConfig)
  if (person.emailFault || !domain)
    return warn(name, person.emailFault?.message ?? 'There is no domain.', person.emailFault)
  const { isListed, isProved } = domain
  if (isProved) return { name, result: 'pass', message: `${domain.name} is proved to be the workspace's own.` }
  const fix = 'Prove the domain by a DNS record (POST …/domains): then the address alone leads people here, too.'
  if (isListed) return { name, result: 'pass', message: `${domain.name} is on the list of allowedDomains.`, fix }
  return { name, result: 'warn', message: 'allowedDomains is empty: addresses of every domain may sign in.', fix }
}

function warn(name: CheckName, message: string, fault: AppError | undefined): SignInTestCheck {
  return { name, result: 'warn', message, ...(fault && { fix: fixFor(fault), code: fault.code }) }
}

function checkGroups({ signInConfig, proven }: Tested): SignInTestCheck[] {
  const { groupsClaim } = signInConfig
  if (groupsClaim === null) return []
  const claim = proven.claims[groupsClaim]
  if (claim !== undefined) return [{ name: 'groups', result: 'pass', message: `The claim ${groupsClaim} is there.` }]
  const message = `The claim ${groupsClaim} is not there, which counts as "no groups".`
  const fix = 'Add the claim to the ID token at the provider, if the person is in any group.'
  return [{ name: 'groups', result: 'warn', message, fix }]
}

function checkMembership(rehearsal: Rehearsal): SignInTestCheck {
  const messages = {
    known: 'The account is linked to a member.',
    link: `The account would be linked to a member (${rehearsal.linkedBy}), on the word of: ${rehearsal.trust}.`,
    provision: `A new member would be made, on the word of: ${rehearsal.trust}.`,
  }
  return { name: 'membership', result: 'pass', message: messages[decisionOf(rehearsal)] }
}

function decisionOf({ linkedBy }: Rehearsal): 'known' | 'link' | 'provision' {
  if (linkedBy === undefined) return 'known'
  return linkedBy === 'provisioned' ? 'provision' : 'link'
}

const roleReasons: Record<RoleReason['by'], string> = {
  locked: 'it is set by hand',
  floor: 'it is set by hand, as the least',
  mapping: 'a group mapping gives it',
  default: 'it is the default of the workspace',
  last_owner: 'the workspace must not be without an owner',
}

function checkRole({ role, why }: Rehearsal): SignInTestCheck {
  return { name: 'role', result: 'pass', message: `The role is ${role}: ${roleReasons[why.by]}.` }
}

function checkAccount({ memberId }: Rehearsal, adminId: string | null): SignInTestCheck[] {
  if (adminId === null) return []
  if (memberId === adminId) return [{ name: 'own_account', result: 'pass', message: 'This is your own account.' }]
  const message = 'This is the account of somebody else than you.'
  const fix = 'To enforce SSO, run a test with your own account.'
  return [{ name: 'own_account', result: 'warn', message, fix }]
}

function domainOf({ email }: Person, { allowedDomains, verifiedDomains }: SignInConfig): SignInTestReport['domain'] {
  if (!email) return null
  const name = email.domain
  return { name, isListed: allowedDomains.includes(name), isProved: verifiedDomains.includes(name) }
}

function shownClaims({ claims, contact }: ProvenSignIn): SignInTestReport['claims'] {
  const ofToken = Object.entries(claims).map(([name, value]) => {
    return { name: storable(name, 100), value: maskClaim(name, value), source: 'id_token' as const }
  })
  if (contact.source === 'id_token') return ofToken.slice(0, 100)
  const { email, emailVerified: email_verified, name } = contact
  const ofUserinfo = Object.entries({ email, email_verified, name }).filter(([, value]) => value !== undefined)
  const shown = ofUserinfo.map(([key, value]) => ({
    name: key,
    value: maskClaim(key, value),
    source: 'userinfo' as const,
  }))
  return [...ofToken.slice(0, 100), ...shown]
}
