import type { FastifyInstance, FastifyRequest } from 'fastify'
import { decodeJwt } from 'jose'
import type { Actor } from '../actor.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { enterUntilEnd, type RequestLimits } from './request-limits.ts'
import type { VerifyToken } from './assist-token.ts'
import { readSessionCookie } from './session-cookie.ts'

declare module 'fastify' {
  interface FastifyRequest {
    actor: Actor | null
  }
}

/** The three proofs of a caller of `/v1`, each checked by the part that owns it. */
export interface Authenticators {
  /** An access token of Assist. */
  assistToken: VerifyToken
  /** An access token of this service, whose session must still be live. */
  ownToken: VerifyToken
  /** The session itself, by cookie or as a bearer. */
  sessionToken: VerifyToken
}

export type Authenticate = (request: FastifyRequest) => Promise<void>

/** A check that sets `request.actor`, or refuses with `unauthenticated`. */
export function authenticator(config: Config, authenticators: Authenticators): Authenticate {
  return async request => {
    const [scheme, bearer] = (request.headers.authorization ?? '').split(' ')
    if (bearer !== undefined && scheme?.toLowerCase() === 'bearer') {
      request.actor = await verifierOf(config, authenticators, bearer)(bearer)
      return
    }
    const cookie = readSessionCookie(config, request)
    if (cookie === undefined) {
      throw new AppError('unauthenticated', 'Send an access token: `Authorization: Bearer TOKEN`.')
    }
    refuseForeignOrigin(config, request)
    request.actor = await authenticators.sessionToken(cookie)
  }
}

function verifierOf(config: Config, authenticators: Authenticators, token: string): VerifyToken {
  if (token.split('.').length !== 3) return authenticators.sessionToken
  try {
    // Unverified: it only chooses which keys must have signed the token.
    return decodeJwt(token).iss === config.publicUrl ? authenticators.ownToken : authenticators.assistToken
  } catch {
    throw new AppError('unauthenticated', 'The access token is not a JSON Web Token.')
  }
}

/** A cookie comes along on requests that other sites make; those may not change anything. */
export function refuseForeignOrigin(config: Config, request: FastifyRequest): void {
  if (request.method === 'GET' || request.method === 'HEAD') return
  if (!config.frontendOrigins.includes(request.headers.origin ?? '')) {
    throw new AppError('forbidden', 'A request with the session cookie must come from an origin of the front-end.')
  }
}

/** The caller, on a route behind a guard that has set it. */
export function actorOf(request: FastifyRequest): Actor {
  if (!request.actor) throw new Error(`${request.routeOptions.url} has no guard that sets the actor.`)
  return { ...request.actor, requestId: request.id }
}

export interface AdminGate {
  config: Config
  authenticate: Authenticate
  findWorkspace: (workspaceId: string) => Promise<{ isEnforced: boolean } | undefined>
  /** Told of somebody who came by another way than SSO, where it is enforced. */
  onBlocked: (blocked: { workspaceId: string; actor: Actor }) => Promise<void>
  /** What one workspace may ask of this replica. */
  limits: RequestLimits
}

/**
 * Guards the routes of a scope, all under `/v1/workspaces/:workspaceId`: the caller is an admin or owner of that
 * workspace or a service. A workspace that is not theirs and one that does not exist are the same 404. Where SSO is
 * enforced, people come by it: an access token of Assist does not say how they signed in, and is refused.
 */
export function requireWorkspaceAdmin(scope: FastifyInstance, guard: AdminGate): void {
  requireSettingsAdmin(scope, guard)
  scope.addHook('onRequest', async request => {
    if (!actorOf(request).recovery) return
    throw new AppError(
      'recovery_limited',
      'A recovery session is for the SSO settings only. Sign in by SSO for the rest.',
    )
  })
}

/** The same for what an owner needs to repair the sign-in: recovery sessions are let in too. */
export function requireSettingsAdmin(
  scope: FastifyInstance,
  { config, authenticate, findWorkspace, onBlocked, limits }: AdminGate,
): void {
  const adminRank = config.roles.indexOf('admin')
  scope.addHook('onRequest', async (request, reply) => {
    await authenticate(request)
    const actor = actorOf(request)
    const workspaceId = (request.params as { workspaceId: string }).workspaceId.toLowerCase()
    const theirs = actor.type === 'service' || actor.workspaceId === workspaceId
    const workspace = theirs ? await findWorkspace(workspaceId) : undefined
    if (!workspace) throw new AppError('not_found', 'There is no such workspace.')
    if (actor.type === 'user' && workspace.isEnforced) {
      await onBlocked({ workspaceId, actor })
      throw new AppError(
        'sso_required',
        `This workspace is entered by SSO only: ${config.publicUrl}/sso/${workspaceId}/start`,
      )
    }
    if (actor.type !== 'service' && config.roles.indexOf(actor.role ?? '') < adminRank) {
      throw new AppError('forbidden', 'This needs the role admin or owner in the workspace.')
    }
    await enterUntilEnd(reply, [[limits, workspaceId]])
  })
}

/** Guards the routes of a scope for Assist's own back-ends: the cross-workspace scope is needed. */
export function requireServiceScope(scope: FastifyInstance, authenticate: Authenticate, serviceScope: string): void {
  scope.addHook('onRequest', async request => {
    await authenticate(request)
    requireService(actorOf(request), { assistServiceScope: serviceScope })
  })
}

/** Refuses everybody but Assist's back-ends, on a route that shares its scope with others. */
export function requireService(actor: Actor, { assistServiceScope }: Pick<Config, 'assistServiceScope'>): void {
  if (actor.type === 'service') return
  throw new AppError('forbidden', `This needs an access token with the scope ${assistServiceScope}.`)
}
