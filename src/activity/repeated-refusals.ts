/**
 * Keeps strangers from filling the activity log: of refusals with the same key, the first is recorded at once and the others of the
 * next ten minutes as one entry with their number. Kept by each replica for itself.
 */
export interface RepeatedRefusals {
  /**
   * Whether a refusal is the first of its window. Otherwise it is counted, and `recordCount` is called at the end of the window.
   * @param key workspace, network and reason
   */
  isFirst: (key: string, recordCount: (count: number) => Promise<unknown>) => boolean
  /** Records the counts of all open windows, before the process ends. */
  flush: () => Promise<void>
}

interface Window {
  count: number
  record: (count: number) => Promise<unknown>
  timer: NodeJS.Timeout
}

export interface RepeatedRefusalOptions {
  onError: (error: unknown) => void
  /** 0: each refusal is recorded. */
  windowMs?: number
  /** Windows at a time; the oldest ends early when there would be more. */
  maxKeys?: number
}

export function createRepeatedRefusals(options: RepeatedRefusalOptions): RepeatedRefusals {
  const { onError, windowMs = 600_000, maxKeys = 10_000 } = options
  const windows = new Map<string, Window>()

  async function end(key: string): Promise<void> {
    const window = windows.get(key)
    if (window === undefined) return
    windows.delete(key)
    clearTimeout(window.timer)
    if (window.count > 0) await window.record(window.count).catch(onError)
  }

  return {
    isFirst(key, recordCount) {
      if (windowMs === 0) return true
      const open = windows.get(key)
      if (open !== undefined) {
        open.count++
        open.record = recordCount
        return false
      }
      const timer = setTimeout(() => void end(key), windowMs).unref()
      windows.set(key, { count: 0, record: recordCount, timer })
      const [oldest] = windows.keys()
      if (windows.size > maxKeys && oldest !== undefined) void end(oldest)
      return true
    },
    flush: async () => {
      await Promise.all([...windows.keys()].map(end))
    },
  }
}
