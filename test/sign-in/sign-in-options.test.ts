import t from 'tap'
import { makeApp, makeWorkspace, serviceHeaders } from '../helpers/app.ts'
import { makeBrowser, makeSignInWorld } from '../helpers/sign-in.ts'
import { uuid7 } from '../../src/uuid7.ts'

const world = await makeSignInWorld(t)
const { app } = world.test

const ask = async (payload: object, headers = {}) => {
  return app.inject({ method: 'POST', url: '/v1/sign-in-options', payload, headers })
}
const approve = (workspaceUrl: string, domain: string) =>
  app.inject({ method: 'PUT', url: `${workspaceUrl}/domains/${domain}`, headers: serviceHeaders })

t.test(
  'oidc-hrd-001: an unknown, an unproved and a switched-off domain have one answer, whoever is asked for',
  async t => {
    const acme = await world.makeAcme()
    const globex = await makeWorkspace(world.test, { name: 'globex' })
    const old = await world.makeAcme({ enabled: false })
    await approve(acme.url, 'first.example')
    await app.inject({
      method: 'POST',
      url: `${globex.url}/domains`,
      headers: globex.headers,
      payload: { domain: 'other.example' },
    })
    await approve(old.url, 'old.example')

    const bodies = new Set<string>()
    for (const email of ['a@nowhere.example', 'a@other.example', 'a@old.example']) {
      const reply = await ask({ email })
      t.equal(reply.statusCode, 200)
      bodies.add(reply.body)
    }
    for (const workspaceId of [uuid7(), globex.workspaceId, old.workspaceId])
      bodies.add((await ask({ workspaceId })).body)
    t.same([...bodies], ['{"sso":null,"passwordOpen":true}'])

    const startOf = (name: string) =>
      `https://sso.assist.example/sso/${acme.workspaceId}/start?login_hint=${name}%40first.example`
    for (const name of ['ana', 'nobody']) {
      const reply = await ask({ email: `${name}@first.example` })
      t.same(reply.json(), { sso: { workspaceId: acme.workspaceId, startUrl: startOf(name) }, passwordOpen: true })
      t.equal(reply.headers['cache-control'], 'no-store')
    }
    for (const email of ['ana@first.example', 'nobody@first.example', 'a@nowhere.example', 'a@other.example']) {
      t.equal((await world.test.statements(() => ask({ email }))).length, 1, email)
    }
  },
)

t.test('an address that cannot be read is refused, so that no reader takes it for an open password', async t => {
  for (const email of [
    'not an address',
    'a@b@first.example',
    'ana@(x)first.example',
    'ana%40first.example',
    'ana%first.example@relay.example',
    '=?utf-8?q?ana?=@first.example',
    'ana@first. example',
    'ana@first.example.',
  ]) {
    t.match((await ask({ email })).json(), { status: 400, code: 'invalid', errors: [{ pointer: '/email' }] }, email)
  }
})

t.test('the workspace alone decides where it is named, also for people of another domain', async t => {
  const acme = await world.makeAcme()
  const other = await world.makeAcme()
  await approve(other.url, 'mine.example')
  const { sso } = (await ask({ email: 'ana@mine.example', workspaceId: acme.workspaceId.toUpperCase() })).json()
  t.equal(sso.workspaceId, acme.workspaceId)
  t.match((await ask({})).json(), { status: 400, code: 'invalid' })
  t.match((await ask({ phone: '1' })).json(), { status: 400, code: 'invalid' })
})

t.test('oidc-hrd-003: the address goes along to the provider as a hint, and decides nothing', async t => {
  const acme = await world.makeAcme()
  await approve(acme.url, 'hinted.example')
  const { sso } = (await ask({ email: 'ana@hinted.example' })).json()
  const browser = makeBrowser(world)
  const start = new URL(sso.startUrl)
  const { reply } = await browser.start(acme)
  const challenge = new URL(reply.headers.location!).searchParams.get('code_challenge')
  t.ok(challenge)
  start.searchParams.set('handoff_challenge', 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM')
  const hinted = new URL((await browser.get(start.href)).headers.location!)
  t.equal(hinted.searchParams.get('login_hint'), 'ana@hinted.example')
  const landing = await browser.open(
    world.idp.authorize(hinted.href, { user: { sub: 'u-bea', email: 'bea@corp.example' } }),
  )
  t.ok(landing.exchangeCode, 'who really signed in is who comes in')
})

t.test('questions are limited by network, but not for the back-ends of Assist', async t => {
  const limited = await makeApp(t, { settings: { SIGN_IN_STARTS_PER_MINUTE: '3' } })
  const askLimited = async (headers = {}) =>
    limited.app.inject({ method: 'POST', url: '/v1/sign-in-options', payload: { email: 'a@b.example' }, headers })
  const statuses = []
  for (let count = 0; count < 4; count++) statuses.push((await askLimited()).statusCode)
  t.same(statuses, [200, 200, 200, 429])
  t.match((await askLimited()).headers, { 'retry-after': String })
  t.equal((await askLimited(serviceHeaders)).statusCode, 200)
  t.match((await askLimited({ authorization: 'Bearer nonsense' })).statusCode, 401)
})
