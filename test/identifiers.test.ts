import t from 'tap'
import { makeOpaqueToken, readOpaqueToken } from '../src/opaque-token.ts'
import { isUuid, uuid7 } from '../src/uuid7.ts'

t.test('ids of one process are UUIDs of version 7, grow strictly, and share no random part', async t => {
  const ids = Array.from({ length: 20_000 }, () => uuid7())
  t.ok(ids.every(id => isUuid(id) && id[14] === '7' && '89ab'.includes(id.charAt(19))))
  t.same(ids.toSorted(), ids)
  t.equal(new Set(ids.map(id => id.slice(19))).size, ids.length)
  t.ok(Math.abs(Number.parseInt(uuid7().replace('-', '').slice(0, 12), 16) - Date.now()) < 60_000)
})

t.test('a token tells its workspace and its kind, and is nothing else’s', async t => {
  const workspaceId = uuid7()
  const { token, hash } = makeOpaqueToken('scim', workspaceId)
  t.same(readOpaqueToken('scim', token), { workspaceId, hash })
  t.not(makeOpaqueToken('scim', workspaceId).token, token)
  for (const other of [token.slice(0, -1), `${token}A`, token.replace('scim', 'ses'), '', 'scim_']) {
    t.equal(readOpaqueToken('scim', other), undefined)
  }
  t.equal(readOpaqueToken('ses', token), undefined)
})
