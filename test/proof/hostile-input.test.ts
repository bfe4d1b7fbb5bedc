import { Buffer } from 'node:buffer'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { serviceHeaders } from '../helpers/app.ts'
import { startDnsServer } from '../helpers/dns-server.ts'
import {
  hostileHeaders,
  hostileSegments,
  hostileValues,
  rawBodies,
  scimTexts,
  sentMarker,
  toJson,
  unstorableTexts,
} from '../helpers/hostile-values.ts'
import { observeRoutes, type Route } from '../helpers/route-table.ts'
import { placesOf, valuesOf } from '../helpers/schema-values.ts'
import type { Headers } from '../helpers/scim.ts'
import { makeSignInWorld, type SignInWorld } from '../helpers/sign-in.ts'
import { makeTenant, pathOf, type Tenant } from '../helpers/tenant.ts'

/** `FUZZ_INPUTS=500 FUZZ_SEED=7 npm run fuzz`: inputs for each route, and the seed that makes them. */
const inputsPerRoute = Number(process.env.FUZZ_INPUTS ?? 14)
const seed = Number(process.env.FUZZ_SEED ?? 1)

const { observer, routes } = observeRoutes()
const { address: dns } = await startDnsServer(t)
const world = await makeSignInWorld(t, { observer, settings: { DNS_SERVERS: dns } })
const other = await makeTenant(t, world, 'mv7other')

const sentRoutes = routes.filter(isSent)

interface Input {
  url: string
  headers: Headers
  payload: Buffer | undefined
}

t.test(`hostile input gets a refusal that says why, on every route (seed ${seed})`, async t => {
  let sent = 0
  let accepted = 0
  const byScope = Map.groupBy(sentRoutes, ({ url }) => url.split('/').slice(0, 5).join('/'))
  for (const [scope, group] of byScope) {
    // Requests that succeed use up the rows of a workspace, so each scope has its own workspace.
    const tenant = await makeTenant(t, world, `mv7own${sent}`)
    // Deletions last, so that the other routes find what their paths name.
    for (const route of group.toSorted((a, b) => rank(a) - rank(b))) {
      const inputs = [
        ...inputsByPlace(route, tenant),
        ...fc.sample(inputsOf(route, tenant), { seed: seed + sent, numRuns: inputCount(route) }),
      ]
      for (const input of inputs) {
        const status = await expectSafe(t, { route, input, tenant })
        sent++
        if (status < 300) accepted++
      }
    }
    expectCleanLog(t, scope)
  }
  t.ok(sent > 1_500, `${sent} inputs`)
  t.ok(accepted > sent / 50, `${accepted} of them valid by chance, so that the others come close`)
})

function rank({ method }: Route): number {
  return ['GET', 'HEAD', 'POST', 'PATCH', 'PUT', 'DELETE'].indexOf(method)
}

/** OPTIONS is answered by the CORS plugin, and the pages under /docs by their own app. */
function isSent(route: Route): boolean {
  return rank(route) >= 0 && !route.url.startsWith('/docs')
}

/** Few for what shares its handler with many others: HEAD, and the routes that say which methods a path has. */
function inputCount({ method, isDocumented }: Route): number {
  return isDocumented && method !== 'HEAD' ? inputsPerRoute : Math.ceil(inputsPerRoute / 10)
}

/** An otherwise valid request for each text and number of body and query, with a value there that no column can hold. */
function inputsByPlace(route: Route, tenant: Tenant): Input[] {
  if (!route.isDocumented || route.method === 'HEAD') return []
  const part = {
    type: 'object',
    properties: { query: { type: 'object', properties: route.query }, body: route.body?.schema ?? {} },
  }
  const url = pathOf(route.url, name => tenant.ids[name])
  return placesOf(part).flatMap(({ place, type }, index) => {
    const by = type === 'string' ? unstorableTexts : hostileValues.numbers
    const parts = fc.record({
      query: valuesOf(part.properties.query, {
        idOf: idsOf(tenant),
        ...(place.startsWith('/query/') && { replaced: { place: place.slice('/query'.length), by } }),
      }),
      body: valuesOf(part.properties.body, {
        idOf: idsOf(tenant),
        ...(place.startsWith('/body/') && { replaced: { place: place.slice('/body'.length), by } }),
      }),
    })
    return fc.sample(parts, { seed: seed + index, numRuns: 1 }).map(({ query, body }) => {
      const sent = route.body && bodyOf(route, body)
      return {
        url: `${url}${toQuery(query)}`,
        headers: { ...ownHeaders(route, tenant), ...(sent && { 'content-type': sent.mediaType }) },
        payload: sent?.bytes,
      }
    })
  })
}

/** The id that a property of a body or a query names. */
function idsOf(tenant: Tenant): (name: string) => string | undefined {
  return name => tenant.ids[name] ?? tenant.ids[`Users/${name}`]
}

function inputsOf(route: Route, tenant: Tenant): fc.Arbitrary<Input> {
  const options = { idOf: idsOf(tenant), hostile: hostileValues, texts: scimTexts }
  const path = fc.oneof(
    { weight: 6, arbitrary: fc.constant(pathOf(route.url, name => tenant.ids[name])) },
    { weight: 1, arbitrary: hostileSegments.map(segment => pathWith(route, tenant, segment)) },
  )
  const query = valuesOf({ type: 'object', properties: route.query }, options).map(toQuery)
  const described = valuesOf(route.body?.schema ?? {}, options).map(value => bodyOf(route, value))
  const body = fc.oneof(
    { weight: 4, arbitrary: described },
    { weight: 1, arbitrary: rawBodies.map(({ mediaType, bytes }) => ({ mediaType, bytes })) },
    {
      weight: 1,
      arbitrary: fc.tuple(described, fc.nat()).map(([{ mediaType, bytes }, at]) => damaged(mediaType, bytes, at)),
    },
  )
  const hasBody = route.body !== undefined
  return fc
    .record({ path, query, body: hasBody ? body : fc.constant(undefined), headers: hostileHeaders })
    .map(({ path: sentPath, query: sentQuery, body: sentBody, headers }) => ({
      url: `${sentPath}${sentQuery}`,
      headers: { ...ownHeaders(route, tenant), ...(sentBody && { 'content-type': sentBody.mediaType }), ...headers },
      payload: sentBody?.bytes,
    }))
}

function ownHeaders({ guard, url }: Route, tenant: Tenant): Headers {
  if (guard === 'directory') return { authorization: `Bearer ${tenant.directory.token}` }
  if (guard === 'session') return tenant.session
  if (guard === 'none') return {}
  return url === '/v1/workspaces/:workspaceId' ? serviceHeaders : tenant.acme.headers
}

/** The last id of the path is the hostile one; the others stay, so that the request gets that far. */
function pathWith({ url, parameters }: Route, tenant: Tenant, segment: string): string {
  const last = parameters.at(-1)
  return pathOf(url, name => (name === last || name.endsWith(`/${last}`) ? segment : tenant.ids[name]))
}

function toQuery(value: unknown): string {
  if (typeof value !== 'object' || value === null) return `?${encodeURIComponent(toJson(value))}`
  const pairs = Object.entries(value).map(([name, each]) => {
    const text = typeof each === 'string' && each.isWellFormed() ? each : toJson(each)
    return `${name}=${encodeURIComponent(text.toWellFormed())}`
  })
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`
}

interface SentBody {
  mediaType: string
  bytes: Buffer
}

function bodyOf({ body }: Route, value: unknown): SentBody {
  const mediaType = body?.mediaType ?? 'application/json'
  const text = mediaType.includes('json') ? toJson(value) : toQuery(value).slice(1)
  return { mediaType, bytes: Buffer.from(text) }
}

/** One byte changed, or the rest cut off. */
function damaged(mediaType: string, bytes: Buffer, at: number): SentBody {
  const place = bytes.length === 0 ? 0 : at % bytes.length
  if (at % 3 === 0) return { mediaType, bytes: bytes.subarray(0, place) }
  const copy = Buffer.from(bytes)
  if (copy.length > 0) copy[place] = at % 256
  return { mediaType, bytes: copy }
}

interface Sending {
  route: Route
  input: Input
  tenant: Tenant
}

async function expectSafe(t: Test, { route, input, tenant }: Sending): Promise<number> {
  const logged = world.test.log().length
  const reply = await world.test.app.inject({
    method: route.method,
    url: input.url,
    headers: input.headers,
    ...(input.payload !== undefined && { payload: input.payload }),
  })
  const fault = faultOf(reply, { route, tenant })
  if (fault === undefined) return reply.statusCode
  const shown = {
    ...input,
    headers: { ...input.headers, authorization: undefined },
    payload: input.payload?.toString().slice(0, 2_000),
  }
  t.fail(`${route.method} ${route.url}: ${fault}. FUZZ_SEED=${seed} FUZZ_INPUTS=${inputsPerRoute}`, {
    input: shown,
    reply: reply.body.slice(0, 500),
    log: world.test.log().slice(logged, logged + 3_000),
  })
  return reply.statusCode
}

type Reply = Awaited<ReturnType<SignInWorld['test']['app']['inject']>>

function faultOf(reply: Reply, { route, tenant }: { route: Route; tenant: Tenant }): string | undefined {
  const text = `${JSON.stringify(reply.headers)}${reply.body}`
  if (reply.statusCode >= 500 && !mayFail(reply)) return `answers ${reply.statusCode}`
  if (text.includes(other.marker)) return 'reveals another workspace'
  if (text.includes(`${tenant.marker}-client-secret`)) return 'reveals the client secret'
  if (text.includes(tenant.directory.token)) return 'reveals a directory token'
  if (/\bat \S+ \(?(file:|\/).*:\d+:\d+/.test(text)) return 'shows a stack trace'
  if (/SELECT |INSERT |relation "|syntax error at or near/.test(text)) return 'shows SQL'
  if (reply.statusCode >= 400 && reply.statusCode < 500 && !hasReason(reply, route))
    return `${reply.statusCode} gives no reason`
  return undefined
}

/** RFC 7644 has 501 for what a service provider does not offer. */
function mayFail({ statusCode }: Reply): boolean {
  return statusCode === 501
}

function hasReason({ body, headers }: Reply, { method }: Route): boolean {
  if (method === 'HEAD') return true
  const type = headers['content-type'] ?? ''
  if (!type.includes('json')) return type.startsWith('text/')
  const refusal = JSON.parse(body) as { code?: string; detail?: string; error?: string }
  return (refusal.detail ?? refusal.code ?? refusal.error ?? '') !== ''
}

let read = 0
function expectCleanLog(t: Test, scope: string): void {
  const lines = world.test.log().slice(read).split('\n')
  read += lines.join('\n').length
  for (const marker of [sentMarker, 'mv7o', '-client-secret']) {
    const line = lines.find(each => each.includes(marker))
    if (line !== undefined) t.fail(`${scope}: the log holds ${marker}. FUZZ_SEED=${seed}`, { line })
  }
  const stack = lines.find(each => each.includes('"stack"'))
  if (stack !== undefined) t.fail(`${scope}: the log holds a stack trace. FUZZ_SEED=${seed}`, { line: stack })
}
