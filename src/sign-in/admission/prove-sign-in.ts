import { AppError } from '../../errors.ts'
import type { AuthorizationResponse, ProvenSignIn } from '../../oidc/provider.ts'
import { noteCredentialUse } from '../../sso/credentials/client-credentials.ts'
import { providerClient, ssoUrls, type SignInConfig } from '../../sso/config/sso-config.ts'
import type { SignInAttempt } from '../attempt/attempts.ts'
import type { AttemptDependencies } from '../attempt/start-sign-in.ts'

export interface AnsweredAttempt {
  attempt: SignInAttempt
  response: AuthorizationResponse
  signInConfig: SignInConfig
  requestId: string
}

/**
 * Redeems the provider's code and verifies what comes of it. Which secret or key the provider takes is noted where it is
 * news, and costs nothing where it is not.
 * @throws {AppError} as Providers.exchangeCode
 */
export async function proveSignIn(
  { config, db, providers }: Pick<AttemptDependencies, 'config' | 'db' | 'providers'>,
  { attempt, response, signInConfig, requestId }: AnsweredAttempt,
): Promise<ProvenSignIn> {
  const { issuer, nonce, codeVerifier, workspaceId } = attempt
  const client = providerClient(signInConfig)
  const { redirectUri } = ssoUrls(config.publicUrl, workspaceId)
  const use = { workspaceId, credentials: signInConfig.credentials, requestId }
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
