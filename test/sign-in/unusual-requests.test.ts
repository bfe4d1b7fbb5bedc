import { createHmac } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose'
import { sql } from 'kysely'
import t from 'tap'
import { sweepExpired } from '../../src/sign-in/sweep.ts'
import { remindOfExpiry } from '../../src/sso/credentials/client-credentials.ts'
import { recheckDomains } from '../../src/workspaces/domain-proof.ts'
import { createTxtResolver } from '../../src/workspaces/txt-records.ts'
import { serviceHeaders } from '../helpers/app.ts'
import { startDnsServer } from '../helpers/dns-server.ts'
import { entriesOf, makeBrowser, makeSignInWorld, type Acme, errorCodeOf } from '../helpers/sign-in.ts'

// Neighbours of the cases that tests/login has by their ids, where people, portals, providers and consoles come to us: signing
// out, starting at a portal, asking for the way in, domains, recovery, sessions, our own keys, and dates.

const dns = await startDnsServer(t)
const world = await makeSignInWorld(t, { settings: { DNS_SERVERS: dns.address } })
const { test, idp, makeAcme } = world
const { app, db, config } = test
t.beforeEach(() => idp.reset())

const origin = 'https://app.assist.example'
const seconds = () => Math.floor(Date.now() / 1000)
const form = { 'content-type': 'application/x-www-form-urlencoded' }

async function signedIn(acme: Acme, user: object = {}) {
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: { ...user } })
  const session = (await browser.redeem(exchangeCode!, { headers: { 'sec-fetch-site': 'cross-site' } })).json()
  const bearer = { authorization: `Bearer ${session.sessionToken}` }
  const isIn = async () => (await app.inject({ url: '/v1/session', headers: bearer })).statusCode === 200
  return { browser, session, bearer, isIn }
}

const ask = async (acme: Acme, method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE', path: string, payload?: object) =>
  app.inject({ method, url: `${acme.url}${path}`, headers: acme.headers, ...(payload && { payload }) })

// ---- signing out

const event = 'http://schemas.openid.net/event/backchannel-logout'
let serial = 0

async function logoutToken(claims: object = {}, header: object = { typ: 'logout+jwt' }) {
  const plain = { iss: idp.issuer, aud: 'assist-acme', iat: seconds(), exp: seconds() + 60, jti: `odd-${serial++}` }
  return idp.sign({ ...plain, events: { [event]: {} }, sub: 'u-ana', ...claims }, { ...header })
}

const logOut = async (acme: Acme, payload: string, { headers = form, at = app } = {}) =>
  at.inject({
    method: 'POST',
    url: `/sso/${acme.workspaceId}/backchannel-logout`,
    headers,
    payload,
    remoteAddress: `198.51.100.${serial % 250}`,
  })

t.test('a logout token is obeyed in every form that the specification leaves open', async t => {
  const forms: Record<string, () => Promise<string>> = {
    'no typ': async () => logoutToken({}, {}),
    'typ JWT': async () => logoutToken({}, { typ: 'JWT' }),
    'typ with the whole media type': async () => logoutToken({}, { typ: 'application/logout+jwt' }),
    'several audiences': async () => logoutToken({ aud: ['another', 'assist-acme'] }),
    'a list of one audience': async () => logoutToken({ aud: ['assist-acme'] }),
    'times with fractions': async () => logoutToken({ iat: seconds() + 0.25, exp: seconds() + 60.5 }),
    'no exp': async () => logoutToken({ exp: undefined }),
    'more in the event': async () => logoutToken({ events: { [event]: { reason: 'x' } } }),
    'more events': async () => logoutToken({ events: { [event]: {}, 'https://example.com/other': {} } }),
    'more claims': async () => logoutToken({ auth_time: 1, amr: ['pwd'], toe: 5, txn: 'x', sub_id: {} }),
    'a nonce that is there and says nothing': async () => logoutToken({ nonce: undefined }),
    'a foreign azp, which concerns ID tokens': async () => logoutToken({ azp: 'another' }),
    'a clock 4 minutes ahead': async () => logoutToken({ iat: seconds() + 240 }),
    'a long jti': async () => logoutToken({ jti: `${serial++}`.padStart(255, 'j') }),
    'a jti beyond ASCII': async () => logoutToken({ jti: `ü\0${serial++}` }),
  }
  const acme = await makeAcme()
  for (const [name, make] of Object.entries(forms)) {
    const ana = await signedIn(acme)
    const reply = await logOut(acme, `logout_token=${await make()}`)
    t.same([reply.statusCode, reply.body, reply.headers['cache-control']], [200, '', 'no-store'], name)
    t.notOk(await ana.isIn(), name)
  }
})

t.test('a logout token in another envelope, or for nobody here, ends nothing and is no error of ours', async t => {
  const acme = await makeAcme()
  const ana = await signedIn(acme)
  const token = await logoutToken()
  const url = `/sso/${acme.workspaceId}/backchannel-logout`
  const others = {
    'in the URL': await app.inject({ method: 'POST', url: `${url}?logout_token=${token}`, headers: form, payload: '' }),
    'by GET': await app.inject({ url: `${url}?logout_token=${token}` }),
    'by PUT': await app.inject({ method: 'PUT', url, headers: form, payload: `logout_token=${token}` }),
    'as a part of many': await logOut(acme, '--x--', {
      headers: { 'content-type': 'multipart/form-data; boundary=x' },
    }),
    'as a JWT': await logOut(acme, token, { headers: { 'content-type': 'application/logout+jwt' } }),
    'without a type': await app.inject({ method: 'POST', url }),
    'under another name': await logOut(acme, `token=${token}`),
    'in capitals': await logOut(acme, `LOGOUT_TOKEN=${token}`),
    compressed: await logOut(acme, `logout_token=${token}`, {
      headers: { ...form, 'content-encoding': 'gzip' } as never,
    }),
    'too large': await logOut(acme, `logout_token=${token}&x=${'x'.repeat(33_000)}`),
    'for no audience': await logOut(acme, `logout_token=${await logoutToken({ aud: [] })}`),
    'not yet valid': await logOut(acme, `logout_token=${await logoutToken({ nbf: seconds() + 3600 })}`),
    'from six minutes ahead': await logOut(acme, `logout_token=${await logoutToken({ iat: seconds() + 400 })}`),
    'with an ID token': await logOut(acme, `logout_token=${await logoutToken({ events: undefined, nonce: 'n' })}`),
  }
  for (const [name, { statusCode }] of Object.entries(others)) {
    t.ok(statusCode >= 400 && statusCode < 500, `${name}: ${statusCode}`)
  }
  t.match(others['too large'].json(), { error: 'invalid_request', error_description: /32768 bytes/ })
  const nobody = { ...acme, workspaceId: '0190a6c8-8f00-7000-8000-000000000001' }
  t.match((await logOut(nobody, `logout_token=${token}`)).json(), { error: 'invalid_request' }, 'no such workspace')
  t.equal((await logOut(acme, `logout_token=${await logoutToken({ sub: 'U-ANA' })}`)).statusCode, 200)
  t.equal((await logOut(acme, `logout_token=${await logoutToken({ sub: 'u-nobody' })}`)).statusCode, 200)
  t.ok(await ana.isIn(), 'another subject')
  const capitals = { ...acme, workspaceId: acme.workspaceId.toUpperCase() }
  t.equal((await logOut(capitals, `logout_token=${token}`)).statusCode, 200, 'an id in capitals is the same')
  t.notOk(await ana.isIn())
})

t.test('a logout token comes before the hand-off is redeemed, at two replicas at once, or late', async t => {
  const acme = await makeAcme()
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme)
  t.equal((await logOut(acme, `logout_token=${await logoutToken()}`)).statusCode, 200)
  t.match((await browser.redeem(exchangeCode!)).json(), { code: 'exchange_code_invalid' })

  const replica = await makeSignInWorld(t, { replicaOf: world })
  const ana = await signedIn(acme)
  const last = (await entriesOf(test, acme.workspaceId)).at(-1)!.id
  const token = `logout_token=${await logoutToken()}`
  const replies = await Promise.all([app, replica.test.app, app].map(at => logOut(acme, token, { at })))
  t.same(
    replies.map(reply => reply.statusCode),
    [200, 200, 200],
  )
  t.notOk(await ana.isIn())
  t.match(await entriesOf(test, acme.workspaceId, last), [{ action: 'session.ended_by_provider' }], 'told once')

  await signedIn(acme)
  await ask(acme, 'POST', `/members/${acme.ids.ana}/deactivate`)
  t.equal((await logOut(acme, `logout_token=${await logoutToken()}`)).statusCode, 200, 'whose access is over')
  await sweepExpired(db)
  t.equal((await logOut(acme, token)).statusCode, 200)
})

t.test('a hint that was made for the client before is not sent along to sign out', async t => {
  const acme = await makeAcme()
  const ana = await signedIn(acme)
  idp.clients.set('assist-next', 'next-secret')
  await acme.configure({ clientId: 'assist-next', clientSecret: 'next-secret' })
  const out = await app.inject({ method: 'DELETE', url: '/v1/session', headers: ana.bearer })
  const { searchParams } = new URL(out.json().endSessionUrl)
  t.equal(searchParams.get('client_id'), 'assist-next')
  t.notOk(searchParams.has('id_token_hint'), 'providers refuse the two together')
  const bea = await signedIn(acme)
  const { endSessionUrl } = (await app.inject({ method: 'DELETE', url: '/v1/session', headers: bea.bearer })).json()
  t.equal(decodeJwt(new URL(endSessionUrl).searchParams.get('id_token_hint')!).aud, 'assist-next')
})

// ---- starting at a portal

t.test('what portals add to a start: empty values, other spellings, parameters of their own', async t => {
  const acme = await makeAcme()
  const url = `/sso/${acme.workspaceId}/initiate`
  const begin = async (query: Record<string, string>) =>
    app.inject({ url: `${url}?${new URLSearchParams({ iss: idp.issuer, ...query }).toString()}` })
  for (const query of [
    { client_id: '' },
    { target_link_uri: '' },
    { login_hint: '', client_id: '', target_link_uri: '' },
    {
      login_hint: 'ana@corp.example',
      domain_hint: 'corp.example',
      tenant: 'x',
      id_token_hint: 'x',
      lti_message_hint: '1',
    },
    { target_link_uri: `https://app.assist.example/${'x'.repeat(3000)}` },
    { target_link_uri: 'app.assist.example' },
    { target_link_uri: 'https://app.assist.example:443/inbox' },
    { target_link_uri: 'HTTPS://APP.ASSIST.EXAMPLE/inbox' },
  ]) {
    const reply = await begin(query)
    t.equal(reply.statusCode, 303, JSON.stringify(query).slice(0, 60))
    const page = new URL(reply.headers.location!)
    t.equal(new URL(page.searchParams.get('return_to')!).origin, origin)
  }
  for (const iss of [`${idp.issuer} `, encodeURIComponent(idp.issuer), `${idp.issuer}#`, `${idp.issuer}?`, 'null']) {
    t.match((await begin({ iss })).headers.location, /\/sso\/error\?code=sso_issuer_mismatch&ref=/, iss)
  }
  for (const payload of ['', 'iss', `iss=${'x'.repeat(2000)}`, '%', 'iss=%ff', '__proto__=x&constructor=y']) {
    const reply = await app.inject({ method: 'POST', url, headers: form, payload })
    t.match(reply.headers.location, /\/sso\/error\?code=/, payload.slice(0, 20))
  }
  const inUrl = { method: 'POST', url: `${url}?iss=${encodeURIComponent(idp.issuer)}`, headers: form } as const
  t.ok(errorCodeOf(await app.inject({ ...inUrl, payload: 'login_hint=ana' })), 'a form has iss in the form')
  t.equal((await app.inject({ method: 'PUT', url })).statusCode, 404)
})

// ---- the way in

const approve = async ({ url }: Acme, domain: string) =>
  app.inject({ method: 'PUT', url: `${url}/domains/${domain}`, headers: serviceHeaders })
const options = async (email: string) =>
  (await app.inject({ method: 'POST', url: '/v1/sign-in-options', headers: serviceHeaders, payload: { email } })).json()

t.test(
  'an address that only a careless reader takes for one does not open the password of an enforced domain',
  async t => {
    const [acme, open] = [await makeAcme(), await makeAcme()]
    await approve(acme, 'closed.example')
    await approve(open, 'open.example')
    await db
      .updateTable('sso_configs')
      .set({ enforced_at: sql`now()` })
      .where('workspace_id', '=', acme.workspaceId)
      .execute()
    for (const spelling of ['ana@D', ' ana@D ', 'ana@D\u00a0', 'ANA@D']) {
      const closed = await options(spelling.replace('D', 'closed.example'))
      t.match(closed, { passwordOpen: false, sso: { workspaceId: acme.workspaceId } }, JSON.stringify(spelling))
      t.match(await options(spelling.replace('D', 'open.example')), { passwordOpen: true })
    }
    t.match(await options('ana@CLOSED.example'), { passwordOpen: false })
    const unreadable = [
      'ana@D.',
      'Ana <ana@D>',
      '"ana"@D',
      'ana@D (Ana)',
      'ana@D,bea@elsewhere.example',
      'bea@elsewhere.example;ana@D',
      'mailto:ana@D',
      'ana@b@D',
      'ana\u200b@D',
      '"a@b"@D',
      '=?utf-8?q?ana?=@D',
      'ana@\u00adD',
      'ana@(x)D',
      'ana%40D',
      'ana @D',
      'D',
      '@',
    ].flatMap(spelling => ['closed.example', 'open.example'].map(domain => spelling.replace('D', domain)))
    for (const email of [...unreadable, 'ana@ｃlosed.example', 'ana@closed。example']) {
      t.match(await options(email), { status: 400, code: 'invalid', errors: [{ pointer: '/email' }] }, email)
    }
    for (const email of ['ana@sub.closed.example', 'ana@closed.example.org', 'ana@xclosed.example']) {
      t.same(await options(email), { sso: null, passwordOpen: true }, email)
    }
  },
)

t.test('the question is read strictly', async t => {
  const acme = await makeAcme()
  const status = async (payload: unknown, headers = {}) =>
    (
      await app.inject({
        method: 'POST',
        url: '/v1/sign-in-options',
        headers: { 'content-type': 'application/json', ...headers },
        payload: JSON.stringify(payload),
      })
    ).statusCode
  for (const payload of [{}, [], null, 'x', { email: '' }, { email: '  ' }, { email: 5 }, { email: ['a@b.example'] }]) {
    t.equal(await status(payload), 400, JSON.stringify(payload))
  }
  for (const payload of [
    { email: `${'x'.repeat(2001)}@b.example` },
    { email: 'a\0@b.example' },
    { email: 'a@b.example', more: 1 },
    { workspaceId: 'acme' },
    { workspaceId: null, email: 'a@b.example' },
  ]) {
    t.equal(await status(payload), 400, JSON.stringify(payload).slice(0, 40))
  }
  t.equal(await status({ workspaceId: acme.workspaceId.toUpperCase() }), 200)
  t.equal(await status({ email: 'a@b.example' }, { authorization: 'Bearer x' }), 401, 'who shows a token means it')
  t.equal((await app.inject('/v1/sign-in-options')).statusCode, 404)
})

// ---- domains

t.test('a record is found as DNS consoles publish it, and is nobody else’s and nowhere else', async t => {
  const acme = await makeAcme()
  const claim = async (domain: string) => (await ask(acme, 'POST', '/domains', { domain })).json()
  const verify = async (domain: string) => (await ask(acme, 'POST', `/domains/${domain}/verify`)).json()
  const forms: Record<string, (value: string) => string[]> = {
    plain: value => [value],
    quoted: value => [`"${value}"`],
    blanks: value => [`  ${value}\t`],
    among: value => ['v=spf1 -all', value, 'assist-domain-verification=older'],
  }
  for (const [name, publish] of Object.entries(forms)) {
    const domain = `${name}.odd.example`
    const { proof } = await claim(domain)
    dns.records.set(proof.name, publish(proof.value))
    t.match(await verify(domain), { verifiedBy: 'dns' }, name)
  }
  const aged = { checked_at: new Date(Date.now() - 48 * 3_600_000).toISOString() }
  await db.updateTable('domains').set(aged).where('domain', '=', 'quoted.odd.example').execute()
  await recheckDomains({ db, resolveTxt: createTxtResolver(config), recheckHours: 24, graceHours: 72 })
  t.match(
    (await ask(acme, 'GET', '/domains/quoted.odd.example')).json(),
    { missingSince: null },
    'also when looked at again',
  )

  const wrong: Record<string, (value: string) => string[]> = {
    'in capitals': value => [value.toUpperCase()],
    'inside of another': value => [`x ${value} y`],
    'cut off': value => [value.slice(0, -1)],
    longer: value => [`${value}x`],
    'the name only': value => [value.split('=', 1)[0]!],
    'in two records': value => [value.slice(0, 20), value.slice(20)],
  }
  const { proof } = await claim('wrong.example')
  for (const [name, publish] of Object.entries(wrong)) {
    dns.records.set(proof.name, publish(proof.value))
    t.match(
      await verify('wrong.example'),
      { status: 409, code: 'domain_not_proven', detail: /needs a TXT record/ },
      name,
    )
  }
  dns.records.delete(proof.name)
  dns.records.set('wrong.example', [proof.value])
  t.match(await verify('wrong.example'), { code: 'domain_not_proven', detail: /there is none/ }, 'at the apex')
  dns.failing.add(proof.name)
  t.match(await verify('wrong.example'), { status: 502, code: 'domain_dns_failed' })
  dns.failing.delete(proof.name)

  const globex = await makeAcme()
  const theirs = (await ask(globex, 'POST', '/domains', { domain: 'wrong.example' })).json()
  dns.records.set(proof.name, [theirs.proof.value])
  t.match(await verify('wrong.example'), { code: 'domain_not_proven' }, 'the record of another workspace')
  await ask(acme, 'DELETE', '/domains/wrong.example')
  const again = await claim('wrong.example')
  t.not(again.proof.value, proof.value)
  dns.records.set(proof.name, [proof.value])
  t.match(await verify('wrong.example'), { code: 'domain_not_proven' }, 'the record of the claim before')
  for (const domain of [
    'corp.example.',
    'a b.example',
    '*.corp.example',
    '_dmarc.corp.example',
    '1.2.3.4',
    'ｃorp.example',
  ]) {
    t.match((await ask(acme, 'POST', '/domains', { domain })).json(), { status: 400 }, domain)
  }
})

t.test(
  'oidc-dom-009: a list of domains is stored in one spelling, or refused with the entry that is at fault',
  async t => {
    const acme = await makeAcme()
    const save = async (...allowedDomains: unknown[]) => (await acme.configure({ allowedDomains })).json()
    t.match(await save('@corp.example', 'Corp.Example', ' corp.example '), { allowedDomains: ['corp.example'] })
    for (const entry of [
      'https://corp.example/',
      '*.corp.example',
      '',
      ' ',
      '@',
      'com',
      '.com',
      'x'.repeat(300),
      `${'x'.repeat(64)}.example`,
      `${'x.'.repeat(127)}example`,
    ]) {
      const refused = await save('corp.example', entry)
      t.match(refused, { status: 400, code: 'sso_domain_invalid', errors: [{ pointer: '/allowedDomains/1' }] }, entry)
      t.match(refused.detail, JSON.stringify(entry.slice(0, 50)).slice(0, -1), 'it is named')
    }
    for (const entry of [5, null, ['corp.example'], {}]) t.match(await save(entry), { status: 400, code: 'invalid' })
    t.match((await ask(acme, 'GET', '/sso-config')).json(), { allowedDomains: ['corp.example'] })
  },
)

t.test('what would break an enforced workspace is refused also while it is being enforced', async t => {
  const acme = await makeAcme()
  await signedIn(acme)
  const { proof } = (await ask(acme, 'POST', '/domains', { domain: 'racing.example' })).json()
  dns.records.set(proof.name, [proof.value])
  await ask(acme, 'POST', '/domains/racing.example/verify')
  const added = (await ask(acme, 'POST', '/sso-config/credentials', { kind: 'secret', clientSecret: 'x' })).json()
  const { items } = (await ask(acme, 'GET', '/sso-config/credentials')).json()
  const working = items.find((each: { id: string }) => each.id !== added.id)
  const strict = { sessionHours: 8, sessionIdleMinutes: 60, maxAgeSeconds: 60, acrValues: [] }
  for (const [method, path, payload] of [
    ['PUT', '/sign-in-policy', strict],
    ['DELETE', '/domains/racing.example', undefined],
    ['DELETE', `/sso-config/credentials/${working.id}`, undefined],
    ['DELETE', '/sso-config', undefined],
  ] as const) {
    const enforcing = await db.startTransaction().execute()
    const stored = enforcing.updateTable('sso_configs').where('workspace_id', '=', acme.workspaceId)
    await stored.set({ enforced_at: sql`now()` }).execute()
    const breaking = ask(acme, method, path, payload)
    for (let tries = 0, waiting = 0; tries < 300 && waiting === 0; tries++) {
      await new Promise(resolve => setTimeout(resolve, 10))
      const { rows } = await sql`
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`.execute(db)
      waiting = rows.length
    }
    await enforcing.commit().execute()
    t.match((await breaking).json(), { status: 409, code: 'sso_enforced' }, path)
    const lifted = db.updateTable('sso_configs').where('workspace_id', '=', acme.workspaceId)
    await lifted.set({ enforced_at: null }).execute()
  }
})

// ---- recovery

t.test('a recovery code is read as people type and copy it, and belongs to one owner of one workspace', async t => {
  const acme = await makeAcme()
  const { session } = await signedIn(acme, { sub: 'u-olga', email: 'owner@corp.example' })
  const owner = { authorization: `Bearer ${session.accessToken}` }
  const post = async (path: string) =>
    app.inject({ method: 'POST', url: `${acme.url}/sso-config/${path}`, headers: owner })
  const { codes } = (await post('recovery-codes')).json<{ codes: string[] }>()
  const put = async (payload: object) =>
    app.inject({ method: 'PUT', url: `${acme.url}/sso-config/enforcement`, headers: owner, payload })
  for (const lockedOutMembers of ['0', -1, 0.5, null]) t.equal((await put({ lockedOutMembers })).statusCode, 400)
  t.equal((await put({ lockedOutMembers: 0, force: true })).statusCode, 400)
  t.equal((await put({ lockedOutMembers: 1 })).json().code, 'sso_members_locked_out', 'another number than there are')
  t.equal((await put({})).statusCode, 200)
  t.equal((await put({})).statusCode, 200, 'again')
  const enabled = (await entriesOf(test, acme.workspaceId)).filter(each => each.action === 'sso_enforcement.enabled')
  t.equal(enabled.length, 1)

  let visits = 0
  const recover = async (email: string, code: string, workspaceId = acme.workspaceId) =>
    (
      await app.inject({
        method: 'POST',
        url: '/v1/recovery-sessions',
        headers: { 'sec-fetch-site': 'cross-site' },
        payload: { workspaceId, email, code },
        remoteAddress: `203.0.113.${visits++}`,
      })
    ).statusCode
  const olga = 'owner@corp.example'
  const ways: [string, string, string?][] = [
    [olga, codes[0]!.replaceAll('-', '–')],
    [olga, codes[1]!.replaceAll('-', '\u2011')],
    [olga, `  ${codes[2]!.replaceAll('-', '')}\n`],
    [` ${olga} `, codes[3]!.replaceAll('-', '\u00a0')],
    [olga.toUpperCase(), `\u200b${codes[4]!}`],
    [olga, codes[5]!, acme.workspaceId.toUpperCase()],
  ]
  const globex = await makeAcme()
  for (const [email, code, workspaceId] of ways) {
    t.equal(await recover(email, code, globex.workspaceId), 403, 'at another workspace it opens nothing')
    t.equal(await recover('ana@corp.example', code), 403, 'nor for somebody else')
    t.equal(await recover(email, code, workspaceId), 201, JSON.stringify(code))
    t.equal(await recover(email, code, workspaceId), 403, 'once')
  }
  for (const code of [
    '',
    '-',
    codes[6]!.slice(0, -1),
    `${codes[6]!}0`,
    codes[6]!.split('').toReversed().join(''),
    '%',
  ]) {
    t.ok([400, 403].includes(await recover(olga, code)), JSON.stringify(code))
  }
  const many = await Promise.all(Array.from({ length: 8 }, async () => recover(olga, codes[7]!)))
  t.equal(many.filter(status => status === 201).length, 1, 'of many at once one')
})

// ---- sessions

const sessionStatus = async (headers: Record<string, string>) =>
  (await app.inject({ url: '/v1/session', headers })).statusCode

t.test('a session is shown by its own token alone, in any usual spelling of the header', async t => {
  const acme = await makeAcme()
  const { session, bearer } = await signedIn(acme)
  const token = session.sessionToken as string
  for (const authorization of [`bearer ${token}`, `BEARER ${token}`])
    t.equal(await sessionStatus({ authorization }), 200)
  for (const authorization of [
    token,
    `Bearer${token}`,
    `Bearer  ${token}`,
    `Basic ${btoa(`x:${token}`)}`,
    `Bearer ${token}x`,
    `Bearer ${token.slice(0, -1)}`,
    `Bearer ${token.toLowerCase()}`,
    `Bearer ${token.replace('ses_', 'exc_')}`,
    `Bearer ${session.accessToken}`,
    'Bearer null',
    'Bearer ',
    `Bearer ${session.id}`,
  ]) {
    t.equal(await sessionStatus({ authorization }), 401, authorization.slice(0, 12))
  }
  for (const cookie of [`assist-session=${token}`, `__Host-assist-session=`, `__host-assist-session=${token}`]) {
    t.equal(await sessionStatus({ cookie }), 401, cookie.slice(0, 24))
  }
  t.equal(await sessionStatus({ cookie: `x=1; __Host-assist-session=${token}; y=2` }), 200)
  t.equal(await sessionStatus({ cookie: `__Host-assist-session=wrong`, ...bearer }), 200, 'a bearer goes before')

  const end = async (id: string) =>
    (await app.inject({ method: 'DELETE', url: `/v1/sessions/${id}`, headers: bearer })).statusCode
  const bea = await signedIn(acme, { sub: 'u-bea', email: 'bea@corp.example' })
  t.equal(await end(bea.session.id), 404, 'that of somebody else')
  t.equal(await end('x'), 400)
  const second = await signedIn(acme)
  t.equal(await end((second.session.id as string).toUpperCase()), 204)
  t.equal(await end(second.session.id), 404, 'again')
  t.ok(await bea.isIn())
})

t.test('a code is redeemed by exactly what it was made for', async t => {
  const acme = await makeAcme()
  const attempt = async (change: (good: { code: string; verifier: string }) => object, headers = {}) => {
    const browser = makeBrowser(world)
    const { exchangeCode } = await browser.signIn(acme)
    const payload = change({ code: exchangeCode!, verifier: browser.verifier })
    return (await app.inject({ method: 'POST', url: '/v1/sessions', headers, payload })).statusCode
  }
  t.equal(await attempt(good => good), 201, 'who names no origin is no browser')
  t.equal(await attempt(good => good, { origin }), 201)
  for (const header of [
    'null',
    'https://app.assist.example.evil.example',
    'http://app.assist.example',
    `${origin}:443`,
  ]) {
    t.equal(await attempt(good => good, { origin: header }), 403, header)
  }
  for (const change of [
    (good: { code: string; verifier: string }) => ({ ...good, code: `${good.code}\n` }),
    (good: { code: string; verifier: string }) => ({ ...good, code: good.code.toUpperCase() }),
    (good: { code: string; verifier: string }) => ({ ...good, verifier: `${good.verifier}=` }),
    (good: { code: string; verifier: string }) => ({ ...good, verifier: good.verifier.toUpperCase() }),
    (good: { code: string; verifier: string }) => ({ ...good, more: true }),
    (good: { code: string; verifier: string }) => ({ code: good.code }),
  ]) {
    t.equal(await attempt(change), 400)
  }
})

// ---- our own keys

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

t.test(
  'the next signing key is published before it signs, made once, and needs no waiting where it is the only one',
  async t => {
    const acme = await makeAcme()
    await db.deleteFrom('signing_keys').execute()
    const kidOf = async (at: typeof world) => {
      const browser = makeBrowser(at)
      const { accessToken } = (await browser.redeem((await browser.signIn(acme)).exchangeCode!)).json()
      return decodeProtectedHeader(accessToken).kid
    }
    const published = async (at: typeof world) =>
      (await at.test.app.inject('/.well-known/jwks.json')).json<{ keys: { kid: string }[] }>().keys.map(key => key.kid)
    const first = await kidOf(await makeSignInWorld(t, { replicaOf: world }))
    await db
      .updateTable('signing_keys')
      .set({ created_at: sql`now() - interval '29 days 1 hour'`, retires_at: sql`now() + interval '23 hours'` })
      .execute()
    const replicas = [await makeSignInWorld(t, { replicaOf: world }), await makeSignInWorld(t, { replicaOf: world })]
    t.same(await Promise.all(replicas.map(kidOf)), [first, first], 'the old one signs on')
    const [keys, others] = await Promise.all(replicas.map(published))
    t.equal(keys!.length, 2, 'and the next is there to be fetched')
    t.same(new Set(keys), new Set(others))
    const next = keys!.find(kid => kid !== first)!

    await db
      .updateTable('signing_keys')
      .set({ retires_at: sql`now()` })
      .where('kid', '=', first!)
      .execute()
    const later = await makeSignInWorld(t, { replicaOf: world })
    t.equal(await kidOf(later), next)
    t.equal((await published(later)).length, 2, 'what the old one has signed is still verified')
  },
)

t.test('an access token is ours by signature, type, issuer, audience and time', async t => {
  const acme = await makeAcme()
  const { session } = await signedIn(acme, { sub: 'u-olga', email: 'owner@corp.example' })
  const token = session.accessToken as string
  const status = async (bearer: string) =>
    (await app.inject({ url: `${acme.url}/members`, headers: { authorization: `Bearer ${bearer}` } })).statusCode
  t.equal(await status(token), 200)
  const [header, claims, signature] = token.split('.') as [string, string, string]
  const { kid } = decodeProtectedHeader(token)
  const [jwk] = (await app.inject('/.well-known/jwks.json')).json().keys
  const hmac = (head: string) =>
    createHmac('sha256', JSON.stringify(jwk)).update(`${head}.${claims}`).digest('base64url')
  const hs256 = encode({ alg: 'HS256', kid, typ: 'at+jwt' })
  const own = await new SignJWT(decodeJwt(token))
    .setProtectedHeader({ alg: 'HS256', kid: 'x', typ: 'at+jwt' })
    .sign(Buffer.alloc(32, 1))
  for (const [name, forged] of Object.entries({
    'no algorithm': `${encode({ alg: 'none', kid, typ: 'at+jwt' })}.${claims}.`,
    'the public key as a secret': `${hs256}.${claims}.${hmac(hs256)}`,
    'a key of their own': own,
    'another type': `${encode({ alg: 'ES256', kid, typ: 'JWT' })}.${claims}.${signature}`,
    'an unknown key': `${encode({ alg: 'ES256', kid: 'x', typ: 'at+jwt' })}.${claims}.${signature}`,
    'a key in the header': `${encode({ alg: 'ES256', jwk, typ: 'at+jwt' })}.${claims}.${signature}`,
    'another role': `${header}.${encode({ ...decodeJwt(token), role: 'owner', sub: 'x' })}.${signature}`,
    'no signature': `${header}.${claims}.`,
    'no claims': `${header}..${signature}`,
    'a signature in DER': `${header}.${claims}.${Buffer.from('30060201010201', 'hex').toString('base64url')}`,
    nothing: '..',
  })) {
    t.equal(await status(forged), 401, name)
  }
})

// ---- dates

const inHours = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString()

t.test('reminders go by the date that stands, however it got there', async t => {
  const acme = await makeAcme()
  const [{ id }] = (await ask(acme, 'GET', '/sso-config/credentials')).json().items
  const set = async (expiresAt: unknown) => ask(acme, 'PATCH', `/sso-config/credentials/${id}`, { expiresAt })
  const reminded = async () =>
    (await entriesOf(test, acme.workspaceId))
      .filter(each => /credential\.expir/.test(each.action))
      .map(each => (each.detail as { daysBefore: number }).daysBefore)
  for (const wrong of ['2027-11-25', '2027-11-25T00:00:00', '25.11.2027', '', 5, '2027-02-30T00:00:00Z', 'never', {}]) {
    t.equal((await set(wrong)).statusCode, 400, JSON.stringify(wrong))
  }
  const expected: number[] = []
  for (const [hours, due] of [
    [31 * 24, undefined],
    [30 * 24 - 1, 30],
    [8 * 24, 30],
    [7 * 24 - 1, 7],
    [25, 7],
    [23, 1],
    [-1, 0],
    [-24 * 365, 0],
    [24 * 365 * 50, undefined],
  ] as const) {
    t.equal((await set(inHours(hours))).statusCode, 200)
    await Promise.all([remindOfExpiry(db), remindOfExpiry(db)])
    await remindOfExpiry(db)
    if (due !== undefined) expected.push(due)
    t.same(await reminded(), expected, `${hours} hours ahead`)
  }
  await set(inHours(1))
  await set(null)
  await remindOfExpiry(db)
  t.same(await reminded(), expected, 'no date, no reminder')
  await set('9999-12-31T23:59:59Z')
  await remindOfExpiry(db)
  t.same(await reminded(), expected)
  t.match(
    (await ask(acme, 'GET', '/sso-config/enforcement')).json(),
    { enforced: false },
    'and the verdict can be told',
  )
})
