import { AppError } from '../../errors.ts'
import type { SsoSettings, StoredSsoConfig } from './sso-config.ts'

/** What a sign-in of somebody who is known rests on. */
const replaceable = ['issuer', 'clientId', 'tokenAuthMethod', 'groupsClaim'] as const

/**
 * Refuses, while SSO is enforced, an edit after which people might not be able to sign in any more: enforcement is lifted by
 * an act of its own, never as a side effect, and what replaces a working issuer or client has to be proven first.
 * @param provenBy the sign-in test that has proved the new issuer or client
 * @throws {AppError} `sso_enforced`
 */
export function checkEnforcedEdit(stored: StoredSsoConfig, settings: SsoSettings, provenBy?: string): void {
  if (stored.enforcedAt === null) return
  if (!settings.enabled) throw enforcedRefusal('Sign-in cannot be switched off')
  const replaced = replaceable.find(name => settings[name] !== stored[name])
  if (replaced !== undefined && provenBy === undefined) {
    throw new AppError(
      'sso_enforced',
      `SSO is enforced: another ${replaced} has to be proven before it replaces the one that works. Make a sign-in test ` +
        'with the new settings, sign in by it, and apply it (POST …/sso-config/sign-in-tests/{id}/apply).',
    )
  }
  const { allowedDomains } = settings
  const removed = stored.allowedDomains.filter(domain => !allowedDomains.includes(domain))
  const widened = stored.allowedDomains.length > 0 && allowedDomains.length === 0
  const narrowed = allowedDomains.length > 0 && (removed.length > 0 || stored.allowedDomains.length === 0)
  if (widened || narrowed) throw enforcedRefusal('allowedDomains cannot be emptied, or lose a domain')
}

export function enforcedRefusal(what: string): AppError {
  return new AppError(
    'sso_enforced',
    `${what} while SSO is enforced. Lift the enforcement first (DELETE …/sso-config/enforcement).`,
  )
}
