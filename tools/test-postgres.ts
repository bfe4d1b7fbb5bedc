import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../src/development/embedded-postgres.ts'

export type TestPostgres = {
  /** Short description of the server, for output. */
  name: string
  /** URL of a database, with an account that can create databases. */
  url: string
  stop: () => Promise<void>
}

type Kind = 'url' | 'container' | 'embedded'

/**
 * Starts the Postgres for tests: TEST_DATABASE_URL if set, otherwise a container if a container engine answers, otherwise the
 * embedded server. TEST_POSTGRES=container|embedded selects one without a fallback.
 */
export async function startTestPostgres(): Promise<TestPostgres> {
  switch (await chooseKind()) {
    case 'url':
      return { name: 'Postgres at TEST_DATABASE_URL', url: process.env['TEST_DATABASE_URL']!, stop: async () => {} }
    case 'container':
      return startContainer()
    case 'embedded':
      return startEmbedded()
  }
}

async function chooseKind(): Promise<Kind> {
  const { TEST_DATABASE_URL: url, TEST_POSTGRES: forced } = process.env
  if (forced === 'container' || forced === 'embedded') return forced
  if (forced) throw new Error(`TEST_POSTGRES is ${forced}. Set it to container or embedded.`)
  if (url) return 'url'
  return (await containerEngineAnswers()) ? 'container' : 'embedded'
}

async function containerEngineAnswers(): Promise<boolean> {
  const { getContainerRuntimeClient } = await import('testcontainers')
  return getContainerRuntimeClient().then(
    () => true,
    () => false,
  )
}

async function startContainer(): Promise<TestPostgres> {
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql')
  const image = 'postgres:18-alpine'
  const command = ['postgres', '-c', 'fsync=off', '-c', 'max_connections=200', '-c', 'timezone=UTC']
  const container = await new PostgreSqlContainer(image).withCommand(command).start()
  return {
    name: `a container of ${image}`,
    url: container.getConnectionUri(),
    stop: async () => {
      await container.stop()
    },
  }
}

async function startEmbedded(): Promise<TestPostgres> {
  const folder = await mkdtemp(join(tmpdir(), 'assist-identity-test-'))
  await chmod(folder, 0o755)
  const server = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), durable: false, log: console.error })
  return {
    name: 'embedded Postgres',
    url: server.url,
    stop: async () => {
      await server.stop()
      for (const path of [server.dataDir, folder]) await rm(path, { recursive: true, force: true })
    },
  }
}
