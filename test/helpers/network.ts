import type { OutboundOptions, SocketTarget } from '../../src/oidc/outbound-fetch.ts'
import { openSocketTo } from '../../src/oidc/outbound-fetch.ts'

/**
 * A simulated internet for tests: host names with addresses, and servers at addresses, all on loopback. The client under test
 * checks the simulated addresses. An allowed connection goes to the loopback port of the address. 203.0.113.0/24 (RFC 5737)
 * represents public addresses and is allowed by OUTBOUND_ALLOWED_NETWORKS.
 */
export interface TestNetwork {
  /** For createOutboundFetch, or for the app under test. Spread it to change a setting. */
  outbound: OutboundOptions
  /** Sets the addresses of a name. With several lists each look-up uses the next one; the last one stays. */
  setAddresses: (host: string, ...answers: string[][]) => void
  /** Returns an unused simulated public address. */
  newAddress: () => string
  serve: (address: string, server: { port: number; ca?: string }) => void
  /** All opened connections, in order. */
  connections: SocketTarget[]
  /** All resolved names, in order. */
  lookups: string[]
}

export function makeNetwork(): TestNetwork {
  const names = new Map<string, string[][]>()
  const servers = new Map<string, { port: number; ca?: string }>()
  const connections: SocketTarget[] = []
  const lookups: string[] = []
  let lastAddress = 9
  return {
    connections,
    lookups,
    setAddresses: (host, ...answers) => void names.set(host, answers),
    newAddress: () => `203.0.113.${++lastAddress}`,
    serve: (address, server) => void servers.set(address, server),
    outbound: {
      allowedNetworks: ['203.0.113.0/24'],
      allowedPorts: [443],
      allowHttp: false,
      resolve: async host => {
        lookups.push(host)
        const answers = names.get(host)
        const [addresses] = answers ?? []
        if (answers && answers.length > 1) answers.shift()
        if (!addresses) throw Object.assign(new Error(`No address for ${host}`), { code: 'ENOTFOUND' })
        return addresses
      },
      openSocket: async target => {
        connections.push(target)
        const server = servers.get(target.addresses[0]!)
        if (!server) throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' })
        return openSocketTo({ ...target, ...server, addresses: ['127.0.0.1'] })
      },
    },
  }
}
