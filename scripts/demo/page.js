// The pages' script: all that a front-end must do to sign people in through the service.
const { service, workspace } = document.documentElement.dataset
const output = document.querySelector('#output')
const parameters = new URLSearchParams(location.search)

const buttons = {
  '#sign-in': () => startSignIn(),
  '#session': () => call('GET', '/v1/session'),
  '#sign-out': signOut,
}
for (const [selector, action] of Object.entries(buttons)) {
  document.querySelector(selector)?.addEventListener('click', () => void action())
}

if (location.pathname === '/sso/complete') void redeemCode()
if (location.pathname === '/sso/error') showError()
if (location.pathname === '/sso/start') void startInitiated()
if (location.pathname === '/' && parameters.has('state')) showSignedOut()

/** Keeps a secret here and sends its hash along: whoever else gets hold of the code cannot redeem it. */
async function startSignIn(wishes = { return_to: `${location.origin}/` }) {
  const verifier = base64url(crypto.getRandomValues(new Uint8Array(32)))
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))
  sessionStorage.setItem('verifier', verifier)
  const query = new URLSearchParams({ ...wishes, handoff_challenge: base64url(new Uint8Array(hash)) })
  location.assign(`${service}/sso/${workspace}/start?${query}`)
}

/** Somebody clicked the tile in the provider's portal, and the service sent them here for a verifier. */
async function startInitiated() {
  const wishes = ['return_to', 'login_hint'].filter(name => parameters.has(name))
  await startSignIn(Object.fromEntries(wishes.map(name => [name, parameters.get(name)])))
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

/** Whoever comes here by a link of somebody else has no such state. */
function showSignedOut() {
  const isOurs = parameters.get('state') === sessionStorage.getItem('sign-out')
  sessionStorage.removeItem('sign-out')
  history.replaceState(null, '', location.pathname)
  if (isOurs) output.textContent = 'Signed out here and at the provider.'
}

function showError() {
  output.textContent = `Code: ${parameters.get('code')}\nReference for your admin: ${parameters.get('ref')}`
  const retry = parameters.get('retry')
  if (retry?.startsWith(`${service}/`)) document.querySelector('#retry').href = retry
}

/** `credentials: include` lets the session cookie come and go: the service is the same site on another port. */
async function call(method, path, body) {
  const response = await fetch(service + path, {
    method,
    credentials: 'include',
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  })
  const text = await response.text()
  const answer = text === '' ? undefined : JSON.parse(text)
  output.textContent = `${method} ${path}: ${response.status}\n${JSON.stringify(answer, null, 2) ?? ''}`
  return answer
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '')
}
