import t from 'tap'
import { ConfigError, makeSealKey, readConfig } from '../src/config.ts'

const production = {
  NODE_ENV: 'production',
  PUBLIC_URL: 'https://sso.assist.example/',
  DATABASE_URL: 'postgres://assist@db.example/assist',
  FRONTEND_ORIGINS: 'https://app.assist.example, https://admin.assist.example',
  ASSIST_TOKEN_ISSUER: 'https://auth.assist.example',
  ASSIST_TOKEN_AUDIENCE: 'assist-identity',
  ASSIST_JWKS_URL: 'https://auth.assist.example/jwks',
  SEAL_KEYS: makeSealKey('2026-11'),
}

function faults(environment: Record<string, string | undefined>): string {
  try {
    readConfig(environment)
    return ''
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message
  }
}

t.test('production starts with what must be given, and nothing else', async t => {
  const config = readConfig(production)
  t.match(config, { production: true, developmentTokens: false, publicUrl: 'https://sso.assist.example' })
  t.same(config.frontendOrigins, ['https://app.assist.example', 'https://admin.assist.example'])
  t.same([config.outboundAllowedNetworks, config.outboundPorts, config.outboundAllowHttp], [[], [443, 8443], false])
  t.ok(Object.isFrozen(config))
})

t.test('production names every missing setting in one message', async t => {
  const message = faults({ NODE_ENV: 'production' })
  const { NODE_ENV: _mode, ...required } = production
  for (const name of Object.keys(required)) t.match(message, `${name}: is missing`)
  t.match(message, '.env.example')
  t.match(faults({ ...production, PUBLIC_URL: '' }), 'PUBLIC_URL: is missing', 'empty is missing')
})

t.test('production refuses development values, weak keys and plain http, all in one message', async t => {
  const zeros = Buffer.alloc(32).toString('base64')
  const message = faults({
    ...production,
    PUBLIC_URL: 'http://sso.assist.example',
    FRONTEND_ORIGINS: 'http://app.assist.example',
    ASSIST_JWKS_URL: 'http://auth.assist.example/jwks',
    ASSIST_TOKEN_ISSUER: 'urn:assist:development',
    OUTBOUND_ALLOW_HTTP: 'true',
    OUTBOUND_PORTS: '0',
    SEAL_KEYS: `zero:${zeros}`,
    DEFAULT_ROLE: 'emperor',
    TRUSTED_PROXIES: '0.0.0.0/0',
    OUTBOUND_ALLOWED_NETWORKS: '169.254.169.0/24',
    PORT: '99999',
  })
  const expected = ['PUBLIC_URL', 'FRONTEND_ORIGINS', 'ASSIST_JWKS_URL', 'ASSIST_TOKEN_ISSUER', 'OUTBOUND_ALLOW_HTTP']
  for (const name of [...expected, 'OUTBOUND_PORTS', 'SEAL_KEYS', 'DEFAULT_ROLE', 'TRUSTED_PROXIES', 'PORT'])
    t.match(message, `${name}: `)
  t.match(message, 'OUTBOUND_ALLOWED_NETWORKS: ')
  for (const network of ['0.0.0.0/0', '::/0', '168.0.0.0/7', 'fe80::/64']) {
    t.match(faults({ ...production, OUTBOUND_ALLOWED_NETWORKS: network }), 'OUTBOUND_ALLOWED_NETWORKS: ', network)
  }
  t.equal(faults({ ...production, OUTBOUND_ALLOWED_NETWORKS: '10.20.0.0/16', TRUSTED_PROXIES: '10.0.0.0/8' }), '')
  t.match(faults({ ...production, PUBLIC_URL: 'https://localhost' }), 'PUBLIC_URL: ')
  const { sealKeys } = readConfig({})
  const [development] = sealKeys
  const key = `${development?.id}:${development?.key.toString('base64')}`
  t.match(faults({ ...production, SEAL_KEYS: key }), 'SEAL_KEYS: ', 'the published development key')
})

t.test('a malformed setting is refused by its name, never by its value', async t => {
  for (const [name, value] of [
    ['PORT', '70000'],
    ['SEAL_KEYS', 'hidden-value'],
    ['DATABASE_URL', 'mysql://hidden-value'],
    ['FRONTEND_ORIGINS', 'https://app.assist.example/hidden-value'],
    ['ROLES', 'member,admin'],
    ['ROLES', 'member,member,admin,owner'],
    ['OUTBOUND_ALLOWED_NETWORKS', '10.0.0.0'],
    ['MIGRATE_ON_START', 'yes'],
    ['SESSION_HOURS', '0'],
    ['PUBLIC_URL', 'https://sso.assist.example/path?x=hidden-value'],
    ['FRONTEND_ERROR_PATH', '//hidden-value.example'],
    ['FRONTEND_ERROR_PATH', '/\\hidden-value.example'],
    ['ASSIST_TOKEN_AUDIENCE', ' '],
  ] as const) {
    const message = faults({ ...production, [name]: value })
    t.match(message, `${name}: `)
    t.notMatch(message, 'hidden-value')
  }
  const key = makeSealKey('a')
  t.match(faults({ ...production, SEAL_KEYS: `${key},${makeSealKey('a')}` }), 'two keys have the same id')
})

t.test('development needs no setting at all', async t => {
  t.match(readConfig({}), { production: false, developmentTokens: true, publicUrl: 'http://localhost:3000' })
  t.match(readConfig({ PORT: '4000' }), { publicUrl: 'http://localhost:4000' })
})
