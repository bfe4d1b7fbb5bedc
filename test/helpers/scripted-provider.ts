import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify, SignJWT, type JWK } from 'jose'
import { generate } from 'selfsigned'
import { makeNetwork, type TestNetwork } from './network.ts'

export type Endpoint = 'discovery' | 'jwks' | 'token' | 'userinfo' | 'other'
type Json = Record<string, unknown>

/** A request as the provider received it. */
export interface ReceivedRequest {
  endpoint: Endpoint
  method: string
  url: URL
  headers: IncomingMessage['headers']
  /** Fields of the form. Empty for a GET. */
  form: URLSearchParams
}

/** Responds to a request instead of the provider. The end of this file has common ones. */
export type Answer = (request: ReceivedRequest, response: ServerResponse) => void | Promise<void>

export interface ProviderKey {
  kid: string
  alg: string
  privateKey: CryptoKey
  publicKey: CryptoKey
  publicJwk: JWK
}

/** Deviations from a correct response. Each function receives the correct value and returns the value to send. */
export interface Script {
  document?: (document: Json) => unknown
  jwks?: (jwks: { keys: JWK[] }) => unknown
  header?: (header: Json) => Json
  claims?: (claims: Json) => Json
  /** Creates the whole token. Default: signed with the current key. */
  sign?: (header: Json, claims: Json) => string | Promise<string>
  tokenReply?: (reply: Json) => unknown
  userinfo?: (claims: Json) => unknown
  /** Replaces an endpoint. */
  answer: Partial<Record<Endpoint, Answer>>
}

export interface AuthorizeOptions {
  /** Claims of the person who signs in, in addition to the default claims of ana. */
  user?: Json
  /** Returns this error instead of a code. */
  error?: string
  /** The `iss` parameter. Default: the issuer, if the metadata announces it. */
  iss?: string | null
}

export interface ScriptedProvider {
  issuer: string
  network: TestNetwork
  /** Registered clients: id and secret. */
  clients: Map<string, string>
  /** Client authentication that the token endpoint accepts. */
  acceptedAuth: 'any' | 'client_secret_basic' | 'client_secret_post' | 'private_key_jwt'
  /** Returns the keys of clients that use assertions (RFC 7523). Called for each assertion. */
  clientKeys: () => Promise<JWK[]>
  /** The next person who signs in, unless `authorize` names another. */
  user: Json
  /** All published keys. The last one signs. */
  keys: ProviderKey[]
  script: Script
  /** The provider's clock, in milliseconds since the epoch. */
  now: () => number
  requests: ReceivedRequest[]
  count: (endpoint: Endpoint) => number
  /** The latest request to an endpoint. */
  last: (endpoint: Endpoint) => ReceivedRequest | undefined
  /** Publishes a new key in place of all others and signs with it. */
  rotateKeys: (kid: string, alg?: string) => Promise<ProviderKey>
  /** Publishes one more key and signs with it. */
  addKey: (kid: string, alg?: string) => Promise<ProviderKey>
  /** Signs a token of any kind with the current key, such as a logout token. */
  sign: (claims: Json, header?: Json) => Promise<string>
  /** Simulates browser, sign-in page and person. Returns the callback URL for an authorization URL. */
  authorize: (authorizationUrl: string, options?: AuthorizeOptions) => string
  /** Resets all deviations. Keys and counts remain. */
  reset: () => void
  /** Closes all connections and rejects new ones until `start`. */
  stop: () => Promise<void>
  start: () => Promise<void>
}

export interface ScriptedProviderOptions {
  issuer?: string
  network?: TestNetwork
  /** Address of the issuer's host. Default: an unused public address. */
  address?: string
}

interface Grant {
  user: Json
  clientId: string
  redirectUri: string
  nonce: string | null
  codeChallenge: string | null
}

/**
 * Starts an OpenID Provider on loopback whose responses tests can change, with https and its own certificate. By default it
 * behaves correctly: it has one RSA key `k1`, ana signs in at the client `assist-acme`, codes are valid once, and it compares
 * redirect URI, PKCE verifier and client secret exactly. Its host name resolves only through `network.outbound`.
 */
export async function makeScriptedProvider(
  t: { teardown: (done: () => unknown) => void },
  options: ScriptedProviderOptions = {},
): Promise<ScriptedProvider> {
  const { issuer = 'https://idp.corp.example', network = makeNetwork() } = options
  const { hostname } = new URL(issuer)
  const base = issuer.replace(/\/$/, '')
  const grants = new Map<string, Grant>()
  const people = new Map<string, Json>()
  const document = plainDocument(issuer, base)

  const server = createServer(await certificateFor(hostname), (request, response) => {
    respond(request, response).catch((error: unknown) => {
      response.writeHead(500, { 'content-type': 'text/plain' }).end(String(error))
    })
  })
  let port = 0
  const start = async () => {
    await new Promise<void>(listening => void server.listen(port, '127.0.0.1', listening))
    port = (server.address() as AddressInfo).port
  }
  const stop = async () => {
    await new Promise(closed => {
      server.close(closed)
      server.closeAllConnections()
    })
  }
  await start()
  t.teardown(stop)
  const address = options.address ?? network.newAddress()
  network.setAddresses(hostname, [address])
  network.serve(address, { port, ca: certificates.get(hostname)!.cert })

  const provider: ScriptedProvider = {
    issuer,
    network,
    clients: new Map([['assist-acme', 'acme-secret']]),
    acceptedAuth: 'any',
    clientKeys: async () => [],
    user: plainUser(),
    keys: [await makeKey('k1', 'RS256')],
    script: { answer: {} },
    now: Date.now,
    requests: [],
    last: endpoint => provider.requests.findLast(request => request.endpoint === endpoint),
    count: endpoint => provider.requests.filter(request => request.endpoint === endpoint).length,
    rotateKeys: async (kid, alg = 'RS256') => {
      provider.keys = []
      return provider.addKey(kid, alg)
    },
    addKey: async (kid, alg = 'RS256') => {
      const key = await makeKey(kid, alg)
      provider.keys.push(key)
      return key
    },
    sign: (claims, header) => signWith(provider.keys.at(-1)!, claims, header),
    authorize: (authorizationUrl, { user = {}, error, iss } = {}) => {
      const { searchParams } = new URL(authorizationUrl)
      const callback = new URL(searchParams.get('redirect_uri')!)
      callback.searchParams.set('state', searchParams.get('state')!)
      const announced = currentDocument().authorization_response_iss_parameter_supported === true
      const sentIss = iss === undefined && announced ? issuer : iss
      if (typeof sentIss === 'string') callback.searchParams.set('iss', sentIss)
      if (error !== undefined) {
        callback.searchParams.set('error', error)
        return callback.href
      }
      const code = randomBytes(16).toString('base64url')
      grants.set(code, {
        user: { ...provider.user, ...user },
        clientId: searchParams.get('client_id')!,
        redirectUri: searchParams.get('redirect_uri')!,
        nonce: searchParams.get('nonce'),
        codeChallenge: searchParams.get('code_challenge'),
      })
      callback.searchParams.set('code', code)
      return callback.href
    },
    reset: () => {
      provider.script = { answer: {} }
      provider.user = plainUser()
      provider.acceptedAuth = 'any'
      provider.now = Date.now
    },
    stop,
    start,
  }

  function currentDocument(): Json {
    return (provider.script.document?.({ ...document }) ?? document) as Json
  }

  async function respond(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const received = await receive(message, base)
    provider.requests.push(received)
    const answer = provider.script.answer[received.endpoint] ?? answers[received.endpoint]
    await answer(received, response)
  }

  const answers: Record<Endpoint, Answer> = {
    discovery: (_request, response) => {
      sendJson(response, 200, provider.script.document ? provider.script.document({ ...document }) : document)
    },
    jwks: (_request, response) => {
      const jwks = { keys: provider.keys.map(key => key.publicJwk) }
      sendJson(response, 200, provider.script.jwks ? provider.script.jwks(jwks) : jwks)
    },
    token: async (request, response) => {
      const clientId = request.form.has('client_assertion')
        ? await assertedClient(request, provider)
        : authenticatedClient(request, provider)
      if (clientId === undefined) return sendJson(response, 401, { error: 'invalid_client' })
      const code = request.form.get('code') ?? ''
      const grant = grants.get(code)
      grants.delete(code)
      const fault = grant ? grantFault(grant, clientId, request.form) : 'the code is unknown, used or expired'
      if (!grant || fault) return sendJson(response, 400, { error: 'invalid_grant', error_description: fault })
      const accessToken = randomBytes(16).toString('base64url')
      people.set(accessToken, grant.user)
      const idToken = await makeIdToken(grant)
      const reply = { access_token: accessToken, token_type: 'Bearer', expires_in: 300, id_token: idToken }
      sendJson(response, 200, provider.script.tokenReply ? provider.script.tokenReply(reply) : reply)
    },
    userinfo: (request, response) => {
      const user = people.get((request.headers.authorization ?? '').replace('Bearer ', ''))
      if (!user) return sendJson(response, 401, { error: 'invalid_token' })
      sendJson(response, 200, provider.script.userinfo ? provider.script.userinfo(user) : user)
    },
    other: (_request, response) => void response.writeHead(404).end(),
  }

  async function makeIdToken(grant: Grant): Promise<string> {
    const { script, keys } = provider
    const now = Math.floor(provider.now() / 1000)
    const nonce = grant.nonce === null ? {} : { nonce: grant.nonce }
    const plain = { iss: issuer, aud: grant.clientId, iat: now, exp: now + 300, ...nonce, ...grant.user }
    const key = keys.at(-1)!
    const plainHeader = { alg: key.alg, kid: key.kid, typ: 'JWT' }
    const header = script.header ? script.header(plainHeader) : plainHeader
    const claims = script.claims ? script.claims(plain) : plain
    return script.sign ? script.sign(header, claims) : signWith(key, claims, header)
  }

  return provider
}

function plainDocument(issuer: string, base: string): Json {
  return {
    issuer,
    authorization_endpoint: `${base}/authorize`,
    token_endpoint: `${base}/token`,
    userinfo_endpoint: `${base}/userinfo`,
    jwks_uri: `${base}/jwks`,
    end_session_endpoint: `${base}/logout`,
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256'],
    code_challenge_methods_supported: ['S256'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
  }
}

function plainUser(): Json {
  return { sub: 'u-ana', email: 'ana@corp.example', email_verified: true, name: 'Ana Example' }
}

async function receive(message: IncomingMessage, base: string): Promise<ReceivedRequest> {
  const chunks: Buffer[] = []
  for await (const chunk of message) chunks.push(chunk as Buffer)
  const url = new URL(message.url ?? '/', `https://${message.headers.host}`)
  const endpoints: Record<string, Endpoint> = {
    '/.well-known/openid-configuration': 'discovery',
    '/jwks': 'jwks',
    '/token': 'token',
    '/userinfo': 'userinfo',
  }
  const path = url.pathname.replace(new URL(base).pathname.replace(/\/$/, ''), '')
  return {
    endpoint: endpoints[path] ?? 'other',
    method: message.method ?? '',
    url,
    headers: message.headers,
    form: new URLSearchParams(Buffer.concat(chunks).toString()),
  }
}

function authenticatedClient({ headers, form }: ReceivedRequest, provider: ScriptedProvider): string | undefined {
  const [scheme, encoded] = (headers.authorization ?? '').split(' ')
  const method = scheme === 'Basic' ? 'client_secret_basic' : 'client_secret_post'
  if (provider.acceptedAuth !== 'any' && provider.acceptedAuth !== method) return undefined
  const basic = Buffer.from(encoded ?? '', 'base64')
    .toString()
    .split(':')
    .map(half => new URLSearchParams(`_=${half}`).get('_'))
  const [id, secret] = scheme === 'Basic' ? basic : [form.get('client_id'), form.get('client_secret')]
  return typeof id === 'string' && provider.clients.get(id) === secret ? id : undefined
}

/** Returns the client of a valid assertion: signed with a key of the client, for this provider, and not used before. */
async function assertedClient({ form }: ReceivedRequest, provider: ScriptedProvider): Promise<string | undefined> {
  if (!['any', 'private_key_jwt'].includes(provider.acceptedAuth)) return undefined
  const keys = createLocalJWKSet({ keys: await provider.clientKeys() })
  const clientId = form.get('client_id') ?? ''
  const checks = { issuer: clientId, subject: clientId, requiredClaims: ['exp', 'jti'], algorithms: ['PS256', 'RS256'] }
  const verified = await jwtVerify(form.get('client_assertion') ?? '', keys, checks).catch(() => undefined)
  return verified?.payload.aud === provider.issuer && provider.clients.has(clientId) ? clientId : undefined
}

function grantFault(grant: Grant, clientId: string, form: URLSearchParams): string | undefined {
  const verifier = form.get('code_verifier') ?? ''
  const challenge = createHash('sha256').update(verifier).digest('base64url')
  if (grant.clientId !== clientId) return 'the code belongs to another client'
  if (grant.redirectUri !== form.get('redirect_uri')) return 'redirect_uri differs'
  if (grant.codeChallenge !== null && grant.codeChallenge !== challenge) return 'code_verifier does not fit'
  return undefined
}

/** Creates a key pair for `alg`. `modulusLength` (bits) applies to RSA. */
export async function makeKey(kid: string, alg: string, modulusLength = 2048): Promise<ProviderKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true, modulusLength })
  return { kid, alg, privateKey, publicKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

/** Signs a compact JWS. The header may contradict the key. */
export function signWith(key: ProviderKey, claims: Json, header: Json = {}): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: key.alg, kid: key.kid, ...header }).sign(key.privateKey)
}

const certificates = new Map<string, { key: string; cert: string }>()

async function certificateFor(hostname: string): Promise<{ key: string; cert: string }> {
  const known = certificates.get(hostname)
  if (known) return known
  const made = await generate([{ name: 'commonName', value: hostname }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: hostname }] }],
  })
  const certificate = { key: made.private, cert: made.cert }
  certificates.set(hostname, certificate)
  return certificate
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

// Common faults for `script.answer`.

export const json =
  (status: number, body: unknown): Answer =>
  (_request, response) =>
    sendJson(response, status, body)

export const html =
  (status = 200): Answer =>
  (_request, response) =>
    void response
      .writeHead(status, { 'content-type': 'text/html' })
      .end('<h1>Sign in to continue: internal-name-7</h1>')

export const redirectTo =
  (location: string): Answer =>
  (_request, response) =>
    void response.writeHead(302, { location, 'content-type': 'application/json' }).end('{}')

/** Accepts the request and never responds. */
export const hang: Answer = () => {}

/** Closes the connection without a response. */
export const hangUp: Answer = (_request, response) => void response.socket?.destroy()

/** Sends headers, then an endless sequence of spaces. */
export const drip =
  (everyMs = 100): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const timer = setInterval(() => response.write(' '), everyMs)
    response.on('close', () => clearInterval(timer))
  }

/** Sends a small gzip response that decompresses to valid JSON of many megabytes. */
export function gzipBomb(megabytes: number): Answer {
  // Concatenated gzip members are valid (RFC 1952 §2.2), so this process never holds the decompressed text.
  const megabyte = gzipSync(Buffer.alloc(1024 * 1024, ' '))
  const packed = [gzipSync('{"padding":"'), ...Array<Buffer>(megabytes).fill(megabyte), gzipSync('"}')]
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
    response.end(Buffer.concat(packed))
  }
}

/** Sends many megabytes of valid JSON in chunks without a length. Stops when the client disconnects, and counts the bytes. */
export function bigJson(megabytes: number): Answer & { sentBytes: number } {
  const block = 'x'.repeat(64 * 1024)
  const answer = async (_request: ReceivedRequest, response: ServerResponse): Promise<void> => {
    response.writeHead(200, { 'content-type': 'application/json' }).write('{"padding":"')
    while (counted.sentBytes < megabytes * 1024 * 1024 && !response.destroyed) {
      counted.sentBytes += block.length
      if (!response.write(block)) await new Promise<void>(go => response.once('drain', go).once('close', go))
    }
    response.end('"}')
  }
  const counted = Object.assign(answer, { sentBytes: 0 })
  return counted
}
