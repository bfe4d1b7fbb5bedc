import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'

export interface BenchProvider {
  issuer: string
  stop: () => Promise<void>
}

/** Data of an authorization code. The code contains it, so that the provider stores nothing. */
interface Grant {
  nonce: string
  subject: string
  email: string
}

export function codeOf(grant: Grant): string {
  return Buffer.from(JSON.stringify(grant)).toString('base64url')
}

/**
 * Starts a minimal OpenID Provider in this process, whose CPU time is not measured. The code passed to the callback
 * (`codeOf`) determines who signs in.
 */
export async function startProvider(): Promise<BenchProvider> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const key = { ...(await exportJWK(publicKey)), kid: 'bench', alg: 'ES256', use: 'sig' }
  const server = createServer((request, response) => {
    answer(request, response).catch((error: Error) => response.writeHead(500).end(error.message))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    switch (String(request.url)) {
      case '/.well-known/openid-configuration':
        return json(response, metadata)
      case '/jwks':
        return json(response, { keys: [key] })
      case '/token':
        return json(response, await redeem(new URLSearchParams(await text(request))))
      default:
        response.writeHead(404).end()
    }
  }

  const metadata = {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256'],
    token_endpoint_auth_methods_supported: ['client_secret_basic'],
    code_challenge_methods_supported: ['S256'],
  }

  async function redeem(form: URLSearchParams): Promise<object> {
    const { nonce, subject, email } = JSON.parse(Buffer.from(form.get('code') ?? '', 'base64url').toString()) as Grant
    const idToken = await new SignJWT({ nonce, email, email_verified: true, name: subject })
      .setProtectedHeader({ alg: 'ES256', kid: key.kid })
      .setIssuer(issuer)
      .setSubject(subject)
      .setAudience('bench')
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(privateKey)
    return { access_token: 'none', token_type: 'Bearer', expires_in: 300, id_token: idToken }
  }

  return {
    issuer,
    stop: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function json(response: ServerResponse, body: object): void {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(body))
}
