import type { Answer, Narrator } from './narration.ts'

/** A directory with the values that an admin copies to the identity provider. */
export interface Directory {
  id: string
  scimEndpoint: string
  token: string
}

const user = 'urn:ietf:params:scim:schemas:core:2.0:User'
const enterprise = 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'
const group = 'urn:ietf:params:scim:schemas:core:2.0:Group'
const patchOp = 'urn:ietf:params:scim:api:messages:2.0:PatchOp'

/** Sends requests like Okta: look-ups before creates, and PATCH without a path. */
export async function playOkta(
  directory: Directory,
  narrator: Narrator,
): Promise<{ groupId: string; deactivateRobin: () => Promise<void> }> {
  const { expect } = narrator
  const send = scimClient(directory, narrator)

  const found = await send(
    'GET',
    `/Users?filter=${encodeURIComponent('userName eq "robin@example.com"')}&startIndex=1&count=100`,
    200,
  )
  expect(
    found.body.totalResults === 0,
    'the user does not exist, and the response is an empty list instead of an error',
  )
  const created = await send('POST', '/Users', 201, {
    schemas: [user],
    userName: 'robin@example.com',
    name: { givenName: 'Robin', familyName: 'Reed' },
    emails: [{ primary: true, value: 'robin@example.com', type: 'work' }],
    displayName: 'Robin Reed',
    locale: 'en-US',
    externalId: '00u1robin',
    groups: [],
    password: 'never-stored-0',
    active: true,
  })
  const robinId: string = created.body.id
  expect(!JSON.stringify(created.body).includes('never-stored'), 'the password that Okta sends is not stored')

  const pushed = await send('POST', '/Groups', 201, {
    schemas: [group],
    displayName: 'engineering',
    members: [{ value: robinId, display: 'robin@example.com' }],
  })
  const groupId: string = pushed.body.id
  await send('PATCH', `/Groups/${groupId}`, [200, 204], {
    schemas: [patchOp],
    Operations: [{ op: 'replace', value: { id: groupId, displayName: 'Engineering' } }],
  })
  const read = await send('GET', `/Groups/${groupId}`, 200)
  expect(
    read.body.displayName === 'Engineering' && read.body.members.length === 1,
    'the group has its new name and still its member',
  )

  return {
    groupId,
    deactivateRobin: async () => {
      await send('PATCH', `/Users/${robinId}`, 200, {
        schemas: [patchOp],
        Operations: [{ op: 'replace', value: { active: false } }],
      })
    },
  }
}

/** Sends requests like Entra ID: capitalized operations, filtered paths, keys with URNs and dots, booleans as strings. */
export async function playEntra(
  directory: Directory,
  narrator: Narrator,
): Promise<{ deactivateSam: () => Promise<void> }> {
  const { expect } = narrator
  const send = scimClient(directory, narrator)

  const probe = await send('GET', `/Users?filter=${encodeURIComponent('userName eq "a3c1f6d2-no-such-user"')}`, 200)
  expect(probe.body.totalResults === 0, 'the connection test looks up an unknown user and receives an empty list')
  const create = async (name: string, id: string): Promise<string> => {
    const answer = await send('POST', '/Users', 201, {
      schemas: [user, enterprise],
      externalId: id,
      userName: `${name.toLowerCase()}@example.com`,
      active: true,
      emails: [{ primary: true, type: 'work', value: `${name.toLowerCase()}@example.com` }],
      meta: { resourceType: 'User' },
      name: { formatted: name, familyName: name, givenName: name },
      roles: [],
    })
    return answer.body.id as string
  }
  const samId = await create('Sam', '6d5f-sam')
  const kimId = await create('Kim', '6d5f-kim')

  const changed = await send('PATCH', `/Users/${samId}`, 200, {
    schemas: [patchOp],
    Operations: [
      { op: 'Replace', path: 'displayName', value: 'Sam Stone' },
      { op: 'Add', path: 'phoneNumbers[type eq "work"].value', value: '+1 555 0100' },
      { op: 'Replace', value: { 'name.familyName': 'Stone', [`${enterprise}:department`]: 'Support' } },
      { op: 'Add', path: `${enterprise}:manager`, value: kimId },
    ],
  })
  const { name, [enterprise]: work, phoneNumbers } = changed.body
  expect(
    name.familyName === 'Stone' &&
      work.department === 'Support' &&
      work.manager.value === kimId &&
      phoneNumbers.length === 1,
    'each of the four operations has changed its attribute',
  )

  const team = await send('POST', '/Groups', 201, {
    schemas: [group],
    externalId: '8aa1-support',
    displayName: 'Support',
  })
  const teamUrl = `/Groups/${team.body.id as string}`
  await send('PATCH', teamUrl, [200, 204], {
    schemas: [patchOp],
    Operations: [{ op: 'Add', path: 'members', value: [{ value: samId }, { value: kimId }] }],
  })
  await send('PATCH', teamUrl, [200, 204], {
    schemas: [patchOp],
    Operations: [{ op: 'Remove', path: 'members', value: [{ value: kimId }] }],
  })
  const members = (await send('GET', teamUrl, 200)).body.members as { value: string }[]
  expect(members.length === 1 && members[0]?.value === samId, 'only Kim has left the group')

  return {
    deactivateSam: async () => {
      const answer = await send('PATCH', `/Users/${samId}`, 200, {
        schemas: [patchOp],
        Operations: [{ op: 'Replace', path: 'active', value: 'False' }],
      })
      expect(answer.body.active === false, 'the string "False" is stored as false')
    },
  }
}

type Send = (method: string, path: string, status: number | number[], body?: unknown) => Promise<Answer>

function scimClient({ scimEndpoint, token }: Directory, narrator: Narrator): Send {
  return (method, path, status, body) =>
    narrator.call({ method, url: `${scimEndpoint}${path}`, status, token, ...(body !== undefined && { body }) })
}
