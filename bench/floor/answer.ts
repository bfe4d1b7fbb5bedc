import type { FastifyReply } from 'fastify'

export interface Versioned {
  id: string
  version: number
  created_at: string
  updated_at: string
}

export const scimPath = '/scim/v2'

export function send(reply: FastifyReply, status: number, text: string): FastifyReply {
  return reply.code(status).header('content-type', 'application/scim+json; charset=utf-8').send(text)
}

export function sendError(reply: FastifyReply, status: number): FastifyReply {
  return send(reply, status, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"${status}"}`)
}

/** The `meta` attribute (RFC 7643 §3.1) with its name, to be spliced into a resource. */
export function metaOf(resourceType: 'User' | 'Group', row: Versioned): string {
  return (
    `"meta":{"resourceType":"${resourceType}","created":"${row.created_at}","lastModified":"${row.updated_at}",` +
    `"version":"W/\\"${row.version}\\"","location":"http://127.0.0.1${scimPath}/${resourceType}s/${row.id}"}`
  )
}
