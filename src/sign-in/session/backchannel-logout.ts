import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { endProviderSessions } from '../../members/end-sessions.ts'
import type { Providers } from '../../oidc/provider.ts'
import { sha256 } from '../../opaque-token.ts'
import type { SecretBox } from '../../secret-box.ts'
import { findSignInConfig } from '../../sso/config/sso-config.ts'

export interface LogoutDependencies {
  db: Db
  box: SecretBox
  providers: Providers
}

export interface ReceivedLogout {
  workspaceId: string
  /** The `logout_token` as it came. */
  token: string
  requestId: string
}

/**
 * Ends the sessions that a logout token of the workspace's provider means (Back-Channel Logout 1.0 §2.7), before the
 * provider has its answer. Sign-in may be switched off meanwhile: whoever is signed in can still be signed out. A token
 * that was obeyed before, and one for sessions that are over, change nothing.
 * @returns how many sessions ended
 * @throws {AppError} `sso_token_invalid`, `sso_not_configured`, `sso_idp_unreachable`, `sso_idp_error`
 */
export async function obeyLogoutToken(
  { db, box, providers }: LogoutDependencies,
  { workspaceId, token, requestId }: ReceivedLogout,
): Promise<number> {
  const signInConfig = await findSignInConfig(db, box, workspaceId)
  if (!signInConfig) throw new AppError('sso_not_configured', 'Single sign-on is not set up for this workspace.')
  const { issuer, clientId } = signInConfig
  const { jti, sub = null, sid = null } = await providers.verifyLogoutToken({ issuer, clientId, token })
  return endProviderSessions(db, {
    workspaceId,
    issuer,
    jtiHash: sha256(jti),
    subject: sub,
    idpSessionId: sid,
    requestId,
  })
}
