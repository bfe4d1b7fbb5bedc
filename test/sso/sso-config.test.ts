import { sql } from 'kysely'
import t from 'tap'
import { createSecretBox } from '../../src/secret-box.ts'
import { findSignInConfig } from '../../src/sso/config/sso-config.ts'
import { isSharedIssuer } from '../../src/oidc/issuer.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { bearer, makeApp, makeWorkspace, serviceHeaders } from '../helpers/app.ts'
import { html, json, makeScriptedProvider } from '../helpers/scripted-provider.ts'

const secret = 'corp-secret-4f1c'

const sharedIssuer = 'https://accounts.shared.example'
const provider = await makeScriptedProvider(t)
const test = await makeApp(t, {
  settings: { OUTBOUND_ALLOW_HTTP: 'false', SHARED_ISSUERS: sharedIssuer },
  options: { outbound: { ...provider.network.outbound, failureStepMs: 1 } },
})

/** A workspace, and requests by its owner about the provider, which gives plain good answers until it is told otherwise. */
async function makeWorld() {
  provider.reset()
  const { workspaceId, headers, url: workspaceUrl } = await makeWorkspace(test)
  const url = `${workspaceUrl}/sso-config`
  const send =
    (method: 'PUT' | 'PATCH') =>
    (payload: object, more: Record<string, string> = {}) =>
      test.app.inject({ method, url, headers: { ...headers, ...more }, payload })
  return {
    ...test,
    workspaceId,
    headers,
    url,
    good: { issuer: provider.issuer, clientId: 'assist-acme', clientSecret: secret, allowedDomains: ['corp.example'] },
    put: send('PUT'),
    patch: send('PATCH'),
    get: () => test.app.inject({ url, headers }),
    actions: async () => {
      const rows = await test.db
        .selectFrom('activity_entries')
        .select('action')
        .where('workspace_id', '=', workspaceId)
        .where('action', 'like', 'sso%')
        .orderBy('id')
        .execute()
      return rows.map(row => row.action)
    },
  }
}

t.test('PUT checks the provider, saves, and answers with all that the admin needs at the provider', async t => {
  const { put, get, good, workspaceId, actions } = await makeWorld()
  t.match((await get()).json(), { status: 404, code: 'sso_not_configured' })
  const saved = await put(good)
  t.equal(saved.statusCode, 200, saved.body)
  t.match(saved.json(), {
    issuer: provider.issuer,
    clientId: 'assist-acme',
    tokenAuthMethod: null,
    hasClientSecret: true,
    autoProvision: false,
    allowedDomains: ['corp.example'],
    trustUnverifiedEmail: false,
    externalIdClaim: null,
    groupsClaim: null,
    enabled: true,
    enforced: false,
    redirectUri: `https://sso.assist.example/sso/${workspaceId}/callback`,
    startUrl: `https://sso.assist.example/sso/${workspaceId}/start`,
    endpoints: { token: /^https:/, jwks: /^https:/ },
    version: 1,
  })
  t.equal(saved.headers.etag, '"1"')
  t.same((await get()).json(), saved.json())
  t.equal((await put(good)).json().version, 1, 'saving the same again changes nothing')
  t.same(await actions(), ['sso_config.saved'])
})

t.test(
  'oidc-disc-019: a client secret is in no answer, log line or entry, and in the database only sealed',
  async t => {
    const { put, patch, get, good, log, db } = await makeWorld()
    const replies = [await put(good), await patch({ clientSecret: `${secret}-2` }), await get()]
    provider.script.answer.discovery = html()
    replies.push(
      await put({ ...good, clientSecret: `${secret}-3` }),
      await put({ ...good, clientSecret: { a: secret } }),
    )
    const entries = await db.selectFrom('activity_entries').selectAll().execute()
    const configs = await db.selectFrom('sso_configs').selectAll().execute()
    const secrets = await db.selectFrom('sso_client_credentials').selectAll().execute()
    t.ok(secrets.length >= 2, 'the secret and the one before')
    const stored = secrets.map(row => JSON.stringify(row) + row.sealed.toString('latin1'))
    const written = [log(), JSON.stringify(entries), JSON.stringify(configs), ...stored]
    for (const text of [...replies.map(reply => reply.body), ...written]) {
      t.notMatch(text, secret)
    }
  },
)

t.test('a new secret is tried first, the one before stays its fallback, and a third drops the first', async t => {
  const { put, patch, good, db, workspaceId, config } = await makeWorld()
  const login = () => findSignInConfig(db, createSecretBox(config), workspaceId)
  t.equal(await login(), undefined)
  await put(good)
  t.match(await login(), { clientSecrets: [secret], version: 1, allowedDomains: ['corp.example'], verifiedDomains: [] })
  await patch({ clientSecret: 'second' })
  t.same((await login())?.clientSecrets, ['second', secret])
  await patch({ clientSecret: 'third' })
  t.same((await login())?.clientSecrets, ['third', 'second'])
  t.equal((await patch({ clientSecret: 'third' })).json().version, 3, 'the stored secret is no change')
})

t.test('the stored secret goes on with its issuer and never goes to another', async t => {
  const { put, patch, good, db, workspaceId, config } = await makeWorld()
  const { clientSecret: _secret, ...withoutSecret } = good
  t.match((await put(withoutSecret)).json(), { status: 400, code: 'sso_secret_missing' })
  await put(good)
  t.match((await put({ ...withoutSecret, autoProvision: true })).json(), { version: 2, hasClientSecret: true })
  const other = await makeScriptedProvider(t, { issuer: 'https://newidp.corp.example', network: provider.network })
  t.match((await patch({ issuer: other.issuer })).json(), { status: 400, code: 'sso_secret_missing' })
  t.match((await patch({ issuer: other.issuer, clientSecret: 'new' })).json(), { version: 3, issuer: other.issuer })
  const login = await findSignInConfig(db, createSecretBox(config), workspaceId)
  t.same(login?.clientSecrets, ['new'], 'the secret of the issuer before is gone')
})

t.test('PATCH changes what it names; sign-in can be switched off while the provider is away, not on', async t => {
  const { put, patch, good } = await makeWorld()
  t.match((await patch({ enabled: true })).json(), { code: 'sso_not_configured' })
  await put(good)
  await provider.stop()
  t.match((await patch({ enabled: false })).json(), { enabled: false, clientId: 'assist-acme', version: 2 })
  t.match((await patch({ enabled: true })).json(), { status: 400, code: 'sso_discovery_failed' })
  await provider.start()
  t.match((await patch({ enabled: true })).json(), { enabled: true, version: 3 })
})

t.test('If-Match saves only over the version that the admin has seen, in the write itself', async t => {
  const { app, put, patch, good, url, headers } = await makeWorld()
  t.match((await put(good, { 'if-match': '"1"' })).json(), { status: 412, code: 'version_conflict' })
  await put(good)
  t.match((await patch({ autoProvision: true }, { 'if-match': '"7"' })).json(), {
    status: 412,
    code: 'version_conflict',
  })
  t.match((await patch({ autoProvision: true }, { 'if-match': '*' })).json(), { status: 400, code: 'invalid' })
  const both = await Promise.all([
    patch({ issuer: good.issuer, clientId: 'a' }, { 'if-match': '"1"' }),
    patch({ issuer: good.issuer, clientId: 'b' }, { 'if-match': '"1"' }),
  ])
  t.same(
    both.map(reply => reply.statusCode).toSorted((a, b) => a - b),
    [200, 412],
  )
  const remove = (etag: string) => app.inject({ method: 'DELETE', url, headers: { ...headers, 'if-match': etag } })
  t.match((await remove('"1"')).json(), { status: 412, code: 'version_conflict' })
  t.equal((await remove('"2"')).statusCode, 204)
  t.match((await remove('"2"')).json(), { status: 404, code: 'sso_not_configured' })
})

t.test('two admins who save at the same moment never both win', async t => {
  const { put, good, actions } = await makeWorld()
  const replies = await Promise.all(['a', 'b', 'c'].map(clientId => put({ ...good, clientId })))
  const won = replies.filter(reply => reply.statusCode === 200)
  t.equal((await actions()).length, won.length)
  for (const reply of replies) if (!won.includes(reply)) t.match(reply.json(), { status: 409, code: 'conflict' })
})

t.test('DELETE ends neither membership nor session, and leaves no secret', async t => {
  const { app, put, good, url, headers, db, workspaceId, actions } = await makeWorld()
  await put(good)
  const person = { workspace_id: workspaceId, id: uuid7(), status: 'active', role: 'member', origin: 'sso' } as const
  await db.insertInto('members').values(person).execute()
  const who = { workspace_id: workspaceId, member_id: person.id, issuer: good.issuer, subject: 'ana' }
  const session = { ...who, id: uuid7(), idle_minutes: 120 }
  await db
    .insertInto('sessions')
    .values({ ...session, idle_minutes: 60, expires_at: '2099-01-01T00:00:00Z' })
    .execute()
  t.equal((await app.inject({ method: 'DELETE', url, headers })).statusCode, 204)
  t.same(
    await db.selectFrom('sso_client_credentials').selectAll().where('workspace_id', '=', workspaceId).execute(),
    [],
  )
  t.same(await actions(), ['sso_config.saved', 'sso_config.deleted'])
  const { rows } = await sql`
    SELECT s.ended_at, m.status FROM sessions s JOIN members m ON m.id = s.member_id
     WHERE s.workspace_id = ${workspaceId}`.execute(db)
  t.same(rows, [{ ended_at: null, status: 'active' }])
})

t.test('whatever is wrong with an issuer has its code, and the configuration before stays in force', async t => {
  const { put, get, good, actions, log } = await makeWorld()
  await put(good)
  const before = (await get()).json()
  const { network } = provider
  network.setAddresses('inside.example', ['10.0.0.5'])
  const connectionsBefore = network.connections.length
  const typed: [string, string][] = [
    ['oidc-disc-002', 'https://login.microsoftonline.com/common/v2.0'],
    ['oidc-ssrf-001', 'http://169.254.169.254/latest/meta-data'],
    ...['10.0.0.5', '192.168.1.1', '127.0.0.1', '[::1]', '[fd00::1]', '100.64.0.1', '0.0.0.0'].map(
      (host): [string, string] => ['oidc-ssrf-002', `https://${host}`],
    ),
    ['oidc-ssrf-003', 'https://inside.example'],
    ['oidc-ssrf-009', 'https://[::ffff:169.254.169.254]/'],
    ...['2130706433', '0177.0.0.1', '0x7f.1', '127.1', '0'].map((host): [string, string] => [
      'oidc-ssrf-010',
      `https://${host}/`,
    ]),
    ...['file:///etc/passwd', 'ftp://idp.corp.example', 'data:application/json,{}', 'http://idp.corp.example'].map(
      (issuer): [string, string] => ['oidc-ssrf-011', issuer],
    ),
    ...['?x=1', '#a'].map((end): [string, string] => ['oidc-ssrf-012', `https://idp.corp.example${end}`]),
    ['oidc-ssrf-012', 'https://u:p@idp.corp.example'],
  ]
  const codes: Record<string, string> = {
    'oidc-disc-002': 'sso_issuer_multi_tenant',
    'oidc-ssrf-001': 'sso_issuer_insecure',
    'oidc-ssrf-011': 'sso_issuer_insecure',
    'oidc-ssrf-012': 'sso_issuer_invalid',
  }
  for (const [id, issuer] of typed) {
    const reply = await put({ ...good, issuer })
    t.match(reply.json(), { status: 400, code: codes[id] ?? 'sso_issuer_blocked' }, `${id}: ${issuer}`)
  }
  t.equal(network.connections.length, connectionsBefore, 'nothing was connected to')

  const scripted: [string, string, () => void][] = [
    ['oidc-disc-009', 'sso_discovery_invalid', () => (provider.script.answer.discovery = html())],
    [
      'oidc-disc-010',
      'sso_discovery_invalid',
      () => (provider.script.document = ({ jwks_uri: _uri, ...rest }) => rest),
    ],
    ['oidc-disc-018', 'sso_discovery_failed', () => (provider.script.answer.discovery = json(500, {}))],
    [
      'oidc-mt-006',
      'sso_issuer_mismatch',
      () => (provider.script.document = d => ({ ...d, issuer: 'https://other.example' })),
    ],
    [
      'oidc-ssrf-006',
      'sso_issuer_blocked',
      () => (provider.script.document = d => ({ ...d, token_endpoint: 'https://10.0.0.5/token' })),
    ],
  ]
  for (const [id, code, arrange] of scripted) {
    provider.reset()
    arrange()
    const reply = await put({ ...good, clientId: 'changed' })
    t.match(reply.json(), { status: 400, code }, id)
  }
  t.same((await get()).json(), before)
  t.same(await actions(), ['sso_config.saved'])
  t.notMatch(log(), /"level":50/)
})

t.test(
  'oidc-disc-003, oidc-disc-008: a foreign issuer is refused with both spellings; a pasted discovery URL is reduced',
  async t => {
    const { put, good } = await makeWorld()
    const pasted = `${provider.issuer}/.well-known/openid-configuration`
    provider.script.document = document => ({ ...document, issuer: 'https://other.example' })
    const refused = (await put({ ...good, issuer: pasted })).json()
    t.equal(refused.code, 'sso_issuer_mismatch')
    t.match(refused.detail, provider.issuer)
    t.match(refused.detail, 'https://other.example')
    provider.reset()
    t.match((await put({ ...good, issuer: pasted })).json(), { issuer: provider.issuer })
  },
)

t.test(
  "oidc-disc-004 to 007: the provider's own spelling of its slash is stored, and stays with the next save",
  async t => {
    const { put, good } = await makeWorld()
    for (const [issuer, typed] of [
      ['https://tenant.auth0.example/', 'https://tenant.auth0.example'],
      ['https://auth.corp.example/application/o/assist/', 'https://auth.corp.example/application/o/assist/'],
      ['https://kc.corp.example/realms/main', 'https://kc.corp.example/realms/main/'],
    ] as const) {
      await makeScriptedProvider(t, { issuer, network: provider.network })
      t.equal((await put({ ...good, issuer: typed })).json().issuer, issuer)
      const { clientSecret: _secret, ...again } = good
      t.equal((await put({ ...again, issuer })).json().issuer, issuer, 'and the secret goes on')
    }
  },
)

t.test('oidc-dom-005, 006, 009: domains are stored in one spelling; what is no domain is named', async t => {
  const { put, good } = await makeWorld()
  const save = async (...allowedDomains: string[]) => (await put({ ...good, allowedDomains })).json()
  t.same((await save(' Corp.EXAMPLE ', '@corp.example', 'corp.example')).allowedDomains, ['corp.example'])
  t.same((await save('bücher.example')).allowedDomains, ['xn--bcher-kva.example'])
  for (const entry of [
    'https://corp.example/',
    '*.corp.example',
    '',
    'com',
    `${'a'.repeat(300)}.example`,
    'a@b.example',
  ]) {
    const refused = await save('corp.example', entry)
    t.match(refused, { status: 400, code: 'sso_domain_invalid', errors: [{ pointer: '/allowedDomains/1' }] }, entry)
  }
})

t.test('oidc-mt-003: a domain that another workspace has proved is refused, one of its own is not', async t => {
  const { app, put, good, url } = await makeWorld()
  const globex = await makeWorkspace(test, { name: 'globex' })
  const payload = { ...good, allowedDomains: ['proved.example'] }
  const domain = (method: 'PUT' | 'DELETE', workspaceUrl: string) =>
    app.inject({ method, url: `${workspaceUrl}/domains/proved.example`, headers: serviceHeaders })
  await domain('PUT', globex.url)
  t.match((await put(payload)).json(), { status: 400, code: 'sso_domain_unverified' })
  await domain('DELETE', globex.url)
  await domain('PUT', url.replace('/sso-config', ''))
  t.equal((await put(payload)).statusCode, 200)
})

t.test('an issuer that serves many customers needs a list of domains, without web-mail', async t => {
  const { put, good } = await makeWorld()
  const { issuer } = await makeScriptedProvider(t, {
    issuer: sharedIssuer,
    network: provider.network,
  })
  const save = async (allowedDomains?: string[]) => (await put({ ...good, issuer, allowedDomains })).json()
  t.match(await save(), { status: 400, code: 'sso_domain_required' })
  t.match(await save(['corp.example', 'gmail.com']), { status: 400, code: 'sso_domain_invalid', detail: /gmail\.com/ })
  t.match(await save(['corp.example']), { version: 1 })
})

t.test(
  'bodies are strict: an unknown member, a wrong type and enforcing are refused, and nothing is asked',
  async t => {
    const { put, patch, good } = await makeWorld()
    const asked = provider.requests.length
    for (const [pointer, payload] of [
      ['/colour', { ...good, colour: 'red' }],
      ['/autoProvision', { ...good, autoProvision: 'yes' }],
      ['/enforced', { ...good, enforced: true }],
      ['/clientId', { ...good, clientId: ' ' }],
      ['/tokenAuthMethod', { ...good, tokenAuthMethod: 'none' }],
      ['/clientSecretExpiresAt', { ...good, clientSecret: undefined, clientSecretExpiresAt: '2099-01-01T00:00:00Z' }],
      ['/relinkByEmailUntil', { ...good, relinkByEmailUntil: 'tomorrow' }],
    ] as const) {
      t.match((await put(payload)).json(), { status: 400, code: 'invalid', errors: [{ pointer }] })
    }
    t.match((await patch({ clientID: 'x' })).json(), { status: 400, code: 'invalid' })
    t.equal(provider.requests.length, asked)
  },
)

t.test('the test says check by check what is right and what to change, of the saved settings or a draft', async t => {
  const { app, put, good, url, headers, actions, db, workspaceId } = await makeWorld()
  const run = async (payload?: object) =>
    (await app.inject({ method: 'POST', url: `${url}/check`, headers, ...(payload && { payload }) })).json()
  t.match(await run(), { status: 404, code: 'sso_not_configured' })
  const draft = await run({ issuer: good.issuer })
  t.match(draft, { passed: true, issuer: good.issuer })
  t.match(byName(draft), {
    issuer_match: { result: 'pass' },
    keys: { result: 'pass' },
    allowed_domains: { result: 'warn', fix: /allowedDomains/ },
    client_secret: { result: 'warn' },
  })
  await put(good)
  t.match(byName(await run()), { allowed_domains: { result: 'pass' }, client_secret: { result: 'pass' } })
  provider.script.answer.discovery = html()
  t.match(await run(), { passed: false, checks: [{ name: 'issuer', result: 'pass' }] })
  t.match(byName(await run({ allowedDomains: ['*.corp.example'] })), {
    document: { result: 'fail', code: 'sso_discovery_invalid' },
    allowed_domains: { result: 'fail', code: 'sso_domain_invalid' },
  })
  t.match(byName(await run({ issuer: 'https://10.0.0.5' })), { reachable: { code: 'sso_issuer_blocked' } })
  t.equal((await actions()).filter(action => action === 'sso_config.tested').length, 5)
  const { detail } = await db
    .selectFrom('activity_entries')
    .select('detail')
    .where('workspace_id', '=', workspaceId)
    .orderBy('id', 'desc')
    .executeTakeFirstOrThrow()
  t.match(detail, { passed: false, failed: [{ check: 'reachable', code: 'sso_issuer_blocked' }] })
})

function byName({ checks }: { checks: { name: string }[] }): Record<string, object> {
  return Object.fromEntries(checks.map(check => [check.name, check]))
}

t.test('oidc-mt-007: an admin of another workspace gets 404 for each way in, and nothing goes out', async t => {
  const { put, good, url, get } = await makeWorld()
  await put(good)
  const { headers } = await makeWorkspace(test, { name: 'evilco' })
  const before = [provider.requests.length, (await get()).body]
  for (const [method, at, payload] of [
    ['GET', url],
    ['PUT', url, good],
    ['PATCH', url, { enabled: false }],
    ['DELETE', url],
    ['POST', `${url}/check`, {}],
  ] as const) {
    const reply = await test.app.inject({ method, url: at, headers, ...(payload && { payload }) })
    t.match(reply.json(), { status: 404, code: 'not_found' })
  }
  t.same([provider.requests.length, (await get()).body], before)
})

t.test('the configuration of a workspace is for its admins and owners', async t => {
  const { app, workspaceId, url } = await makeWorld()
  const read = async (role: string) =>
    (await app.inject({ url, headers: await bearer({ workspace: workspaceId, role }) })).statusCode
  t.same(await Promise.all(['member', 'admin', 'owner'].map(read)), [403, 404, 404])
})

t.test('a workspace can check its configuration and create sign-in tests 20 times a minute each', async t => {
  const { url, headers } = await makeWorkspace(test)
  const { url: other, headers: theirs } = await makeWorkspace(test)
  const payload = { challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM' }
  for (const path of ['check', 'sign-in-tests']) {
    const ask = (at: string, as: typeof headers) =>
      test.app.inject({
        method: 'POST',
        url: `${at}/sso-config/${path}`,
        headers: as,
        ...(path !== 'check' && { payload }),
      })
    for (let count = 0; count < 20; count++) t.equal((await ask(url, headers)).json().code, 'sso_not_configured')
    const refused = await ask(url, headers)
    t.match(refused.json(), { status: 429, code: 'rate_limited', detail: /20 .*a minute/ })
    t.ok(Number(refused.headers['retry-after']) > 0)
    t.equal((await ask(other, theirs)).json().code, 'sso_not_configured', 'another workspace has its own limit')
  }
})

t.test('n-oidc-disc-02: issuers that sign in everyone need a domain list, whatever the settings', async t => {
  for (const issuer of [
    'https://gitlab.com',
    'https://slack.com',
    'https://appleid.apple.com',
    'https://discord.com/',
  ]) {
    t.ok(isSharedIssuer(issuer, []), issuer)
  }
  for (const issuer of ['https://gitlab.corp.example', 'https://acme.okta.com', 'https://acme.slack.com']) {
    t.notOk(isSharedIssuer(issuer, []), issuer)
  }
})

t.test('web-mail domains and public suffixes cannot be allowed domains of any issuer', async t => {
  const { url, headers } = await makeWorkspace(test)
  const payload = { issuer: provider.issuer, clientId: 'assist-acme', clientSecret: 'acme-secret' }
  for (const domain of ['gmail.com', 'co.uk', 'com', 'github.io']) {
    const refused = await test.app.inject({
      method: 'PUT',
      url: `${url}/sso-config`,
      headers,
      payload: { ...payload, allowedDomains: [domain] },
    })
    t.match(refused.json(), { status: 400, code: 'sso_domain_invalid', detail: new RegExp(domain) }, domain)
  }
})
