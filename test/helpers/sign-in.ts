import { createHash, randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import type { AppOptions } from '../../src/app.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { makeApp, makeWorkspace, type TestApp } from './app.ts'
import { makeNetwork, type TestNetwork } from './network.ts'
import { makeScriptedProvider, type AuthorizeOptions, type ScriptedProvider } from './scripted-provider.ts'

type Reply = Awaited<ReturnType<TestApp['app']['inject']>>

/** A provider and a service with any number of workspaces. */
export interface SignInWorld {
  test: TestApp
  network: TestNetwork
  idp: ScriptedProvider
  /** Creates a workspace with an SSO configuration and the members of `people`. Changes override the configuration's defaults. */
  makeAcme: (config?: Record<string, unknown>) => Promise<Acme>
}

export interface Acme {
  workspaceId: string
  /** Headers for the admin API. */
  url: string
  headers: { authorization: string }
  ids: Record<keyof typeof people, string>
  /** Changes the SSO configuration through the admin API. */
  configure: (changes: Record<string, unknown>) => Promise<Reply>
}

const people = {
  olga: { email: 'owner@corp.example', role: 'owner', status: 'active' },
  ana: { email: 'ana@corp.example', role: 'member', status: 'active' },
  bea: { email: 'bea@corp.example', role: 'member', status: 'active' },
  ivo: { email: 'ivo@corp.example', role: 'member', status: 'invited' },
  dan: { email: 'dan@corp.example', role: 'member', status: 'deactivated' },
} as const

export interface WorldOptions {
  /** As in AppOptions; 0: each refusal has an entry. */
  repeatWindowMs?: number
  settings?: Record<string, string>
  /** Starts another replica on the same database and network. */
  replicaOf?: SignInWorld
  issuer?: string
  /** Timeout of one call to a provider. */
  timeoutMs?: number
  /** Plugin that observes the routes of the app. */
  observer?: AppOptions['observer']
}

export async function makeSignInWorld(
  t: Test,
  { settings = {}, replicaOf, issuer, timeoutMs = 5_000, observer, repeatWindowMs = 0 }: WorldOptions = {},
): Promise<SignInWorld> {
  const network = replicaOf?.network ?? makeNetwork()
  const idp = replicaOf?.idp ?? (await makeScriptedProvider(t, { network, ...(issuer !== undefined && { issuer }) }))
  const test = await makeApp(t, {
    settings: { SIGN_IN_STARTS_PER_MINUTE: '10000', SIGN_IN_OPEN_ATTEMPTS: '10000', ...settings },
    options: {
      outbound: { ...network.outbound, timeoutMs, failureStepMs: 20 },
      repeatWindowMs,
      ...(observer && { observer }),
    },
    ...(replicaOf && { replicaOf: replicaOf.test }),
  })
  return { test, network, idp, makeAcme: config => makeAcme(test, idp, config) }
}

async function makeAcme(test: TestApp, idp: ScriptedProvider, config: Record<string, unknown> = {}): Promise<Acme> {
  const { workspaceId, url, headers } = await makeWorkspace(test, { name: 'acme', defaultRole: 'viewer' })
  const { app, db } = test
  const ids = Object.fromEntries(Object.keys(people).map(name => [name, uuid7()])) as Acme['ids']
  await db
    .insertInto('members')
    .values(
      Object.entries(people).map(([name, { email, role, status }]) => ({
        workspace_id: workspaceId,
        id: ids[name as keyof typeof people],
        email,
        email_key: email,
        status,
        role,
        manual_role: role,
        manual_policy: 'floor' as const,
        deactivated_by: status === 'deactivated' ? ('admin' as const) : null,
        invitation_expires_at: status === 'invited' ? '2100-01-01T00:00:00Z' : null,
        origin: 'invite' as const,
      })),
    )
    .execute()
  const saved = await app.inject({
    method: 'PUT',
    url: `${url}/sso-config`,
    headers,
    payload: {
      issuer: idp.issuer,
      clientId: 'assist-acme',
      clientSecret: 'acme-secret',
      allowedDomains: ['corp.example'],
      ...config,
    },
  })
  if (saved.statusCode >= 300) throw new Error(saved.body)
  const configure = (payload: Record<string, unknown>) =>
    app.inject({ method: 'PATCH', url: `${url}/sso-config`, headers, payload })
  return { workspaceId, url, headers, ids, configure }
}

export interface StartOptions extends AuthorizeOptions {
  returnTo?: string
  loginHint?: string
  headers?: Record<string, string>
  address?: string
}

/** The page to which a callback redirected the browser. */
export interface Landing {
  reply: Reply
  location: URL
  /** Exchange code on the signed-in page. */
  exchangeCode: string | undefined
  /** On the error page. */
  code: string | undefined
  ref: string | undefined
  retry: string | undefined
}

/** A browser with its cookies, and the front-end's verifier of each sign-in. */
export interface Browser {
  cookies: Map<string, string>
  get: (url: string, options?: { headers?: Record<string, string>; address?: string }) => Promise<Reply>
  /** Starts a sign-in. `authorizationUrl` is the redirect to the provider. */
  start: (acme: Acme, options?: StartOptions) => Promise<{ reply: Reply; authorizationUrl: string }>
  /** Starts a sign-in, signs in at the provider and returns the callback URL. */
  reachCallback: (acme: Acme, options?: StartOptions) => Promise<string>
  open: (callback: string, headers?: Record<string, string>) => Promise<Landing>
  /** Runs a sign-in up to the redirect of the callback. */
  signIn: (acme: Acme, options?: StartOptions) => Promise<Landing>
  redeem: (exchangeCode: string, changes?: { verifier?: string; headers?: Record<string, string> }) => Promise<Reply>
  verifier: string
}

export function makeBrowser({ test, idp }: Pick<SignInWorld, 'test' | 'idp'>): Browser {
  const { app, config } = test
  const cookies = new Map<string, string>()
  const verifier = randomBytes(32).toString('base64url')
  const challenge = createHash('sha256').update(verifier).digest('base64url')

  function keep(reply: Reply): Reply {
    for (const { name, value, maxAge, expires } of reply.cookies) {
      const isOver = maxAge === 0 || (expires !== undefined && expires.getTime() <= Date.now())
      if (isOver) cookies.delete(name)
      else cookies.set(name, value)
    }
    return reply
  }
  const cookieHeader = () =>
    cookies.size === 0 ? {} : { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }

  const browser: Browser = {
    cookies,
    verifier,
    get: async (url, { headers = {}, address = '203.0.113.200' } = {}) =>
      keep(
        await app.inject({
          url: url.replace(config.publicUrl, ''),
          headers: { ...cookieHeader(), ...headers },
          remoteAddress: address,
        }),
      ),
    start: async (acme, { returnTo, loginHint, headers, address } = {}) => {
      const query = new URLSearchParams({
        handoff_challenge: challenge,
        ...(returnTo !== undefined && { return_to: returnTo }),
        ...(loginHint !== undefined && { login_hint: loginHint }),
      })
      const reply = await browser.get(`/sso/${acme.workspaceId}/start?${query.toString()}`, {
        ...(headers && { headers }),
        ...(address && { address }),
      })
      return { reply, authorizationUrl: reply.headers.location ?? '' }
    },
    reachCallback: async (acme, options = {}) => {
      const { reply, authorizationUrl } = await browser.start(acme, options)
      if (!authorizationUrl.includes('/authorize?')) throw new Error(`start: ${reply.statusCode} ${authorizationUrl}`)
      return idp.authorize(authorizationUrl, options)
    },
    open: async (callback, headers = {}) => {
      const reply = await browser.get(callback, { headers })
      const location = new URL(reply.headers.location ?? 'about:blank')
      const code = location.searchParams.get('code') ?? undefined
      const signedIn = location.pathname === config.frontendSignedInPath
      return {
        reply,
        location,
        exchangeCode: signedIn ? code : undefined,
        code: signedIn ? undefined : code,
        ref: location.searchParams.get('ref') ?? undefined,
        retry: location.searchParams.get('retry') ?? undefined,
      }
    },
    signIn: async (acme, options = {}) => {
      const { reply, authorizationUrl } = await browser.start(acme, options)
      const callback = authorizationUrl.includes('/authorize?') ? idp.authorize(authorizationUrl, options) : undefined
      if (callback !== undefined) return browser.open(callback)
      const location = new URL(authorizationUrl || 'about:blank')
      const [code, ref, retry] = ['code', 'ref', 'retry'].map(name => location.searchParams.get(name) ?? undefined)
      return { reply, location, exchangeCode: undefined, code, ref, retry }
    },
    redeem: async (exchangeCode, changes = {}) =>
      keep(
        await app.inject({
          method: 'POST',
          url: '/v1/sessions',
          headers: {
            ...cookieHeader(),
            origin: config.frontendOrigins[0]!,
            'sec-fetch-site': 'same-site',
            ...changes.headers,
          },
          payload: { code: exchangeCode, verifier: changes.verifier ?? verifier },
        }),
      ),
  }
  return browser
}

/** Returns the rows of a workspace that a sign-in can change. */
async function stateOf({ db }: TestApp, workspaceId: string) {
  const of = 'workspace_id'
  return {
    members: await db.selectFrom('members').selectAll().where(of, '=', workspaceId).orderBy('id').execute(),
    identities: await db
      .selectFrom('identities')
      .select(['issuer', 'subject', 'member_id'])
      .where(of, '=', workspaceId)
      .orderBy('subject')
      .execute(),
    sessions: await db
      .selectFrom('sessions')
      .select(['id', 'member_id', 'ended_at'])
      .where(of, '=', workspaceId)
      .orderBy('id')
      .execute(),
    codes: await db.selectFrom('exchange_codes').select('code_hash').where(of, '=', workspaceId).execute(),
  }
}

/** Returns the entries of a workspace after the id `after`, oldest first. */
export async function entriesOf({ db }: TestApp, workspaceId: string, after = 0) {
  return db
    .selectFrom('activity_entries')
    .select(['id', 'action', 'reason', 'member_id as memberId', 'request_id as requestId', 'detail'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '>', after)
    .orderBy('id')
    .execute()
}

async function lastEntryId(test: TestApp, workspaceId: string): Promise<number> {
  return (await entriesOf(test, workspaceId)).at(-1)?.id ?? 0
}

/**
 * Expects a refused sign-in: the error page with this code, a reference to the only new entry, and no new or changed session,
 * exchange code, member or identity.
 */
export async function expectRefusal(
  t: Test,
  { test }: SignInWorld,
  { acme, code, act }: { acme: Acme; code: string; act: () => Promise<Landing> },
): Promise<{ landing: Landing; detail: Record<string, unknown> }> {
  const before = await stateOf(test, acme.workspaceId)
  const last = await lastEntryId(test, acme.workspaceId)
  const landing = await act()
  t.equal(landing.reply.statusCode, 303)
  t.equal(landing.location.origin + landing.location.pathname, 'https://app.assist.example/sso/error')
  t.equal(landing.code, code)
  t.same(await stateOf(test, acme.workspaceId), before, 'nothing was made or changed')
  // A rejected client secret adds a separate entry about the secret.
  const entries = (await entriesOf(test, acme.workspaceId, last)).filter(
    entry => entry.action !== 'sso_credential.refused',
  )
  t.same(
    entries.map(({ requestId, action, reason }) => [requestId, action, reason]),
    [[landing.ref, 'sso_sign_in.refused', code]],
    'one entry, found by the reference',
  )
  return { landing, detail: (entries[0]?.detail ?? {}) as Record<string, unknown> }
}

/** Expects one new session of this member, and one entry with member, issuer and subject. */
export async function expectSignedIn(
  t: Test,
  { test }: SignInWorld,
  { acme, memberId, act }: { acme: Acme; memberId?: string; act: () => Promise<Landing> },
): Promise<{ landing: Landing; memberId: string; entries: Awaited<ReturnType<typeof entriesOf>> }> {
  const before = await stateOf(test, acme.workspaceId)
  const last = await lastEntryId(test, acme.workspaceId)
  const landing = await act()
  t.equal(landing.reply.statusCode, 303)
  t.ok(landing.exchangeCode, `signed in, not ${landing.code}`)
  const known = new Set(before.sessions.map(session => session.id))
  const made = (await stateOf(test, acme.workspaceId)).sessions.filter(session => !known.has(session.id))
  t.equal(made.length, 1, 'one new session')
  const signedIn = made[0]?.member_id ?? ''
  if (memberId !== undefined) t.equal(signedIn, memberId)
  const entries = await entriesOf(test, acme.workspaceId, last)
  const succeeded = entries.filter(entry => entry.action === 'sso_sign_in.succeeded')
  t.match(succeeded, [{ memberId: signedIn, detail: { issuer: String, subject: String } }])
  t.equal(succeeded.length, 1)
  return { landing, memberId: signedIn, entries }
}

/** Creates a verifier and its challenge, like a front-end that starts a sign-in test. */
export function makeTestProof(): { verifier: string; challenge: string } {
  const verifier = randomBytes(32).toString('base64url')
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') }
}

/** Returns the code that the test page received. */
export function testCodeOf(location: string): string | undefined {
  return new URL(location).searchParams.get('code') ?? undefined
}

/** The code on the front-end's error page that a response redirects to. */
export function errorCodeOf({ headers }: { headers: Record<string, unknown> }): string | null {
  const url = new URL(String(headers.location))
  return url.pathname === '/sso/error' ? url.searchParams.get('code') : null
}
