import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { makeDirectory, startSession, USER, type Headers, type TestDirectory } from './scim.ts'
import { makeTestProof, type Acme, type SignInWorld } from './sign-in.ts'

/** A workspace with at least one row behind every id that a path can name. */
export interface Tenant {
  acme: Acme
  directory: TestDirectory
  /** The value of each path parameter, by its name; `Users/id` and `Groups/id` for the ids of SCIM. */
  ids: Record<string, string>
  /** Text that is part of every personal value and secret of this workspace, and of nothing else. */
  marker: string
  /** Another directory of the same workspace with its token. */
  sibling: TestDirectory
  startSession: (name: 'olga' | 'ana') => Promise<Headers>
  /** Of a member who is no admin. */
  session: Headers
}

export async function makeTenant(t: Test, world: SignInWorld, marker: string): Promise<Tenant> {
  const acme = await world.makeAcme({ clientSecret: `${marker}-client-secret` })
  const { app, db } = world.test
  const directory = await makeDirectory(t, { sibling: { ...world.test, ...acme } })
  const sibling = await makeDirectory(t, { sibling: { ...world.test, ...acme } })
  const send = async (method: 'GET' | 'POST', path: string, payload?: object) => {
    const reply = await app.inject({
      method,
      url: `${acme.url}${path}`,
      headers: acme.headers,
      ...(payload && { payload }),
    })
    if (reply.statusCode >= 300) throw new Error(`${method} ${path}: ${reply.statusCode} ${reply.body}`)
    return reply.json()
  }
  const user = await directory.createUser({
    schemas: [USER],
    userName: `${marker}@example.com`,
    externalId: `${marker}-external`,
    displayName: `${marker} Person`,
    emails: [{ value: `${marker}@example.com`, primary: true }],
  })
  const scimGroup = await directory.createGroup(`${marker} engineers`, [user.id])
  const group = await send('POST', '/groups', { name: `${marker} group` })
  const mapping = await send('POST', '/group-mappings', {
    directoryId: directory.directoryId,
    scimGroupId: scimGroup.id,
    groupId: group.id,
  })
  const domain = `${randomBytes(6).toString('hex')}.example`
  await send('POST', '/domains', { domain })
  const [credential] = (await send('GET', '/sso-config/credentials')).items
  const [token] = (await send('GET', `/directories/${directory.directoryId}/tokens`)).items
  const signInTest = await send('POST', '/sso-config/sign-in-tests', { challenge: makeTestProof().challenge })
  const memberOf = (name: 'olga' | 'ana') =>
    db.selectFrom('members').selectAll().where('id', '=', acme.ids[name]).executeTakeFirstOrThrow()
  const sessionOf = async (name: 'olga' | 'ana') => startSession(world.test, await memberOf(name))
  const ownSession = await sessionOf('ana')
  const session = await db
    .selectFrom('sessions')
    .select('id')
    .where('workspace_id', '=', acme.workspaceId)
    .executeTakeFirstOrThrow()
  return {
    acme,
    directory,
    sibling,
    marker,
    startSession: sessionOf,
    session: ownSession,
    ids: {
      workspaceId: acme.workspaceId,
      directoryId: directory.directoryId,
      memberId: (await directory.memberOf(user.id)).id,
      groupId: group.id,
      scimGroupId: scimGroup.id,
      scimUserId: user.id,
      mappingId: mapping.id,
      domain,
      credentialId: credential.id,
      tokenId: token.id,
      sessionId: session.id,
      signInTestId: signInTest.id,
      token: new URL(signInTest.startUrl).pathname.split('/').at(-1) ?? '',
      'Users/id': user.id,
      'Groups/id': scimGroup.id,
      'Schemas/id': USER,
      'ResourceTypes/id': 'User',
      '*': 'swagger-initializer.js',
    },
  }
}

/** The path of a route with the ids that `idOf` gives. Throws when a parameter has none: a new kind of id needs a row in makeTenant. */
export function pathOf(url: string, idOf: (name: string) => string | undefined): string {
  return url.replaceAll(/:(\w+)|\*/g, (match, name: string | undefined, offset: number) => {
    const kind =
      name === undefined
        ? match
        : name === 'id'
          ? `${url
              .slice(0, offset - 1)
              .split('/')
              .at(-1)}/id`
          : name
    const id = idOf(kind)
    if (id === undefined) throw new Error(`makeTenant has no id for ${kind} of ${url}`)
    return id
  })
}
