import type { FastifyInstance } from 'fastify'
import { uuid7 } from '../../src/uuid7.ts'
import { metaOf, scimPath, send, sendError, type Versioned } from './answer.ts'
import type { Run } from './database.ts'

interface GroupRow extends Versioned {
  display_name: string
  /** Ids of the users in the group, joined by commas. */
  members?: string | null
}

interface GroupBody {
  displayName: string
  members?: { value: string }[]
}

interface GroupOperation {
  op: 'add' | 'remove'
  path: string
  value?: { value: string }[]
}

type ById = { Params: { id: string } }

const columns = 'id, display_name, version, created_at, updated_at'
const bumped = `bumped AS (
  UPDATE groups SET version = version + 1, updated_at = now() WHERE workspace = $1 AND id = $2 RETURNING id
)`

export function groupRoutes(app: FastifyInstance, run: Run): void {
  app.post<{ Body: GroupBody }>(`${scimPath}/Groups`, async (request, reply) => {
    const ids = idsOf(request.body.members)
    const [row] = await run<GroupRow>(
      'create_group',
      `WITH made AS (
         INSERT INTO groups (workspace, id, display_name) VALUES ($1, $2, $3) RETURNING ${columns}
       ), joined AS (
         INSERT INTO group_members (workspace, group_id, user_id)
         SELECT $1, $2, users.id FROM unnest($4::uuid[]) AS wanted (id)
         JOIN users ON users.workspace = $1 AND users.id = wanted.id ON CONFLICT DO NOTHING
       ), entry AS (
         INSERT INTO activity (workspace, action, target, detail)
         SELECT $1, 'group.created', $2, jsonb_build_object('members', cardinality($4::uuid[]))
       )
       SELECT ${columns} FROM made`,
      [request.workspace, uuid7(), request.body.displayName, ids],
    )
    return send(reply, 201, serializeGroup(row!, ids))
  })

  app.get<ById & { Querystring: { excludedAttributes?: string } }>(
    `${scimPath}/Groups/:id`,
    async (request, reply) => {
      const values = [request.workspace, request.params.id]
      const withMembers = request.query.excludedAttributes !== 'members'
      const from = 'FROM groups WHERE workspace = $1 AND id = $2'
      const [row] = withMembers
        ? await run<GroupRow>(
            'get_group',
            `SELECT ${columns}, (SELECT string_agg(user_id::text, ',') FROM group_members WHERE group_id = $2) AS members ${from}`,
            values,
          )
        : await run<GroupRow>('get_group_alone', `SELECT ${columns} ${from}`, values)
      if (!row) return sendError(reply, 404)
      return send(reply, 200, withMembers ? serializeGroup(row, row.members?.split(',') ?? []) : serializeGroup(row))
    },
  )

  // RFC 7644 §3.5.2 allows 204.
  app.patch<ById & { Body: { Operations: GroupOperation[] } }>(`${scimPath}/Groups/:id`, async (request, reply) => {
    const operation = request.body.Operations[0]!
    const rows = await (operation.op === 'add' ? addMembers : removeMembers)([
      request.workspace,
      request.params.id,
      operation.value ? idsOf(operation.value) : [/"(.*)"/.exec(operation.path)?.[1]],
    ])
    return rows.length > 0 ? reply.code(204).send() : sendError(reply, 404)
  })

  const addMembers = (values: unknown[]) =>
    run(
      'add_members',
      `WITH ${bumped}, joined AS (
         INSERT INTO group_members (workspace, group_id, user_id)
         SELECT $1, bumped.id, users.id FROM bumped, unnest($3::uuid[]) AS wanted (id)
         JOIN users ON users.workspace = $1 AND users.id = wanted.id ON CONFLICT DO NOTHING RETURNING user_id
       ), entry AS (
         INSERT INTO activity (workspace, action, target, detail)
         SELECT $1, 'group.members_added', $2, jsonb_build_object('users', jsonb_agg(user_id))
         FROM joined HAVING count(*) > 0
       )
       SELECT id FROM bumped`,
      values,
    )

  const removeMembers = (values: unknown[]) =>
    run(
      'remove_members',
      `WITH ${bumped}, gone AS (
         DELETE FROM group_members WHERE group_id = $2 AND user_id = ANY ($3::uuid[]) AND EXISTS (SELECT FROM bumped)
         RETURNING user_id
       ), entry AS (
         INSERT INTO activity (workspace, action, target, detail)
         SELECT $1, 'group.members_removed', $2, jsonb_build_object('users', jsonb_agg(user_id))
         FROM gone HAVING count(*) > 0
       )
       SELECT id FROM bumped`,
      values,
    )

  // FULL JOIN, because it can only be hashed or merged, so a stale row estimate cannot make it quadratic.
  app.put<ById & { Body: GroupBody }>(`${scimPath}/Groups/:id`, async (request, reply) => {
    const ids = idsOf(request.body.members)
    const [row] = await run<GroupRow>(
      'replace_group',
      `WITH changed AS (
         UPDATE groups SET display_name = $3, version = version + 1, updated_at = now()
         WHERE workspace = $1 AND id = $2 RETURNING ${columns}
       ), difference AS MATERIALIZED (
         SELECT old.user_id AS gone, wanted.id AS joined
         FROM (SELECT user_id FROM group_members WHERE group_id = $2) AS old
         FULL JOIN (SELECT DISTINCT id FROM unnest($4::uuid[]) AS ids (id)) AS wanted ON wanted.id = old.user_id
         WHERE old.user_id IS NULL OR wanted.id IS NULL
       ), gone AS (
         DELETE FROM group_members AS old USING difference
         WHERE old.group_id = $2 AND old.user_id = difference.gone AND EXISTS (SELECT FROM changed) RETURNING 1
       ), joined AS (
         INSERT INTO group_members (workspace, group_id, user_id)
         SELECT $1, $2, users.id FROM difference
         JOIN users ON users.workspace = $1 AND users.id = difference.joined WHERE EXISTS (SELECT FROM changed)
         RETURNING 1
       ), entry AS (
         INSERT INTO activity (workspace, action, target, detail)
         SELECT $1, 'group.replaced', id, jsonb_build_object(
           'added', (SELECT count(*) FROM joined), 'removed', (SELECT count(*) FROM gone)) FROM changed
       )
       SELECT ${columns} FROM changed`,
      [request.workspace, request.params.id, request.body.displayName, ids],
    )
    return row ? send(reply, 200, serializeGroup(row, ids)) : sendError(reply, 404)
  })

  app.delete<ById>(`${scimPath}/Groups/:id`, async (request, reply) => {
    const rows = await run(
      'delete_group',
      `WITH gone AS (
         DELETE FROM group_members WHERE group_id = $2
       ), deleted AS (
         DELETE FROM groups WHERE workspace = $1 AND id = $2 RETURNING id
       )
       INSERT INTO activity (workspace, action, target) SELECT $1, 'group.deleted', id FROM deleted RETURNING id`,
      [request.workspace, request.params.id],
    )
    return rows.length > 0 ? reply.code(204).send() : sendError(reply, 404)
  })
}

function idsOf(members: { value: string }[] = []): string[] {
  return members.map(member => member.value)
}

function serializeGroup(row: GroupRow, memberIds?: string[]): string {
  const members = memberIds ? `,"members":[${membersText(memberIds)}]` : ''
  return (
    `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"id":"${row.id}",` +
    `"displayName":${JSON.stringify(row.display_name)},${metaOf('Group', row)}${members}}`
  )
}

/** Appends to one string, because for 50,000 memberships that is several times cheaper than an array of parts. */
function membersText(ids: string[]): string {
  let text = ''
  for (const id of ids) {
    const separator = text === '' ? '' : ','
    text += `${separator}{"value":"${id}","$ref":"http://127.0.0.1${scimPath}/Users/${id}","type":"User"}`
  }
  return text
}
