import ipaddr from 'ipaddr.js'

type Network = ReturnType<typeof ipaddr.parseCIDR>

/** Says whether an IP address may be connected to. Anything that does not parse may not. */
export type AddressRule = (address: string) => boolean

/** 2000::/3, the only block from which global unicast is handed out (IANA IPv6 Address Space registry). */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3')

/** Inside 2000::/3 and yet not public: IETF protocol assignments with Teredo, 6to4, documentation (RFC 6890, 9637). */
const exceptions = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'].map(text => ipaddr.IPv6.parseCIDR(text))

/**
 * Whether an address is global unicast. For IPv4 the registry of special-purpose addresses is a list of exceptions
 * (RFC 6890); for IPv6 one block is public and everything else is not, which also covers the many ways to write an
 * IPv4 address in IPv6 (mapped, compatible, NAT64, 6to4, Teredo).
 */
export const isPublicAddress: AddressRule = address => {
  if (!ipaddr.isValid(address)) return false
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast') return false
  if (parsed instanceof ipaddr.IPv4) return true
  return parsed.match(globalUnicast) && !exceptions.some(network => parsed.match(network))
}

/**
 * Whether an address lies in one of the networks.
 * @param networks in CIDR notation
 * @throws {Error} for a network that does not parse
 */
export function addressesIn(networks: readonly string[]): AddressRule {
  const parsedNetworks = networks.map(text => ipaddr.parseCIDR(text))
  return address => ipaddr.isValid(address) && parsedNetworks.some(network => contains(network, address))
}

function contains(network: Network, address: string): boolean {
  const parsed = ipaddr.parse(address)
  return parsed.kind() === network[0].kind() && parsed.match(network)
}
