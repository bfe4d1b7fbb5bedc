import { once } from 'node:events'
import { connect } from 'node:net'

/** A response. `text` decodes the body on demand, because most bodies are only counted. */
export interface Answer {
  status: number
  bytes: number
  text: () => string
  /** Values of all headers with this name, in order. */
  headers: (name: string) => string[]
}

export interface RequestOptions {
  /** JSON. */
  body?: string | Buffer
  contentType?: string
  headers?: Record<string, string>
}

export interface Connection {
  /**
   * Sends a request, such as `GET /Users`, and waits for the response. Only one request at a time. Rejects if the server
   * closes the connection.
   */
  request: (line: string, options?: RequestOptions) => Promise<Answer>
  close: () => void
}

/** URL and credential of a server. */
export interface Endpoint {
  /** http:// URL, to which the paths of requests are appended. */
  baseUrl: string
  /** Bearer token, if the endpoint requires one. */
  token?: string
}

/**
 * Opens a keep-alive HTTP/1.1 connection on a plain socket. The load generator shares the machine with the servers, and an
 * ordinary HTTP client costs several times as much per request.
 */
export async function openConnection({ baseUrl, token }: Endpoint): Promise<Connection> {
  const { hostname, host, port, pathname } = new URL(baseUrl)
  const socket = connect({ host: hostname, port: Number(port), noDelay: true })
  await once(socket, 'connect')

  let receive: ((chunk: Buffer) => void) | undefined
  let refuse: ((error: Error) => void) | undefined
  socket.on('data', (chunk: Buffer) => receive?.(chunk))
  socket.on('error', error => refuse?.(error))
  socket.on('close', () => refuse?.(new Error('The server closed the connection.')))

  const prefix = pathname.replace(/\/$/, '')
  const common = `Host: ${host}\r\n${token === undefined ? '' : `Authorization: Bearer ${token}\r\n`}`
  return {
    request: async (line, { body, contentType = 'application/scim+json', headers = {} } = {}) => {
      if (socket.destroyed) throw new Error('The server closed the connection.')
      const answered = new Promise<Answer>((resolve, reject) => {
        const read = answerReader()
        refuse = reject
        receive = (chunk: Buffer) => {
          const answer = read(chunk)
          if (answer) resolve(answer)
        }
      })
      const [method, path] = line.split(' ')
      const sent = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
      const head = `${method} ${prefix}${path} HTTP/1.1\r\n${common}${sent.join('')}`
      if (body === undefined) {
        socket.write(`${head}\r\n`)
      } else {
        socket.cork()
        socket.write(`${head}Content-Type: ${contentType}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`)
        socket.write(body)
        socket.uncork()
      }
      return answered
    },
    close: () => socket.destroy(),
  }
}

/** Returns a function that takes the chunks of one response and returns the response after the last chunk. */
function answerReader(): (chunk: Buffer) => Answer | undefined {
  let head: Head | undefined
  let unread = Buffer.alloc(0)
  const body: Buffer[] = []
  let bytes = 0

  return chunk => {
    let piece = chunk
    if (!head) {
      unread = Buffer.concat([unread, chunk])
      const end = unread.indexOf('\r\n\r\n')
      if (end === -1) return undefined
      head = readHead(unread.toString('latin1', 0, end))
      piece = unread.subarray(end + 4)
    }
    body.push(piece)
    bytes += piece.length
    const { status, length, text } = head
    if (length === 'chunked' ? !endsChunks(body) : bytes < length) return undefined
    const content = () => (length === 'chunked' ? joinChunks(Buffer.concat(body)) : Buffer.concat(body))
    return { status, bytes, text: () => content().toString(), headers: name => valuesOf(text, name) }
  }
}

interface Head {
  text: string
  status: number
  /** Bytes of the body (RFC 9112 §6). */
  length: number | 'chunked'
}

function readHead(text: string): Head {
  const status = Number(text.slice(9, 12))
  if (status === 204 || status === 304) return { text, status, length: 0 }
  if (/\r\ntransfer-encoding: *chunked/i.test(text)) return { text, status, length: 'chunked' }
  return { text, status, length: Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? 0) }
}

function valuesOf(head: string, name: string): string[] {
  return [...head.matchAll(new RegExp(`\\r\\n${name}: *([^\\r]*)`, 'gi'))].map(match => match[1]!)
}

/** Detects the empty last chunk. Compact JSON contains no CRLF, so content cannot look like it. */
function endsChunks(pieces: Buffer[]): boolean {
  const last = pieces.at(-1)!
  const tail = last.length >= 5 ? last : Buffer.concat(pieces.slice(-5))
  return tail.subarray(-5).toString('latin1') === '0\r\n\r\n'
}

function joinChunks(coded: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < coded.length;) {
    const lineEnd = coded.indexOf('\r\n', at)
    const size = Number.parseInt(coded.toString('latin1', at, lineEnd), 16)
    if (size === 0) break
    parts.push(coded.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + 2 + size + 2
  }
  return Buffer.concat(parts)
}
