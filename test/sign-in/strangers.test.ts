import t from 'tap'
import { createRepeatedRefusals } from '../../src/activity/repeated-refusals.ts'
import { makeWorkspace } from '../helpers/app.ts'
import { entriesOf, makeBrowser, makeSignInWorld } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { app } = world.test

t.test(
  'the refusals of one stranger for one reason become two entries: the first, and the number of the others',
  async t => {
    const other = await makeSignInWorld(t, { replicaOf: world, repeatWindowMs: 600_000 })
    const acme = await world.makeAcme()
    for (let count = 0; count < 20; count++) {
      const browser = makeBrowser(other)
      const reply = await browser.get(`/sso/${acme.workspaceId}/callback?state=${'x'.repeat(43)}&code=c`)
      t.match(reply.headers.location, /code=sso_state_invalid&ref=[0-9a-f-]{36}$/)
    }
    const refusals = async () =>
      (await entriesOf(world.test, acme.workspaceId)).filter(entry => entry.action === 'sso_sign_in.refused')
    t.equal((await refusals()).length, 1)
    await other.test.app.close()
    t.match((await refusals()).at(-1), { reason: 'sso_state_invalid', detail: { count: 19, network: String } })
    t.equal((await refusals()).length, 2)
  },
)

t.test('a workspace without SSO gets no entries from strangers, and its references look like all others', async t => {
  const { workspaceId } = await makeWorkspace(world.test)
  const known = await app.inject({ url: `/sso/${workspaceId}/callback?state=x` })
  const unknown = await app.inject({ url: '/sso/0190a6c8-8f00-7000-8000-000000000001/callback?state=x' })
  for (const reply of [known, unknown]) t.match(reply.headers.location, /code=sso_state_invalid&ref=[0-9a-f-]{36}$/)
  const challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
  await app.inject({ url: `/sso/${workspaceId}/start?handoff_challenge=${challenge}` })
  const refused = (await entriesOf(world.test, workspaceId)).filter(entry => entry.action === 'sso_sign_in.refused')
  t.same(refused, [])
})

t.test('a repeated callback returns to the first outcome and adds no entry', async t => {
  const acme = await world.makeAcme()
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme, { error: 'access_denied' })
  const cookies = new Map(browser.cookies)
  const first = await browser.get(callback)
  const before = (await entriesOf(world.test, acme.workspaceId)).length
  for (const [name, value] of cookies) browser.cookies.set(name, value)
  const again = await browser.get(callback)
  t.equal(again.headers.location?.split('&retry')[0], first.headers.location?.split('&retry')[0])
  t.equal((await entriesOf(world.test, acme.workspaceId)).length, before)
})

t.test('error=__proto__ and its kin make a report and not an error of ours', async t => {
  const acme = await world.makeAcme()
  for (const error of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    const landing = await makeBrowser(world).signIn(acme, { error })
    t.equal(landing.code, 'sso_idp_error', error)
  }
})

t.test('repeated refusals are bounded by keys, and the oldest window ends early', async t => {
  const recorded: [string, number][] = []
  const repeats = createRepeatedRefusals({ onError: error => t.fail(String(error)), maxKeys: 2 })
  const refuse = (key: string) => repeats.isFirst(key, async count => recorded.push([key, count]))
  t.same([refuse('a'), refuse('a'), refuse('b'), refuse('c')], [true, false, true, true])
  await new Promise(resolve => setImmediate(resolve))
  t.same(recorded, [['a', 1]], 'a third key ended the first window')
  refuse('c')
  await repeats.flush()
  t.same(recorded, [
    ['a', 1],
    ['c', 1],
  ])
})
