import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'
import t from 'tap'
import { startWorld, type World } from '../scripts/demo/world.ts'

const executablePath = await findBrowser()

/** The demo's front-end in a real browser: what CORS, cookies, CSP and redirects really let happen. */
t.test(
  'a person signs in, is known, and signs out again',
  { skip: executablePath ? false : 'no Chromium here' },
  async t => {
    const world = await startWorld({})
    t.teardown(world.close)
    await configure(world)
    const browser = await chromium.launch({
      executablePath: executablePath!,
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
    })
    t.teardown(() => browser.close())
    const context = await browser.newContext()
    const page = await context.newPage()
    const troubles: string[] = []
    page.on('pageerror', error => troubles.push(error.message))
    page.on('console', message => {
      const ours = [world.frontEnd.origin, world.baseUrl].some(each => message.location().url.startsWith(each))
      if (ours && message.type() === 'error') troubles.push(message.text())
    })
    const output = page.locator('#output')
    const shows = (text: string) => output.filter({ hasText: text }).waitFor()

    await page.goto(world.frontEnd.origin)
    await page.getByRole('button', { name: 'Sign in with SSO' }).click()
    await page.getByRole('button', { name: 'Robin Reed' }).click()
    await page.waitForURL(`${world.frontEnd.origin}/sso/complete*`)
    await shows('POST /v1/sessions: 201')
    t.equal(page.url(), `${world.frontEnd.origin}/sso/complete`, 'the code is gone from the address')
    t.notOk((await output.textContent())?.includes('ses_'), 'no script of the page sees the session token')
    const [cookie] = (await context.cookies(world.baseUrl)).filter(each => each.name === 'assist-session')
    t.match(cookie, { httpOnly: true, sameSite: 'Lax' })

    await page.getByRole('button', { name: 'Who am I?' }).click()
    await shows('GET /v1/session: 200')
    t.match(await output.textContent(), /robin@example\.com/)

    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.waitForURL(`${world.frontEnd.origin}/`)
    t.same(
      (await context.cookies(world.baseUrl)).filter(each => each.name === 'assist-session'),
      [],
      'signed out here',
    )

    await page.getByRole('button', { name: 'Sign in with SSO' }).click()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.waitForURL(`${world.frontEnd.origin}/sso/error*`)
    await shows('Code: sso_access_denied')
    t.same(troubles, [], 'the browser had nothing to complain about')
  },
)

async function configure({ baseUrl, workspaceId, serviceToken, adminToken, provider, client }: World): Promise<void> {
  const put = async (path: string, token: string, body: object) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const reply = await fetch(`${baseUrl}${path}`, { method: 'PUT', headers, body: JSON.stringify(body) })
    if (!reply.ok) throw new Error(await reply.text())
  }
  await put(`/v1/workspaces/${workspaceId}`, serviceToken, { name: 'acme' })
  const sso = { issuer: provider.issuer, ...client, autoProvision: true, allowedDomains: ['example.com'] }
  await put(`/v1/workspaces/${workspaceId}/sso-config`, adminToken, sso)
}

async function findBrowser(): Promise<string | undefined> {
  const folders = (process.env.PATH ?? '').split(delimiter)
  for (const path of folders.flatMap(each => [join(each, 'chromium'), join(each, 'google-chrome')])) {
    if (
      await access(path).then(
        () => true,
        () => false,
      )
    )
      return path
  }
  return undefined
}
