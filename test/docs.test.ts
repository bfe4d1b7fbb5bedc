import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { access, readdir, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { decodeJwt } from 'jose'
import t from 'tap'
import { readConfig } from '../src/config.ts'
import { drawPictures, drawSequence, folder as picturesFolder } from '../tools/pictures.ts'
import { folder as providersFolder, providerPages } from '../tools/provider-pages.ts'
import { folder as statementsFolder, statementPages } from '../tools/statement-pages.ts'
import { createSecretBox } from '../src/secret-box.ts'
import { uuid7 } from '../src/uuid7.ts'
import { runSql } from '../tools/admin-sql.ts'
import { makeDatabase } from './helpers/database.ts'

const root = join(import.meta.dirname, '..')
const read = (path: string) => readFile(join(root, path), 'utf8')
const tracked = await listFiles()
const pages = tracked.filter(path => path.endsWith('.md'))
const manifest = JSON.parse(await read('package.json')) as { scripts: Record<string, string> }

t.test('every link of every page leads to a file that is there', async t => {
  for (const page of pages) {
    const links = [...(await read(page)).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map(([, link]) => link!)
    for (const link of links.filter(each => !/^https?:/.test(each))) {
      await t.resolves(access(join(root, dirname(page), link)), `${page}: ${link}`)
    }
  }
})

t.test('every file and npm script that a page or a comment names is there', async t => {
  const folders = 'src|test|tools|scripts|migrations|docs|bench'
  const missing = await findAll(
    path => /\.(md|ts|js|mjs|sql)$/.test(path) && path !== 'test/architecture.test.ts',
    new RegExp(`(?<![\\w/.-])(?:${folders})/[\\w/.-]+\\.(?:ts|js|mjs|sql|md)\\b`, 'g'),
    async name => !(await exists(name)),
  )
  t.same(missing, [])
  const scripts = await findAll(
    path => /\.(md|ts|sql)$/.test(path) || path === '.env.example',
    /npm run (?:-s )?([a-z][a-z:-]+)/g,
    async (_name, script) => !Object.hasOwn(manifest.scripts, script!),
  )
  t.same(scripts, [])
})

t.test('.env.example documents every setting of config.ts with its default, and no other', async t => {
  const documented = new Map(
    [...(await read('.env.example')).matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name!, value!]),
  )
  const named = (await read('src/config.ts')).matchAll(/^ {2}([A-Z][A-Z_]+): /gm)
  const declared = [...new Set([...named].map(([, name]) => name!))]
  t.same([...documented.keys()].toSorted(compare), declared.toSorted(compare))

  const required = {
    PUBLIC_URL: 'https://sso.example.com',
    DATABASE_URL: 'postgres://db.example.com/assist',
    FRONTEND_ORIGINS: 'https://app.example.com',
    ASSIST_TOKEN_ISSUER: 'https://auth.example.com',
    ASSIST_TOKEN_AUDIENCE: 'assist',
    ASSIST_JWKS_URL: 'https://auth.example.com/jwks.json',
    SEAL_KEYS: `k1:${Buffer.from(Array.from({ length: 32 }, (_each, index) => index)).toString('base64')}`,
    NODE_ENV: 'production',
  }
  t.same(
    readConfig({ ...Object.fromEntries(documented), ...required }),
    readConfig(required),
    'what it shows after = is the default',
  )
  const marked = [...(await read('.env.example')).matchAll(/^# Required[^\n]*\n(?:#[^\n]*\n)*((?:[A-Z_]+=\n)+)/gm)]
  t.same(
    marked.flatMap(([, lines]) => [...lines!.matchAll(/[A-Z_]+/g)].map(([name]) => name)).toSorted(compare),
    Object.keys(required)
      .filter(name => name !== 'NODE_ENV')
      .toSorted(compare),
    'what production needs is marked as required',
  )
})

t.test('docs/operating.md names every setting without which production does not start', async t => {
  const page = await read('docs/operating.md')
  t.throws(() => readConfig({ NODE_ENV: 'production' }))
  try {
    readConfig({ NODE_ENV: 'production' })
  } catch (error) {
    const missing = [...(error as Error).message.matchAll(/^ {2}([A-Z_]+): is missing/gm)].map(([, name]) => name!)
    t.not(missing.length, 0)
    for (const name of missing) t.ok(page.includes(`\`${name}\``), name)
  }
})

t.test('the SQL of docs/operating.md returns the key of every sealed value', async t => {
  const { url, db } = await makeDatabase(t)
  const [, statement] = /```sql\n(.+?)```/s.exec(await read('docs/operating.md'))!
  const columns = await runSql(
    url,
    `SELECT table_name AS of, column_name AS name FROM information_schema.columns
      WHERE table_schema = current_schema() AND data_type = 'bytea' AND column_name !~ '_hash$' AND table_name <> 'signing_keys'`,
  )
  t.ok(columns.length >= 6)
  for (const { of, name } of columns) {
    const [part] = statement!.split('UNION ALL').filter(each => each.includes(`FROM ${of as string}`))
    t.match(part, new RegExp(`\\b${name as string}\\b`), `${of as string}.${name as string}`)
  }

  const workspace_id = uuid7()
  await db.insertInto('workspaces').values({ id: workspace_id, name: 'acme', default_role: 'member' }).execute()
  const config = { workspace_id, issuer: 'https://idp.example.com', client_id: 'assist', metadata: '{}' }
  await db.insertInto('sso_configs').values(config).execute()
  const secret = { workspace_id, id: uuid7(), sealed: sealWith('new') }
  await db.insertInto('sso_client_credentials').values(secret).execute()
  const test = {
    workspace_id,
    start_hash: randomBytes(32),
    challenge: randomBytes(32).toString('base64url'),
    settings: '{}',
    is_draft: true,
    actor_type: 'user',
    actor_id: 'admin',
    expires_at: '2100-01-01T00:00:00Z',
  }
  const drafts = [
    { ...test, id: uuid7(), sealed_secret: sealWith('old') },
    { ...test, id: uuid7(), start_hash: randomBytes(32), claims_sealed: sealWith('old') },
  ]
  await db.insertInto('sso_sign_in_tests').values(drafts).execute()
  t.same(await runSql(url, statement!), [
    { key: 'new', stored_in: 'sso_client_credentials', count: 1 },
    { key: 'old', stored_in: 'sso_sign_in_tests', count: 2 },
  ])
})

t.test('docs/providers is what `npm run docs` writes from the guides of the API', async t => {
  for (const [name, page] of providerPages()) t.equal(await readFile(join(providersFolder, name), 'utf8'), page, name)
})

t.test('docs/sql shows each named statement as the service sends it', async t => {
  const expected = statementPages()
  for (const [name, page] of expected) {
    t.equal(await readFile(join(statementsFolder, name), 'utf8').catch(() => ''), page, `${name}: run \`npm run docs\``)
  }
  t.same((await readdir(statementsFolder)).toSorted(), [...expected.keys()].toSorted(), 'no page of a former statement')
})

t.test('docs/pictures is what `npm run docs` draws from the texts there', async t => {
  for (const [name, svg] of await drawPictures()) t.equal(await readFile(join(picturesFolder, name), 'utf8'), svg, name)
  const head = 'title: T\nparticipants: A | B\n'
  t.throws(() => drawSequence(`${head}A -> C: x`), /between participants: A -> C/)
  t.throws(() => drawSequence('participants: A'), /Expected a line "title/)
})

t.test('the README has at most 1,000 words', async t => {
  const words = (await read('README.md')).replaceAll(/```.+?```/gs, '').split(/\s+/).length
  t.ok(words <= 1_000, `${words}`)
})

t.test("the README's token is for all workspaces, and none is made where tokens are Assist's own", async t => {
  const cwd = t.testdir({})
  const makeToken = async (env: Record<string, string>, ...args: string[]) => {
    const run = promisify(execFile)
    const { stdout } = await run(process.execPath, [join(root, 'scripts/token.ts'), ...args], { cwd, env })
    return decodeJwt(stdout.trim())
  }
  const [, args] = /npm run -s token -- (.+?)\)/.exec(await read('README.md'))!
  t.match(await makeToken({}, ...args!.split(' ')), { scope: 'assist:workspaces', iss: 'urn:assist:development' })
  const workspace = uuid7()
  t.match(await makeToken({}, '--workspace', workspace, '--role', 'owner'), { workspace, role: 'owner' })
  await t.rejects(makeToken({}, '--workspace', workspace, '--role', 'emperor'), {
    message: /viewer, member, admin, owner/,
  })
  await t.rejects(makeToken({ ASSIST_TOKEN_ISSUER: 'https://auth.example.com' }, '--scope', 'assist:workspaces'), {
    message: /not the development issuer/,
  })
})

t.test('every decision is numbered once, listed, and says context, decision and cost', async t => {
  const names = (await readdir(join(root, 'docs/decisions'))).filter(name => /^\d/.test(name)).toSorted(compare)
  const list = await read('docs/decisions/README.md')
  const numbers = names.map(name => name.slice(0, 4))
  t.same(numbers, [...new Set(numbers)], 'no number is used twice')
  for (const name of names) t.ok(list.includes(`(${name})`), `${name} is listed`)
  // Records of many small decisions are tables instead.
  for (const name of names.filter(each => !each.endsWith('-cases.md'))) {
    const text = await read(`docs/decisions/${name}`)
    for (const part of ['**Context.**', '**Decision.**', '**Cost.**']) t.ok(text.includes(part), `${name}: ${part}`)
  }
})

t.test('every test that docs/conformance.md names is there, by its sentence', async t => {
  const text = (await read('docs/conformance.md')).replaceAll(/\n(?=[^|\n])/g, ' ')
  let file = ''
  let named = 0
  for (const [, link, sentence] of text.matchAll(/\]\(\.\.\/(test\/[\w/.-]+\.ts)\)|“([^”]+)”/g)) {
    if (link !== undefined) file = await read(link)
    if (sentence === undefined) continue
    named++
    t.ok(file.replaceAll("\\'", "'").includes(sentence), sentence)
  }
  t.ok(named > 30)
})

t.test('the image is built from files that are there, and starts the service as an ordinary account', async t => {
  const dockerfile = await read('Dockerfile')
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, paths]) => paths!.split(' '))
  const kept = [...(await read('.dockerignore')).matchAll(/^!(.+)$/gm)].map(([, path]) => path!)
  t.same(new Set(copied), new Set(kept), 'what is copied is what .dockerignore lets in')
  for (const path of copied) t.ok(await exists(path), path)
  const stages = dockerfile.split(/^FROM /m)
  t.match(stages.at(-1), /\nUSER node\n/)
  const [, command] = /\nCMD (\[.+\])\n/.exec(stages.at(-1)!)!
  t.equal(`exec ${(JSON.parse(command!) as string[]).join(' ')}`, manifest.scripts['start'], 'as npm start does')
  t.match(dockerfile, /npm ci --omit=dev --omit=optional/)
})

t.test('nothing names a path of one machine, and nothing is left to be done later', async t => {
  const found = await findAll(
    path => path !== 'test/docs.test.ts' && path !== 'package-lock.json',
    /(?<![\w.}])\/(?:home|root|work|mnt)\/\w|\b(?:TODO|FIXME|XXX|HACK)\b/g,
    async () => true,
  )
  t.same(found, [])
})

function sealWith(keyId: string): Buffer {
  return createSecretBox({ sealKeys: [{ id: keyId, key: randomBytes(32) }] }).seal('secret', 'here')
}

/** What a checkout holds: tracked files, and those that will be. */
async function listFiles(): Promise<string[]> {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard']
  try {
    const { stdout } = await promisify(execFile)('git', args, { cwd: root })
    const paths = stdout.split('\n').filter(path => path !== '')
    return (await Promise.all(paths.map(async path => ((await isFile(path)) ? [path] : [])))).flat()
  } catch {
    // An unpacked archive has no history: then everything that is not installed or generated.
    const all = await readdir(root, { recursive: true, withFileTypes: true })
    return all
      .filter(each => each.isFile())
      .map(each => join(each.parentPath, each.name).slice(root.length + 1))
      .filter(path => !/^(node_modules|\.data|\.tap|\.git|coverage)\//.test(path))
  }
}

/** Every match, in the chosen files, that is an offence. */
async function findAll(
  isChosen: (path: string) => boolean,
  words: RegExp,
  isOffence: (match: string, group: string | undefined) => Promise<boolean>,
): Promise<string[]> {
  const found: string[] = []
  for (const path of tracked.filter(each => isChosen(each))) {
    for (const [match, group] of (await read(path)).matchAll(words)) {
      if (await isOffence(match, group)) found.push(`${path}: ${match}`)
    }
  }
  return found
}

async function isFile(path: string): Promise<boolean> {
  return stat(join(root, path)).then(
    found => found.isFile(),
    () => false,
  )
}

async function exists(path: string): Promise<boolean> {
  return access(join(root, path)).then(
    () => true,
    () => false,
  )
}

function compare(left: string, right: string): number {
  return left < right ? -1 : 1
}
