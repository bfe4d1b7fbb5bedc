import { chmod, lstat, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const prefix = 'assist-identity-demo-'

/** Creates a temporary folder for this process and removes those left by killed demos of the same account. */
export async function makeDemoFolder(): Promise<string> {
  for (const name of await readdir(tmpdir())) {
    const folder = join(tmpdir(), name)
    if (name.startsWith(prefix) && (await isLeftOver(folder))) await rm(folder, { recursive: true, force: true })
  }
  const folder = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`))
  // If root starts the demo, Postgres runs under another account, which needs access to the folder.
  await chmod(folder, 0o755)
  return folder
}

/** Whether the process whose id is in the name of the folder has ended. */
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
