import { readdirSync, readFileSync } from 'node:fs'

export interface Memory {
  rssMiB: number
  /** Peak since the process started. */
  peakMiB: number
}

/**
 * Returns the CPU time in microseconds of a process and all its descendants, including ended ones. The scheduler counts
 * running processes in nanoseconds; the time of ended processes has a resolution of 10 ms.
 */
export function cpuMicroseconds(pid: number): number {
  const processes = readProcesses()
  const sum = (id: number): number => {
    const found = processes.get(id)
    if (!found) return 0
    return runMicroseconds(id) + found.reapedMicroseconds + found.children.reduce((total, each) => total + sum(each), 0)
  }
  return sum(pid)
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  const mebibytes = (name: string) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024)
  return { rssMiB: mebibytes('VmRSS'), peakMiB: mebibytes('VmHWM') }
}

interface ProcessUse {
  reapedMicroseconds: number
  children: number[]
}

function readProcesses(): Map<number, ProcessUse> {
  const parents = new Map<number, number>()
  const processes = new Map<number, ProcessUse>()
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? readIfAlive(`/proc/${name}/stat`) : undefined
    if (stat === undefined) continue
    // Fields after the command, because the command may contain spaces. See proc_pid_stat(5).
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number)
    parents.set(Number(name), fields[1]!)
    processes.set(Number(name), { reapedMicroseconds: (fields[13]! + fields[14]!) * 10_000, children: [] })
  }
  for (const [pid, parent] of parents) processes.get(parent)?.children.push(pid)
  return processes
}

function runMicroseconds(pid: number): number {
  let nanoseconds = 0
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      nanoseconds += Number.parseInt(readIfAlive(`/proc/${pid}/task/${thread}/schedstat`) ?? '0', 10)
    }
  } catch {
    // The process has ended; its parent accounts for its time.
  }
  return nanoseconds / 1000
}

function readIfAlive(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}
