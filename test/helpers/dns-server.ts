import { createSocket } from 'node:dgram'

export interface DnsServer {
  /** Value for DNS_SERVERS. */
  address: string
  /** TXT records by name. A name without records does not exist. */
  records: Map<string, string[]>
  /** Names for which the server responds SERVFAIL, as if its upstream were down. */
  failing: Set<string>
  /** All queried names, in order. */
  queries: string[]
}

/** Starts a DNS server on loopback that supports only TXT records (RFC 1035). */
export async function startDnsServer(t: { teardown: (done: () => unknown) => void }): Promise<DnsServer> {
  const socket = createSocket('udp4')
  await new Promise<void>(bound => void socket.bind(0, '127.0.0.1', bound))
  t.teardown(async () => new Promise<void>(closed => void socket.close(closed)))
  const server: DnsServer = {
    address: `127.0.0.1:${socket.address().port}`,
    records: new Map(),
    failing: new Set(),
    queries: [],
  }
  socket.on('message', (query, { address, port }) => socket.send(answer(query, server), port, address))
  return server
}

const codes = { noError: 0, serverFailure: 2, nameError: 3 }

function answer(query: Buffer, { records, failing, queries }: DnsServer): Buffer {
  const { name, end } = readName(query)
  queries.push(name)
  const texts = records.get(name) ?? []
  const code = failing.has(name) ? codes.serverFailure : texts.length > 0 ? codes.noError : codes.nameError
  const header = Buffer.alloc(12)
  query.copy(header, 0, 0, 2)
  // Flags: response, recursion desired, recursion available.
  header.writeUInt16BE(0x8180 | code, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(code === codes.noError ? texts.length : 0, 6)
  const question = query.subarray(12, end + 4)
  return Buffer.concat([header, question, ...(code === codes.noError ? texts.map(txtRecord) : [])])
}

function readName(query: Buffer): { name: string; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString('ascii', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), end: at + 1 }
}

/** Encodes a TXT record for the name of the question, in strings of at most 255 bytes. */
function txtRecord(text: string): Buffer {
  const bytes = Buffer.from(text)
  const strings: Buffer[] = []
  for (let at = 0; at < bytes.length; at += 255) {
    const part = bytes.subarray(at, at + 255)
    strings.push(Buffer.from([part.length]), part)
  }
  const data = Buffer.concat(strings)
  const header = Buffer.alloc(12)
  header.writeUInt16BE(0xc00c, 0)
  header.writeUInt16BE(16, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt32BE(0, 6)
  header.writeUInt16BE(data.length, 10)
  return Buffer.concat([header, data])
}
