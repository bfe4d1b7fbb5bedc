import t from 'tap'
import { uuid7 } from '../../src/uuid7.ts'
import { makeScriptedProvider, type ScriptedProvider } from '../helpers/scripted-provider.ts'
import {
  entriesOf,
  expectRefusal,
  expectSignedIn,
  makeBrowser,
  makeSignInWorld,
  type Acme,
} from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { db } = world.test
const newIdp = await makeScriptedProvider(t, { issuer: 'https://newidp.corp.example', network: world.network })

const ana = { sub: 'u-ana', email: 'ana@corp.example', email_verified: true }
const move = (acme: Acme, more = {}) =>
  acme.configure({ issuer: newIdp.issuer, clientId: 'assist-acme', clientSecret: 'acme-secret', ...more })
const signIn = (acme: Acme, idp: ScriptedProvider, user: object) => () =>
  makeBrowser({ test: world.test, idp }).signIn(acme, { user: { ...user } })
const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString()

async function identitiesOf(acme: Acme, memberId: string) {
  return db
    .selectFrom('identities')
    .select(['issuer', 'subject', 'linked_by as linkedBy'])
    .where('workspace_id', '=', acme.workspaceId)
    .where('member_id', '=', memberId)
    .orderBy('issuer')
    .execute()
}

/** A directory that sends ana with this externalId. */
async function provide(acme: Acme, externalId: string) {
  const directoryId = uuid7()
  const key = { workspace_id: acme.workspaceId, directory_id: directoryId }
  await db.insertInto('directories').values({ workspace_id: acme.workspaceId, id: directoryId, name: 'Okta' }).execute()
  const userName = { user_name: 'ana', user_name_key: 'ana' }
  await db
    .insertInto('scim_users')
    .values({
      ...key,
      id: uuid7(),
      ...userName,
      external_id: externalId,
      active: true,
      doc: '{}',
      member_id: acme.ids.ana,
    })
    .execute()
}

t.test('another issuer keeps the members, says how many are linked elsewhere, and revives no old link', async t => {
  const acme = await world.makeAcme()
  await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act: signIn(acme, world.idp, ana) })
  const saved = (await move(acme)).json()
  t.match(saved.notices, [/^1 active members are linked at another issuer/])
  await expectRefusal(t, world, { acme, code: 'sso_identity_conflict', act: signIn(acme, newIdp, ana) })
  const back = await acme.configure({ issuer: world.idp.issuer, clientSecret: 'acme-secret' })
  t.equal(back.statusCode, 200)
  await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act: signIn(acme, world.idp, ana) })
})

t.test(
  'while the window is open, a vouched address links members of the old issuer anew, each with an entry',
  async t => {
    const acme = await world.makeAcme()
    await signIn(acme, world.idp, ana)()
    await signIn(acme, world.idp, { sub: 'u-bea', email: 'bea@corp.example', email_verified: true })()
    await move(acme, { relinkByEmailUntil: inDays(14) })
    const unverified = { sub: 'n-ana', email: 'ana@corp.example', email_verified: false }
    await expectRefusal(t, world, { acme, code: 'sso_email_unverified', act: signIn(acme, newIdp, unverified) })
    const anew = { ...ana, sub: 'n-ana' }
    const { entries } = await expectSignedIn(t, world, {
      acme,
      memberId: acme.ids.ana,
      act: signIn(acme, newIdp, anew),
    })
    const before = [{ issuer: world.idp.issuer, subject: 'u-ana' }]
    t.match(
      entries.find(each => each.action === 'identity.relinked'),
      { memberId: acme.ids.ana, detail: { issuer: newIdp.issuer, subject: 'n-ana', trust: 'email_verified', before } },
    )
    t.match(await identitiesOf(acme, acme.ids.ana), [{ issuer: world.idp.issuer }, { issuer: newIdp.issuer }])
    const second = { ...ana, sub: 'n-mallory' }
    const { detail } = await expectRefusal(t, world, {
      acme,
      code: 'sso_identity_conflict',
      act: signIn(acme, newIdp, second),
    })
    t.match(detail, { claimed: { subject: 'n-mallory' } }, 'at one issuer a second subject stays a conflict')

    await db
      .updateTable('sso_configs')
      .set({ relink_by_email_until: inDays(-1) })
      .where('workspace_id', '=', acme.workspaceId)
      .execute()
    const bea = { sub: 'n-bea', email: 'bea@corp.example', email_verified: true }
    await expectRefusal(t, world, { acme, code: 'sso_identity_conflict', act: signIn(acme, newIdp, bea) })
  },
)

t.test('an owner is linked anew only by a verified address, also while the window is open', async t => {
  const acme = await world.makeAcme()
  const olga = { sub: 'u-olga', email: 'owner@corp.example', email_verified: true }
  await signIn(acme, world.idp, olga)()
  await move(acme, { relinkByEmailUntil: inDays(14) })
  const silent = { sub: 'n-olga', email: 'owner@corp.example', email_verified: undefined }
  await expectRefusal(t, world, { acme, code: 'sso_identity_link_required', act: signIn(acme, newIdp, silent) })
  const vouched = { ...olga, sub: 'n-olga' }
  await expectSignedIn(t, world, { acme, memberId: acme.ids.olga, act: signIn(acme, newIdp, vouched) })
})

t.test('the window lies ahead, by 30 days at most, and closes at once when an admin says so', async t => {
  const acme = await world.makeAcme()
  for (const relinkByEmailUntil of [inDays(-1), inDays(31)]) {
    t.match((await acme.configure({ relinkByEmailUntil })).json(), {
      status: 400,
      code: 'invalid',
      errors: [{ pointer: '/relinkByEmailUntil' }],
    })
  }
  const until = inDays(7)
  t.equal((await acme.configure({ relinkByEmailUntil: until })).json().relinkByEmailUntil, until)
  t.equal((await acme.configure({ relinkByEmailUntil: null })).json().relinkByEmailUntil, null)
  const saves = (await entriesOf(world.test, acme.workspaceId)).filter(entry => entry.action === 'sso_config.saved')
  t.match(saves.slice(-2), [
    { detail: { changed: ['relinkByEmailUntil'], relinkByEmailUntil: until } },
    { detail: { changed: ['relinkByEmailUntil'], relinkByEmailUntil: null } },
  ])
})

t.test(
  "the directory's immutable claim links anew at another issuer, without a window and whatever the address",
  async t => {
    const acme = await world.makeAcme({ externalIdClaim: 'oid' })
    await signIn(acme, world.idp, { ...ana, oid: 'o-ana' })()
    await provide(acme, 'o-ana')
    await move(acme)
    const anew = { sub: 'n-ana', email: 'a.new.name@corp.example', email_verified: undefined, oid: 'o-ana' }
    const { entries } = await expectSignedIn(t, world, {
      acme,
      memberId: acme.ids.ana,
      act: signIn(acme, newIdp, anew),
    })
    t.match(
      entries.find(each => each.action === 'identity.relinked'),
      { detail: { linkedBy: 'directory', trust: 'directory', before: [{ issuer: world.idp.issuer }] } },
    )
  },
)

t.test('a new app registration (another sub, the same oid) finds everybody again, without a directory', async t => {
  const acme = await world.makeAcme({ externalIdClaim: 'oid' })
  await signIn(acme, world.idp, { ...ana, oid: 'o-ana' })()
  const anew = { sub: 'u-ana-2', email: 'ana@corp.example', email_verified: undefined, oid: 'o-ana' }
  const { entries } = await expectSignedIn(t, world, {
    acme,
    memberId: acme.ids.ana,
    act: signIn(acme, world.idp, anew),
  })
  t.match(
    entries.find(each => each.action === 'identity.relinked'),
    { detail: { subject: 'u-ana-2', linkedBy: 'claim', trust: 'claim', before: [{ subject: 'u-ana' }] } },
  )
  t.match(await identitiesOf(acme, acme.ids.ana), [{ subject: 'u-ana-2', linkedBy: 'claim' }])
  const other = { sub: 'u-mallory', email: 'ana@corp.example', email_verified: true, oid: 'o-mallory' }
  await expectRefusal(t, world, { acme, code: 'sso_identity_conflict', act: signIn(acme, world.idp, other) })
})
