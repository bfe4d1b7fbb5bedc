import type { RepeatedRefusals } from '../../activity/repeated-refusals.ts'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import type { Providers } from '../../oidc/provider.ts'
import type { SecretBox } from '../../secret-box.ts'
import { findSignInConfig, ssoUrls, type SignInConfig } from '../../sso/config/sso-config.ts'
import { authenticationParameters } from './authentication.ts'
import type { StartChanges, StartRequest } from './front-end.ts'
import { makeAttemptSecrets, saveAttempt, type AttemptSecrets } from './attempts.ts'

export interface AttemptDependencies {
  config: Config
  db: Db
  box: SecretBox
  providers: Providers
  repeatedRefusals: RepeatedRefusals
}

export interface StartedSignIn {
  /** The provider's authorization endpoint, with the request. */
  location: string
  state: string
  /** For the attempt's cookie. */
  browserSecret: string
}

export interface NewSignIn extends StartChanges {
  start: StartRequest
  /** visitorNetwork of the browser's address. */
  network: string
  /** Who is about to sign in, for the provider's page (Core §3.1.2.1). It goes no further and proves nothing. */
  loginHint?: string | undefined
}

/**
 * Begins a sign-in: two round trips to the database, and none to the provider while its metadata is known.
 * @throws {AppError} `sso_not_configured`, `sso_disabled`, `sso_secret_missing`, `sso_idp_unreachable`, `sso_idp_error`,
 *   `rate_limited`
 */
export async function startSignIn(
  { config, db, box, providers }: AttemptDependencies,
  { start, network, restarts = 0, prompt, loginHint }: NewSignIn,
): Promise<StartedSignIn> {
  const { workspaceId } = start
  const signInConfig = requireOpen(await findSignInConfig(db, box, workspaceId))
  const { issuer, version } = signInConfig
  const secrets = makeAttemptSecrets()
  const extra = {
    ...authenticationParameters(signInConfig),
    ...(prompt && { prompt }),
    ...(loginHint !== undefined && { login_hint: loginHint }),
  }
  const location = await beginAt({ config, providers }, { signInConfig, secrets, extra })
  const limits = { minutes: config.signInAttemptMinutes, openAttempts: config.signInOpenAttempts }
  await saveAttempt(db, box, { start, secrets, issuer, configVersion: version, restarts, network, limits })
  const { state, browserSecret } = secrets
  return { location, state, browserSecret }
}

/**
 * Where a sign-in begins at the provider.
 * @throws {AppError} `sso_idp_unreachable`, `sso_idp_error`
 */
export async function beginAt(
  { config, providers }: Pick<AttemptDependencies, 'config' | 'providers'>,
  begin: { signInConfig: SignInConfig; secrets: AttemptSecrets; extra: Record<string, string> },
): Promise<string> {
  const { issuer, clientId, workspaceId } = begin.signInConfig
  const { state, nonce, codeChallenge } = begin.secrets
  const { redirectUri } = ssoUrls(config.publicUrl, workspaceId)
  const request = { issuer, clientId, redirectUri, state, nonce, codeChallenge }
  return providers.authorizationUrl({ ...request, extra: begin.extra })
}

/**
 * The configuration of a workspace whose sign-in is open.
 * @throws {AppError} `sso_not_configured`, `sso_disabled`, `sso_secret_missing`
 */
export function requireOpen(signInConfig: SignInConfig | undefined): SignInConfig {
  if (!signInConfig) {
    throw new AppError('sso_not_configured', 'Single sign-on is not set up for this workspace.')
  }
  if (!signInConfig.enabled) {
    throw new AppError('sso_disabled', 'Single sign-on is switched off for this workspace.', {
      detail: { fix: 'Set enabled in the SSO configuration.' },
    })
  }
  if (signInConfig.credentials.length === 0) {
    throw new AppError('sso_secret_missing', 'Single sign-on is not set up completely for this workspace.', {
      detail: { fix: 'Set the clientSecret in the SSO configuration.' },
    })
  }
  return signInConfig
}
