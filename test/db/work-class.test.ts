import t from 'tap'
import { createWorkClass } from '../../src/db/work-class.ts'
import type { Db } from '../../src/db/database.ts'
import { makeApp, makeWorkspace, serviceHeaders } from '../helpers/app.ts'

const db = {} as Db

/** Work that ends when it is told to. */
function makeWork() {
  const started: string[] = []
  const ends: (() => void)[] = []
  const begin = (name: string) => async () => {
    started.push(name)
    await new Promise<void>(resolve => ends.push(resolve))
    return name
  }
  const end = async () => {
    ends.shift()?.()
    await new Promise(resolve => setImmediate(resolve))
  }
  return { started, begin, end }
}

t.test('workspaces take turns, and each has one piece of work running', async t => {
  const work = createWorkClass({ db, slots: 2 })
  const { started, begin, end } = makeWork()
  const all = [
    ...[1, 2, 3, 4].map(async count => work.run('noisy', begin(`noisy ${count}`))),
    work.run('quiet', begin('quiet 1')),
    work.run('other', begin('other 1')),
  ]
  await new Promise(resolve => setImmediate(resolve))
  t.same(started, ['noisy 1', 'quiet 1'])
  await end()
  t.same(started, ['noisy 1', 'quiet 1', 'noisy 2'].toSpliced(2, 1, started[2]!))
  while (started.length < 6) await end()
  t.ok(started.indexOf('other 1') < started.indexOf('noisy 3'), 'the noisy workspace waits for the others')
  await end()
  await end()
  t.equal((await Promise.all(all)).length, 6)
})

t.test('more waiting work than the limit is refused with Retry-After, and failed work frees its turn', async t => {
  const work = createWorkClass({ db, slots: 1, waitingPerWorkspace: 1 })
  const { begin, end } = makeWork()
  const first = work.run('a', begin('1'))
  const second = work.run('a', begin('2'))
  await t.rejects(work.run('a', begin('3')), { code: 'rate_limited', retryAfter: 5, message: /one search, report/ })
  await end()
  await first
  await end()
  await second
  await t.rejects(
    work.run('a', async () => {
      throw new Error('failed')
    }),
    { message: 'failed' },
  )
  t.equal(await work.run('a', async () => 'next'), 'next')
})

t.test('work that continues a response waits for its turn, also beyond the limit and the longest wait', async t => {
  const work = createWorkClass({ db, slots: 1, waitingPerWorkspace: 1, maxWaitMs: 20 })
  const { started, begin, end } = makeWork()
  const all = [work.run('a', begin('first')), work.continue('a', begin('page 1')), work.continue('a', begin('page 2'))]
  await new Promise(resolve => setTimeout(resolve, 50))
  t.same(started, ['first'])
  for (let piece = 0; piece < 3; piece++) await end()
  t.same(await Promise.all(all), ['first', 'page 1', 'page 2'])
})

t.test('work whose turn does not come in time is refused, and later work runs', async t => {
  const work = createWorkClass({ db, slots: 1, maxWaitMs: 20 })
  const { begin, end } = makeWork()
  const first = work.run('a', begin('1'))
  await t.rejects(work.run('b', begin('2')), { code: 'rate_limited' })
  await end()
  await first
  t.equal(await work.run('b', async () => 3), 3)
})

t.test('a workspace can have 20 directories', async t => {
  const { app, ...rest } = await makeApp(t)
  const { url, headers } = await makeWorkspace({ app, ...rest })
  const create = async (name: string) =>
    app.inject({ method: 'POST', url: `${url}/directories`, headers, payload: { name } })
  const replies = await Promise.all(Array.from({ length: 25 }, async (_each, index) => create(`d${index}`)))
  const codes = replies.map(reply => reply.statusCode)
  t.equal(codes.filter(code => code === 201).length, 20)
  const refused = replies.find(reply => reply.statusCode !== 201)!
  t.match(refused.json(), { status: 409, code: 'directory_limit', detail: /20 directories/ })
})

t.test('the admin API has limits per workspace, stated in the refusal', async t => {
  const app = await makeApp(t, { settings: { ADMIN_REQUESTS_PER_SECOND: '5', ADMIN_BURST_REQUESTS: '5' } })
  const { url, headers } = await makeWorkspace(app)
  const other = await makeWorkspace(app)
  const replies = await Promise.all(
    Array.from({ length: 30 }, async () => app.app.inject({ url: `${url}/members`, headers })),
  )
  const refused = replies.filter(reply => reply.statusCode === 429)
  t.ok(refused.length > 10)
  t.match(refused[0]!.json(), { code: 'rate_limited', detail: /5 requests a second/ })
  t.ok(Number(refused[0]!.headers['retry-after']) > 0)
  t.equal((await app.app.inject({ url: `${other.url}/members`, headers: serviceHeaders })).statusCode, 200)
})
