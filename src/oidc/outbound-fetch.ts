import { lookup, Resolver } from 'node:dns/promises'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate } from 'node:zlib'
import type { Agent, buildConnector, Dispatcher } from 'undici'
import { addressesIn, isPublicAddress, type AddressRule } from './public-address.ts'

/**
 * Why a call out did not give a usable answer:
 * - `blocked`: scheme, port or address is not one that this deployment may call; nothing was sent
 * - `unreachable`: name, connection, TLS or transport failed
 * - `timeout`: no whole answer in time
 * - `redirect`, `not_json`, `too_large`, `undecodable`: an answer, and not one to use
 */
export type OutboundFault =
  'blocked' | 'unreachable' | 'timeout' | 'redirect' | 'not_json' | 'too_large' | 'undecodable'

/** A failed call out. The message names the host and the fault, never an address or a part of an answer. */
export class OutboundError extends Error {
  override readonly name = 'OutboundError'
  readonly fault: OutboundFault
  readonly host: string
  /** The system's error code for the operator, such as ECONNREFUSED or CERT_HAS_EXPIRED. */
  readonly systemCode: string | undefined

  constructor(fault: OutboundFault, host: string, systemCode?: string) {
    super(`The call to ${host} failed: ${fault}.`)
    this.fault = fault
    this.host = host
    this.systemCode = systemCode
  }
}

/** The addresses of a name; rejects where there is none. */
export type Resolve = (host: string) => Promise<string[]>

export interface SocketTarget {
  /** The name asked for: in the TLS handshake, and what the certificate must be for. */
  host: string
  port: number
  /** The addresses that were checked; the connection goes to one of them. */
  addresses: string[]
  secure: boolean
  /** PEM certificates to trust instead of the system's. */
  ca?: string
  timeoutMs: number
}

export type OpenSocket = (target: SocketTarget) => Promise<Socket>

/** All of it belongs to the deployment; none may come from a workspace. */
export interface OutboundOptions {
  /** Networks in CIDR notation that may be called although they are not public, for identity providers on premises. */
  allowedNetworks: readonly string[]
  /** Ports that may be called; a 0 allows every port. */
  allowedPorts: readonly number[]
  /** Allows http, and only to an address in `allowedNetworks`. */
  allowHttp: boolean
  /** For a whole call, from resolving the name to the last byte. */
  timeoutMs?: number
  resolve?: Resolve
  openSocket?: OpenSocket
}

export interface OutboundRequest {
  method?: string
  headers?: Record<string, string>
  body?: string | URLSearchParams | undefined
  /** When to give up although the call has time left, by performance.now(). */
  deadline?: number | undefined
  /** Accepts `application/jwt` in addition to JSON (OpenID Connect Core §5.3.2). */
  allowJwt?: boolean
}

export interface OutboundFetch {
  /**
   * Calls a URL and gives the whole JSON answer. A status of 400 or more with a body that is not JSON has an empty body.
   * Of the headers only the content type is kept: no cookie, challenge or cache rule of a stranger takes effect.
   * @throws {OutboundError}
   */
  fetch: (url: string, request?: OutboundRequest) => Promise<Response>
  /**
   * Checks a URL as `fetch` would, resolving its name but connecting to nothing.
   * @throws {OutboundError} `blocked`, or `unreachable` where the name has no address
   */
  check: (url: string) => Promise<void>
  close: () => Promise<void>
}

/** Of a decoded answer, in bytes. Discovery documents and key sets of real providers are under 50 KB. */
const bodyLimit = 512 * 1024

/**
 * The only way out to an address that a workspace typed, or that a document at such an address named. Guards against
 * server-side request forgery and against answers made to exhaust us: https on listed ports, global unicast addresses,
 * each name resolved once per connection with every address checked and a checked one used (so a second, different DNS
 * answer has no effect), no redirects, JSON only, 512 KB after decoding, one time limit over the whole call.
 */
export function createOutboundFetch(options: OutboundOptions): OutboundFetch {
  const { timeoutMs = 5_000, openSocket = openSocketTo } = options
  const rules = {
    isAllowed: addressesIn(options.allowedNetworks),
    allowHttp: options.allowHttp,
    ports: options.allowedPorts,
    resolve: options.resolve ?? (options.allowedNetworks.length > 0 ? resolveBySystem : resolveByDns),
    timeoutMs,
  }
  let agent: Promise<Agent> | undefined
  return {
    fetch: async (url, request = {}) => {
      const target = new URL(url)
      checkTarget(target, rules)
      agent ??= openAgent(rules, openSocket)
      const dispatcher = await agent
      const leftMs = Math.min(timeoutMs, (request.deadline ?? Infinity) - performance.now())
      if (leftMs <= 0) throw new OutboundError('timeout', target.host)
      // Not AbortSignal.timeout, which cannot be stopped: each call would be held in memory until its time is up.
      const limit = new AbortController()
      const timer = setTimeout(() => limit.abort(), leftMs)
      try {
        return await call(dispatcher, target, { ...request, signal: limit.signal })
      } catch (error) {
        throw outboundError(error, target.host, limit.signal)
      } finally {
        clearTimeout(timer)
      }
    },
    check: async url => {
      const target = new URL(url)
      checkTarget(target, rules)
      await resolveChecked(bareHost(target.hostname), target.protocol === 'https:', rules)
    },
    close: async () => (await agent)?.destroy(),
  }
}

/** The HTTP client is loaded with the first call: to a directory that only syncs, it would be 7 MB for nothing. */
async function openAgent(rules: Rules, openSocket: OpenSocket): Promise<Agent> {
  const { Agent } = await import('undici')
  return new Agent({
    connections: 32,
    maxResponseSize: bodyLimit,
    // A provider that keeps connections longer says so by `Keep-Alive: timeout=`, and is believed up to a minute.
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 60_000,
    connect: (target, done) => void handOver(connectChecked(target, rules, openSocket), done),
  })
}

interface Rules {
  isAllowed: AddressRule
  allowHttp: boolean
  ports: readonly number[]
  resolve: Resolve
  timeoutMs: number
}

/** What can be said before anything is resolved. */
function checkTarget(url: URL, rules: Rules): void {
  const secure = url.protocol === 'https:'
  if (!secure && !(url.protocol === 'http:' && rules.allowHttp)) throw new OutboundError('blocked', url.host)
  const port = Number(url.port) || (secure ? 443 : 80)
  if (!rules.ports.includes(port) && !rules.ports.includes(0)) throw new OutboundError('blocked', url.host)
}

/** The addresses of a host, each of them allowed. The URL parser has turned every spelling of an IPv4 address into dotted form. */
async function resolveChecked(host: string, secure: boolean, rules: Rules): Promise<string[]> {
  const addresses = isIP(host) ? [host] : await resolveInTime(host, rules)
  if (addresses.length === 0) throw new OutboundError('unreachable', host, 'ENOTFOUND')
  const fits: AddressRule = address => rules.isAllowed(address) || (secure && isPublicAddress(address))
  if (!addresses.every(fits)) throw new OutboundError('blocked', host)
  return addresses
}

async function resolveInTime(host: string, { resolve, timeoutMs }: Rules): Promise<string[]> {
  const tooLate = delay(timeoutMs, undefined, { ref: false })
  const addresses = await Promise.race([resolve(host).catch(() => []), tooLate])
  if (addresses === undefined) throw new OutboundError('timeout', host)
  return addresses
}

async function connectChecked(target: buildConnector.Options, rules: Rules, openSocket: OpenSocket): Promise<Socket> {
  const secure = target.protocol === 'https:'
  const host = bareHost(target.hostname)
  const addresses = await resolveChecked(host, secure, rules)
  return openSocket({
    host,
    port: Number(target.port) || (secure ? 443 : 80),
    addresses,
    secure,
    timeoutMs: rules.timeoutMs,
  })
}

/** From a promise to the HTTP client's callback. */
async function handOver(connecting: Promise<Socket>, done: buildConnector.Callback): Promise<void> {
  let socket: Socket
  try {
    socket = await connecting
  } catch (error) {
    done(error as Error, null)
    return
  }
  done(null, socket)
}

/** Opens a connection to the first of the addresses that answers; no name is resolved here. */
export const openSocketTo: OpenSocket = ({ host, port, addresses, secure, ca, timeoutMs }) =>
  new Promise((resolve, reject) => {
    const candidates = addresses.map(address => ({ address, family: isIP(address) }))
    const options = {
      host,
      port,
      autoSelectFamily: true,
      lookup: (_host: string, _options: object, done: (error: null, addresses: typeof candidates) => void) =>
        done(null, candidates),
    }
    const socket = secure
      ? connectTls({ ...options, ...(ca !== undefined && { ca }), servername: isIP(host) ? '' : host })
      : connectTcp(options)
    const timer = setTimeout(() => socket.destroy(new OutboundError('timeout', host)), timeoutMs)
    socket.setNoDelay(true)
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer)
      resolve(socket)
    })
    // Stays: until the HTTP client listens, an error has to have a listener.
    socket.on('error', reject)
    socket.once('close', () => clearTimeout(timer))
  })

async function call(agent: Dispatcher, url: URL, request: OutboundRequest & { signal: AbortSignal }) {
  const { statusCode, headers, body } = await agent.request({
    origin: url.origin,
    path: url.pathname + url.search,
    method: request.method ?? 'GET',
    headers: { ...request.headers, 'accept-encoding': 'identity' },
    body: request.body?.toString() ?? null,
    signal: request.signal,
  })
  const fault = answerFault(statusCode, String(headers['content-type']), request.allowJwt)
  if (fault !== undefined) {
    // Destroyed and not drained: what is left of it may be endless.
    body.on('error', () => {}).destroy()
    if (statusCode < 400) throw new OutboundError(fault, url.host)
    return new Response(null, { status: statusCode })
  }
  let text: Buffer
  try {
    text = await decode(Buffer.from(await body.arrayBuffer()), headers['content-encoding'], url.host)
  } catch (error) {
    // The status of an error response says enough: a rejected client stays one, whatever its body is.
    if (statusCode >= 400 && !request.signal.aborted) return new Response(null, { status: statusCode })
    throw error
  }
  return new Response(text, { status: statusCode, headers: { 'content-type': String(headers['content-type']) } })
}

function answerFault(status: number, contentType: string, allowJwt = false): OutboundFault | undefined {
  if (status >= 300 && status < 400) return 'redirect'
  if (allowJwt && /^application\/jwt\s*(;|$)/i.test(contentType)) return undefined
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(contentType)) return 'not_json'
  return undefined
}

type Decoder = (encoded: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>

const decoders = new Map<string, Decoder>([
  ['gzip', promisify(gunzip)],
  ['x-gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
  ['br', promisify(brotliDecompress)],
])

/** We ask for no encoding; a server that uses one all the same is decoded, up to the limit and not one block further. */
async function decode(encoded: Buffer, encoding: string | string[] = 'identity', host: string): Promise<Buffer> {
  if (encoding === 'identity') return encoded
  const decoder = decoders.get(String(encoding).toLowerCase())
  if (!decoder) throw new OutboundError('undecodable', host)
  try {
    return await decoder(encoded, { maxOutputLength: bodyLimit })
  } catch (error) {
    throw new OutboundError(codeOf(error) === 'ERR_BUFFER_TOO_LARGE' ? 'too_large' : 'undecodable', host)
  }
}

function outboundError(error: unknown, host: string, signal: AbortSignal): OutboundError {
  if (error instanceof OutboundError) return error
  if (signal.aborted) return new OutboundError('timeout', host)
  const code = codeOf(error)
  return new OutboundError(code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE' ? 'too_large' : 'unreachable', host, code)
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

function bareHost(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
}

const dns = new Resolver({ timeout: 1_500, tries: 2 })

/**
 * Asks DNS without the system's resolver, whose few threads are shared by the whole process: names served by a slow
 * name server of one workspace must not hold up the sign-ins of the others.
 */
const resolveByDns: Resolve = async host => {
  const answers = await Promise.allSettled([dns.resolve4(host), dns.resolve6(host)])
  return answers.flatMap(answer => (answer.status === 'fulfilled' ? answer.value : []))
}

/** On premises names also live in hosts files and search domains, which only the system's resolver knows. */
const resolveBySystem: Resolve = async host => {
  const answers = await lookup(host, { all: true })
  return answers.map(answer => answer.address)
}
