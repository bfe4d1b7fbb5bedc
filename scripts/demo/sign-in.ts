import { createHash, randomBytes } from 'node:crypto'
import { DemoError, type Answer, type Narrator } from './narration.ts'
import type { World } from './world.ts'

/** The cookies that a browser has stored for the service. */
export interface Browser {
  cookies: Map<string, string>
}

/** The page at which a sign-in ended, with its parameters. */
interface Landing {
  browser: Browser
  page: URL
  verifier: string
}

/**
 * Signs an account in like a browser: follows every redirect, keeps cookies and creates the verifier. It also does the work
 * of the front-end's script.
 */
export async function signIn(world: World, narrator: Narrator, sub: string): Promise<Browser> {
  const { browser, page, verifier } = await walkToFrontEnd(world, narrator, sub)
  narrator.expect(page.pathname === '/sso/complete', 'the browser is on the signed-in page')
  const body = { code: page.searchParams.get('code'), verifier }
  // The session is a cookie, because the service and the front-end are on the same site.
  const headers = { origin: world.frontEnd.origin, 'sec-fetch-site': 'same-site', ...cookieHeader(browser) }
  const redeem = { method: 'POST', url: `${world.baseUrl}/v1/sessions`, headers, body }
  const answer = await narrator.call({ ...redeem, status: 201 })
  keepCookies(browser, answer)
  await narrator.call({ ...redeem, status: 400, note: refusal => `${refusal.body.code}: a code works once` })
  return browser
}

/** Signs in with an account that is rejected, and returns the parameters of the error page. */
export async function failToSignIn(
  world: World,
  narrator: Narrator,
  sub: string,
): Promise<{ code: string | null; ref: string | null }> {
  const { page } = await walkToFrontEnd(world, narrator, sub)
  narrator.expect(page.pathname === '/sso/error', 'the browser is on the error page')
  return { code: page.searchParams.get('code'), ref: page.searchParams.get('ref') }
}

/**
 * Runs a sign-in test.
 * @returns the code that the test page received
 */
export async function runSignInTest(world: World, narrator: Narrator, test: Walk): Promise<string | null> {
  const { page } = await walk(world, narrator, test)
  narrator.expect(page.pathname === '/sso/test', 'the browser is on the test page')
  return page.searchParams.get('code')
}

/** Creates a verifier and its S256 challenge (RFC 7636 §4), like a front-end. */
export function makeProof(): { verifier: string; challenge: string } {
  const verifier = randomBytes(32).toString('base64url')
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') }
}

export function cookieHeader({ cookies }: Browser): { cookie: string } {
  return { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }
}

async function walkToFrontEnd(world: World, narrator: Narrator, sub: string): Promise<Landing> {
  const { baseUrl, workspaceId, frontEnd } = world
  const { verifier, challenge } = makeProof()
  const query = new URLSearchParams({ return_to: `${frontEnd.origin}/`, handoff_challenge: challenge })

  const startUrl = `${baseUrl}/sso/${workspaceId}/start?${query.toString()}`
  return { ...(await walk(world, narrator, { startUrl, sub })), verifier }
}

interface Walk {
  startUrl: string
  /** The account that signs in at the provider. */
  sub: string
}

async function walk(
  { frontEnd, provider }: World,
  narrator: Narrator,
  { startUrl, sub }: Walk,
): Promise<Omit<Landing, 'verifier'>> {
  const browser: Browser = { cookies: new Map() }
  const started = await narrator.call({ method: 'GET', url: startUrl, status: 303, note: () => 'to the provider' })
  keepCookies(browser, started)
  const authorization = new URL(locationOf(started))
  const sent = authorization.searchParams
  narrator.expect(
    sent.get('code_challenge_method') === 'S256' && sent.has('state') && sent.has('nonce'),
    'the request contains state, nonce and a PKCE challenge (S256)',
  )

  const account = provider.accounts.find(each => each.sub === sub)
  narrator.tell(`       … at the provider, ${account?.name} <${account?.email}> signs in …`)
  const callback = await provider.signIn(authorization.href, sub)
  const called = await narrator.call({
    method: 'GET',
    url: callback,
    status: 303,
    headers: cookieHeader(browser),
    note: () => 'to the front-end',
  })
  keepCookies(browser, called)
  const page = new URL(locationOf(called))
  if (page.origin !== frontEnd.origin) throw new DemoError(`Unexpected redirect to ${page.origin}.`)
  await narrator.call({ method: 'GET', url: page.href, status: 200 })
  return { browser, page }
}

function locationOf(answer: Answer): string {
  const location = answer.headers.get('location')
  if (location === null) throw new DemoError('The redirect has no Location header.')
  return location
}

function keepCookies({ cookies }: Browser, answer: Answer): void {
  for (const cookie of answer.headers.getSetCookie()) {
    const [pair = '', ...attributes] = cookie.split(';')
    const name = pair.slice(0, pair.indexOf('='))
    const isOver = attributes.some(each => /^\s*(max-age=0|expires=thu, 01 jan 1970)/i.test(each))
    if (isOver) cookies.delete(name)
    else cookies.set(name, pair.slice(pair.indexOf('=') + 1))
  }
}
