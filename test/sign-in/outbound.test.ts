import t from 'tap'
import { makeApp } from '../helpers/app.ts'
import { bigJson, drip, gzipBomb, hang, hangUp, json, makeScriptedProvider } from '../helpers/scripted-provider.ts'
import type { Answer, Endpoint } from '../helpers/scripted-provider.ts'
import { expectRefusal, expectSignedIn, makeBrowser, makeSignInWorld, type Acme } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, network, makeAcme } = world

let lastHost = 0
/** A provider of its own for each test, known to nobody's cache, and a workspace that signs in there. */
async function makeOwn(options: { issuer?: string; config?: Record<string, unknown> } = {}) {
  const idp = await makeScriptedProvider(t, {
    network,
    issuer: options.issuer ?? `https://idp${++lastHost}.corp.example`,
  })
  const at = { ...world, idp }
  const acme = await makeAcme({ issuer: idp.issuer, ...options.config })
  return { idp, at, acme }
}

/** A replica that has saved no configuration, and so has not heard of a provider before somebody signs in there. */
const { test: cold } = await makeSignInWorld(t, { replicaOf: world, timeoutMs: 1_000 })

t.test('oidc-disc-004..007: the issuer is kept as the provider spells it, slash or not', async t => {
  for (const [issuer, typed] of [
    ['https://tenant.auth0.example/', 'https://tenant.auth0.example'],
    ['https://auth.corp.example/application/o/assist/', 'https://auth.corp.example/application/o/assist/'],
    ['https://kc.corp.example/realms/main', 'https://kc.corp.example/realms/main/'],
  ] as const) {
    const { idp, at, acme } = await makeOwn({ issuer, config: { issuer: typed } })
    const { entries } = await expectSignedIn(t, at, {
      acme,
      memberId: acme.ids.ana,
      act: () => makeBrowser(at).signIn(acme),
    })
    t.match(entries.at(-1), { detail: { issuer } })
    t.notOk(idp.requests.some(request => request.url.pathname.includes('//')))
  }
})

t.test(
  'oidc-disc-013: a provider that is down keeps nobody else from signing in, nor the service from starting',
  async t => {
    const down = await makeOwn()
    const healthy = await makeOwn()
    await down.idp.stop()
    t.equal((await cold.app.inject({ url: '/readyz' })).statusCode, 200)
    const there = { ...healthy.at, test: cold }
    await expectSignedIn(t, there, { acme: healthy.acme, act: () => makeBrowser(there).signIn(healthy.acme) })
    const here = { ...down.at, test: cold }
    await expectRefusal(t, here, {
      acme: down.acme,
      code: 'sso_idp_unreachable',
      act: () => makeBrowser(here).signIn(down.acme),
    })
    await down.idp.start()
  },
)

t.test(
  'oidc-disc-014, oidc-disc-015: a discovery that hangs or drips is cut off, and not waited for again',
  async t => {
    for (const answer of [hang, drip(200)]) {
      const { idp, at, acme } = await makeOwn()
      idp.script.answer.discovery = answer
      const here = { ...at, test: cold }
      const began = performance.now()
      await expectRefusal(t, here, { acme, code: 'sso_idp_unreachable', act: () => makeBrowser(here).signIn(acme) })
      t.ok(performance.now() - began < 3_000)
      const asked = idp.count('discovery')
      await expectRefusal(t, here, { acme, code: 'sso_idp_unreachable', act: () => makeBrowser(here).signIn(acme) })
      t.equal(idp.count('discovery'), asked, 'the second start fails by what is remembered of the first')
    }
  },
)

t.test('oidc-disc-016: metadata and keys are fetched once for many sign-ins', async t => {
  const { idp, at, acme } = await makeOwn()
  const here = { ...at, test: cold }
  const before = [idp.count('discovery'), idp.count('jwks')]
  await Promise.all(Array.from({ length: 20 }, () => makeBrowser(here).signIn(acme)))
  t.same([idp.count('discovery') - before[0]!, idp.count('jwks') - before[1]!], [1, 1])
})

t.test('oidc-disc-017: saving drops what was known of the provider', async t => {
  const { idp, at, acme } = await makeOwn()
  await makeBrowser(at).signIn(acme)
  const callback = makeBrowser(at)
  idp.script.document = document => ({ ...document, token_endpoint: `${idp.issuer}/t2` })
  idp.script.answer.other = (request, response) => {
    response.writeHead(307, { location: request.url.href }).end()
  }
  idp.script.answer.token = json(404, {})
  await acme.configure({ issuer: idp.issuer, autoProvision: true })
  const opened = await callback.open(await callback.reachCallback(acme))
  t.equal(opened.code, 'sso_idp_error', 'the new endpoint was asked: it redirects')
  t.ok(idp.requests.some(request => request.url.pathname === '/t2'))
})

t.test('oidc-ssrf-006..008: an endpoint that moved inside is not called, and gets no secret', async t => {
  const cases = {
    token_endpoint: 'https://10.0.0.5/token',
    jwks_uri: 'https://metadata.internal.example/keys',
    userinfo_endpoint: 'https://127.0.0.1:8443/u',
  }
  network.setAddresses('metadata.internal.example', ['169.254.169.254'])
  for (const [member, url] of Object.entries(cases)) {
    const { idp, at, acme } = await makeOwn()
    idp.script.document = document => ({ ...document, [member]: url })
    idp.script.claims = ({ email: _email, ...thin }) => thin
    const here = { ...at, test: cold }
    await expectRefusal(t, here, { acme, code: 'sso_idp_unreachable', act: () => makeBrowser(here).signIn(acme) })
  }
  const inside = network.connections.filter(({ addresses }) => addresses.some(each => !each.startsWith('203.0.113.')))
  t.same(inside, [])
})

t.test('oidc-ssrf-013: a compressed bomb is an unreachable provider', async t => {
  const { idp, at, acme } = await makeOwn()
  idp.script.answer.discovery = gzipBomb(128)
  const here = { ...at, test: cold }
  await expectRefusal(t, here, { acme, code: 'sso_idp_unreachable', act: () => makeBrowser(here).signIn(acme) })
})

t.test('oidc-ssrf-014: oversized answers are cut off near the limit', async t => {
  for (const endpoint of ['jwks', 'token', 'userinfo'] satisfies Endpoint[]) {
    const { idp, at, acme } = await makeOwn()
    const answer = bigJson(64)
    idp.script.answer[endpoint] = answer
    idp.script.claims = ({ email: _email, ...thin }) => thin
    const here = { ...at, test: cold }
    await expectRefusal(t, here, { acme, code: 'sso_idp_error', act: () => makeBrowser(here).signIn(acme) })
    t.ok(answer.sentBytes < 8 * 1024 * 1024, `${endpoint}: ${answer.sentBytes} bytes`)
  }
})

t.test('oidc-ssrf-015: an issuer that was stored before the guard is blocked when it is called', async t => {
  const { acme } = await makeOwn()
  const before = network.connections.length
  await test.db
    .updateTable('sso_configs')
    .set({ issuer: 'https://10.0.0.5' })
    .where('workspace_id', '=', acme.workspaceId)
    .execute()
  await expectRefusal(t, world, { acme, code: 'sso_idp_unreachable', act: () => makeBrowser(world).signIn(acme) })
  t.equal(network.connections.length, before)
})

t.test('oidc-mt-005: a provider that names the endpoint of another gets neither code nor verifier of it', async t => {
  const honest = await makeOwn()
  const evil = await makeOwn({
    issuer: 'https://idp.evil.example',
    config: { allowedDomains: [], autoProvision: true },
  })
  evil.idp.script.document = document => ({ ...document, authorization_endpoint: `${honest.idp.issuer}/authorize` })
  await evil.acme.configure({ issuer: evil.idp.issuer, autoProvision: false })
  const browser = makeBrowser(evil.at)
  const { authorizationUrl } = await browser.start(evil.acme)
  const redirectUri = new URL(authorizationUrl).searchParams.get('redirect_uri')
  t.match(
    redirectUri,
    new RegExp(`/sso/${evil.acme.workspaceId}/callback$`),
    "evilco's own, which the honest one does not know",
  )
  const callback = honest.idp.authorize(authorizationUrl, { iss: honest.idp.issuer })
  const asked = evil.idp.count('token')
  await expectRefusal(t, evil.at, { acme: evil.acme, code: 'sso_issuer_mismatch', act: () => browser.open(callback) })
  t.equal(evil.idp.count('token'), asked)
})

t.test('whatever the token endpoint does, the browser ends at the error page', async t => {
  const { idp, at, acme } = await makeOwn()
  const answers: [Answer, string][] = [
    [hangUp, 'sso_idp_unreachable'],
    [json(500, {}), 'sso_idp_unreachable'],
    [json(400, { error: 'invalid_request' }), 'sso_idp_error'],
    [json(200, 'nonsense'), 'sso_idp_error'],
  ]
  for (const [answer, code] of answers) {
    idp.script.answer.token = answer
    await expectRefusal(t, at, { acme, code, act: () => makeBrowser(at).signIn(acme) })
  }
})

t.test('without the database the browser still ends at the error page', async t => {
  const lost = await makeApp(t, { replicaOf: test })
  const { acme } = (await makeOwn()) as { acme: Acme }
  await lost.db.selectFrom('workspaces').select('id').execute()
  await lost.db.destroy()
  const challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
  const reply = await lost.app.inject({ url: `/sso/${acme.workspaceId}/start?handoff_challenge=${challenge}` })
  t.equal(reply.statusCode, 303)
  t.match(reply.headers.location, /\/sso\/error\?code=(unavailable|internal)&ref=[0-9a-f-]{36}&retry=/)
})
