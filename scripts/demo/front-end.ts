import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

/** A minimal front-end on a separate origin, with the pages that Assist's front-end needs for the service. */
export interface FrontEnd {
  origin: string
  /** Sets the service of the pages. The service starts after the front-end, because its settings contain the origin. */
  connectTo: (service: Service) => void
  close: () => Promise<void>
}

interface Service {
  url: string
  /** Token of an admin who is signed in at Assist, for the admin pages. */
  adminToken: string
}

interface Page {
  title: string
  body: string
  isForAdmins?: boolean
}

const pages: Record<string, Page> = {
  '/': {
    title: 'Assist',
    body:
      '<p><button id="sign-in">Sign in with SSO</button></p>' +
      '<p id="password" hidden>Or sign in at Assist with a password.</p>' +
      '<p id="sso-only" hidden>This workspace allows only SSO. <a href="/sso/recover">I am an owner with a recovery code</a></p>',
  },
  '/admin': {
    title: 'Assist: settings',
    body: '<p><button id="test">Test the sign-in</button></p>',
    isForAdmins: true,
  },
  '/sso/complete': {
    title: 'Signed in',
    body: '<p><button id="session">Who am I?</button> <button id="sign-out">Sign out</button></p>',
  },
  '/sso/start': { title: 'Signing in', body: '' },
  '/sso/error': { title: 'Sign-in failed', body: '<p><a id="retry" href="/">Try again</a></p>' },
  '/sso/test': { title: 'Sign-in test', body: '<p><a href="/admin">Back to the settings</a></p>', isForAdmins: true },
  '/sso/recover': {
    title: 'Recovery',
    body:
      '<form id="recovery"><p><label>E-mail address <input name="email" type="email"></label></p>' +
      '<p><label>Recovery code <input name="code"></label></p><p><button>Open the SSO settings</button></p></form>',
  },
}

export async function startFrontEnd({ workspaceId }: { workspaceId: string }): Promise<FrontEnd> {
  const script = await readFile(join(import.meta.dirname, 'page.js'))
  let service: Service = { url: '', adminToken: '' }
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    if (pathname === '/page.js') return response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
    const page = pages[pathname]
    if (!page) return response.writeHead(404, { 'content-type': 'text/plain' }).end('Page not found.')
    const headers = {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      // The URL contains a code, which must not be sent in Referer.
      'referrer-policy': 'no-referrer',
      'content-security-policy': `default-src 'none'; script-src 'self'; connect-src ${service.url}`,
    }
    return response.writeHead(200, headers).end(render(page, { service, workspaceId }))
  })
  await new Promise<void>(listening => void server.listen(0, 'localhost', listening))
  return {
    origin: `http://localhost:${(server.address() as AddressInfo).port}`,
    connectTo: started => {
      service = started
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
  { title, body, isForAdmins = false }: Page,
  { service, workspaceId }: { service: Service; workspaceId: string },
): string {
  const admin = isForAdmins ? ` data-admin-token="${service.adminToken}"` : ''
  return `<!doctype html>
<html lang="en" data-service="${service.url}" data-workspace="${workspaceId}"${admin}>
<meta charset="utf-8">
<title>${title}</title>
<h1>${title}</h1>
${body}
<pre id="output"></pre>
<script src="/page.js"></script>
</html>
`
}
