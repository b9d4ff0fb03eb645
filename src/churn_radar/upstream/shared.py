"""One pace for all replicas: the same windows as `pace`, counted in Postgres, and the calls under way as well.

While Postgres is away no call goes out: who cannot count must not call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID, uuid4

import asyncpg
import structlog

from churn_radar.errors import RecordUnavailable
from churn_radar.store.permits import Granted, Permits, Terms
from churn_radar.store.postgres_driver import ERRORS, PatientDriver
from churn_radar.upstream.pace import WindowPace
from churn_radar.upstream.rate import LONGEST_HOLD_SECONDS, LONGEST_WAY_SECONDS, SHORT_WINDOW_SECONDS, STEP_UP_SECONDS

log = structlog.get_logger(__name__)

# A dead replica's calls count as under way for so long. Mavera goes on with them, too, for a while.
LEASE_SECONDS = 30.0
# A call of another replica ends without a word to this one: look now and then.
LOOK_SECONDS = 0.2
# In a short window an answer that comes meanwhile makes room sooner.
SHORT_LOOK_SECONDS = 0.05
FORGET_SECONDS = 60.0
_MOST_STAMPS = 3
# In a short window calls count from their answers, so a permit need not be this moment's.
TIMELY_SECONDS = 0.025


class SharedTurn:
    """One call's permit. `over` gives it back, in the background; twice is once."""

    def __init__(self, number: int, sent: Callable[[int, float], None], over: Callable[[int], None]) -> None:
        self._number = number
        self._sent = sent
        self._over = over

    def sent(self, seconds: float) -> None:
        """The call is on the wire; where that was late, its permit counts from now."""
        self._sent(self._number, seconds)

    def over(self) -> None:
        """The call has ended, or does not go out."""
        self._over(self._number)


class SharedPace:
    """At most `calls` in any `seconds` and `concurrency` at once, over all replicas that name the same service.

    `own` are the limits as one process would keep them; the margins of its window are kept here, too. Close it with
    `aclose` before the driver.
    """

    def __init__(
        self,
        driver: PatientDriver,
        service: str,
        own: WindowPace,
        *,
        concurrency: int | None = None,
        lease_seconds: float = LEASE_SECONDS,
        holder: UUID | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.calls = own.calls
        self.seconds = own.seconds
        self.taken: int | None = None
        self._service = service
        self._spread = own.spread_seconds
        self._concurrency = concurrency
        self._lease = lease_seconds
        self._permits = Permits(driver, service, holder or uuid4())
        self._driver = driver
        self._sleep = sleep
        self._kept_to = own.calls
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._late: set[int] = set()
        self._hold: float | None = None
        self._told: int | None = own.calls
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def wait(self) -> SharedTurn:
        """Return when one more call may go out now, over all replicas; that call is then counted."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name=f"shared pace of {self._service}")
        while True:
            self._room.clear()
            asked_at = time.monotonic()
            try:
                answer = await self._permits.take(self._terms)
            except ERRORS as error:
                self._driver.failed(error)
                await self._sleep(LOOK_SECONDS)
                continue
            if isinstance(answer, Granted):
                # From here on it is known, and given back, whatever happens.
                self._open.add(answer.id)
                self.taken = answer.taken
                turn = SharedTurn(answer.id, self._sent, self._over)
                try:
                    await self._make_timely(answer.id, asked_at)
                except BaseException:
                    turn.over()
                    raise
                return turn
            await self._wait_for_room(LOOK_SECONDS if answer.full else answer.seconds)

    def keep_to(self, calls: int) -> None:
        """From now on at most `calls` in any window; the other replicas hear of it."""
        if calls != self._kept_to:
            self._kept_to = calls
            self._told = None
            self._news.set()

    def stay_away(self, seconds: float) -> None:
        """Let no replica call for so long, at most a minute."""
        self._hold = max(self._hold or 0.0, min(seconds, LONGEST_HOLD_SECONDS))
        self._news.set()

    async def aclose(self) -> None:
        """Give back what is still open."""
        if self._keeping is None:
            return
        self._keeping.cancel()
        await asyncio.wait({self._keeping})
        if self._open | self._ended:
            with suppress(*ERRORS, RecordUnavailable):
                async with asyncio.timeout(5):
                    await self._permits.end(self._open | self._ended)

    @property
    def _terms(self) -> Terms:
        return Terms(
            calls=self._kept_to,
            window_seconds=self.seconds + self._spread,
            concurrency=self._concurrency,
            way_seconds=LONGEST_WAY_SECONDS if self.seconds <= SHORT_WINDOW_SECONDS else None,
            lease_seconds=self._lease,
        )

    async def _make_timely(self, number: int, asked_at: float) -> None:
        """Count a call whose permit took long to come as of now: it arrives later than the window's margin allows."""
        for _ in range(_MOST_STAMPS):
            if time.monotonic() - asked_at < max(self._spread / 2, TIMELY_SECONDS):
                return
            asked_at = time.monotonic()
            await self._permits.stamp(number)

    async def _wait_for_room(self, seconds: float) -> None:
        short = self.seconds <= SHORT_WINDOW_SECONDS
        waking = asyncio.ensure_future(self._room.wait())
        sleeping = asyncio.ensure_future(self._sleep(min(seconds, SHORT_LOOK_SECONDS if short else LOOK_SECONDS * 5)))
        try:
            await asyncio.wait((waking, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            sleeping.cancel()

    def _sent(self, number: int, seconds: float) -> None:
        if seconds > self._spread / 2 and self.seconds > SHORT_WINDOW_SECONDS and number in self._open:
            self._late.add(number)
            self._news.set()

    def _over(self, number: int) -> None:
        if number in self._open:
            self._open.remove(number)
            self._ended.add(number)
            self._news.set()

    async def _keep(self) -> None:
        """Write what has happened since, renew what is under way, forget what no longer counts."""
        forgotten_at = renewed_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease / 3):
                    await self._news.wait()
            self._news.clear()
            now = time.monotonic()
            try:
                await self._tell()
                if now - renewed_at >= self._lease / 3:
                    renewed_at = now
                    await self._permits.renew(set(self._open), self._lease)
                if now - forgotten_at >= FORGET_SECONDS:
                    forgotten_at = now
                    await self._permits.forget(2 * (self.seconds + self._spread) + FORGET_SECONDS)
                    if self._kept_to < self.calls:
                        self._told = None  # to be said again, before it is forgotten
            except RecordUnavailable:
                return  # closing
            except asyncpg.PostgresError:
                log.exception("upstream.permits_not_kept", service=self._service)

    async def _tell(self) -> None:
        for number in tuple(self._late):
            await self._permits.stamp(number)
            self._late.discard(number)
        if self._ended:
            ended = set(self._ended)
            await self._permits.end(ended)
            self._ended -= ended
            self._room.set()
        if self._hold is not None:
            seconds, self._hold = self._hold, None
            await self._permits.hold(seconds)
        if self._told != self._kept_to:
            told = self._kept_to
            lower = told if told < self.calls else None
            await self._permits.keep_to(lower, STEP_UP_SECONDS + FORGET_SECONDS)
            self._told = told
