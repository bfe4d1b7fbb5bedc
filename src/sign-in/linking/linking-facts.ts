import { sql, type RawBuilder } from 'kysely'
import type { Db, Trx } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import type { Person, StoredFacts } from './linking.ts'

/** What a first sign-in finds its member by. */
export interface FactsKey {
  workspaceId: string
  issuer: string
  /** Null, like the address: the person has none that can be gone by. */
  stableId: string | null
  emailKey: string | null
}

export function factsKey(workspaceId: string, { issuer, stableId, email }: Person): FactsKey {
  return { workspaceId, issuer, stableId: stableId ?? null, emailKey: email?.key ?? null }
}

/** Whom the claims point to: `member_id, found_by`. OFFSET 0 keeps each look-up to its own index, whatever the planner expects. */
function foundSql({ workspaceId, issuer, stableId, emailKey }: Params<FactsKey>): RawBuilder<unknown> {
  return sql`
    SELECT u.member_id, 'directory' AS found_by
      FROM directories d
     CROSS JOIN LATERAL (
       SELECT member_id FROM scim_users
        WHERE workspace_id = ${workspaceId}::uuid AND directory_id = d.id AND external_id = ${stableId}::text OFFSET 0) u
     WHERE d.workspace_id = ${workspaceId}::uuid
    UNION
    SELECT member_id, 'identity' FROM identities
     WHERE workspace_id = ${workspaceId}::uuid AND issuer = ${issuer}::text AND stable_id = ${stableId}::text
    UNION
    SELECT id, 'email' FROM members WHERE workspace_id = ${workspaceId}::uuid AND email_key = ${emailKey}::text`
}

/** The limits of the directories that provide a member, as an expression for linkable-role.ts. OFFSET 0 keeps the look-up to its own index. */
export function limitsSql({
  workspaceId,
  memberId,
}: Record<'workspaceId' | 'memberId', RawBuilder<string>>): RawBuilder<string[]> {
  return sql`
    ARRAY(SELECT d.max_linkable_role
            FROM (SELECT directory_id FROM scim_users WHERE workspace_id = ${workspaceId} AND member_id = ${memberId} OFFSET 0) u
            JOIN directories d ON d.workspace_id = ${workspaceId} AND d.id = u.directory_id
           WHERE d.max_linkable_role IS NOT NULL)`
}

/** All that linking.ts reads of the database, as one value: whoever writes by what it decided compares it with what it is then. */
export function factsSql(key: Params<FactsKey>): RawBuilder<{ facts: StoredFacts }> {
  const { workspaceId, emailKey } = key
  return sql`
    SELECT jsonb_build_object(
             'candidates', coalesce(jsonb_agg(jsonb_build_object(
               'foundBy', f.found_by, 'memberId', m.id, 'version', m.version, 'status', m.status, 'role', m.role,
               'invitationOpen', coalesce(m.invitation_expires_at > now(), false),
               'limits', ${limitsSql({ workspaceId: sql`${workspaceId}::uuid`, memberId: sql`m.id` })},
               'identities', ARRAY(SELECT jsonb_build_object('issuer', i.issuer, 'subject', i.subject)
                                     FROM identities i WHERE i.workspace_id = ${workspaceId}::uuid AND i.member_id = m.id
                                    ORDER BY i.issuer, i.subject)) ORDER BY f.found_by, m.id), '[]'),
             'inactiveInDirectory', EXISTS (
               SELECT FROM (SELECT workspace_id, active FROM scim_users WHERE email_keys @> ARRAY[${emailKey}]::text[] OFFSET 0) u
                WHERE workspace_id = ${workspaceId}::uuid AND NOT active)) AS facts
      FROM (${foundSql(key)} OFFSET 0) f
     CROSS JOIN LATERAL (SELECT * FROM members WHERE workspace_id = ${workspaceId}::uuid AND id = f.member_id OFFSET 0) m`
}

const lockFound = prepared<FactsKey, unknown>(
  'linking_lock',
  key => sql`
    SELECT FROM members
     WHERE workspace_id = ${key.workspaceId}::uuid AND id = ANY (ARRAY(SELECT member_id FROM (${foundSql(key)}) f))
     ORDER BY id FOR UPDATE`,
)

const readFacts = prepared<FactsKey, { facts: StoredFacts }>('linking_facts', factsSql)

export async function findFacts(db: Db, key: FactsKey): Promise<StoredFacts> {
  const [row] = await readFacts(db, key)
  if (!row) throw new Error('An aggregate gives a row.')
  return row.facts
}

/** The same with the rows of the members whom the claims point to locked, until the sign-in is through. */
export async function lockFacts(trx: Trx, key: FactsKey): Promise<StoredFacts> {
  await lockFound(trx, key)
  return findFacts(trx, key)
}
