import type { FastifyInstance, FastifyRequest } from 'fastify'

/** Forms are small here, and come from strangers. */
export const maxFormBytes = 32_768

/**
 * Reads form bodies in a scope, as pages and identity providers post them, and nothing else. A field that repeats comes
 * as an array, which no schema of one value takes.
 */
export function readForms(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  const options = { parseAs: 'string', bodyLimit: maxFormBytes } as const
  scope.addContentTypeParser<string>(
    'application/x-www-form-urlencoded',
    options,
    async (_request: FastifyRequest, body: string) => readFields(new URLSearchParams(body)),
  )
}

function readFields(form: URLSearchParams): Record<string, unknown> {
  const fields = new Map<string, string[]>()
  for (const [name, value] of form) {
    const values = fields.get(name)
    if (values) values.push(value)
    else fields.set(name, [value])
  }
  return Object.fromEntries([...fields].map(([name, values]) => [name, values.length === 1 ? values[0] : values]))
}
