import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

/** The smallest front-end that can use the service, on an origin of its own: what Assist's own would do, in a few pages. */
export interface FrontEnd {
  origin: string
  /** Tells the pages where the service is, which starts after the front-end because it must know its origin. */
  connectTo: (serviceUrl: string) => void
  close: () => Promise<void>
}

const pages: Record<string, { title: string; body: string }> = {
  '/': { title: 'Assist', body: '<p><button id="sign-in">Sign in with SSO</button></p>' },
  '/sso/complete': {
    title: 'Signed in',
    body: '<p><button id="session">Who am I?</button> <button id="sign-out">Sign out</button></p>',
  },
  '/sso/start': { title: 'Signing in', body: '' },
  '/sso/error': { title: 'Sign-in failed', body: '<p><a id="retry" href="/">Try again</a></p>' },
}

export async function startFrontEnd({ workspaceId }: { workspaceId: string }): Promise<FrontEnd> {
  const script = await readFile(join(import.meta.dirname, 'page.js'))
  let serviceUrl = ''
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    if (pathname === '/page.js') return response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
    const page = pages[pathname]
    if (!page) return response.writeHead(404, { 'content-type': 'text/plain' }).end('There is no such page.')
    const headers = {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      // The code in the address must not go along to anywhere.
      'referrer-policy': 'no-referrer',
      'content-security-policy': `default-src 'none'; script-src 'self'; connect-src ${serviceUrl}`,
    }
    return response.writeHead(200, headers).end(render(page, { serviceUrl, workspaceId }))
  })
  await new Promise<void>(listening => void server.listen(0, 'localhost', listening))
  return {
    origin: `http://localhost:${(server.address() as AddressInfo).port}`,
    connectTo: url => {
      serviceUrl = url
    },
    close: async () => {
      await new Promise(closed => {
        server.close(closed)
        server.closeAllConnections()
      })
    },
  }
}

function render(
  { title, body }: { title: string; body: string },
  { serviceUrl, workspaceId }: { serviceUrl: string; workspaceId: string },
): string {
  return `<!doctype html>
<html lang="en" data-service="${serviceUrl}" data-workspace="${workspaceId}">
<meta charset="utf-8">
<title>${title}</title>
<h1>${title}</h1>
${body}
<pre id="output"></pre>
<script src="/page.js"></script>
</html>
`
}
