// `npm run bench`: measures the service and the floor in turns, step by step. Each has its own Postgres.
import { appendFile, chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { openConnection } from './connection.ts'
import { endpointOf, startServer, type Contender, type Tenant } from './contenders/contender.ts'
import { floor } from './contenders/floor.ts'
import { service } from './contenders/service.ts'
import { ask, idOf, type Measurement, type Session } from './measure.ts'
import { readOptions, usage, type Options } from './options.ts'
import { startBenchPostgres, type BenchPostgres } from './postgres.ts'
import { report } from './report.ts'
import { seededId, userOf } from './resources.ts'
import { cloneUser } from './seed.ts'
import { startProvider } from './provider.ts'
import { groups } from './workloads/groups.ts'
import { neighbours } from './workloads/neighbours.ts'
import { signIn } from './workloads/sign-in.ts'
import { sync } from './workloads/sync.ts'
import { create, cycle, get, idle, list, lookup, patch } from './workloads/users.ts'
import type { Workload } from './workloads/workload.ts'

/** In the order in which they run. Workloads that add users or memory come after those that they would affect. */
const workloads: Record<string, Workload> = {
  idle,
  get,
  lookup,
  list,
  patch,
  cycle,
  create,
  sync,
  'sign-in': signIn,
  groups,
  neighbours,
}

const neighbourUsers = 100

/** Indexes from here on belong to users that the run creates. */
const firstFreshIndex = 2_000_000

/** A contender with its Postgres and folder. */
interface Party {
  contender: Contender
  postgres: BenchPostgres
  folder: string
}

/** A database to copy for each round, with its tenants and users. */
interface Template {
  database: string
  tenants: [Tenant, Tenant]
  firstUserId: string
  neighbourIds: string[]
}

const options = readOptionsOrExit()
const cleanUp = new AsyncDisposableStack()
const interrupted = new Promise<never>((_resolve, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new Error(signal)))
})
try {
  const measurements = await Promise.race([bench(options), interrupted])
  console.log(`\n${report(measurements)}`)
  process.exitCode = measurements.some(each => each.fault !== undefined) ? 1 : 0
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  await cleanUp.disposeAsync()
}
process.exit()

async function bench({ users, rounds, contenders, json }: Options): Promise<Measurement[]> {
  if (process.platform !== 'linux') throw new Error('CPU time is read from /proc: run this on Linux.')
  const provider = await startProvider()
  cleanUp.defer(() => provider.stop())
  const parties: Party[] = []
  for (const contender of [floor, service].filter(each => contenders.includes(each.name))) {
    parties.push(await openParty(contender))
  }
  const measurements: Measurement[] = []
  for (const count of users) {
    const templates = new Map<Party, Template>()
    for (const party of parties) templates.set(party, await makeTemplate(party, count, provider.issuer))
    for (let round = 1; round <= rounds; round++) {
      console.log(`\n${count} users, round ${round} of ${rounds}`)
      const order = round % 2 === 1 ? parties : parties.toReversed()
      for await (const measurement of runRound(order, templates, round, count)) {
        measurements.push(measurement)
        console.log(describe(measurement))
        if (json !== undefined) await appendFile(json, `${JSON.stringify(measurement)}\n`)
      }
    }
    for (const [{ postgres }, { database }] of templates) await postgres.drop(database)
  }
  return measurements
}

async function openParty(contender: Contender): Promise<Party> {
  const folder = await mkdtemp(join(tmpdir(), `assist-identity-bench-`))
  // The embedded Postgres may run under another account, which needs access to its data.
  await chmod(folder, 0o755)
  cleanUp.defer(() => rm(folder, { recursive: true, force: true }))
  const postgres = await startBenchPostgres(folder)
  cleanUp.defer(() => postgres.stop())
  return { contender, postgres, folder }
}

/** Creates a database with two tenants. The first has `count` users, one created over HTTP and the rest cloned. */
async function makeTemplate({ contender, postgres, folder }: Party, count: number, issuer: string): Promise<Template> {
  const database = `template_${count}`
  const databaseUrl = postgres.urlOf(database)
  await postgres.create(database)
  await contender.prepare(databaseUrl)
  const server = await startServer(contender, { databaseUrl, folder })
  const tenants = await contender.makeTenants({ origin: server.origin, folder, issuer })
  const [firstUserId] = await createUsers(server.origin, tenants[0], 1)
  const neighbourIds = await createUsers(server.origin, tenants[1], neighbourUsers)
  await server.stop()

  const tables = contender.userTables
  await cloneUser({ postgres, database, tables, userId: firstUserId!, users: count })
  await postgres.run(database, contender.countUsers(count - 1))
  await postgres.run(database, 'VACUUM ANALYZE')
  await postgres.run(database, 'CHECKPOINT')
  return { database, tenants, firstUserId: firstUserId!, neighbourIds }
}

async function createUsers(origin: string, tenant: Tenant, count: number): Promise<string[]> {
  const connection = await openConnection(endpointOf(origin, tenant))
  const ids: string[] = []
  for (let index = 0; index < count; index++) {
    ids.push(idOf(await ask(connection, 'POST /Users', { expect: 201, body: JSON.stringify(userOf(index)) })))
  }
  connection.close()
  return ids
}

/** Runs all workloads once. The parties take turns at every step. */
async function* runRound(order: Party[], templates: Map<Party, Template>, round: number, count: number) {
  await using stack = new AsyncDisposableStack()
  const sessions: Session[] = []
  for (const party of order) sessions.push(await openSession(stack, party, templates.get(party)!, { round, count }))

  for (const workload of chosenWorkloads()) {
    let running = sessions.map(session => workload(session, options))
    while (running.length > 0) {
      const unfinished: typeof running = []
      for (const each of running) {
        const step = await each.next()
        if (step.done) continue
        yield step.value
        unfinished.push(each)
      }
      running = unfinished
    }
  }
}

async function openSession(
  stack: AsyncDisposableStack,
  { contender, postgres, folder }: Party,
  { database, tenants, firstUserId, neighbourIds }: Template,
  { round, count }: { round: number; count: number },
): Promise<Session> {
  const copy = `${database}_round_${round}`
  await postgres.create(copy, database)
  stack.defer(() => postgres.drop(copy))
  const profiled = options.profile !== undefined && contender.name === 'service'
  const nodeArgs = profiled ? ['--cpu-prof', `--cpu-prof-dir=${resolve(options.profile!)}`] : []
  const server = await startServer(contender, { databaseUrl: postgres.urlOf(copy), folder, nodeArgs })
  stack.defer(() => server.stop())

  let nextIndex = firstFreshIndex
  const { workspaceId } = tenants[1]
  return {
    contender: contender.name,
    round,
    users: count,
    endpoint: endpointOf(server.origin, tenants[0]),
    userId: index => (index === 0 ? firstUserId : seededId(index)),
    neighbour: { endpoint: endpointOf(server.origin, tenants[1]), userIds: neighbourIds },
    ...(workspaceId !== undefined && { signIn: { origin: server.origin, workspaceId } }),
    seconds: options.seconds,
    serverPid: server.pid,
    postgresPid: postgres.pid,
    nextIndex: () => nextIndex++,
    analyze: async () => void (await postgres.run(copy, 'ANALYZE')),
  }
}

function chosenWorkloads(): Workload[] {
  const names = options.workloads.length > 0 ? options.workloads : Object.keys(workloads)
  return Object.keys(workloads)
    .filter(name => names.includes(name))
    .map(name => workloads[name]!)
}

function describe(measurement: Measurement): string {
  const { contender, step, members, fault, requests, serverUs, postgresUs, p50Ms, rssMiB } = measurement
  const name = `${contender.padEnd(7)} ${members === undefined ? step : `${step} (${members})`}`.padEnd(60)
  if (fault !== undefined) return `${name} aborted: ${fault}`
  if (requests === 0) return `${name} ${rssMiB} MiB`
  const times = `${serverUs.toFixed(0)} + ${postgresUs.toFixed(0)} µs`.padStart(20)
  return `${name} ${String(requests).padStart(6)} × ${times}  p50 ${p50Ms.toFixed(2)} ms  ${rssMiB} MiB`
}

function readOptionsOrExit(): Options {
  try {
    const read = readOptions(process.argv.slice(2))
    const unknown = read.workloads.filter(name => !(name in workloads))
    if (unknown.length > 0) throw new Error(`--w: unknown workload ${unknown.join(', ')}.`)
    return read
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage.replace('WORKLOADS', Object.keys(workloads).join(', '))}`)
    process.exit(1)
  }
}
