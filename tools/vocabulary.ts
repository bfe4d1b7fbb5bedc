// The words that may not appear in prose, with the reason. `node tools/vocabulary.ts PATH...` prints the places.
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'

export interface Pattern {
  words: RegExp
  reason: string
}

/** Where prose is held to the vocabulary, as paths from the root. */
export const places = [
  'src',
  'test',
  'tools',
  'scripts',
  'bench',
  'migrations',
  'docs',
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  '.env.example',
  'openapi.yaml',
]

export const patterns: readonly Pattern[] = [
  {
    words: /\b(?:whoever|whomever|nobody|somebody|anybody|everybody)\b/i,
    reason: 'name the actor: the directory, an admin, the caller, the member',
  },
  { words: /\banew\b/i, reason: 'say again, new, or restart' },
  { words: /\bwhatever\b/i, reason: 'name the things that are meant' },
  {
    words: /\b(?:what is none|is none of|are none of|what it is none|none of this list)\b/i,
    reason: 'say what the value is not, with its noun',
  },
  { words: /\b(?:that|those) of (?:whoever|who|what|somebody|others)\b/i, reason: 'repeat the noun' },
  { words: /\b(?:goes|gone|going) by\b/i, reason: 'say uses, matches or is identified by' },
  { words: /\bspeaks? for\b/i, reason: 'say represents, proves or applies to' },
  { words: /\bstands? for\b/i, reason: 'say means, is or represents' },
  { words: /\b(?:comes?|came) back as\b/i, reason: 'say is returned as, or returns' },
  { words: /\b(?:is|are|was|were) told\b/i, reason: 'say the response says, or receives' },
  { words: /\b(?:is|are|was|were) asked\b/i, reason: 'say requests, or queries' },
  { words: /\bnothing but\b/i, reason: 'say only' },
  { words: /\bbeside\b/i, reason: 'say next to, in addition to, or concurrently with' },
  { words: /\bof (?:its|their|his|her|one's) own\b/i, reason: 'say its own X, or separate' },
  { words: /\bat its end\b/i, reason: 'say at the end of X' },
  { words: /\bso it is said\b/i, reason: 'say it' },
  { words: /\bfor good\b/i, reason: 'say permanently' },
  { words: /\bis there\.(?:\s|$)/i, reason: 'say exists' },
  { words: /\b(?:there is|there are) no [\w -]{1,30} here\b/i, reason: 'say what does not match, and what to do' },
  { words: /\bhold(?:s|ing)? against\b/i, reason: 'say compare with' },
  { words: /\blets? go of\b/i, reason: 'say release or close' },
  { words: /\bby an act of\b/i, reason: 'name the request' },
]

/**
 * Paths whose prose is still to be rewritten. A path leaves the list when its prose follows docs/glossary.md and the patterns.
 */
export const pending: readonly string[] = [
  'src/access/derivation',
  'src/access/explanation',
  'src/access/mappings',
  'src/access/members',
  'src/activity',
  'src/actor.ts',
  'src/app.ts',
  'src/config.ts',
  'src/db',
  'src/development',
  'src/directories',
  'src/errors.ts',
  'src/http',
  'src/login',
  'src/members',
  'src/oidc',
  'src/opaque-token.ts',
  'src/page.ts',
  'src/scim/bulk',
  'src/scim/groups',
  'src/scim/http',
  'src/scim/lists',
  'src/scim/plugin.ts',
  'src/scim/storage',
  'src/scim/users',
  'src/secret-box.ts',
  'src/server.ts',
  'src/sign-in/admission',
  'src/sign-in/attempt',
  'src/sign-in/callback',
  'src/sign-in/linking',
  'src/sign-in/options',
  'src/sign-in/recovery',
  'src/sign-in/session',
  'src/sign-in/sign-in-test',
  'src/sign-in/sweep.ts',
  'src/sso/config',
  'src/sso/credentials',
  'src/sso/enforcement',
  'src/sso/policy',
  'src/sso/saving',
  'src/uuid7.ts',
  'src/workspaces',
  'test/access',
  'test/activity',
  'test/architecture.test.ts',
  'test/browser.test.ts',
  'test/client.test.ts',
  'test/config.test.ts',
  'test/conformance.test.ts',
  'test/db',
  'test/development',
  'test/directories',
  'test/docs.test.ts',
  'test/http',
  'test/identifiers.test.ts',
  'test/login',
  'test/members',
  'test/migrations.test.ts',
  'test/oidc',
  'test/openapi.test.ts',
  'test/scim',
  'test/sign-in',
  'test/sso',
  'test/vocabulary.test.ts',
  'test/workspaces',
  'tools/conformance-rows.ts',
  'docs/conformance.md',
  'openapi.yaml',
]

export interface Hit {
  place: string
  text: string
  reason: string
}

/** Lines below `path` that use a word of `patterns`. Directories are searched recursively. */
export async function findHits(root: string, path: string): Promise<Hit[]> {
  const hits: Hit[] = []
  for (const file of await listFiles(join(root, path))) {
    const name = relative(root, file)
    if (exempt.test(name)) continue
    const lines = (await readFile(file, 'utf8')).split('\n')
    for (const [index, line] of lines.entries()) {
      for (const { words, reason } of patterns) {
        if (words.test(line)) hits.push({ place: `${name}:${index + 1}`, text: line.trim(), reason })
      }
    }
  }
  return hits
}

/** Files that name the words in order to forbid them, and payloads of others. */
const exempt = /^(?:tools\/vocabulary\.ts|docs\/glossary\.md)$|\.jsonl?$|\.svg$/

async function listFiles(path: string): Promise<string[]> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) return []
  if (found.isFile()) return [path]
  const names = await readdir(path, { recursive: true, withFileTypes: true })
  return names
    .filter(each => each.isFile() && /\.(?:ts|mjs|js|sql|md|yaml)$/.test(each.name))
    .map(each => join(each.parentPath, each.name))
    .toSorted()
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '..')
  for (const path of process.argv.slice(2)) {
    for (const { place, text, reason } of await findHits(root, path)) console.log(`${place}: ${text}\n    ${reason}`)
  }
}
