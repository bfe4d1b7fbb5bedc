import { sql } from 'kysely'
import type { Db, Trx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { toPage, type Page } from '../page.ts'

export type MemberStatus = 'invited' | 'active' | 'deactivated'

/** `floor`: never below the role. `locked`: exactly the role. */
export type ManualPolicy = 'floor' | 'locked'

/** A person in a workspace, as its admins see them. */
export interface Member {
  id: string
  email: string | null
  displayName: string | null
  status: MemberStatus
  deactivatedBy: 'admin' | 'directory' | null
  /** Derived from all that gives one (src/access). */
  role: string
  manualRole: string | null
  manualPolicy: ManualPolicy | null
  origin: 'invite' | 'sso' | 'directory'
  invitationExpiresAt: string | null
  /** Who decides on what; the rest is refused here with `directory_owned`. */
  ownedBy: {
    email: 'directory' | 'sso' | 'admin'
    displayName: 'directory' | 'admin'
    status: 'directory' | 'admin'
    role: 'manual' | 'mappings' | 'default'
  }
  /** The directories that own this person's life cycle; empty: admins do. */
  directoryUsers: { directoryId: string; userId: string; active: boolean }[]
  identities: { issuer: string; subject: string; linkedBy: string }[]
  lastSignInAt: string | null
  version: number
  createdAt: string
  updatedAt: string
}

export interface MemberKey {
  workspaceId: string
  memberId: string
}

export interface MemberFilter {
  workspaceId: string
  status?: MemberStatus | undefined
  role?: string | undefined
  /** How the address begins, in any case; an internationalised domain in its ASCII form. */
  emailPrefix?: string | undefined
  limit: number
  after?: string | undefined
}

/** The members of a workspace, oldest first. */
export async function listMembers(db: Db, filter: MemberFilter): Promise<Page<Member>> {
  const { workspaceId, status, role, emailPrefix, limit, after } = filter
  let query = selectMembers(db, workspaceId)
    .orderBy('m.id')
    .limit(limit + 1)
  if (status !== undefined) query = query.where('m.status', '=', status)
  if (role !== undefined) query = query.where('m.role', '=', role)
  if (emailPrefix !== undefined) {
    const prefix = emailPrefix.normalize('NFC').toLowerCase()
    query = query.where(sql<boolean>`starts_with(m.email_key, ${prefix})`)
  }
  if (after !== undefined) query = query.where('m.id', '>', after)
  return toPage(await query.execute(), limit, last => last.id)
}

/** @throws {AppError} `not_found` */
export async function getMember(db: Db, { workspaceId, memberId }: MemberKey): Promise<Member> {
  return selectMembers(db, workspaceId).where('m.id', '=', memberId).executeTakeFirstOrThrow(noMember)
}

function selectMembers(db: Db, workspaceId: string) {
  return db
    .selectFrom('members as m')
    .select(['m.id', 'm.email', 'm.display_name as displayName', 'm.status', 'm.deactivated_by as deactivatedBy'])
    .select(['m.role', 'm.manual_role as manualRole', 'm.manual_policy as manualPolicy', 'm.origin'])
    .select(['m.invitation_expires_at as invitationExpiresAt', 'm.version'])
    .select(['m.created_at as createdAt', 'm.updated_at as updatedAt'])
    .select([
      sql<Member['ownedBy']>`(
        SELECT jsonb_build_object(
                 'email', CASE WHEN o.directory THEN 'directory' WHEN o.sso THEN 'sso' ELSE 'admin' END,
                 'displayName', CASE WHEN o.directory THEN 'directory' ELSE 'admin' END,
                 'status', CASE WHEN o.directory THEN 'directory' ELSE 'admin' END,
                 'role', CASE WHEN m.manual_policy = 'locked' THEN 'manual' WHEN m.rules <> '{}' THEN 'mappings'
                              WHEN m.manual_role IS NOT NULL THEN 'manual' ELSE 'default' END)
          FROM (SELECT EXISTS (SELECT FROM scim_users u WHERE u.workspace_id = m.workspace_id AND u.member_id = m.id) AS directory,
                       EXISTS (SELECT FROM identities i WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id) AS sso) o)`.as(
        'ownedBy',
      ),
      sql<Member['directoryUsers']>`(
        SELECT coalesce(jsonb_agg(jsonb_build_object('directoryId', u.directory_id, 'userId', u.id, 'active', u.active)), '[]')
          FROM scim_users u WHERE u.workspace_id = m.workspace_id AND u.member_id = m.id)`.as('directoryUsers'),
      sql<Member['identities']>`(
        SELECT coalesce(jsonb_agg(jsonb_build_object('issuer', i.issuer, 'subject', i.subject, 'linkedBy', i.linked_by)), '[]')
          FROM identities i WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id)`.as('identities'),
      sql<string | null>`(
        SELECT max(i.last_sign_in_at) FROM identities i
         WHERE i.workspace_id = m.workspace_id AND i.member_id = m.id)`.as('lastSignInAt'),
    ])
    .where('m.workspace_id', '=', workspaceId)
}

/** What is decided by before a change to a member. */
export interface LockedMember {
  status: MemberStatus
  role: string
  manualRole: string | null
  manualPolicy: ManualPolicy | null
  version: number
}

/** Reads a member and holds up other changes to them until the transaction ends. @throws {AppError} `not_found` */
export async function lockMember(trx: Trx, { workspaceId, memberId }: MemberKey): Promise<LockedMember> {
  return trx
    .selectFrom('members')
    .select(['status', 'role', 'manual_role as manualRole', 'manual_policy as manualPolicy', 'version'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .forNoKeyUpdate()
    .executeTakeFirstOrThrow(noMember)
}

function noMember(): AppError {
  return new AppError('not_found', 'There is no such member in this workspace.')
}
