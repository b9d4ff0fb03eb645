"""What only the operator can mend, and the one call now and then that finds out whether it is mended.

Mavera documents 401 and 402 as not worth a retry, Customer.io's 401 is of the same kind. So while a trouble stands,
all work for that service waits and loses no attempt. One call at growing intervals is let through; the first that
succeeds ends the trouble, and what waited goes on at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

log = structlog.get_logger(__name__)

# The last one is the cap. A probe of a wrong key costs nothing; half an hour is what a person who has mended it
# somewhere else, and does not know of `replay`, has to wait at most.
PROBE_DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 30))
# However often somebody replays: each time lets one call through, which fails for all that we know.
HAND_PROBE_DELAY = timedelta(seconds=10)
# And however often replicas start: one that crashes and starts again has mended nothing.
START_PROBE_DELAY = timedelta(minutes=1)

WAITS = "waits for the operator: "


@dataclass(frozen=True, slots=True)
class Trouble:
    """A service that refuses to work until a person acts.

    `status` is what it answered, `probes` how many calls since then have found nothing mended.
    """

    service: str
    message: str
    since: datetime
    next_probe_at: datetime
    status: int | None = None
    probes: int = 0
    under_way: bool = False

    @property
    def reason(self) -> str:
        """What a signal that waits for its end tells of itself."""
        return f"{WAITS}{self.message}"


class Troubles:
    """The troubles that stand, by upstream service. One for a process; `on_recovered` hears of each that ends.

    This process's own; `shared_troubles` are those of several replicas.
    """

    def __init__(self, delays: Sequence[timedelta] | None = None) -> None:
        self._delays = tuple(delays or PROBE_DELAYS)
        self._standing: dict[str, Trouble] = {}
        self._asked_by_hand: datetime | None = None
        self.on_recovered: Callable[[str], None] = lambda service: None

    def report(self, service: str, message: str, now: datetime, status: int | None = None) -> timedelta:
        """Remember a trouble, say it loudly the first time, and tell how long to leave the service alone.

        Only a probe that fails makes the interval longer: calls that were under way when the trouble began say
        nothing new.
        """
        standing = self._standing.get(service)
        if standing is None or standing.message != message:
            log.error("upstream.operator_must_act", service=service, cause=message)
        if standing is None:
            trouble = Trouble(service, message, now, now + self._delays[0], status)
        elif standing.under_way:
            probes = standing.probes + 1
            trouble = Trouble(service, message, standing.since, now + self._delay(probes), status, probes)
        else:
            trouble = replace(standing, message=message, status=status)
        self._standing[service] = trouble
        return max(trouble.next_probe_at - now, timedelta())

    def clear(self, service: str) -> None:
        """A call went through: whatever was wrong has been mended."""
        if self._standing.pop(service, None) is not None:
            log.info("upstream.recovered", service=service)
            self.on_recovered(service)

    def hold(self, service: str, now: datetime) -> timedelta | None:
        """How long to leave a service alone; None when it may be called, be it as the one probe of an interval."""
        trouble = self._standing.get(service)
        if trouble is None:
            return None
        if now < trouble.next_probe_at:
            return trouble.next_probe_at - now
        # The next one has its time already, should this one never tell what came of it.
        next_probe_at = now + self._delay(trouble.probes + 1)
        self._standing[service] = replace(trouble, next_probe_at=next_probe_at, under_way=True)
        return None

    def probe_after(self, service: str, now: datetime) -> datetime | None:
        """When the next probe is due, should one be let through now and find nothing mended; None without a trouble."""
        trouble = self._standing.get(service)
        return None if trouble is None else now + self._delay(trouble.probes + 1)

    async def turn(self, service: str, now: datetime) -> timedelta | None:
        """As `hold`, of everybody who shares the trouble: one of them makes the probe."""
        return self.hold(service, now)

    async def to_probe_at_start(self) -> Sequence[str]:
        """The services in trouble that may be asked at once, since whoever mends a key in the settings starts anew.

        None here: a new process knows of no trouble, and its first call finds out.
        """
        return ()

    async def settled(self) -> None:
        """Return when everybody who shares the troubles can know of what was said here so far."""

    def probe_now(self, now: datetime) -> None:
        """Let the next call through at once: somebody who replays by hand has mended something, most likely.

        At most one in ten seconds, so that a replay of thousands is not thousands of calls in vain. The intervals
        begin anew.
        """
        if self._asked_by_hand is not None and timedelta() <= now - self._asked_by_hand < HAND_PROBE_DELAY:
            return
        if self._standing:
            self._asked_by_hand = now
        self._standing = {
            service: replace(trouble, next_probe_at=now, probes=0) for service, trouble in self._standing.items()
        }

    @property
    def current(self) -> dict[str, str]:
        """The messages of the troubles that stand, by service."""
        return {service: trouble.message for service, trouble in self._standing.items()}

    @property
    def standing(self) -> tuple[Trouble, ...]:
        """The troubles that stand, with since when, and when the next call finds out whether they are mended."""
        return tuple(self._standing.values())

    def of(self, service: str) -> Trouble | None:
        """The trouble of one service, if any."""
        return self._standing.get(service)

    def _delay(self, probes: int) -> timedelta:
        return self._delays[min(probes, len(self._delays) - 1)]
