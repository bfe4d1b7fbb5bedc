import type { Tenant } from '../contenders/contender.ts'
import { endpointOf } from '../contenders/contender.ts'
import { service } from '../contenders/service.ts'
import { openConnection, type Connection, type Endpoint } from '../connection.ts'
import { ask, idOf } from '../measure.ts'
import type { BenchPostgres } from '../postgres.ts'
import { seededId, userNameOf, userOf } from '../resources.ts'
import { cloneUser } from '../seed.ts'
import { signInOnce } from '../workloads/sign-in.ts'

export const noisyUsers = 50_000
export const quietUsers = 1_000
/** The group of the noisy workspace with all its users. */
export const largeGroupId = '0190a6c8-8f00-7000-8000-00000000beef'

/**
 * Fills two workspaces as after months of sync: 50,000 users in one mapped group, and 1,000 users. SQL clones users that
 * were created over HTTP.
 * @returns the id of the group's mapping
 */
export async function fillTenants(
  postgres: BenchPostgres,
  origin: string,
  [noisy, quiet]: [Tenant, Tenant],
  adminToken: string,
): Promise<string> {
  await fillUsers(postgres, endpointOf(origin, quiet), quietUsers)
  await fillUsers(postgres, endpointOf(origin, noisy), noisyUsers)
  await postgres.run('bench', service.countUsers(noisyUsers - 1))
  const directoryId = noisy.scimPath.split('/').at(-1)!
  const directory = `'${noisy.workspaceId}'::uuid, '${directoryId}'::uuid`
  await postgres.run(
    'bench',
    `INSERT INTO scim_groups (workspace_id, directory_id, id, display_name, display_name_key, doc)
       VALUES (${directory}, '${largeGroupId}', 'All users', 'all users', '{}');
     INSERT INTO scim_group_memberships (workspace_id, directory_id, group_id, user_id)
       SELECT ${directory}, '${largeGroupId}', id FROM scim_users WHERE directory_id = '${directoryId}'`,
  )
  await postgres.run('bench', 'VACUUM ANALYZE')
  const admin = await openConnection(adminEndpoint(origin, noisy, adminToken))
  const contentType = 'application/json'
  const group = await ask(admin, 'POST /groups', { expect: 201, body: JSON.stringify({ name: 'Desk' }), contentType })
  const mapping = { directoryId, scimGroupId: largeGroupId, groupId: idOf(group), role: 'viewer' }
  const body = JSON.stringify({ change: 'create', mapping })
  const preview = await ask(admin, 'POST /group-mappings/preview', { body, contentType })
  const { version } = JSON.parse(preview.text()) as { version: string }
  const created = await ask(admin, 'POST /group-mappings', {
    expect: 201,
    body: JSON.stringify({ ...mapping, previewVersion: version }),
    contentType,
  })
  admin.close()
  await postgres.run('bench', 'VACUUM ANALYZE')
  return idOf(created)
}

export function adminEndpoint(origin: string, { workspaceId }: Tenant, token: string): Endpoint {
  return { baseUrl: `${origin}/v1/workspaces/${workspaceId}`, token }
}

/** Signs the first user of a workspace in. Returns the cookie of the session. */
export async function openSession(origin: string, { workspaceId }: Tenant): Promise<string> {
  const connection: Connection = await openConnection({ baseUrl: origin })
  const person = { subject: 'subject-0', email: userNameOf(0) }
  const answer = await signInOnce(connection, { origin, workspaceId: workspaceId! }, person)
  connection.close()
  return answer.headers('set-cookie')[0]!.split(';')[0]!
}

async function fillUsers(postgres: BenchPostgres, endpoint: Endpoint, users: number): Promise<void> {
  const connection = await openConnection(endpoint)
  const userId = idOf(await ask(connection, 'POST /Users', { expect: 201, body: JSON.stringify(userOf(0)) }))
  await cloneUser({ postgres, database: 'bench', tables: service.userTables, userId, users })
  await ask(connection, `GET /Users/${seededId(1)}`)
  connection.close()
}
