import { randomBytes } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, type JWK } from 'jose'
import t from 'tap'
import { openCredentials, remindOfExpiry, resealCredentials } from '../../src/sso/credentials/client-credentials.ts'
import { createSecretBox } from '../../src/secret-box.ts'
import { findSignInConfig } from '../../src/sso/config/sso-config.ts'
import { json } from '../helpers/scripted-provider.ts'
import { entriesOf, makeBrowser, makeSignInWorld, type Acme } from '../helpers/sign-in.ts'

const world = await makeSignInWorld(t)
const { idp } = world
const { app, db, log } = world.test

const inDays = (days: number) => new Date(Date.now() + days * 86_400_000 + 60_000).toISOString()
const signIn = async (acme: Acme) => makeBrowser(world).signIn(acme)

/** What an admin does with the credentials of a workspace. */
function adminOf({ url, headers }: Acme) {
  const at = `${url}/sso-config/credentials`
  return {
    list: async () => (await app.inject({ url: at, headers })).json().items,
    add: async (payload: object) => app.inject({ method: 'POST', url: at, headers, payload }),
    change: async (id: string, payload: object) =>
      app.inject({ method: 'PATCH', url: `${at}/${id}`, headers, payload }),
    remove: async (id: string) => app.inject({ method: 'DELETE', url: `${at}/${id}`, headers }),
  }
}

async function actionsOf(acme: Acme) {
  const entries = await entriesOf(world.test, acme.workspaceId)
  return entries.filter(entry => entry.action.startsWith('sso_credential')).map(entry => entry.action.split('.')[1])
}

t.beforeEach(() => {
  idp.reset()
  idp.clients.set('assist-acme', 'acme-secret')
})

t.test(
  'a new secret is tried first, the old one while the provider refuses it, and goes when it has worked',
  async t => {
    const acme = await world.makeAcme()
    const admin = adminOf(acme)
    t.ok((await signIn(acme)).exchangeCode)
    const [old] = await admin.list()
    t.match(old, { kind: 'secret', keyId: null, expiresAt: null, acceptedAt: String, refusedAt: null })
    const added = await admin.add({ kind: 'secret', clientSecret: 'acme-secret-2', expiresAt: inDays(365) })
    t.equal(added.statusCode, 201)
    t.match(added.json(), { kind: 'secret', acceptedAt: null, expiresAt: String })
    t.notMatch(added.body + log(), 'acme-secret')

    for (let count = 0; count < 3; count++) t.ok((await signIn(acme)).exchangeCode, 'by the old one')
    t.match(await admin.list(), [
      { id: added.json().id, refusedAt: String },
      { id: old.id, refusedAt: null },
    ])
    idp.clients.set('assist-acme', 'acme-secret-2')
    const before = idp.count('token')
    t.ok((await signIn(acme)).exchangeCode)
    t.equal(idp.count('token') - before, 1, 'by the new one, at once')
    t.match(await admin.list(), [{ id: added.json().id, acceptedAt: String, refusedAt: null }])
    t.equal((await admin.list()).length, 1)
    t.same(await actionsOf(acme), ['added', 'refused', 'replaced'], 'a refusal is told once')
  },
)

t.test(
  'oidc-tok-004: a refusal of the client is told apart from every other failure, once, and brings nothing back',
  async t => {
    const acme = await world.makeAcme()
    const admin = adminOf(acme)
    await signIn(acme)
    const expired = {
      error: 'invalid_client',
      error_description: 'AADSTS7000222: The provided client secret keys are expired.',
    }
    for (const [answer, code] of [
      [json(500, {}), 'sso_idp_unreachable'],
      [json(400, { error: 'invalid_grant' }), 'sso_idp_error'],
      [json(401, expired), 'sso_client_rejected'],
      [json(401, expired), 'sso_client_rejected'],
    ] as const) {
      idp.script.answer.token = answer
      t.equal((await signIn(acme)).code, code)
    }
    t.match(await admin.list(), [{ acceptedAt: String, refusedAt: String }])
    t.same(await actionsOf(acme), ['refused'])
    idp.reset()
    t.ok((await signIn(acme)).exchangeCode)
    t.match(await admin.list(), [{ refusedAt: null }], 'and taken again')
  },
)

t.test('of three secrets the one that works stays, and the last one of a kind cannot be deleted', async t => {
  const acme = await world.makeAcme()
  const admin = adminOf(acme)
  await signIn(acme)
  const [works] = await admin.list()
  await admin.add({ kind: 'secret', clientSecret: 'mistyped' })
  const third = (await admin.add({ kind: 'secret', clientSecret: 'mistyped-again' })).json()
  t.same(
    (await admin.list()).map((each: { id: string }) => each.id),
    [third.id, works.id],
  )
  t.equal((await admin.remove(third.id)).statusCode, 204)
  t.match((await admin.remove(third.id)).json(), { status: 404 })
  t.match((await admin.remove(works.id)).json(), { status: 409, code: 'conflict' })
  for (const payload of [{}, { kind: 'secret' }, { kind: 'key', clientSecret: 'x' }, { kind: 'certificate' }]) {
    t.match((await admin.add(payload)).json(), { status: 400, code: 'invalid' }, JSON.stringify(payload))
  }
  const other = await world.makeAcme()
  t.match((await adminOf(other).remove(works.id)).json(), { status: 404 }, 'of its workspace only')
})

t.test(
  'the date that the provider shows is kept, and reminded of 30, 7 and 1 days before and when it has passed',
  async t => {
    const acme = await world.makeAcme({ clientSecretExpiresAt: inDays(40) })
    const admin = adminOf(acme)
    const [{ id, expiresAt }] = await admin.list()
    t.ok(Math.abs(Date.parse(expiresAt) - Date.parse(inDays(40))) < 60_000)
    const reminders = async () =>
      (await entriesOf(world.test, acme.workspaceId))
        .filter(entry => /expir/.test(entry.action))
        .map(({ action, detail }) => `${action} ${(detail as { daysBefore: number }).daysBefore}`)
    /** Lets time pass, by bringing the day nearer. */
    const leave = async (days: number) => {
      await db
        .updateTable('sso_client_credentials')
        .set({ expires_at: inDays(days) })
        .where('id', '=', id)
        .execute()
      await Promise.all([remindOfExpiry(db), remindOfExpiry(db)])
    }
    for (const days of [40, 30.5, 29, 20, 8, 6, 2, 0.5, 0.4, -1, -20]) await leave(days)
    const [soon, over] = ['sso_credential.expiring', 'sso_credential.expired']
    t.same(await reminders(), [`${soon} 30`, `${soon} 7`, `${soon} 1`, `${over} 0`])

    t.match((await admin.change(id, { expiresAt: inDays(5) })).json(), { expiresAt: String })
    await remindOfExpiry(db)
    t.same((await reminders()).slice(4), [`${soon} 7`], 'a new date begins anew, with what is due')
    t.match((await admin.change(id, { expiresAt: null })).json(), { expiresAt: null })
    t.match((await admin.change(id, {})).json(), { status: 400, code: 'invalid' })
    const again = await acme.configure({ clientSecret: 'acme-secret', clientSecretExpiresAt: inDays(90) })
    t.equal(again.json().version, 1, 'the same secret with another date is no new secret')
    t.match(await admin.list(), [{ id, expiresAt: String }])
  },
)

t.test('private_key_jwt: by a key of the workspace, published, for this provider alone', async t => {
  const acme = await world.makeAcme({ clientSecret: undefined, tokenAuthMethod: 'private_key_jwt' })
  const { jwksUri } = (await app.inject({ url: `${acme.url}/sso-config`, headers: acme.headers })).json()
  t.equal(jwksUri, `https://sso.assist.example/sso/${acme.workspaceId}/jwks.json`)
  const published = async (uri = jwksUri) =>
    (await app.inject({ url: uri.replace('https://sso.assist.example', '') })).json().keys as JWK[]
  idp.clientKeys = published
  idp.acceptedAuth = 'private_key_jwt'
  t.ok((await signIn(acme)).exchangeCode)

  const { form, headers } = idp.last('token')!
  t.equal(headers.authorization, undefined)
  t.equal(form.get('client_secret'), null)
  t.equal(form.get('client_assertion_type'), 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
  const assertion = form.get('client_assertion')!
  const { iss, sub, aud, iat, exp, jti } = decodeJwt(assertion)
  t.same([iss, sub, aud], ['assist-acme', 'assist-acme', idp.issuer], 'aud is the issuer, as one string')
  t.ok(exp! - iat! <= 60)
  t.match(jti, /^[\w-]{36}$/)
  const [key] = await published()
  t.match(decodeProtectedHeader(assertion), { alg: 'RS256', kid: key!.kid })
  t.same(Object.keys(key!).toSorted(), ['e', 'kid', 'kty', 'n', 'use'], 'nothing private')
  const rows = await db.selectFrom('sso_client_credentials').selectAll().execute()
  t.notMatch(rows.map(row => row.sealed.toString('latin1')).join(''), '"d":')

  idp.script.document = document => ({
    ...document,
    token_endpoint_auth_signing_alg_values_supported: ['RS256', 'PS256'],
  })
  await acme.configure({ issuer: idp.issuer })
  t.ok((await signIn(acme)).exchangeCode)
  t.equal(decodeProtectedHeader(idp.last('token')!.form.get('client_assertion')!).alg, 'PS256', 'where it is announced')
  const other = await world.makeAcme({ clientSecret: undefined, tokenAuthMethod: 'private_key_jwt' })
  const [foreign] = await published(`https://sso.assist.example/sso/${other.workspaceId}/jwks.json`)
  t.not(foreign!.kid, key!.kid, 'no workspace has the key of another')
  t.same(await published('https://sso.assist.example/sso/0190a6c8-8f00-7000-8000-000000000001/jwks.json'), [])
})

t.test(
  'keys rotate while people sign in: the new one is published at once, and the old one used until it is known',
  async t => {
    const acme = await world.makeAcme({ clientSecret: undefined, tokenAuthMethod: 'private_key_jwt' })
    const admin = adminOf(acme)
    const published = async () => (await app.inject({ url: `/sso/${acme.workspaceId}/jwks.json` })).json().keys as JWK[]
    const cached = await published()
    idp.clientKeys = async () => cached
    idp.acceptedAuth = 'private_key_jwt'
    await signIn(acme)
    const made = (await admin.add({ kind: 'key' })).json()
    t.match(made, { kind: 'key', keyId: String, acceptedAt: null })
    t.same(new Set((await published()).map(key => key.kid)), new Set([cached[0]!.kid, made.keyId]))
    t.ok((await signIn(acme)).exchangeCode, 'the provider has not fetched the new key yet')
    idp.clientKeys = published
    t.ok((await signIn(acme)).exchangeCode)
    t.same(
      (await published()).map(key => key.kid),
      [made.keyId],
    )
    t.same(await actionsOf(acme), ['added', 'refused', 'replaced'])
  },
)

t.test('a key goes with its issuer, and a change of method keeps what was stored', async t => {
  const acme = await world.makeAcme()
  const admin = adminOf(acme)
  t.equal((await acme.configure({ tokenAuthMethod: 'private_key_jwt' })).statusCode, 200)
  const kinds = async () => (await admin.list()).map((each: { kind: string }) => each.kind)
  t.same(await kinds(), ['key', 'secret'])
  t.equal((await acme.configure({ tokenAuthMethod: null })).statusCode, 200)
  t.same(await kinds(), ['key', 'secret'])
  t.ok((await signIn(acme)).exchangeCode, 'by the secret again')
})

t.test('after a rotation of SEAL_KEYS secrets and keys are sealed anew, and open without the old key', async t => {
  const acme = await world.makeAcme()
  const { workspaceId } = acme
  await adminOf(acme).add({ kind: 'secret', clientSecret: 'acme-secret-2' })
  await adminOf(acme).add({ kind: 'key' })
  const [old] = world.test.config.sealKeys
  const next = { id: 'next', key: randomBytes(32) }
  const both = createSecretBox({ sealKeys: [next, old!] })
  t.equal(await resealCredentials(db, createSecretBox({ sealKeys: [old!] })), 0, 'nothing to do with one key')
  const counts = await Promise.all([resealCredentials(db, both), resealCredentials(db, both)])
  t.ok(counts[0] + counts[1] >= 3)
  t.equal(await resealCredentials(db, both), 0)
  const onlyNext = createSecretBox({ sealKeys: [next] })
  const { clientSecrets } = (await findSignInConfig(db, onlyNext, workspaceId))!
  t.same(clientSecrets, ['acme-secret-2', 'acme-secret'])
  const byKey = { workspaceId, tokenAuthMethod: 'private_key_jwt' } as const
  t.match((await openCredentials(db, onlyNext, byKey)).clientKeys, [{ kty: 'RSA', d: String }])

  t.ok((await resealCredentials(db, createSecretBox({ sealKeys: [old!, next] }))) >= 3, 'and back')
})

t.test('where SEAL_KEYS are lost, a workspace enters its secret again, and everything else survives', async t => {
  const lost = `lost:${randomBytes(32).toString('base64')}`
  const later = await makeSignInWorld(t, { replicaOf: world, settings: { SEAL_KEYS: lost } })
  const acme = await world.makeAcme()
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme)
  await browser.redeem(exchangeCode!)
  const other = makeBrowser(world)
  await other.redeem((await other.signIn(acme, { user: { sid: 's2' } })).exchangeCode!)
  const cookie = [...browser.cookies].map(([name, value]) => `${name}=${value}`).join('; ')

  const { workspaceId, url, headers } = acme
  const { app: after } = later.test
  const refused = await makeBrowser(later).signIn(acme)
  t.equal(refused.code, 'sso_secret_missing')
  t.match((await entriesOf(later.test, workspaceId)).at(-1)?.detail, { fix: /Set the clientSecret/ })
  t.equal((await after.inject({ url: '/v1/session', headers: { cookie } })).statusCode, 200, 'sessions go on')
  const origin = 'https://app.assist.example'
  const out = await after.inject({ method: 'DELETE', url: '/v1/session', headers: { cookie, origin } })
  t.equal(out.statusCode, 200)
  t.notMatch(out.json().endSessionUrl, 'id_token_hint', 'signing out lacks the hint alone')
  const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: idp.issuer, aud: 'assist-acme', iat: now, exp: now + 60, jti: 'lost', sub: 'u-ana', events }
  const logout = await after.inject({
    method: 'POST',
    url: `/sso/${workspaceId}/backchannel-logout`,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: `logout_token=${await idp.sign(claims)}`,
  })
  t.equal(logout.statusCode, 200, 'logout tokens are obeyed')
  t.equal((await other.get('/v1/session')).statusCode, 401)

  const listed = await after.inject({ url: `${url}/sso-config/credentials`, headers })
  t.match(listed.json().items, [{ kind: 'secret', acceptedAt: String, refusedAt: null, isReadable: false }])
  const checkOf = async (name: string, { method, path }: { method: 'GET' | 'POST'; path: string }) => {
    const reply = (await after.inject({ method, url: `${url}/sso-config/${path}`, headers })).json()
    return (reply.verdict ?? reply).checks.find((each: { name: string }) => each.name === name)
  }
  const unreadable = { result: 'fail', code: 'sso_secret_missing', message: /cannot be read any more: SEAL_KEYS/ }
  t.match(await checkOf('client_credential', { method: 'GET', path: 'enforcement' }), unreadable)
  t.match(await checkOf('client_secret', { method: 'POST', path: 'check' }), unreadable)

  const payload = { clientSecret: 'acme-secret' }
  const saved = await after.inject({ method: 'PATCH', url: `${url}/sso-config`, headers, payload })
  t.equal(saved.statusCode, 200)
  t.match(
    await checkOf('client_credential', { method: 'GET', path: 'enforcement' }),
    { result: 'fail', code: 'sso_not_safe', message: /not taken the client secret yet/ },
    'the new one waits for its first sign-in',
  )
  t.ok((await makeBrowser(later).signIn(acme)).exchangeCode)
  t.match(await checkOf('client_credential', { method: 'GET', path: 'enforcement' }), { result: 'warn' })
})

t.test(
  'n-oidc-tok-04: whitespace around a pasted secret is removed with a notice, other characters are refused',
  async t => {
    const acme = await world.makeAcme()
    const save = async (clientSecret: string) =>
      app.inject({ method: 'PATCH', url: `${acme.url}/sso-config`, headers: acme.headers, payload: { clientSecret } })
    for (const pasted of ['acme-secret\n', '  acme-secret\t', '\ufeffacme-secret', 'acme-secret\u00a0']) {
      await save('another-secret')
      const saved = await save(pasted)
      t.match(saved.json().notices, [/Whitespace around the client secret was removed/], JSON.stringify(pasted))
      t.ok((await makeBrowser(world).signIn(acme)).exchangeCode, 'the provider accepts it')
    }
    const bad: [string, RegExp][] = [
      ['acme\u200b-secret', /U\+200B at position 5/],
      ['acme–secret', /U\+2013 at position 5/],
      ['acme-\nsecret', /U\+000A at position 6/],
      ['\u200bacme-secret', /U\+200B at position 1/],
      [' \n ', /whitespace/],
    ]
    const version = (await app.inject({ url: `${acme.url}/sso-config`, headers: acme.headers })).json().version
    for (const [clientSecret, message] of bad) {
      const refused = { status: 400, code: 'invalid', errors: [{ pointer: '/clientSecret', message }] }
      t.match((await save(clientSecret)).json(), refused, JSON.stringify(clientSecret))
      const added = await app.inject({
        method: 'POST',
        url: `${acme.url}/sso-config/credentials`,
        headers: acme.headers,
        payload: { kind: 'secret', clientSecret },
      })
      t.match(added.json(), refused)
    }
    t.equal((await app.inject({ url: `${acme.url}/sso-config`, headers: acme.headers })).json().version, version)
  },
)
