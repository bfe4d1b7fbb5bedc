import { readdir, readFile } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { sql } from 'kysely'
import t from 'tap'
import { makeDatabase } from './helpers/database.ts'

const root = join(import.meta.dirname, '..')

interface SourceFile {
  /** From `src/`, such as `http/problem.ts`. */
  path: string
  text: string
  /** Modules that it names: of this service as paths from `src/`, others as they are written. */
  imports: string[]
}

/** A rule about the sources, with a file that breaks it: a rule that would not notice is none. */
interface Rule {
  promise: string
  offences: (files: SourceFile[]) => string[]
  planted: SourceFile
}

/**
 * The rooms of the project, lowest first. A file belongs to the longest name that its path begins with. An import goes to a
 * lower line, or stays in its room.
 */
const ranks = [
  ['errors', 'actor', 'page', 'turns', 'uuid7', 'opaque-token', 'json-pointer', 'config'],
  ['secret-box', 'rate-limit'],
  ['db'],
  ['development'],
  ['http'],
  ['activity'],
  ['members'],
  ['access/derivation'],
  ['access/mappings'],
  ['access/members'],
  ['access/explanation'],
  ['workspaces'],
  ['oidc'],
  ['sso/guides'],
  ['sso/config'],
  ['sso/credentials', 'sso/policy'],
  ['sso/saving'],
  ['sso/enforcement'],
  ['directories'],
  ['sign-in/attempt'],
  ['sign-in/linking'],
  ['sign-in/session'],
  ['sign-in/admission'],
  ['sign-in/sign-in-test'],
  ['sign-in/callback'],
  ['sign-in/recovery', 'sign-in/options', 'sign-in/sweep'],
  ['scim/protocol'],
  ['scim/storage'],
  ['scim/users', 'scim/groups'],
  ['scim/lists'],
  ['scim/http'],
  ['scim/bulk'],
  ['scim/plugin'],
  ['app'],
  ['server'],
  ['../tools'],
  ['../scripts', '../bench', '../test/helpers'],
  ['../test'],
]

/** Where HTTP comes in; everything else is plain functions. */
function isEdge(path: string): boolean {
  return (
    path.startsWith('http/') ||
    path.startsWith('scim/http/') ||
    path === 'sign-in/attempt/redirect-errors.ts' ||
    /(^|\/|-)routes\.ts$|^(app|server|scim\/plugin)\.ts$/.test(path)
  )
}

const rules: Rule[] = [
  {
    promise: 'only app.ts and scim/plugin.ts import routes',
    offences: files =>
      eachImport(files, (from, to) => to.endsWith('routes.ts') && !['app.ts', 'scim/plugin.ts'].includes(from)),
    planted: source('sign-in/callback/planted.ts', `import { callbackRoutes } from './callback-routes.ts'`),
  },
  {
    promise: 'only routes, the SCIM plugin and its errors, http/, app, openapi and server know of fastify or http/',
    offences: files =>
      eachImport(files, (from, to) => (/^(@fastify\/|fastify)/.test(to) || to.startsWith('http/')) && !isEdge(from)),
    planted: source('members/planted.ts', `import { sendProblem } from '../http/problem.ts'`),
  },
  {
    promise: 'routes import neither kysely nor pg',
    offences: files => eachImport(files, (from, to) => from.endsWith('routes.ts') && /^(kysely|pg)(\/|$)/.test(to)),
    planted: source('sso/config/planted-routes.ts', `import { sql } from 'kysely'`),
  },
  {
    promise: 'only db/ imports pg',
    offences: files => eachImport(files, (from, to) => to === 'pg' && !from.startsWith('db/')),
    planted: source('scim/users/planted.ts', `import pg from 'pg'`),
  },
  {
    promise: 'only db/migrate.ts runs SQL that is put together as text; a literal in a statement is a constant',
    offences: files => eachMention(files, /\bsql\s*\.\s*(raw\b|lit\((?![A-Z0-9_ +*-]+\)))/, ['db/migrate.ts']),
    planted: source('scim/users/planted.ts', 'sql.raw(`SELECT ${name}`)'),
  },
  {
    promise: 'only oidc/ imports openid-client',
    offences: files => eachImport(files, (from, to) => to === 'openid-client' && !from.startsWith('oidc/')),
    planted: source('sign-in/callback/planted.ts', `import { discovery } from 'openid-client'`),
  },
  {
    promise: 'only oidc/outbound-fetch.ts opens connections to the outside, and workspaces/txt-records.ts asks DNS',
    offences: files => [
      ...eachImport(
        files,
        (from, to) =>
          /^(undici|(node:)?(http|https|http2|net|tls|dgram|dns)(\/promises)?)$/.test(to) &&
          from !== 'oidc/outbound-fetch.ts' &&
          !(from === 'workspaces/txt-records.ts' && to === 'node:dns/promises'),
      ),
      ...eachMention(files, /\bglobalThis\.fetch\b|\bnew (WebSocket|EventSource)\b/, []),
      // A fetch that nothing in the file has declared is the global one.
      ...files
        .filter(({ text }) => /(?<![.\w])fetch\(/.test(text) && !/[{(,]\s*fetch\b(?!\()|\bconst fetch\b/.test(text))
        .map(({ path }) => `${path} calls fetch`),
    ],
    planted: source('sso/config/planted.ts', `const reply = await fetch(issuer)`),
  },
  {
    promise: 'only config.ts reads the environment',
    offences: files => eachMention(files, /\bprocess\s*(\.\s*env\b|\[\s*'env')/, ['config.ts']),
    planted: source('http/planted.ts', `if (process.env.DEBUG) log()`),
  },
  {
    promise:
      'the SCIM protocol room imports only itself, errors.ts, json-pointer.ts and turns.ts, so that it has neither SQL nor HTTP',
    offences: files => [
      ...eachImport(
        files,
        (from, to) =>
          from.startsWith('scim/protocol/') &&
          isOurs(to) &&
          !to.startsWith('scim/protocol/') &&
          !['errors.ts', 'json-pointer.ts', 'turns.ts'].includes(to),
      ),
      ...eachImport(
        files,
        (from, to) => from.startsWith('scim/protocol/') && /^(kysely|pg|fastify|(node:)?https?)\b/.test(to),
      ),
    ],
    planted: source('scim/protocol/planted.ts', `import { sql } from 'kysely'`),
  },
  {
    promise: 'only http/ leaves its Fastify scope',
    offences: files => eachImport(files, (from, to) => to === 'fastify-plugin' && !from.startsWith('http/')),
    planted: source('scim/users/planted.ts', `import fastifyPlugin from 'fastify-plugin'`),
  },
  {
    promise: 'no file or folder has a name that says nothing',
    offences: files =>
      files
        .map(({ path }) => path)
        .filter(path => /(^|\/)(utils?|helpers?|common|misc|shared|types|index)(\.ts|\/)/.test(path)),
    planted: source('scim/utils.ts', ''),
  },
  {
    promise: 'no class but an error',
    offences: files => files.flatMap(({ path, text }) => unlistedClasses(text).map(name => `${path}: class ${name}`)),
    planted: source('members/planted.ts', 'export class MemberService {'),
  },
  {
    promise: 'src/ needs neither tests nor scripts',
    offences: files => eachImport(files, (_from, to) => to.startsWith('../')),
    planted: source('server.ts', `import { makeApp } from '../test/helpers/app.ts'`),
  },
]

const projectRules: Rule[] = [
  {
    promise: 'an import goes to a lower rank or stays in its room, in src, tools, scripts, bench and test',
    offences: files =>
      eachImport(files, (from, to) => isOurs(to) && roomOf(from) !== roomOf(to) && rankOf(from) <= rankOf(to)),
    planted: source('access/mappings/planted.ts', `import { x } from '../../scim/users/users.ts'`),
  },
  {
    promise: 'no chain of imports is a circle, types included',
    offences: files => files.filter(({ path }) => reach(files, path).has(path)).map(({ path }) => path),
    planted: source('members/planted.ts', `import type { X } from './planted.ts'`),
  },
]

for (const { promise, offences, planted } of projectRules) {
  t.test(promise, async t => {
    const files = await readProject()
    t.same(offences(files), [])
    t.not(offences([...files, planted]).length, 0, 'a planted offence is noticed')
  })
}

for (const { promise, offences, planted } of rules) {
  t.test(promise, async t => {
    const files = await readSources()
    t.same(offences(files), [])
    t.not(offences([...files, planted]).length, 0, 'a planted offence is noticed')
  })
}

t.test('src/ runs on all dependencies, which a production install brings, and on no other package', async t => {
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as Record<string, object>
  const installed = Object.keys(manifest.dependencies ?? {})
  // Node drops imports of types, so that those of development may be named too.
  const running = (await readSources()).map(({ path, text }) =>
    source(path, text.replaceAll(/^import type [^'"`]*? from '[^']+'/gm, '')),
  )
  const foreign = running.flatMap(({ imports }) => imports).filter(name => !isOurs(name))
  const packages = new Set(foreign.filter(name => !name.startsWith('node:')).map(packageOf))
  t.same(
    [...packages].filter(name => !installed.includes(name)),
    [],
  )
  t.same(
    installed.filter(name => !packages.has(name)),
    [],
  )
})

t.test('every table names its workspace, save those that belong to the service itself', async t => {
  const { db } = await makeDatabase(t)
  const { rows } = await sql<{ name: string }>`
    SELECT c.relname AS name FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
       AND NOT EXISTS (SELECT FROM pg_attribute a
                        WHERE a.attrelid = c.oid AND a.attname = 'workspace_id' AND a.attnotnull)
     ORDER BY c.relname`.execute(db)
  t.same(
    rows.map(row => row.name),
    [
      // What the migrator has applied, and its lock.
      'schema_migrations',
      'schema_migrations_lock',
      // The keys that sign access tokens are the service's, whatever the workspace.
      'signing_keys',
      // Its id is the workspace's.
      'workspaces',
    ],
  )
})

t.test('every primary, unique and foreign key holds the workspace, so that no row can point across', async t => {
  const { db } = await makeDatabase(t)
  const { rows } = await sql<{ name: string }>`
    SELECT i.indexrelid::regclass::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
     WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND c.relname NOT LIKE 'schema_migrations%'
       AND NOT EXISTS (
         SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND a.attname = 'workspace_id')
    UNION ALL
    SELECT k.conname::text FROM pg_constraint k
     WHERE k.connamespace = 'public'::regnamespace AND k.contype = 'f'
       AND (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1])
             <> 'workspace_id'
     ORDER BY 1`.execute(db)
  t.same(
    rows.map(row => row.name),
    [
      // Two workspaces cannot both have proved one domain: a statement about all of them.
      'domains_verified_once',
      'signing_keys_pkey',
      'workspaces_pkey',
    ],
  )
})

t.test(
  'no two indexes begin with workspace and directory, between which the planner would choose by chance',
  async t => {
    const { db } = await makeDatabase(t)
    const { rows } = await sql<{ table: string }>`
    SELECT i.indrelid::regclass::text AS table
      FROM pg_index i
      JOIN pg_attribute w ON w.attrelid = i.indrelid AND w.attname = 'workspace_id'
      JOIN pg_attribute d ON d.attrelid = i.indrelid AND d.attname = 'directory_id'
     WHERE (i.indkey::int2[])[0:1] @> ARRAY[w.attnum, d.attnum]
     GROUP BY i.indrelid HAVING count(*) > 1`.execute(db)
    t.same(
      rows.map(row => row.table),
      // A directory has a handful of them.
      ['directory_credentials'],
    )
  },
)

t.test('every foreign key has an index for it, so that no delete scans a table', async t => {
  const { db } = await makeDatabase(t)
  const { rows } = await sql<{ key: string }>`
    SELECT k.conrelid::regclass || ': ' || pg_get_constraintdef(k.oid) AS key
      FROM pg_constraint k
     WHERE k.contype = 'f' AND NOT EXISTS (
       SELECT FROM pg_index i
        WHERE i.indrelid = k.conrelid
          -- The workspace may stand behind (docs/decisions/0017): what it is the workspace of finds the rows as well.
          AND ((i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
               OR (i.indkey::int2[])[0:cardinality(k.conkey) - 2] @> array_remove(k.conkey, k.conkey[1])
                  AND cardinality(k.conkey) > 1 AND k.conkey[1] = ANY (i.indkey))
          -- A partial index serves where it leaves out only rows that have no such key.
          AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) LIKE '(% IS NOT NULL)'))`.execute(db)
  t.same(rows, [])
})

async function readSources(folder = 'src'): Promise<SourceFile[]> {
  const names = await readdir(join(root, folder), { recursive: true })
  const paths = names.filter(name => name.endsWith('.ts')).toSorted()
  const prefix = folder === 'src' ? '' : `../${folder}/`
  return Promise.all(paths.map(async path => source(prefix + path, await readFile(join(root, folder, path), 'utf8'))))
}

/** The sources of the service and of everything around it. */
async function readProject(): Promise<SourceFile[]> {
  const folders = ['src', 'tools', 'scripts', 'bench', 'test']
  const files = await Promise.all(folders.map(async folder => readSources(folder)))
  // This file names imports that it plants.
  return files.flat().filter(({ path }) => path !== '../test/architecture.test.ts')
}

function source(path: string, text: string): SourceFile {
  const named = text.matchAll(/^(?:import|export)\b[^'"`]*?\bfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm)
  const imports = [...named].map(([, from, bare, dynamic]) => resolveImport(path, (from ?? bare ?? dynamic)!))
  return { path, text, imports }
}

function resolveImport(path: string, name: string): string {
  if (!name.startsWith('.')) return name
  const resolved = posix.join(posix.dirname(path), name)
  return resolved.startsWith('../src/') ? resolved.slice('../src/'.length) : resolved
}

function isOurs(name: string): boolean {
  return name.endsWith('.ts')
}

/** The room of a file: `scim/lists` for a file of that folder, `page` for the file page.ts. */
function roomOf(path: string): string {
  const inRoom = (room: string) => path.startsWith(`${room}/`) || path.replace(/\.(ts|mjs|js)$/, '') === room
  const room = ranks
    .flat()
    .filter(inRoom)
    .toSorted((a, b) => b.length - a.length)[0]
  if (room === undefined) throw new Error(`${path} has no room: give it a place in the list above.`)
  return room
}

function rankOf(path: string): number {
  return ranks.findIndex(rooms => rooms.includes(roomOf(path)))
}

function packageOf(name: string): string {
  return name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/')
}

function eachImport(files: SourceFile[], isOffence: (from: string, to: string) => boolean): string[] {
  return files.flatMap(({ path, imports }) =>
    imports.filter(to => isOffence(path, to)).map(to => `${path} imports ${to}`),
  )
}

function eachMention(files: SourceFile[], words: RegExp, allowed: string[]): string[] {
  return files.filter(({ path, text }) => words.test(text) && !allowed.includes(path)).map(({ path }) => path)
}

/** All that a file needs, directly or through others. */
function reach(files: SourceFile[], path: string): Set<string> {
  const reached = new Set<string>()
  const visit = (from: string) => {
    for (const file of files.filter(each => each.path === from)) {
      for (const to of file.imports) {
        if (reached.has(to)) continue
        reached.add(to)
        visit(to)
      }
    }
  }
  visit(path)
  return reached
}

/** Classes that are neither errors nor what a library's own extension point asks for (pg's Client). */
function unlistedClasses(text: string): string[] {
  return [...text.matchAll(/^(?:export )?(?:abstract )?class (\w+)(?: extends ([\w.]+))?/gm)]
    .filter(([, , base]) => !/Error$|^pg\.Client$/.test(base ?? ''))
    .map(([, name]) => name!)
}
