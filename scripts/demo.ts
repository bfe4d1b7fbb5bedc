// `npm run demo [-- --once] [--port N] [--json FILE]`: shows the whole service in a minute and needs only Node and npm.
// Each step calls the public API like its real client, prints the result, and aborts the demo if the result is wrong.
// Afterwards all servers keep running until Ctrl-C. With --once the demo ends after the last step.
import { rename, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { createNarrator, DemoError, type Narrator } from './demo/narration.ts'
import { playEntra, playOkta, type Directory } from './demo/scim-clients.ts'
import { cookieHeader, failToSignIn, makeProof, runSignInTest, signIn, type Browser } from './demo/sign-in.ts'
import { startWorld, type World } from './demo/world.ts'

const { values: options } = parseArgs({
  options: { once: { type: 'boolean', default: false }, port: { type: 'string' }, json: { type: 'string' } },
})
if (options.port !== undefined && !/^[1-9]\d{0,4}$/.test(options.port)) {
  console.error('Set --port to a number.')
  process.exit(1)
}

const interruption = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => interruption.abort())
// The reader of the output may close the pipe: `npm run demo | head`.
process.stdout.on('error', () => interruption.abort())

try {
  await main()
} catch (error) {
  if (!interruption.signal.aborted) {
    console.error(`\nThe demo failed. ${error instanceof DemoError ? error.message : ''}`)
    if (!(error instanceof DemoError)) console.error(error)
    process.exitCode = 1
  }
}

async function main(): Promise<void> {
  const began = Date.now()
  console.log('Starting Postgres, the service, an OpenID Provider and a front-end …')
  const world = await startWorld({ port: options.port === undefined ? undefined : Number(options.port) })
  try {
    const directory = await play(world, createNarrator(console.log, interruption.signal))
    console.log(`\nAll steps succeeded (${((Date.now() - began) / 1000).toFixed(1)} s).`)
    if (options.json !== undefined) await writeAddresses(options.json, world, directory)
    if (options.once) return
    showWhatToTry(world, directory)
    await new Promise(resolve => interruption.signal.addEventListener('abort', resolve))
    console.log('\nStopping …')
  } finally {
    await world.close()
  }
}

async function play(world: World, narrator: Narrator): Promise<Directory> {
  const { step, tell, call, expect } = narrator
  const { baseUrl, workspaceId, adminToken, serviceToken, provider, client } = world
  const workspaceUrl = `${baseUrl}/v1/workspaces/${workspaceId}`
  const admin = { token: adminToken }
  const whoAmI = (browser: Browser, status: number) =>
    call({ method: 'GET', url: `${baseUrl}/v1/session`, status, headers: cookieHeader(browser) })

  step('A back-end of Assist creates the workspace acme')
  const body = { name: 'acme' }
  await call({ method: 'PUT', url: workspaceUrl, status: 200, token: serviceToken, body })

  step(
    'The owner saves the SSO configuration. The service discovers and checks the provider before it stores the settings',
  )
  const sso = {
    issuer: provider.issuer,
    ...client,
    autoProvision: true,
    allowedDomains: ['example.com'],
    enabled: true,
  }
  const saved = await call({ method: 'PUT', url: `${workspaceUrl}/sso-config`, status: 200, ...admin, body: sso })
  tell(`Redirect URI to register at the provider: ${saved.body.redirectUri}`)
  expect(!JSON.stringify(saved.body).includes(client.clientSecret), 'the client secret is not in the response')

  step('The owner runs a configuration check')
  const test = await call({ method: 'POST', url: `${workspaceUrl}/sso-config/check`, status: 200, ...admin })
  for (const { name, result, message } of test.body.checks) tell(`       ${result.padEnd(4)} ${name}: ${message}`)
  expect(test.body.passed === true, 'the check passed')

  step('The owner runs a sign-in test: a real sign-in that ends in a report and creates no member')
  const signInTests = `${workspaceUrl}/sso-config/sign-in-tests`
  const { verifier, challenge } = makeProof()
  const made = (await call({ method: 'POST', url: signInTests, status: 201, ...admin, body: { challenge } })).body
  const code = await runSignInTest(world, narrator, { startUrl: made.startUrl, sub: 'idp-robin' })
  tell('The browser that created the test confirms it with the code from its test page:')
  const confirm = { method: 'POST', url: `${signInTests}/${made.id}/confirm`, body: { code, verifier } } as const
  const { report, status } = (await call({ ...confirm, status: 200, ...admin })).body
  for (const { name, result, message } of report.checks) tell(`       ${result.padEnd(4)} ${name}: ${message}`)
  expect(status === 'passed' && report.membership.decision === 'provision', 'Robin could sign in')

  step('Robin signs in for the first time, with every redirect of a browser over HTTP')
  const robin = await signIn(world, narrator, 'idp-robin')
  const session = await whoAmI(robin, 200)
  expect(
    session.body.member.email === 'robin@example.com',
    `Robin is now a member with the role ${session.body.member.role}`,
  )
  tell('Sam does the same.')
  const sam = await signIn(
    world,
    createNarrator(() => {}, interruption.signal),
    'idp-sam',
  )

  step('Alex, whose domain is not allowed, cannot sign in, and the reference leads to the reason')
  const failure = await failToSignIn(world, narrator, 'idp-alex')
  expect(
    failure.code === 'sso_domain_not_allowed',
    `the page receives ${failure.code} and the reference ${failure.ref}`,
  )
  const refused = await call({
    method: 'GET',
    url: `${workspaceUrl}/activity?requestId=${failure.ref}`,
    status: 200,
    ...admin,
  })
  const [entry] = refused.body.items
  expect(entry?.reason === failure.code, 'the activity entry of that request has the reason')

  step('The owner creates two directories and a token for each, which is returned once')
  const okta = await connectDirectory(world, narrator, 'Okta')
  const entra = await connectDirectory(world, narrator, 'Entra ID')

  step('Okta provisions Robin and a group: a look-up, a create, a group with members')
  const oktaSync = await playOkta(okta, narrator)
  const { items } = (await call({ method: 'GET', url: `${workspaceUrl}/members`, status: 200, ...admin })).body
  const robins = items.filter((each: { email: string }) => each.email === 'robin@example.com')
  expect(robins.length === 1, 'Robin is still one member, because the directory and the sign-in have the same address')

  step('The owner maps the group: its users get the role admin and the Assist group Engineering')
  const group = await call({
    method: 'POST',
    url: `${workspaceUrl}/groups`,
    status: 201,
    ...admin,
    body: { name: 'Engineering' },
  })
  await call({
    method: 'POST',
    url: `${workspaceUrl}/group-mappings`,
    status: 201,
    ...admin,
    body: { directoryId: okta.id, scimGroupId: oktaSync.groupId, groupId: group.body.id, role: 'admin' },
  })
  const promoted = await whoAmI(robin, 200)
  expect(promoted.body.member.role === 'admin', 'Robin is an admin from the next request on')

  step('Entra ID provisions Sam and Kim with its own forms of requests')
  const entraSync = await playEntra(entra, narrator)

  step('Robin leaves: Okta deactivates the user, and the next request finds the session ended')
  await oktaSync.deactivateRobin()
  const over = await whoAmI(robin, 401)
  expect(over.body.code === 'session_ended', 'Robin is signed out everywhere')

  step('Sam leaves: Entra ID sends active as the string "False"')
  await whoAmI(sam, 200)
  await entraSync.deactivateSam()
  await whoAmI(sam, 401)
  const again = await failToSignIn(world, narrator, 'idp-sam')
  expect(again.code === 'sso_member_deactivated', 'Sam cannot sign in again')

  step('The owner reads the activity log, newest entry first')
  const activity = await call({ method: 'GET', url: `${workspaceUrl}/activity?limit=100`, status: 200, ...admin })
  printActivity(activity.body.items, tell)
  const said = JSON.stringify(activity.body.items[1].detail)
  expect(said.includes('boolean_as_string'), 'the entry contains the leniency and its place in the request')
  expect(activity.body.items.length >= 26, 'every change has an entry')
  const secrets = [okta.token, entra.token, client.clientSecret, ...robin.cookies.values()]
  expect(!secrets.some(each => JSON.stringify(activity.body).includes(each)), 'no entry contains a token or a secret')
  return okta
}

async function connectDirectory(world: World, { call }: Narrator, name: string): Promise<Directory> {
  const url = `${world.baseUrl}/v1/workspaces/${world.workspaceId}/directories`
  const token = world.adminToken
  const created = await call({ method: 'POST', url, status: 201, token, body: { name } })
  const { id, scimEndpoint } = created.body
  const issued = await call({ method: 'POST', url: `${url}/${id}/tokens`, status: 201, token, body: {} })
  return { id, scimEndpoint, token: issued.body.token }
}

interface Entry {
  at: string
  action: string
  outcome: string
  reason: string | null
  actor: { type: string }
  detail: { leniencies?: { name: string }[] }
}

function printActivity(entries: Entry[], tell: (line: string) => void): void {
  for (const { at, action, outcome, reason, actor, detail } of entries) {
    const leniencies = [...new Set(detail.leniencies?.map(each => each.name))].join(', ')
    const end = [outcome, reason ?? (leniencies && `leniencies ${leniencies}`)].filter(Boolean).join(': ')
    tell(`${at.slice(11, 23)}  ${actor.type.padEnd(9)}  ${action.padEnd(24)}  ${end}`)
  }
}

async function writeAddresses(file: string, world: World, directory: Directory): Promise<void> {
  const { baseUrl, adminToken, workspaceId } = world
  const addresses = {
    baseUrl,
    adminToken,
    workspaceId,
    scimBaseUrl: directory.scimEndpoint,
    scimToken: directory.token,
  }
  // Written to another file and renamed, so that a process that waits for the file never reads a part of it.
  await writeFile(`${file}.part`, `${JSON.stringify(addresses, null, 2)}\n`, { mode: 0o600 })
  await rename(`${file}.part`, file)
}

function showWhatToTry({ baseUrl, workspaceId, adminToken, frontEnd }: World, directory: Directory): void {
  const workspaceUrl = `${baseUrl}/v1/workspaces/${workspaceId}`
  console.log(`
Sign in yourself:  ${frontEnd.origin}
Run a sign-in test: ${frontEnd.origin}/admin
Documentation:     ${baseUrl}/docs

Admin token (12 h):
${adminToken}

To try:
  curl -H 'Authorization: Bearer ${adminToken}' '${workspaceUrl}/activity?limit=5'
  curl -H 'Authorization: Bearer ${adminToken}' ${workspaceUrl}/members
  curl -H 'Authorization: Bearer ${directory.token}' '${directory.scimEndpoint}/Users?count=5'

All servers run until Ctrl-C.`)
}
