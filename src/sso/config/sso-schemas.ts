import { z } from 'zod'
import { providerKinds } from '../guides/guide.ts'

/** The settings of an SSO configuration as they go in and out, the same for saving, testing and showing. */
export const settings = {
  issuer: z.string().min(1).max(1100).meta({
    description: 'The issuer as the provider calls itself; its discovery URL may be pasted',
    example: 'https://idp.example.com',
  }),
  clientId: z.string().trim().min(1).max(255).meta({ example: '0oa1b2c3d4' }),
  tokenAuthMethod: z
    .enum(['client_secret_basic', 'client_secret_post', 'private_key_jwt'])
    .nullable()
    .meta({
      description:
        "How this service proves itself at the token endpoint; null: by the secret, in the way that the provider's " +
        'metadata says. With private_key_jwt there is no secret: the provider fetches our keys from jwksUri',
    }),
  autoProvision: z.boolean().meta({ description: 'Whoever the provider signs in becomes a member' }),
  allowedDomains: z
    .array(z.string().max(1000))
    .max(100)
    .meta({ description: 'E-mail domains that may sign in, compared whole; empty: all', example: ['example.com'] }),
  trustUnverifiedEmail: z.boolean().meta({
    description: 'Lets in addresses that the provider calls unverified. Recorded in the activity log',
  }),
  externalIdClaim: z
    .enum(['sub', 'oid'])
    .nullable()
    .meta({
      description:
        'The claim that never changes for a person, and that a directory sends as externalId (Okta: sub, Entra: oid); ' +
        'null: only e-mail finds a member',
    }),
  relinkByEmailUntil: z.iso
    .datetime()
    .nullable()
    .meta({
      description:
        'Until when members who are linked at another issuer are linked anew by a vouched e-mail address: for a change of ' +
        'provider, 30 days ahead at most; null: they are not',
      example: null,
    }),
  groupsClaim: z
    .string()
    .trim()
    .min(1)
    .max(200)
    .nullable()
    .meta({
      description:
        'The claim of the ID token whose values group mappings may name as claimedGroup; for people whom no directory provides. ' +
        'null: sign-ins say nothing about groups',
      example: 'groups',
    }),
  enabled: z.boolean().meta({ description: 'People can sign in by it' }),
}

export const secret = z.string().min(1).max(1024).meta({
  description: 'Never shown again. Absent, the stored one stays, as long as the issuer does',
  example: 'the secret that the provider shows once',
})

export const secretExpiresAt = z.iso.datetime().nullable().meta({
  description: 'When the provider stops taking it, for reminders 30, 7 and 1 days before; null: never, or not known',
  example: '2027-11-25T00:00:00Z',
})

const uri = (description: string) => z.string().meta({ description })

/** What an admin registers at the provider. */
export const registeredUris = {
  redirectUri: uri('Register this one at the provider'),
  postLogoutRedirectUri: uri('Where the provider may send the browser after signing out there'),
  initiateLoginUri: uri("The provider's portal sends people here who start there (OpenID Connect Core §4)"),
  backchannelLogoutUri: uri('The provider sends logout tokens here (OpenID Connect Back-Channel Logout 1.0)'),
  jwksUri: uri('The provider fetches our public keys here, for private_key_jwt'),
}

const place = { screen: z.string(), field: z.string() }

/** How to connect the provider, in the words of the provider's admin console. */
export const guide = z
  .object({
    kind: z.enum(providerKinds),
    name: z.string(),
    issuerForm: z.string(),
    paste: z.array(z.object({ name: z.string(), value: z.string(), ...place })).meta({
      description: 'URIs to register at the provider, each with its field; absent where it has no such field',
    }),
    copy: z.array(z.object({ name: z.string(), ...place })).meta({ description: 'Values to copy from the provider' }),
    signInSteps: z.array(z.string()).meta({ description: 'Steps that set up sign-in, in order, as Markdown' }),
    directorySteps: z.array(z.string()).meta({
      description:
        'Steps that set up directory sync, in order, as Markdown; empty when the provider has no SCIM client',
    }),
    notes: z.array(z.string()).meta({ description: 'What to know before the first sign-in or sync' }),
  })
  .meta({ id: 'ProviderGuide' })
