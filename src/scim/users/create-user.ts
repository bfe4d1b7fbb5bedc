import { sql, type RawBuilder } from 'kysely'
import { accessHistoryOfNew, recomputeAccess } from '../../access/derivation/access.ts'
import type { Trx } from '../../db/database.ts'
import { prepared, type Params } from '../../db/prepared.ts'
import { uuid7 } from '../../uuid7.ts'
import type { Leniency, ScimResource } from '../protocol/reading.ts'
import { toUserRow } from '../protocol/resource.ts'
import type { UserRow } from '../protocol/resource.ts'
import type { UserAnswer } from '../protocol/serialize.ts'
import { allowed, callerKey, firstRow, type CallerKey } from '../storage/credential.ts'
import { countSql } from '../storage/counters.ts'
import { withOwnerLock } from './with-owner-lock.ts'
import { profileOf } from './profile.ts'
import { entryCte, followedColumns, historyCtes, memberCtes, userEntrySql, type ProfileValues } from './user-member.ts'
import { userNameTaken } from './users.ts'
import { leniencyText, retryOnConflict, type Context } from '../storage/write.ts'

interface CreateValues extends CallerKey, ProfileValues, Omit<UserRow, 'active'> {
  id: string
  active: boolean
  /** The id of the member, where a new one is made. */
  newMemberId: string
}

interface CreatedRow {
  /** `lock` also for a member whose sign-ins have claimed groups, which the directory's now take the place of. */
  verdict: 'lock' | 'write'
  memberId: string
  id: string | null
  createdAt: string
  entryId: number | null
}

type PlainValues = Omit<CreateValues, 'ownersLocked' | 'guardPassed'>

/** The row of a new user, as CTE `written`; `source (workspace_id, directory_id)` is empty where there is to be none. */
function writtenCte(
  values: Params<PlainValues>,
  { source, memberId }: { source: RawBuilder<unknown>; memberId: RawBuilder<string> },
): RawBuilder<unknown> {
  return sql`
    written AS (
      INSERT INTO scim_users (workspace_id, directory_id, id, user_name, user_name_key, external_id, email_keys, active, member_id, doc)
      SELECT workspace_id, directory_id, ${values.id}::uuid, ${values.userName}::text, ${values.userNameKey}::text,
             ${values.externalId}::text, ${values.emailKeys}::text[], ${values.active}::boolean, ${memberId}, ${values.doc}::json
        FROM ${source}
      ON CONFLICT (workspace_id, directory_id, user_name_key) DO NOTHING
      RETURNING workspace_id, directory_id, id, member_id, active, created_at
    ), counted AS (${countSql('User', 'created', sql`written`)})`
}

/** The new member of `source (workspace_id, member_id, active, default_role)`, as CTE `joined`, and the start of its history, which needs `entry`. */
function joinedCtes(
  { displayName }: Params<PlainValues>,
  {
    source,
    email,
    emailKey,
  }: { source: RawBuilder<unknown>; email: RawBuilder<unknown>; emailKey: RawBuilder<unknown> },
): { joined: RawBuilder<unknown>; history: RawBuilder<unknown> } {
  return {
    joined: sql`
      joined AS (
        INSERT INTO members (workspace_id, id, email, email_key, display_name, status, deactivated_by, role, origin)
        SELECT workspace_id, member_id, ${email}, ${emailKey}, ${displayName}::text,
               CASE WHEN active THEN 'active' ELSE 'deactivated' END, CASE WHEN NOT active THEN 'directory' END, default_role, 'directory'
          FROM ${source}
        RETURNING workspace_id, id, status, role
      )`,
    history: sql`
      history_of_start AS (${accessHistoryOfNew(sql`joined`)})`,
  }
}

// Locked, so that a change of the default waits for us, or we for it and read what it set.
function defaultRoleOf(alias: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`LATERAL (SELECT default_role FROM workspaces WHERE id = ${alias}.workspace_id FOR SHARE) s`
}

interface NewPersonRow {
  /** Whether this statement is enough. */
  isNew: boolean
  id: string | null
  createdAt: string
}

/** For somebody of whom nothing is known here: no member has the address, and no earlier user had the externalId. */
const insertNewPerson = prepared<PlainValues, NewPersonRow>('scim_user_create_new', values => {
  const { joined, history } = joinedCtes(values, {
    source: sql`(SELECT w.*, p.default_role FROM written w CROSS JOIN new_person p) n`,
    email: sql`${values.email}::text`,
    emailKey: sql`${values.emailKey}::text`,
  })
  return sql`
    WITH ${allowed(values)},
    new_person AS (
      SELECT a.workspace_id, a.directory_id, s.default_role
        FROM allowed a CROSS JOIN ${defaultRoleOf(sql`a`)}
       WHERE NOT EXISTS (SELECT FROM members WHERE workspace_id = ${values.workspaceId}::uuid AND email_key = ${values.emailKey}::text)
         AND NOT EXISTS (
               SELECT FROM scim_former_users
                WHERE workspace_id = ${values.workspaceId}::uuid AND directory_id = ${values.directoryId}::uuid AND external_id = ${values.externalId}::text)
    ),
    ${writtenCte(values, { source: sql`new_person`, memberId: sql`${values.newMemberId}::uuid` })},
    ${joined},
    entry AS (${userEntrySql(values, {
      action: sql`'scim_user.created'`,
      detail: sql`jsonb_build_object('member', 'created', 'leniencies', ${values.leniencies}::jsonb)`,
      from: sql`written w`,
    })}),
    ${history}
    SELECT n.workspace_id IS NOT NULL AS "isNew", w.id, w.created_at AS "createdAt"
      FROM allowed a LEFT JOIN new_person n ON true LEFT JOIN written w ON true`
})

/**
 * The member of a new user: the one that an earlier user of this externalId had, else the one with this address, each
 * only while no other user has it; else a new one, without the address where another holds it.
 */
const insertUser = prepared<CreateValues, CreatedRow>('scim_user_create', values => {
  const { joined, history } = joinedCtes(values, {
    source: sql`(SELECT w.*, s.default_role, v.email, v.email_key FROM written w JOIN verdict v ON v.is_new CROSS JOIN ${defaultRoleOf(sql`w`)}) n`,
    email: sql`n.email`,
    emailKey: sql`n.email_key`,
  })
  return sql`
    WITH ${allowed(values)},
    holder AS (
      SELECT m.id,
             EXISTS (SELECT FROM scim_users o WHERE o.workspace_id = m.workspace_id AND o.member_id = m.id) AS is_linked
        FROM allowed a JOIN members m ON m.workspace_id = ${values.workspaceId}::uuid AND m.email_key = ${values.emailKey}::text
    ), former AS (
      SELECT f.member_id
        FROM allowed a
        JOIN scim_former_users f ON f.workspace_id = ${values.workspaceId}::uuid AND f.directory_id = ${values.directoryId}::uuid
         AND f.external_id = ${values.externalId}::text
       WHERE NOT EXISTS (SELECT FROM scim_users o WHERE o.workspace_id = f.workspace_id AND o.member_id = f.member_id)
    ), verdict AS (
      SELECT a.workspace_id, a.directory_id, coalesce(m.id, ${values.newMemberId}::uuid) AS member_id, m.id IS NULL AS is_new,
             m.status, m.deactivated_by, c.email_conflict, ${followedColumns(values, sql<boolean>`true`)},
             CASE WHEN (NOT ${values.active}::boolean AND m.role = 'owner' AND m.status = 'active' OR m.claimed_groups <> '{}')
                       AND NOT ${values.ownersLocked}::boolean
                  THEN 'lock' ELSE 'write' END AS verdict
        FROM allowed a
        LEFT JOIN members m ON m.workspace_id = ${values.workspaceId}::uuid
         AND m.id = coalesce((SELECT member_id FROM former), (SELECT id FROM holder WHERE NOT is_linked))
       CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM holder h WHERE h.id IS DISTINCT FROM m.id) AS email_conflict) c
    ),
    ${writtenCte(values, { source: sql`verdict v WHERE v.verdict = 'write'`, memberId: sql`v.member_id` })},
    ${joined},
    ${memberCtes(values)},
    ${entryCte(values, {
      action: sql`'scim_user.created'`,
      detail: sql`jsonb_build_object('member', CASE WHEN v.is_new THEN 'created' ELSE 'linked' END)`,
    })},
    ${historyCtes(values)},
    ${history}
    SELECT v.verdict, v.member_id AS "memberId", w.id, w.created_at AS "createdAt", (SELECT id FROM entry) AS "entryId"
      FROM verdict v LEFT JOIN written w ON true`
})

/**
 * Creates a user and links it to its member.
 * @throws {AppError} `scim_uniqueness` where the userName is taken
 */
export async function createUser(
  context: Context,
  { resource, leniencies }: { resource: ScimResource; leniencies: readonly Leniency[] },
): Promise<UserAnswer> {
  const { active = true, ...user } = toUserRow(resource)
  const values = {
    ...callerKey(context.caller),
    ...user,
    ...profileOf(resource),
    active,
    id: uuid7(),
    newMemberId: uuid7(),
    requestId: context.requestId,
    leniencies: leniencyText(leniencies, context),
  }
  const { workspaceId } = context.caller
  const recompute = async (trx: Trx, { entryId, memberId }: CreatedRow) => {
    if (entryId === null) return
    await recomputeAccess(trx, { workspaceId, memberIds: [memberId], entryId, roles: context.roles })
  }
  const row = await retryOnConflict(async () => {
    const first = firstRow(await insertNewPerson(context.db, values))
    return first.isNew ? first : withOwnerLock(context, (db, held) => insertUser(db, { ...values, ...held }), recompute)
  })
  if (row.id === null) throw userNameTaken()
  const { id, doc } = values
  return { id, active, version: 1, createdAt: row.createdAt, updatedAt: row.createdAt, doc, groups: null }
}
