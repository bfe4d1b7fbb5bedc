import { Resolver } from 'node:dns/promises'

/** The TXT records of a name, each joined to one text; none where DNS says so. Rejects where DNS has no answer. */
export type ResolveTxt = (name: string) => Promise<string[]>

export interface TxtResolverOptions {
  /** IP addresses, with a port where it is not 53; empty: the servers that the system uses. */
  dnsServers: readonly string[]
  timeoutMs?: number
}

/**
 * Asks the operator's DNS servers, never an address that a workspace chose. With servers of their own the operator decides
 * whose word a proof of a domain rests on: a resolver that validates DNSSEC, or one outside of a split horizon.
 */
export function createTxtResolver({ dnsServers, timeoutMs = 3_000 }: TxtResolverOptions): ResolveTxt {
  const resolver = new Resolver({ timeout: timeoutMs, tries: 2 })
  if (dnsServers.length > 0) resolver.setServers(dnsServers)
  return async name => {
    try {
      const records = await resolver.resolveTxt(name)
      return records.map(parts => parts.join(''))
    } catch (error) {
      if (['ENODATA', 'ENOTFOUND'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
      throw error
    }
  }
}
