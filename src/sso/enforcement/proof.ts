import { sql } from 'kysely'
import type { Db } from '../../db/database.ts'

/** Whether a member has signed in, or passed a sign-in test, by the settings and the sign-in policy as they are now. */
export async function isProvenBy(
  db: Db,
  { workspaceId, memberId }: { workspaceId: string; memberId: string },
): Promise<boolean> {
  const { rows } = await sql<{ isProven: boolean }>`
    SELECT EXISTS (SELECT FROM sessions s
                    WHERE s.workspace_id = c.workspace_id AND s.member_id = ${memberId}
                      AND s.config_version >= c.settings_version AND s.created_at > greatest(c.created_at, p.updated_at))
        OR EXISTS (SELECT FROM sso_sign_in_tests t
                    WHERE t.member_id = ${memberId} AND ${provesNow}) AS "isProven"
      FROM sso_configs c
      LEFT JOIN sign_in_policies p ON p.workspace_id = c.workspace_id
     WHERE c.workspace_id = ${workspaceId}`.execute(db)
  return rows[0]?.isProven === true
}

/** Of a sign-in test `t`: that it has passed by what is saved now, `c` being the configuration and `p` the policy. */
export const provesNow = sql<boolean>`
  (t.workspace_id = c.workspace_id AND t.passed AND t.confirmed_at IS NOT NULL AND t.config_version >= c.settings_version
   AND t.finished_at > coalesce(p.updated_at, '-infinity'))`
