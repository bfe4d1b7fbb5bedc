/**
 * Maximum CPU time of a request, of the service and its Postgres together, as a multiple of the floor's in the same run.
 * Steps without an aim are reported for information.
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

/** Maximum cost of a step with the most users, as a multiple of its cost with the fewest. */
export const growthAim = 1.25

/** Maximum p99 of a tenant's small requests during another tenant's large ones, as a multiple of the p99 without them. */
export const neighbourAim = 5

/** Maximum memory of the service in MiB: at start, after all steps on users, and after groups of 50,000. */
export const memoryAims = { idle: 120, users: 160, groups: 260 }
