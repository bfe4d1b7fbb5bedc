import t, { type Test } from 'tap'
import { makeScriptedProvider, type Answer } from '../helpers/scripted-provider.ts'
import {
  entriesOf,
  expectRefusal,
  expectSignedIn,
  makeBrowser,
  makeSignInWorld,
  type Acme,
  makeTestProof,
  testCodeOf,
} from '../helpers/sign-in.ts'

/** What providers, portals and strangers send beyond the cases that have an id: other types, encodings, orders and sizes. */
const world = await makeSignInWorld(t)
const { test, idp, network, makeAcme } = world
const { app } = test
t.beforeEach(() => idp.reset())

const seconds = () => Math.floor(Date.now() / 1000)
const half = '\ud83d'
const smile = '😀'

/** An answer as it stands. */
const raw =
  (status: number, headers: Record<string, string>, body: string): Answer =>
  (_request, response) =>
    void response.writeHead(status, headers).end(body)

/** Sends the claims as well as the plain ones, and expects the refusal, or undefined: ana signs in. */
async function signsInWith(t: Test, acme: Acme, { claims, code }: { claims: object; code: string | undefined }) {
  idp.script.claims = plain => ({ ...plain, ...claims })
  const act = () => makeBrowser(world).signIn(acme)
  if (code === undefined) return void (await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act }))
  const { detail } = await expectRefusal(t, world, { acme, code, act })
  return detail
}

t.test('a claim of another type than the specification has is refused by its name', async t => {
  const acme = await makeAcme()
  const faults: Record<string, unknown[]> = {
    sub: [12345, ['u-ana'], null, {}, 'u-ana\n', 'u\0', 'ü', 'x'.repeat(256)],
    iss: [[idp.issuer], `${idp.issuer}/`, idp.issuer.toUpperCase(), null],
    aud: [
      [],
      ['assist-acme', 'other'],
      ['assist-acme', 'assist-acme'],
      5,
      null,
      { 0: 'assist-acme' },
      [['assist-acme']],
    ],
    azp: [null, ['assist-acme'], ''],
    nonce: [['x'], 1, '', null],
    exp: [String(seconds() + 300), null, undefined, -1],
    iat: [String(seconds()), null, undefined, seconds() * 1000, 1e300],
    nbf: [seconds() + 60, String(seconds()), null],
    auth_time: ['yesterday', -5, null],
    session_expiry: [String(seconds() + 600), seconds() + 0.5, seconds() - 1, 0, seconds() * 1000, 1e300],
  }
  for (const [name, values] of Object.entries(faults)) {
    for (const value of values) {
      await t.test(`${name} ${JSON.stringify(value)?.slice(0, 40)}`, async t => {
        const detail = await signsInWith(t, acme, { claims: { [name]: value }, code: 'sso_token_invalid' })
        t.equal(detail?.reason, name)
      })
    }
  }
})

t.test('what only describes the sign-in may be odd: it is kept where it can be, and never stops anybody', async t => {
  const acme = await makeAcme()
  const odd = [
    { name: ['Ana'] },
    { name: `\0${half}` },
    { name: smile.repeat(3_000) },
    { acr: ['a'], amr: 'pwd' },
    { acr: `a\0${half}`, amr: [{ method: 'pwd' }, null, half, 5] },
    { amr: Array.from({ length: 1_000 }, () => 'pwd') },
    { auth_time: seconds() - 0.5 },
    { auth_time: 1e15 },
    { sid: 5 },
    { sid: 'x'.repeat(300) },
    { session_expiry: null },
    { exp: seconds() + 300.5, iat: seconds() + 0.5 },
    { exp: 1e20 },
    { aud: ['assist-acme'] },
    JSON.parse('{"__proto__": {"sub": "u-olga"}, "constructor": {"prototype": {}}, "a\\u0000b": 1}') as object,
  ]
  for (const claims of odd) {
    await t.test(JSON.stringify(claims).slice(0, 50), t => signsInWith(t, acme, { claims, code: undefined }))
  }
})

t.test('a policy holds against odd claims, and the entry can be written', async t => {
  const acme = await makeAcme()
  const policy = { sessionHours: 12, sessionIdleMinutes: 60, maxAgeSeconds: 600, acrValues: ['phr'] }
  await app.inject({ method: 'PUT', url: `${acme.url}/sign-in-policy`, headers: acme.headers, payload: policy })
  const auth_time = seconds()
  for (const acr of [`phr\0`, `phr${half}`, `${'a'.repeat(254)}${smile}`, ['phr'], 'PHR', 'phr phrh', '']) {
    await t.test(JSON.stringify(acr).slice(0, 20), t =>
      signsInWith(t, acme, { claims: { auth_time, acr }, code: 'sso_authentication_too_weak' }),
    )
  }
  for (const value of [auth_time * 1000, 1e300, 0, 0.5]) {
    const claims = { auth_time: value, acr: 'phr' }
    await signsInWith(t, acme, { claims, code: 'sso_authentication_too_old' })
  }
  await signsInWith(t, acme, { claims: { auth_time: auth_time - 0.5, acr: 'phr' }, code: undefined })
})

t.test('an address that two readers could read as two is nobody', async t => {
  const acme = await makeAcme({ autoProvision: true })
  await app.inject({
    method: 'POST',
    url: `${acme.url}/members`,
    headers: acme.headers,
    payload: { email: 'kim@corp.example' },
  })
  const invalid = [
    'ana@corp.example/x',
    'ana@corp.example?x',
    'ana@corp.example#x',
    'ana@corp.example:443',
    'ana@corp%2eexample',
    'ana@%63orp.example',
    'ana@corp。example',
    'ana@ｃorp.example',
    'ana@ⓒorp.example',
    'ana@corp\u00ad.example',
    'ana@corp.example.',
    'ana@co_rp.example',
    'ana@corp .example',
    `ana@corp.example${half}`,
    `${half}na@corp.example`,
    'a\u200bna@corp.example',
    '\u212aim@corp.example',
    'ana＠corp.example',
    'mailto:ana@corp.example',
    'ana@corp.example,bea@corp.example',
    'ana@corp.example;bea@corp.example',
    '"ana"@corp.example',
    'ana\\@corp.example',
    'ana@[127.0.0.1]',
    'ana@127.0.0.1',
    `${'x'.repeat(300)}@corp.example`,
  ]
  for (const email of invalid) {
    await t.test(JSON.stringify(email).slice(0, 40), t =>
      signsInWith(t, acme, { claims: { sub: 'stranger', email }, code: 'sso_email_invalid' }),
    )
  }
  for (const email of ['ana@сorp.example', 'ana@corp.example.evil.example']) {
    await signsInWith(t, acme, { claims: { sub: 'stranger', email }, code: 'sso_domain_not_allowed' })
  }
  for (const email_verified of ['True', 'TRUE', 1, '1', 'yes', [], [true], {}, 0, '']) {
    await signsInWith(t, acme, { claims: { sub: 'stranger', email_verified }, code: 'sso_email_unverified' })
  }
  idp.script.userinfo = ({ email, ...person }) => ({ ...person, email: [email] })
  for (const email of [null, '', 5, ['ana@corp.example'], {}]) {
    await signsInWith(t, acme, { claims: { sub: 'u-ana', email }, code: 'sso_email_missing' })
  }
})

t.test('a sign-in test shows whatever a claim is, and its report can be stored', async t => {
  const acme = await makeAcme()
  const tests = `${acme.url}/sso-config/sign-in-tests`
  const odd = {
    name: `${smile} Ana`,
    nickname: '\0',
    middle_name: half,
    [`${'x'.repeat(99)}${smile}`]: 1,
    'a\0b': [],
    hd: `${'x'.repeat(298)}${smile}`,
    mail: `a@${'x'.repeat(252)}${smile}`,
    acr: half,
    blank: '',
  }
  idp.script.claims = claims => ({ ...claims, ...odd })
  const { verifier, challenge } = makeTestProof()
  const created = { method: 'POST', url: tests, headers: acme.headers, payload: { challenge } } as const
  const { id, startUrl } = (await app.inject(created)).json()
  const browser = makeBrowser(world)
  const start = await browser.get(startUrl)
  const end = await browser.get(idp.authorize(start.headers.location!))
  t.match(end.headers.location, '/sso/test?')
  const use = (step: string, payload: object) =>
    app.inject({ method: 'POST', url: `${tests}/${id}/${step}`, headers: acme.headers, payload })
  const confirmation = { code: testCodeOf(end.headers.location!), verifier }
  const { status, report } = (await use('confirm', confirmation)).json()
  t.equal(status, 'passed')
  const shown = Object.fromEntries(
    report.claims.map((each: { name: string; value: string }) => [each.name, each.value]),
  )
  t.match(shown, { name: `${smile}… (6 characters)`, nickname: '… (1 characters)', email: 'a…@corp.example' })
  const claims = await use('claims', { verifier })
  t.match(claims.json().claims, { name: `${smile} Ana`, nickname: '\0' })
})

t.test('key sets with members that say nothing, or nothing of use, still give the key that fits', async t => {
  type Keys = Record<string, unknown>[]
  const sets: Record<string, [(keys: Keys) => unknown, string | undefined]> = {
    'junk beside it': [keys => ({ keys: [null, 5, 'x', [], {}, ...keys], more: true }), undefined],
    'null members': [keys => ({ keys: keys.map(key => ({ ...key, use: null, alg: null, key_ops: null })) }), undefined],
    'neither use nor alg': [keys => ({ keys: keys.map(({ use: _use, alg: _alg, ...key }) => key) }), undefined],
    'padded modulus': [keys => ({ keys: keys.map(key => ({ ...key, n: `${String(key.n)}==` })) }), undefined],
    'for signing only': [keys => ({ keys: keys.map(key => ({ ...key, key_ops: ['sign'] })) }), 'sso_token_invalid'],
    'for another algorithm': [keys => ({ keys: keys.map(key => ({ ...key, alg: 'RS512' })) }), 'sso_token_invalid'],
    'a numeric kid': [keys => ({ keys: keys.map(key => ({ ...key, kid: 1 })) }), 'sso_token_invalid'],
    none: [() => ({ keys: [] }), 'sso_token_invalid'],
    'no list': [([key]) => ({ keys: { 0: key } }), 'sso_idp_error'],
    'a bare list': [keys => keys, 'sso_idp_error'],
  }
  for (const [name, [change, code]] of Object.entries(sets)) {
    await t.test(name, async t => {
      const own = await makeScriptedProvider(t, {
        network,
        issuer: `https://${name.replaceAll(' ', '-')}.corp.example`,
      })
      const acme = await makeAcme({ issuer: own.issuer })
      own.script.jwks = jwks => change(jwks.keys)
      t.equal((await makeBrowser({ test, idp: own }).signIn(acme)).code, code)
    })
  }
})

t.test('a discovery document that is odd is refused with the member that is at fault', async t => {
  const acme = await makeAcme()
  const save = () => acme.configure({ issuer: idp.issuer })
  const faults: [string, (document: Record<string, unknown>) => unknown, RegExp][] = [
    ['sso_discovery_invalid', each => ({ ...each, issuer: `${idp.issuer}/\0` }), /issuer is malformed/],
    ['sso_discovery_invalid', each => ({ ...each, issuer: `${idp.issuer}/${half}` }), /issuer is malformed/],
    ['sso_discovery_invalid', each => ({ ...each, issuer: [idp.issuer] }), /issuer is malformed/],
    ['sso_issuer_mismatch', each => ({ ...each, issuer: ` ${idp.issuer}` }), /calls itself {2}https/],
    ['sso_issuer_mismatch', each => ({ ...each, issuer: 'https://IDP.corp.example' }), /IDP\.corp/],
    ['sso_issuer_mismatch', each => ({ ...each, issuer: `${idp.issuer}:443` }), /:443/],
    ['sso_discovery_invalid', each => ({ ...each, jwks_uri: '/jwks' }), /jwks_uri is malformed/],
    ['sso_discovery_invalid', each => ({ ...each, token_endpoint: 'http://idp.corp.example/token' }), /token_endpoint/],
    [
      'sso_discovery_invalid',
      each => ({ ...each, token_endpoint: 'https://u:p@idp.corp.example/t' }),
      /token_endpoint/,
    ],
    [
      'sso_discovery_invalid',
      each => ({ ...each, authorization_endpoint: 'javascript:alert(1)' }),
      /authorization_end/,
    ],
    [
      'sso_discovery_invalid',
      each => ({ ...each, end_session_endpoint: 'javascript:alert(1)' }),
      /end_session_endpoint/,
    ],
    ['sso_discovery_invalid', each => ({ ...each, id_token_signing_alg_values_supported: ['none', 'HS256'] }), /RS256/],
    ['sso_discovery_invalid', each => ({ ...each, id_token_signing_alg_values_supported: 'RS256' }), /is malformed/],
    ['sso_discovery_invalid', each => ({ ...each, response_types_supported: ['code id_token'] }), /code/],
    ['sso_discovery_invalid', each => [each], /not a JSON object/],
    ['sso_discovery_invalid', () => null, /not a JSON object/],
  ]
  for (const [code, change, detail] of faults) {
    idp.script.document = change
    t.match((await save()).json(), { status: 400, code, detail }, String(detail))
  }
  idp.script.document = document => ({
    ...document,
    authorization_endpoint: `${idp.issuer}/authorize?state=evil&tenant=1`,
  })
  t.equal((await save()).statusCode, 200)
  const { authorizationUrl } = await makeBrowser(world).start(acme)
  const query = new URL(authorizationUrl).searchParams
  t.equal(query.getAll('state').length, 1)
  t.not(query.get('state'), 'evil', 'an endpoint cannot set a parameter of ours')
  t.equal(query.get('tenant'), '1')
})

t.test('a callback in odd spelling is read once, in one way, or not at all', async t => {
  const acme = await makeAcme()
  const { workspaceId } = acme
  const spellings: [string, (url: string) => string, string | undefined][] = [
    ['the workspace in upper case', url => url.replace(workspaceId, workspaceId.toUpperCase()), undefined],
    ['the workspace percent-encoded', url => url.replace(workspaceId, `%30${workspaceId.slice(1)}`), undefined],
    ['parameters that nobody knows', url => `${url}&session_state=x%26y&response=a.b.c&id_token=a.b.c`, undefined],
    ['a broken percent sign elsewhere', url => `${url}&x=%zz`, undefined],
    ['an empty error', url => `${url}&error=`, undefined],
    ['an empty iss', url => `${url}&iss=`, undefined],
    ['an iss with a slash', url => `${url}&iss=${idp.issuer}/`, 'sso_issuer_mismatch'],
    ['an iss in upper case', url => `${url}&iss=${idp.issuer.toUpperCase()}`, 'sso_issuer_mismatch'],
    ['an iss encoded twice', url => `${url}&iss=https%253A%252F%252Fidp.corp.example`, 'sso_issuer_mismatch'],
    ['iss twice', url => `${url}&iss=${idp.issuer}&iss=${idp.issuer}`, 'sso_state_invalid'],
    ['an empty state beside it', url => `${url}&state=`, 'sso_state_invalid'],
    ['STATE', url => url.replace('state=', 'STATE='), 'sso_state_invalid'],
    ['state[]', url => url.replace('state=', 'state[]='), 'sso_state_invalid'],
    ['semicolons', url => url.replace('&', ';'), 'sso_state_invalid'],
    ['a fragment', url => url.replace('?', '#'), 'sso_state_invalid'],
    ['a broken percent sign in state', url => url.replace('state=', 'state=%zz'), 'sso_state_invalid'],
    ['no code', url => url.replace(/code=[^&]+/, ''), 'sso_idp_error'],
    ['an empty code', url => url.replace(/code=[^&]+/, 'code='), 'sso_idp_error'],
    ['NUL in the code', url => url.replace('code=', 'code=%00'), 'sso_idp_error'],
    ['a code of 15,000 characters', url => url.replace('code=', `code=${'x'.repeat(15_000)}`), 'sso_idp_error'],
    ['an error with NUL', url => url.replace(/code=[^&]+/, 'error=%00%ff'), 'sso_idp_error'],
    ['an error in upper case', url => url.replace(/code=[^&]+/, 'error=ACCESS_DENIED'), 'sso_idp_error'],
    [
      'an error with half a character',
      url => `${url}&error=x&error_description=${'a'.repeat(199)}😀%ed%a0%80`,
      'sso_idp_error',
    ],
    ['two descriptions', url => `${url}&error=x&error_description=a&error_description=b`, 'sso_idp_error'],
  ]
  for (const [name, change, code] of spellings) {
    await t.test(name, async t => {
      const browser = makeBrowser(world)
      const asked = idp.count('token')
      const callback = change(await browser.reachCallback(acme))
      const act = () => browser.open(callback)
      if (code === undefined) await expectSignedIn(t, world, { acme, memberId: acme.ids.ana, act })
      else await expectRefusal(t, world, { acme, code, act })
      if (code !== undefined && !/code of|the code/.test(name)) t.equal(idp.count('token'), asked, 'no code is sent')
    })
  }
  for (const [name, value] of [
    ['sec-purpose', 'prefetch;prerender'],
    ['sec-purpose', 'Prefetch'],
    ['purpose', 'Prefetch'],
    ['x-moz', 'PREFETCH'],
    ['x-purpose', 'preview'],
  ] as const) {
    const browser = makeBrowser(world)
    const callback = await browser.reachCallback(acme)
    t.equal((await browser.get(callback, { headers: { [name]: value } })).statusCode, 204, value)
    t.ok((await browser.open(callback)).exchangeCode)
  }
})

t.test('oidc-ret-001, oidc-ret-003: a target with an encoded slash in front leads nowhere else either', async t => {
  const acme = await makeAcme()
  for (const returnTo of [
    '/%2fevil.example',
    '/%2F/evil.example',
    '/.//evil.example',
    '/..//evil.example',
    '／／evil.example',
  ]) {
    const { reply } = await makeBrowser(world).start(acme, { returnTo })
    t.match(reply.headers.location, /\/sso\/error\?code=sso_return_to_invalid&ref=/, returnTo)
  }
})

t.test('a logout token that is odd ends nothing by mistake, and is never an error of ours', async t => {
  const acme = await makeAcme()
  const event = 'http://schemas.openid.net/event/backchannel-logout'
  const send = async (claims: object) => {
    const now = seconds()
    const plain = {
      iss: idp.issuer,
      aud: 'assist-acme',
      iat: now,
      exp: now + 120,
      jti: `${Math.random()}`,
      sub: 'u-ana',
    }
    const token = await idp.sign({ ...plain, events: { [event]: {} }, ...claims }, { typ: 'logout+jwt' })
    const reply = await app.inject({
      method: 'POST',
      url: `/sso/${acme.workspaceId}/backchannel-logout`,
      headers: { 'content-type': 'Application/X-WWW-Form-URLencoded; charset=UTF-8' },
      payload: `logout_token=${token}&more=1`,
    })
    return reply.statusCode
  }
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: { sid: 's1' } })
  await browser.redeem(exchangeCode!)
  const isLive = async () => (await browser.get('/v1/session')).statusCode === 200
  for (const claims of [
    { sid: 's\0' },
    { sid: '' },
    { sid: ['s1'] },
    { sid: null, sub: null },
    { sub: 5 },
    { nonce: null },
    { jti: 5 },
    { exp: 'x' },
    { iat: String(seconds()) },
    { iss: `${idp.issuer}/` },
    { events: [event] },
    { events: event },
    { events: { [event]: null } },
    { events: { [event]: [] } },
  ]) {
    t.equal(await send(claims), 400, JSON.stringify(claims))
  }
  t.equal(await send({ sid: 's2' }), 200)
  t.equal(await send({ sub: 'u-olga', sid: 's1' }), 200)
  t.equal(await send({ sid: 'x'.repeat(5_000) }), 200)
  t.ok(await isLive(), 'another session of the provider, or another subject')
  t.equal(await send({ sid: null }), 200, 'null says nothing: all of the subject')
  t.notOk(await isLive())

  const json = {
    method: 'POST',
    url: `/sso/${acme.workspaceId}/backchannel-logout`,
    payload: { logout_token: 'x' },
  } as const
  t.match((await app.inject(json)).json().error_description, /as a form/)
})

t.test('a session identifier too long to keep counts as unknown: the logout token for it ends the session', async t => {
  const acme = await makeAcme()
  const sid = 'x'.repeat(300)
  const browser = makeBrowser(world)
  const { exchangeCode } = await browser.signIn(acme, { user: { sid } })
  await browser.redeem(exchangeCode!)
  const now = seconds()
  const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
  const claims = {
    iss: idp.issuer,
    aud: 'assist-acme',
    iat: now,
    exp: now + 60,
    jti: 'long',
    sub: 'u-ana',
    sid,
    events,
  }
  const payload = `logout_token=${await idp.sign(claims)}`
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  await app.inject({ method: 'POST', url: `/sso/${acme.workspaceId}/backchannel-logout`, headers, payload })
  t.equal((await browser.get('/v1/session')).statusCode, 401)
})

t.test('answers of odd form: what is JSON is read, whatever its label, and the rest is told apart', async t => {
  const json = { 'content-type': 'application/json' }
  const cases: [string, Answer, string][] = [
    ['JSON and more', raw(200, json, '{}x'), 'sso_idp_error'],
    ['nested 100,000 deep', raw(200, json, '['.repeat(100_000)), 'sso_idp_error'],
    ['a form', raw(200, { 'content-type': 'application/x-www-form-urlencoded' }, 'id_token=x'), 'sso_idp_error'],
    ['an error with 200', raw(200, json, '{"error":"invalid_grant"}'), 'sso_idp_error'],
    ['a page with 400', raw(400, { 'content-type': 'text/html' }, '<x>'), 'sso_idp_error'],
    ['an error that is no text', raw(400, json, '{"error":{"code":7}}'), 'sso_idp_error'],
    ['a code with NUL and emoji', raw(400, json, JSON.stringify({ error: `x\0${smile}${half}` })), 'sso_idp_error'],
    ['invalid_client with 400', raw(400, json, '{"error":"invalid_client"}'), 'sso_client_rejected'],
    ['invalid_client with 403', raw(403, json, '{"error":"invalid_client"}'), 'sso_client_rejected'],
    ['401 without a body', raw(401, { 'www-authenticate': 'Basic realm="x"' }, ''), 'sso_client_rejected'],
    ['unauthorized_client', raw(400, json, '{"error":"unauthorized_client"}'), 'sso_idp_error'],
    ['429', raw(429, { 'retry-after': '5' }, ''), 'sso_idp_unreachable'],
  ]
  for (const [name, answer, code] of cases) {
    await t.test(name, async t => {
      const acme = await makeAcme()
      idp.script.answer.token = answer
      await expectRefusal(t, world, { acme, code, act: () => makeBrowser(world).signIn(acme) })
    })
  }
  idp.reset()
  const acme = await makeAcme()
  for (const id_token of [5, null, '', 'abc', 'a.b.c.d.e', ['x']]) {
    idp.script.tokenReply = reply => ({ ...reply, id_token })
    t.equal((await makeBrowser(world).signIn(acme)).code, 'sso_token_invalid', JSON.stringify(id_token))
  }
  for (const more of [
    { token_type: 'bearer' },
    { token_type: 'BEARER' },
    { expires_in: '300' },
    { refresh_token: 'r' },
  ]) {
    idp.script.tokenReply = reply => ({ ...reply, ...more })
    t.ok((await makeBrowser(world).signIn(acme)).exchangeCode, JSON.stringify(more))
  }
  const refused = (await entriesOf(test, acme.workspaceId)).filter(({ action }) => action === 'sso_sign_in.refused')
  t.equal(refused.length, 6, 'each with its entry')
})

t.test('a portal that sends an empty login_hint begins a sign-in without one', async t => {
  const acme = await makeAcme()
  const query = new URLSearchParams({ iss: idp.issuer, login_hint: '', login_hint_token: 'x', ui_locales: 'de' })
  const { statusCode, headers } = await app.inject({ url: `/sso/${acme.workspaceId}/initiate?${query.toString()}` })
  t.equal(statusCode, 303)
  t.notOk(new URL(headers.location as string).searchParams.has('login_hint'))
})

t.test('domains are letters, digits, hyphens and dots, in one spelling', async t => {
  const acme = await makeAcme()
  const list = async (domain: unknown) => (await acme.configure({ allowedDomains: [domain] })).json()
  for (const domain of [
    'corp.example/',
    'corp.example/x',
    'corp.example?x',
    'corp%2eexample',
    'corp.example:443',
    'corp.example.',
    '.corp.example',
    'corp..example',
    'ｃorp.example',
    'corp。example',
    '@@corp.example',
    'user@corp.example',
    'corp example',
    'corp.example\u200b',
    'localhost',
    '127.0.0.1',
    'corp_x.example',
    '-corp.example',
  ]) {
    t.match(
      await list(domain),
      { status: 400, code: 'sso_domain_invalid', errors: [{ pointer: '/allowedDomains/0' }] },
      domain,
    )
  }
  t.match(await list('XN--BCHER-KVA.example'), { allowedDomains: ['xn--bcher-kva.example'] })
  t.match(await list('bücher.EXAMPLE'), { allowedDomains: ['xn--bcher-kva.example'] })
  t.match(await list('bu\u0308cher.example'), { allowedDomains: ['xn--bcher-kva.example'] }, 'decomposed')
})

t.test('an issuer in odd spelling is refused with the one to use, or saved in the one of the provider', async t => {
  const acme = await makeAcme()
  const save = async (issuer: string) => (await acme.configure({ issuer })).json()
  for (const typed of [
    `  ${idp.issuer}\n`,
    `${idp.issuer}/`,
    `${idp.issuer}/.well-known/openid-configuration/`,
    `${idp.issuer}/.well-known/oauth-authorization-server`,
  ]) {
    t.match(await save(typed), { issuer: idp.issuer }, JSON.stringify(typed))
  }
  for (const typed of [
    idp.issuer.toUpperCase(),
    `${idp.issuer}:443`,
    'https:idp.corp.example',
    'https:\\\\idp.corp.example',
    'https://idp.cor\np.example',
    `${idp.issuer}\u200b`,
    'https://@idp.corp.example',
  ]) {
    t.match(await save(typed), { code: 'sso_issuer_mismatch', detail: /Use https:\/\/idp\.corp\.example as/ }, typed)
  }
  t.match(
    (await save('idp.corp.example/.well-known/openid-configuration')).detail,
    /such as https:\/\/idp.corp.example\.$/,
  )
  t.match((await save('accounts.google.com')).detail, /such as https:\/\/accounts.google.com\.$/)
  for (const typed of [`<${idp.issuer}>`, `"${idp.issuer}"`, 'x', 'https://', `${idp.issuer}?`, `${idp.issuer}#`]) {
    t.equal((await save(typed)).code, 'sso_issuer_invalid', typed)
  }
})
