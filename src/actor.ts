/**
 * Who is calling. A `member` signed in through this service, a `user` carries an access token of Assist, a `service` is
 * an Assist back-end with the cross-workspace scope, a `directory` is an identity provider's SCIM client, and `system`
 * is this service itself.
 */
export interface Actor {
  type: 'member' | 'user' | 'service' | 'directory' | 'system'
  /** Member id, subject of the token, directory id, or the job's name. */
  id: string
  /** The one workspace this actor can see; absent for a service. */
  workspaceId?: string
  role?: string
  /** The address that Assist vouches for in an access token of theirs. */
  email?: string
  /** Signed in by a recovery code: for the SSO settings only. */
  recovery?: true
  /** The session by which a member is signed in. */
  sessionId?: string
  /** The request that the entries of this action carry, to find them again. */
  requestId?: string
}
