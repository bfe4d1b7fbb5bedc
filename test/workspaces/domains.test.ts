import t from 'tap'
import { recheckDomains } from '../../src/workspaces/domain-proof.ts'
import { createTxtResolver } from '../../src/workspaces/txt-records.ts'
import { bearer, makeApp, makeWorkspace, serviceHeaders } from '../helpers/app.ts'
import { startDnsServer } from '../helpers/dns-server.ts'

const dns = await startDnsServer(t)
const test = await makeApp(t, { settings: { DNS_SERVERS: dns.address } })
const resolveTxt = createTxtResolver(test.config)

async function makeWorld(name = 'acme') {
  const workspace = await makeWorkspace(test, { name })
  const send = async (method: 'GET' | 'PUT' | 'DELETE', domain: string, headers = serviceHeaders) =>
    test.app.inject({ method, url: `${workspace.url}/domains${domain && `/${encodeURIComponent(domain)}`}`, headers })
  const actions = async () => {
    const rows = await test.db
      .selectFrom('activity_entries')
      .select(['action', 'target_id'])
      .where('workspace_id', '=', workspace.workspaceId)
      .where('target_type', '=', 'domain')
      .orderBy('id')
      .execute()
    return rows.map(row => `${row.action} ${row.target_id}`)
  }
  const post = async (path: string, payload?: object) =>
    test.app.inject({
      method: 'POST',
      url: `${workspace.url}/domains${path}`,
      headers: workspace.headers,
      ...(payload && { payload }),
    })
  const claim = async (domain: string) => (await post('', { domain })).json()
  const verify = async (domain: string) => (await post(`/${domain}/verify`)).json()
  /** A domain of this workspace, proved by its record. */
  const prove = async (domain: string) => {
    const { proof } = await claim(domain)
    dns.records.set(proof.name, ['unrelated', proof.value])
    return verify(domain)
  }
  return { ...workspace, send, actions, post, claim, verify, prove }
}

/** Makes the last look at a proof lie back by some hours, and its record gone for as long where it is missing. */
async function age(domain: string, hours: number) {
  const at = new Date(Date.now() - hours * 3_600_000).toISOString()
  const { db } = test
  await db.updateTable('domains').set({ checked_at: at }).where('domain', '=', domain).execute()
  await db
    .updateTable('domains')
    .set({ missing_since: at })
    .where('domain', '=', domain)
    .where('missing_since', 'is not', null)
    .execute()
}

const recheck = () => recheckDomains({ db: test.db, resolveTxt, recheckHours: 24, graceHours: 72 })

t.test(
  'a back-end approves a domain in one spelling, again without effect, and removes it; admins see the list',
  async t => {
    const { send, actions, headers } = await makeWorld()
    const approved = await send('PUT', 'Bücher.EXAMPLE')
    t.equal(approved.statusCode, 200)
    t.match(approved.json(), { domain: 'xn--bcher-kva.example', verifiedBy: 'operator', verifiedAt: String })
    t.same((await send('PUT', 'xn--bcher-kva.example')).json(), approved.json())
    t.same((await send('GET', '', headers)).json(), { items: [approved.json()] })
    t.same((await send('GET', 'bücher.example', headers)).json(), approved.json())
    t.equal((await send('DELETE', 'bücher.example')).statusCode, 204)
    t.match((await send('DELETE', 'bücher.example')).json(), { status: 404, code: 'not_found' })
    t.same(await actions(), ['domain.approved xn--bcher-kva.example', 'domain.removed xn--bcher-kva.example'])
  },
)

t.test('a domain belongs to one workspace, whoever asks at the same moment', async t => {
  const [acme, globex] = [await makeWorld(), await makeWorld('globex')]
  const replies = await Promise.all([acme.send('PUT', 'once.example'), globex.send('PUT', 'once.example')])
  t.same(
    replies.map(reply => reply.statusCode).toSorted((a, b) => a - b),
    [200, 409],
  )
  const refused = replies.find(reply => reply.statusCode === 409)
  t.match(refused?.json(), { code: 'domain_taken', detail: /another workspace/ })
  t.equal([...(await acme.actions()), ...(await globex.actions())].length, 1)
})

t.test('admins and owners cannot vouch for themselves, and see no domain of others', async t => {
  const [acme, globex] = [await makeWorld(), await makeWorld('globex')]
  await acme.send('PUT', 'acme.example')
  const admin = await bearer({ workspace: acme.workspaceId, role: 'admin' })
  for (const headers of [admin, acme.headers]) {
    t.match((await acme.send('PUT', 'mine.example', headers)).json(), { status: 403, code: 'forbidden' })
    t.match((await acme.send('DELETE', 'acme.example', headers)).json(), { status: 403, code: 'forbidden' })
  }
  t.same((await globex.send('GET', '', globex.headers)).json(), { items: [] })
  t.match((await acme.send('GET', '', globex.headers)).json(), { status: 404 })
})

t.test('what is no domain is refused', async t => {
  const { send } = await makeWorld()
  for (const text of ['com', '*.example.com', 'a@example.com', '10.0.0.1', `${'a'.repeat(64)}.example`]) {
    t.match((await send('PUT', text)).json(), { status: 400, code: 'sso_domain_invalid' }, text)
  }
})

t.test('a domain is claimed with a record to publish, and proved when the record is there', async t => {
  const { claim, verify, post, actions, send, headers } = await makeWorld()
  const claimed = await claim('Bücher.example')
  t.match(claimed, {
    domain: 'xn--bcher-kva.example',
    verifiedAt: null,
    verifiedBy: null,
    proof: {
      type: 'TXT',
      name: '_assist-challenge.xn--bcher-kva.example',
      value: /^assist-domain-verification=[\w-]{32}$/,
    },
  })
  t.same(await claim('xn--bcher-kva.example'), claimed, 'claiming again answers the same record')
  const { name, value } = claimed.proof
  t.match(await verify('xn--bcher-kva.example'), { status: 409, code: 'domain_not_proven', detail: /there is none/ })
  dns.records.set(name, ['assist-domain-verification=mistyped'])
  const mistyped = await verify('xn--bcher-kva.example')
  t.match(mistyped.detail, value)
  t.match(mistyped.detail, 'assist-domain-verification=mistyped')
  dns.failing.add(name)
  t.match(await verify('xn--bcher-kva.example'), { status: 502, code: 'domain_dns_failed' })
  dns.failing.delete(name)
  dns.records.set(name, [value])
  t.match(await verify('xn--bcher-kva.example'), { verifiedBy: 'dns', verifiedAt: String, checkedAt: String })
  t.match(await verify('xn--bcher-kva.example'), { verifiedBy: 'dns' }, 'again without effect')
  t.same(await actions(), ['domain.claimed xn--bcher-kva.example', 'domain.verified xn--bcher-kva.example'])
  t.match((await post('/other.example/verify')).json(), { status: 404 })
  t.equal((await send('DELETE', 'xn--bcher-kva.example', headers)).statusCode, 204, 'who claims may let go')
  for (const text of ['com', '*.example.com', 'a@example.com', '10.0.0.1']) {
    t.match(await claim(text), { status: 400, code: 'sso_domain_invalid' }, text)
  }
})

t.test(
  'oidc-hrd-002: whoever claims a domain that another workspace has proved gets no further than a claim',
  async t => {
    const [acme, globex] = [await makeWorld(), await makeWorld('globex')]
    t.match(await acme.prove('owned.example'), { verifiedBy: 'dns' })
    const { proof } = await globex.claim('owned.example')
    t.match(await globex.verify('owned.example'), { code: 'domain_not_proven' }, 'the record is that of acme')
    dns.records.get(proof.name)!.push(proof.value)
    t.match(await globex.verify('owned.example'), { status: 409, code: 'domain_taken' })
    t.match((await globex.send('PUT', 'owned.example')).json(), { status: 409, code: 'domain_taken' })
  },
)

t.test('a proof is looked at again, told when its record is gone, and taken away when it stays away', async t => {
  const { prove, actions, send } = await makeWorld()
  const { proof } = await prove('fading.example')
  const state = async () => (await send('GET', 'fading.example')).json()
  t.equal(await recheck(), 0, 'just looked at')
  await age('fading.example', 25)
  dns.failing.add(proof.name)
  t.equal(await recheck(), 1)
  t.match(await state(), { verifiedBy: 'dns', missingSince: null }, 'DNS that fails proves nothing')
  dns.failing.delete(proof.name)

  dns.records.delete(proof.name)
  await age('fading.example', 25)
  await recheck()
  t.match(await state(), { verifiedBy: 'dns', missingSince: String })
  t.equal(await recheck(), 0, 'a missing one is looked for every hour')
  dns.records.set(proof.name, [proof.value])
  await age('fading.example', 2)
  await recheck()
  t.match(await state(), { verifiedBy: 'dns', missingSince: null })

  dns.records.delete(proof.name)
  await age('fading.example', 25)
  await recheck()
  await age('fading.example', 71)
  await recheck()
  t.match(await state(), { verifiedBy: 'dns' })
  await age('fading.example', 73)
  await recheck()
  t.match(await state(), { verifiedAt: null, verifiedBy: null, missingSince: null, proof })
  t.same(
    (await actions()).map(action => action.replace(' fading.example', '')),
    'claimed verified proof_missing proof_found proof_missing proof_lost'.split(' ').map(name => `domain.${name}`),
  )
})

t.test('two replicas that re-check at once look at each proof once', async t => {
  const { prove } = await makeWorld()
  for (const name of ['one', 'two', 'three']) {
    await prove(`${name}.twice.example`)
    await age(`${name}.twice.example`, 30)
  }
  const before = dns.queries.length
  const counts = await Promise.all([recheck(), recheck()])
  t.equal(counts[0] + counts[1], 3)
  t.equal(dns.queries.length - before, 3)
})

t.test('a domain where anybody can have an address is nobody’s own', async t => {
  const { send, claim, actions } = await makeWorld()
  t.match((await send('PUT', 'Gmail.com')).json(), { code: 'sso_domain_invalid', detail: /Anybody/ })
  t.match(await claim('gmail.com'), { code: 'sso_domain_invalid' })
  t.same(await actions(), [])
})
