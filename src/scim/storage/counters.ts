import { sql, type RawBuilder } from 'kysely'
import type { ResourceTypeName } from '../protocol/attributes.ts'

/**
 * The counting of resources, as the body of a CTE: for each row of `source (workspace_id, directory_id)` one more, or one
 * less. Each connection counts in one of 16 slots, so that concurrent writes rarely wait for the same row.
 */
export function countSql(
  type: ResourceTypeName,
  change: 'created' | 'deleted',
  source: RawBuilder<unknown>,
): RawBuilder<unknown> {
  const deleted = change === 'deleted'
  return sql`
    INSERT INTO scim_counters AS c (workspace_id, directory_id, resource_type, slot, total, deleted)
    SELECT workspace_id, directory_id, ${type === 'User' ? sql`'User'` : sql`'Group'`}, pg_backend_pid() % 16,
           ${deleted ? sql`-1` : sql`1`}, ${deleted ? sql`1` : sql`0`}
      FROM ${source}
    ON CONFLICT (workspace_id, directory_id, resource_type, slot)
    DO UPDATE SET total = c.total + excluded.total, deleted = c.deleted + excluded.deleted`
}
