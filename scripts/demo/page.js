// Script of all pages: everything that a front-end must do to sign people in with the service.
const { service, workspace, adminToken } = document.documentElement.dataset
const output = document.querySelector('#output')
const parameters = new URLSearchParams(location.search)

const buttons = {
  '#sign-in': () => startSignIn(),
  '#session': () => call('GET', '/v1/session'),
  '#sign-out': signOut,
  '#test': startTest,
}
for (const [selector, action] of Object.entries(buttons)) {
  document.querySelector(selector)?.addEventListener('click', () => void action())
}

document.querySelector('#recovery')?.addEventListener('submit', event => {
  event.preventDefault()
  void recover(new FormData(event.target))
})

if (location.pathname === '/') void showSignInOptions()
if (location.pathname === '/sso/complete') void redeemCode()
if (location.pathname === '/sso/error') showError()
if (location.pathname === '/sso/start') void startInitiated()
if (location.pathname === '/sso/test') void showTest()
if (location.pathname === '/' && parameters.has('state')) showSignedOut()

/** Shows the sign-in options that the service returns. A workspace that enforces SSO allows no password. */
async function showSignInOptions() {
  const { answer } = await request('POST', '/v1/sign-in-options', { workspaceId: workspace })
  if (answer) document.querySelector(answer.passwordOpen ? '#password' : '#sso-only').hidden = false
}

/** Keeps a verifier in this browser and sends its hash, so that another browser cannot redeem the code. */
async function startSignIn(options = { return_to: `${location.origin}/` }) {
  const { verifier, challenge } = await makeProof()
  sessionStorage.setItem('verifier', verifier)
  const query = new URLSearchParams({ ...options, handoff_challenge: challenge })
  location.assign(`${service}/sso/${workspace}/start?${query}`)
}

/** Starts a sign-in from the provider's portal. The service redirects to this page, because it creates the verifier. */
async function startInitiated() {
  const names = ['return_to', 'login_hint'].filter(name => parameters.has(name))
  await startSignIn(Object.fromEntries(names.map(name => [name, parameters.get(name)])))
}

async function redeemCode() {
  const code = parameters.get('code')
  const verifier = sessionStorage.getItem('verifier')
  sessionStorage.removeItem('verifier')
  history.replaceState(null, '', location.pathname)
  if (code && verifier) await call('POST', '/v1/sessions', { code, verifier })
}

async function signOut() {
  const answer = await call('DELETE', '/v1/session')
  if (!answer?.endSessionUrl) return
  sessionStorage.setItem('sign-out', answer.state)
  location.assign(answer.endSessionUrl)
}

/** Compares the state, so that a link from another person does not show a sign-out. */
function showSignedOut() {
  const isOurs = parameters.get('state') === sessionStorage.getItem('sign-out')
  sessionStorage.removeItem('sign-out')
  history.replaceState(null, '', location.pathname)
  if (isOurs) output.textContent = 'Signed out of Assist and of the provider.'
}

function showError() {
  output.textContent = `Code: ${parameters.get('code')}\nReference for your admin: ${parameters.get('ref')}`
  const retry = parameters.get('retry')
  if (retry?.startsWith(`${service}/`)) document.querySelector('#retry').href = retry
}

/** Tests the saved configuration. The body could also contain unsaved settings. The verifier stays in this browser. */
async function startTest() {
  const { verifier, challenge } = await makeProof()
  sessionStorage.setItem('test-verifier', verifier)
  const test = await call('POST', `/v1/workspaces/${workspace}/sso-config/sign-in-tests`, { challenge })
  if (test?.startUrl) location.assign(test.startUrl)
}

/** Confirms the test with the code from the URL and the verifier, which only the browser that created the test has. */
async function showTest() {
  const [of, id] = ['workspace', 'test'].map(name => encodeURIComponent(parameters.get(name) ?? ''))
  const [code, verifier] = [parameters.get('code'), sessionStorage.getItem('test-verifier')]
  history.replaceState(null, '', `${location.pathname}?workspace=${of}&test=${id}`)
  const url = `/v1/workspaces/${of}/sso-config/sign-in-tests/${id}`
  const test = code && verifier ? await call('POST', `${url}/confirm`, { code, verifier }) : await call('GET', url)
  if (!test?.report) return
  const { checks, claims, membership, role } = test.report
  const lines = [
    `The test has ${test.status}.`,
    ...checks.map(({ name, result, message, fix }) => `${result} ${name}: ${message}${fix ? `\n     ${fix}` : ''}`),
    ...(membership ? [`Decision: ${membership.decision}${role ? `, as ${role.value}` : ''}`] : []),
    ...claims.map(({ name, value, source }) => `Claim ${name} (${source}): ${value}`),
  ]
  output.textContent = lines.join('\n')
}

/** Creates a session for the SSO settings only, with an owner's recovery code while SSO is enforced. */
async function recover(form) {
  await call('POST', '/v1/recovery-sessions', { workspaceId: workspace, ...Object.fromEntries(form) })
}

/** Sends a request. `credentials: include` also sends the session cookie, because the service has another port. */
async function request(method, path, body, token) {
  const response = await fetch(service + path, {
    method,
    credentials: 'include',
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, answer: text === '' ? undefined : JSON.parse(text) }
}

/** Calls the service with Assist's token, or with the session if the workspace enforces SSO, and shows the response. */
async function call(method, path, body) {
  const first = await request(method, path, body, adminToken)
  const { status, answer } = first.answer?.code === 'sso_required' ? await request(method, path, body) : first
  output.textContent = `${method} ${path}: ${status}\n${JSON.stringify(answer, null, 2) ?? ''}`
  return answer
}

/** Creates a verifier and its S256 challenge (RFC 7636 section 4). */
async function makeProof() {
  const verifier = base64url(crypto.getRandomValues(new Uint8Array(32)))
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))
  return { verifier, challenge: base64url(new Uint8Array(hash)) }
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '')
}
