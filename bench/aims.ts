/**
 * What the service may cost at most: CPU time of a request, its own and its Postgres', as a multiple of the limit's in
 * the same run. A step without an aim is reported for what it tells.
 */
export const costAims: Record<string, number> = {
  'get user': 1.3,
  'look up by userName': 1.3,
  'look up by externalId': 1.3,
  'look up by emails.value': 1.3,
  'page of 100, first': 1.3,
  'page of 100, deep': 1.3,
  'page of 100, cursor': 1.3,
  'create user': 1.6,
  'patch active': 1.4,
  'patch title': 1.7,
  'sync cycle': 1.7,
  'initial sync, a user': 1.4,
  'initial sync, a group': 1.4,
  'create group': 1.4,
  'put group, 10 % exchanged, no ANALYZE': 1.4,
  'put group, 10 % exchanged': 1.4,
  'put group, unchanged': 1.4,
  'get group': 1.4,
  'get group without members': 1.4,
  'add one member': 1.4,
  'remove one member': 1.4,
  'delete group': 1.4,
}

/** What a step may cost with the most users, as a multiple of what it costs with the fewest. */
export const growthAim = 1.25

/** The 99th percentile of a tenant's small requests beside another's large ones, as a multiple of what it is alone. */
export const neighbourAim = 5

/** Memory of the service at most, in MiB: at start, after all that is done to users, and to groups of 50,000. */
export const memoryAims = { idle: 120, users: 160, groups: 260 }
