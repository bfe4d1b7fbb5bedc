import type { Mode, ResourceTypeName } from '../../src/scim/protocol/attributes.ts'
import { matches as matchesFilter } from '../../src/scim/protocol/evaluate.ts'
import { parseFilter } from '../../src/scim/protocol/filter.ts'
import type { Filter } from '../../src/scim/protocol/filter.ts'
import type { ScimResource } from '../../src/scim/protocol/reading.ts'

/**
 * Whether a resource, as returned to the client, matches a filter. SQL must give the same result. PATCH evaluates its value
 * filters with the same code, so a difference is a fault in the SQL or in that code.
 */
export function matches(
  filter: Filter | string,
  resource: ScimResource,
  { type = 'User', mode = 'tolerant' }: { type?: ResourceTypeName; mode?: Mode } = {},
): boolean {
  const tree = typeof filter === 'string' ? parseFilter(filter) : filter
  return matchesFilter(tree, resource, { type, mode, leniencies: [] })
}
