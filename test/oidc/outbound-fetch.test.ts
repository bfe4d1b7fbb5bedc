import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { createOutboundFetch, OutboundError, type OutboundOptions } from '../../src/oidc/outbound-fetch.ts'
import { isPublicAddress } from '../../src/oidc/public-address.ts'
import { makeNetwork } from '../helpers/network.ts'
import { makeRelyingParty, refusal } from '../helpers/relying-party.ts'
import * as scripted from '../helpers/scripted-provider.ts'
import { makeScriptedProvider } from '../helpers/scripted-provider.ts'

const discovery = 'https://idp.corp.example/.well-known/openid-configuration'

async function fault(work: Promise<unknown>): Promise<string> {
  const outcome = await work.catch((error: unknown) => error)
  return outcome instanceof OutboundError ? outcome.fault : `not refused: ${String(outcome)}`
}

/** A provider, and the service towards it. */
async function makeWorld(t: Test, changes: Partial<OutboundOptions> = {}) {
  const idp = await makeScriptedProvider(t)
  const { network } = idp
  const relyingParty = makeRelyingParty(t, { ...network.outbound, ...changes })
  return { idp, network, ...relyingParty }
}

t.test('oidc-ssrf-001: the metadata address of a cloud is refused for its http, and nothing is connected', async t => {
  const { providers, network } = await makeWorld(t)
  const { code } = await refusal(providers.inspect('http://169.254.169.254/latest/meta-data'))
  t.equal(code, 'sso_issuer_insecure')
  t.same([network.lookups, network.connections], [[], []])
})

const inside = ['10.0.0.5', '192.168.1.1', '172.16.9.9', '127.0.0.1', '[::1]', '[fd00::1]', '100.64.0.1', '0.0.0.0']
const spellings = ['2130706433', '0177.0.0.1', '0x7f.1', '127.1', '0']
const literals = [
  ['oidc-ssrf-002: a private or loopback address is blocked over https too', inside],
  ['oidc-ssrf-009: an IPv4 address mapped into IPv6 is blocked', ['[::ffff:169.254.169.254]', '[::ffff:8.8.8.8]']],
  ['oidc-ssrf-010: other spellings of a private IPv4 address are blocked', spellings],
] as const

for (const [promise, hosts] of literals) {
  t.test(promise, async t => {
    const { providers, network } = await makeWorld(t)
    for (const host of hosts) {
      t.equal((await refusal(providers.inspect(`https://${host}/`))).code, 'sso_issuer_blocked', host)
    }
    t.same([network.lookups, network.connections], [[], []])
  })
}

const specialAddresses = `
  0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.31.0.1 192.168.0.1 192.0.0.8 192.0.2.1 192.88.99.1
  198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255
  :: ::1 ::7f00:1 ::ffff:1.1.1.1 ::ffff:0:1.1.1.1 64:ff9b::1.1.1.1 64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:10::1
  2001:20::1 2001:db8::1 2002:7f00:1:: 3fff::1 5f00::1 4000::1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1 fe80::1%eth0
  localhost idp.corp.example`
  .trim()
  .split(/\s+/)

t.test('Only global unicast addresses are public', async t => {
  for (const address of ['1.1.1.1', '8.8.8.8', '193.0.6.139', '2001:4860:4860::8888', '2606:4700:4700::1111']) {
    t.ok(isPublicAddress(address), address)
  }
  for (const address of specialAddresses) t.notOk(isPublicAddress(address), address)
})

t.test('oidc-ssrf-003: a public name with a private address is blocked before anything is connected', async t => {
  const { providers, network } = await makeWorld(t)
  network.setAddresses('idp.evil.example', ['10.0.0.5'])
  t.equal((await refusal(providers.inspect('https://idp.evil.example'))).code, 'sso_issuer_blocked')
  t.same(network.connections, [])
})

t.test('One private address among public ones blocks the name', async t => {
  const { idp, providers, network } = await makeWorld(t)
  network.setAddresses('idp.corp.example', ['203.0.113.10', '10.0.0.5'])
  t.equal((await refusal(providers.inspect(idp.issuer))).code, 'sso_issuer_blocked')
  t.same(network.connections, [])
})

t.test(
  'oidc-ssrf-004: a name that changes its address after the check is connected at the address that was checked',
  async t => {
    const { guard, idp, network } = await makeWorld(t)
    network.setAddresses('idp.corp.example', ['203.0.113.10'], ['127.0.0.1'])
    t.equal((await guard.fetch(discovery)).status, 200)
    t.equal(network.lookups.length, 1)
    t.same(network.connections[0]?.addresses, ['203.0.113.10'])
    await idp.stop()
    await idp.start()
    t.equal(await fault(guard.fetch(discovery)), 'blocked', 'the next connection is checked anew')
    t.equal(network.connections.length, 1)
  },
)

t.test('oidc-ssrf-005: a redirect is a failed discovery, and is not followed', async t => {
  const { idp, providers, network } = await makeWorld(t)
  idp.script.answer.discovery = scripted.redirectTo('http://169.254.169.254/')
  t.equal((await refusal(providers.inspect(idp.issuer))).code, 'sso_discovery_failed')
  t.equal(idp.requests.length, 1)
  t.equal(network.connections.length, 1)
})

t.test(
  'oidc-ssrf-006: a document whose token endpoint points inside is refused on saving, and gets no secret at sign-in',
  async t => {
    const { idp, providers, signIn, network } = await makeWorld(t)
    idp.script.document = document => ({ ...document, token_endpoint: 'https://10.0.0.5/token' })
    t.equal((await refusal(providers.inspect(idp.issuer))).code, 'sso_issuer_blocked')
    const checks = await providers.test(idp.issuer)
    t.match(checks.at(-1), { name: 'endpoints', result: 'fail', code: 'sso_issuer_blocked' })
    const error = await refusal(signIn(idp))
    t.match(error, { code: 'sso_idp_unreachable', detail: { stage: 'token', reason: 'blocked' } })
    t.notOk(network.connections.some(({ host }) => host === '10.0.0.5'))
  },
)

t.test('oidc-ssrf-007: a jwks_uri that points inside fails the sign-in and is not connected', async t => {
  const { idp, signIn, network } = await makeWorld(t)
  network.setAddresses('metadata.internal.example', ['169.254.169.254'])
  idp.script.document = document => ({ ...document, jwks_uri: 'https://metadata.internal.example/keys' })
  const error = await refusal(signIn(idp))
  t.match(error, { code: 'sso_idp_unreachable', detail: { stage: 'keys', reason: 'blocked' } })
  t.notOk(network.connections.some(({ host }) => host === 'metadata.internal.example'))
})

t.test('oidc-ssrf-008: a userinfo_endpoint in a private network is not called and gets no access token', async t => {
  const { idp, signIn, network } = await makeWorld(t, { allowedPorts: [443, 8443] })
  idp.script.document = document => ({ ...document, userinfo_endpoint: 'https://127.0.0.1:8443/u' })
  const { contact } = await signIn(idp, { user: { email: undefined } })
  t.match(contact.fault, { code: 'sso_idp_unreachable', detail: { stage: 'userinfo', reason: 'blocked' } })
  t.notOk(network.connections.some(({ host }) => host === '127.0.0.1'))
})

t.test('oidc-ssrf-011: a scheme other than https is refused', async t => {
  const { providers, guard, network } = await makeWorld(t)
  for (const issuer of [
    'file:///etc/passwd',
    'ftp://idp.corp.example',
    'data:application/json,{}',
    'http://idp.corp.example',
  ]) {
    t.equal((await refusal(providers.inspect(issuer))).code, 'sso_issuer_insecure', issuer)
    t.equal(await fault(guard.fetch(issuer)), 'blocked', issuer)
  }
  t.same(network.lookups, [])
})

t.test('oidc-ssrf-012: an issuer with a query, fragment or user name is refused', async t => {
  const { providers, network } = await makeWorld(t)
  const faulty = [
    'https://idp.corp.example?x=1',
    'https://idp.corp.example#a',
    'https://u:p@idp.corp.example',
    'https://idp.corp.example/?',
  ]
  for (const issuer of [...faulty, 'idp.corp.example', `https://idp.corp.example/${'x'.repeat(1000)}`]) {
    t.equal((await refusal(providers.inspect(issuer))).code, 'sso_issuer_invalid', issuer)
  }
  t.same(network.lookups, [])
})

const peakKilobytes = () => process.resourceUsage().maxRSS

t.test('oidc-ssrf-013: a small answer that unpacks to 128 MB is given up at the limit', async t => {
  const { idp, providers, signIn } = await makeWorld(t)
  idp.script.answer.discovery = scripted.gzipBomb(128)
  const before = peakKilobytes()
  t.equal((await refusal(providers.inspect(idp.issuer))).code, 'sso_discovery_failed')
  t.match(await refusal(signIn(idp)), { code: 'sso_idp_unreachable', detail: { reason: 'too_large' } })
  t.ok(peakKilobytes() - before < 32 * 1024, `memory grew by ${peakKilobytes() - before} KB`)
})

for (const endpoint of ['jwks', 'token', 'userinfo'] as const) {
  t.test(`oidc-ssrf-014: a ${endpoint} answer of 64 MB is cut off near 512 KB`, async t => {
    const { idp, signIn } = await makeWorld(t)
    const answer = scripted.bigJson(64)
    idp.script.answer[endpoint] = answer
    const attempt = signIn(idp, { user: { email: undefined } })
    const error = endpoint === 'userinfo' ? (await attempt).contact.fault : await refusal(attempt)
    t.match(error, { code: 'sso_idp_error', detail: { reason: 'too_large' } })
    t.ok(answer.sentBytes < 4 * 1024 * 1024, `${answer.sentBytes} bytes were taken`)
  })
}

t.test('oidc-ssrf-015: a bad issuer that is already stored is blocked when it is used', async t => {
  const { providers, network } = await makeWorld(t)
  const error = await refusal(providers.discover('https://10.0.0.5'))
  t.match(error, { code: 'sso_idp_unreachable', detail: { reason: 'blocked' } })
  t.same(network.connections, [])
})

t.test('oidc-ssrf-016: a private network is reached where the operator allows it, and no other', async t => {
  const network = makeNetwork()
  const idp = await makeScriptedProvider(t, { network, issuer: 'https://sso.corp.example', address: '10.20.0.7' })
  const { providers, signIn } = makeRelyingParty(t, { ...network.outbound, allowedNetworks: ['10.20.0.0/16'] })
  t.equal((await signIn(idp)).claims.sub, 'u-ana')
  network.setAddresses('sso.globex.example', ['10.30.0.1'])
  t.equal((await refusal(providers.inspect('https://sso.globex.example'))).code, 'sso_issuer_blocked')
})

t.test('A port that the operator has not listed is blocked; a listed one is not', async t => {
  const { guard } = await makeWorld(t)
  t.equal(await fault(guard.fetch('https://idp.corp.example:6379/')), 'blocked')
  const { guard: wider } = await makeWorld(t, { allowedPorts: [443, 8443] })
  t.equal((await wider.fetch('https://idp.corp.example:8443/.well-known/openid-configuration')).status, 200)
})

t.test('A certificate for another name is not accepted', async t => {
  const { guard, network } = await makeWorld(t)
  network.setAddresses('other.corp.example', ['203.0.113.10'])
  const outcome = await guard.fetch('https://other.corp.example/').catch((error: unknown) => error)
  t.match(outcome, {
    fault: 'unreachable',
    systemCode: 'ERR_TLS_CERT_ALTNAME_INVALID',
  })
})

t.test('Answers that are not to be used are told apart', async t => {
  const { guard, idp } = await makeWorld(t, { timeoutMs: 200 })
  const answers = {
    not_json: scripted.html(),
    redirect: scripted.redirectTo('https://idp.corp.example/'),
    timeout: scripted.hang,
    unreachable: scripted.hangUp,
    too_large: scripted.gzipBomb(1),
    undecodable: (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'zstd' }).end('{}')
    },
  } satisfies Record<string, scripted.Answer>
  for (const [expected, answer] of Object.entries(answers)) {
    idp.script.answer.discovery = answer
    t.equal(await fault(guard.fetch(discovery)), expected)
  }
  idp.script.answer.discovery = scripted.html(503)
  const response = await guard.fetch(discovery)
  t.same([response.status, await response.text()], [503, ''], 'of an error page only the status is kept')
})

t.test('Calls share connections', async t => {
  const { guard, network } = await makeWorld(t)
  for (let calls = 0; calls < 10; calls++) t.equal((await guard.fetch(discovery)).status, 200)
  t.ok(network.connections.length <= 2, `${network.connections.length} connections for 10 calls`)
})

t.test('An answer of 512 KB is read, gzip or not', async t => {
  const { guard, idp } = await makeWorld(t)
  idp.script.answer.discovery = scripted.json(200, 'x'.repeat(512 * 1024 - 2))
  t.equal((await (await guard.fetch(discovery)).text()).length, 512 * 1024)
  idp.script.answer.discovery = scripted.json(200, 'x'.repeat(512 * 1024 - 1))
  t.equal(await fault(guard.fetch(discovery)), 'too_large')
})

t.test('Plain http reaches an allowed network, and only by the deployment’s setting', async t => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
  await new Promise<void>(listening => void server.listen(0, '127.0.0.1', listening))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const loopback = { allowedNetworks: ['127.0.0.0/8', '::1/128'], allowedPorts: [0] }
  const open = createOutboundFetch({ ...loopback, allowHttp: true })
  const closed = createOutboundFetch({ ...loopback, allowHttp: false })
  t.teardown(() => Promise.all([open.close(), closed.close()]))
  // By name too: the system's own resolver is asked where networks are allowed.
  for (const host of ['127.0.0.1', 'localhost']) {
    t.equal((await open.fetch(`http://${host}:${port}/`)).status, 200, host)
    t.equal(await fault(closed.fetch(`http://${host}:${port}/`)), 'blocked', host)
  }
  t.equal(await fault(open.fetch('http://8.8.8.8/')), 'blocked', 'public addresses are for https')
})

t.test('A name that DNS does not know is unreachable', async t => {
  const guard = createOutboundFetch({ allowedNetworks: [], allowedPorts: [443], allowHttp: false, timeoutMs: 500 })
  t.teardown(() => guard.close())
  t.match(await fault(guard.fetch('https://idp.corp.invalid/')), /unreachable|timeout/)
})
