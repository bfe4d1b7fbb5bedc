import { sql, type RawBuilder } from 'kysely'
import type { Params } from '../../db/prepared.ts'
import { AppError } from '../../errors.ts'
import type { UserAnswer } from '../protocol/serialize.ts'
import { allowed, callerKey, firstRow, type CallerKey } from '../storage/credential.ts'
import { preparedWithGroups, type GroupsKey } from './user-groups.ts'
import type { Context } from '../storage/write.ts'

/**
 * Users of a directory and the members they stand for. Each write is one statement that holds the user, the member, the
 * end or return of access, the history and the activity entry.
 *
 * What a sync does all day (somebody new, a changed attribute, an end or return of access) has a statement of its own, with
 * nothing in it for what it does not concern: setting up the parts that then do nothing is most of what the general ones
 * cost (docs/decisions/0004). It writes only where it is enough, and the general statement decides whatever it leaves.
 */

export const userColumns = sql`p.id, p.active, p.version, p.created_at AS "createdAt", p.updated_at AS "updatedAt", p.doc`

export interface UserKey extends CallerKey, GroupsKey {
  id: string
}

/** That a row of this alias is the user. */
export function isUser(
  alias: RawBuilder<unknown>,
  { workspaceId, directoryId, id }: Params<Pick<UserKey, 'workspaceId' | 'directoryId' | 'id'>>,
): RawBuilder<unknown> {
  return sql`${alias}.workspace_id = ${workspaceId}::uuid AND ${alias}.directory_id = ${directoryId}::uuid AND ${alias}.id = ${id}::uuid`
}

type MaybeUser = { [Column in keyof UserAnswer]: UserAnswer[Column] | null } & { nestsGroups: boolean }

const selectUser = preparedWithGroups<UserKey, MaybeUser>(
  'scim_user_get',
  (key, groupsOf) => sql`
    WITH ${allowed(key)}
    SELECT ${userColumns}, ${groupsOf(key)} AS groups, a.nests_groups AS "nestsGroups"
      FROM allowed a LEFT JOIN scim_users p ON ${isUser(sql`p`, key)}`,
)

/** @throws {AppError} `not_found` */
export async function getUser({ db, caller, baseUrl, withGroups }: Context, id: string): Promise<UserAnswer> {
  const row = firstRow(await selectUser.read(db, caller, { ...callerKey(caller), id, baseUrl, withGroups }))
  if (row.id === null) throw noUser(id)
  const { nestsGroups: _nestsGroups, ...user } = row
  return user as UserAnswer
}

export function noUser(id: string): AppError {
  return new AppError('not_found', `There is no user ${id} in this directory.`)
}

export function userNameTaken(): AppError {
  return new AppError(
    'scim_uniqueness',
    'userName belongs to another user of this directory: change that one, or delete it.',
  )
}
