import { randomBytes } from 'node:crypto'
import { decodeJwt } from 'jose'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/database.ts'
import { endSessions } from '../../members/end-sessions.ts'
import { sessionActor, type Session } from '../../members/sessions.ts'
import type { Providers } from '../../oidc/provider.ts'
import type { SecretBox } from '../../secret-box.ts'
import { findSignInConfig } from '../../sso/config/sso-config.ts'
import { idTokenContext } from './start-session.ts'

export interface SignOutDependencies {
  config: Config
  db: Db
  box: SecretBox
  providers: Providers
}

export interface SignOut {
  session: Session
  /** This session, or all of the member. */
  scope: 'here' | 'everywhere'
  requestId: string
}

/** Where the browser can end the provider's session too (RP-Initiated Logout 1.0 §2). */
export interface ProviderSignOut {
  endSessionUrl: string
  /** Comes back with the browser (§3), for the front-end to compare. */
  state: string
}

/**
 * Signs out: here first and for certain, since the browser may never come back from the provider; that is then an offer.
 * @returns undefined where the provider has no place to sign out, or is not the workspace's any more
 */
export async function signOut(
  { config, db, box, providers }: SignOutDependencies,
  { session, scope, requestId }: SignOut,
): Promise<ProviderSignOut | undefined> {
  const { workspaceId, id, memberId } = session
  const actor = { ...sessionActor(session), requestId }
  const everywhere = { workspaceId, memberId, reason: 'signed_out_everywhere', actor } as const
  await endSessions(db, scope === 'everywhere' ? everywhere : { ...everywhere, sessionId: id, reason: 'signed_out' })
  const signIn = await db
    .selectFrom('sessions')
    .select(['issuer', 'id_token_sealed as idTokenSealed'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .executeTakeFirst()
  const signInConfig = await findSignInConfig(db, box, workspaceId)
  if (!signIn?.idTokenSealed || signInConfig?.issuer !== signIn.issuer) return undefined
  const state = randomBytes(16).toString('base64url')
  const endSessionUrl = await providers.endSessionUrl({
    issuer: signIn.issuer,
    clientId: signInConfig.clientId,
    idToken: findHint(box.find(signIn.idTokenSealed, idTokenContext(workspaceId, id)), signInConfig.clientId),
    postLogoutRedirectUri: `${config.frontendOrigins[0]}${config.frontendSignedOutPath}`,
    state,
  })
  return endSessionUrl === undefined ? undefined : { endSessionUrl, state }
}

/**
 * Without the hint the provider may ask the person, or not know where to lead them: signed out here they are. One that was
 * made for the client before is none: providers refuse the two together (RP-Initiated Logout 1.0 §2).
 */
function findHint(idToken: string | undefined, clientId: string): string | undefined {
  if (idToken === undefined) return undefined
  return [decodeJwt(idToken).aud].flat().includes(clientId) ? idToken : undefined
}
