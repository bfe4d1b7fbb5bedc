import type { Endpoint } from '../connection.ts'
import { groupOf } from '../resources.ts'
import type { Noise } from './noise.ts'
import { largeGroupId } from './tenants.ts'

export interface NoisyWorkspace {
  scim: Endpoint
  admin: Endpoint
  /** The mapping of the group with all users. */
  mappingId: string
  /** Ids of all users in the directory. */
  userIds: string[]
}

/** 14 MiB with millions of values in an attribute that no schema has. */
const hostileBody = Buffer.from(
  `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"hostile","x":[${'{},'.repeat(4_890_000)}{}]}`,
)

/** The loads, each of one kind. */
export function noisesOf({ scim, admin, mappingId, userIds }: NoisyWorkspace): Noise[] {
  const filter = `/Users?count=10&filter=${encodeURIComponent('title co "no such title"')}`
  const json = { contentType: 'application/json' }
  const preview = JSON.stringify({ change: 'update', mappingId, role: 'admin' })
  const groups = [userIds, userIds.slice(0, userIds.length / 2)].map(ids => Buffer.from(groupOf('All users', ids)))
  return [
    get('10 filters', 10, scim, filter),
    get('64 filters', 64, scim, filter),
    get('10 sorts', 10, scim, '/Users?count=100&sortBy=name.familyName'),
    {
      name: '64 reconciliations',
      clients: 64,
      endpoint: admin,
      next: () => ({ line: 'POST /access/reconcile' }),
    },
    {
      name: '20 previews',
      clients: 20,
      endpoint: admin,
      next: () => ({ line: 'POST /group-mappings/preview', options: { body: preview, ...json } }),
    },
    get('20 access reports', 20, admin, '/access-report.csv'),
    get('20 activity filters', 20, admin, `/activity?requestId=${mappingId}`),
    {
      name: '4 large group PUTs',
      clients: 4,
      endpoint: scim,
      next: round => ({ line: `PUT /Groups/${largeGroupId}`, options: { body: groups[round % 2]! } }),
    },
    {
      name: '4 hostile bodies',
      clients: 4,
      endpoint: scim,
      next: round => ({ line: `POST ${round % 2 === 0 ? '/Users' : '/Groups'}`, options: { body: hostileBody } }),
    },
  ]
}

function get(name: string, clients: number, endpoint: Endpoint, path: string): Noise {
  return { name, clients, endpoint, next: () => ({ line: `GET ${path}` }) }
}
