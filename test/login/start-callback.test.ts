import t from 'tap'
import { makeBrowser, makeSignInWorld, expectRefusal, expectSignedIn } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, makeAcme } = world
const replica = await makeSignInWorld(t, { beside: world })
t.beforeEach(() => idp.reset())

t.test('a sign-in goes from start over callback and exchange to a session', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const { landing } = await expectSignedIn(t, world, {
    acme,
    memberId: acme.ids.ana,
    act: () => browser.signIn(acme, { returnTo: '/inbox' }),
  })
  const redeemed = await browser.redeem(landing.exchangeCode!)
  t.equal(redeemed.statusCode, 201)
  t.match(redeemed.json(), {
    workspaceId: acme.workspaceId,
    member: { id: acme.ids.ana, email: 'ana@corp.example', role: 'member' },
    returnTo: 'https://app.assist.example/inbox',
  })
  const session = await browser.get('/v1/session')
  t.equal(session.statusCode, 200)
  t.match(session.json(), { member: { id: acme.ids.ana } })
})
