/** A step of the demo with an unexpected result. */
export class DemoError extends Error {
  override readonly name = 'DemoError'
}

export interface Call {
  method: string
  url: string
  /** Expected status, or several if the specification allows them. */
  status: number | number[]
  token?: string
  headers?: Record<string, string>
  body?: unknown
  /** Returns a note to print after the status. */
  note?: (answer: Answer) => string
}

export interface Answer {
  status: number
  headers: Headers
  // Untyped, because a wrong attribute shows as a failed step.
  // eslint-disable-next-line typescript/no-explicit-any
  body: any
}

/** Prints the steps of the demo, and each call with the status of its response. */
export interface Narrator {
  step: (title: string) => void
  tell: (text: string) => void
  /** @throws {DemoError} if the response has an unexpected status */
  call: (call: Call) => Promise<Answer>
  /** @throws {DemoError} if the condition is false */
  expect: (isSo: boolean, what: string) => void
}

export function createNarrator(print: (line: string) => void, interrupted: AbortSignal): Narrator {
  let steps = 0
  const tell = (text: string) => print(`     ${text}`)
  return {
    tell,
    step: title => {
      interrupted.throwIfAborted()
      print(`\n${String(++steps).padStart(2)}.  ${title}`)
    },
    call: async call => {
      const answer = await send(call, interrupted)
      const note = call.note ? `  ${call.note(answer)}` : ''
      tell(`${call.method.padEnd(6)} ${shorten(call.url)}  ${answer.status}${note}`)
      if ([call.status].flat().includes(answer.status)) return answer
      throw new DemoError(
        `Expected ${[call.status].flat().join(' or ')}, got ${answer.status}: ${JSON.stringify(answer.body)}`,
      )
    },
    expect: (isSo, what) => {
      if (!isSo) throw new DemoError(`Expected: ${what}.`)
      tell(`✓ ${what}`)
    },
  }
}

async function send({ method, url, token, headers, body }: Call, signal: AbortSignal): Promise<Answer> {
  const scim = new URL(url).pathname.startsWith('/scim/')
  const response = await fetch(url, {
    method,
    redirect: 'manual',
    signal,
    headers: {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { 'content-type': scim ? 'application/scim+json' : 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  const json = response.headers.get('content-type')?.includes('json') === true && text !== ''
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text }
}

/** Returns path and query with long values shortened. */
function shorten(url: string): string {
  const { pathname, search } = new URL(url)
  const text = decodeURIComponent(pathname + search)
    .replaceAll(/([0-9a-f]{8})-[0-9a-f-]{27}/g, '$1…')
    .replaceAll(/([=/][\w-]{8})[\w-]{24,}/g, '$1…')
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}
