"""How long somebody who tries keys has to wait. In memory: one for a process. Pure but for what it remembers.

Three keys may be wrong; after that an address waits a second, then twice as long with each further one, up to a quarter
of an hour. Many addresses together have to wait as well, but never one from which somebody has logged in lately.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

FREE_FAILURES = 3
LONGEST_WAIT_SECONDS = 900.0
FORGET_AFTER_SECONDS = 3600.0
ALL_FAILURES, ALL_WINDOW_SECONDS = 60, 60.0
MOST_ADDRESSES = 10_000


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


@dataclass(slots=True)
class Throttle:
    """Failed log-ins, by address and all together. Times are seconds of any clock that only goes forward."""

    _by_address: OrderedDict[str, _Failures] = field(default_factory=OrderedDict)
    _all: deque[float] = field(default_factory=lambda: deque(maxlen=ALL_FAILURES))
    _known: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def wait_seconds(self, address: str | None, now: float) -> float:
        """How long this address has to wait before its next attempt; 0: not at all."""
        name = _place(address)
        return max(self._wait_of(name, now), 0.0 if name in self._known else self._wait_of_all(now))

    def failed(self, address: str | None, now: float) -> None:
        """A key was wrong."""
        name = _place(address)
        before = self._by_address.pop(name, None)
        count = before.count if before and now - before.last < FORGET_AFTER_SECONDS else 0
        self._by_address[name] = _Failures(count + 1, now)
        self._all.append(now)
        if len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)

    def succeeded(self, address: str | None) -> None:
        """A key was right."""
        name = _place(address)
        self._by_address.pop(name, None)
        self._known[name] = None
        self._known.move_to_end(name)
        if len(self._known) > MOST_ADDRESSES:
            self._known.popitem(last=False)

    def _wait_of(self, name: str, now: float) -> float:
        failures = self._by_address.get(name)
        if failures is None or failures.count < FREE_FAILURES:
            return 0.0
        # The exponent is bounded, since the number of attempts is not.
        penalty = min(2.0 ** min(failures.count - FREE_FAILURES, 20), LONGEST_WAIT_SECONDS)
        return max(0.0, failures.last + penalty - now)

    def _wait_of_all(self, now: float) -> float:
        if len(self._all) < ALL_FAILURES:
            return 0.0
        return max(0.0, self._all[0] + ALL_WINDOW_SECONDS - now)


def _place(address: str | None) -> str:
    """Whose address it is: of IPv6 the network, since one machine has as many addresses as it likes."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return "nowhere"
    return str(parsed) if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))
