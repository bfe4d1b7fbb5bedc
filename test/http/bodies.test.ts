import { randomUUID } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { readFile } from 'node:fs/promises'
import { createBytesInFlight } from '../../src/http/body/bytes-in-flight.ts'
import { MAX_JSON_DEPTH, MAX_OBJECT_KEYS, MAX_TOKEN_BYTES, parseJson } from '../../src/http/body/parse-json.ts'
import { makeApp, makeWorkspace } from '../helpers/app.ts'
import { GROUP, makeDirectory, PATCH_OP, USER, type Json, type TestDirectory } from '../helpers/scim.ts'

const MiB = 1_048_576

/**
 * The goal is 25 ms alone on a machine. Four test files share two cores here, so the bound is one that only a body which is
 * parsed or read in one piece exceeds (1,000 ms and more).
 */
const MAX_HOLD_MS = 200
const BULK = 'urn:ietf:params:scim:api:messages:2.0:BulkRequest'

/** A body that is as long as it need be, put together where it is sent. */
interface Repeating {
  before: string
  repeated: string
  times: number
  after: string
}

interface Answer {
  /** 0 where the connection ended. */
  status: number
  body: string
}

/** Sends from a thread of its own, so that what the client does is not taken for work of the service. */
const client = `
const { parentPort, workerData } = require('node:worker_threads')
const { request } = require('node:http')
parentPort.on('message', ({ number, method, path, body }) => {
  const headers = { authorization: workerData.authorization }
  const text = typeof body === 'object' ? body.before + body.repeated.repeat(body.times) + body.after : body
  const bytes = text === undefined ? undefined : Buffer.from(text)
  if (bytes) Object.assign(headers, { 'content-type': 'application/json', 'content-length': bytes.length })
  const sent = request({ port: workerData.port, method, path, headers }, response => {
    let text = ''
    response.setEncoding('utf8').on('data', chunk => (text += chunk))
    response.on('end', () => parentPort.postMessage({ number, status: response.statusCode, body: text.slice(0, 1000) }))
    response.on('error', () => parentPort.postMessage({ number, status: 0 }))
  })
  // A connection that is refused early may be reset while the body is still sent.
  sent.on('error', () => parentPort.postMessage({ number, status: 0 }))
  sent.end(bytes)
})`

async function listen(t: Test, { app, directoryId, token }: TestDirectory) {
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const worker = new Worker(client, { eval: true, workerData: { port, authorization: `Bearer ${token}` } })
  t.teardown(async () => worker.terminate())
  const waiting = new Map<number, (answer: Answer) => void>()
  worker.on('message', (answer: Answer & { number: number }) => waiting.get(answer.number)?.(answer))
  return async (
    path: string,
    body?: string | Repeating,
    method = body === undefined ? 'GET' : 'POST',
  ): Promise<Answer> =>
    new Promise(resolve => {
      const number = waiting.size
      waiting.set(number, resolve)
      const url = /^\/(Users|Groups|Bulk)/.test(path) ? `/scim/v2/${directoryId}${path}` : path
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
      worker.postMessage({ number, method, path: url, body })
    })
}

/**
 * The longest that the event loop was held during the work, in milliseconds and without the longest pause of the garbage
 * collector: the least of up to six runs, as the machine is shared.
 */
async function longestHold(work: () => Promise<unknown>): Promise<number> {
  let least = Infinity
  for (let run = 0; run < 6 && least >= MAX_HOLD_MS / 2; run++) {
    const delays = monitorEventLoopDelay({ resolution: 1 })
    let pause = 0
    const pauses = new PerformanceObserver(list => {
      for (const { duration } of list.getEntries()) pause = Math.max(pause, duration)
    })
    delays.enable()
    await delay(20)
    delays.reset()
    pauses.observe({ entryTypes: ['gc'] })
    await work()
    await delay(10)
    delays.disable()
    pauses.disconnect()
    least = Math.min(least, delays.max / 1e6 - pause)
  }
  return least
}

function members(count: number, more: object = {}): object[] {
  return Array.from({ length: count }, () => ({ value: randomUUID(), ...more }))
}

function numbered(count: number, value: unknown): object {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`key${index}`, value]))
}

const outcome = (read: () => unknown): string => {
  try {
    return JSON.stringify(read())
  } catch (error) {
    if (error instanceof SyntaxError) return 'malformed'
    return (error as { code: string }).code === 'malformed_json' ? 'malformed' : String(error)
  }
}

const read =
  (text: string, values = 50_000) =>
  () =>
    parseJson(Buffer.from(text), values)
const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
const keys = (count: number) => `{${Array.from({ length: count }, (_, index) => `"key${index}":0`).join(',')}}`

const guard = (people: number) => ({ guard: { people, percent: null, minutes: 60 } })

const asText = (body: object) => JSON.stringify(body)

t.test('a body parsed in pieces has the value and the faults that JSON.parse finds', t => {
  const fragment = fc.constantFrom(
    ...'{}[],: "a"|"b{["|"\\""|"__proto__"|1|-1.5e3|true|null|"é"|"a":|"c":[|01|"'.split('|'),
  )
  const text = fc.oneof(
    fc.json(),
    fc.array(fragment, { maxLength: 12 }).map(parts => parts.join('')),
    fc.tuple(fc.json(), fc.nat(), fragment).map(([json, place, part]) => {
      const cut = place % (json.length + 1)
      return json.slice(0, cut) + part + json.slice(cut)
    }),
  )
  const pieces = fc.record({ bytes: fc.integer({ min: 1, max: 20 }), values: fc.integer({ min: 1, max: 5 }) })
  fc.assert(
    fc.property(text, pieces, (json, piece) => {
      // Long enough to be scanned.
      const padded = json.padEnd(9_000)
      return outcome(() => parseJson(Buffer.from(padded), 100_000, piece)) === outcome(() => JSON.parse(padded))
    }),
    { numRuns: 3_000 },
  )
  t.end()
})

t.test('values, depth, keys and strings of a body are limited exactly', t => {
  t.same(read('[1,[],{"a":null}]', 5)(), [1, [], { a: null }])
  t.throws(read('[1,[],{"a":null}]', 4), { code: 'body_too_large', message: /more than 4 values/ })
  t.doesNotThrow(read(nested(MAX_JSON_DEPTH)))
  t.throws(read(nested(MAX_JSON_DEPTH + 1)), { code: 'body_too_large', message: /32 deep/ })
  t.doesNotThrow(read(keys(MAX_OBJECT_KEYS)))
  t.throws(read(keys(MAX_OBJECT_KEYS + 1)), { code: 'body_too_large', message: /2000 keys/ })
  t.doesNotThrow(read(`"${'x'.repeat(MAX_TOKEN_BYTES)}"`))
  for (const token of [
    `"${'x'.repeat(MAX_TOKEN_BYTES + 9)}"`,
    '1'.repeat(MAX_TOKEN_BYTES + 9),
    ' '.repeat(MAX_TOKEN_BYTES + 9),
  ]) {
    t.throws(read(token), { code: 'body_too_large', message: /524288 bytes/ })
  }
  t.end()
})

t.test('bytes in flight are limited for the replica and each owner, and given back', async t => {
  const inFlight = createBytesInFlight({ replica: 100, owner: 60 })
  const [first, second] = [inFlight.begin('a'), inFlight.begin('b')]
  first.grow(60)
  t.throws(() => inFlight.requireRoom('a', 1), {
    code: 'rate_limited',
    retryAfter: 1,
    message: /60 bytes of a workspace/,
  })
  t.throws(() => second.grow(41), { code: 'rate_limited', message: /at most 100 bytes/ })
  second.grow(40)
  await first.takeTurn()
  const third = inFlight.begin('a')
  let hasTurn = false
  const turn = third.takeTurn().then(() => (hasTurn = true))
  await second.takeTurn()
  t.notOk(hasTurn, 'an owner has one large body in work')
  first.end()
  first.end()
  await turn
  third.grow(60)
  t.ok(hasTurn)
})

t.test('users, PATCHes and searches are small; groups and Bulk are large', async t => {
  const { send, createUser } = await makeDirectory(t)
  const { id } = await createUser({ userName: 'ana@example.com' })
  const filler = 'x'.repeat(400_000)
  const large = { a: filler, b: filler, c: filler }
  for (const [method, path] of [
    ['POST', '/Users'],
    ['PUT', `/Users/${id}`],
    ['PATCH', `/Users/${id}`],
    ['PATCH', `/Groups/${randomUUID()}`],
    ['POST', '/.search'],
  ] as const) {
    const reply = await send(method, path, { body: { schemas: [USER], userName: 'bea@example.com', ...large } })
    t.match(reply.json(), { status: '413', detail: /larger than the 1048576 bytes/ }, `${method} ${path}`)
  }
  const group = await send('POST', '/Groups', { body: { schemas: [GROUP], displayName: 'Weavers', ...large } })
  t.equal(group.statusCode, 201)
  const many = { schemas: [USER], userName: 'cem@example.com', x: Array.from({ length: 60_000 }, () => 1) }
  t.match((await send('POST', '/Users', { body: many })).json(), { status: '413', detail: /more than 20000 values/ })
  const operation = { method: 'POST', path: '/Users', bulkId: 'a', data: many }
  const bulk = await send('POST', '/Bulk', { body: { schemas: [BULK], Operations: [operation] } })
  t.match(bulk.json().Operations, [{ status: '413', response: { detail: /more than 20000 values/ } }])
})

t.test('deeply objects JSON is refused on every route, also before a caller is known', async t => {
  const directory = await makeDirectory(t)
  const { workspaceId, headers } = await makeWorkspace(directory)
  const objects = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`
  const arrays = '['.repeat(30_000) + ']'.repeat(30_000)
  for (const payload of [objects, arrays]) {
    for (const [url, sent] of [
      ['/v1/sign-in-options', {}],
      ['/v1/sessions', {}],
      [`/v1/workspaces/${workspaceId}/directories`, headers],
      ['/v1/nothing', {}],
    ] as const) {
      const reply = await directory.app.inject({
        method: 'POST',
        url,
        headers: { ...sent, 'content-type': 'application/json' },
        payload,
      })
      t.ok([404, 413].includes(reply.statusCode), `${url} ${reply.statusCode}`)
    }
    for (const path of ['/Users', '/Groups', '/Bulk', '/.search']) {
      const reply = await directory.send('POST', path, { body: payload })
      t.match(reply.json(), { status: '413', detail: /nest at most 32 deep/ }, path)
    }
  }
})

t.test('numbers outside of their columns are refused as invalid', async t => {
  const test = await makeApp(t)
  const { url, headers } = await makeWorkspace(test)
  const created = await test.app.inject({
    method: 'POST',
    url: `${url}/directories`,
    headers,
    payload: { name: 'Okta' },
  })
  const { id } = created.json<Json>()
  const patch = async (payload: object) =>
    test.app.inject({ method: 'PATCH', url: `${url}/directories/${id}`, headers, payload })
  for (const people of [3_000_000_000, 1e300, Number.MAX_SAFE_INTEGER]) {
    t.match((await patch(guard(people))).json(), { status: 400, code: 'invalid' })
  }
  t.equal((await patch(guard(2_147_483_647))).statusCode, 200)
})

t.test('every number in openapi.yaml has a minimum and a maximum', async t => {
  const document: unknown = parse(await readFile(new URL('../../openapi.yaml', import.meta.url), 'utf8'))
  const left: { value: unknown; pointer: string }[] = [{ value: document, pointer: '' }]
  const unbounded: string[] = []
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { value, pointer } = next
    if (typeof value !== 'object' || value === null) continue
    const { type, minimum, maximum, exclusiveMinimum, exclusiveMaximum } = value as Json
    const types: unknown[] = Array.isArray(type) ? type : [type]
    const isNumber = types.includes('integer') || types.includes('number')
    if (isNumber && ((minimum ?? exclusiveMinimum) === undefined || (maximum ?? exclusiveMaximum) === undefined)) {
      unbounded.push(pointer)
    }
    for (const [key, inner] of Object.entries(value)) {
      if (key !== 'example' && key !== 'examples') left.push({ value: inner, pointer: `${pointer}/${key}` })
    }
  }
  t.same(unbounded, [])
})

t.test('twenty-four bodies of five million empty objects at once are refused while health checks answer', async t => {
  const call = await listen(t, await makeDirectory(t))
  const before = `{"schemas":["${GROUP}"],"displayName":"Weavers","ignored":[`
  const body = { before, repeated: '{},', times: 5_000_000, after: '{}]}' }
  const held = process.memoryUsage().rss
  let slowest = 0
  const done = new AbortController()
  const health = (async () => {
    while (!done.signal.aborted) {
      const since = performance.now()
      t.equal((await call('/healthz')).status, 200)
      slowest = Math.max(slowest, performance.now() - since)
      await delay(20)
    }
  })()
  const replies = await Promise.all(Array.from({ length: 24 }, async () => call('/Groups', body)))
  const users = await call('/Users', body)
  done.abort()
  await health
  for (const { status } of replies) t.ok([0, 413, 429].includes(status), String(status))
  t.ok([0, 413].includes(users.status))
  t.ok(replies.some(({ status }) => status === 413))
  t.ok(slowest < 8_000, `a health check took ${Math.round(slowest)} ms`)
  const grown = (process.memoryUsage().rss - held) / MiB
  t.ok(grown < 600, `memory grew by ${Math.round(grown)} MiB`)
  t.comment(`slowest health check ${Math.round(slowest)} ms, memory +${Math.round(grown)} MiB`)
})

t.test('no large or hostile body holds the event loop for long', async t => {
  const directory = await makeDirectory(t)
  const call = await listen(t, directory)
  const id = (await directory.createUser({ userName: 'ana@example.com' })).id as string
  const cases: Record<string, [path: string, body: string, status: number, method?: string]> = {
    'a group with 150,000 unknown members': [
      '/Groups',
      asText({ schemas: [GROUP], displayName: 'a', members: members(150_000, { type: 'User' }) }),
      400,
    ],
    'a group with an ignored attribute': [
      '/Groups',
      `{"schemas":["${GROUP}"],"displayName":"b${randomUUID()}","ignored":[${'{},'.repeat(450_000)}{}]}`,
      201,
    ],
    'a user with 2,000 unknown attributes': [
      '/Users',
      asText({ schemas: [USER], userName: id, ...numbered(1_900, [1, 2, 3]) }),
      201,
    ],
    'a user with many e-mail addresses': [
      '/Users',
      asText({
        schemas: [USER],
        userName: 'x',
        emails: Array.from({ length: 1_000 }, (_, i) => ({ value: `a${i}@example.com`, ...numbered(15, 1) })),
      }),
      201,
    ],
    'a user with 1,900 extensions': [
      '/Users',
      asText({
        schemas: [USER],
        userName: 'y',
        ...Object.fromEntries(Array.from({ length: 1_900 }, (_, i) => [`urn:example:${i}`, { a: 1 }])),
      }),
      400,
    ],
    'a PATCH with 3,000 operations': [
      `/Users/${id}`,
      asText({
        schemas: [PATCH_OP],
        Operations: Array.from({ length: 3_000 }, (_, i) => ({
          op: 'add',
          path: 'emails',
          value: [{ value: `b${i % 900}@example.com` }],
        })),
      }),
      200,
      'PATCH',
    ],
    'a bulk request of 300 operations in a chain': [
      '/Bulk',
      asText({
        schemas: [BULK],
        Operations: Array.from({ length: 300 }, (_, i) => ({
          method: 'POST',
          path: '/Groups',
          bulkId: `g${i}`,
          data: {
            displayName: `g${i}${randomUUID()}`,
            ignored: members(500),
            members: i < 299 ? [{ value: `bulkId:g${i + 1}` }] : [],
          },
        })),
      }),
      200,
    ],
  }
  for (const [name, [path, body, status, method]] of Object.entries(cases)) {
    let seen = 0
    const hold = await longestHold(async () => {
      seen = (await call(path, body, method)).status
    })
    t.comment(`${name}: ${hold.toFixed(1)} ms, ${seen}`)
    t.ok(hold < MAX_HOLD_MS, `${name}: ${hold.toFixed(1)} ms`)
    t.ok(seen === status || seen === 409, `${name}: ${seen}`)
  }
})
