import t from 'tap'
import { entriesOf, expectSignedIn, makeBrowser, makeSignInWorld, type Acme, errorCodeOf } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, makeAcme } = world
const { app } = test
t.beforeEach(() => idp.reset())

const good = {
  iss: idp.issuer,
  login_hint: 'ana@corp.example',
  target_link_uri: 'https://app.assist.example/inbox?x=1',
}

const byGet = (acme: Acme, query: Record<string, string>) =>
  app.inject({ url: `/sso/${acme.workspaceId}/initiate?${new URLSearchParams(query).toString()}` })

const byPost = (acme: Acme, form: Record<string, string>) =>
  app.inject({
    method: 'POST',
    url: `/sso/${acme.workspaceId}/initiate`,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: new URLSearchParams(form).toString(),
  })

t.test("oidc-tpi-001: a tile in the provider's portal begins a sign-in like any other, by GET and by POST", async t => {
  const acme = await makeAcme()
  for (const initiate of [byGet, byPost]) {
    const reply = await initiate(acme, { ...good, client_id: 'assist-acme', something: 'else' })
    t.equal(reply.statusCode, 303)
    t.equal(reply.headers['set-cookie'], undefined, 'nothing has begun yet')
    const page = new URL(reply.headers.location!)
    t.equal(page.origin + page.pathname, 'https://app.assist.example/sso/start')
    t.same(Object.fromEntries(page.searchParams), {
      workspace: acme.workspaceId,
      return_to: good.target_link_uri,
      login_hint: 'ana@corp.example',
    })

    // The front-end makes a verifier and goes on to start with what it was given.
    const browser = makeBrowser(world)
    const { authorizationUrl } = await browser.start(acme, {
      returnTo: page.searchParams.get('return_to')!,
      loginHint: page.searchParams.get('login_hint')!,
    })
    const { searchParams } = new URL(authorizationUrl)
    t.equal(searchParams.get('login_hint'), 'ana@corp.example')
    t.ok(['state', 'nonce', 'code_challenge'].every(name => searchParams.get(name)!.length === 43))
    const act = () => browser.open(idp.authorize(authorizationUrl))
    const { landing } = await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act })
    t.equal((await browser.redeem(landing.exchangeCode!)).json().returnTo, good.target_link_uri)
  }
})

t.test('oidc-tpi-002: a foreign or missing iss starts nothing and is never fetched', async t => {
  const acme = await makeAcme()
  const last = (await entriesOf(test, acme.workspaceId)).at(-1)!.id
  for (const initiate of [byGet, byPost]) {
    const fetched = idp.requests.length
    for (const changes of [
      { iss: 'https://evil.example' },
      { iss: `${idp.issuer}/` },
      { iss: idp.issuer.toUpperCase() },
      { iss: '' },
      { client_id: 'another' },
    ]) {
      const reply = await initiate(acme, { ...good, ...changes })
      t.equal(errorCodeOf(reply), 'sso_issuer_mismatch', JSON.stringify(changes))
    }
    const { iss: _iss, ...without } = good
    t.equal(errorCodeOf(await initiate(acme, without)), 'sso_issuer_mismatch')
    t.equal(idp.requests.length, fetched)
  }
  t.same(await entriesOf(test, acme.workspaceId, last), [])
})

t.test('oidc-tpi-002: a target that is not ours means the front page', async t => {
  const acme = await makeAcme()
  for (const target_link_uri of [
    'https://evil.example',
    '//evil.example',
    'https://app.assist.example.evil.example/',
    '/%5Cevil.example',
    'javascript:alert(1)',
    '',
  ]) {
    const page = new URL((await byGet(acme, { ...good, target_link_uri })).headers.location!)
    t.equal(page.searchParams.get('return_to'), 'https://app.assist.example/', target_link_uri)
  }
})

t.test('a portal may append iss to a link that has it already; two different ones start nothing', async t => {
  const acme = await makeAcme()
  const url = `/sso/${acme.workspaceId}/initiate`
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  const send = async (parameters: string) => [
    await app.inject({ url: `${url}?${parameters}` }),
    await app.inject({ method: 'POST', url, headers: form, payload: parameters }),
  ]
  const iss = `iss=${encodeURIComponent(idp.issuer)}`
  for (const reply of await send(`${iss}&${iss}&login_hint=ana&login_hint=ana&${iss}&extra=1&extra=1`)) {
    t.equal(reply.statusCode, 303)
    t.equal(new URL(reply.headers.location!).searchParams.get('login_hint'), 'ana')
  }
  for (const other of ['iss=https://evil.example', 'iss=', `iss=${encodeURIComponent(`${idp.issuer}/`)}`]) {
    for (const reply of [...(await send(`${iss}&${other}`)), ...(await send(`${other}&${iss}`))]) {
      t.equal(errorCodeOf(reply), 'sso_issuer_mismatch', other)
    }
  }
  for (const reply of await send(`${iss}&login_hint=ana&login_hint=bea`)) {
    t.equal(errorCodeOf(reply), 'invalid')
  }
})

t.test('the page is not framed, kept or named in a Referer, and takes no JSON', async t => {
  const acme = await makeAcme()
  const { headers } = await byGet(acme, good)
  t.match(headers, {
    'x-frame-options': 'DENY',
    'content-security-policy': /frame-ancestors 'none'/,
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
    'strict-transport-security': /max-age=/,
  })
  const json = { method: 'POST', url: `/sso/${acme.workspaceId}/initiate`, payload: good } as const
  t.equal(errorCodeOf(await app.inject(json)), 'unsupported_media_type')
  t.equal(errorCodeOf(await byPost(acme, { iss: 'x'.repeat(32_768) })), 'body_too_large')
})

t.test('a workspace without a configuration is told so, and a flood is limited', async t => {
  const limited = await makeSignInWorld(t, { replicaOf: world, settings: { SIGN_IN_STARTS_PER_MINUTE: '2' } })
  const acme = await makeAcme()
  const url = `/sso/${acme.workspaceId}/initiate?iss=x`
  const statuses = []
  for (let count = 0; count < 3; count++) statuses.push(errorCodeOf(await limited.test.app.inject({ url })))
  t.same(statuses, ['sso_issuer_mismatch', 'sso_issuer_mismatch', 'rate_limited'])
  const nobody = { ...acme, workspaceId: '0190a6c8-8f00-7000-8000-000000000001' }
  t.equal(errorCodeOf(await byGet(nobody, good)), 'sso_not_configured')
})
