// `npm run bench:neighbours -- [seconds]`: the latency of a quiet workspace while a noisy one runs expensive requests.
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { readConfig } from '../src/config.ts'
import { openDevelopmentIssuer } from '../src/development/development-issuer.ts'
import { endpointOf, startServer, type Contender } from './contenders/contender.ts'
import { service } from './contenders/service.ts'
import { startNoise, type Noise } from './neighbours/noise.ts'
import { noisesOf } from './neighbours/noises.ts'
import { measureQuiet, type QuietRequest, type QuietResult } from './neighbours/quiet.ts'
import { adminEndpoint, fillTenants, noisyUsers, openSession, quietUsers } from './neighbours/tenants.ts'
import { startBenchPostgres, type BenchPostgres } from './postgres.ts'
import { startProvider } from './provider.ts'
import { patchOf, seededId } from './resources.ts'
import { cpuMicroseconds } from './usage.ts'

const seconds = Number(process.argv[2] ?? 15)
const cleanUp = new AsyncDisposableStack()
try {
  await bench()
} finally {
  await cleanUp.disposeAsync()
}
process.exit()

async function bench(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'assist-identity-bench-'))
  await chmod(folder, 0o755)
  cleanUp.defer(() => rm(folder, { recursive: true, force: true }))
  const postgres = await startBenchPostgres(folder)
  cleanUp.defer(() => postgres.stop())
  const provider = await startProvider()
  cleanUp.defer(() => provider.stop())
  await postgres.create('bench')
  const server = await startServer(withDefaultLimits(service), { databaseUrl: postgres.urlOf('bench'), folder })
  cleanUp.defer(() => server.stop())
  const { origin } = server
  const tenants = await service.makeTenants({ origin, folder, issuer: provider.issuer })
  const [noisy, quiet] = tenants
  const issuer = await openDevelopmentIssuer(readConfig({}), join(folder, '.data'))
  const token = await issuer.sign({ sub: 'bench', scope: 'assist:workspaces' }, '1h')
  const mappingId = await fillTenants(postgres, origin, tenants, token)
  const quietRequests = quietRequestsOf(origin, endpointOf(origin, quiet), await openSession(origin, quiet))
  const userIds = Array.from({ length: noisyUsers - 1 }, (_, index) => seededId(index + 1))
  const admin = adminEndpoint(origin, noisy, token)
  const noises = noisesOf({ scim: endpointOf(origin, noisy), admin, mappingId, userIds })

  const measureStep = async (noise?: Noise) => {
    await waitForPostgres(postgres)
    const stop = noise && startNoise(noise)
    await delay(1000)
    const loop = monitorEventLoopDelay({ resolution: 1 })
    const before = [cpuMicroseconds(server.pid), cpuMicroseconds(postgres.pid)] as const
    const start = performance.now()
    loop.enable()
    const results = await measureQuiet(quietRequests, seconds)
    loop.disable()
    const elapsed = (performance.now() - start) * 1000
    const cores = (pid: number, from: number) => ((cpuMicroseconds(pid) - from) / elapsed).toFixed(2)
    const use = `${cores(server.pid, before[0])} + ${cores(postgres.pid, before[1])}`
    const statuses = [...((await stop?.()) ?? [])].map(([status, count]) => `${count} × ${status}`).join(', ')
    return { results, use, clientMs: (loop.percentile(99) / 1e6).toFixed(0), statuses }
  }

  await measureQuiet(quietRequests, 3)
  const idle = await measureStep()
  const names = idle.results.map(({ name }) => `${name}: p50, p99 ms (factor)`)
  printRow(['noisy workspace', ...names, 'cores: service + Postgres', 'responses to the noise'])
  printRow(['---', ...names.map(() => '---:'), '---:', '---'])
  printRow(['idle', ...idle.results.map(each => cell(each)), idle.use, ''])
  for (const noise of noises) {
    const { results, use, statuses, clientMs } = await measureStep(noise)
    const cells = results.map((each, index) => cell(each, idle.results[index]))
    printRow([noise.name, ...cells, use, statuses])
    if (Number(clientMs) > 10) console.error(`The load generator itself was delayed by ${clientMs} ms (p99).`)
  }
}

/** 100 requests a second in all; those of SCIM stay below the limit of a directory. */
function quietRequestsOf(origin: string, scim: QuietRequest['endpoint'], cookie: string): QuietRequest[] {
  let titles = 0
  return [
    {
      name: 'session check',
      perSecond: 60,
      endpoint: { baseUrl: origin },
      next: () => ({ line: 'GET /v1/session', options: { headers: { cookie } } }),
    },
    { name: 'SCIM GET', perSecond: 20, endpoint: scim, next: () => ({ line: `GET /Users/${pickUser()}` }) },
    {
      name: 'SCIM PATCH',
      perSecond: 20,
      endpoint: scim,
      next: () => ({
        line: `PATCH /Users/${pickUser()}`,
        options: { body: patchOf({ op: 'replace', path: 'title', value: `Title ${titles++}` }) },
      }),
    },
  ]
}

function pickUser(): string {
  return seededId(1 + Math.floor(Math.random() * (quietUsers - 1)))
}

/** The service with the limits that it has by default: they are part of what protects the quiet workspace. */
function withDefaultLimits(contender: Contender): Contender {
  return {
    ...contender,
    command: options => {
      const { environment = {}, ...command } = contender.command(options)
      const { SCIM_REQUESTS_PER_SECOND: _limit, ...rest } = environment
      return { ...command, environment: rest }
    },
  }
}

/** Waits until Postgres has finished the statements of the step before, at most 60 seconds. */
async function waitForPostgres(postgres: BenchPostgres): Promise<void> {
  const deadline = performance.now() + 60_000
  const count = `SELECT count(*)::int AS active FROM pg_stat_activity
    WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()`
  while (performance.now() < deadline) {
    if ((await postgres.run('postgres', count))[0]?.['active'] === 0) return
    await delay(200)
  }
}

function cell({ p50Ms, p99Ms, failed, requests }: QuietResult, idle?: QuietResult): string {
  const factor = idle ? ` (**${(p99Ms / idle.p99Ms).toFixed(1)}**)` : ''
  return `${p50Ms.toFixed(1)}, ${p99Ms.toFixed(1)}${factor}${failed > 0 ? `, ${failed} of ${requests} failed` : ''}`
}

function printRow(cells: string[]): void {
  console.log(`| ${cells.join(' | ')} |`)
}
