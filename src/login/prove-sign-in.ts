import { AppError } from '../errors.ts'
import type { AuthorizationResponse, ProvenSignIn } from '../oidc/provider.ts'
import { noteCredentialUse } from '../sso/client-credentials.ts'
import { providerClient, ssoUrls, type LoginConfig } from '../sso/sso-config.ts'
import type { LoginAttempt } from './login-attempts.ts'
import type { LoginDependencies } from './start-login.ts'

export interface AnsweredAttempt {
  attempt: LoginAttempt
  response: AuthorizationResponse
  loginConfig: LoginConfig
  requestId: string
}

/**
 * Redeems the provider's code and verifies what comes of it. Which secret or key the provider takes is noted where it is
 * news, and costs nothing where it is not.
 * @throws {AppError} as Providers.exchangeCode
 */
export async function proveSignIn(
  { config, db, providers }: Pick<LoginDependencies, 'config' | 'db' | 'providers'>,
  { attempt, response, loginConfig, requestId }: AnsweredAttempt,
): Promise<ProvenSignIn> {
  const { issuer, nonce, codeVerifier, workspaceId } = attempt
  const client = providerClient(loginConfig)
  const { redirectUri } = ssoUrls(config.publicUrl, workspaceId)
  const use = { workspaceId, credentials: loginConfig.credentials, requestId }
  try {
    const { state } = response
    const proven = await providers.exchangeCode({ issuer, client, redirectUri, response, state, nonce, codeVerifier })
    await noteCredentialUse(db, { ...use, usedIndex: proven.credentialIndex })
    return proven
  } catch (error) {
    if (error instanceof AppError && error.code === 'sso_client_rejected') {
      await noteCredentialUse(db, { ...use, usedIndex: undefined })
    }
    throw error
  }
}
