"""How long somebody who tries keys has to wait, on the log-in page and at the API alike.

Ten different keys may be wrong; after that an address waits a second, then twice as long with each further one, up to
a quarter of an hour, and until then its keys are not looked at: a wait that a right key could jump would slow no
guesser. Two rules keep whoever guesses from locking others out. A key that was right from this address before goes on
counting, whatever else comes from there. And the same wrong key again is no guess: a forgotten client with an old key
makes nobody wait.

In memory, one for a process: a count that replicas share would be a write to the record for each wrong key, at its
sender's pleasure, and keys of any length need none (docs/scaling.md has the arithmetic). Pure but for what it holds.

At the log-in many addresses together have to wait as well, but never one from which a key was right.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

# Enough for whoever mistypes, or tries out what a wrong key is answered; keys of any length have no use for fewer.
FREE_FAILURES = 10
LONGEST_WAIT_SECONDS = 900.0
FORGET_AFTER_SECONDS = 3600.0
ALL_FAILURES, ALL_WINDOW_SECONDS = 60, 60.0
MOST_ADDRESSES = 10_000
# Wrong keys that are known again, of one address.
MOST_KEYS = 16


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0
    # Their hashes, which differ from process to process: no key is kept.
    keys: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_KEYS))


@dataclass(slots=True)
class Throttle:
    """Wrong keys, by address and all together. Times are seconds of any clock that only goes forward."""

    _by_address: OrderedDict[str, _Failures] = field(default_factory=OrderedDict)
    _all: deque[float] = field(default_factory=lambda: deque(maxlen=ALL_FAILURES))
    # Right keys are few: those of the settings.
    _known: OrderedDict[str, set[int]] = field(default_factory=OrderedDict)

    def wait_seconds(self, address: str | None, key: bytes, now: float) -> float:
        """How long this address has to wait before this key is looked at; 0: not at all."""
        name = _place(address)
        return 0.0 if hash(key) in self._known.get(name, ()) else self._wait_of(name, now)

    def wait_to_log_in(self, address: str | None, key: bytes, now: float) -> float:
        """The same at the log-in, where all addresses count together as well."""
        wait_of_all = 0.0 if _place(address) in self._known else self._wait_of_all(now)
        return max(self.wait_seconds(address, key, now), wait_of_all)

    def failed(self, address: str | None, key: bytes, now: float) -> bool:
        """A key was wrong; returns whether it is one more, and not one that was wrong from there before."""
        name = _place(address)
        before = self._by_address.pop(name, None)
        failures = before if before and now - before.last < FORGET_AFTER_SECONDS else _Failures()
        self._by_address[name] = failures
        if hash(key) in failures.keys:
            return False
        failures.keys.append(hash(key))
        failures.count, failures.last = failures.count + 1, now
        self._all.append(now)
        if len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        return True

    def succeeded(self, address: str | None, key: bytes) -> None:
        """A key was right. What was wrong from there stays counted: whoever has one key may be guessing another."""
        name = _place(address)
        self._known.setdefault(name, set()).add(hash(key))
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
