// `npm test [-- files and tap options]`: starts Postgres, creates a migrated template database and runs tap. Test files copy
// the template (test/helpers/database.ts). The last line of output is `N passed, N failed`.
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
  // Postgres can copy a database only while it has no connections.
  await runSql(adminUrl, `ALTER DATABASE ${template} ALLOW_CONNECTIONS false`)
}

/** Drops the template and all copies, including those left by crashed test files. */
async function dropDatabases(adminUrl: string, template: string): Promise<void> {
  const left = await runSql(adminUrl, `SELECT datname FROM pg_database WHERE starts_with(datname, '${template}')`)
  for (const { datname } of left) await runSql(adminUrl, `DROP DATABASE ${String(datname)} WITH (FORCE)`)
}

/** Compiles the plugins of .taprc into node_modules, because tap fails if others are compiled there. */
async function buildTap(): Promise<void> {
  const built = inModules('@tapjs/test/test-built/dist/esm/index.js')
  if (!(await readFile(built, 'utf8')).includes('@tapjs/typescript')) return
  console.log('Building tap with the plugins of .taprc')
  await rm('.tap', { recursive: true, force: true })
  await runTap(['build'])
}

async function runTap(args: string[], environment: Record<string, string> = {}): Promise<number> {
  const child = spawn(process.execPath, [inModules('.bin/tap'), ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...environment },
    detached: true,
  })
  // Send exactly one SIGINT to tap and its test files, for any signal that ends this run, so that tap prints its closing line
  // and stops what it started. tap has its own process group, because Ctrl-C sends several SIGINTs and tap dies at the
  // second.
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
