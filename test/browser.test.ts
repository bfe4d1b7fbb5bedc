import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { Answer } from '../scripts/demo/narration.ts'
import { startWorld, type World } from '../scripts/demo/world.ts'

/** The demo's front-end in a real browser: what CORS, cookies, CSP and redirects really let happen. */
const executablePath = await findBrowser()
if (executablePath === undefined) {
  t.pass('skipped: there is no Chromium here', { skip: 'no Chromium here' })
  process.exit()
}

const world = await startWorld({})
t.teardown(world.close)
const { baseUrl, frontEnd, workspaceId, provider } = world
await configure(world)
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
})
t.teardown(() => browser.close())

/** A person at a browser of their own. */
async function openBrowser(t: Test) {
  const context = await browser.newContext()
  t.teardown(() => context.close())
  const troubles: string[] = []
  return { context, troubles, openTab: () => openTab(context, troubles) }
}

async function openTab(context: BrowserContext, troubles: string[]) {
  const page = await context.newPage()
  page.on('pageerror', error => troubles.push(error.message))
  page.on('console', message => {
    const ours = [frontEnd.origin, baseUrl].some(each => message.location().url.startsWith(each))
    if (ours && message.type() === 'error') troubles.push(message.text())
  })
  const output = page.locator('#output')
  const shows = (text: string) => output.filter({ hasText: text }).waitFor()
  const click = (name: string) => page.getByRole('button', { name }).click()
  return {
    page,
    output,
    shows,
    click,
    begin: async () => {
      await page.goto(frontEnd.origin)
      await page.locator('#password:visible, #sso-only:visible').waitFor()
      await click('Sign in with SSO')
      await page.getByRole('heading', { name: 'Sign in as' }).waitFor()
    },
    finish: async (name: string) => {
      await click(name)
      await page.waitForURL(`${frontEnd.origin}/sso/complete*`)
      await shows('POST /v1/sessions: 201')
    },
    /** As a script of the front-end would, with the browser's cookies. */
    call: async (method: string, path: string, body?: object): Promise<Pick<Answer, 'status' | 'body'>> => {
      const given = { url: baseUrl + path, method, body: body && JSON.stringify(body) }
      return page.evaluate(async ({ url, ...request }) => {
        const headers = request.body === undefined ? {} : { 'content-type': 'application/json' }
        const reply = await fetch(url, { ...request, headers, credentials: 'include' } as RequestInit)
        const text = await reply.text()
        return { status: reply.status, body: text === '' ? undefined : JSON.parse(text) }
      }, given)
    },
    whoAmI: async () => {
      const answer = page.waitForResponse(
        each => each.url().endsWith('/v1/session') && each.request().method() === 'GET',
      )
      await click('Who am I?')
      return answer
    },
  }
}

const sessionCookie = async (context: BrowserContext) =>
  (await context.cookies(baseUrl)).find(each => each.name === 'assist-session')

t.test('a person signs in, is known, and signs out again', async t => {
  const { context, troubles, openTab: newTab } = await openBrowser(t)
  const { page, output, shows, click, begin, finish, whoAmI } = await newTab()
  await begin()
  await finish('Robin Reed')
  t.equal(page.url(), `${frontEnd.origin}/sso/complete`, 'the code is gone from the address')
  t.notOk((await output.textContent())?.includes('ses_'), 'no script of the page sees the session token')
  t.match(await sessionCookie(context), { httpOnly: true, sameSite: 'Lax' })
  t.equal(await page.evaluate('document.cookie'), '', 'nor the cookie')
  t.equal((await whoAmI()).status(), 200)
  await shows('robin@example.com')

  await click('Sign out')
  await page.waitForURL(`${frontEnd.origin}/`)
  await shows('Signed out of Assist and of the provider.')
  t.equal(await sessionCookie(context), undefined, 'signed out here')
  t.same(
    (await context.cookies(baseUrl)).filter(each => each.name.startsWith('la-')),
    [],
    'no cookie of a sign-in is left',
  )

  await click('Sign in with SSO')
  await click('Cancel')
  await page.waitForURL(`${frontEnd.origin}/sso/error*`)
  await shows('Code: sso_access_denied')
  t.same(troubles, [], 'the browser had nothing to complain about')
})

t.test('two tabs sign in at once, and the one that began first finishes last', async t => {
  const { context, troubles, openTab: newTab } = await openBrowser(t)
  const [first, second] = [await newTab(), await newTab()]
  await first.begin()
  await second.begin()
  await second.finish('Sam Stone')
  const early = await sessionCookie(context)
  await first.finish('Robin Reed')
  t.not((await sessionCookie(context))?.value, early?.value)
  for (const tab of [first, second]) {
    t.equal((await tab.whoAmI()).status(), 200)
    await tab.shows('robin@example.com')
  }
  t.same(troubles, [])
})

t.test('going back, and opening the callback again, neither signs in nor out', async t => {
  const { context, openTab: newTab } = await openBrowser(t)
  const { page, shows, begin, finish, whoAmI } = await newTab()
  const callbacks: string[] = []
  page.on('request', request => request.url().includes('/callback?') && callbacks.push(request.url()))
  await begin()
  await finish('Robin Reed')
  const cookie = await sessionCookie(context)

  await page.goto(`${frontEnd.origin}/`)
  await page.goBack()
  t.equal(page.url(), `${frontEnd.origin}/sso/complete`)
  t.equal((await whoAmI()).status(), 200, 'the page of the sign-in works without its code')

  t.equal(callbacks.length, 1)
  await page.goto(callbacks[0]!)
  t.match(page.url(), `${frontEnd.origin}/sso/error`)
  await shows('Code: sso_state_invalid')
  t.equal((await sessionCookie(context))?.value, cookie?.value)
  await page.goBack()
  t.equal((await whoAmI()).status(), 200)

  const elsewhere = await openBrowser(t)
  const stranger = await elsewhere.openTab()
  await stranger.page.goto(callbacks[0]!)
  await stranger.shows('Code: sso_state_invalid')
  t.equal(await sessionCookie(elsewhere.context), undefined, 'nor in another browser')
})

t.test('whoever signs out at the provider is out here, by its logout token', async t => {
  const { context, openTab: newTab } = await openBrowser(t)
  const { page, begin, finish, whoAmI } = await newTab()
  await begin()
  await finish('Sam Stone')
  t.equal((await whoAmI()).status(), 200)
  const other = await newTab()
  await signOutAtProvider(other.page)
  t.ok(await sessionCookie(context), 'the browser still has the cookie')
  const answer = await whoAmI()
  t.equal(answer.status(), 401)
  t.equal((await answer.json()).code, 'session_ended')
  t.equal(page.url(), `${frontEnd.origin}/sso/complete`)
})

t.test("the tile in the provider's portal signs in, and leads where it points to", async t => {
  const { troubles, openTab: newTab } = await openBrowser(t)
  const { page, finish, output } = await newTab()
  const query = new URLSearchParams({
    iss: provider.issuer,
    login_hint: 'robin@example.com',
    target_link_uri: `${frontEnd.origin}/inbox`,
  })
  await page.goto(`${baseUrl}/sso/${workspaceId}/initiate?${query.toString()}`)
  await finish('Robin Reed')
  t.match(await output.textContent(), `"returnTo": "${frontEnd.origin}/inbox"`)
  t.same(troubles, [])
})

t.test('a sign-in test ends in its report, on a page of the front-end, and in no session', async t => {
  const { context, troubles, openTab: newTab } = await openBrowser(t)
  const { page, output, shows, click } = await newTab()
  await page.goto(`${frontEnd.origin}/admin`)
  await click('Test the sign-in')
  await click('Alex Ash')
  await page.waitForURL(`${frontEnd.origin}/sso/test?*`)
  await shows('The test has failed.')
  const report = await output.textContent()
  t.match(report, /^pass id_token: .+$/m)
  t.match(report, /^fail domain: .+\n +Add the domain to allowedDomains/m)
  t.match(report, /^Decision: refuse$/m)
  t.match(report, /^Claim email \(.+\): a…@example\.org$/m, 'masked')
  t.equal(await sessionCookie(context), undefined)
  t.same(troubles, [])
})

// The last one: it closes the workspace to everything else.
t.test(
  'an enforced workspace: no password, in by the provider, and back by a recovery code to the settings only',
  async t => {
    const { troubles, openTab: newTab } = await openBrowser(t)
    const owner = await newTab()
    await owner.begin()
    await owner.finish('Robin Reed')
    const { member } = await (await owner.whoAmI()).json()
    const workspace = `/v1/workspaces/${workspaceId}`
    const { adminToken } = world
    await send('PATCH', {
      path: `${workspace}/members/${member.id}`,
      token: adminToken,
      body: { role: 'owner', grant: 'locked' },
    })
    const { codes } = (await owner.call('POST', `${workspace}/sso-config/recovery-codes`)).body
    const { verdict } = (await owner.call('GET', `${workspace}/sso-config/enforcement`)).body
    const { lockedOutMembers } = verdict
    t.match(await owner.call('PUT', `${workspace}/sso-config/enforcement`, { lockedOutMembers }), { status: 200 })

    await t.rejects(send('GET', { path: `${workspace}/members`, token: adminToken }), { message: /sso_required/ })
    const someone = await openBrowser(t)
    const { page, finish, begin, whoAmI } = await someone.openTab()
    await page.goto(frontEnd.origin)
    await page.getByText('This workspace allows only SSO.').waitFor()
    t.notOk(await page.getByText('Or sign in at Assist with a password').isVisible(), 'sign-in-options has closed it')
    await begin()
    await finish('Sam Stone')
    t.equal((await whoAmI()).status(), 200, 'the provider lets people in')

    const back = await openBrowser(t)
    const recovering = await back.openTab()
    await recovering.page.goto(`${frontEnd.origin}/sso/recover`)
    await recovering.page.getByLabel('E-mail address').fill('robin@example.com')
    await recovering.page.getByLabel('Recovery code').fill(codes[0])
    await recovering.click('Open the SSO settings')
    await recovering.shows('POST /v1/recovery-sessions: 201')
    t.match(await sessionCookie(back.context), { httpOnly: true })
    t.match(await recovering.call('GET', `${workspace}/sso-config`), { status: 200, body: { enforced: true } })
    t.match(await recovering.call('GET', `${workspace}/members`), { status: 403, body: { code: 'recovery_limited' } })
    t.match(await recovering.call('GET', '/v1/session'), { body: { method: 'recovery', accessToken: null } })
    t.match(await recovering.call('DELETE', `${workspace}/sso-config/enforcement`), { status: 204 })
    t.same(troubles, [])
  },
)

async function signOutAtProvider(page: Page): Promise<void> {
  const ended = page.waitForResponse(each => each.url().includes('/session/end/') && each.request().method() === 'POST')
  await page.goto(`${provider.issuer}/session/end`)
  await ended
}

async function configure({ serviceToken, adminToken, client }: World): Promise<void> {
  const workspace = `/v1/workspaces/${workspaceId}`
  await send('PUT', { path: workspace, token: serviceToken, body: { name: 'acme' } })
  const body = { issuer: provider.issuer, ...client, autoProvision: true, allowedDomains: ['example.com'] }
  await send('PUT', { path: `${workspace}/sso-config`, token: adminToken, body })
}

async function send(method: string, call: { path: string; token: string; body?: object }): Promise<void> {
  const headers = { authorization: `Bearer ${call.token}`, ...(call.body && { 'content-type': 'application/json' }) }
  const body = call.body && JSON.stringify(call.body)
  const reply = await fetch(`${baseUrl}${call.path}`, { method, headers, ...(body !== undefined && { body }) })
  if (!reply.ok) throw new Error(await reply.text())
}

async function findBrowser(): Promise<string | undefined> {
  const folders = (process.env.PATH ?? '').split(delimiter)
  for (const path of folders.flatMap(each => [join(each, 'chromium'), join(each, 'google-chrome')])) {
    const isThere = await access(path).then(
      () => true,
      () => false,
    )
    if (isThere) return path
  }
  return undefined
}
