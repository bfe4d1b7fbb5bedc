import t from 'tap'
import { makeAccessWorld } from '../helpers/access.ts'
import { bearer } from '../helpers/app.ts'

/** Ana is in Support, Bea in Sales and Support, Cid in nothing; Support gives the group and Sales a role. */
async function makeTeam(t: Parameters<typeof makeAccessWorld>[0]) {
  const world = await makeAccessWorld(t)
  const [ana, bea, cid] = [await world.addPerson('ana'), await world.addPerson('bea'), await world.addPerson('cid')]
  const support = await world.addGroup('Support', ana.userId, bea.userId)
  const sales = await world.addGroup('Sales', bea.userId)
  const desk = await world.addAssistGroup('Desk')
  return { ...world, ana, bea, cid, support, sales, desk }
}

t.test('a preview says who gains what and why, changes nothing, and its version applies exactly that', async t => {
  const { ask, map, ana, bea, support, sales, desk, directoryId, accessOf, join, cid } = await makeTeam(t)
  const { id: salesMapping } = await map(sales, { role: 'admin' })
  const mapping = { directoryId, scimGroupId: support, groupId: desk, role: 'member' }
  const preview = async () => ask('POST', '/group-mappings/preview', { change: 'create', mapping }, 200)
  const seen = await preview()
  t.match(seen, { totals: { gains: 2, loses: 0, changes: 0, keeps: 0 }, lastOwners: 0 })
  t.match(seen.items, [
    {
      memberId: ana.memberId,
      email: 'ana@example.com',
      effect: 'gains',
      before: { role: 'member', why: { by: 'default' } },
      after: { role: 'member', why: { by: 'mapping' } },
      groupsGained: [{ id: desk, name: 'Desk' }],
      groupsLost: [],
    },
    {
      memberId: bea.memberId,
      before: { role: 'admin', why: { by: 'mapping', mappingIds: [salesMapping] } },
      after: { role: 'admin', why: { by: 'mapping', mappingIds: [salesMapping] } },
    },
  ])
  t.same(await accessOf(ana.memberId), { role: 'member', groups: [] })
  t.equal((await ask('GET', '/group-mappings')).items.length, 1, 'nothing was written')

  await join(support, cid.userId)
  const stale = { ...mapping, previewVersion: seen.version }
  t.match(await ask('POST', '/group-mappings', stale, 409), { code: 'preview_stale' })
  t.equal((await ask('GET', '/group-mappings')).items.length, 1, 'what is stale is not applied')
  await ask('POST', '/group-mappings', { ...mapping, previewVersion: (await preview()).version })
  t.same(await accessOf(cid.memberId), { role: 'member', groups: [desk] })
})

t.test('a preview comes in pages and by effect, with the same version and totals on each', async t => {
  const { ask, map, ana, bea, cid, support, sales, directoryId, join } = await makeTeam(t)
  await join(support, cid.userId)
  await map(sales, { role: 'admin' })
  const body = { change: 'create', mapping: { directoryId, scimGroupId: support, role: 'admin' } }
  const page = async (query: string) => ask('POST', `/group-mappings/preview?${query}`, body, 200)
  const first = await page('limit=2')
  t.same(
    first.items.map((each: { memberId: string }) => each.memberId),
    [ana.memberId, bea.memberId],
  )
  const second = await page(`limit=2&after=${first.next}`)
  t.match(second.items, [{ memberId: cid.memberId }])
  t.notOk(second.next)
  t.same([second.version, second.totals], [first.version, first.totals])
  t.match(first.totals, { gains: 2, keeps: 1 })
  const kept = await page('effect=keeps')
  t.match(kept.items, [{ memberId: bea.memberId, effect: 'keeps' }])
  t.equal(kept.items.length, 1)
})

t.test('a mapping is changed and deleted by what the preview showed, and a change of both kinds is told', async t => {
  const { ask, map, ana, support, desk, accessOf } = await makeTeam(t)
  const hall = (await ask('POST', '/groups', { name: 'Hall' })).id
  const { id } = await map(support, { groupId: desk, role: 'viewer' })
  const update = { change: 'update', mappingId: id, groupId: hall, role: 'admin' }
  const seen = await ask('POST', '/group-mappings/preview', update, 200)
  t.match(seen.totals, { changes: 2 })
  t.match(seen.items[0], {
    before: { role: 'viewer' },
    after: { role: 'admin', why: { by: 'mapping', mappingIds: [id] } },
    groupsGained: [{ name: 'Hall' }],
    groupsLost: [{ name: 'Desk' }],
  })
  const change = { groupId: hall, role: 'admin', previewVersion: seen.version }
  t.match(await ask('PATCH', `/group-mappings/${id}`, change), { version: 2, groupName: 'Hall', role: 'admin' })
  t.same(await accessOf(ana.memberId), { role: 'admin', groups: [hall] })
  t.match(await ask('PATCH', `/group-mappings/${id}`, { groupId: null, role: null }, 400), { code: 'invalid' })

  const end = await ask('POST', '/group-mappings/preview', { change: 'delete', mappingId: id }, 200)
  t.match(end.totals, { loses: 2 })
  t.match(
    await ask('DELETE', `/group-mappings/${id}?previewVersion=${seen.version}`, undefined, 409),
    { code: 'preview_stale' },
    'the version of another change is none of this one',
  )
  await ask('DELETE', `/group-mappings/${id}?previewVersion=${end.version}`, undefined, 204)
  t.same(await accessOf(ana.memberId), { role: 'member', groups: [] })
})

t.test('an Assist group that is mapped goes only by a preview; a role from the same mapping stays', async t => {
  const { ask, map, ana, bea, support, sales, desk, accessOf } = await makeTeam(t)
  await map(support, { groupId: desk, role: 'admin' })
  const { id: only } = await map(sales, { groupId: desk })
  t.match(await ask('DELETE', `/groups/${desk}`, undefined, 409), { code: 'group_mapped' })
  const seen = await ask('POST', `/groups/${desk}/deletion-preview`, undefined, 200)
  t.match(seen, { totals: { loses: 2 }, items: [{ groupsLost: [{ name: 'Desk' }], after: { role: 'admin' } }, {}] })
  await ask('DELETE', `/groups/${desk}?previewVersion=${seen.version}`, undefined, 204)
  for (const { memberId } of [ana, bea]) t.same(await accessOf(memberId), { role: 'admin', groups: [] })
  const left = (await ask('GET', '/group-mappings')).items
  t.match(left, [{ groupId: null, role: 'admin' }])
  t.notOk(left.some((each: { id: string }) => each.id === only))
})

t.test('another default role reaches everybody to whom nothing else gives one, and is previewed', async t => {
  const { ask, askAsAdmin, map, ana, cid, support, accessOf } = await makeTeam(t)
  await map(support, { role: 'admin' })
  const seen = await ask('POST', '/default-role/preview', { role: 'viewer' }, 200)
  t.match(seen, { totals: { gains: 0, loses: 1, keeps: 2 } })
  await ask('PUT', '/default-role', { role: 'viewer', previewVersion: seen.version })
  t.match(await ask('GET', '/default-role'), { role: 'viewer' })
  t.match(await accessOf(cid.memberId), { role: 'viewer' })
  t.match(await accessOf(ana.memberId), { role: 'admin' })
  t.match(await askAsAdmin('PUT', '/default-role', { role: 'owner' }, 403), { code: 'role_above_own' })
  t.match(await askAsAdmin('POST', '/default-role/preview', { role: 'emperor' }, 400), { code: 'role_unknown' })
  t.match(await ask('POST', '/access/reconcile', undefined, 200), { members: 3, repaired: 0 })
})

t.test('switching a directory off keeps what its groups gave, or releases it as the preview said', async t => {
  const { ask, map, ana, support, desk, directoryId, accessOf } = await makeTeam(t)
  await map(support, { groupId: desk, role: 'admin' })
  const path = `/directories/${directoryId}`
  const preview = async (body: object) => ask('POST', `${path}/preview`, body, 200)
  t.match(await preview({ enabled: false }), { totals: { loses: 0, keeps: 3 } })
  await ask('PATCH', path, { enabled: false })
  t.match(await accessOf(ana.memberId), { role: 'admin' })
  const seen = await preview({ whenOff: 'release' })
  t.match(seen, { totals: { loses: 2, keeps: 1 } })
  await ask('PATCH', path, { whenOff: 'release', previewVersion: seen.version })
  t.same(await accessOf(ana.memberId), { role: 'member', groups: [] })
  await ask('PATCH', path, { enabled: true })
  t.same(await accessOf(ana.memberId), { role: 'admin', groups: [desk] })
  t.match(await ask('POST', '/access/reconcile', undefined, 200), { repaired: 0 })
})

t.test('a mapping made before its group comes is bound at first sight, told, and never by a rename', async t => {
  const { ask, addGroup, patch, directoryId, ana, bea, desk, accessOf, entries } = await makeTeam(t)
  const awaiting = { directoryId, scimGroupName: 'Engineering', groupId: desk, role: 'admin' }
  const { id } = await ask('POST', '/group-mappings', awaiting)
  t.match(await ask('GET', `/group-mappings/${id}`), {
    isAwaited: true,
    scimGroupId: null,
    scimGroupName: 'Engineering',
  })
  t.match(await ask('POST', '/group-mappings', awaiting, 409), { code: 'mapping_exists' })
  const other = await addGroup('Other', bea.userId)
  const engineering = await addGroup('Engineering', ana.userId)
  t.same(await accessOf(ana.memberId), { role: 'admin', groups: [desk] })
  t.match(await ask('GET', `/group-mappings/${id}`), { isAwaited: false, scimGroupId: engineering })
  const { items } = await ask('GET', '/activity?kind=group_mapping.bound')
  t.match(items, [{ target: { id }, actor: { type: 'directory' }, detail: { displayName: 'Engineering' } }])

  await patch(`/Groups/${engineering}`, { op: 'replace', path: 'displayName', value: 'R&D' })
  t.match(await accessOf(ana.memberId), { role: 'admin' }, 'a rename breaks nothing')
  await ask('POST', '/group-mappings', { directoryId, scimGroupName: 'Ops', role: 'admin' })
  await patch(`/Groups/${other}`, { op: 'replace', path: 'displayName', value: 'Ops' })
  t.match(await accessOf(bea.memberId), { role: 'member' }, 'and widens nothing')
  t.match(await ask('POST', '/group-mappings', { directoryId, scimGroupName: 'R&D', role: 'viewer' }), {
    isAwaited: false,
    scimGroupId: engineering,
  })
  t.match(await ask('POST', '/access/reconcile', undefined, 200), { repaired: 0 })
  t.ok((await entries()).length > 0)
})

t.test('a name that is awaited and a group of that name that come at one moment do not miss each other', async t => {
  const { ask, addGroup, addPerson, directoryId, accessOf } = await makeAccessWorld(t)
  for (let round = 0; round < 6; round++) {
    const { userId, memberId } = await addPerson(`user-${round}`)
    const mapping = { directoryId, scimGroupName: `Group ${round}`, role: 'admin' }
    await Promise.all([ask('POST', '/group-mappings', mapping), addGroup(`Group ${round}`, userId)])
    t.match(await accessOf(memberId), { role: 'admin' }, `round ${round}`)
  }
})

t.test('previews and changes are refused with a code of their own, and nothing changes', async t => {
  const world = await makeTeam(t)
  const { ask, askAsAdmin, map, support, desk, directoryId, app, url, workspaceId, patch, sales } = world
  const stranger = await makeAccessWorld(t, { sibling: world })
  const { id } = await map(support, { groupId: desk })
  const foreign = '0190a6c8-8f00-7000-8000-0000000000ff'
  const mapping = { directoryId, scimGroupId: support }
  for (const [code, status, given] of [
    ['group_unknown', 404, { ...mapping, groupId: foreign }],
    ['scim_group_unknown', 404, { directoryId: stranger.directoryId, scimGroupId: support, role: 'member' }],
    ['not_found', 404, { directoryId: foreign, scimGroupName: 'X', role: 'member' }],
    ['mapping_exists', 409, { ...mapping, groupId: desk }],
    ['role_unknown', 400, { ...mapping, role: 'emperor' }],
    ['role_above_own', 403, { ...mapping, role: 'owner' }],
    ['invalid', 400, { ...mapping, scimGroupName: 'Support', role: 'member' }],
    ['invalid', 400, { directoryId, claimedGroup: 'x', role: 'member' }],
  ] as const) {
    t.match(await askAsAdmin('POST', '/group-mappings', given, status), { code })
    const preview = { change: 'create', mapping: given }
    t.match(await askAsAdmin('POST', '/group-mappings/preview', preview, status), { code })
  }
  t.match(await askAsAdmin('PATCH', `/group-mappings/${id}`, { role: 'owner' }, 403), { code: 'role_above_own' })
  const member = await bearer({ workspace: workspaceId, role: 'member' })
  const reply = await app.inject({ method: 'POST', url: `${url}/access/reconcile`, headers: member })
  t.equal(reply.statusCode, 403)
  t.equal((await ask('GET', '/group-mappings')).items.length, 1)

  const nest = (outer: string, inner: string) =>
    patch(`/Groups/${outer}`, { op: 'add', path: 'members', value: [{ value: inner }] })
  t.ok((await nest(support, sales)).statusCode < 300)
  const circle = await nest(sales, support)
  t.equal(circle.statusCode, 400)
  t.match(circle.json(), { scimType: 'invalidValue', detail: /contains this group/ })
})

t.test('a directory that takes the role from the last owner leaves it to them by hand, and says so', async t => {
  const { ask, map, ana, support, leave, accessOf } = await makeTeam(t)
  const world = { ask, map, ana, support, leave }
  const owners = await ask('GET', '/members?role=owner')
  t.same(owners.items, [])
  await world.map(support, { role: 'owner' })
  await ask('PATCH', `/members/${(await ask('GET', '/members')).items[1].id}`, { grant: 'locked', role: 'viewer' })
  await leave(support, ana.userId)
  t.match(await accessOf(ana.memberId), { role: 'owner' })
  t.match(await ask('GET', `/members/${ana.memberId}`), { manualRole: 'owner', manualPolicy: 'floor' })
  t.match((await ask('GET', '/activity?kind=member.owner_kept')).items, [{ memberId: ana.memberId }])
  t.match(await ask('POST', '/access/reconcile', undefined, 200), { repaired: 0 })
  t.match(await ask('PATCH', `/members/${ana.memberId}`, { grant: 'none' }, 409), { code: 'last_owner' })
})
