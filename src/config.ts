import { randomBytes } from 'node:crypto'
import ipaddr from 'ipaddr.js'
import { z } from 'zod'

const list = (text: string) =>
  text
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '')
const commaList = z.string().default('').transform(list)
const flag = z.enum(['true', 'false']).transform(text => text === 'true')
const url = z.url({ protocol: /^https?$/ }).transform(text => text.replace(/\/+$/, ''))
const origin = z
  .string()
  .refine(
    text => URL.canParse(text) && new URL(text).origin === text,
    'must be an origin, such as https://app.example.com',
  )
const network = z.string().refine(text => ipaddr.isValidCIDR(text), 'must be a network, such as 10.1.0.0/16')
const dnsServer = z.string().refine(text => {
  const [, bracketed, plain] = /^(?:\[([0-9a-f:]+)\]|(\d+\.\d+\.\d+\.\d+))(?::\d{1,5})?$/i.exec(text) ?? []
  return ipaddr.isValid(bracketed ?? plain ?? text)
}, 'must be an IP address, with a port such as 192.0.2.53:5353 or [2001:db8::53]:5353 where it is not 53')
const sealKey = z
  .string()
  .regex(/^[a-z0-9-]{1,16}:[A-Za-z0-9+/]{43}=$/, 'must be id:key, the key 32 random bytes in base64')
  .transform(text => ({
    id: text.slice(0, text.indexOf(':')),
    key: Buffer.from(text.slice(text.indexOf(':') + 1), 'base64'),
  }))

/**
 * Every setting, once, with its unit in its name and its bounds. `.env.example` documents the same list; a test holds
 * the two together. A setting without a default must be given in production and has a development default below.
 */
const settings = z.object({
  NODE_ENV: z.enum(['production', 'development', 'test']).default('development'),
  HOST: z.string().min(1).default('127.0.0.1'),
  PORT: z.coerce.number().int().min(0).max(65535).default(3000),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  PUBLIC_URL: url,
  TRUSTED_PROXIES: commaList.pipe(z.array(z.union([network, z.ipv4(), z.ipv6()]))),

  DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, 'must be a postgres:// URL'),
  DATABASE_POOL_SIZE: z.coerce.number().int().min(2).max(200).default(10),
  MIGRATE_ON_START: flag.default(true),

  FRONTEND_ORIGINS: commaList.pipe(z.array(origin).min(1)),
  FRONTEND_SIGNED_IN_PATH: z.string().startsWith('/').default('/sso/complete'),
  FRONTEND_ERROR_PATH: z.string().startsWith('/').default('/sso/error'),
  FRONTEND_INITIATE_PATH: z.string().startsWith('/').default('/sso/start'),
  FRONTEND_LOGIN_TEST_PATH: z.string().startsWith('/').default('/sso/test'),
  FRONTEND_SIGNED_OUT_PATH: z.string().startsWith('/').default('/'),

  ASSIST_TOKEN_ISSUER: z.string().min(1),
  ASSIST_TOKEN_AUDIENCE: z.string().min(1),
  ASSIST_JWKS_URL: url,
  ASSIST_TOKEN_ALGORITHMS: z
    .string()
    .default('RS256,PS256,ES256,EdDSA')
    .transform(list)
    .pipe(
      z
        .array(z.enum(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']))
        .min(1),
    ),
  ASSIST_CLAIM_WORKSPACE: z.string().min(1).default('workspace'),
  ASSIST_CLAIM_ROLE: z.string().min(1).default('role'),
  ASSIST_CLAIM_EMAIL: z.string().min(1).default('email'),
  ASSIST_SERVICE_SCOPE: z.string().min(1).default('assist:workspaces'),
  CLOCK_TOLERANCE_SECONDS: z.coerce.number().int().min(0).max(60).default(30),

  SEAL_KEYS: z.string().transform(list).pipe(z.array(sealKey).min(1)),
  ROLES: z
    .string()
    .default('viewer,member,admin,owner')
    .transform(list)
    .pipe(
      z
        .array(z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/))
        .min(2)
        .refine(roles => new Set(roles).size === roles.length, 'must not name a role twice')
        .refine(roles => roles.includes('admin') && roles.at(-1) === 'owner', 'must contain admin, and end in owner'),
    ),
  DEFAULT_ROLE: z.string().default('member'),

  SESSION_HOURS: z.coerce.number().int().min(1).max(720).default(12),
  SESSION_IDLE_MINUTES: z.coerce.number().int().min(5).max(10_080).default(120),
  LOGIN_ATTEMPT_MINUTES: z.coerce.number().int().min(1).max(60).default(10),
  LOGIN_STARTS_PER_MINUTE: z.coerce.number().int().min(1).max(10_000).default(60),
  LOGIN_OPEN_ATTEMPTS: z.coerce.number().int().min(10).max(10_000).default(200),
  INVITATION_DAYS: z.coerce.number().int().min(1).max(365).default(14),

  OUTBOUND_ALLOWED_NETWORKS: commaList.pipe(z.array(network)),
  OUTBOUND_PORTS: z
    .string()
    .default('443,8443')
    .transform(text => list(text).map(Number))
    .pipe(z.array(z.number().int().min(0).max(65535))),
  OUTBOUND_ALLOW_HTTP: flag.default(false),
  SHARED_ISSUERS: z.string().default('https://accounts.google.com').transform(list),
  WEBMAIL_DOMAINS: z
    .string()
    .default(
      'gmail.com,googlemail.com,outlook.com,hotmail.com,live.com,yahoo.com,icloud.com,proton.me,gmx.de,gmx.net,web.de',
    )
    .transform(list),

  DNS_SERVERS: commaList.pipe(z.array(dnsServer)),
  DOMAIN_RECHECK_HOURS: z.coerce.number().int().min(1).max(720).default(24),
  DOMAIN_GRACE_HOURS: z.coerce.number().int().min(0).max(720).default(72),

  SCIM_MAX_BODY_BYTES: z.coerce.number().int().min(65_536).max(268_435_456).default(16_777_216),
  SCIM_REQUESTS_PER_SECOND: z.coerce.number().int().min(25).max(100_000).default(500),
  SCIM_CONCURRENT_REQUESTS: z.coerce.number().int().min(1).max(10_000).default(64),
})

type Settings = z.output<typeof settings>

/** The frozen configuration: the settings by their names in camelCase. */
export type Config = Readonly<{
  [Name in keyof Settings as CamelCase<Name & string>]: Settings[Name]
}> & {
  readonly production: boolean
  /** True where the development defaults stand in for Assist's own token issuer: the service then holds its key. */
  readonly developmentTokens: boolean
}

type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Lowercase<Head>}${Capitalize<CamelCase<Tail>>}`
  : Lowercase<Name>

/** Values that a published default makes worthless in production. */
const developmentSealKey = `dev:${Buffer.from('assist-development-key-not-secret').subarray(0, 32).toString('base64')}`
export const developmentIssuer = 'urn:assist:development'

/** A faulty environment: every fault in one message, for the operator who starts the process. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/**
 * Reads the settings from an environment, the only place that does.
 * @throws {ConfigError} naming every setting that is missing, malformed or, in production, a development default
 */
export function readConfig(environment: Record<string, string | undefined> = process.env): Config {
  // An empty value is a setting that was left out: `.env` files and container platforms write it so.
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''),
  )
  const production = given.NODE_ENV === 'production'
  const parsed = settings.safeParse(production ? given : { ...developmentDefaults(given), ...given })
  const faults = parsed.success
    ? findWeaknesses(parsed.data)
    : parsed.error.issues.map(issue => `${issue.path[0]?.toString()}: ${fault(issue, given)}`)
  if (!parsed.success || faults.length > 0) {
    throw new ConfigError(
      `The service cannot start with these settings (see .env.example):\n${[...new Set(faults)].map(each => `  ${each}`).join('\n')}`,
    )
  }
  const entries = Object.entries(parsed.data).map(([name, value]) => [camelCase(name), value])
  return Object.freeze({
    ...Object.fromEntries(entries),
    production,
    developmentTokens: parsed.data.ASSIST_TOKEN_ISSUER === developmentIssuer,
  }) as Config
}

function fault(issue: z.core.$ZodIssue, given: Record<string, string | undefined>): string {
  return given[String(issue.path[0])] === undefined ? 'is missing' : issue.message
}

function developmentDefaults(given: Record<string, string | undefined>): Record<string, string> {
  const port = given.PORT ?? '3000'
  return {
    PUBLIC_URL: `http://localhost:${port}`,
    // Replaced by the embedded database's own address when the server starts it.
    DATABASE_URL: 'postgres://embedded',
    FRONTEND_ORIGINS: 'http://localhost:5173',
    ASSIST_TOKEN_ISSUER: developmentIssuer,
    ASSIST_TOKEN_AUDIENCE: 'assist-identity',
    ASSIST_JWKS_URL: `http://localhost:${port}/.well-known/development-jwks.json`,
    SEAL_KEYS: developmentSealKey,
    OUTBOUND_ALLOWED_NETWORKS: '127.0.0.0/8,::1/128',
    OUTBOUND_PORTS: '0',
    OUTBOUND_ALLOW_HTTP: 'true',
  }
}

/** What parses and must still not run in production. */
function findWeaknesses(data: Settings): string[] {
  const weaknesses: string[] = []
  const { ROLES, DEFAULT_ROLE, NODE_ENV } = data
  if (!ROLES.includes(DEFAULT_ROLE)) weaknesses.push('DEFAULT_ROLE: must be one of ROLES')
  if (new Set(data.SEAL_KEYS.map(each => each.id)).size < data.SEAL_KEYS.length) {
    weaknesses.push('SEAL_KEYS: two keys have the same id')
  }
  if (NODE_ENV !== 'production') return weaknesses
  if (!data.PUBLIC_URL.startsWith('https:')) weaknesses.push('PUBLIC_URL: must be https in production')
  if (!data.ASSIST_JWKS_URL.startsWith('https:')) weaknesses.push('ASSIST_JWKS_URL: must be https in production')
  if (data.FRONTEND_ORIGINS.some(each => !each.startsWith('https:'))) {
    weaknesses.push('FRONTEND_ORIGINS: must be https in production')
  }
  if (data.ASSIST_TOKEN_ISSUER === developmentIssuer) {
    weaknesses.push('ASSIST_TOKEN_ISSUER: is the development issuer, whose key every copy of this service holds')
  }
  for (const { id, key } of data.SEAL_KEYS) {
    if (`${id}:${key.toString('base64')}` === developmentSealKey)
      weaknesses.push('SEAL_KEYS: contains the development key')
    else if (new Set(key).size < 12) weaknesses.push(`SEAL_KEYS: key ${id} is not random`)
  }
  if (data.OUTBOUND_ALLOW_HTTP) weaknesses.push('OUTBOUND_ALLOW_HTTP: must be false in production')
  if (data.OUTBOUND_PORTS.includes(0)) weaknesses.push('OUTBOUND_PORTS: 0 (any port) is for development only')
  return weaknesses
}

function camelCase(name: string): string {
  return name.toLowerCase().replaceAll(/_(\w)/g, (_match, letter: string) => letter.toUpperCase())
}

/** A fresh value for SEAL_KEYS, as the README tells operators to make one. */
export function makeSealKey(id: string): string {
  return `${id}:${randomBytes(32).toString('base64')}`
}
