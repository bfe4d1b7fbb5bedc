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
const publicUrl = url.refine(text => !/[?#@]/.test(text), 'must have no query, fragment or user name')
// Resolved against an origin it must stay there: neither // nor \\ leads to another host.
const path = z.string().regex(/^\/(?![/\\])[^\\\s]*$/, 'must be a path on the front-end, such as /sso/complete')
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
  PUBLIC_URL: publicUrl,
  TRUSTED_PROXIES: commaList.pipe(z.array(z.union([network, z.ipv4(), z.ipv6()]))),

  DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, 'must be a postgres:// URL'),
  DATABASE_POOL_SIZE: z.coerce.number().int().min(2).max(200).default(10),
  DATABASE_SCAN_CONNECTIONS: z.coerce.number().int().min(1).max(50).default(2),
  MIGRATE_ON_START: flag.default(true),

  FRONTEND_ORIGINS: commaList.pipe(z.array(origin).min(1)),
  FRONTEND_SIGNED_IN_PATH: path.default('/sso/complete'),
  FRONTEND_ERROR_PATH: path.default('/sso/error'),
  FRONTEND_INITIATE_PATH: path.default('/sso/start'),
  FRONTEND_CODE_IN: z.enum(['query', 'fragment']).default('query'),
  FRONTEND_SIGN_IN_TEST_PATH: path.default('/sso/test'),
  FRONTEND_SIGNED_OUT_PATH: path.default('/'),

  ASSIST_TOKEN_ISSUER: z.string().trim().min(1),
  ASSIST_TOKEN_AUDIENCE: z.string().trim().min(1),
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
  SIGN_IN_ATTEMPT_MINUTES: z.coerce.number().int().min(1).max(60).default(10),
  SIGN_IN_STARTS_PER_MINUTE: z.coerce.number().int().min(1).max(10_000).default(3_000),
  SIGN_IN_OPEN_ATTEMPTS: z.coerce.number().int().min(10).max(10_000).default(10_000),
  INVITATION_DAYS: z.coerce.number().int().min(1).max(365).default(14),

  OUTBOUND_ALLOWED_NETWORKS: commaList.pipe(z.array(network)),
  OUTBOUND_PORTS: z
    .string()
    .default('443,8443')
    .transform(text => list(text).map(Number))
    .pipe(z.array(z.int32().min(0).max(65535))),
  OUTBOUND_ALLOW_HTTP: flag.default(false),
  SHARED_ISSUERS: z.string().default('').transform(list),
  WEBMAIL_DOMAINS: z
    .string()
    .default(
      'gmail.com,googlemail.com,outlook.com,hotmail.com,live.com,yahoo.com,icloud.com,proton.me,gmx.de,gmx.net,web.de',
    )
    .transform(list),

  DNS_SERVERS: commaList.pipe(z.array(dnsServer)),
  DOMAIN_RECHECK_HOURS: z.coerce.number().int().min(1).max(720).default(24),
  DOMAIN_GRACE_HOURS: z.coerce.number().int().min(0).max(720).default(72),

  ADMIN_REQUESTS_PER_SECOND: z.coerce.number().int().min(5).max(100_000).default(50),
  ADMIN_BURST_REQUESTS: z.coerce.number().int().min(5).max(100_000).default(500),
  ADMIN_CONCURRENT_REQUESTS: z.coerce.number().int().min(1).max(10_000).default(8),

  BODY_BYTES_IN_FLIGHT: z.coerce.number().int().min(1_048_576).max(4_294_967_296).default(67_108_864),
  BODY_BYTES_IN_FLIGHT_PER_WORKSPACE: z.coerce.number().int().min(1_048_576).max(4_294_967_296).default(33_554_432),

  SCIM_MAX_BODY_BYTES: z.coerce.number().int().min(65_536).max(268_435_456).default(16_777_216),
  SCIM_MAX_BODY_VALUES: z.coerce.number().int().min(10_000).max(10_000_000).default(500_000),
  SCIM_MAX_SMALL_BODY_BYTES: z.coerce.number().int().min(65_536).max(16_777_216).default(1_048_576),
  SCIM_MAX_SMALL_BODY_VALUES: z.coerce.number().int().min(1_000).max(50_000).default(20_000),
  SCIM_REQUESTS_PER_SECOND: z.coerce.number().int().min(25).max(100_000).default(50),
  SCIM_BURST_REQUESTS: z.coerce.number().int().min(25).max(100_000).default(500),
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
  const { data, faults } = parseEach(production ? given : { ...developmentDefaults(given), ...given })
  faults.push(...contradictions(data), ...(production ? weaknesses(data) : []))
  if (faults.length > 0) {
    const lines = faults.map(each => `  ${each}`).join('\n')
    throw new ConfigError(`The service cannot start with these settings (see .env.example):\n${lines}`)
  }
  const entries = Object.entries(data).map(([name, value]) => [camelCase(name), value])
  return Object.freeze({
    ...Object.fromEntries(entries),
    production,
    developmentTokens: data.ASSIST_TOKEN_ISSUER === developmentIssuer,
  }) as Config
}

/** Reads each setting by itself, so that a fault in one hides none of another. */
function parseEach(given: Record<string, string | undefined>): { data: Partial<Settings>; faults: string[] } {
  const faults: string[] = []
  const read = Object.entries(settings.shape).flatMap(([name, schema]) => {
    const parsed = schema.safeParse(given[name])
    if (parsed.success) return [[name, parsed.data]]
    faults.push(`${name}: ${given[name] === undefined ? 'is missing' : parsed.error.issues[0]?.message}`)
    return []
  })
  return { data: Object.fromEntries(read) as Partial<Settings>, faults }
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

/** Settings that are each well-formed and cannot hold together. */
function contradictions(given: Partial<Settings>): string[] {
  const { ROLES, DEFAULT_ROLE, SEAL_KEYS = [] } = given
  const faults = bodyContradictions(given)
  if (ROLES && DEFAULT_ROLE && !ROLES.includes(DEFAULT_ROLE)) faults.push('DEFAULT_ROLE: must be one of ROLES')
  const ids = new Set(SEAL_KEYS.map(each => each.id))
  if (ids.size < SEAL_KEYS.length) faults.push('SEAL_KEYS: two keys have the same id')
  return faults
}

/** A limit that another one makes unreachable. */
function bodyContradictions({
  BODY_BYTES_IN_FLIGHT: replica = Infinity,
  BODY_BYTES_IN_FLIGHT_PER_WORKSPACE: workspace = Infinity,
  SCIM_MAX_BODY_BYTES: body = 0,
}: Partial<Settings>): string[] {
  const faults: string[] = []
  if (body > workspace) faults.push('SCIM_MAX_BODY_BYTES: must be BODY_BYTES_IN_FLIGHT_PER_WORKSPACE at most')
  if (workspace > replica) faults.push('BODY_BYTES_IN_FLIGHT_PER_WORKSPACE: must be BODY_BYTES_IN_FLIGHT at most')
  return faults
}

type WeaknessRules = { [Name in keyof Settings]?: (value: Settings[Name]) => string | false | undefined }

/** What is well-formed and must still not run in production, by the one setting that it is about. */
const weaknessRules: WeaknessRules = {
  PUBLIC_URL: value =>
    (!value.startsWith('https:') && 'must be https in production') ||
    (/^https:\/\/(localhost|127\.|\[::1\])/.test(value) && 'must be the address that browsers and providers reach'),
  TRUSTED_PROXIES: value => value.some(isEverywhere) && 'trusts everybody to say what their address is',
  FRONTEND_ORIGINS: value => value.some(each => !each.startsWith('https:')) && 'must be https in production',
  ASSIST_JWKS_URL: value => !value.startsWith('https:') && 'must be https in production',
  ASSIST_TOKEN_ISSUER: value =>
    value === developmentIssuer && 'is the development issuer, whose key every copy of this service holds',
  SEAL_KEYS: value => {
    const weak = value.find(({ key }) => new Set(key).size < 12)
    if (value.some(({ id, key }) => `${id}:${key.toString('base64')}` === developmentSealKey)) {
      return 'contains the development key'
    }
    return weak && `key ${weak.id} is not random`
  },
  OUTBOUND_ALLOW_HTTP: value => value && 'must be false in production',
  OUTBOUND_PORTS: value => value.includes(0) && '0 (any port) is for development only',
  OUTBOUND_ALLOWED_NETWORKS: value =>
    value.some(each => isEverywhere(each) || isLinkLocal(each)) &&
    'lets workspaces reach everything, or what clouds tell their machines in confidence: name the networks of your providers',
}

function weaknesses(data: Partial<Settings>): string[] {
  return Object.entries(weaknessRules).flatMap(([name, rule]) => {
    const value = data[name as keyof Settings]
    const weakness = value !== undefined && (rule as (value: unknown) => string | false | undefined)(value)
    return weakness ? [`${name}: ${weakness}`] : []
  })
}

/** A network of more than every second address there is. */
function isEverywhere(text: string): boolean {
  return text.includes('/') && Number(text.slice(text.indexOf('/') + 1)) < 2
}

/** 169.254.0.0/16 and fe80::/10, or what holds them or stands in them. */
function isLinkLocal(text: string): boolean {
  const [address, bits] = ipaddr.parseCIDR(text)
  return ['169.254.0.0/16', 'fe80::/10'].some(each => {
    const [base, baseBits] = ipaddr.parseCIDR(each)
    return address.kind() === base.kind() && address.match(base, Math.min(bits, baseBits))
  })
}

function camelCase(name: string): string {
  return name.toLowerCase().replaceAll(/_(\w)/g, (_match, letter: string) => letter.toUpperCase())
}

/** A fresh value for SEAL_KEYS, as the README tells operators to make one. */
export function makeSealKey(id: string): string {
  return `${id}:${randomBytes(32).toString('base64')}`
}
