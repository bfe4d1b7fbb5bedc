import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { makeDirectory, type Json } from '../helpers/scim.ts'
import { runCase, runExchange, type Case, type Exchange, type Send } from '../helpers/scim-cases.ts'

/**
 * What SCIM clients of many makers send, each from a public report, manual or source, and what must come of it: see the files
 * in cases/. `SCIM_CASES=heavy` also runs those that need ten thousand users.
 */
const folder = join(import.meta.dirname, 'cases')
const heavy = process.env.SCIM_CASES === 'heavy'

const directory = await makeDirectory(t)
const given = { base: `https://sso.assist.example/scim/v2/${directory.directoryId}`, token: directory.token }

const send: Send = async ({ method, path, headers, body }) => {
  const reply = await directory.send(method, path, { headers, ...(body !== undefined && { body }) })
  const hasBody = reply.body !== '' && method !== 'HEAD'
  return { status: reply.statusCode, headers: reply.headers, body: hasBody ? reply.json<Json>() : undefined }
}

for (const file of (await readdir(folder)).filter(name => name.endsWith('.jsonl')).toSorted()) {
  const lines = (await readFile(join(folder, file), 'utf8')).split('\n').filter(line => line !== '')
  t.test(file, async t => {
    for (const each of lines.map(line => JSON.parse(line) as Case)) {
      if (each.heavy && !heavy) continue
      const wrong = await runCase(each, send, given)
      t.equal(wrong, undefined, `${each.id} (${each.client}): ${each.title}`)
    }
  })
}

const conversations = {
  okta: 'OK-1, OK-2, OK-3, OK-4, OK-8: Okta tests, imports, assigns, deactivates and pushes groups, by PATCH and by PUT',
  entra: 'MS-11, MS-12, MS-13: Entra ID tests, provisions in both dialects of PATCH, and validates',
  google: 'Google Workspace provisions, suspends and deletes',
  onelogin: 'OneLogin provisions users and groups with the URNs of drafts',
}

for (const [provider, promise] of Object.entries(conversations)) {
  const place = join(import.meta.dirname, 'exchanges', provider)
  t.test(promise, async t => {
    for (const file of (await readdir(place)).toSorted()) {
      const exchange = JSON.parse(await readFile(join(place, file), 'utf8')) as Exchange
      t.equal(await runExchange(exchange, send, given), undefined, exchange.title)
    }
  })
}
