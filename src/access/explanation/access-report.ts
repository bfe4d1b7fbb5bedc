import { sql } from 'kysely'
import type { Db } from '../../db/database.ts'
import type { WorkClass } from '../../db/work-class.ts'
import { toPage, type Page } from '../../page.ts'
import { groupNameAt } from './explain.ts'
import { readInstant, type Instant } from './instant.ts'

/** Somebody who had access at an instant. */
export interface ReportedMember {
  memberId: string
  /** As they are now: the history keeps no addresses. */
  email: string | null
  displayName: string | null
  role: string
  groups: { id: string; name: string | null }[]
  /** Since when they have had access without a break, at that instant. */
  since: string
}

export interface AccessReport extends Page<ReportedMember> {
  at: string
}

export interface ReportQuestion {
  workspaceId: string
  /** ISO 8601; absent: now. */
  at?: string | undefined
  limit: number
  after?: string | undefined
}

/**
 * Everybody with access at an instant, by the append-only history; in the order in which they became members.
 * @throws {AppError} `at_in_future`, `at_before_history`
 */
export async function reportAccess(db: Db, { workspaceId, at, limit, after }: ReportQuestion): Promise<AccessReport> {
  const instant = await readInstant(db, workspaceId, at)
  return { at: instant.at, ...(await readReport(db, { workspaceId, instant, limit, after })) }
}

/**
 * The whole report as CSV (RFC 4180). Each page takes its own turn, so that a slow client holds no turn and many reports of a
 * workspace read one page at a time.
 * @throws {AppError} `at_in_future`, `at_before_history`, `rate_limited`, before the first line
 */
export async function reportAccessAsCsv(
  scans: WorkClass,
  { workspaceId, at }: { workspaceId: string; at?: string | undefined },
): Promise<AsyncIterable<string>> {
  const { at: instantAt } = await scans.run(workspaceId, on => readInstant(on, workspaceId, at))
  // Of one instant, however long the reading takes.
  const instant = { at: instantAt, until: instantAt }
  return csvLines(scans, workspaceId, instant)
}

async function* csvLines(scans: WorkClass, workspaceId: string, instant: Instant): AsyncGenerator<string> {
  yield csvLine(['at', 'member_id', 'email', 'display_name', 'role', 'groups', 'since'])
  let after: string | undefined
  do {
    const question = { workspaceId, instant, limit: 500, after }
    const page = await scans.continue(workspaceId, on => readReport(on, question))
    yield page.items
      .map(({ memberId, email, displayName, role, groups, since }) =>
        csvLine([
          instant.at,
          memberId,
          email,
          displayName,
          role,
          groups.map(group => group.name ?? group.id).join('; '),
          since,
        ]),
      )
      .join('')
    after = page.next
  } while (after !== undefined)
}

/** Quoted where it must be; text that a spreadsheet would take for a formula is made text by an apostrophe. */
function csvLine(cells: readonly (string | null)[]): string {
  const line = cells.map(cell => {
    const text = (cell ?? '').replace(/^[=+\-@\t\r]/, "'$&")
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  })
  return `${line.join(',')}\r\n`
}

async function readReport(
  db: Db,
  {
    workspaceId,
    instant,
    limit,
    after,
  }: { workspaceId: string; instant: Instant; limit: number; after: string | undefined },
): Promise<Page<ReportedMember>> {
  const { until } = instant
  const { rows } = await sql<ReportedMember>`
    WITH found AS MATERIALIZED (
      SELECT m.id, m.email, m.display_name, c.role_after, c.rules
        FROM members m
       CROSS JOIN LATERAL (
         SELECT status_after, role_after, rules FROM access_changes
          WHERE workspace_id = m.workspace_id AND member_id = m.id AND at <= ${until}
          ORDER BY id DESC LIMIT 1) c
       WHERE m.workspace_id = ${workspaceId} AND c.status_after = 'active'
         AND (${after ?? null}::uuid IS NULL OR m.id > ${after ?? null}::uuid)
       ORDER BY m.id LIMIT ${limit + 1}
    ), rule AS MATERIALIZED (
      SELECT DISTINCT ON (v.mapping_id) v.mapping_id, v.group_id
        FROM group_mapping_versions v
       WHERE v.workspace_id = ${workspaceId} AND v.at <= ${until} AND NOT v.is_deleted
         AND v.mapping_id IN (SELECT unnest(rules) FROM found)
       ORDER BY v.mapping_id, v.id DESC
    ), named AS MATERIALIZED (
      SELECT g.group_id, ${groupNameAt(sql`g.group_id`, { workspaceId, until })} AS name
        FROM (SELECT DISTINCT group_id FROM rule WHERE group_id IS NOT NULL) g
    )
    SELECT f.id AS "memberId", f.email, f.display_name AS "displayName", f.role_after AS role,
           (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('id', n.group_id, 'name', n.name)), '[]')
              FROM rule r JOIN named n ON n.group_id = r.group_id WHERE r.mapping_id = ANY (f.rules)) AS groups,
           (SELECT at FROM access_changes c
             WHERE c.workspace_id = ${workspaceId} AND c.member_id = f.id AND c.at <= ${until}
               AND c.status_after = 'active' AND c.status_before IS DISTINCT FROM 'active'
             ORDER BY c.id DESC LIMIT 1) AS since
      FROM found f ORDER BY f.id`.execute(db)
  return toPage(rows, limit, last => last.memberId)
}
