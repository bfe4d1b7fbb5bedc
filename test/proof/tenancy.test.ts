import fc from 'fast-check'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { serviceHeaders } from '../helpers/app.ts'
import { makeForeignCredentials, type ForeignCredential } from '../helpers/foreign-credentials.ts'
import { observeRoutes, type Route } from '../helpers/route-table.ts'
import { valuesOf } from '../helpers/schema-values.ts'
import type { Headers } from '../helpers/scim.ts'
import { makeSignInWorld } from '../helpers/sign-in.ts'
import { makeTenant, pathOf, type Tenant } from '../helpers/tenant.ts'

const { observer, routes } = observeRoutes()
const world = await makeSignInWorld(t, { observer })
const { app, db, config, log } = world.test
const victim = await makeTenant(t, world, 'mv7victim')
const caller = await makeTenant(t, world, 'mv7caller')
const credentials = await makeForeignCredentials({ victim, caller }, config.publicUrl)

/** The routes that ask for no credential. A new one needs a reason to be here. */
const openRoutes = [
  '/healthz',
  '/readyz',
  '/docs',
  '/docs/*',
  '/.well-known/jwks.json',
  '/v1/sign-in-options',
  // They take a secret in the body instead: an exchange code, a recovery code.
  '/v1/sessions',
  '/v1/recovery-sessions',
  // Browsers and identity providers that sign people in and out.
  '/sso/:workspaceId/jwks.json',
  '/sso/:workspaceId/start',
  '/sso/:workspaceId/callback',
  '/sso/:workspaceId/sign-in-tests/:token',
  '/sso/:workspaceId/initiate',
  '/sso/:workspaceId/backchannel-logout',
]

t.test('every route that asks for no credential is listed', async t => {
  const open = routes.filter(each => each.guard === 'none' && each.method !== 'OPTIONS')
  t.same(new Set(open.map(each => each.url)), new Set(openRoutes))
})

t.test('a foreign credential of any kind opens no route, changes nothing and reveals nothing', async t => {
  const before = await rowsOf(victim)
  // A guard refuses before it reads a body, so the calls of these two cannot pass for another reason.
  const accepted = { assist: [401, 403, 404], directory: [401] }
  let calls = 0
  for (const guard of ['assist', 'directory'] as const) {
    for (const route of routes.filter(each => isSent(each) && each.guard === guard)) {
      for (const { kind, headers } of kindsFor(route, calls)) {
        const reply = await send(route, { headers, idOf: name => victim.ids[name] })
        const name = `${nameOf(route)} with ${kind}`
        calls++
        if (!accepted[guard].includes(reply.statusCode)) t.fail(`${name}: ${reply.statusCode} ${reply.body}`)
        expectNothingOf(t, victim, name, reply)
      }
    }
  }
  t.ok(calls > 3_000, `${calls} calls`)
  t.same(await rowsOf(victim), before)
  expectCleanLog(t)
})

t.test('a foreign credential makes no difference on a route that asks for none or for a session', async t => {
  for (const guard of ['session', 'none'] as const) {
    const before = await rowsOf(victim)
    for (const route of routes.filter(each => isSent(each) && each.guard === guard)) {
      for (const { kind, headers } of credentials[guard]) {
        const reply = await send(route, { headers, idOf: name => victim.ids[name] })
        if (reply.statusCode >= 500) t.fail(`${nameOf(route)} with ${kind}: ${reply.statusCode} ${reply.body}`)
        expectNothingOf(t, victim, `${nameOf(route)} with ${kind}`, reply)
      }
    }
    // Anyone may begin a sign-in, which is a row.
    if (guard === 'session') t.same(await rowsOf(victim), before)
  }
  expectCleanLog(t)
})

t.test('an id of another workspace in a path is an unknown id', async t => {
  const before = await rowsOf(victim)
  let calls = 0
  for (const route of routes.filter(each => isSent(each) && each.guard !== 'none' && !isDiscovery(each))) {
    const scope = route.guard === 'directory' ? 'directoryId' : 'workspaceId'
    for (const foreign of route.parameters.filter(each => each !== scope)) {
      const isForeign = (name: string) => name === foreign || name.endsWith(`/${foreign}`)
      const reply = await send(route, {
        headers: ownHeaders(route),
        idOf: name => (isForeign(name) ? victim : caller).ids[name],
      })
      calls++
      const name = `${nameOf(route)} with a foreign ${foreign}`
      if (reply.statusCode < 400 || reply.statusCode >= 500) t.fail(`${name}: ${reply.statusCode} ${reply.body}`)
      expectNothingOf(t, victim, name, reply)
    }
  }
  t.ok(calls > 70, `${calls} calls`)
  t.same(await rowsOf(victim), before)
  expectCleanLog(t)
})

t.test('an id of another workspace in a body or a query is an unknown id', async t => {
  const before = await rowsOf(victim)
  let calls = 0
  for (const route of routes.filter(each => isSent(each) && each.guard !== 'none' && each.method !== 'DELETE')) {
    if (route.body === undefined && Object.keys(route.query).length === 0) continue
    for (let round = 0; round < 5; round++) {
      const reply = await send(route, {
        headers: ownHeaders(route),
        idOf: name => caller.ids[name],
        named: name => victim.ids[victimIds[name] ?? name],
        seed: round,
      })
      calls++
      if (reply.statusCode >= 500) t.fail(`${nameOf(route)}: ${reply.statusCode} ${reply.body}`)
      expectNothingOf(t, victim, nameOf(route), reply)
    }
  }
  t.ok(calls > 200, `${calls} calls`)
  t.same(await rowsOf(victim), before)
  // A manager is text of the provider that is resolved inside the directory, so a user may hold any id.
  const { scim_users: _users, ...rest } = await rowsOf(caller)
  const own = JSON.stringify(rest)
  const foreign = Object.entries(victim.ids).filter(([, id]) => id.length === 36 && own.includes(id))
  t.same(foreign, [], 'no row of the caller names a row of the victim')
  expectCleanLog(t)
})

/** Which id of the victim a property of another name gets. */
const victimIds: Record<string, string> = { value: 'Users/id', id: 'memberId', userId: 'Users/id' }

/** Every kind; for a route that shares its handler and guard with many others, the next one in turn. */
function kindsFor({ guard, isDocumented }: Route, turn: number): ForeignCredential[] {
  const kinds = credentials[guard]
  return isDocumented ? kinds : kinds.slice(turn % kinds.length).slice(0, 1)
}

function nameOf({ method, url }: Route): string {
  return `${method} ${url}`
}

/** Fastify answers OPTIONS and the rare methods itself, the same way for every caller. */
function isSent({ method }: Route): boolean {
  return ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'].includes(method)
}

/** What is the same for every directory: schemas and resource types. */
function isDiscovery({ url }: Route): boolean {
  return /\/(Schemas|ResourceTypes)\//.test(url)
}

/** A credential of the caller that is good for the route. */
function ownHeaders({ guard, url }: Route): Headers {
  if (guard === 'directory') return { authorization: `Bearer ${caller.directory.token}` }
  return url === '/v1/workspaces/:workspaceId' ? serviceHeaders : caller.acme.headers
}

interface Sent {
  headers: Headers
  /** The ids of the path. */
  idOf: (name: string) => string | undefined
  /** The ids of body and query; absent: as in the path. */
  named?: (name: string) => string | undefined
  seed?: number
}

async function send({ method, url, query, body }: Route, { headers, idOf, named = idOf, seed = 1 }: Sent) {
  const [sample] = fc.sample(
    fc.record({
      query: valuesOf({ type: 'object', properties: query }, { idOf: named }) as fc.Arbitrary<Record<string, string>>,
      body: valuesOf(body?.schema ?? {}, { idOf: named }),
    }),
    { seed, numRuns: 1 },
  )
  const payload = body?.mediaType.includes('json') ? JSON.stringify(sample?.body) : ''
  return app.inject({
    method,
    url: pathOf(url, idOf),
    query: sample?.query ?? {},
    headers: { ...headers, ...(body && { 'content-type': body.mediaType }) },
    ...(body && { payload }),
  })
}

function expectNothingOf(t: Test, { marker }: Tenant, name: string, reply: { body: string; headers: object }): void {
  if (`${JSON.stringify(reply.headers)}${reply.body}`.includes(marker)) t.fail(`${name} reveals ${reply.body}`)
}

/** Every row of a workspace by its table, except what records a refusal. */
async function rowsOf({ acme }: Tenant): Promise<Record<string, string[]>> {
  const { rows: tables } = await sql<{ name: string }>`
    SELECT table_name AS name FROM information_schema.columns
     WHERE table_schema = 'public' AND column_name = 'workspace_id' AND table_name <> 'activity_entries'
     ORDER BY table_name`.execute(db)
  const found: Record<string, string[]> = {}
  for (const { name } of tables) {
    const { rows } = await sql<{ row: string }>`
      SELECT (to_jsonb(r) - 'last_used_at')::text AS row FROM ${sql.table(name)} r WHERE workspace_id = ${acme.workspaceId} ORDER BY 1`.execute(
      db,
    )
    found[name] = rows.map(each => each.row)
  }
  return found
}

function expectCleanLog(t: Test): void {
  const lines = log()
  for (const secret of [victim.marker, caller.marker, victim.directory.token, caller.directory.token]) {
    t.notOk(lines.includes(secret), 'the log holds no secret and no personal value')
  }
  const stack = lines.split('\n').find(each => each.includes('"stack"'))
  t.equal(stack, undefined, 'the log holds no stack trace')
}
