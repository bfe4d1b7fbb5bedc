import { chmod, lstat, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const prefix = 'assist-identity-demo-'

/** Makes a temporary folder for this process, and removes those that killed demos of this account have left behind. */
export async function makeDemoFolder(): Promise<string> {
  for (const name of await readdir(tmpdir())) {
    const folder = join(tmpdir(), name)
    if (name.startsWith(prefix) && (await isLeftOver(folder))) await rm(folder, { recursive: true, force: true })
  }
  const folder = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`))
  // Started by root, Postgres runs as another account, which must be able to come here.
  await chmod(folder, 0o755)
  return folder
}

/** The name of a folder has the process that made it. */
async function isLeftOver(folder: string): Promise<boolean> {
  const pid = Number.parseInt(folder.slice(join(tmpdir(), prefix).length), 10)
  const { uid } = await lstat(folder)
  if (Number.isNaN(pid) || uid !== process.getuid?.()) return false
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}
