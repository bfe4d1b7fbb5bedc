import { sql, type CompiledQuery } from 'kysely'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { statementNames } from '../../src/db/prepared.ts'
import { openDatabase } from '../../src/db/database.ts'
import { makeApp, serviceHeaders } from '../helpers/app.ts'
import { expectSignedIn, makeBrowser, makeSignInWorld, type Acme, type Landing } from '../helpers/sign-in.ts'
import { makeDirectory, USER } from '../helpers/scim.ts'

const world = await makeSignInWorld(t)
const { test, idp, network, makeAcme } = world
const { app, db } = test
const replica = await makeSignInWorld(t, { replicaOf: world })
t.beforeEach(() => idp.reset())

const newcomer = { sub: 'u-new', email: 'new@corp.example', name: 'New Example' }
const invited = { sub: 'u-ivo', email: 'ivo@corp.example', name: 'Ivo Example' }
const provided = { sub: 'u-eva', email: 'eva@corp.example', name: 'Eva Example', oid: 'e-1' }

const directoryOf = (tt: Test, acme: Acme) => makeDirectory(tt, { sibling: { ...test, ...acme } })

/** Eva, whom a directory has made a member. */
async function provideEva(tt: Test, acme: Acme) {
  const directory = await directoryOf(tt, acme)
  const { id } = await directory.createUser({ userName: provided.email, externalId: 'e-1', displayName: 'Eva' })
  const { id: memberId } = await directory.memberOf(id)
  return { directory, memberId: memberId as string, path: `/Users/${id}` }
}

/** People as they come in for the first time, and what a workspace must have for them. */
const ordinary = {
  'somebody new': { user: newcomer, config: { autoProvision: true } },
  'an invited member': { user: invited, config: {} },
  'a member of whom no provider has said anything': { user: { sub: 'u-bea', email: 'bea@corp.example' }, config: {} },
  'a member made by a directory, found by the address': { user: provided, config: {} },
  'a member made by a directory, found by the claim that never changes': {
    user: { ...provided, email: undefined },
    config: { externalIdClaim: 'oid' },
  },
}

async function reach(tt: Test, { user, config }: { user: Record<string, unknown>; config: Record<string, unknown> }) {
  const acme = await makeAcme(config)
  await provideEva(tt, acme)
  // The first secret that a provider takes is news, and noted.
  await makeBrowser(world).signIn(acme, { user: { sub: 'u-ana', email: 'ana@corp.example' } })
  const browser = makeBrowser(world)
  return { acme, browser, callback: await browser.reachCallback(acme, { user }) }
}

for (const [who, coming] of Object.entries(ordinary)) {
  t.test(`the first callback of ${who} costs four statements`, async t => {
    const { acme, browser, callback } = await reach(t, coming)
    let landing: Landing | undefined
    const sent = await test.statements(async () => (landing = await browser.open(callback)))
    t.ok(landing?.exchangeCode)
    t.equal(sent.length, 4)
    const reply = await app.inject({ method: 'POST', url: `${acme.url}/access/reconcile`, headers: acme.headers })
    t.equal(reply.json().repaired, 0, 'access is what its sources give')
    t.equal((await browser.redeem(landing?.exchangeCode ?? '')).statusCode, 201)
  })

  t.test(`${who} leaves the same rows where the sign-in has to wait for somebody else`, async t => {
    const once = await reach(t, coming)
    await once.browser.open(once.callback)

    const late = await reach(t, coming)
    const { workspaceId } = late.acme
    let opened: Promise<Landing> | undefined
    const sent = await test.statements(async () => {
      await db.transaction().execute(async trx => {
        await trx.selectFrom('workspaces').select('id').where('id', '=', workspaceId).forUpdate().execute()
        await trx.selectFrom('members').select('id').where('workspace_id', '=', workspaceId).forUpdate().execute()
        opened = late.browser.open(late.callback)
        await isWaiting()
      })
      t.ok((await opened)?.exchangeCode)
    })
    t.ok(sent.map(text => statementNames.get(text)).includes('linking_lock'), 'in the transaction that waits')
    t.same(await rowsOf(late.acme), await rowsOf(once.acme))
  })
}

type Step = (tt: Test, acme: Acme) => Promise<() => Promise<{ statusCode: number }>>

/** What happens to somebody at the moment in which they sign in for the first time, and ends in their access being over. */
const endings: Record<string, { user: Record<string, unknown>; prepare: Step }> = {
  'a directory deactivates a member that it made': {
    user: provided,
    prepare: async (tt, acme) => {
      const { directory, path } = await provideEva(tt, acme)
      return () => directory.patch(path, { op: 'replace', path: 'active', value: false })
    },
  },
  'a directory replaces a member that it made by one who is inactive': {
    user: provided,
    prepare: async (tt, acme) => {
      const { directory, path } = await provideEva(tt, acme)
      const body = { schemas: [USER], userName: provided.email, externalId: 'e-1', active: false }
      return () => directory.send('PUT', path, { body })
    },
  },
  'a directory deletes a member that it made': {
    user: provided,
    prepare: async (tt, acme) => {
      const { directory, path } = await provideEva(tt, acme)
      return () => directory.send('DELETE', path)
    },
  },
  'a directory brings in the address of somebody new as inactive': {
    user: newcomer,
    prepare: async (tt, acme) => {
      const directory = await directoryOf(tt, acme)
      const body = { schemas: [USER], userName: newcomer.email, active: false }
      return () => directory.send('POST', '/Users', { body })
    },
  },
  'a directory brings in the address of an invited member as inactive': {
    user: invited,
    prepare: async (tt, acme) => {
      const directory = await directoryOf(tt, acme)
      const body = { schemas: [USER], userName: invited.email, active: false }
      return () => directory.send('POST', '/Users', { body })
    },
  },
  'an admin deactivates an invited member': {
    user: invited,
    prepare:
      async (_tt, { url, headers, ids }) =>
      () =>
        app.inject({ method: 'POST', url: `${url}/members/${ids.ivo}/deactivate`, headers }),
  },
}

const rounds = 8

for (const [what, { user, prepare }] of Object.entries(endings)) {
  t.test(`${what} at the moment of their first sign-in: nobody is left with a session`, async t => {
    for (let round = 0; round < rounds; round++) {
      const acme = await makeAcme({ autoProvision: true })
      const end = await prepare(t, acme)
      const browser = makeBrowser(round % 2 ? world : replica)
      const callback = await browser.reachCallback(acme, { user })
      const [landing, ended] = await Promise.all([browser.open(callback), sleep(round).then(end)])
      t.ok(ended.statusCode < 300, `${ended.statusCode}`)
      t.match(await membersOf(acme, user.email), [{ status: 'deactivated' }], 'one member, whose access is over')
      if (landing.exchangeCode === undefined) t.equal(landing.code, 'sso_member_deactivated')
      else t.equal((await browser.redeem(landing.exchangeCode)).json().code, 'exchange_code_invalid')
      const again = await makeBrowser(world).signIn(acme, { user })
      t.equal(again.code, 'sso_member_deactivated')
    }
  })
}

t.test('an invitation is withdrawn or accepted, and never both', async t => {
  for (let round = 0; round < rounds; round++) {
    const acme = await makeAcme()
    const { url, headers, ids } = acme
    const browser = makeBrowser(world)
    const callback = await browser.reachCallback(acme, { user: invited })
    const withdraw = () => app.inject({ method: 'DELETE', url: `${url}/members/${ids.ivo}`, headers })
    const [landing, withdrawn] = await Promise.all([browser.open(callback), sleep(round).then(withdraw)])
    const members = await membersOf(acme, invited.email)
    if (landing.exchangeCode === undefined) {
      t.equal(landing.code, 'sso_not_provisioned')
      t.equal(withdrawn.statusCode, 204)
      t.same(members, [])
    } else {
      t.equal(withdrawn.statusCode, 409)
      t.match(members, [{ status: 'active' }])
      t.equal((await browser.redeem(landing.exchangeCode)).statusCode, 201)
    }
  }
})

t.test('of two people with one address who come at once, one is let in', async t => {
  for (let round = 0; round < rounds; round++) {
    const acme = await makeAcme({ autoProvision: true })
    const email = round % 2 ? newcomer.email : 'bea@corp.example'
    const tabs = await Promise.all(
      ['u-1', 'u-2'].map(async (sub, index) => {
        const browser = makeBrowser(index ? world : replica)
        return { browser, callback: await browser.reachCallback(acme, { user: { sub, email } }) }
      }),
    )
    const landings = await Promise.all(tabs.map(({ browser, callback }) => browser.open(callback)))
    t.same(new Set(landings.map(landing => landing.code)), new Set([undefined, 'sso_identity_conflict']))
    t.equal((await membersOf(acme, email)).length, 1)
  }
})

t.test(
  'whoever is invited, provided or given another default role at the moment in which they come is one member',
  async t => {
    for (let round = 0; round < rounds; round++) {
      const acme = await makeAcme({ autoProvision: true })
      const { url, headers } = acme
      const directory = await directoryOf(t, acme)
      const browsers = [makeBrowser(world), makeBrowser(replica)]
      const callbacks = await Promise.all(browsers.map(browser => browser.reachCallback(acme, { user: newcomer })))
      const { email } = newcomer
      const others = [
        () => app.inject({ method: 'POST', url: `${url}/members`, headers, payload: { email } }),
        () => directory.send('POST', '/Users', { body: { schemas: [USER], userName: email } }),
        () =>
          app.inject({ method: 'PUT', url, headers: serviceHeaders, payload: { name: 'acme', defaultRole: 'member' } }),
      ]
      const [landings, [invitation, user, role]] = await Promise.all([
        Promise.all(browsers.map((browser, index) => browser.open(callbacks[index]!))),
        Promise.all(others.map(async other => sleep(round).then(other))),
      ])
      t.same(
        landings.map(landing => landing.code ?? 'signed in'),
        ['signed in', 'signed in'],
      )
      t.ok(invitation?.statusCode === 201 || invitation?.statusCode === 409, 'invited before they came, or too late')
      t.same([user?.statusCode, role?.statusCode], [201, 200])
      t.match(await membersOf(acme, email), [{ status: 'active', role: 'member' }])
      const reply = await app.inject({ method: 'POST', url: `${url}/access/reconcile`, headers })
      t.equal(reply.json().repaired, 0)
    }
  },
)

/** What happens between what a first sign-in reads and what it writes, once. */
const moment: { change?: () => Promise<unknown> } = {}

/** The app with that moment in it. */
const hesitant = await makeApp(t, {
  replicaOf: test,
  options: {
    outbound: network.outbound,
    db: new Proxy(db, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name)
        if (name === 'executeQuery') return hesitate
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    }),
  },
})

async function hesitate(query: CompiledQuery) {
  const result = await db.executeQuery(query)
  const { change } = moment
  if (change && statementNames.get(query.sql) === 'linking_facts') {
    delete moment.change
    await change()
  }
  return result
}

const moveAddress = (id: string, email: string) =>
  db.updateTable('members').set({ email, email_key: email }).where('id', '=', id).execute()

interface Meanwhile {
  user: Record<string, unknown>
  config?: Record<string, unknown>
  /** Gives what happens in the moment. */
  prepare: (tt: Test, acme: Acme) => Promise<() => Promise<unknown>>
  /** A refusal, or what the member is. */
  leadsTo: { code: string } | { role: string; id?: keyof Acme['ids'] }
}

const meanwhiles: Record<string, Meanwhile> = {
  'the address is given to an invited member': {
    user: newcomer,
    config: { autoProvision: true },
    prepare:
      async (_tt, { ids }) =>
      () =>
        moveAddress(ids.ivo, newcomer.email),
    leadsTo: { role: 'member', id: 'ivo' },
  },
  'a directory brings in somebody inactive who has the address beside another': {
    user: newcomer,
    config: { autoProvision: true },
    prepare: async (tt, acme) => {
      const directory = await directoryOf(tt, acme)
      const emails = [{ value: 'other@corp.example', primary: true }, { value: newcomer.email }]
      return () => directory.createUser({ userName: 'other@corp.example', emails, active: false })
    },
    leadsTo: { code: 'sso_member_deactivated' },
  },
  'a directory brings in an active one by the claim that never changes': {
    user: { ...provided, email: 'eva.new@corp.example' },
    config: { autoProvision: true, externalIdClaim: 'oid' },
    prepare: async (tt, acme) => {
      const directory = await directoryOf(tt, acme)
      return () => directory.createUser({ userName: 'ana@corp.example', externalId: 'e-1' })
    },
    leadsTo: { role: 'member', id: 'ana' },
  },
  'the default role becomes another': {
    user: newcomer,
    config: { autoProvision: true },
    prepare: async (_tt, { url }) => {
      const payload = { name: 'acme', defaultRole: 'member' }
      return () => app.inject({ method: 'PUT', url, headers: serviceHeaders, payload })
    },
    leadsTo: { role: 'member' },
  },
  'the address moves from one member to another': {
    user: { sub: 'u-bea', email: 'bea@corp.example' },
    prepare:
      async (_tt, { ids }) =>
      async () => {
        await moveAddress(ids.bea, 'bea.old@corp.example')
        await moveAddress(ids.ana, 'bea@corp.example')
      },
    leadsTo: { role: 'member', id: 'ana' },
  },
  'the member is linked at another issuer': {
    user: { sub: 'u-bea', email: 'bea@corp.example' },
    prepare: async (_tt, { workspaceId, ids }) => {
      const identity = { workspace_id: workspaceId, issuer: 'https://old.example', subject: 'b', member_id: ids.bea }
      return () =>
        db
          .insertInto('identities')
          .values({ ...identity, linked_by: 'email' })
          .execute()
    },
    leadsTo: { code: 'sso_identity_conflict' },
  },
  'the invitation runs out': {
    user: invited,
    prepare: async (_tt, { ids }) => {
      const past = { invitation_expires_at: '2020-01-01T00:00:00Z' }
      return () => db.updateTable('members').set(past).where('id', '=', ids.ivo).execute()
    },
    leadsTo: { code: 'sso_not_provisioned' },
  },
  'the member gets a role above what the settings speak for': {
    user: invited,
    prepare: async (_tt, { workspaceId, url, headers, ids }) => {
      await db
        .updateTable('sso_configs')
        .set({ max_linkable_role: 'member' })
        .where('workspace_id', '=', workspaceId)
        .execute()
      const payload = { grant: 'floor', role: 'admin' }
      return async () => {
        const reply = await app.inject({ method: 'PATCH', url: `${url}/members/${ids.ivo}`, headers, payload })
        if (reply.statusCode !== 200) throw new Error(reply.body)
      }
    },
    leadsTo: { code: 'sso_not_confirmed' },
  },
}

for (const [what, { user, config, prepare, leadsTo }] of Object.entries(meanwhiles)) {
  t.test(`where ${what} while somebody is let in, that counts`, async t => {
    const acme = await makeAcme(config)
    moment.change = await prepare(t, acme)
    const browser = makeBrowser({ test: hesitant, idp })
    const callback = await browser.reachCallback(acme, { user })
    const act = () => browser.open(callback)
    if ('code' in leadsTo) {
      const landing = await act()
      t.equal(landing.code, leadsTo.code)
      t.notOk(moment.change, 'it has happened')
      t.same(await db.selectFrom('sessions').select('id').where('workspace_id', '=', acme.workspaceId).execute(), [])
      return
    }
    const { memberId } = await expectSignedIn(t, world, {
      acme,
      act,
      ...(leadsTo.id && { memberId: acme.ids[leadsTo.id] }),
    })
    t.notOk(moment.change, 'it has happened')
    t.match(await db.selectFrom('members').selectAll().where('id', '=', memberId).execute(), [
      { status: 'active', role: leadsTo.role },
    ])
  })
}

const membersOf = ({ workspaceId }: Acme, email: unknown) =>
  db
    .selectFrom('members')
    .select(['id', 'status', 'role'])
    .where('workspace_id', '=', workspaceId)
    .where('email_key', '=', String(email))
    .execute()

/** What a sign-in writes, by what it is ordered. */
const written = {
  members: 'id',
  identities: 'subject',
  activity_entries: 'id',
  access_changes: 'id',
  group_memberships: 'member_id',
  sessions: 'id',
  exchange_codes: 'session_id',
  sign_in_attempts: 'created_at',
}

/** Until some statement waits for a lock. */
async function isWaiting(): Promise<void> {
  const waiting = sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
  for (let left = 1_000; left > 0 && (await waiting.execute(db)).rows.length === 0; left--) await sleep(10)
}

/** All rows of a workspace, without what is another each time: ids are named in the order in which they appear. */
async function rowsOf({ workspaceId }: Acme): Promise<unknown> {
  const names = new Map<string, string>()
  const nameOf = (table: string, id: unknown) => {
    const key = `${table} ${String(id)}`
    if (!names.has(key)) names.set(key, `${table} ${names.size}`)
    return names.get(key)
  }
  const rows: unknown[] = []
  for (const [table, order] of Object.entries(written)) {
    const found = await sql<Record<string, unknown>>`
      SELECT * FROM ${sql.table(table)} WHERE workspace_id = ${workspaceId} ORDER BY ${sql.ref(order)}`.execute(db)
    for (const row of found.rows) {
      const columns = Object.entries(row).filter(([name, value]) => !isChance.test(name) && !Buffer.isBuffer(value))
      const plain = columns.map(([name, value]) => {
        if (typeof value === 'number' && /(^|_)id$/.test(name))
          return [name, nameOf(isEntry(table, name) ? 'entry' : table, value)]
        if (typeof value !== 'string') return [name, value]
        if (uuid.test(value)) return [name, nameOf('uuid', value)]
        return [name, instant.test(value) ? 'an instant' : value]
      })
      rows.push({ table, ...Object.fromEntries(plain) })
    }
  }
  return rows
}

const isEntry = (table: string, column: string) => column !== 'id' || table === 'activity_entries'
const isChance = /^(xid|nonce|handoff_challenge)$/
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const instant = /^\d{4}-\d\d-\d\dT/

t.test('sign-ins that wait for locked members leave connections to other workspaces', async t => {
  const [locked, other] = [await makeAcme(), await makeAcme()]
  const callbacks = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const browser = makeBrowser(world)
      return { browser, callback: await browser.reachCallback(locked, { user: invited }) }
    }),
  )
  const batch = openDatabase({ url: test.databaseUrl, poolSize: 1 })
  t.teardown(() => batch.destroy())
  const landings = await batch.transaction().execute(async trx => {
    await sql`SELECT FROM members WHERE workspace_id = ${locked.workspaceId} FOR UPDATE`.execute(trx)
    const opened = Promise.all(callbacks.map(({ browser, callback }) => browser.open(callback)))
    await sleep(1_000)
    const start = performance.now()
    const reply = await app.inject({ url: `${other.url}/members`, headers: other.headers })
    t.equal(reply.statusCode, 200)
    t.ok(performance.now() - start < 1_000, 'the other workspace does not wait')
    return { opened }
  })
  for (const landing of await landings.opened) t.equal(landing.code, undefined)
})
