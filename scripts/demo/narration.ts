/** A step that did not do what it says. */
export class DemoError extends Error {
  override readonly name = 'DemoError'
}

export interface Call {
  method: string
  url: string
  /** The status that the step promises, or several where the standard leaves it open. */
  status: number | number[]
  token?: string
  headers?: Record<string, string>
  body?: unknown
  /** What the line says after the status, in place of nothing. */
  note?: (answer: Answer) => string
}

export interface Answer {
  status: number
  headers: Headers
  // The demo reads what it has just seen the service promise; a wrong field shows as a failed step.
  // eslint-disable-next-line typescript/no-explicit-any
  body: any
}

/** Prints the demo as it goes: steps in plain words, calls with the status of their answers. */
export interface Narrator {
  step: (title: string) => void
  tell: (text: string) => void
  /** @throws {DemoError} where the answer has another status than the step promises */
  call: (call: Call) => Promise<Answer>
  /** @throws {DemoError} unless it is so */
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
      if (!isSo) throw new DemoError(`It is not so that ${what}.`)
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

/** The path and query, without the origin and with long values cut: enough to recognise the call. */
function shorten(url: string): string {
  const { pathname, search } = new URL(url)
  const text = decodeURIComponent(pathname + search)
    .replaceAll(/([0-9a-f]{8})-[0-9a-f-]{27}/g, '$1…')
    .replaceAll(/([=/][\w-]{8})[\w-]{24,}/g, '$1…')
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}
