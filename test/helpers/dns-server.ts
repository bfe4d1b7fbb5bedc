import { createSocket } from 'node:dgram'

export interface DnsServer {
  /** For DNS_SERVERS. */
  address: string
  /** The TXT records of names; a name without any does not exist. */
  records: Map<string, string[]>
  /** Names for which the server fails (SERVFAIL), as one does whose upstream is away. */
  failing: Set<string>
  /** Every name that was asked for, in order. */
  queries: string[]
}

/** A DNS server on loopback that knows TXT records and nothing else (RFC 1035). */
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
  // A response, recursion desired and available.
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

/** A record for the name of the question, its text in strings of 255 bytes at most. */
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
