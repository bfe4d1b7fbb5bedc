import { z } from 'zod'

/** An id in a path: a UUID in any case, since that is how people paste them. */
export const id = z
  .uuid()
  .transform(text => text.toLowerCase())
  .meta({ example: '0190a6c8-8f00-7000-8000-000000000002' })

/** The parameter of every route of a workspace. */
export const workspaceParams = z.object({
  workspaceId: id.meta({
    description: 'The workspace, by the id that Assist gave it',
    example: '0190a6c8-8f00-7000-8000-000000000001',
  }),
})

/** Who is about to sign in, as the identity provider's page takes it (Core §3.1.2.1): often an address, and opaque to us. */
export const loginHint = z
  .string()
  .min(1)
  .max(2000)
  .regex(/^\P{Cc}+$/u, 'must not have control characters')
  .meta({ description: 'Who is about to sign in, for the page of the provider', example: 'ana@example.com' })
