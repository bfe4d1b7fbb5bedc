export interface Reply {
  status: number
  headers: Headers
  // The body of a reply: what is in it is what the caller asks.
  // oxlint-disable-next-line typescript/no-explicit-any
  body: any
}

export interface Request {
  headers?: Record<string, string>
  body?: unknown
}

export interface Client {
  /** The reply, or undefined when the connection was lost or nothing came within 40 s: the outcome is unknown. */
  send: (method: string, url: string, request?: Request) => Promise<Reply | undefined>
  /** Replies by status, with `lost` for those that never came. */
  counts: Map<string, number>
  /** What must not happen, in words. */
  violations: string[]
}

/** Sends requests through the proxy, each on its own connection, and checks what every refusal must be. */
export function createClient(): Client {
  const counts = new Map<string, number>()
  const violations: string[] = []
  const count = (key: string) => void counts.set(key, (counts.get(key) ?? 0) + 1)
  return {
    counts,
    violations,
    send: async (method, url, { headers = {}, body } = {}) => {
      const json = body === undefined ? {} : { 'content-type': 'application/json' }
      try {
        const response = await fetch(url, {
          method,
          headers: { ...json, connection: 'close', ...headers },
          ...(body !== undefined && { body: JSON.stringify(body) }),
          redirect: 'manual',
          signal: AbortSignal.timeout(40_000),
        })
        const text = await response.text()
        const type = response.headers.get('content-type') ?? ''
        count(String(response.status))
        const fault = faultOf(response)
        if (fault) violations.push(`${method} ${new URL(url).pathname}: ${fault} ${text.slice(0, 300)}`)
        return {
          status: response.status,
          headers: response.headers,
          body: type.includes('json') ? JSON.parse(text) : text,
        }
      } catch {
        count('lost')
        return undefined
      }
    },
  }
}

function faultOf({ status, headers }: Response): string | undefined {
  if (status < 500 && status !== 429) return undefined
  if (status !== 503 && status !== 429) return `answers ${status}`
  return Number(headers.get('retry-after')) > 0 ? undefined : `answers ${status} without Retry-After`
}
