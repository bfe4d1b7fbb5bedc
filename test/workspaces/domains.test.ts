import t from 'tap'
import { bearer, makeApp, makeWorkspace, serviceHeaders } from '../helpers/app.ts'

const test = await makeApp(t)

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
  return { ...workspace, send, actions }
}

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
  t.match(refused?.json(), { code: 'conflict', detail: /another workspace/ })
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
