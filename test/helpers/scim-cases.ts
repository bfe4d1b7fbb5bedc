import { randomBytes } from 'node:crypto'
import type { Headers, Json, Method } from './scim.ts'

/**
 * Cases as data, one per line: `setup` requests, the tested `request` with its expected response, and `then` requests that
 * check the stored state. Strings can contain placeholders: `{{run}}` is unique for each case, `{{name}}` is a value that an
 * earlier step saved from its response, `{{i}}` is the number of a repetition.
 */
export interface Case {
  id: string
  client: string
  title: string
  /** Slow case, which runs only on request. */
  heavy?: boolean
  setup?: Step[]
  request: Request & { parallel?: number }
  expect: Expectation & { statuses?: Record<string, number>; then?: { request: Request; expect: Expectation }[] }
}

interface Request {
  method: Method
  path: string
  headers?: Record<string, string | null>
  body?: unknown
  rawBody?: string
}

interface Step extends Request {
  /** Number of repetitions, with at most `width` concurrently. */
  repeat?: number
  width?: number
  status?: (number | '2xx')[]
  save?: Record<string, string>
}

interface Expectation {
  status?: (number | string)[]
  headers?: Record<string, unknown>
  /** Assertions by path into the body: `$.name`, `$["any key"]`, `[0]`, `[*]`, `[?name=="x"]`. */
  body?: Record<string, unknown>
  /** Additional assertions by status. */
  bodyWhen?: Record<string, Record<string, unknown>>
  save?: Record<string, string>
}

export interface Answer {
  status: number
  headers: Record<string, unknown>
  body: Json | undefined
}

export type Send = (request: {
  method: Method
  path: string
  headers: Headers
  body: string | undefined
}) => Promise<Answer>

interface Scope {
  /** Saved values by name. */
  values: Record<string, unknown>
  /** Values of one repetition. */
  local: Record<string, unknown>
}

/**
 * Runs one case.
 * @returns the failure, or undefined
 */
export async function runCase(
  each: Case,
  send: Send,
  given: { base: string; token: string },
): Promise<string | undefined> {
  const run = randomBytes(6).toString('hex')
  const scope: Scope = { values: { ...given, run, RUN: run.toUpperCase() }, local: {} }
  for (const step of each.setup ?? []) {
    const wrong = await runStep(step, scope, send)
    if (wrong) return `setup ${step.method} ${step.path.slice(0, 80)}: ${wrong}`
  }
  const { parallel = 1, ...request } = each.request
  const turns = Array.from({ length: parallel }, (_, index) => ({ ...scope, local: { i: index + 1 } }))
  const answers = await Promise.all(turns.map(turn => send(fillRequest(request, turn))))
  const wrong = answers.map(answer => check(each.expect, answer, scope)).find(fault => fault !== undefined)
  if (wrong) return wrong
  const counts = Object.entries(each.expect.statuses ?? {})
  const off = counts.find(
    ([status, count]) => answers.filter(answer => answer.status === Number(status)).length !== count,
  )
  if (off) return `not ${off[1]} times ${off[0]}, but ${answers.map(answer => answer.status).join(' ')}`
  if (answers[0]) save(each.expect.save, answers[0], scope)
  for (const { request: next, expect } of each.expect.then ?? []) {
    const answer = await send(fillRequest(next, scope))
    const fault = check(expect, answer, scope)
    if (fault) return `then ${next.method} ${next.path.slice(0, 80)}: ${fault}`
    save(expect.save, answer, scope)
  }
  return undefined
}

/** Requests of a provider in order, each with its expected response. */
export interface Exchange {
  title: string
  steps: { request: Request; answer: { status: number; body?: unknown }; save?: Record<string, string> }[]
}

/**
 * Sends the requests of one conversation. Objects of a response must contain the expected attributes, and lists must be equal.
 * null means absent, and `{{any}}` matches any value.
 * @returns the failure, or undefined
 */
export async function runExchange(
  { steps }: Exchange,
  send: Send,
  given: { base: string; token: string },
): Promise<string | undefined> {
  const scope: Scope = { values: { ...given, run: randomBytes(6).toString('hex'), any: anything }, local: {} }
  for (const [index, { request, answer, save: wanted }] of steps.entries()) {
    const got = await send(fillRequest(request, scope))
    const isRight = got.status === answer.status && includes(got.body, fill(answer.body, scope))
    if (!isRight) return `step ${index + 1}, ${request.method} ${request.path}: got ${shown(got)}`
    save(wanted, got, scope)
  }
  return undefined
}

const anything = Symbol('anything')

function includes(found: unknown, wanted: unknown): boolean {
  if (wanted === undefined) return true
  if (wanted === anything) return !isAbsent(found)
  if (wanted === null) return isAbsent(found)
  if (Array.isArray(wanted)) {
    const list = listOf(found)
    return list.length === wanted.length && wanted.every((each, index) => includes(list[index], each))
  }
  if (typeof wanted !== 'object') return found === wanted
  return Object.entries(wanted).every(([key, inner]) => includes((found as Json | undefined)?.[key], inner))
}

async function runStep(step: Step, scope: Scope, send: Send): Promise<string | undefined> {
  const { repeat, width = 1, status = ['2xx'] } = step
  const answers: Answer[] = []
  for (let turn = 1; turn <= (repeat ?? 1); turn += width) {
    const turns = Array.from({ length: Math.min(width, (repeat ?? 1) - turn + 1) }, (_, index) => turn + index)
    answers.push(...(await Promise.all(turns.map(i => send(fillRequest(step, { ...scope, local: { i } }))))))
  }
  const bad = answers.find(answer => !isAllowed(answer.status, status))
  if (bad) return shown(bad)
  for (const answer of answers) save(step.save, answer, scope, repeat !== undefined)
  return undefined
}

// ---- placeholders

function fillRequest({ method, path, headers = {}, ...request }: Request, scope: Scope): Parameters<Send>[0] {
  const own = Object.entries(headers).flatMap(([name, value]) => [
    [name.toLowerCase(), value === null ? '' : String(fill(value, scope))],
  ])
  const raw = request.rawBody === undefined ? undefined : String(fill(request.rawBody, scope))
  const body = raw ?? (request.body === undefined ? undefined : JSON.stringify(fill(request.body, scope)))
  const type = body === undefined ? {} : { 'content-type': 'application/scim+json' }
  // The query is already encoded where necessary.
  const url = path.replaceAll(placeholder, (_text, name: string) => encodeURIComponent(String(lookUp(name, scope))))
  const encoded = url.replaceAll(/[^\x21-\x7e]|["<>[\\\]^`{|}]/gu, character => encodeURIComponent(character))
  return { method, path: encoded, headers: { ...type, ...(Object.fromEntries(own) as Headers) }, body }
}

const placeholder = /\{\{([^{}]+)\}\}/g

function fill(value: unknown, scope: Scope): unknown {
  if (typeof value === 'string') return fillText(value, scope)
  if (Array.isArray(value)) return value.flatMap(each => fillElement(each, scope))
  if (typeof value !== 'object' || value === null) return value
  if ('$text' in value) return String(fill(value.$text, scope)).repeat(Number((value as Json).times))
  if ('$random' in value) return randomBytes(Number(value.$random)).toString('hex').slice(0, Number(value.$random))
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [String(fillText(key, scope)), fill(inner, scope)]),
  )
}

function fillText(text: string, scope: Scope): unknown {
  const whole = /^\{\{([^{}]+)\}\}$/.exec(text)
  if (whole?.[1] !== undefined) return lookUp(whole[1], scope)
  return text.replaceAll(placeholder, (_text, name: string) => String(lookUp(name, scope)))
}

/** Expands `{ "$repeat": n, "value" }` and `{ "$each": "list", "value" }` to several elements. */
function fillElement(element: unknown, scope: Scope): unknown[] {
  const { $repeat, $each, value } = (element ?? {}) as Json
  if ($repeat !== undefined) return Array.from({ length: Number($repeat) }, () => fill(value, scope))
  if ($each === undefined) return [fill(element, scope)]
  const list = lookUp(String($each), scope) as unknown[]
  return list.map(item => fill(value, { ...scope, local: { ...scope.local, item } }))
}

function lookUp(name: string, { values, local }: Scope): unknown {
  const [, seconds, offset] = /^time:(-?\d+):(.+)$/.exec(name) ?? []
  if (seconds !== undefined && offset !== undefined) return timeAt(Number(seconds), offset)
  if (name in local) return local[name]
  if (name in values) return values[name]
  const [list = '', index = ''] = name.split('.')
  const found = (values[list] as unknown[] | undefined)?.[Number(index === 'i' ? local.i : index) - 1]
  if (found === undefined) throw new Error(`No step saved a value as ${name}.`)
  return found
}

/** Returns the time in `seconds` from now, in the time zone of an offset such as +14:00. */
function timeAt(seconds: number, offset: string): string {
  const instant = Date.now() + seconds * 1000
  if (offset === 'Z') return new Date(instant).toISOString()
  const [hours = 0, minutes = 0] = offset.slice(1).split(':').map(Number)
  const shift = (offset.startsWith('-') ? -1 : 1) * (hours * 60 + minutes)
  return new Date(instant + shift * 60_000).toISOString().replace('Z', offset)
}

function save(wanted: Record<string, string> | undefined, answer: Answer, scope: Scope, isList = false): void {
  for (const [key, path] of Object.entries(wanted ?? {})) {
    const name = key.replace(/\[\]$/, '')
    const value = path.startsWith('header:')
      ? answer.headers[path.slice('header:'.length)]
      : find(answer.body, path).value
    if (isList || name !== key) scope.values[name] = [...((scope.values[name] as unknown[] | undefined) ?? []), value]
    else scope.values[name] = value
  }
}

// ---- expected responses

function check(expect: Expectation, answer: Answer, scope: Scope): string | undefined {
  if (expect.status && !isAllowed(answer.status, expect.status))
    return `not ${expect.status.join(' or ')}, but ${shown(answer)}`
  for (const [name, expected] of Object.entries(expect.headers ?? {})) {
    const found = { value: answer.headers[name.toLowerCase()], isMany: false }
    if (!holds(found, fill(expected, scope))) return `header ${name} is ${String(found.value)}`
  }
  if (answer.body === undefined) return undefined
  const all = { ...expect.body, ...expect.bodyWhen?.[answer.status] }
  for (const [path, expected] of Object.entries(all)) {
    const found = find(answer.body, String(fill(path, scope)))
    if (!holds(found, fill(expected, scope))) {
      return `${path} is ${textOf(found.value).slice(0, 300)}, not ${JSON.stringify(expected).slice(0, 300)}`
    }
  }
  return undefined
}

function isAllowed(status: number, allowed: readonly (number | string)[]): boolean {
  return allowed.some(each => String(each) === String(status) || String(each) === `${String(status)[0]}xx`)
}

function shown({ status, body }: Answer): string {
  return `${status} ${JSON.stringify(body ?? null).slice(0, 300)}`
}

interface Found {
  value: unknown
  /** Whether a path selects a list, because it contains `[*]` or `[?…]`. */
  isMany: boolean
}

const stepOfPath = /\.([\w$-]+)|\["([^"]+)"\]|\[(\d+)\]|\[(\*)\]|\[\?([\w.]+)==([^\]]+)\]/g

function find(body: unknown, path: string): Found {
  let nodes: unknown[] = [body]
  let isMany = false
  for (const [, name, quoted, index, star, key, literal] of path.slice(1).matchAll(stepOfPath)) {
    if (star !== undefined || key !== undefined) isMany = true
    const lists = nodes.filter(Array.isArray) as unknown[][]
    if (star !== undefined) nodes = lists.flat()
    else if (index !== undefined) nodes = lists.map(list => list[Number(index)])
    else if (key !== undefined)
      nodes = lists.flat().filter(each => (each as Json)[key] === JSON.parse(literal ?? 'null'))
    else nodes = nodes.map(node => (node as Json | undefined | null)?.[name ?? quoted ?? ''])
    nodes = nodes.filter(node => node !== undefined)
  }
  return { value: isMany ? nodes : nodes[0], isMany }
}

/** Whether a value is unassigned: null, absent or empty (RFC 7643 §2.5). */
function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0)
}

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : isAbsent(value) ? [] : [value])
const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value ?? null))
const texts = (value: unknown): string[] => listOf(value).map(sorted).toSorted()
const same = (a: unknown, b: unknown): boolean => sorted(a) === sorted(b)
const sizeOf = (value: unknown): number => (typeof value === 'string' ? value.length : listOf(value).length)

function sorted(value: unknown): string {
  return JSON.stringify(value ?? null, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

/** Assertions on one value and on a list. */
type Assertion = (value: unknown, wanted: unknown) => boolean

const ofOne: Record<string, Assertion> = {
  $match: (value, wanted) => !isAbsent(value) && new RegExp(String(wanted)).test(textOf(value)),
  $notMatch: (value, wanted) => isAbsent(value) || !new RegExp(String(wanted)).test(textOf(value)),
  $type: (value, wanted) => (Array.isArray(value) ? 'array' : isAbsent(value) ? 'absent' : typeof value) === wanted,
  $in: (value, wanted) => listOf(wanted).some(each => (each === null ? isAbsent(value) : same(value, each))),
  $ne: (value, wanted) => !same(value, wanted),
  $ci: (value, wanted) => textOf(value).toLowerCase() === textOf(wanted).toLowerCase(),
  $gte: (value, wanted) => Number(value) >= Number(wanted),
  $lte: (value, wanted) => Number(value) <= Number(wanted),
}
const ofMany: Record<string, Assertion> = {
  $absent: (value, wanted) => isAbsent(value) === wanted,
  $exists: (value, wanted) => isAbsent(value) !== wanted,
  $length: (value, wanted) => sizeOf(value) === wanted,
  $minLength: (value, wanted) => sizeOf(value) >= Number(wanted),
  $maxLength: (value, wanted) => sizeOf(value) <= Number(wanted),
  $contains: (value, wanted) =>
    typeof value === 'string' ? value.includes(String(wanted)) : listOf(value).some(each => same(each, wanted)),
  $notContains: (value, wanted) => !ofMany.$contains!(value, wanted),
  $set: (value, wanted) => same(texts(value), texts(wanted)),
  $disjoint: (value, wanted) => !listOf(value).some(each => listOf(wanted).some(other => same(each, other))),
  $unique: (value, wanted) => (new Set(texts(value)).size === listOf(value).length) === wanted,
}

function holds({ value, isMany }: Found, expected: unknown): boolean {
  const assertions = typeof expected === 'object' && expected !== null ? Object.entries(expected) : []
  if (assertions.length > 0 && assertions.every(([name]) => name in ofOne || name in ofMany)) {
    const single = isMany ? (value as unknown[])[0] : value
    return assertions.every(([name, wanted]) =>
      ofMany[name] ? ofMany[name](value, wanted) : ofOne[name]!(single, wanted),
    )
  }
  if (expected === null) return isAbsent(value)
  // A plain value expects a list with exactly this value.
  return isMany && !Array.isArray(expected) ? same(value, [expected]) : same(value, expected)
}
