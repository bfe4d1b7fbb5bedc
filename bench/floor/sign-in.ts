import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { once } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { json } from 'node:stream/consumers'
import type { FastifyInstance } from 'fastify'
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { uuid7 } from '../../src/uuid7.ts'
import type { Run } from './database.ts'

interface Provider {
  issuer: string
  keys: JWTVerifyGetKey
}

interface Place {
  Params: { workspace: string }
}

interface Attempt {
  nonce: string
  verifier: string
  challenge: string
}

interface SessionRow {
  id: string
  user_id: string
  user_name: string
}

const frontEnd = 'http://127.0.0.1/'

/**
 * The minimum of a sign-in. The start is one statement. The callback is two statements, one provider call and one
 * signature verification. The redemption is one statement and one new signature. Metadata of the provider are read once,
 * and there is no encryption, no rate limit and no second check.
 */
export function signInRoutes(app: FastifyInstance, run: Run): void {
  const agent = new Agent({ keepAlive: true })
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const providers = new Map<string, Provider>()

  async function getProvider(workspace: string): Promise<Provider> {
    const known = providers.get(workspace)
    if (known) return known
    const [row] = await run<{ issuer: string; keys: JSONWebKeySet }>(
      'get_provider',
      'SELECT issuer, keys FROM providers WHERE workspace = $1',
      [workspace],
    )
    const provider = { issuer: row!.issuer, keys: createLocalJWKSet(row!.keys) }
    providers.set(workspace, provider)
    return provider
  }

  app.put<Place & { Body: Record<string, unknown> }>('/sso/:workspace', async (request, reply) => {
    const { issuer, keys } = request.body
    await run('put_provider', 'INSERT INTO providers (workspace, issuer, keys) VALUES ($1, $2, $3)', [
      request.params.workspace,
      issuer,
      JSON.stringify(keys),
    ])
    return reply.code(204).send()
  })

  app.get<Place & { Querystring: { handoff_challenge: string } }>('/sso/:workspace/start', async (request, reply) => {
    const { workspace } = request.params
    const { issuer } = await getProvider(workspace)
    const random = randomBytes(128)
    const [state, secret, nonce, verifier] = [0, 1, 2, 3].map(at => random.toString('base64url', 32 * at, 32 * at + 32))
    await run(
      'start',
      `INSERT INTO sign_in_attempts (workspace, state_hash, secret_hash, nonce, verifier, challenge)
       VALUES ($1, $2, $3, $4, $5, $6)`,
      [workspace, sha256(state!), sha256(secret!), nonce, verifier, request.query.handoff_challenge],
    )
    const query = new URLSearchParams({
      response_type: 'code',
      client_id: 'bench',
      redirect_uri: `${frontEnd}sso/${workspace}/callback`,
      scope: 'openid email profile',
      state: state!,
      nonce: nonce!,
      code_challenge: sha256(verifier!).toString('base64url'),
      code_challenge_method: 'S256',
    })
    reply.header('set-cookie', `attempt=${secret!}; Path=/; HttpOnly; SameSite=Lax`)
    return reply.redirect(`${issuer}/authorize?${query.toString()}`, 303)
  })

  app.get<Place & { Querystring: { code: string; state: string } }>('/sso/:workspace/callback', async (request, reply) => {
    const { workspace } = request.params
    const { code, state } = request.query
    const { issuer, keys } = await getProvider(workspace)
    const secret = request.headers.cookie?.slice('attempt='.length) ?? ''
    const [attempt] = await run<Attempt>(
      'take',
      `UPDATE sign_in_attempts SET taken = true
       WHERE workspace = $1 AND state_hash = $2 AND secret_hash = $3 AND NOT taken RETURNING nonce, verifier, challenge`,
      [workspace, sha256(state), sha256(secret)],
    )
    const form = new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      redirect_uri: `${frontEnd}sso/${workspace}/callback`,
      code_verifier: attempt!.verifier,
    })
    const { id_token: idToken } = await redeem(agent, `${issuer}/token`, form.toString())
    const { payload } = await jwtVerify(idToken, keys, { issuer, audience: 'bench' })
    if (payload.nonce !== attempt!.nonce) throw new Error('Another nonce')
    const exchangeCode = randomBytes(32).toString('base64url')
    await run(
      'sign_in',
      `WITH session AS (
         INSERT INTO sessions (workspace, id, user_id, code_hash, challenge)
         SELECT $1, $2, id, $3, $4 FROM users WHERE workspace = $1 AND lower(user_name) = lower($5) RETURNING id
       )
       INSERT INTO activity (workspace, action, target) SELECT $1, 'sso_sign_in.succeeded', id FROM session`,
      [workspace, uuid7(), sha256(exchangeCode), attempt!.challenge, payload.email],
    )
    return reply.redirect(`${frontEnd}sign-in/complete?code=${exchangeCode}`, 303)
  })

  app.post<{ Body: { code: string; verifier: string } }>('/v1/sessions', async (request, reply) => {
    const { code, verifier } = request.body
    const token = randomBytes(32).toString('base64url')
    const [session] = await run<SessionRow>(
      'exchange',
      `UPDATE sessions s SET token_hash = $3 FROM users u
       WHERE s.code_hash = $1 AND s.challenge = $2 AND s.token_hash IS NULL AND u.workspace = s.workspace AND u.id = s.user_id
       RETURNING s.id, s.user_id, u.user_name`,
      [sha256(code), sha256(verifier).toString('base64url'), sha256(token)],
    )
    const { id, user_id: sub, user_name: email } = session!
    const now = Math.floor(Date.now() / 1000)
    const parts = [{ alg: 'ES256', typ: 'at+jwt' }, { iss: frontEnd, sub, sid: id, iat: now, exp: now + 300 }]
    const input = parts.map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' })
    reply.header('set-cookie', `session=${token}; Path=/; HttpOnly; SameSite=Lax`)
    return reply.code(201).send({ id, member: { id: sub, email }, accessToken: `${input}.${signature.toString('base64url')}` })
  })
}

async function redeem(agent: Agent, url: string, form: string): Promise<{ id_token: string }> {
  const headers = {
    authorization: `Basic ${Buffer.from('bench:bench-secret').toString('base64')}`,
    'content-type': 'application/x-www-form-urlencoded',
    'content-length': form.length,
  }
  const call = httpRequest(url, { method: 'POST', agent, headers }).end(form)
  const [answer] = (await once(call, 'response')) as [IncomingMessage]
  return (await json(answer)) as { id_token: string }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
