import { createHash } from 'node:crypto'
import { sql, type RawBuilder } from 'kysely'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { toPage, type Page } from '../../page.ts'
import { MANY, planForMany } from './access.ts'
import { derivedAccessCtes, differenceDigest, mappingColumns, type AccessSources } from './derive.ts'
import { roleReason, type RoleReason } from './roles.ts'

/** A change of what access derives from: whom it may concern, and what the sources would be after it. */
export interface SourceChange extends Omit<AccessSources, 'roles'> {
  /** The change in words. Two changes that would make the same difference still have two versions. */
  subject: Record<string, unknown>
}

export const effects = ['gains', 'loses', 'changes', 'keeps'] as const
export type Effect = (typeof effects)[number]

export interface PreviewPage {
  roles: readonly string[]
  limit: number
  after?: string | undefined
  /** Only the members on whom the change has this effect. */
  effect?: Effect | undefined
}

/** What the change would do to one member: `changes` is a gain and a loss at once. */
export interface PreviewedMember {
  memberId: string
  email: string | null
  displayName: string | null
  status: 'invited' | 'active' | 'deactivated'
  effect: Effect
  before: { role: string; why: RoleReason }
  after: { role: string; why: RoleReason }
  groupsGained: GroupName[]
  groupsLost: GroupName[]
  groupsKept: GroupName[]
}

export interface GroupName {
  id: string
  name: string
}

export interface AccessPreview extends Page<PreviewedMember> {
  /** Give it when applying the change: what was seen is what happens, or nothing does. */
  version: string
  totals: Record<Effect, number>
  /** Owners who would lose the role and keep it, because nobody else has it: applying the change is refused. */
  lastOwners: number
}

interface Row {
  digest: string
  totals: Record<Effect, number>
  lastOwners: number
  page: Derived[]
}

interface Derived {
  id: string
  email: string | null
  display_name: string | null
  status: PreviewedMember['status']
  effect: Effect
  role_before: string
  role: string
  rules_before: { id: string; role: string | null }[]
  rules: { id: string; role: string | null }[]
  manual_role: string | null
  manual_policy: 'floor' | 'locked' | null
  is_kept: boolean
  groups_gained: GroupName[]
  groups_lost: GroupName[]
  groups_kept: GroupName[]
  default_before: string
  default_after: string
}

/**
 * What a change would do to everybody whom it concerns, by the same derivation that applying it runs, without writing.
 * Totals and version are of the whole; the members come in pages, by id.
 */
export async function previewAccess(db: Db, change: SourceChange, page: PreviewPage): Promise<AccessPreview> {
  const { workspaceId, members, subject } = change
  const { limit } = page
  return db.transaction().execute(async trx => {
    const { rows: counted } = await sql<{ count: number }>`
      SELECT count(*)::int AS count FROM (SELECT FROM (${members}) m LIMIT ${MANY + 1}) AS counted`.execute(trx)
    if ((counted[0]?.count ?? 0) > MANY) await planForMany(trx)
    const { rows } = await previewQuery(change, page).execute(trx)
    const [row] = rows
    if (!row) throw new Error(`The preview of workspace ${workspaceId} is empty.`)
    const items = row.page.map(each => toPreviewed(each, page.roles))
    return {
      ...toPage(items, limit, last => last.memberId),
      version: previewVersion(subject, row.digest),
      totals: row.totals,
      lastOwners: row.lastOwners,
    }
  })
}

function previewQuery(change: SourceChange, { roles, limit, after, effect }: PreviewPage): RawBuilder<Row> {
  const {
    workspaceId,
    mappings = sql`SELECT ${mappingColumns} FROM group_mappings WHERE workspace_id = ${workspaceId}`,
  } = change
  const stored = sql`(SELECT default_role FROM workspaces WHERE id = ${workspaceId})`
  const rank = (column: RawBuilder<unknown>) => sql`array_position(${roles}::text[], ${column})`
  const isUp = sql`(r.groups_gained <> '{}' OR ${rank(sql`r.role`)} > ${rank(sql`r.role_before`)})`
  const isDown = sql`(r.groups_lost <> '{}' OR ${rank(sql`r.role`)} < ${rank(sql`r.role_before`)})`
  const effectOf = sql`
    CASE WHEN NOT r.differs THEN 'keeps' WHEN ${isUp} AND ${isDown} THEN 'changes' WHEN ${isUp} THEN 'gains' ELSE 'loses' END`
  const named = (ids: RawBuilder<unknown>) => sql`(
    SELECT coalesce(json_agg(json_build_object('id', g.id, 'name', g.name) ORDER BY g.name, g.id), '[]')
      FROM groups g WHERE g.workspace_id = ${workspaceId} AND g.id = ANY (${ids}))`
  return sql<Row>`
    WITH RECURSIVE ${derivedAccessCtes({ ...change, roles })},
    -- As it is stored, for the reasons before the change.
    stored_rule AS (SELECT id, role FROM group_mappings WHERE workspace_id = ${workspaceId}),
    new_rule AS (SELECT id, role FROM (${mappings}) m),
    page AS (
      SELECT c.*, m.email, m.display_name
        FROM (SELECT * FROM (SELECT r.*, ${effectOf} AS effect FROM result r) f
               WHERE (${after ?? null}::uuid IS NULL OR id > ${after ?? null}::uuid)
                 AND (${effect ?? null}::text IS NULL OR effect = ${effect ?? null}::text)
               ORDER BY id LIMIT ${limit + 1}) c
        JOIN members m ON m.workspace_id = ${workspaceId} AND m.id = c.id
    )
    SELECT ${differenceDigest} AS digest, count(*) FILTER (WHERE is_kept)::int AS "lastOwners",
           json_build_object('gains', count(*) FILTER (WHERE effect = 'gains'), 'loses', count(*) FILTER (WHERE effect = 'loses'),
                             'changes', count(*) FILTER (WHERE effect = 'changes'), 'keeps', count(*) FILTER (WHERE effect = 'keeps'))::jsonb AS totals,
           (SELECT coalesce(jsonb_agg(jsonb_build_object(
                     'id', p.id, 'email', p.email, 'display_name', p.display_name, 'status', p.status, 'effect', p.effect,
                     'role_before', p.role_before, 'role', p.role, 'is_kept', p.is_kept,
                     'rules_before', ${rulesOf(sql`p.rules_before`, sql`stored_rule`)},
                     'rules', ${rulesOf(sql`p.rules`, sql`new_rule`)},
                     'manual_role', p.manual_role, 'manual_policy', p.manual_policy,
                     'default_before', ${stored}, 'default_after', ${change.defaultRole ?? stored},
                     'groups_gained', ${named(sql`p.groups_gained`)}, 'groups_lost', ${named(sql`p.groups_lost`)},
                     'groups_kept', ${named(sql`ARRAY(
                       SELECT h.group_id FROM group_memberships h
                        WHERE h.workspace_id = ${workspaceId} AND h.member_id = p.id AND h.group_id <> ALL (p.groups_lost))`)}
                   ) ORDER BY p.id), '[]') FROM page p) AS page
      FROM (SELECT r.*, ${effectOf} AS effect FROM result r) c`
}

function rulesOf(ids: RawBuilder<unknown>, rules: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`(
    SELECT coalesce(json_agg(json_build_object('id', x.id, 'role', x.role)), '[]') FROM ${rules} x WHERE x.id = ANY (${ids}))`
}

function toPreviewed(row: Derived, roles: readonly string[]): PreviewedMember {
  const manual =
    row.manual_role === null || row.manual_policy === null ? null : { role: row.manual_role, policy: row.manual_policy }
  const before = roleReason({
    roles,
    role: row.role_before,
    rules: row.rules_before,
    manual,
    defaultRole: row.default_before,
  })
  const after = roleReason({ roles, role: row.role, rules: row.rules, manual, defaultRole: row.default_after })
  return {
    memberId: row.id,
    email: row.email,
    displayName: row.display_name,
    status: row.status,
    effect: row.effect,
    before: { role: row.role_before, why: before },
    after: { role: row.role, why: row.is_kept ? { by: 'last_owner', mappingIds: [] } : after },
    groupsGained: row.groups_gained,
    groupsLost: row.groups_lost,
    groupsKept: row.groups_kept,
  }
}

/** The version of a preview: of the change and of all that it would make different. */
export function previewVersion(subject: Record<string, unknown>, digest: string): string {
  return createHash('sha256')
    .update(`${JSON.stringify(subject)}\n${digest}`)
    .digest('base64url')
    .slice(0, 22)
}

/**
 * Holds an applied change against what its admin had seen; the refusal undoes it with its transaction.
 * @param expected the version of the preview; undefined: nobody asked for one
 * @throws {AppError} `preview_stale`
 */
export function requirePreviewed(expected: string | undefined, subject: Record<string, unknown>, digest: string): void {
  if (expected === undefined || expected === previewVersion(subject, digest)) return
  throw new AppError(
    'preview_stale',
    'What this change does is no longer what the preview said. Look at a new preview, and send its version.',
  )
}
