import type { FastifyReply } from 'fastify'
import { z } from 'zod'

/** The header by which an update is made conditional on the version that the caller has seen (RFC 9110 section 13.1.1). */
export const ifMatchHeader = z.object({
  'if-match': z
    .string()
    // Proxies that compress weaken the tag on its way out; a version names a state of the resource all the same.
    .regex(/^(W\/)?"\d{1,9}"$/, 'must be the ETag that the resource was answered with, such as "3"')
    .optional()
    .transform(text => (text === undefined ? undefined : Number(/\d+/.exec(text)?.[0])))
    .meta({
      description: 'The ETag of the resource: refuses with `version_conflict` where it has changed since',
      example: '"3"',
    }),
})

/** Answers a versioned resource with its version as a strong ETag. */
export function withEtag<Resource extends { version: number }>(reply: FastifyReply, resource: Resource): Resource {
  reply.header('etag', `"${resource.version}"`)
  return resource
}
