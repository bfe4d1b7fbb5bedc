import t from 'tap'
import { reportAccessAsCsv } from '../../src/access/explanation/access-report.ts'
import { createWorkClass } from '../../src/db/work-class.ts'
import { makeAccessWorld } from '../helpers/access.ts'

const pause = () => new Promise(resolve => setTimeout(resolve, 10))
const now = () => new Date().toISOString()

t.test('access is explained by the rule that gives it, those that lost, and the entries that made it so', async t => {
  const { ask, addPerson, addGroup, addAssistGroup, map, directoryId } = await makeAccessWorld(t)
  const { userId, memberId } = await addPerson('ana')
  const [support, sales] = [await addGroup('Support', userId), await addGroup('Sales', userId)]
  const desk = await addAssistGroup('Desk')
  const low = await map(support, { groupId: desk, role: 'viewer' })
  const high = await map(sales, { role: 'admin' })
  const plain = await map(sales, { groupId: desk })
  const explain = () => ask('GET', `/members/${memberId}/access`)
  t.match(await explain(), {
    memberId,
    status: {
      value: 'active',
      changedBy: { action: 'scim_user.created', actor: { type: 'directory', id: directoryId } },
    },
    role: {
      value: 'admin',
      why: { by: 'mapping', mappingIds: [high.id] },
      changedBy: { action: 'group_mapping.created', actor: { type: 'user', id: 'user-1' } },
    },
    groups: [
      { id: desk, name: 'Desk', mappingIds: [low.id, plain.id], changedBy: { action: 'group_mapping.created' } },
    ],
    rules: [
      { mappingId: low.id, scimGroupName: 'Support', role: 'viewer', outcome: 'outranked' },
      { mappingId: high.id, scimGroupName: 'Sales', role: 'admin', outcome: 'gives_role' },
      { mappingId: plain.id, role: null, outcome: 'gives_no_role', changedBy: { action: 'group_mapping.created' } },
    ],
    manual: null,
    defaultRole: { role: 'member', changedBy: { action: 'workspace.saved' } },
  })
  await ask('PATCH', `/members/${memberId}`, { grant: 'floor', role: 'viewer' })
  t.match((await explain()).role, { why: { by: 'mapping' } }, 'a floor below what mappings give decides nothing')
  t.match((await explain()).manual, { role: 'viewer', policy: 'floor', changedBy: { action: 'member.updated' } })
  await ask('PATCH', `/members/${memberId}`, { grant: 'floor', role: 'owner' })
  t.match((await explain()).role, { value: 'owner', why: { by: 'floor', mappingIds: [] } })
  await ask('PATCH', `/members/${memberId}`, { grant: 'locked', role: 'owner' })
  t.match((await explain()).role, { value: 'owner', why: { by: 'locked' } })
  t.ok((await explain()).rules.every((rule: { outcome: string }) => rule.outcome !== 'gives_role'))
})

t.test('a past instant is answered as it was, whatever has changed, been renamed or deleted since', async t => {
  const { ask, addPerson, addGroup, addAssistGroup, map, leave, send, patch } = await makeAccessWorld(t)
  const beforeAna = now()
  await pause()
  const { userId, memberId } = await addPerson('ana')
  const support = await addGroup('Support', userId)
  const desk = await addAssistGroup('Desk')
  const { id: mappingId } = await map(support, { groupId: desk, role: 'admin' })
  await pause()
  const then = now()
  const explainAt = (at: string, status = 200) =>
    ask('GET', `/members/${memberId}/access?at=${encodeURIComponent(at)}`, undefined, status)
  const before = await explainAt(then)
  t.match(before, { at: then, role: { value: 'admin' }, groups: [{ name: 'Desk' }], defaultRole: { role: 'member' } })

  await pause()
  await ask('PATCH', `/groups/${desk}`, { name: 'Front desk' })
  await ask('PATCH', `/group-mappings/${mappingId}`, { role: 'viewer' })
  await ask('PUT', '/default-role', { role: 'viewer' })
  await ask('PATCH', `/members/${memberId}`, { grant: 'locked', role: 'admin' })
  await leave(support, userId)
  await ask('DELETE', `/group-mappings/${mappingId}`, undefined, 204)
  await ask('DELETE', `/groups/${desk}`, undefined, 204)
  await patch(`/Users/${userId}`, { op: 'replace', path: 'active', value: false })
  t.same(await explainAt(then), before)
  t.match(await ask('GET', `/members/${memberId}/access`), {
    status: { value: 'deactivated', changedBy: { action: 'scim_user.deactivated' } },
    role: { value: 'admin', why: { by: 'locked' } },
    groups: [],
    rules: [],
    defaultRole: { role: 'viewer' },
  })
  await send('DELETE', `/Groups/${support}`)
  t.match(await explainAt(then), { rules: [{ scimGroupName: 'Support' }] })

  t.match(await explainAt(beforeAna, 404), { code: 'not_found' })
  t.match(await explainAt('2999-01-01T00:00:00Z', 400), { code: 'at_in_future' })
  t.match(await explainAt('2001-01-01T00:00:00Z', 400), { code: 'at_before_history' })
})

t.test('the access report lists everybody with access at an instant, in pages and as one CSV file', async t => {
  const { ask, addPerson, addGroup, addAssistGroup, map, patch, app, url, headers, createUser } =
    await makeAccessWorld(t)
  const people = []
  for (const name of ['ana', 'bea', 'cid']) people.push(await addPerson(name))
  const [ana, bea, cid] = people as [(typeof people)[0], (typeof people)[0], (typeof people)[0]]
  const support = await addGroup('Support', ana.userId)
  await map(support, { groupId: await addAssistGroup('Desk; "front"'), role: 'admin' })
  await patch(`/Users/${cid.userId}`, { op: 'replace', path: 'active', value: false })
  await pause()
  const then = now()
  await pause()
  await patch(`/Users/${bea.userId}`, { op: 'replace', path: 'active', value: false })
  await createUser({ userName: 'dan@example.com', displayName: '=1+1' })

  const first = await ask('GET', `/access-report?limit=1&at=${then}`)
  t.match(first, {
    at: then,
    items: [{ memberId: ana.memberId, role: 'admin', groups: [{ name: 'Desk; "front"' }] }],
  })
  const second = await ask('GET', `/access-report?limit=5&at=${then}&after=${first.next}`)
  t.match(second.items, [{ memberId: bea.memberId, role: 'member', groups: [] }])
  t.equal(second.items.length, 1)
  t.match((await ask('GET', '/access-report')).items, [{ displayName: 'ana' }, { displayName: '=1+1' }])
  t.match(await ask('GET', '/access-report?at=2999-01-01T00:00:00Z', undefined, 400), { code: 'at_in_future' })

  const csv = await app.inject({ url: `${url}/access-report.csv?at=${then}`, headers })
  t.equal(csv.headers['content-type'], 'text/csv; charset=utf-8')
  const lines = csv.body.split('\r\n')
  t.equal(lines[0], 'at,member_id,email,display_name,role,groups,since')
  const [line = ''] = lines.slice(1)
  t.ok(line.startsWith(`${then},${ana.memberId},ana@example.com,ana,admin,"Desk; ""front""",`), line)
  t.equal(lines.length, 4)
  const today = await app.inject({ url: `${url}/access-report.csv`, headers })
  t.match(today.body, `,'=1+1,`, 'no cell is a formula')
})

t.test('the CSV report waits for a turn before each page', async t => {
  const { db, addPerson, workspaceId } = await makeAccessWorld(t)
  await addPerson('ana')
  const scans = createWorkClass({ db, slots: 1 })
  const lines = (await reportAccessAsCsv(scans, { workspaceId }))[Symbol.asyncIterator]()
  t.match((await lines.next()).value, /^at,/)
  const other = Promise.withResolvers<void>()
  const running = scans.run(workspaceId, () => other.promise)
  const page = lines.next()
  t.equal(await Promise.race([page, pause().then(() => 'waits')]), 'waits')
  other.resolve()
  await running
  t.match((await page).value, /ana@example.com/)
})

t.test(
  'a member says where they came from and who decides on what; what a directory decides is refused here',
  async t => {
    const { ask, addPerson, addGroup, addAssistGroup, map } = await makeAccessWorld(t)
    const ana = await addPerson('ana')
    const support = await addGroup('Support', ana.userId)
    const desk = await addAssistGroup('Desk')
    const { id: mappingId } = await map(support, { groupId: desk })
    const { id: invited } = await ask('POST', '/members', { email: 'eva@example.com', displayName: 'Eva' })
    t.match((await ask('GET', '/members')).items, [
      {
        origin: 'directory',
        ownedBy: { email: 'directory', displayName: 'directory', status: 'directory', role: 'mappings' },
      },
      { origin: 'invite', ownedBy: { email: 'admin', displayName: 'admin', status: 'admin', role: 'default' } },
    ])
    const name = { displayName: 'Somebody else' }
    t.match(await ask('PATCH', `/members/${ana.memberId}/profile`, name, 409), {
      code: 'directory_owned',
      detail: /Okta/,
    })
    t.match(await ask('PATCH', `/members/${invited}/profile`, name), { displayName: 'Somebody else' })
    t.match((await ask('GET', `/groups/${desk}/members`)).items, [
      { id: ana.memberId, through: [{ mappingId, scimGroupName: 'Support' }] },
    ])
  },
)
