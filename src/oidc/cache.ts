export interface CacheOptions {
  /** How long a value is used without asking again. */
  freshMs: number
  /** How long a value is used while asking again fails. */
  staleMs: number
  /** How long a failure is remembered: callers then fail at once instead of waiting in their turn. */
  failureMs: number
  /** The least time between two loads by `replace`. */
  floorMs?: number
  /** How many values are kept; the one that was loaded longest ago goes first. */
  limit: number
  now: () => number
}

export interface Cache<Value> {
  /** The value of the key, loaded where there is no fresh one. Concurrent callers share one load. */
  get: (key: string, load: () => Promise<Value>) => Promise<Loaded<Value>>
  /** Loads the value now, whatever is known; a failure leaves the old value in place and is thrown. */
  reload: (key: string, load: () => Promise<Value>) => Promise<Loaded<Value>>
  /**
   * A value other than `known`, which has turned out to be out of date: one that somebody else has loaded meanwhile, or
   * a new one, but only every `floorMs`; undefined in between, so that bad questions do not become a flood of loads.
   */
  replace: (key: string, known: Loaded<Value>, load: () => Promise<Value>) => Promise<Loaded<Value> | undefined>
  forget: (key: string) => void
}

export interface Loaded<Value> {
  value: Value
  /** When it was loaded, by `now`. */
  loadedAt: number
}

interface Failure {
  error: unknown
  failedAt: number
}

/** A bounded memory of what providers publish, for one replica: single flight, stale on failure, failures remembered. */
export function createCache<Value>(options: CacheOptions): Cache<Value> {
  const { freshMs, staleMs, failureMs, floorMs = 0, limit, now } = options
  const values = new Map<string, Loaded<Value>>()
  const failures = new Map<string, Failure>()
  const replacedAt = new Map<string, number>()
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
      remember(values, key, loaded, limit)
      return loaded
    } catch (error) {
      remember(failures, key, { error, failedAt: now() }, limit)
      throw error
    }
  }

  async function get(key: string, load: () => Promise<Value>): Promise<Loaded<Value>> {
    const known = values.get(key)
    if (known && now() - known.loadedAt < freshMs) return known
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
    remember(replacedAt, key, now(), limit)
    return reload(key, load)
  }

  return {
    get,
    replace,
    reload,
    forget: key => {
      values.delete(key)
      failures.delete(key)
    },
  }
}

function remember<Entry>(entries: Map<string, Entry>, key: string, entry: Entry, limit: number): void {
  entries.delete(key)
  entries.set(key, entry)
  const [oldest] = entries.keys()
  if (entries.size > limit && oldest !== undefined) entries.delete(oldest)
}
