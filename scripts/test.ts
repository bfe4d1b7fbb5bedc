// `npm test [-- files and tap options]`: a Postgres, a migrated template database on it, and tap, whose test files copy
// the template (test/helpers/database.ts). The last line printed is tap's closing line, `N passed, N failed`.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { migrate } from '../src/db/migrate.ts'
import { onDatabase, runSql } from '../tools/admin-sql.ts'
import { startTestPostgres } from '../tools/test-postgres.ts'

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error)
  console.log('0 passed, 1 failed')
  return 1
})

async function main(args: string[]): Promise<number> {
  await buildTap()
  const postgres = await startTestPostgres()
  const template = `test_${randomBytes(6).toString('hex')}`
  console.log(`Testing on ${postgres.name}`)
  try {
    await makeTemplate(postgres.url, template)
    const coverage = args.length > 0 ? ['--disable-coverage'] : []
    return await runTap(['run', ...coverage, ...args], { TEST_ADMIN_URL: postgres.url, TEST_TEMPLATE: template })
  } finally {
    await dropDatabases(postgres.url, template)
    await postgres.stop()
  }
}

async function makeTemplate(adminUrl: string, template: string): Promise<void> {
  await runSql(adminUrl, `CREATE DATABASE ${template}`)
  await migrate(onDatabase(adminUrl, template))
  // A database can only be copied while nobody is connected to it.
  await runSql(adminUrl, `ALTER DATABASE ${template} ALLOW_CONNECTIONS false`)
}

/** Also drops the copies that test files which crashed have left. */
async function dropDatabases(adminUrl: string, template: string): Promise<void> {
  const left = await runSql(adminUrl, `SELECT datname FROM pg_database WHERE starts_with(datname, '${template}')`)
  for (const { datname } of left) await runSql(adminUrl, `DROP DATABASE ${String(datname)} WITH (FORCE)`)
}

/** tap compiles its plugins into node_modules, and a run that finds other plugins compiled than .taprc names fails. */
async function buildTap(): Promise<void> {
  const built = inModules('@tapjs/test/test-built/dist/esm/index.js')
  if (!(await readFile(built, 'utf8')).includes('@tapjs/typescript')) return
  console.log('Building tap once, as .taprc configures it')
  await rm('.tap', { recursive: true, force: true })
  await runTap(['build'])
}

async function runTap(args: string[], environment: Record<string, string> = {}): Promise<number> {
  const child = spawn(process.execPath, [inModules('.bin/tap'), ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...environment },
    detached: true,
  })
  // However this run is told to end, tap and its test files hear of it once, tap prints its closing line, and all that
  // was started is stopped. They are a group of their own because tap dies at a second SIGINT, and Ctrl-C sends several.
  let ending = false
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (!ending) process.kill(-child.pid!, 'SIGINT')
      ending = true
    })
  }
  const [code] = (await once(child, 'close')) as [number | null]
  return code ?? 1
}

function inModules(path: string): string {
  return fileURLToPath(new URL(`../node_modules/${path}`, import.meta.url))
}
