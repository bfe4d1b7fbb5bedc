import { z } from 'zod'

/** A session in a list, as its holder and the admins of the workspace see it. */
export const listedSession = {
  id: z.uuid(),
  address: z.string().nullable().meta({ description: 'Of the browser at the sign-in', example: '203.0.113.7' }),
  userAgent: z.string().nullable().meta({ description: 'What the browser called itself at the sign-in' }),
  authTime: z.iso.datetime().nullable().meta({ description: 'When the provider last asked them to authenticate' }),
  acr: z.string().nullable(),
  amr: z.array(z.string()).nullable(),
  createdAt: z.iso.datetime(),
  lastSeenAt: z.iso.datetime().meta({ description: 'To the minute' }),
  expiresAt: z.iso.datetime().meta({ description: 'At the latest; sooner where it is not used' }),
}
