import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runSql } from '../../tools/admin-sql.ts'
import type { Contender } from './contender.ts'

const folder = join(import.meta.dirname, '../floor')
const tokens = ['bench-1', 'bench-2'] as const

export const floor: Contender = {
  name: 'floor',
  prepare: async databaseUrl => {
    await runSql(databaseUrl, await readFile(join(folder, 'schema.sql'), 'utf8'))
  },
  command: ({ databaseUrl, port }) => ({
    args: [join(folder, 'server.ts'), '--database', databaseUrl, '--port', String(port), '--tokens', tokens.join(',')],
    readyPath: '/',
  }),
  makeTenants: async ({ origin, issuer }) => {
    const keys: unknown = await (await fetch(`${issuer}/jwks`)).json()
    await fetch(`${origin}/sso/2`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ issuer, keys }),
    })
    return [
      { scimPath: '/scim/v2', token: tokens[0] },
      { scimPath: '/scim/v2', token: tokens[1], workspaceId: '2' },
    ]
  },
  userTables: ['users', 'user_emails', 'activity'],
  countUsers: users => `UPDATE counters SET total = total + ${users} WHERE workspace = 1`,
}
