import type { FastifyInstance } from 'fastify'
import type { Config } from '../../config.ts'
import { logRefusal, problemStatus, sendProblem } from '../../http/problem.ts'
import { toAppError } from '../../http/refusal.ts'
import { failedUrl } from './front-end.ts'

/**
 * Answers every error of a scope that browsers navigate to with the front-end's error page, because a person who sees JSON cannot go
 * on. Methods that no route of the scope takes keep their problem document.
 * @param bodyLimit of the scope, in bytes
 */
export function redirectErrors(scope: FastifyInstance, config: Config, bodyLimit?: number): void {
  scope.setErrorHandler((error, request, reply) => {
    const refusal = toAppError(error, bodyLimit)
    if (refusal.code === 'method_not_allowed') return sendProblem(refusal, request, reply)
    logRefusal(refusal, problemStatus[refusal.code], request)
    return reply.redirect(failedUrl(config, { code: refusal.code, ref: request.id }), 303)
  })
}
