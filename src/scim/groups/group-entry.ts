import { sql, type RawBuilder } from 'kysely'
import { insertEntrySql } from '../../activity/activity.ts'

/** The entry of a changed group, for each row of a CTE `written`. Its detail is pairs for jsonb_build_object; null ones stay away. */
export function groupUpdatedSql({
  requestId,
  detail,
  leniencies,
}: {
  requestId: RawBuilder<string>
  detail: RawBuilder<unknown>
  leniencies: RawBuilder<unknown>
}): RawBuilder<{ id: number }> {
  return insertEntrySql({
    workspaceId: sql`w.workspace_id`,
    action: sql`'scim_group.updated'`,
    actorType: sql`'directory'`,
    actorId: sql`w.directory_id::text`,
    requestId: sql`${requestId}::text`,
    targetType: sql`'scim_group'`,
    targetId: sql`w.id::text`,
    detail: sql`jsonb_strip_nulls(jsonb_build_object(${detail}, 'leniencies', ${leniencies}))`,
    from: sql`written w`,
  })
}
