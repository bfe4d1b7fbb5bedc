import t, { type Test } from 'tap'
import { recomputeAccess } from '../../src/access/derivation/access.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { bearer, serviceHeaders } from '../helpers/app.ts'
import { makeScriptedProvider } from '../helpers/scripted-provider.ts'
import {
  entriesOf,
  expectRefusal,
  expectSignedIn,
  makeBrowser,
  makeSignInWorld,
  type Acme,
} from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { test, idp, network, makeAcme } = world
const { db } = test
const replica = await makeSignInWorld(t, { replicaOf: world })
t.beforeEach(() => idp.reset())

const signIn = (acme: Acme, user: Record<string, unknown> = {}) => makeBrowser(world).signIn(acme, { user })

const succeeds = (tt: Test, acme: Acme, user: Record<string, unknown> = {}, memberId?: string) =>
  expectSignedIn(tt, world, { acme, ...(memberId !== undefined && { memberId }), act: () => signIn(acme, user) })

const refuses = (tt: Test, acme: Acme, code: string, user: Record<string, unknown> = {}) =>
  expectRefusal(tt, world, { acme, code, act: () => signIn(acme, user) })

const member = (acme: Acme, id: string) =>
  db
    .selectFrom('members')
    .selectAll()
    .where('workspace_id', '=', acme.workspaceId)
    .where('id', '=', id)
    .executeTakeFirstOrThrow()

const identities = (acme: Acme) =>
  db.selectFrom('identities').selectAll().where('workspace_id', '=', acme.workspaceId).orderBy('subject').execute()

const actions = async (acme: Acme) => (await entriesOf(test, acme.workspaceId)).map(entry => entry.action)

async function link(acme: Acme, memberId: string, subject: string, issuer = idp.issuer): Promise<void> {
  const key = { workspace_id: acme.workspaceId, issuer, subject }
  await db
    .insertInto('identities')
    .values({ ...key, member_id: memberId, linked_by: 'email' })
    .execute()
}

async function approveDomain({ url }: Acme, domain: string): Promise<void> {
  const reply = await test.app.inject({ method: 'PUT', url: `${url}/domains/${domain}`, headers: serviceHeaders })
  if (reply.statusCode >= 300) throw new Error(reply.body)
}

/** A verified domain is one workspace's alone, so each test proves another. */
let lastDomain = 0
const newDomain = () => `d${++lastDomain}.example`

/** A member as a directory provides them. */
async function provide(
  acme: Acme,
  {
    email,
    externalId,
    active = true,
    role = 'viewer',
  }: { email: string | null; externalId: string; active?: boolean; role?: string },
): Promise<string> {
  const { workspaceId: workspace_id } = acme
  const directory_id = uuid7()
  const id = uuid7()
  const status = active ? ('active' as const) : ('deactivated' as const)
  await db.insertInto('directories').values({ workspace_id, id: directory_id, name: 'corp' }).execute()
  const floor = role === 'viewer' ? {} : { manual_role: role, manual_policy: 'floor' as const }
  const deactivated_by = active ? null : ('directory' as const)
  await db
    .insertInto('members')
    .values({ workspace_id, id, email, email_key: email, status, deactivated_by, role, origin: 'directory', ...floor })
    .execute()
  const name = { user_name: externalId, user_name_key: externalId, external_id: externalId }
  const email_keys = email === null ? [] : [email]
  await db
    .insertInto('scim_users')
    .values({ workspace_id, directory_id, id: uuid7(), member_id: id, ...name, email_keys, active, doc: '{}' })
    .execute()
  return id
}

t.test('oidc-jit-001, oidc-jit-007: a known subject goes in whatever the address says', async t => {
  const acme = await makeAcme()
  await link(acme, acme.ids.ana, 'u-ana')
  const { entries } = await succeeds(t, acme, { email: 'owner@corp.example' }, acme.ids.ana)
  t.match(
    entries.map(entry => entry.action),
    ['sso_sign_in.succeeded', 'member.email_conflict'],
  )
  t.match(await member(acme, acme.ids.ana), { email: 'ana@corp.example' })
  for (const user of [{ email_verified: false }, { email: undefined }, { email: 'ana@elsewhere.example' }]) {
    await succeeds(t, acme, user, acme.ids.ana)
    t.match(await member(acme, acme.ids.ana), { email: 'ana@corp.example', email_key: 'ana@corp.example' })
  }
})

t.test('oidc-jit-002: the first sign-in links by the address, later ones follow it', async t => {
  const acme = await makeAcme()
  const { entries } = await succeeds(t, acme, {}, acme.ids.ana)
  t.match(entries, [
    { action: 'identity.linked', detail: { subject: 'u-ana', linkedBy: 'email', trust: 'email_verified' } },
    { action: 'sso_sign_in.succeeded', detail: { trust: 'email_verified' } },
  ])
  const second = await succeeds(t, acme, { email: 'Ana.B@corp.example' }, acme.ids.ana)
  t.match(second.entries.at(-1), { action: 'member.email_changed' })
  t.match(await member(acme, acme.ids.ana), { email: 'Ana.B@corp.example', email_key: 'ana.b@corp.example' })
  t.equal((await identities(acme)).length, 1)
})

t.test('oidc-jit-003, oidc-jit-008: only true, or "true", is verified', async t => {
  const acme = await makeAcme()
  for (const email_verified of [false, 'false', 'True', 1, 'yes', {}]) {
    const { detail } = await refuses(t, acme, 'sso_email_unverified', { sub: 'x-9', email_verified })
    t.match(detail, { subject: 'x-9', email: 'ana@corp.example', fix: /trustUnverifiedEmail/ })
  }
  await succeeds(t, acme, { email_verified: 'true' }, acme.ids.ana)
})

t.test('oidc-jit-004: silence about the address is trusted for ordinary members of listed domains only', async t => {
  const acme = await makeAcme()
  const silent = { email_verified: undefined }
  const { entries } = await succeeds(t, acme, silent, acme.ids.ana)
  t.match(entries[0], { action: 'identity.linked', detail: { trust: 'domain_list' } })
  const owner = { ...silent, sub: 's-low', email: 'owner@corp.example' }
  const { detail } = await refuses(t, acme, 'sso_identity_link_required', owner)
  t.match(detail, { role: 'owner', memberId: undefined, fix: /email_verified true/ })
  const open = await makeAcme({ allowedDomains: [] })
  const unlisted = await refuses(t, open, 'sso_email_unverified', silent)
  t.match(unlisted.detail.fix, /allowedDomains.*proved.*email_verified/)
  await open.configure({ autoProvision: true })
  const made = await succeeds(t, open, { ...silent, sub: 'u-new', email: 'new@anywhere.example' })
  t.match(made.entries[0], { action: 'member.provisioned', detail: { trust: 'issuer' } })
})

t.test('oidc-jit-005, oidc-disc-001: a proved domain vouches where Entra is silent', async t => {
  const issuer = 'https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0'
  const entra = await makeScriptedProvider(t, { network, issuer })
  entra.script.document = ({ code_challenge_methods_supported: _silent, ...document }) => document
  const acme = await makeAcme({ issuer, allowedDomains: [] })
  const domain = newDomain()
  await approveDomain(acme, domain)
  const email = `ana@${domain}`
  await db.updateTable('members').set({ email, email_key: email }).where('id', '=', acme.ids.ana).execute()
  const user = { sub: 'AAAA-pairwise', tid: '1111', oid: 'o-1', email, email_verified: undefined }
  const { entries } = await expectSignedIn(t, world, {
    acme,
    memberId: acme.ids.ana,
    act: () => makeBrowser({ test, idp: entra }).signIn(acme, { user }),
  })
  t.match(entries[0], { action: 'identity.linked', detail: { trust: 'domain' } })
  t.match(await identities(acme), [{ issuer, subject: 'AAAA-pairwise', member_id: acme.ids.ana }])
})

t.test("oidc-jit-006: what the provider calls unverified goes in by the workspace's own choice only", async t => {
  const acme = await makeAcme()
  const { detail } = await refuses(t, acme, 'sso_email_unverified', { email_verified: false })
  t.match(detail.fix, /scope mapping/)
  await acme.configure({ trustUnverifiedEmail: true })
  const { entries } = await succeeds(t, acme, { email_verified: false }, acme.ids.ana)
  t.match(entries[0]?.detail, { trust: 'opt_in' })
  const owner = { sub: 's-low', email: 'owner@corp.example', email_verified: false }
  await refuses(t, acme, 'sso_identity_link_required', owner)
})

t.test(
  'oidc-jit-009, oidc-jit-010: another subject for a linked member is a conflict until an admin resets it',
  async t => {
    const acme = await makeAcme()
    await link(acme, acme.ids.ana, 'u-ana')
    await link(acme, acme.ids.bea, 'b1', 'https://oldidp.corp.example')
    const { detail } = await refuses(t, acme, 'sso_identity_conflict', { sub: 'u-ana-2' })
    t.match(detail, {
      linked: [{ issuer: idp.issuer, subject: 'u-ana' }],
      claimed: { issuer: idp.issuer, subject: 'u-ana-2' },
      fix: /reset/,
    })
    await refuses(t, acme, 'sso_identity_conflict', { sub: 'b7', email: 'bea@corp.example' })
    await db.deleteFrom('identities').where('workspace_id', '=', acme.workspaceId).execute()
    await succeeds(t, acme, { sub: 'u-ana-2' }, acme.ids.ana)
  },
)

t.test('oidc-jit-012: an owner is never linked by an address that nobody verified', async t => {
  const acme = await makeAcme()
  await approveDomain(acme, newDomain())
  const low = { sub: 's-low', email: 'owner@corp.example', email_verified: undefined, oid: 'o-low' }
  await refuses(t, acme, 'sso_identity_link_required', low)
  await succeeds(t, acme, { sub: 'u-olga', email: 'owner@corp.example' }, acme.ids.olga)
})

t.test('oidc-jit-013: preferred_username and upn are no address', async t => {
  const acme = await makeAcme()
  const user = { email: undefined, preferred_username: 'ana@corp.example', upn: 'ana@corp.example' }
  const { detail } = await refuses(t, acme, 'sso_email_missing', user)
  t.match(detail.fix, /optional claim/)
})

t.test('oidc-jit-014: the address may come from UserInfo', async t => {
  idp.script.claims = ({ email: _email, email_verified: _verified, name: _name, ...thin }) => thin
  const acme = await makeAcme()
  const asked = idp.count('userinfo')
  await succeeds(t, acme, {}, acme.ids.ana)
  t.equal(idp.count('userinfo') - asked, 1)
  t.match(idp.requests.at(-1)?.headers.authorization, /^Bearer /)
})

t.test('oidc-jit-015, oidc-dom-005: a stranger is made a member only where the workspace says so', async t => {
  const acme = await makeAcme({ allowedDomains: [' Corp.EXAMPLE '] })
  const user = { sub: 'u-new', email: 'new@CORP.example', name: 'New Example', email_verified: true }
  const { detail } = await refuses(t, acme, 'sso_not_provisioned', user)
  t.match(detail.fix, /Invite.*autoProvision/)
  await acme.configure({ autoProvision: true })
  const { memberId, entries } = await succeeds(t, acme, user)
  t.match(
    entries.map(entry => entry.action),
    ['member.provisioned', 'sso_sign_in.succeeded'],
  )
  t.match(await member(acme, memberId), {
    status: 'active',
    role: 'viewer',
    origin: 'sso',
    display_name: 'New Example',
  })
  const history = await db.selectFrom('access_changes').selectAll().where('member_id', '=', memberId).execute()
  t.match(history, [{ status_before: null, status_after: 'active', role_before: null, role_after: 'viewer' }])
})

t.test('oidc-jit-016, oidc-jit-023: an invitation is accepted by signing in, with its role', async t => {
  const acme = await makeAcme()
  const { entries } = await succeeds(t, acme, { sub: 'u-ivo', email: 'Ivo@corp.example' }, acme.ids.ivo)
  t.match(
    entries.map(entry => entry.action),
    ['identity.linked', 'member.activated', 'sso_sign_in.succeeded'],
  )
  t.match(await member(acme, acme.ids.ivo), {
    status: 'active',
    role: 'member',
    email: 'ivo@corp.example',
    invitation_expires_at: null,
  })
  const history = await db.selectFrom('access_changes').selectAll().where('member_id', '=', acme.ids.ivo).execute()
  t.match(history, [{ status_before: 'invited', status_after: 'active', role_after: 'member' }])
})

t.test('oidc-jit-017: an invitation that has lapsed or was withdrawn is none', async t => {
  const acme = await makeAcme()
  const ivo = { sub: 'u-ivo', email: 'ivo@corp.example' }
  const lapsed = { invitation_expires_at: new Date(Date.now() - 86_400_000).toISOString() }
  await db.updateTable('members').set(lapsed).where('id', '=', acme.ids.ivo).execute()
  const { detail } = await refuses(t, acme, 'sso_not_provisioned', ivo)
  t.match(detail, { reason: 'invitation_expired' })
  await acme.configure({ autoProvision: true })
  await succeeds(t, acme, ivo, acme.ids.ivo)
  t.match(await member(acme, acme.ids.ivo), { status: 'active', role: 'viewer', manual_role: null })
  const other = await makeAcme()
  await db.deleteFrom('members').where('id', '=', other.ids.ivo).execute()
  await refuses(t, other, 'sso_not_provisioned', ivo)
})

t.test('oidc-jit-018, oidc-jit-019: nobody is brought back by signing in', async t => {
  const acme = await makeAcme({ autoProvision: true })
  const dan = await refuses(t, acme, 'sso_member_deactivated', { sub: 'u-dan', email: 'dan@corp.example' })
  t.equal(dan.landing.retry, undefined)
  await provide(acme, { email: 'eva@corp.example', externalId: 'e-1', active: false })
  await refuses(t, acme, 'sso_member_deactivated', { sub: 'u-eva', email: 'eva@corp.example' })
  await db
    .updateTable('members')
    .set({ email: null, email_key: null })
    .where('email_key', '=', 'eva@corp.example')
    .execute()
  await refuses(t, acme, 'sso_member_deactivated', { sub: 'u-eva', email: 'eva@corp.example' })
  await link(acme, acme.ids.dan, 'u-dan')
  await refuses(t, acme, 'sso_member_deactivated', { sub: 'u-dan', email: 'dan@corp.example' })
})

t.test('oidc-jit-020: two first sign-ins of one person at once make one member and two sessions', async t => {
  const acme = await makeAcme({ autoProvision: true })
  const user = { sub: 'u-new', email: 'new@corp.example' }
  const tabs = await Promise.all(
    Array.from({ length: 6 }, async (_, index) => {
      const browser = makeBrowser(index % 2 ? world : replica)
      return { browser, callback: await browser.reachCallback(acme, { user }) }
    }),
  )
  const landings = await Promise.all(tabs.map(({ browser, callback }) => browser.open(callback)))
  t.ok(landings.every(landing => landing.exchangeCode))
  const made = await db
    .selectFrom('members')
    .select('id')
    .where('workspace_id', '=', acme.workspaceId)
    .where('email_key', '=', 'new@corp.example')
    .execute()
  t.equal(made.length, 1)
  t.equal((await identities(acme)).length, 1)
  t.equal((await actions(acme)).filter(action => action === 'member.provisioned').length, 1)
  t.equal((await actions(acme)).filter(action => action === 'sso_sign_in.succeeded').length, 6)
})

t.test('an invitation made while somebody is being provisioned is found, not collided with', async t => {
  const acme = await makeAcme({ autoProvision: true })
  const browser = makeBrowser(world)
  const callback = await browser.reachCallback(acme, { user: { sub: 'u-new', email: 'race@corp.example' } })
  const id = uuid7()
  const invitation = db.transaction().execute(async trx => {
    await trx
      .insertInto('members')
      .values({
        workspace_id: acme.workspaceId,
        id,
        email: 'race@corp.example',
        email_key: 'race@corp.example',
        status: 'invited',
        invitation_expires_at: '2100-01-01T00:00:00Z',
        role: 'viewer',
        origin: 'invite',
      })
      .execute()
    await new Promise(resolve => setTimeout(resolve, 150))
  })
  await expectSignedIn(t, world, { acme, memberId: id, act: () => browser.open(callback) })
  await invitation
})

t.test('oidc-jit-022: roles and groups in a token mean nothing', async t => {
  const acme = await makeAcme({ autoProvision: true })
  const claims = { role: 'owner', roles: ['admin'], groups: ['assist-admins'], is_admin: true }
  const { memberId } = await succeeds(t, acme, { sub: 'u-new', email: 'new@corp.example', ...claims })
  t.match(await member(acme, memberId), { role: 'viewer' })
})

t.test('oidc-jit-025: addresses are compared folded', async t => {
  const acme = await makeAcme()
  await succeeds(t, acme, { email: 'ANA@CORP.example' }, acme.ids.ana)
  t.match(await member(acme, acme.ids.ana), { email: 'ana@corp.example' })
})

t.test("oidc-jit-026: an address that another member has stays that member's", async t => {
  const acme = await makeAcme()
  await link(acme, acme.ids.ana, 'u-ana')
  await link(acme, acme.ids.bea, 'u-bea')
  const { entries } = await succeeds(t, acme, { email: 'bea@corp.example' }, acme.ids.ana)
  t.match(entries.at(-1), { action: 'member.email_conflict', memberId: acme.ids.ana })
  t.match(await member(acme, acme.ids.ana), { email: 'ana@corp.example' })
  t.match(await member(acme, acme.ids.bea), { email: 'bea@corp.example' })
})

t.test('oidc-jit-024: two members cannot differ by the case of their address alone', async t => {
  const acme = await makeAcme()
  const twin = db
    .updateTable('members')
    .set({ email: 'Ana@corp.example', email_key: 'ana@corp.example' })
    .where('id', '=', acme.ids.bea)
    .execute()
  await t.rejects(twin, { code: '23505' })
})

t.test('oidc-jit-027: the directory decides who has an address, also after a rename', async t => {
  const acme = await makeAcme()
  const eva = await provide(acme, { email: 'eva@corp.example', externalId: 'e-1' })
  const renamed = { email: 'eva.new@corp.example', email_key: 'eva.new@corp.example' }
  await db.updateTable('members').set(renamed).where('id', '=', eva).execute()
  await succeeds(t, acme, { sub: 'u-eva', email: 'eva.new@corp.example' }, eva)
})

t.test('a name that cannot be stored as it is does not keep anybody out', async t => {
  const acme = await makeAcme({ autoProvision: true })
  const odd = { name: 'Ana\u0000 Example\n', sid: 's\u0000', acr: '\u0000', amr: ['pwd\u0000', 7] }
  const { memberId } = await succeeds(t, acme, { sub: 'u-new', email: 'new@corp.example', ...odd })
  t.match(await member(acme, memberId), { display_name: 'Ana  Example' })
})

t.test('oidc-jit-028: a member from the directory is linked, by the immutable claim before the address', async t => {
  const acme = await makeAcme()
  const eva = await provide(acme, { email: 'eva@corp.example', externalId: 'e-1' })
  const user = { sub: 'pairwise-1', oid: 'e-1', email: 'eva@corp.example', email_verified: undefined }
  const byAddress = await succeeds(t, acme, user, eva)
  t.match(byAddress.entries[0]?.detail, { linkedBy: 'email', trust: 'domain_list' })

  const claimed = await makeAcme({ externalIdClaim: 'oid' })
  const boss = await provide(claimed, { email: 'boss@corp.example', externalId: 'e-2', role: 'owner' })
  const moved = { sub: 'pairwise-2', oid: 'e-2', email: 'renamed@elsewhere.example', email_verified: false }
  const byClaim = await succeeds(t, claimed, moved, boss)
  t.match(byClaim.entries[0]?.detail, { linkedBy: 'directory', trust: 'directory' })
  await succeeds(t, claimed, { ...moved, email: 'boss.new@corp.example', email_verified: true }, boss)
  t.match(await member(claimed, boss), { email: 'boss@corp.example' }, 'the directory is in charge of the address')
  await provide(claimed, { email: 'gone@corp.example', externalId: 'e-3', active: false })
  const gone = { sub: 'pairwise-3', oid: 'e-3', email: 'ana@corp.example' }
  await refuses(t, claimed, 'sso_member_deactivated', gone)
})

t.test('oidc-jit-029, oidc-jit-030: at Google only a managed account of a listed domain goes in', async t => {
  const google = await makeScriptedProvider(t, { network, issuer: 'https://accounts.google.com' })
  const acme = await makeAcme({ issuer: google.issuer, autoProvision: true })
  const act = (user: Record<string, unknown>) => () => makeBrowser({ test, idp: google }).signIn(acme, { user })
  for (const [hd, reason] of [
    [undefined, 'hd_missing'],
    ['evil.example', 'hd_foreign'],
  ]) {
    const { detail } = await expectRefusal(t, world, { acme, code: 'sso_domain_not_allowed', act: act({ hd }) })
    t.match(detail, { reason })
  }
  const silent = { hd: 'corp.example', email_verified: undefined }
  await expectRefusal(t, world, { acme, code: 'sso_email_unverified', act: act(silent) })
  await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act: act({ hd: 'corp.example' }) })
  await db
    .updateTable('sso_configs')
    .set({ allowed_domains: [] })
    .where('workspace_id', '=', acme.workspaceId)
    .execute()
  const other = { sub: 'u-new', email: 'new@corp.example', hd: 'corp.example' }
  await expectRefusal(t, world, { acme, code: 'sso_domain_not_allowed', act: act(other) })
})

t.test('oidc-dom-001, oidc-dom-002, oidc-dom-007, oidc-ux-001: a domain is allowed whole or not at all', async t => {
  const acme = await makeAcme({ autoProvision: true })
  for (const email of [
    'new@mail.corp.example',
    'x@notcorp.example',
    'x@corp.example.evil.example',
    'ana@c\u043erp.example',
  ]) {
    const { landing, detail } = await refuses(t, acme, 'sso_domain_not_allowed', { sub: 'x', email })
    t.match(detail.fix, /allowedDomains/)
    t.ok(landing.location.searchParams.get('domain'))
    t.match(landing.retry, /prompt=select_account/)
    const retried = await makeBrowser(world).get(landing.retry!)
    t.match(retried.headers.location, /[?&]prompt=select_account/)
  }
})

t.test('oidc-dom-003, oidc-dom-004, oidc-dom-008: what two readers could read differently is no address', async t => {
  const acme = await makeAcme({ autoProvision: true })
  for (const email of [
    'attacker@evil.example@corp.example',
    'corp.example@evil.example@corp.example',
    '"a@corp.example"@evil.example',
    'a(@corp.example)@evil.example',
    '<a@evil.example>b@corp.example',
    'a@evil.example,b@corp.example',
    '=?utf-8?q?a=40evil.example?=@corp.example',
    ' ana@corp.example',
    'ana@corp.example\n',
    'ana@corp.example\u0000',
    'ana@corp.example\u200b',
    `${'a'.repeat(250)}@corp.example`,
  ]) {
    const { detail } = await refuses(t, acme, 'sso_email_invalid', { sub: 'x', email })
    t.match(detail.email, /^[\x20-\x7e]{1,254}$/, 'escaped in the entry')
  }
})

t.test('oidc-dom-006: one domain in two spellings is one member', async t => {
  const acme = await makeAcme({ autoProvision: true, allowedDomains: ['b\u00fccher.example'] })
  const eva = { sub: 'u-eva', email: 'eva@xn--bcher-kva.example' }
  const { memberId } = await succeeds(t, acme, eva)
  await succeeds(t, acme, { ...eva, email: 'eva@b\u00fccher.example' }, memberId)
  t.match(await member(acme, memberId), { email_key: 'eva@xn--bcher-kva.example' })
})

t.test('oidc-dom-010: narrowing the list ends no link: it decides who is linked and provisioned', async t => {
  const acme = await makeAcme({ allowedDomains: ['corp.example', 'partner.example'], autoProvision: true })
  const zoe = { sub: 'u-zoe', email: 'zoe@partner.example' }
  const { memberId } = await succeeds(t, acme, zoe)
  await acme.configure({ allowedDomains: ['corp.example'] })
  await succeeds(t, acme, zoe, memberId)
  await refuses(t, acme, 'sso_domain_not_allowed', { sub: 'u-yan', email: 'yan@partner.example' })
})

t.test('oidc-mt-002, oidc-mt-004, oidc-mt-003: one provider for two workspaces joins nobody across them', async t => {
  const acme = await makeAcme()
  const globex = await makeAcme()
  await link(acme, acme.ids.ana, 'u-ana')
  await db.deleteFrom('members').where('id', '=', globex.ids.ana).execute()
  await refuses(t, globex, 'sso_not_provisioned')
  t.match(await identities(acme), [{ member_id: acme.ids.ana }])
  t.same(await db.selectFrom('sessions').select('id').where('workspace_id', '=', acme.workspaceId).execute(), [])

  const evil = await makeScriptedProvider(t, { network, issuer: 'https://idp.evil.example' })
  const evilco = await makeAcme({ issuer: evil.issuer, autoProvision: true, allowedDomains: [] })
  const before = [await identities(acme), await entriesOf(test, acme.workspaceId)]
  const { memberId } = await expectSignedIn(t, world, {
    acme: evilco,
    act: () => makeBrowser({ test, idp: evil }).signIn(evilco, { user: { email: 'new@corp.example' } }),
  })
  t.match(await identities(evilco), [{ issuer: evil.issuer, subject: 'u-ana', member_id: memberId }])
  t.same([await identities(acme), await entriesOf(test, acme.workspaceId)], before, 'acme knows nothing of it')
})

t.test('oidc-disc-012: another issuer with the same subject revives no link', async t => {
  const acme = await makeAcme()
  await link(acme, acme.ids.ana, 'u-ana')
  const newIdp = await makeScriptedProvider(t, { network, issuer: 'https://newidp.corp.example' })
  await acme.configure({ issuer: newIdp.issuer, clientSecret: 'acme-secret' })
  const user = { sub: 'u-ana', email: 'mallory@corp.example' }
  await expectRefusal(t, world, {
    acme,
    code: 'sso_not_provisioned',
    act: () => makeBrowser({ test, idp: newIdp }).signIn(acme, { user }),
  })
  t.match(await identities(acme), [{ issuer: idp.issuer, member_id: acme.ids.ana }])
})

t.test('oidc-scim-002: deactivated while the code is exchanged', async t => {
  const acme = await makeAcme()
  await link(acme, acme.ids.ana, 'u-ana')
  const deactivated = { status: 'deactivated', deactivated_by: 'directory' } as const
  const users = [{ sub: 'u-ana' }, { sub: 'u-bea', email: 'bea@corp.example' }]
  for (const [index, user] of users.entries()) {
    const id = index === 0 ? acme.ids.ana : acme.ids.bea
    const browser = makeBrowser(world)
    const callback = await browser.reachCallback(acme, { user })
    const landing = db.transaction().execute(async trx => {
      await trx.updateTable('members').set(deactivated).where('id', '=', id).execute()
      const opened = browser.open(callback)
      await new Promise(resolve => setTimeout(resolve, 200))
      return { opened }
    })
    t.equal((await (await landing).opened).code, 'sso_member_deactivated')
    t.same(await db.selectFrom('sessions').select('id').where('member_id', '=', id).execute(), [])
  }
})

t.test('what the directory says of a member is not undone by their sign-in', async t => {
  const acme = await makeAcme()
  const eva = await provide(acme, { email: 'eva@corp.example', externalId: 'e-1' })
  await succeeds(t, acme, { sub: 'u-eva', email: 'eva@corp.example' }, eva)
  const recomputed = await db
    .transaction()
    .execute(trx =>
      recomputeAccess(trx, { workspaceId: acme.workspaceId, memberIds: [eva], entryId: 1, roles: test.config.roles }),
    )
  t.equal(recomputed.changed, 0, 'role and groups are what their sources give')
})

t.test('oidc-ux-002: an admin finds a refusal by its reference, with what was claimed and what to do', async t => {
  const acme = await makeAcme()
  const { landing } = await refuses(t, acme, 'sso_not_provisioned', { sub: 'u-<b>', email: 'new@corp.example' })
  const headers = await bearer({ workspace: acme.workspaceId })
  const reply = await test.app.inject({ url: `${acme.url}/activity?requestId=${landing.ref}`, headers })
  t.match(reply.json().items[0], {
    requestId: landing.ref,
    reason: 'sso_not_provisioned',
    detail: { issuer: idp.issuer, subject: 'u-<b>', email: 'new@corp.example', fix: String },
  })
})
