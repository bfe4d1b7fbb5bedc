// Creates an access token like Assist's, for development: `npm run token -- --workspace ID --role owner`, or
// `npm run token -- --scope assist:workspaces`. Other options: `--sub SUBJECT` and `--hours N` (default 12).
import { parseArgs } from 'node:util'
import { ConfigError, readConfig } from '../src/config.ts'
import { openDevelopmentIssuer } from '../src/development/development-issuer.ts'
import { isUuid } from '../src/uuid7.ts'

try {
  console.log(await makeToken())
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}

async function makeToken(): Promise<string> {
  const { values } = parseArgs({
    options: {
      workspace: { type: 'string' },
      role: { type: 'string' },
      scope: { type: 'string' },
      sub: { type: 'string', default: 'development' },
      hours: { type: 'string', default: '12' },
    },
  })
  const { workspace, role, scope, sub, hours } = values
  const config = readConfig()
  if (!config.developmentTokens) {
    throw new ConfigError(
      'ASSIST_TOKEN_ISSUER is not the development issuer. Only tokens of the development issuer can be created.',
    )
  }
  if (workspace === undefined ? scope === undefined : !isUuid(workspace)) {
    throw new Error('Set --workspace to a UUID, together with --role; or set --scope for an Assist back-end.')
  }
  if (workspace !== undefined && !config.roles.includes(role ?? '')) {
    throw new Error(`Set --role to one of ${config.roles.join(', ')}.`)
  }
  if (!/^[1-9]\d{0,3}$/.test(hours)) throw new Error('Set --hours to a whole number from 1 to 9999.')
  const issuer = await openDevelopmentIssuer(config, '.data')
  const claims = {
    ...(workspace !== undefined && { [config.assistClaimWorkspace]: workspace }),
    ...(role !== undefined && { [config.assistClaimRole]: role }),
    ...(scope !== undefined && { scope }),
  }
  return issuer.sign({ sub, ...claims }, `${hours}h`)
}
