import t from 'tap'
import { expectSignedIn, makeBrowser, makeSignInWorld, type Acme } from '../helpers/sign-in.ts'
import { USER } from '../helpers/scim.ts'

const world = await makeSignInWorld(t)
const { test, makeAcme } = world
const { app, db } = test

const ana = { sub: 'u-ana', email: 'ana@corp.example' }
const PATCH_OP = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'

/** A directory of the workspace that provides ana, who is a member already, and the calls of its identity provider. */
async function makeDirectory(acme: Acme) {
  const { url, headers } = acme
  const made = await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { name: 'Okta' } })
  const { id } = made.json()
  const tokens = await app.inject({ method: 'POST', url: `${url}/directories/${id}/tokens`, headers, payload: {} })
  const send = async (method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: object) =>
    app.inject({
      method,
      url: `/scim/v2/${id}${path}`,
      headers: {
        authorization: `Bearer ${tokens.json().token}`,
        ...(body && { 'content-type': 'application/scim+json' }),
      },
      ...(body && { payload: JSON.stringify(body) }),
    })
  const provide = async (email: string) => (await send('POST', '/Users', userOf(email, true))).json<{ id: string }>().id
  return { send, provide, anaId: await provide(ana.email) }
}

function userOf(email: string, active: boolean) {
  return { schemas: [USER], userName: email, emails: [{ value: email, primary: true }], active }
}

const patchOf = (...operations: object[]) => ({ schemas: [PATCH_OP], Operations: operations })

async function signedIn(acme: Acme) {
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: ana })
  const { accessToken } = (await browser.redeem(exchangeCode!)).json()
  return { browser, accessToken: accessToken as string }
}

type Directory = Awaited<ReturnType<typeof makeDirectory>>

const routes: Record<string, (acme: Acme, directory: Directory) => Promise<{ statusCode: number }>> = {
  'SCIM PATCH': (_acme, { send, anaId }) =>
    send('PATCH', `/Users/${anaId}`, patchOf({ op: 'replace', path: 'active', value: false })),
  'SCIM PUT': (_acme, { send, anaId }) => send('PUT', `/Users/${anaId}`, userOf(ana.email, false)),
  'SCIM DELETE': (_acme, { send, anaId }) => send('DELETE', `/Users/${anaId}`),
  'an admin': ({ url, headers, ids }) =>
    app.inject({ method: 'POST', url: `${url}/members/${ids.ana}/deactivate`, headers }),
}

for (const [route, deactivate] of Object.entries(routes)) {
  t.test(`oidc-scim-001: whoever is deactivated by ${route} is out everywhere with the answer`, async t => {
    const acme = await makeAcme()
    const replica = await makeSignInWorld(t, { replicaOf: world })
    const directory = await makeDirectory(acme)
    const devices = [await signedIn(acme), await signedIn(acme)]
    const [handedOver, underWay] = [makeBrowser(world), makeBrowser(world)]
    const { exchangeCode } = await handedOver.signIn(acme, { user: ana })
    const callback = await underWay.reachCallback(acme, { user: ana })

    t.ok((await deactivate(acme, directory)).statusCode < 300)
    for (const { browser, accessToken } of devices) {
      t.equal((await browser.get('/v1/session')).json().code, 'session_ended')
      const cookie = `__Host-assist-session=${browser.cookies.get('__Host-assist-session')}`
      const elsewhere = await replica.test.app.inject({ url: '/v1/session', headers: { cookie } })
      t.equal(elsewhere.json().code, 'session_ended', 'on every replica')
      const headers = { authorization: `Bearer ${accessToken}` }
      t.equal((await app.inject({ url: `${acme.url}/members`, headers })).json().code, 'session_ended')
    }
    t.equal((await handedOver.redeem(exchangeCode!)).json().code, 'exchange_code_invalid')
    t.equal((await underWay.open(callback)).code, 'sso_member_deactivated')
    const ended = await db
      .selectFrom('sessions')
      .select('end_reason')
      .where('member_id', '=', acme.ids.ana)
      .where('ended_at', 'is not', null)
      .execute()
    t.equal(ended.length, 3)
    t.equal(new Set(ended.map(each => each.end_reason)).size, 1, 'each says what ended it')
  })
}

t.test('oidc-scim-003: a directory that renames somebody moves no identity', async t => {
  const acme = await makeAcme()
  const { send, provide, anaId } = await makeDirectory(acme)
  await provide('bea@corp.example')
  await signedIn(acme)
  const renamed = await send(
    'PATCH',
    `/Users/${anaId}`,
    patchOf(
      { op: 'replace', path: 'userName', value: 'bea@corp.example' },
      { op: 'replace', path: 'emails', value: [{ value: 'bea@corp.example', primary: true }] },
    ),
  )
  t.equal(renamed.statusCode, 409)
  t.equal(renamed.json().scimType, 'uniqueness')
  const act = () => makeBrowser(world).signIn(acme, { user: { ...ana, email: 'bea@corp.example' } })
  await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act })
  const members = await db
    .selectFrom('members')
    .select(['id', 'email'])
    .where('id', 'in', [acme.ids.ana, acme.ids.bea])
    .orderBy('email')
    .execute()
  t.same(members, [
    { id: acme.ids.ana, email: 'ana@corp.example' },
    { id: acme.ids.bea, email: 'bea@corp.example' },
  ])
})
