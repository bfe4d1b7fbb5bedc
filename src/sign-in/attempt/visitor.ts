import ipaddr from 'ipaddr.js'

/**
 * A browser's address as Postgres' inet takes it: IPv4 in its own form, IPv6 without a zone.
 * @returns undefined for what a proxy passed on and is no address
 */
export function visitorAddress(ip: string): string | undefined {
  const address = ip.replace(/%.*$/, '')
  return ipaddr.isValid(address) ? ipaddr.process(address).toString() : undefined
}

/**
 * The network that counts as one visitor: an IPv4 address, or the /64 of an IPv6 one, since every host of a /64 has all of
 * its addresses. Whoever has no address is one visitor together.
 */
export function visitorNetwork(ip: string): string {
  const address = visitorAddress(ip) ?? '0.0.0.0'
  const parsed = ipaddr.parse(address)
  if (!(parsed instanceof ipaddr.IPv6)) return address
  return `${new ipaddr.IPv6(parsed.parts.map((part, index) => (index < 4 ? part : 0))).toString()}/64`
}
