/** Types of the part of oidc-provider that the tests and the demo use, because the package has no types. */
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http'

  interface Grant {
    addOIDCScope: (scope: string) => void
    save: () => Promise<string>
  }

  interface Context {
    body: string
    oidc: {
      account: { accountId: string }
      client: { clientId: string }
    }
  }

  export class Provider {
    constructor(issuer: string, configuration: Record<string, unknown>)
    Grant: new (grant: { accountId: string; clientId: string }) => Grant
    on: (event: string, listener: (context: unknown, error: unknown) => void) => void
    callback: () => (request: IncomingMessage, response: ServerResponse) => void
    interactionDetails: (request: IncomingMessage, response: ServerResponse) => Promise<{ uid: string }>
    interactionFinished: (
      request: IncomingMessage,
      response: ServerResponse,
      result: { login: { accountId: string } } | { error: string; error_description: string },
    ) => Promise<void>
  }
}
