import { AppError, type ErrorCode } from '../errors.ts'
import type { KeySet } from './key-set.ts'
import { usableAlgorithms, type ProviderMetadata } from './metadata.ts'

/** One thing that was looked at, for the admin. */
export interface ProviderCheck {
  name:
    'issuer' | 'reachable' | 'document' | 'issuer_match' | 'endpoints' | 'algorithms' | 'keys' | 'pkce' | 'auth_method'
  result: 'pass' | 'warn' | 'fail'
  message: string
  /** What to change, and where. */
  fix?: string
  /** The code with which saving would be refused. */
  code?: ErrorCode
}

interface Sources {
  inspect: (issuer: string) => Promise<ProviderMetadata>
  reloadKeys: (metadata: ProviderMetadata) => Promise<KeySet>
}

/** The order in which an inspection proceeds: what comes before the check that failed has passed. */
const steps = ['issuer', 'reachable', 'document', 'issuer_match', 'endpoints'] as const

const passed: Record<(typeof steps)[number], string> = {
  issuer: 'The issuer is a well-formed https URL.',
  reachable: 'The discovery document can be read.',
  document: 'The discovery document has every member that is needed.',
  issuer_match: 'The provider calls itself by this issuer.',
  endpoints: 'Every endpoint is https and at an address that may be called.',
}

/** Tests a provider step by step and says of each what was found; stops where nothing further can be known. */
export async function runChecks(issuer: string, { inspect, reloadKeys }: Sources): Promise<ProviderCheck[]> {
  let metadata: ProviderMetadata
  try {
    metadata = await inspect(issuer)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    const failed = failedStep(error)
    return [...passesBefore(failed), { name: failed, result: 'fail', message: error.message, code: error.code }]
  }
  return [
    ...passesBefore(undefined),
    checkAlgorithms(metadata),
    await checkKeys(metadata, reloadKeys),
    checkPkce(metadata),
    checkAuthMethod(metadata),
  ]
}

const stepByCode: Partial<Record<ErrorCode, (typeof steps)[number]>> = {
  sso_discovery_failed: 'reachable',
  sso_discovery_invalid: 'document',
  sso_issuer_mismatch: 'issuer_match',
  sso_issuer_blocked: 'reachable',
}

function failedStep({ code, detail }: AppError): (typeof steps)[number] {
  return detail?.stage === 'endpoints' ? 'endpoints' : (stepByCode[code] ?? 'issuer')
}

function passesBefore(failed: (typeof steps)[number] | undefined): ProviderCheck[] {
  const done = failed === undefined ? steps : steps.slice(0, steps.indexOf(failed))
  return done.map(name => ({ name, result: 'pass', message: passed[name] }))
}

function checkAlgorithms(metadata: ProviderMetadata): ProviderCheck {
  return {
    name: 'algorithms',
    result: 'pass',
    message: `ID tokens may be signed with ${usableAlgorithms(metadata).join(', ')}.`,
  }
}

async function checkKeys(metadata: ProviderMetadata, reloadKeys: Sources['reloadKeys']): Promise<ProviderCheck> {
  const name = 'keys'
  const keySet = await reloadKeys(metadata).catch(() => undefined)
  if (keySet === undefined) {
    return {
      name,
      result: 'fail',
      message: 'The keys at jwks_uri could not be read.',
      fix: 'Check jwks_uri at the provider.',
    }
  }
  if (keySet.keys.length === 0) {
    const fix = 'Publish an RSA key of 2048 bits or more, or an EC or Ed25519 key, for signatures.'
    return { name, result: 'fail', message: `No published key can be used${reasons(keySet)}.`, fix }
  }
  if (keySet.ignored.length > 0) {
    return { name, result: 'warn', message: `${keySet.keys.length} usable; left out were${reasons(keySet)}.` }
  }
  return { name, result: 'pass', message: `${keySet.keys.length} usable.` }
}

function reasons({ ignored }: KeySet): string {
  return ignored.length === 0 ? '' : ` keys ${[...new Set(ignored)].join('; ')}`
}

function checkPkce(metadata: ProviderMetadata): ProviderCheck {
  const name = 'pkce'
  if (metadata.code_challenge_methods_supported?.includes('S256')) {
    return { name, result: 'pass', message: 'The provider announces PKCE with S256.' }
  }
  const message =
    'The provider does not announce PKCE with S256. It is sent all the same; Entra, for one, checks it silently.'
  return { name, result: 'warn', message }
}

function checkAuthMethod(metadata: ProviderMetadata): ProviderCheck {
  const name = 'auth_method'
  const announced = metadata.token_endpoint_auth_methods_supported
  const usable = announced.filter(method => method === 'client_secret_basic' || method === 'client_secret_post')
  if (usable.length > 0) return { name, result: 'pass', message: `The client secret is sent by ${usable[0]}.` }
  const message = 'The provider announces neither client_secret_basic nor client_secret_post.'
  if (announced.includes('private_key_jwt')) {
    return { name, result: 'warn', message, fix: 'Set tokenAuthMethod to private_key_jwt.' }
  }
  return { name, result: 'fail', message, fix: 'Allow one of the two for this application at the provider.' }
}
