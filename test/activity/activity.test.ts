import t from 'tap'
import { recordRefusal } from '../../src/activity/activity.ts'
import { uuid7 } from '../../src/uuid7.ts'
import { bearer, makeApp, makeWorkspace, serviceHeaders } from '../helpers/app.ts'

const test = await makeApp(t)

interface Entry {
  id: string
  at: string
  action: string
}

/** A workspace in which something has happened: by its owner, by a second admin, and by the identity provider. */
async function makeWorld() {
  const workspace = await makeWorkspace(test)
  const { workspaceId, url, headers } = workspace
  const second = await bearer({ workspace: workspaceId, sub: 'user-2' })
  const send = (path: string, payload: object, as = headers) =>
    test.app.inject({ method: 'POST', url: `${url}${path}`, headers: as, payload })
  const { id: directoryId } = (await send('/directories', { name: 'Okta' })).json()
  await send('/directories', { name: 'Entra' }, second)
  const { id: memberId } = (await send('/members', { email: 'ana@example.com' })).json()
  await recordRefusal(test.db, {
    workspaceId,
    action: 'directory.request_refused',
    reason: 'token_expired',
    actor: { type: 'system', id: 'scim' },
    target: { type: 'directory', id: directoryId },
  })
  const list = async (query = '') => (await test.app.inject({ url: `${url}/activity?${query}`, headers })).json()
  return {
    ...test,
    ...workspace,
    directoryId,
    memberId,
    list,
    actions: async (query: string) => (await list(query)).items.map((entry: Entry) => entry.action),
  }
}

t.test('the log is read newest first; each entry says who did what to what, in which request', async t => {
  const { list, directoryId, memberId } = await makeWorld()
  const { items } = await list()
  t.match(items, [
    {
      action: 'directory.request_refused',
      outcome: 'refused',
      reason: 'token_expired',
      actor: { type: 'system', id: 'scim' },
      target: { type: 'directory', id: directoryId },
    },
    { action: 'member.invited', outcome: 'succeeded', reason: null, actor: { type: 'user', id: 'user-1' }, memberId },
    { action: 'directory.created', actor: { id: 'user-2' }, detail: { name: 'Entra', mode: 'tolerant' } },
    { action: 'directory.created', actor: { id: 'user-1' }, requestId: String },
    { action: 'workspace.saved', actor: { type: 'service' } },
  ])
  t.equal(items.length, 5)
  t.notMatch(JSON.stringify(items), 'ana@example.com')
})

t.test('filters narrow by area, action, actor, outcome, member, target and time, alone and together', async t => {
  const { list, actions, memberId, directoryId } = await makeWorld()
  t.same(await actions('kind=directory'), ['directory.request_refused', 'directory.created', 'directory.created'])
  t.same(await actions('kind=directory.created&actor=user-2'), ['directory.created'])
  t.same(await actions('outcome=refused'), ['directory.request_refused'])
  t.same(await actions(`member=${memberId}`), ['member.invited'])
  t.same(await actions('kind=sso_sign_in'), [])
  t.same(await actions(`targetId=${directoryId}`), ['directory.request_refused', 'directory.created'])
  t.same(await actions(`targetId=${directoryId}&outcome=succeeded`), ['directory.created'])
  const [newest, ...older] = (await list()).items as [Entry, ...Entry[]]
  t.same(await actions('to=2026-01-01T00:00:00Z'), [])
  t.ok((await actions(`from=${newest.at}`)).includes(newest.action), 'from is included')
  const before = older.filter(entry => entry.at < newest.at).map(entry => entry.action)
  t.same(await actions(`to=${newest.at}`), before, 'to is not')
})

t.test('a request that is known from the service log is found in the log of activity', async t => {
  const { list, log } = await makeWorld()
  const line = log()
    .split('\n')
    .findLast(each => each.includes('"route":"/v1/workspaces/:workspaceId/members"'))
  const { items } = await list(`requestId=${JSON.parse(line!).reqId}`)
  t.match(items, [{ action: 'member.invited', requestId: JSON.parse(line!).reqId }])
  t.equal(items.length, 1)
  t.same((await list(`requestId=${uuid7()}`)).items, [])
})

t.test('pages follow each other without a gap or a double, whatever comes in between', async t => {
  const { list, app, url, headers } = await makeWorld()
  const all = (await list()).items.map((entry: Entry) => entry.id)
  const seen: string[] = []
  let next: string | undefined
  do {
    const page = await list(`limit=2${next === undefined ? '' : `&after=${next}`}`)
    seen.push(...page.items.map((entry: Entry) => entry.id))
    next = page.next
    await app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { name: 'later' } })
  } while (next !== undefined)
  t.same(seen, all)
})

t.test('another workspace sees nothing of it, not even by asking for the member or the actor', async t => {
  const acme = await makeWorld()
  const globex = await makeWorkspace(test, { name: 'globex' })
  for (const query of [
    '',
    `member=${acme.memberId}`,
    `targetId=${acme.directoryId}`,
    'actor=user-2',
    'kind=directory',
  ]) {
    const { items } = (
      await test.app.inject({ url: `${globex.url}/activity?${query}`, headers: globex.headers })
    ).json()
    t.notMatch(JSON.stringify(items), acme.workspaceId)
    t.equal(items.length, query === '' ? 1 : 0)
  }
  const theirs = await test.app.inject({ url: `${acme.url}/activity`, headers: globex.headers })
  t.match(theirs.json(), { status: 404, code: 'not_found' })
  t.equal((await test.app.inject({ url: `${acme.url}/activity`, headers: serviceHeaders })).statusCode, 200)
})

t.test('a question that cannot be meant is refused by its parameter', async t => {
  const { list } = await makeWorld()
  for (const [pointer, query] of [
    ['/kind', 'kind=directory.exploded'],
    ['/outcome', 'outcome=fine'],
    ['/member', 'member=ana'],
    ['/requestId', 'requestId=42'],
    ['/from', 'from=yesterday'],
    ['/limit', 'limit=0'],
    ['/limit', 'limit=501'],
    ['/after', `after=${uuid7()}`],
    ['/action', 'action=member.invited'],
  ] as const) {
    t.match(await list(query), { status: 400, code: 'invalid', errors: [{ pointer }] }, query)
  }
})
