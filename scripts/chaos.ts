// `npm run chaos [-- --minutes N --seed S]`: replicas and two Postgres servers under faults, writers that note every
// acknowledgement, and checks afterwards that each acknowledged write exists once. See docs/reliability.md.
import { rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { findDifferences } from './chaos/checks.ts'
import { createClient, type Client } from './chaos/client.ts'
import { createFacts, type Facts } from './chaos/facts.ts'
import { faults, type Target } from './chaos/faults.ts'
import { createRandom } from './chaos/random.ts'
import {
  readActivity,
  signIn,
  writeGroups,
  writeScimGroups,
  writeUsers,
  type Step,
  type Workspace,
} from './chaos/workload.ts'
import { startWorld } from './chaos/world.ts'

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '2' }, seed: { type: 'string' }, only: { type: 'string' } },
})
const minutes = Number(values.minutes)
const seed = Number(values.seed ?? Date.now() % 1_000_000)
const chosenFaults = Object.keys(faults).filter(name => values.only === undefined || name === values.only)
if (!(minutes > 0 && minutes <= 120) || !Number.isInteger(seed) || chosenFaults.length === 0) {
  console.error('Use --minutes from 0.1 to 120, --seed with a whole number, and --only with the name of a fault.')
  process.exit(1)
}

/** What goes on at the same time, under the names of the writers. */
const loops: Record<string, Step> = {
  idp1: writeUsers,
  idp2: writeUsers,
  idp3: writeUsers,
  groups: writeScimGroups,
  admin: writeGroups,
  browser1: signIn,
  browser2: signIn,
  reader: readActivity,
}

process.exitCode = await main()

async function main(): Promise<number> {
  console.log(`npm run chaos -- --minutes ${minutes} --seed ${seed}`)
  const client = createClient()
  const facts = createFacts()
  const { target, workspace, folder, close } = await startWorld(client, seed)
  try {
    const done = await runUnderFaults({ client, facts, workspace, target })
    await target.replicas.waitUntilReady()
    const found = await findDifferences({ client, facts, workspace }, target.primary.url)
    report({ client, facts, done, found })
    const failures = [...client.violations, ...found]
    if (failures.length > 0) {
      console.log(`The logs are in ${folder}`)
      return 1
    }
    await rm(folder, { recursive: true, force: true })
    return 0
  } finally {
    await close()
  }
}

interface Run {
  client: Client
  facts: Facts
  workspace: Workspace
  target: Target
}

/** Returns how often each fault was made. */
async function runUnderFaults({ client, facts, workspace, target }: Run): Promise<Map<string, number>> {
  const deadline = Date.now() + minutes * 60_000
  const isOver = () => Date.now() > deadline
  const running = Object.entries(loops).map(async ([writer, step], index) => {
    const random = createRandom(seed + index + 1)
    while (!isOver()) {
      await step({ client, facts, workspace, random, writer })
      // Enough of a pause that two cores have time left for the service.
      await delay(20 + random.below(60))
    }
  })
  const done = new Map<string, number>()
  // Every fault once, in an order of the seed, before any comes again.
  let left: string[] = []
  while (!isOver()) {
    if (left.length === 0) left = shuffled(chosenFaults, target)
    const name = left.pop()!
    await faults[name]!(target)
    done.set(name, (done.get(name) ?? 0) + 1)
    await delay(1_000 + target.random.below(3_000))
  }
  await Promise.all(running)
  return done
}

function shuffled(list: string[], { random }: Target): string[] {
  return list
    .map(item => ({ item, order: random.below(1_000_000) }))
    .toSorted((a, b) => a.order - b.order)
    .map(({ item }) => item)
}

function report({
  client,
  facts,
  done,
  found,
}: {
  client: Client
  facts: Facts
  done: Map<string, number>
  found: string[]
}): void {
  console.log(`Faults: ${listCounts(done)}`)
  console.log(`Replies by status: ${listCounts(client.counts)}`)
  console.log(
    `Acknowledged writes: ${facts.acknowledged}; users ${facts.users.length}, SCIM groups ${facts.scimGroups.length}, ` +
      `groups ${facts.groups.length}, sessions ${facts.sessions.length}, activity entries read ${facts.entries.size}`,
  )
  print('Wrong replies', client.violations)
  print('Differences afterwards', found)
}

function listCounts(counts: Map<string, number>): string {
  const names = [...counts.keys()].toSorted((a, b) => a.localeCompare(b))
  return names.map(name => `${name} ${counts.get(name)}`).join(', ')
}

/** Equal ones once, and at most twenty. */
function print(title: string, lines: string[]): void {
  const counts = Map.groupBy(lines, line => line.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID'))
  console.log(`${title}: ${lines.length}`)
  for (const [line, equal] of [...counts].slice(0, 20)) console.log(`  ${equal.length} × ${line}`)
}
