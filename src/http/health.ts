import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyPluginAsyncZodOpenApi } from 'fastify-zod-openapi'
import { z } from 'zod'
import type { Db } from '../db/database.ts'
import { pendingMigrations } from '../db/migrate.ts'
import { AppError } from '../errors.ts'
import { problemErrors, problemResponses } from './problem.ts'

const status = z.object({ status: z.literal('ok') })

/** How long the database may take to show that it is there, in milliseconds: load balancers wait a few seconds. */
const READY_WITHIN_MS = 2_000

/** `/healthz`: the process answers. `/readyz`: the database answers too, and has the tables this release needs. */
export const healthRoutes: FastifyPluginAsyncZodOpenApi<{ db: Db }> = async (app, { db }) => {
  problemErrors(app)
  const shared = { tags: ['Operations'], security: [] }
  app.get(
    '/healthz',
    { schema: { ...shared, operationId: 'getHealth', summary: 'Is the process alive', response: { 200: status } } },
    async () => ({ status: 'ok' as const }),
  )
  app.get(
    '/readyz',
    {
      schema: {
        ...shared,
        operationId: 'getReadiness',
        summary: 'Can this replica serve requests',
        response: { 200: status, 503: problemResponses()[503] },
      },
    },
    async () => {
      const pending = await Promise.race([pendingMigrations(db), silence()])
      if (pending.length === 0) return { status: 'ok' as const }
      throw new AppError('unavailable', `Migrations are pending: ${pending.join(', ')}.`, { retryAfter: 5 })
    },
  )
}

async function silence(): Promise<never> {
  await delay(READY_WITHIN_MS, undefined, { ref: false })
  throw new AppError('unavailable', 'The database does not answer.', { retryAfter: 5 })
}
