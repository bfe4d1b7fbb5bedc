import { AppError } from '../../errors.ts'
import { inStretches } from '../../turns.ts'

/** What an operation is, as far as it matters here. */
interface Referring {
  bulkId?: string
  /** Or why the operation is refused. */
  task: { id?: string; data: unknown } | AppError
}

/** What an operation refers to. */
interface Needs {
  /** Objects, arrays, strings, numbers and literals of its data. */
  values: number
  /** How many bulkIds in it stand for no id yet. */
  missing: number
  /** One of which no resource will be created. */
  unknown?: string
}

/** The places where operations refer to resources that the same request creates, as `bulkId:x` (RFC 7644 §3.7.2). */
export interface References {
  of: (operation: Referring) => Readonly<Needs>
  /** Writes the id of what was created into every place that refers to it. */
  resolve: (bulkId: string, id: string) => void
  /** What the bulkId names will not be created. */
  giveUp: (bulkId: string) => void
}

/** All references to one bulkId. */
interface Target {
  /** Whether an operation of this request has the bulkId. */
  isComing: boolean
  needs: Set<Needs>
  places: { holder: Record<string | number, unknown>; key: string | number }[]
}

const PREFIX = 'bulkId:'
const STEP_VALUES = 2_000

/** Finds the references once, in stretches and without recursion over what was sent. */
export async function findReferences(operations: readonly Referring[]): Promise<References> {
  const targets = new Map<string, Target>()
  const all = new Map<Referring, Needs>()
  for (const { bulkId } of operations) if (bulkId !== undefined) targets.set(bulkId, newTarget(true))
  for (const operation of operations) {
    const needs: Needs = { values: 0, missing: 0 }
    all.set(operation, needs)
    const { task } = operation
    if (!(task instanceof AppError)) await inStretches(findIn(task, needs, targets))
  }
  return {
    of: operation => all.get(operation) ?? { values: 0, missing: 0 },
    resolve(bulkId, id) {
      const target = targets.get(bulkId)
      if (target === undefined) return
      for (const { holder, key } of target.places) holder[key] = id
      for (const needs of target.needs) needs.missing -= 1
    },
    giveUp(bulkId) {
      for (const needs of targets.get(bulkId)?.needs ?? []) needs.unknown ??= bulkId
    },
  }
}

function newTarget(isComing: boolean): Target {
  return { isComing, needs: new Set(), places: [] }
}

function* findIn(
  task: { id?: string; data: unknown },
  needs: Needs,
  targets: Map<string, Target>,
): Generator<void, void> {
  const left: Target['places'][number]['holder'][] = []
  const see = (value: unknown, holder: Target['places'][number]['holder'], key: string | number) => {
    if (typeof value === 'string') {
      if (value.startsWith(PREFIX)) note(value.slice(PREFIX.length), { holder, key })
    } else if (typeof value === 'object' && value !== null) left.push(value as Record<string, unknown>)
  }
  const note = (bulkId: string, place: Target['places'][number]) => {
    const target = targets.get(bulkId) ?? newTarget(false)
    targets.set(bulkId, target)
    if (!target.isComing) needs.unknown ??= bulkId
    target.places.push(place)
    if (target.needs.has(needs)) return
    target.needs.add(needs)
    needs.missing += 1
  }
  const holder = task as unknown as Record<string, unknown>
  see(task.id, holder, 'id')
  see(task.data, holder, 'data')
  needs.values += 1
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const keys = Array.isArray(next) ? next.keys() : Object.keys(next)
    for (const key of keys) {
      see(next[key], next, key)
      needs.values += 1
      if (needs.values % STEP_VALUES === 0) yield
    }
  }
}
