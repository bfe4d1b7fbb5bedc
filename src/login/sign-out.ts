import type { Config } from '../config.ts'
import type { Db } from '../db/database.ts'
import { endSession, sessionActor, type Session } from '../members/sessions.ts'
import type { Providers } from '../oidc/provider.ts'
import type { SecretBox } from '../sso/secret-box.ts'
import { findLoginConfig } from '../sso/sso-config.ts'
import { idTokenContext } from './sign-in.ts'

export interface SignOutDependencies {
  config: Config
  db: Db
  box: SecretBox
  providers: Providers
}

/**
 * Ends a session: ours first and for certain, then as an offer the provider's (RP-Initiated Logout 1.0 §2).
 * @returns where the browser can end the provider's session too; undefined where the provider has no such place
 */
export async function signOut(
  { config, db, box, providers }: SignOutDependencies,
  { session, requestId }: { session: Session; requestId: string },
): Promise<string | undefined> {
  const { workspaceId, id } = session
  await db.transaction().execute(trx => endSession(trx, { ...sessionActor(session), requestId }))
  const signIn = await db
    .selectFrom('sessions')
    .select(['issuer', 'id_token_sealed as idTokenSealed'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', id)
    .executeTakeFirst()
  const loginConfig = await findLoginConfig(db, box, workspaceId)
  if (!signIn?.idTokenSealed || loginConfig?.issuer !== signIn.issuer) return undefined
  return providers.endSessionUrl({
    issuer: signIn.issuer,
    clientId: loginConfig.clientId,
    idToken: box.open(signIn.idTokenSealed, idTokenContext(workspaceId, id)),
    postLogoutRedirectUri: `${config.frontendOrigins[0]}${config.frontendSignedOutPath}`,
  })
}
