import { LRUCache } from 'lru-cache'

export interface CacheOptions<Value> {
  /** How long a value is used without loading it again, in milliseconds. */
  freshMs: number
  /** How long a value is used while loading it again fails, in milliseconds. */
  staleMs: number
  /** How long a failure is remembered, in milliseconds, so that callers fail at once instead of waiting one by one. */
  failureMs: number
  /** The least time between two loads by `replace`, in milliseconds. */
  floorMs?: number
  /** How much memory all values may occupy; the least recently used goes first. */
  maxBytes: number
  /** How many failures are remembered. */
  maxFailures: number
  sizeOf: (value: Value) => number
  /** Milliseconds of a clock that never steps back. */
  now: () => number
}

export interface Cache<Value> {
  /** The value of the key, loaded when it is not fresh. Concurrent callers share one load. */
  get: (key: string, load: () => Promise<Value>) => Promise<Loaded<Value>>
  /**
   * A value other than `known`, which has turned out to be out of date: one that was loaded in the meantime, or a new one, but
   * only every `floorMs`. Undefined in between, so that invalid tokens do not become a flood of loads.
   */
  replace: (key: string, known: Loaded<Value>, load: () => Promise<Value>) => Promise<Loaded<Value> | undefined>
  /** Stores a value that was loaded elsewhere, but only for a key that is cached: values that are only tested take no room. */
  refresh: (key: string, value: Value) => void
  /** The next `get` loads the value again. The old value stays available while loading fails, because tenants share it. */
  markStale: (key: string) => void
  /** Bytes of all values, by `sizeOf`. */
  size: () => number
}

export interface Loaded<Value> {
  value: Value
  /** When it was loaded, by `now`. */
  loadedAt: number
  isMarkedStale?: boolean
}

interface Failure {
  error: unknown
  failedAt: number
}

/** What providers publish, kept by one replica and bounded by bytes: single flight, stale on failure, failures remembered. */
export function createCache<Value>(options: CacheOptions<Value>): Cache<Value> {
  const { freshMs, staleMs, failureMs, floorMs = 0, maxBytes, maxFailures, sizeOf, now } = options
  const values = new LRUCache<string, Loaded<Value>>({
    maxSize: maxBytes,
    sizeCalculation: ({ value }, key) => sizeOf(value) + key.length,
  })
  const failures = new LRUCache<string, Failure>({ max: maxFailures })
  const replacedAt = new LRUCache<string, number>({ max: maxFailures })
  const loads = new Map<string, Promise<Loaded<Value>>>()

  function reload(key: string, load: () => Promise<Value>): Promise<Loaded<Value>> {
    const running = loads.get(key)
    if (running) return running
    const started = settle(key, load).finally(() => loads.delete(key))
    loads.set(key, started)
    return started
  }

  async function settle(key: string, load: () => Promise<Value>): Promise<Loaded<Value>> {
    try {
      const loaded = { value: await load(), loadedAt: now() }
      failures.delete(key)
      values.set(key, loaded)
      return loaded
    } catch (error) {
      failures.set(key, { error, failedAt: now() })
      throw error
    }
  }

  async function get(key: string, load: () => Promise<Value>): Promise<Loaded<Value>> {
    const known = values.get(key)
    if (known && !known.isMarkedStale && now() - known.loadedAt < freshMs) return known
    try {
      const failure = failures.get(key)
      if (failure && now() - failure.failedAt < failureMs) throw failure.error
      return await reload(key, load)
    } catch (error) {
      if (known && now() - known.loadedAt < staleMs) return known
      throw error
    }
  }

  async function replace(key: string, known: Loaded<Value>, load: () => Promise<Value>) {
    const running = loads.get(key)
    if (running) return running
    const current = values.get(key)
    if (current && current !== known) return current
    if (now() - (replacedAt.get(key) ?? -Infinity) < floorMs) return undefined
    replacedAt.set(key, now())
    return reload(key, load)
  }

  return {
    get,
    replace,
    refresh: (key, value) => {
      if (!values.has(key)) return
      failures.delete(key)
      values.set(key, { value, loadedAt: now() })
    },
    markStale: key => {
      const known = values.get(key)
      if (known) values.set(key, { ...known, isMarkedStale: true })
    },
    size: () => values.calculatedSize,
  }
}
