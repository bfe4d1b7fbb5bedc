import type { FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import { AppError } from '../../errors.ts'
import { refuseForeignOrigin } from '../../http/admin-auth.ts'
import { id } from '../../http/params.ts'
import { problemErrors, problemResponses } from '../../http/problem.ts'
import { clearSessionCookie, readSessionCookie, setSessionCookie } from '../../http/session-cookie.ts'
import { endSessions } from '../../members/end-sessions.ts'
import { listedSession } from '../../members/session-schema.ts'
import { getSessionByToken, listSessions, sessionActor, type Session } from '../../members/sessions.ts'
import { idPageQuery, pageOf } from '../../page.ts'
import type { AccessTokens } from './access-tokens.ts'
import { redeemExchangeCode } from './exchange.ts'
import { signOut, type SignOutDependencies } from './sign-out.ts'

const sessionShape = {
  id: z.uuid(),
  workspaceId: z.uuid(),
  member: z.object({
    id: z.uuid(),
    email: z.string().nullable(),
    displayName: z.string().nullable(),
    role: z.string(),
  }),
  accessToken: z.string().meta({ description: 'A JWT for `Authorization: Bearer`, five minutes' }),
  accessTokenExpiresAt: z.iso.datetime(),
  expiresAt: z.iso.datetime().meta({ description: 'When the person has to sign in again, at the latest' }),
  authTime: z.iso.datetime().nullable().meta({ description: 'When the provider last asked them to authenticate' }),
  acr: z.string().nullable(),
  amr: z.array(z.string()).nullable(),
}

const session = z
  .object({
    ...sessionShape,
    method: z.enum(['sso', 'recovery']),
    accessToken: sessionShape.accessToken.nullable().meta({
      description: 'A JWT for `Authorization: Bearer`, five minutes; null: a recovery session has none',
    }),
    accessTokenExpiresAt: sessionShape.accessTokenExpiresAt.nullable(),
  })
  .meta({ id: 'Session' })

const newSession = z
  .object({
    ...sessionShape,
    returnTo: z.url().meta({ description: 'Where the person wanted to be' }),
    sessionToken: z.string().optional().meta({
      description: 'Only where the front-end is on another site, which no cookie reaches: send it as a bearer',
    }),
  })
  .meta({ id: 'NewSession' })

const redemption = z.strictObject({
  code: z.string().max(200).meta({
    description: 'The exchange code, from the URL of the signed-in page',
    example: 'exc_AZCmyI8AcACAAAAAAAAAAd2Yp0gKqkqGv4C5a9n1rQx7sT3uVwXyZ0123456789ab',
  }),
  verifier: z
    .string()
    .regex(/^[A-Za-z0-9._~-]{43,128}$/, 'must be 43 to 128 unreserved characters (RFC 7636 section 4.1)')
    .meta({
      description: 'Of the handoff_challenge that the sign-in was started with',
      example: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
    }),
})

const signedOut = z
  .object({
    endSessionUrl: z
      .url()
      .optional()
      .meta({ description: "Open it to end the provider's own session too; absent where there is none to end" }),
    state: z.string().optional().meta({
      description: 'Keep it: the browser comes back from endSessionUrl to the signed-out page with the same state',
    }),
  })
  .meta({ id: 'SignedOut' })

const ownSession = z
  .object({ ...listedSession, current: z.boolean().meta({ description: 'The one that asks' }) })
  .meta({ id: 'OwnSession' })

const jwks = z
  .object({ keys: z.array(z.record(z.string(), z.unknown())) })
  .meta({ id: 'JsonWebKeySet', description: 'RFC 7517' })

export interface SessionRoutes extends SignOutDependencies {
  accessTokens: AccessTokens
}

/** What the front-end does with a finished sign-in: redeem it, stay signed in, sign out. */
export const sessionRoutes: FastifyPluginAsyncZodOpenApi<SessionRoutes> = async (app, dependencies) => {
  const { config, db, accessTokens } = dependencies
  problemErrors(app)
  app.addHook('onRequest', async (_request, reply) => {
    reply.headers({ 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' })
  })
  const open = { tags: ['Sign-in'], security: [] }
  const signedIn = { tags: ['Sign-in'], security: [{ sessionCookie: [] }, { sessionToken: [] }] }

  app.post(
    '/v1/sessions',
    {
      schema: {
        ...open,
        operationId: 'createSession',
        summary: 'Redeem an exchange code',
        body: redemption,
        response: { 201: newSession, ...problemResponses('exchange_code_invalid') },
      },
    },
    async (request, reply) => {
      // Browsers name the origin of every POST; who names none is no browser, and holds code and verifier all the same.
      if (request.headers.origin !== undefined) refuseForeignOrigin(config, request)
      const redeemed = await redeemExchangeCode(db, {
        ...request.body,
        replacedToken: readSessionCookie(config, request),
        requestId: request.id,
      })
      const { sessionToken, returnTo } = redeemed
      const answer = { ...(await answerOf(redeemed.session)), returnTo }
      reply.code(201)
      if (request.headers['sec-fetch-site'] === 'cross-site') return { ...answer, sessionToken }
      setSessionCookie(config, reply, { token: sessionToken, expiresAt: answer.expiresAt })
      return answer
    },
  )

  app.get(
    '/v1/session',
    {
      schema: {
        ...signedIn,
        operationId: 'getSession',
        summary: 'Who is signed in, with a fresh access token',
        description: 'By the session cookie, or the session token as a bearer.',
        response: { 200: session, ...problemResponses('session_ended') },
      },
    },
    async request => {
      const live = await getSessionByToken(db, sessionTokenOf(request))
      const { method } = live
      // An access token is believed by all of Assist, without a question: it would be more than the settings.
      if (method === 'recovery') return { ...describe(live), method, accessToken: null, accessTokenExpiresAt: null }
      return { ...(await answerOf(live)), method }
    },
  )

  app.delete(
    '/v1/session',
    {
      schema: {
        ...signedIn,
        operationId: 'deleteSession',
        summary: 'Sign out',
        description:
          'By the session cookie, or the session token as a bearer. The session ends before the answer is sent.',
        response: { 200: signedOut, ...problemResponses('session_ended') },
      },
    },
    async (request, reply) => {
      const token = sessionTokenOf(request)
      clearSessionCookie(config, reply)
      const ending = await getSessionByToken(db, token)
      return (await signOut(dependencies, { session: ending, scope: 'here', requestId: request.id })) ?? {}
    },
  )

  app.get(
    '/v1/sessions',
    {
      schema: {
        ...signedIn,
        operationId: 'listSessions',
        summary: 'Where I am signed in',
        querystring: idPageQuery.strict(),
        response: { 200: pageOf(ownSession), ...problemResponses('session_ended') },
      },
    },
    async request => {
      const { workspaceId, memberId, id: currentId } = await getSessionByToken(db, sessionTokenOf(request))
      const page = await listSessions(db, { workspaceId, memberId, ...request.query })
      return { ...page, items: page.items.map(each => ({ ...each, current: each.id === currentId })) }
    },
  )

  app.delete(
    '/v1/sessions',
    {
      schema: {
        ...signedIn,
        operationId: 'deleteSessions',
        summary: 'Sign out everywhere',
        description: 'All sessions of the member end before the answer is sent, the one that asks included.',
        response: { 200: signedOut, ...problemResponses('session_ended') },
      },
    },
    async (request, reply) => {
      const token = sessionTokenOf(request)
      clearSessionCookie(config, reply)
      const ending = await getSessionByToken(db, token)
      return (await signOut(dependencies, { session: ending, scope: 'everywhere', requestId: request.id })) ?? {}
    },
  )

  app.delete(
    '/v1/sessions/:sessionId',
    {
      schema: {
        ...signedIn,
        params: z.object({ sessionId: id }),
        operationId: 'deleteOwnSession',
        summary: 'Sign out on another device',
        response: { 204: { description: 'The session is over' }, ...problemResponses('session_ended') },
      },
    },
    async (request, reply) => {
      const mine = await getSessionByToken(db, sessionTokenOf(request))
      const { workspaceId, memberId } = mine
      const actor = { ...sessionActor(mine), requestId: request.id }
      const ending = { ...request.params, workspaceId, memberId, reason: 'signed_out', actor } as const
      if ((await endSessions(db, ending)) === 0) {
        throw new AppError('not_found', 'You have no such session, or it is over already.')
      }
      return reply.code(204).send()
    },
  )

  app.get(
    '/.well-known/jwks.json',
    {
      schema: {
        ...open,
        operationId: 'getJwks',
        summary: "The keys of this service's access tokens",
        response: { 200: jwks, 503: problemResponses()[503] },
      },
    },
    async (_request, reply) => {
      reply.header('cache-control', 'public, max-age=60')
      return accessTokens.jwks()
    },
  )

  async function answerOf(live: Session) {
    return { ...describe(live), ...(await accessTokens.sign(live)) }
  }

  /** The session's own secret; an access token cannot prolong itself. */
  function sessionTokenOf(request: FastifyRequest): string {
    const [scheme, bearer] = (request.headers.authorization ?? '').split(' ')
    if (scheme?.toLowerCase() === 'bearer' && bearer !== undefined) return bearer
    const cookie = readSessionCookie(config, request)
    if (cookie === undefined) {
      throw new AppError(
        'unauthenticated',
        'Nobody is signed in: there is neither a session cookie nor a session token.',
      )
    }
    refuseForeignOrigin(config, request)
    return cookie
  }
}

function describe(live: Session) {
  const { workspaceId, memberId, email, displayName, role, expiresAt, authTime, acr, amr } = live
  const member = { id: memberId, email, displayName, role }
  return { id: live.id, workspaceId, member, expiresAt, authTime, acr, amr }
}
