import { join } from 'node:path'
import packageJson from '../../package.json' with { type: 'json' }
import { readConfig } from '../../src/config.ts'
import { openDevelopmentIssuer } from '../../src/development/development-issuer.ts'
import { uuid7 } from '../../src/uuid7.ts'
import type { Contender, Tenant } from './contender.ts'

/** Arguments of `npm start`, which is `exec node [flags] scripts/run.mjs src/server.ts`. */
const start = packageJson.scripts.start
  .split(' ')
  .slice(2)
  .map(word => (word.startsWith('--') ? word : join(import.meta.dirname, '../..', word)))

/** Directory of the first tenant, because ids increase with time. */
const firstDirectory = '(SELECT id FROM directories ORDER BY id LIMIT 1)'

export const service: Contender = {
  name: 'service',
  // The service migrates at start.
  prepare: async () => {},
  command: ({ databaseUrl, port }) => ({
    args: start,
    // Default settings except for the rate limits per directory and address.
    environment: {
      NODE_ENV: 'development',
      DATABASE_URL: databaseUrl,
      PORT: String(port),
      SIGN_IN_STARTS_PER_MINUTE: '10000',
      SCIM_REQUESTS_PER_SECOND: '100000',
    },
    readyPath: '/readyz',
  }),
  makeTenants: async ({ origin, folder, issuer: idp }) => {
    const issuer = await openDevelopmentIssuer(readConfig({}), join(folder, '.data'))
    const token = await issuer.sign({ sub: 'bench', scope: 'assist:workspaces' }, '1h')
    const call = apiCaller(origin, token)
    return [await makeTenant(call, 'first', idp), await makeTenant(call, 'second', idp)]
  },
  userTables: ['members', 'scim_users', 'activity_entries', 'access_changes'],
  countUsers: users =>
    `UPDATE scim_counters SET total = total + ${users}
     WHERE directory_id = ${firstDirectory} AND resource_type = 'User' AND slot = (
       SELECT min(slot) FROM scim_counters WHERE directory_id = ${firstDirectory} AND resource_type = 'User'
     )`,
}

type Call = (method: string, path: string, body?: object) => Promise<Record<string, string>>

async function makeTenant(call: Call, name: string, issuer: string): Promise<Tenant> {
  const workspaceId = uuid7()
  const workspace = `/v1/workspaces/${workspaceId}`
  await call('PUT', workspace, { name })
  await call('PUT', `${workspace}/sso-config`, {
    issuer,
    clientId: 'bench',
    clientSecret: 'bench-secret',
    autoProvision: true,
    allowedDomains: ['bench.example.com'],
    enabled: true,
  })
  const { id } = await call('POST', `${workspace}/directories`, { name })
  const { token } = await call('POST', `${workspace}/directories/${id}/tokens`, {})
  return { scimPath: `/scim/v2/${id}`, token: token!, workspaceId }
}

function apiCaller(origin: string, token: string): Call {
  return async (method, path, body) => {
    const answer = await fetch(`${origin}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path} returned ${answer.status}: ${text}`)
    return JSON.parse(text) as Record<string, string>
  }
}
