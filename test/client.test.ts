import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import createClient from 'openapi-fetch'
import t from 'tap'
import { makeTestProof, testCodeOf } from './helpers/sign-in.ts'
import { parse } from 'yaml'
import { uuid7 } from '../src/uuid7.ts'
import { makeApp, serviceHeaders, signToken } from './helpers/app.ts'
import { startDnsServer } from './helpers/dns-server.ts'
import { startProvider } from '../tools/loopback-provider.ts'

/** What a front-end knows of the service: openapi.yaml, and nothing of its code. */
interface Document {
  paths: Record<string, Record<string, { operationId: string }>>
}

const document = parse(await readFile(join(import.meta.dirname, '../openapi.yaml'), 'utf8')) as Document
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, { operationId }]) => ({ operationId, method, path })),
)

interface Input {
  path?: Record<string, string>
  query?: Record<string, string | number>
  headers?: Record<string, string>
  body?: unknown
  parseAs?: 'text'
}

type Paths = Record<string, Record<string, { parameters: object; responses: Record<number, unknown> }>>

/** Calls operations by their ids with the openapi-fetch client, over real HTTP. */
function clientOf(baseUrl: string, headers: Record<string, string>, called: Set<string>) {
  const client = createClient<Paths>({ baseUrl, headers })
  return async (operationId: string, status: number, input: Input = {}) => {
    const { path = {}, query = {}, headers: more, body, parseAs } = input
    const operation = operations.find(each => each.operationId === operationId)
    if (!operation) throw new Error(`openapi.yaml has no operation ${operationId}.`)
    called.add(operationId)
    const content = { ...(body !== undefined && { body }), ...(parseAs && { parseAs }) }
    const init = { params: { path, query }, ...(more && { headers: more }), ...content }
    const request = client.request as unknown as (
      method: string,
      path: string,
      options: object,
      // oxlint-disable-next-line typescript/no-explicit-any -- an untyped client, such as one in plain JavaScript
    ) => Promise<{ data?: any; error?: any; response: Response }>
    const { data, error, response } = await request(operation.method, operation.path, init)
    t.equal(response.status, status, `${operationId} ${JSON.stringify(error ?? '')}`)
    return { body: data ?? error, headers: response.headers }
  }
}

t.test('a client made from openapi.yaml does all that the admin pages do', async t => {
  const dns = await startDnsServer(t)
  const { app, db } = await makeApp(t, { settings: { DNS_SERVERS: dns.address } })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const baseUrl = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const workspaceId = uuid7()
  const path = { workspaceId }
  const called = new Set<string>()
  const service = clientOf(baseUrl, serviceHeaders, called)
  const email = 'owner@example.com'
  const token = await signToken({ workspace: workspaceId, role: 'owner', sub: 'user-1', email })
  const owner = clientOf(baseUrl, { authorization: `Bearer ${token}` }, called)

  const redirectUris = [`https://sso.assist.example/sso/${workspaceId}/callback`]
  const client = { clientId: 'assist', clientSecret: 'only-for-this-test', redirectUris }
  const provider = await startProvider({ accounts: [{ sub: 'u-1', email, name: 'Olga Owner' }], clients: [client] })
  t.teardown(provider.close)

  t.test('a back-end of Assist makes the workspace and approves its domain', async t => {
    await service('saveWorkspace', 200, { path, body: { name: 'acme' } })
    t.match((await service('getWorkspace', 200, { path })).body, { id: workspaceId, name: 'acme' })
    const domain = { ...path, domain: 'example.com' }
    await service('approveDomain', 200, { path: domain })
    t.match((await owner('getDomain', 200, { path: domain })).body, { domain: 'example.com' })
    t.equal((await owner('listDomains', 200, { path })).body.items.length, 1)
    await service('removeDomain', 204, { path: domain })
    const { proof } = (await owner('claimDomain', 201, { path, body: { domain: domain.domain } })).body
    t.equal((await owner('verifyDomain', 409, { path: domain })).body.code, 'domain_not_proven')
    dns.records.set(proof.name as string, [proof.value as string])
    t.equal((await owner('verifyDomain', 200, { path: domain })).body.verifiedBy, 'dns')
    await owner('removeDomain', 204, { path: domain })
  })

  t.test('the SSO page tests a draft, saves it, changes it, and is told when somebody else was faster', async t => {
    const { issuer } = provider
    const setup = await owner('getSsoSetup', 200, { path, query: { issuer } })
    t.match(setup.body, { redirectUri: redirectUris[0], guide: { kind: 'generic' } })
    t.match((await owner('checkSsoConfig', 200, { path, body: { issuer } })).body.passed, Boolean)
    const { clientId, clientSecret } = client
    await owner('saveSsoConfig', 200, { path, body: { issuer, clientId, clientSecret, enabled: false } })
    const { body, headers } = await owner('getSsoConfig', 200, { path })
    t.match(body, { issuer, hasClientSecret: true, enabled: false, redirectUri: redirectUris[0] })
    const ifMatch = { 'if-match': headers.get('etag')! }
    await owner('changeSsoConfig', 200, { path, headers: ifMatch, body: { enabled: true } })
    const late = await owner('changeSsoConfig', 412, { path, headers: ifMatch, body: { enabled: false } })
    t.equal(late.body.code, 'version_conflict')
    await owner('deleteSsoConfig', 204, { path })
    t.equal((await owner('getSsoConfig', 404, { path })).body.code, 'sso_not_configured')
  })

  t.test('the sessions page shortens sessions and signs people out', async t => {
    const strict = { sessionHours: 8, sessionIdleMinutes: 30, maxAgeSeconds: 3600, acrValues: ['mfa'] }
    const operators = await owner('getSignInPolicy', 200, { path })
    t.match(operators.body, { sessionHours: 12, acrValues: [], version: 0 })
    const ifMatch = { 'if-match': operators.headers.get('etag')! }
    t.match((await owner('saveSignInPolicy', 200, { path, headers: ifMatch, body: strict })).body, strict)
    await owner('saveSignInPolicy', 412, { path, headers: ifMatch, body: strict })
    await owner('deleteSignInPolicy', 204, { path })
    t.same((await owner('listWorkspaceSessions', 200, { path })).body, { items: [] })
    t.same((await owner('endWorkspaceSessions', 200, { path })).body, { sessionsEnded: 0 })
    await owner('endWorkspaceSession', 404, { path: { ...path, sessionId: uuid7() } })
    await owner('endMemberSessions', 404, { path: { ...path, memberId: uuid7() } })
  })

  t.test('the SSO page rotates secrets, tests a sign-in, enforces SSO, and lifts it', async t => {
    const person = { workspace_id: workspaceId, id: uuid7(), email, email_key: email, origin: 'invite' } as const
    const role = { role: 'owner', manual_role: 'owner', manual_policy: 'floor', status: 'active' } as const
    await db
      .insertInto('members')
      .values({ ...person, ...role })
      .execute()
    const { clientId, clientSecret } = client
    await owner('saveSsoConfig', 200, { path, body: { issuer: provider.issuer, clientId, clientSecret } })
    const key = {
      ...path,
      credentialId: (await owner('addSsoCredential', 201, { path, body: { kind: 'key' } })).body.id,
    }
    await owner('deleteSsoCredential', 204, { path: key })
    const [secret] = (await owner('listSsoCredentials', 200, { path })).body.items
    const expiresAt = '2099-01-01T00:00:00.000Z'
    const body = { expiresAt }
    const changed = await owner('changeSsoCredential', 200, { path: { ...path, credentialId: secret.id }, body })
    t.match(changed.body, { kind: 'secret', expiresAt })

    const { verifier, challenge } = makeTestProof()
    const { id, startUrl } = (await owner('createSignInTest', 201, { path, body: { challenge } })).body
    const start = await fetch((startUrl as string).replace('https://sso.assist.example', baseUrl), {
      redirect: 'manual',
    })
    const cookie = start.headers.getSetCookie()[0]!.split(';', 1)[0]!
    const callback = await provider.signIn(start.headers.get('location')!, 'u-1')
    const end = await fetch(callback.replace('https://sso.assist.example', baseUrl), {
      headers: { cookie },
      redirect: 'manual',
    })
    const test = { ...path, signInTestId: id as string }
    t.match((await owner('getSignInTest', 200, { path: test })).body, { status: 'unconfirmed' })
    const confirmation = { code: testCodeOf(end.headers.get('location')!), verifier }
    t.match((await owner('confirmSignInTest', 200, { path: test, body: confirmation })).body, { status: 'passed' })
    const proof = { path: test, body: { verifier } }
    t.match((await owner('showSignInTestClaims', 200, proof)).body, { claims: { sub: 'u-1' } })
    await owner('linkSignInTest', 200, proof)
    t.equal((await owner('applySignInTest', 409, proof)).body.code, 'conflict', 'it is saved already')

    t.equal((await owner('createRecoveryCodes', 201, { path })).body.codes.length, 10)
    t.match((await owner('getRecoveryCodes', 200, { path })).body, { unused: 10 })
    t.match((await owner('getSsoEnforcement', 200, { path })).body, { enforced: false, verdict: { isSafe: true } })
    t.same((await owner('listLockedOutMembers', 200, { path })).body.items, [])
    t.match((await owner('enforceSso', 200, { path, body: {} })).body, { enforced: true })
    t.equal((await owner('getSsoConfig', 403, { path })).body.code, 'sso_required', 'this is no session by SSO')
    await service('liftSsoEnforcement', 204, { path })
    await owner('deleteSsoConfig', 204, { path })
  })

  t.test('the members page invites, gives roles, withdraws', async t => {
    const invitation = { email: 'ana@example.com', displayName: 'Ana Example' }
    const invited = await owner('inviteMember', 201, { path, body: invitation })
    const one = { ...path, memberId: invited.body.id as string }
    t.match((await owner('getMember', 200, { path: one })).body, { status: 'invited', role: 'member' })
    const changed = await owner('changeMemberRole', 200, { path: one, body: { grant: 'floor', role: 'admin' } })
    t.equal(changed.body.role, 'admin')
    const renamed = await owner('changeMemberProfile', 200, { path: one, body: { displayName: 'Ana E.' } })
    t.equal(renamed.body.displayName, 'Ana E.')
    t.equal((await owner('inviteMember', 409, { path, body: invitation })).body.code, 'conflict')
    t.equal((await owner('listMembers', 200, { path, query: { q: 'ana@', status: 'invited' } })).body.items.length, 1)
    await owner('withdrawInvitation', 204, { path: one })
    await owner('getMember', 404, { path: one })
  })

  t.test('the directory page connects a directory, exchanges its token, and shows what came', async t => {
    const created = await owner('createDirectory', 201, { path, body: { name: 'Okta' } })
    const one = { ...path, directoryId: created.body.id as string }
    t.equal(created.headers.get('location'), `/v1/workspaces/${workspaceId}/directories/${one.directoryId}`)
    const first = await owner('createDirectoryToken', 201, { path: one, body: {} })
    t.equal(first.headers.get('cache-control'), 'no-store')
    const second = await owner('createDirectoryToken', 201, { path: one, body: { expiresInDays: 90 } })
    t.equal((await owner('createDirectoryToken', 409, { path: one, body: {} })).body.code, 'token_limit')
    await owner('revokeDirectoryToken', 204, { path: { ...one, tokenId: first.body.id as string } })
    const tokens = (await owner('listDirectoryTokens', 200, { path: one })).body.items as { status: string }[]
    t.same(new Set(tokens.map(each => each.status)), new Set(['live', 'revoked']))

    const directory = clientOf(baseUrl, { authorization: `Bearer ${second.body.token as string}` }, called)
    const { directoryId } = one
    const core = 'urn:ietf:params:scim:schemas:core:2.0'
    const person = { schemas: [`${core}:User`], userName: 'ben@example.com', emails: [{ value: 'ben@example.com' }] }
    const user = await directory('createUser', 201, { path: { directoryId }, body: person })
    const team = { schemas: [`${core}:Group`], displayName: 'Team', members: [{ value: user.body.id as string }] }
    const scimGroup = await directory('createScimGroup', 201, { path: { directoryId }, body: team })
    t.match((await owner('listDirectoryUsers', 200, { path: one })).body.items, [{ userName: 'ben@example.com' }])
    t.match((await owner('listDirectoryGroups', 200, { path: one })).body.items, [{ displayName: 'Team' }])

    const group = await owner('createGroup', 201, { path, body: { name: 'Engineers' } })
    const ours = { ...path, groupId: group.body.id as string }
    const rule = { directoryId, scimGroupId: scimGroup.body.id as string, groupId: ours.groupId, role: 'admin' }
    const draft = { change: 'create', mapping: rule }
    const preview = await owner('previewGroupMapping', 200, { path, body: draft })
    t.equal(preview.body.totals.gains, 1)
    const asShown = { ...rule, previewVersion: preview.body.version as string }
    const mapping = await owner('createGroupMapping', 201, { path, body: asShown })
    t.equal((await owner('createGroupMapping', 409, { path, body: asShown })).body.code, 'mapping_exists')
    const mapped = { ...path, mappingId: mapping.body.id as string }
    t.match((await owner('getGroupMapping', 200, { path: mapped })).body, { scimGroupName: 'Team', role: 'admin' })
    t.equal((await owner('listGroupMappings', 200, { path })).body.items.length, 1)
    const [ben] = (await owner('listGroupMembers', 200, { path: ours })).body.items
    t.match(ben, { email: 'ben@example.com', role: 'admin' })

    const member = { ...path, memberId: ben.id as string }
    const { role, groups } = (await owner('explainAccess', 200, { path: member })).body
    t.match({ role, groups }, { role: { value: 'admin', why: { by: 'mapping' } }, groups: [{ name: 'Engineers' }] })
    t.equal((await owner('deactivateMember', 200, { path: member })).body.status, 'deactivated')
    t.equal((await owner('reactivateMember', 200, { path: member })).body.status, 'active')
    await owner('resetMemberIdentities', 204, { path: member })

    const fewer = await owner('changeGroupMapping', 200, { path: mapped, body: { role: null } })
    t.match(fewer.body, { role: null, groupName: 'Engineers' })
    const deletion = await owner('previewGroupDeletion', 200, { path: ours })
    t.equal(deletion.body.totals.loses, 1)
    await owner('deleteGroupMapping', 204, { path: mapped })
    t.equal((await owner('renameGroup', 200, { path: ours, body: { name: 'Makers' } })).body.name, 'Makers')
    t.match((await owner('getGroup', 200, { path: ours })).body, { name: 'Makers' })
    t.equal((await owner('listGroups', 200, { path })).body.items.length, 1)
    await owner('deleteGroup', 204, { path: ours })

    const switchedOff = { path: one, body: { enabled: false, whenOff: 'release' } }
    await owner('previewDirectory', 200, switchedOff)
    await owner('changeDirectory', 200, { path: one, body: { guard: { people: 1 } } })
    const leaves = {
      schemas: ['urn:ietf:params:scim:api:messages:2.0:PatchOp'],
      Operations: [{ op: 'replace', path: 'active', value: false }],
    }
    const userIds = [user.body.id as string]
    for (const userName of ['cleo@example.com', 'dora@example.com']) {
      const other = await directory('createUser', 201, {
        path: { directoryId },
        body: { ...person, userName, emails: [] },
      })
      userIds.push(other.body.id as string)
    }
    for (const [index, id] of userIds.entries()) {
      await directory('patchUser', index === 0 ? 200 : 429, { path: { directoryId, id }, body: leaves })
    }
    const held = (await owner('listHeldRemovals', 200, { path: one })).body.items
    t.match(held, [{ userName: 'cleo@example.com' }, { userName: 'dora@example.com' }])
    const cleo = { userIds: [userIds[1]] }
    t.equal((await owner('releaseHeldRemovals', 200, { path: one, body: cleo })).body.people, 1)
    t.equal((await owner('acceptHeldRemovals', 200, { path: one, body: { all: true } })).body.people, 1)

    t.equal((await owner('deleteDirectory', 409, { path: one })).body.code, 'conflict')
    await owner('changeDirectory', 200, { path: one, body: { guard: { people: null } } })
    for (const id of userIds) await directory('deleteUser', 204, { path: { directoryId, id } })
    await directory('deleteScimGroup', 204, { path: { directoryId, id: scimGroup.body.id as string } })
    await owner('changeDirectory', 200, { path: one, body: { mode: 'strict' } })
    t.match((await owner('getDirectory', 200, { path: one })).body, { name: 'Okta', mode: 'strict' })
    t.equal((await owner('listDirectories', 200, { path })).body.items.length, 1)
    await owner('deleteDirectory', 204, { path: one })
  })

  t.test('the access page shows who may do what, and what another default role would change', async t => {
    t.equal((await owner('getDefaultRole', 200, { path })).body.role, 'member')
    const preview = await owner('previewDefaultRole', 200, { path, body: { role: 'viewer' } })
    await owner('setDefaultRole', 200, {
      path,
      body: { role: 'viewer', previewVersion: preview.body.version as string },
    })
    t.match((await owner('reportAccess', 200, { path })).body, { items: Array, at: String })
    t.match((await owner('reportAccessAsCsv', 200, { path, parseAs: 'text' })).body, /^at,member_id,/)
    t.equal((await owner('reconcileAccess', 200, { path })).body.repaired, 0)
  })

  t.test('the activity page reads everything that happened, page by page', async t => {
    const seen: string[] = []
    for (let after: string | undefined; ;) {
      const query = { limit: 3, ...(after !== undefined && { after }) }
      const { items, next } = (await owner('listActivity', 200, { path, query })).body
      seen.push(...items.map((each: { action: string }) => each.action))
      if (next === undefined) break
      after = next
    }
    t.equal(seen.at(-1), 'workspace.saved')
    t.ok(['sso_config.saved', 'sso_config.deleted', 'directory_token.revoked'].every(each => seen.includes(each)))
  })

  t.test('no operation of the admin API was left out', async t => {
    const admin = operations.filter(each => each.path.startsWith('/v1/workspaces/')).map(each => each.operationId)
    t.same(
      admin.filter(each => !called.has(each)),
      [],
    )
  })
})
