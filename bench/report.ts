import { costAims, growthAim, memoryAims, neighbourAim } from './aims.ts'
import type { ContenderName } from './contenders/contender.ts'
import type { Measurement } from './measure.ts'

/** Returns the results as Markdown: medians over the rounds, ratios to the floor, and their aims. */
export function report(measurements: Measurement[]): string {
  const sound = measurements.filter(each => each.fault === undefined)
  const sizes = [...new Set(sound.map(each => each.users))]
  const sections = [
    ...sizes.map(users => costTable(sound.filter(each => each.users === users && each.requests > 0))),
    growthTable(sound, sizes),
    neighbourTable(sound),
    memoryTable(sound),
    faultList(measurements),
  ]
  return sections.filter(section => section !== '').join('\n\n')
}

function costTable(measurements: Measurement[]): string {
  const first = measurements[0]
  if (!first) return ''
  const rows = [...Map.groupBy(measurements, stepKey).values()]
    .filter(steps => !isNeighbourStep(steps[0]!))
    .map(steps => {
      const floor = only(steps, 'floor')
      const service = only(steps, 'service')
      return [
        stepKey(steps[0]!),
        number(median(floor.map(cost))),
        number(median(service.map(cost))),
        `${number(median(service.map(each => each.serverUs)))} + ${number(median(service.map(each => each.postgresUs)))}`,
        judge(costRatio(floor, service), costAims[steps[0]!.step]),
        number(median(floor.map(each => each.p50Ms))),
        number(median(service.map(each => each.p50Ms))),
        number(median(service.map(each => each.p99Ms))),
        number(median(service.map(each => each.perSecond))),
        spread(service.map(cost)),
      ]
    })
  const head = [
    'step',
    'floor µs',
    'service µs',
    'Node + Postgres',
    'ratio',
    'floor p50 ms',
    'p50 ms',
    'p99 ms',
    'per second',
    'spread',
  ]
  return `${first.users} users: CPU µs per request, server and its Postgres\n\n${table(head, rows)}`
}

function growthTable(measurements: Measurement[], sizes: number[]): string {
  const [fewest, most] = [Math.min(...sizes), Math.max(...sizes)]
  if (sizes.length < 2) return ''
  const rows = [...Map.groupBy(measurements.filter(isUserStep), each => each.step).entries()].map(([step, steps]) => {
    const growth = (name: ContenderName) => {
      const costAt = (users: number) =>
        median(
          only(steps, name)
            .filter(each => each.users === users)
            .map(cost),
        )
      return costAt(most) / costAt(fewest)
    }
    return [step, number(growth('floor')), judge(growth('service'), growthAim)]
  })
  return `Growth: cost at ${most} users / cost at ${fewest}\n\n${table(['step', 'floor', 'service'], rows)}`
}

function neighbourTable(measurements: Measurement[]): string {
  const rows = [...Map.groupBy(measurements.filter(isNeighbourStep), stepKey).entries()].map(([key, steps]) => {
    const p99 = (name: ContenderName, step = steps[0]!.step) =>
      median(
        measurements
          .filter(each => each.contender === name && each.step === step && each.members === steps[0]!.members)
          .map(each => each.p99Ms),
      )
    const alone = p99('service', 'small get alone')
    return [key, number(p99('floor')), number(p99('service')), judge(p99('service') / alone, neighbourAim)]
  })
  if (rows.length === 0) return ''
  return `Other tenants\n\n${table(['step', 'floor p99 ms', 'service p99 ms', 'to alone'], rows)}`
}

function memoryTable(measurements: Measurement[]): string {
  const steps: [string, keyof typeof memoryAims, (each: Measurement) => boolean][] = [
    ['at start', 'idle', each => each.step === 'idle'],
    ['after all steps on users', 'users', isUserStep],
    ['after groups up to 50,000', 'groups', each => (each.members ?? 0) <= 50_000],
  ]
  const rows = steps.map(([title, aim, belongs]) => {
    const peak = (name: ContenderName) =>
      Math.max(...only(measurements.filter(belongs), name).map(each => (aim === 'idle' ? each.rssMiB : each.peakMiB)))
    return [title, number(peak('floor')), judge(peak('service'), memoryAims[aim])]
  })
  return `Memory: peak RSS in MiB\n\n${table(['', 'floor', 'service'], rows)}`
}

function faultList(measurements: Measurement[]): string {
  const faults = measurements.filter(each => each.fault !== undefined)
  if (faults.length === 0) return ''
  const lines = faults.map(each => `- ${each.contender}, ${each.users} users, ${stepKey(each)}: ${each.fault}`)
  return `Aborted\n\n${[...new Set(lines)].join('\n')}`
}

function isNeighbourStep({ step }: Measurement): boolean {
  return step.startsWith('small get')
}

/** Whether a step works on single users or lists of users. Steps on groups and neighbours have a size. */
function isUserStep({ members, requests, step }: Measurement): boolean {
  return members === undefined && requests > 0 && !step.startsWith('initial sync')
}

function stepKey({ step, members }: Measurement): string {
  return members === undefined ? step : `${step} (${members})`
}

function cost({ serverUs, postgresUs }: Measurement): number {
  return serverUs + postgresUs
}

/** Returns the median of the ratios per round, because a disturbance in a round affects both contenders. */
function costRatio(floor: Measurement[], service: Measurement[]): number {
  const ratios = service.flatMap(each => {
    const same = floor.find(other => other.round === each.round)
    return same ? [cost(each) / cost(same)] : []
  })
  return median(ratios)
}

function only(measurements: Measurement[], name: ContenderName): Measurement[] {
  return measurements.filter(each => each.contender === name)
}

function judge(value: number, aim: number | undefined): string {
  if (!Number.isFinite(value)) return '-'
  if (aim === undefined) return number(value)
  return value <= aim ? `${number(value)} (≤ ${aim})` : `**${number(value)}** (> ${aim})`
}

/** Returns half the distance between the fastest and slowest round, relative to the median. */
function spread(values: number[]): string {
  if (values.length < 2) return '-'
  return `± ${Math.round(((Math.max(...values) - Math.min(...values)) / 2 / median(values)) * 100)} %`
}

export function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function number(value: number): string {
  if (!Number.isFinite(value)) return '-'
  if (value >= 100) return value.toFixed(0)
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

function table(head: string[], rows: string[][]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map(row => row[column]!.length)))
  const line = (cells: string[]) =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join(' | ')} |`
  const rule = line(widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)))
  return [line(head), rule, ...rows.map(line)].join('\n')
}
