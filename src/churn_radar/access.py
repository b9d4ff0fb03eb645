"""Who may do what: readers look, operators change. Pure.

A person is known by an API key, or by the user name that a trusted proxy passes on. Keys never leave this module; what
is shown of one is its fingerprint, the first eight hex digits of its SHA-256 (`printf %s KEY | sha256sum`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

LONGEST_USER_NAME = 200


class Role(StrEnum):
    """What somebody may do."""

    READER = "reader"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody, as the audit trail names them."""

    name: str
    role: Role

    @property
    def is_operator(self) -> bool:
        """Whether they may change things."""
        return self.role is Role.OPERATOR


# Without keys, which only development allows and only on loopback.
ANYONE = Who("anyone on this machine", Role.OPERATOR)


def fingerprint(key: bytes) -> str:
    """How a key is named where people read."""
    return hashlib.sha256(key).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Key:
    """An API key and whose it is."""

    value: bytes = field(repr=False)
    who: Who

    @classmethod
    def of(cls, value: bytes, role: Role) -> Key:
        """The key, its holder named by its fingerprint."""
        return cls(value, Who(f"key {fingerprint(value)}", role))


@dataclass(frozen=True, slots=True)
class Keys:
    """Every API key of the settings."""

    all: tuple[Key, ...]

    @classmethod
    def of(cls, operators: Sequence[str], readers: Sequence[str]) -> Keys:
        """The keys by what their holders may do."""
        return cls(
            (
                *(Key.of(key.encode(), Role.OPERATOR) for key in operators),
                *(Key.of(key.encode(), Role.READER) for key in readers),
            )
        )

    def find(self, given: Iterable[bytes]) -> Key | None:
        """The key that was given, if it is one of ours; the time taken does not tell which, or how nearly."""
        found: Key | None = None
        for one in given:
            for key in self.all:
                if hmac.compare_digest(key.value, one) and (found is None or not found.who.is_operator):
                    found = key
        return found


@dataclass(frozen=True, slots=True)
class Proxy:
    """The reverse proxy whose word is taken: where it sits, and the header in which it names the user."""

    addresses: tuple[Network, ...] = ()
    user_header: str | None = None
    operators: frozenset[str] = frozenset()

    def is_trusted(self, peer: str | None) -> bool:
        """Whether a connection from this address is the proxy's."""
        return peer is not None and is_within(peer, self.addresses)

    def user(self, peer: str | None, given: Sequence[str]) -> Who | None:
        """Whom the proxy names. None when it is not the proxy who says so, or when it names nobody, or several."""
        if self.user_header is None or len(given) != 1 or not self.is_trusted(peer):
            return None
        name = _as_text(given[0]).strip()
        if not name or len(name) > LONGEST_USER_NAME or not name.isprintable():
            return None
        return Who(f"user {name}", Role.OPERATOR if name in self.operators else Role.READER)

    def prefix(self, peer: str | None, given: Sequence[str]) -> str | None:
        """The path below which the proxy serves the pages, when it is the proxy who says so (X-Forwarded-Prefix)."""
        if len(given) != 1 or not self.is_trusted(peer):
            return None
        prefix = given[0].strip().rstrip("/")
        return prefix if is_prefix(prefix) else None

    def client(self, peer: str | None, forwarded_for: Sequence[str]) -> str | None:
        """The address of whoever asks: the last one in X-Forwarded-For that is not the proxy's own."""
        if not self.is_trusted(peer):
            return peer
        for hop in reversed([part.strip() for line in forwarded_for for part in line.split(",")]):
            if not self.is_trusted(hop):
                return hop if _address(hop) is not None else peer
        return peer


def _as_text(header: str) -> str:
    """A header as its sender meant it: it comes as Latin-1, and most proxies write UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def is_prefix(path: str) -> bool:
    """Whether this is a path below which the pages can be: `/churn`, or nothing."""
    return re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path) is not None and "/." not in path


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether an address is in one of these networks; an IPv4 address inside of an IPv6 one counts as itself."""
    parsed = _address(address)
    return parsed is not None and any(parsed in network for network in networks if network.version == parsed.version)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed
