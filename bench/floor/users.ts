import type { FastifyInstance } from 'fastify'
import { uuid7 } from '../../src/uuid7.ts'
import { metaOf, scimPath, send, sendError, type Versioned } from './answer.ts'
import type { Run } from './database.ts'

interface UserRow extends Versioned {
  active: boolean
  /** JSON text of the resource without id, active and meta. */
  doc: string
}

interface UserBody {
  userName: string
  externalId?: string
  active?: boolean
  emails?: { value: string }[]
}

interface ListQuery {
  filter?: string
  startIndex?: number
  count?: number
  cursor?: string
}

const columns = 'id, active, version, created_at, updated_at, doc'
const total = '(SELECT sum(total)::integer FROM counters WHERE workspace = $1) AS total'
const firstCursor = '00000000-0000-0000-0000-000000000000'

/** SQL condition of each supported filter. The value is `$2`. */
const lookups: Record<string, string> = {
  userName: 'lower(user_name) = lower($2)',
  externalId: 'external_id = $2',
  'emails.value': 'id IN (SELECT user_id FROM user_emails WHERE workspace = $1 AND email = lower($2))',
}

export function userRoutes(app: FastifyInstance, run: Run): void {
  // Id before each startIndex that was already read, so that a repeated page needs no OFFSET. It never becomes stale,
  // because ids increase with time and the floor never deletes a user.
  const idBefore = new Map<number, string>([[1, firstCursor]])

  app.post<{ Body: UserBody }>(`${scimPath}/Users`, async (request, reply) => {
    const { active = true, ...rest } = request.body
    const emails = (rest.emails ?? []).map(email => email.value.toLowerCase())
    const [row] = await run<UserRow>(
      'create_user',
      `WITH made AS (
         INSERT INTO users (workspace, id, user_name, external_id, active, doc)
         VALUES ($1, $2, $3, $4, $6, $7) ON CONFLICT DO NOTHING RETURNING ${columns}
       ), addresses AS (
         INSERT INTO user_emails (workspace, email, user_id) SELECT $1, email, id FROM made, unnest($5::text[]) AS email
       ), entry AS (
         INSERT INTO activity (workspace, action, target) SELECT $1, 'user.created', id FROM made
       ), counted AS (
         INSERT INTO counters (workspace, slot, total) SELECT $1, pg_backend_pid() % 16, 1 FROM made
         ON CONFLICT (workspace, slot) DO UPDATE SET total = counters.total + 1
       )
       SELECT ${columns} FROM made`,
      [request.workspace, uuid7(), rest.userName, rest.externalId, emails, active, JSON.stringify(rest)],
    )
    return row ? send(reply, 201, serializeUser(row)) : sendError(reply, 409)
  })

  app.get<{ Params: { id: string } }>(`${scimPath}/Users/:id`, async (request, reply) => {
    const [row] = await run<UserRow>('get_user', `SELECT ${columns} FROM users WHERE workspace = $1 AND id = $2`, [
      request.workspace,
      request.params.id,
    ])
    return row ? send(reply, 200, serializeUser(row)) : sendError(reply, 404)
  })

  app.get<{ Querystring: ListQuery }>(`${scimPath}/Users`, async (request, reply) => {
    const { filter, cursor, count = 100 } = request.query
    const startIndex = Number(request.query.startIndex ?? 1)
    const { workspace } = request
    if (filter !== undefined) {
      const rows = await findUsers(workspace, filter)
      return send(reply, 200, serializeList(rows, rows.length, '"startIndex":1'))
    }
    if (cursor !== undefined) {
      const rows = await pageAfter(workspace, cursor || firstCursor, count)
      return send(reply, 200, serializeList(rows, rows[0]?.total ?? 0, `"nextCursor":"${rows.at(-1)?.id ?? ''}"`))
    }
    const before = idBefore.get(startIndex)
    const rows = before ? await pageAfter(workspace, before, count) : await pageAt(workspace, startIndex, count)
    return send(reply, 200, serializeList(rows, rows[0]?.total ?? 0, `"startIndex":${startIndex}`))
  })

  async function findUsers(workspace: number, filter: string): Promise<UserRow[]> {
    const [, attribute = '', value] = /^(\S+) eq "(.*)"$/.exec(filter) ?? []
    const condition = lookups[attribute]
    if (condition === undefined) throw new Error(`The floor does not support the filter ${filter}.`)
    const text = `SELECT ${columns} FROM users WHERE workspace = $1 AND ${condition}`
    return run<UserRow>(`find_user_by_${attribute}`, text, [workspace, value])
  }

  async function pageAfter(workspace: number, id: string, count: number): Promise<(UserRow & { total: number })[]> {
    return run(
      'list_users_after',
      `SELECT ${columns}, ${total} FROM users WHERE workspace = $1 AND id > $2 ORDER BY id LIMIT $3`,
      [workspace, id, count],
    )
  }

  /** Skips rows in the index only, then fetches the page. LATERAL prevents a generic plan from hashing the whole table. */
  async function pageAt(
    workspace: number,
    startIndex: number,
    count: number,
  ): Promise<(UserRow & { total: number })[]> {
    const rows = await run<UserRow & { total: number }>(
      'list_users_at',
      `SELECT found.*, ${total}
       FROM (SELECT id FROM users WHERE workspace = $1 ORDER BY id OFFSET $2 LIMIT $3) AS place,
         LATERAL (SELECT ${columns} FROM users WHERE workspace = $1 AND id = place.id OFFSET 0) AS found
       ORDER BY place.id`,
      [workspace, startIndex - 1, count],
    )
    const [before] = await run<{ id: string }>(
      'user_before',
      'SELECT id FROM users WHERE workspace = $1 AND id < $2 ORDER BY id DESC LIMIT 1',
      [workspace, rows[0]?.id ?? firstCursor],
    )
    if (before) idBefore.set(startIndex, before.id)
    return rows
  }

  app.patch<{ Params: { id: string }; Body: { Operations: { path: string; value: unknown }[] } }>(
    `${scimPath}/Users/:id`,
    async (request, reply) => {
      const { path, value } = request.body.Operations[0]!
      const active = path === 'active' ? value : null
      const [row] = await run<UserRow>(
        'patch_user',
        `WITH changed AS (
           UPDATE users SET active = coalesce($3, active), version = version + 1, updated_at = now(),
             doc = CASE WHEN $3::boolean IS NULL THEN (doc::jsonb || $4::jsonb)::json ELSE doc END
           WHERE workspace = $1 AND id = $2 RETURNING ${columns}
         ), entry AS (
           INSERT INTO activity (workspace, action, target, detail) SELECT $1, 'user.updated', id, $4::jsonb FROM changed
         )
         SELECT ${columns} FROM changed`,
        [request.workspace, request.params.id, active, JSON.stringify({ [path]: value })],
      )
      return row ? send(reply, 200, serializeUser(row)) : sendError(reply, 404)
    },
  )
}

function serializeUser(row: UserRow): string {
  return `{"id":"${row.id}","active":${row.active},${metaOf('User', row)},${row.doc.slice(1)}`
}

function serializeList(rows: UserRow[], totalResults: number, position: string): string {
  return (
    `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":${totalResults},${position},` +
    `"itemsPerPage":${rows.length},"Resources":[${rows.map(serializeUser).join(',')}]}`
  )
}
