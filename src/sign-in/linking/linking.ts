import { AppError, type ErrorCode } from '../../errors.ts'
import { parseEmail, type Email } from '../../members/email.ts'
import { isSameIssuer, isSharedIssuer } from '../../oidc/issuer.ts'
import type { Contact, IdTokenClaims } from '../../oidc/provider.ts'
import type { SignInConfig } from '../../sso/config/sso-config.ts'
import { cleanText } from '../attempt/clean-text.ts'

/**
 * Who may be made a member, or linked to one, at their first sign-in. Pure: everything that it decides by is given, and
 * each refusal says to the admin (`detail.fix`) which of their choices would let this person in.
 */

/** What is the same for every workspace. */
export interface LinkingRules {
  sharedIssuers: readonly string[]
  webmailDomains: readonly string[]
  /** Lowest first. */
  roles: readonly string[]
}

/** What an e-mail address is believed for. */
export type Trust =
  /** The provider says that it has verified the address. */
  | 'email_verified'
  /** The provider says nothing, and the workspace has proved that the domain is its own. */
  | 'domain'
  /** The provider says nothing, and the workspace lists the domain for its own issuer. */
  | 'domain_list'
  /** The provider says nothing, and the issuer is the workspace's own. */
  | 'issuer'
  /** The provider says that it is unverified, and the workspace has chosen to trust it all the same. */
  | 'opt_in'
  /** The directory names the person by a claim that never changes. */
  | 'directory'
  /** The same issuer has named the person before by a claim that never changes. */
  | 'claim'

/** Who signed in, as far as their claims can be used before any member is looked at. */
export interface Person {
  issuer: string
  subject: string
  displayName: string | undefined
  /** The value of the configured claim that never changes for a person, and that equals a directory's externalId. */
  stableId: string | undefined
  /** Usable for comparison. */
  email: Email | undefined
  emailVerified: 'yes' | 'no' | 'unsaid'
  /** Why the address cannot be gone by. */
  emailFault: AppError | undefined
}

/** A member whom the claims point to. */
export interface Candidate {
  memberId: string
  /** By the claim that never changes, in a directory or with an identity of the same issuer; or by the address. */
  foundBy: 'directory' | 'identity' | 'email'
  version: number
  status: 'invited' | 'active' | 'deactivated'
  role: string
  invitationOpen: boolean
  /** Of the directories that provide them (linkable-role.ts). */
  limits: string[]
  identities: { issuer: string; subject: string }[]
}

/** What is stored about the person. */
export interface StoredFacts {
  candidates: Candidate[]
  /** A directory of this workspace holds the address and says that the person is inactive. */
  inactiveInDirectory: boolean
}

export interface LinkingFacts extends StoredFacts {
  /** An admin has opened the window in which members of another issuer are linked anew by their address. */
  relinkByEmail: boolean
}

export function linkingFacts(stored: StoredFacts, { relinkByEmailUntil }: SignInConfig): LinkingFacts {
  return { ...stored, relinkByEmail: relinkByEmailUntil !== null && Date.parse(relinkByEmailUntil) > Date.now() }
}

export type LinkedBy = 'email' | 'invitation' | 'directory' | 'claim' | 'provisioned'

export type LinkingDecision =
  | { kind: 'create'; email: Email; trust: Trust }
  /** `openMembership` makes an invitation into a membership; a lapsed one leaves nothing of itself behind. */
  | {
      kind: 'link'
      memberId: string
      linkedBy: LinkedBy
      trust: Trust
      /** What the member was linked to until now. Of the same issuer it goes; that of another stays, as a way back. */
      before: Candidate['identities']
      openMembership?: 'invitation' | 'provisioning'
    }

/** Reads the claims of someone who is not linked yet (Core §5.1). */
export function readPerson(
  { claims, contact }: { claims: IdTokenClaims; contact: Contact },
  config: SignInConfig,
  rules: LinkingRules,
): Person {
  const stableId = config.externalIdClaim === null ? undefined : claims[config.externalIdClaim]
  const email = contact.email === undefined ? undefined : parseEmail(contact.email)
  const person = {
    issuer: config.issuer,
    subject: claims.sub,
    displayName: cleanText(contact.name ?? '', 200),
    stableId: typeof stableId === 'string' && /^\P{Cc}{1,255}$/u.test(stableId) ? stableId : undefined,
    email,
    emailVerified: readVerified(contact.emailVerified, claims.xms_edov),
  }
  return { ...person, emailFault: findEmailFault({ contact, email, hd: claims.hd }, config, rules) }
}

/**
 * Reads `email_verified` and Entra's `xms_edov` (the owner of the e-mail domain is verified). Some providers send the boolean as
 * text, Entra also as a number. Any other value counts as unverified. When both are present, both have to say yes.
 */
function readVerified(emailVerified: unknown, domainOwnerVerified: unknown): Person['emailVerified'] {
  const said: boolean[] = []
  if (isPresent(emailVerified)) said.push(isTrue(emailVerified))
  if (isPresent(domainOwnerVerified)) {
    said.push(isTrue(domainOwnerVerified) || domainOwnerVerified === 1 || domainOwnerVerified === '1')
  }
  if (said.length === 0) return 'unsaid'
  return said.every(Boolean) ? 'yes' : 'no'
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null
}

function isTrue(value: unknown): boolean {
  return value === true || value === 'true'
}

function findEmailFault(
  { contact, email, hd }: { contact: Contact; email: Email | undefined; hd: unknown },
  config: SignInConfig,
  rules: LinkingRules,
): AppError | undefined {
  if (contact.fault) return contact.fault
  if (contact.email === undefined) {
    return refuse('sso_email_missing', 'The identity provider gave no e-mail address.', {
      fix: 'Add the email claim to the ID token or UserInfo at the provider, as an optional claim or scope mapping. preferred_username and upn are not taken for an address.',
    })
  }
  if (!email) {
    return refuse('sso_email_invalid', 'The e-mail address that the identity provider gave cannot be used.', {
      fix: "Correct this person's e-mail address at the provider: one @, no blanks, a domain name.",
    })
  }
  const shared = isSharedIssuer(config.issuer, rules.sharedIssuers)
  return findDomainFault({ email, hd, shared }, config, rules)
}

function findDomainFault(
  { email, hd, shared }: { email: Email; hd: unknown; shared: boolean },
  { allowedDomains, issuer }: SignInConfig,
  { webmailDomains }: LinkingRules,
): AppError | undefined {
  const notAllowed = (reason: string, fix: string) =>
    refuse('sso_domain_not_allowed', 'This e-mail domain may not sign in to this workspace.', {
      reason,
      domain: email.domain,
      fix,
    })
  if (shared && allowedDomains.length === 0) {
    return notAllowed('list_missing', 'Fill allowedDomains: this issuer serves many organizations.')
  }
  if (allowedDomains.length > 0 && !allowedDomains.includes(email.domain)) {
    return notAllowed('not_listed', 'Add the domain to allowedDomains if these people belong to the workspace.')
  }
  if (shared && webmailDomains.includes(email.domain)) {
    return notAllowed(
      'webmail',
      'A web-mail domain belongs to nobody in particular; invite people by their company address.',
    )
  }
  // Anyone can make a personal Google account on a company address; only `hd` shows that the company manages it.
  if (isSameIssuer(issuer, 'https://accounts.google.com') && !(typeof hd === 'string' && allowedDomains.includes(hd))) {
    return notAllowed(
      hd === undefined ? 'hd_missing' : 'hd_foreign',
      'The Google account is not managed by a domain of allowedDomains. The person has to use their Google Workspace account.',
    )
  }
  return undefined
}

/**
 * Decides a first sign-in: the directory's own claim before the e-mail address, and an address only as far as somebody
 * vouches for it.
 * @throws {AppError} with `detail.fix`
 */
export function decideLinking(
  person: Person,
  facts: LinkingFacts,
  { config, rules }: { config: SignInConfig; rules: LinkingRules },
): LinkingDecision {
  const named = facts.candidates.filter(candidate => candidate.foundBy !== 'email')
  if (new Set(named.map(each => each.memberId)).size > 1) throw ambiguous(named)
  const [namedMember] = named
  if (namedMember) return linkTo(namedMember, namedMember.foundBy === 'directory' ? 'directory' : 'claim')

  if (person.emailFault) throw person.emailFault
  const { email } = person
  if (!email) throw new Error('An address without a fault is a usable one.')
  const candidate = facts.candidates.find(each => each.foundBy === 'email')
  const trust = vouch(person, email, { candidate, config, rules })
  if (candidate) {
    checkLinkedElsewhere(candidate, person, facts)
    return linkTo(candidate, trust, config.autoProvision)
  }
  if (facts.inactiveInDirectory) throw deactivated(undefined)
  if (!config.autoProvision) throw notProvisioned('unknown')
  return { kind: 'create', email, trust }
}

interface Vouching {
  candidate: Candidate | undefined
  config: SignInConfig
  rules: LinkingRules
}

/**
 * On whose word the address is believed.
 *
 * | email_verified | new member | ordinary member | admin or owner |
 * | --- | --- | --- | --- |
 * | true | yes | yes | yes |
 * | absent | the workspace's own issuer | the same, and a listed or proved domain | no |
 * | anything else | only by the workspace's opt-in | only by the opt-in | no |
 */
function vouch(person: Person, email: Email, { candidate, config, rules }: Vouching): Trust {
  const { emailVerified } = person
  if (emailVerified === 'yes') return 'email_verified'
  const trust = emailVerified === 'no' ? trustUnverified(config) : trustUnsaid(email, candidate, config, rules)
  if (candidate && isPrivileged(candidate.role, rules)) {
    throw refuse('sso_identity_link_required', 'Your account has to be linked before you can sign in this way.', {
      memberId: candidate.memberId,
      role: candidate.role,
      fix: 'Admins and owners are linked by e-mail only where the provider sends email_verified true: mail attributes can be edited. Let this member make a sign-in test and link its account (POST …/sso-config/sign-in-tests/{id}/link), have the provider send email_verified, or set externalIdClaim where a directory provides this member.',
    })
  }
  return trust
}

/** Whether the address of a member who is linked already may become their contact address. */
export function isVouchedFor(
  person: Person,
  { config, rules }: { config: SignInConfig; rules: LinkingRules },
): boolean {
  const { email, emailFault, emailVerified } = person
  if (!email || emailFault) return false
  if (emailVerified !== 'unsaid') return emailVerified === 'yes' || config.trustUnverifiedEmail
  const listed = [...config.verifiedDomains, ...config.allowedDomains].includes(email.domain)
  return listed && !isSharedIssuer(config.issuer, rules.sharedIssuers)
}

function trustUnverified({ trustUnverifiedEmail }: SignInConfig): Trust {
  if (trustUnverifiedEmail) return 'opt_in'
  throw refuse('sso_email_unverified', 'The identity provider has not verified your e-mail address.', {
    reason: 'email_verified_false',
    fix: 'Have the provider verify the address and send email_verified true (a scope mapping in authentik, for one), or set trustUnverifiedEmail if nobody can edit their own address there.',
  })
}

function trustUnsaid(
  email: Email,
  candidate: Candidate | undefined,
  { allowedDomains, verifiedDomains, issuer }: SignInConfig,
  { sharedIssuers }: LinkingRules,
): Trust {
  const shared = isSharedIssuer(issuer, sharedIssuers)
  if (!shared && verifiedDomains.includes(email.domain)) return 'domain'
  if (!shared && allowedDomains.includes(email.domain)) return 'domain_list'
  if (!shared && !candidate) return 'issuer'
  throw refuse('sso_email_unverified', 'The identity provider does not say that your e-mail address is verified.', {
    reason: 'email_verified_absent',
    fix: shared
      ? 'Have the provider send email_verified true: it serves many organizations, and its silence vouches for nobody.'
      : 'Add the domain to allowedDomains, have the domain proved, or have the provider send email_verified true.',
  })
}

function isPrivileged(role: string, { roles }: LinkingRules): boolean {
  return roles.indexOf(role) >= roles.indexOf('admin')
}

function linkTo(candidate: Candidate, trust: Trust, autoProvision = false): LinkingDecision {
  const { memberId, status, identities: before, invitationOpen } = candidate
  if (status === 'deactivated') throw deactivated(memberId)
  const link = { kind: 'link', memberId, trust, before } as const
  if (status === 'active') return { ...link, linkedBy: trust === 'directory' || trust === 'claim' ? trust : 'email' }
  if (invitationOpen) return { ...link, linkedBy: 'invitation', openMembership: 'invitation' }
  if (!autoProvision) throw notProvisioned('invitation_expired', memberId)
  return { ...link, linkedBy: 'provisioned', openMembership: 'provisioning' }
}

/**
 * By an address alone nobody takes the place of somebody who is linked: it may be a recycled mailbox. Only links at another
 * issuer give way, and only in the time that an admin has set for a change of provider.
 */
function checkLinkedElsewhere(candidate: Candidate, person: Person, { relinkByEmail }: LinkingFacts): void {
  const { status, identities } = candidate
  if (status === 'deactivated' || identities.length === 0) return
  if (relinkByEmail && identities.every(({ issuer }) => issuer !== person.issuer)) return
  throw conflict(candidate, person)
}

export function deactivated(memberId: string | undefined): AppError {
  return refuse('sso_member_deactivated', 'Your membership of this workspace has ended.', {
    memberId,
    fix: 'Signing in never brings anyone back. Reactivate the member, or have the directory that deactivated them do so.',
  })
}

function notProvisioned(reason: string, memberId?: string): AppError {
  return refuse('sso_not_provisioned', 'You are not a member of this workspace. Ask an owner to invite you.', {
    reason,
    memberId,
    fix: 'Invite this person, provide them by the directory, or set autoProvision.',
  })
}

function conflict({ memberId, identities }: Candidate, person: Person): AppError {
  return refuse('sso_identity_conflict', 'This address belongs to a member who is linked to another account.', {
    memberId,
    linked: identities,
    claimed: { issuer: person.issuer, subject: person.subject },
    fix: "If the workspace has changed its provider, set relinkByEmailUntil. If it is one person with a new account, reset the member's identities and have them sign in again. If the mailbox was given to somebody else, do neither.",
  })
}

function ambiguous(candidates: Candidate[]): AppError {
  return refuse('sso_identity_conflict', 'Several members answer to your account.', {
    members: candidates.map(each => each.memberId),
    fix: 'Two directories hold this externalId. Remove the person from one of them.',
  })
}

function refuse(code: ErrorCode, message: string, detail: Record<string, unknown> & { fix: string }): AppError {
  return new AppError(code, message, { detail })
}
