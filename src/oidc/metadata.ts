import { z } from 'zod'
import { AppError } from '../errors.ts'
import { discoveryUrl, multiTenant } from './issuer.ts'

/** JWS algorithms of ID tokens that are accepted when announced: asymmetric ones, whose keys are published (RFC 8725 §3.1). */
export const signingAlgorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ')

const endpoint = z
  .string()
  .max(2000)
  .refine(text => URL.canParse(text), 'is not a URL')
/** Lists of a provider are untrusted input: what no algorithm, method, scope or claim is called is not kept. */
const names = z
  .array(z.string())
  .max(500)
  .transform(list => list.filter(name => name.length <= 100).slice(0, 200))

/** What this service uses of OpenID Provider Metadata (Discovery 1.0 §3), by the specification's own names. */
const providerMetadata = z.object({
  // Shown to admins, and stored.
  issuer: z
    .string()
    .max(1000)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u, 'has control characters'),
  authorization_endpoint: endpoint,
  token_endpoint: endpoint,
  jwks_uri: endpoint,
  userinfo_endpoint: endpoint.optional(),
  end_session_endpoint: endpoint.optional(),
  response_types_supported: names.optional(),
  // Required by the specification; a provider that leaves it out must support RS256 (Core §15.1).
  id_token_signing_alg_values_supported: names.default(['RS256']),
  // RFC 8414 §2 and Discovery §3: absent means client_secret_basic.
  token_endpoint_auth_methods_supported: names.default(['client_secret_basic']),
  token_endpoint_auth_signing_alg_values_supported: names.optional(),
  userinfo_signing_alg_values_supported: names.optional(),
  code_challenge_methods_supported: names.optional(),
  authorization_response_iss_parameter_supported: z.boolean().default(false),
  scopes_supported: names.optional(),
  claims_supported: names.optional(),
})

export type ProviderMetadata = z.output<typeof providerMetadata>

/** The endpoints that this service itself calls; the rest are for browsers. */
export const calledEndpoints = ['token_endpoint', 'jwks_uri', 'userinfo_endpoint'] as const
const endpoints = [...calledEndpoints, 'authorization_endpoint', 'end_session_endpoint'] as const

/**
 * Reads a discovery document. It must speak for an issuer whose own discovery URL it was fetched from (Discovery 1.0
 * §4.3), so that no host can speak for another. Whether a root or path ends in a slash does not change that URL; the
 * document's spelling is then the issuer.
 * @throws {AppError} `sso_discovery_invalid` naming the member at fault, `sso_issuer_mismatch` with both issuers,
 *   `sso_issuer_multi_tenant` for a template
 */
export function readMetadata(issuer: string, document: unknown): ProviderMetadata {
  const parsed = providerMetadata.safeParse(withoutNulls(document))
  if (!parsed.success) throw faulty(parsed.error.issues[0], document)
  const metadata = parsed.data
  if (metadata.issuer.includes('{tenantid}')) throw multiTenant()
  if (discoveryUrl(metadata.issuer) !== discoveryUrl(issuer)) {
    throw new AppError(
      'sso_issuer_mismatch',
      `The provider at this address calls itself ${metadata.issuer}, expected was ${issuer}. Use ${metadata.issuer} as the issuer, if that is the provider that you mean.`,
      { detail: { expected: issuer, found: metadata.issuer } },
    )
  }
  for (const name of endpoints) checkEndpoint(name, metadata)
  if (metadata.response_types_supported && !metadata.response_types_supported.includes('code')) {
    throw unusable('response_types_supported does not contain code: the provider has no authorization code flow')
  }
  if (usableAlgorithms(metadata).length === 0) {
    throw unusable(
      'id_token_signing_alg_values_supported has no algorithm with published keys, such as RS256 or ES256: ' +
        'choose one for this application at the provider',
    )
  }
  return metadata
}

/** The announced ID-token algorithms that are accepted here. */
export function usableAlgorithms(metadata: ProviderMetadata): string[] {
  return signingAlgorithms.filter(name => metadata.id_token_signing_alg_values_supported.includes(name))
}

/** The algorithms of signed UserInfo responses that are accepted: the announced ones, or all when none are announced. */
export function userInfoAlgorithms({ userinfo_signing_alg_values_supported: announced }: ProviderMetadata): string[] {
  return announced ? signingAlgorithms.filter(name => announced.includes(name)) : [...signingAlgorithms]
}

/** Endpoints carry codes and secrets: https, unless the issuer itself was allowed to be http (development). */
function checkEndpoint(name: (typeof endpoints)[number], metadata: ProviderMetadata): void {
  const text = metadata[name]
  if (text === undefined) return
  const url = new URL(text)
  const secure = url.protocol === 'https:' || (url.protocol === 'http:' && metadata.issuer.startsWith('http:'))
  if (!secure) throw unusable(`${name} is not an https URL`)
  if (url.hash !== '' || url.username !== '' || url.password !== '') {
    throw unusable(`${name} has a fragment or a user name (RFC 6749 §3.1)`)
  }
}

function withoutNulls(document: unknown): unknown {
  if (typeof document !== 'object' || document === null || Array.isArray(document)) return document
  return Object.fromEntries(Object.entries(document).filter(([, value]) => value !== null))
}

function faulty(issue: z.core.$ZodIssue | undefined, document: unknown): AppError {
  const member = issue?.path[0]?.toString()
  if (member === undefined) return unusable('it is not a JSON object')
  return Object.hasOwn(document as object, member)
    ? unusable(`${member} is malformed`)
    : unusable(`it lacks the member ${member}`)
}

function unusable(fault: string): AppError {
  return new AppError('sso_discovery_invalid', `The provider's discovery document cannot be used: ${fault}.`, {
    detail: { fault },
  })
}
