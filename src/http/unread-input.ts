import type { FastifyInstance } from 'fastify'
import { AppError } from '../errors.ts'

/**
 * Refuses, in a scope, a body or query parameters on routes that read none: whoever sends something expects it to have an
 * effect. What a route does read is checked by its strict schema.
 */
export function refuseUnreadInput(scope: FastifyInstance): void {
  scope.addHook('preValidation', async request => {
    const { body, querystring } = request.routeOptions.schema ?? {}
    const [parameter] = Object.keys(request.query as object)
    if (querystring === undefined && parameter !== undefined) {
      throw new AppError(
        'invalid',
        `${request.method} here takes no query parameters, such as ${parameter}. Leave it out.`,
      )
    }
    if (body === undefined && !isEmpty(request.body)) {
      throw new AppError('invalid', `${request.method} here takes no body. Leave it out.`)
    }
  })
}

/** HTTP libraries send `{}` where there is nothing to send. */
function isEmpty(body: unknown): boolean {
  return body === undefined || body === null || (typeof body === 'object' && Object.keys(body).length === 0)
}
