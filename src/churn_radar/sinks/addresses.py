"""Which addresses an outgoing webhook may reach, and by which address it does.

A receiver's name is written by people and resolved by foreign name servers: it may come to mean a machine of the
operator's own (a cloud's metadata service, a database). So the name is resolved here, what it resolves to is looked at,
and the connection is made to that very address: a name that answers otherwise a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

# Translation by a gateway (RFC 6052, RFC 7915), and IPv4 in IPv6 as it once was (RFC 4291, 2.5.5.1): the last four
# bytes are an IPv4 address.
_HOLDING_IPV4 = tuple(IPv6Network(each) for each in ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96"))
# Not public, though Python takes them for it: site-local (RFC 3879), translation inside of one network (RFC 8215),
# segment routing (RFC 9602), documentation (RFC 9637), and the address of Azure's own services in every machine there.
_NOT_PUBLIC = tuple(
    ip_network(each) for each in ("fec0::/10", "64:ff9b:1::/48", "5f00::/16", "3fff::/20", "168.63.129.16/32")
)


def may_reach(address: Address, allowed: Iterable[str] = ()) -> bool:
    """Whether an address is a public one, or in a network that the operator allows.

    Addresses that stand for an IPv4 one (mapped, compatible, 6to4, Teredo, NAT64) count as that.
    """
    meant = _meant(address)
    networks = [ip_network(each) for each in allowed]
    if any(each in network for network in networks for each in (address, meant) if each.version == network.version):
        return True
    if any(meant in network for network in _NOT_PUBLIC if meant.version == network.version):
        return False
    return meant.is_global and not meant.is_multicast


def _meant(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if any(address in network for network in _HOLDING_IPV4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


async def resolve(host: str, port: int) -> list[Address]:
    """What a host's name means now, each address once. Raises OSError when it means nothing."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(each[4][0]).partition("%")[0]) for each in found))


def reachable(addresses: Sequence[Address], allowed: Sequence[str]) -> list[Address]:
    """Those that may be reached, in order."""
    return [address for address in addresses if may_reach(address, allowed)]
