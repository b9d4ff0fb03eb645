"""From the buffer into the record: take a batch, understand each event, commit all of them at once, then say done.

While the record is away the batch at hand is kept and held, and nothing more is taken, so that the buffer's own count
of deliveries (and a queue's dead-letter rule that goes by it) does not rise for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from churn_radar import metrics
from churn_radar.buffer.protocol import Buffer, RawEvent, Taken
from churn_radar.errors import BufferUnavailable, NotStorable, RecordUnavailable
from churn_radar.intake.events import NOT_STORABLE, to_quarantine
from churn_radar.store.arrivals import Accepted, Arrival

log = structlog.get_logger(__name__)

Accept = Callable[[Arrival], "asyncio.Future[Accepted]"]
Read = Callable[[bytes, datetime], Arrival | None]
"""What the door makes of a body: an arrival (quarantined ones too), or None for what is none of our business."""

BATCH = 200
MAX_DELIVERIES = 20
READY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Owed:
    """An event on its way into the record."""

    taken: Taken
    arrival: Arrival


class Drain:
    """Empties one buffer into one record, for as long as it runs.

    `ready` proves that the record commits, or raises RecordUnavailable. `gives_way` is awaited before each look into
    the buffer: a door in the same process comes first, since what is in the buffer is safe. `wait` is how long one
    look into an empty buffer lasts, and about how long a stop takes. `pauses` are the waits in seconds while the
    record or the buffer is away, the last one again and again. `hold_seconds` is the buffer's hold, of which a third
    may pass between two holds.
    """

    def __init__(
        self,
        buffer: Buffer,
        accept: Accept,
        read: Read,
        *,
        ready: Callable[[], Awaitable[None]],
        gives_way: Callable[[], Awaitable[object]] | None = None,
        batch: int = BATCH,
        wait: timedelta = timedelta(seconds=2),
        pauses: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0),
        hold_seconds: float = 60.0,
    ) -> None:
        self._buffer = buffer
        self._accept = accept
        self._read = read
        self._ready = ready
        self._gives_way = gives_way
        self._batch = batch
        self._wait = wait
        self._pauses = tuple(pauses)
        self._hold_every = hold_seconds / 3
        self._stopping = asyncio.Event()
        self._finished: list[str] = []
        self._begun = False
        self._task: asyncio.Task[None] | None = None
        self.drained = 0

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="buffer-drain")

    async def stop(self) -> None:
        """Finish the batch at hand, or give it back when the record is away; then end."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    @property
    def running(self) -> bool:
        """Whether it is at work: it ends by itself only through a fault of ours."""
        return self._task is not None and not self._task.done()

    async def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._turn()
            except BufferUnavailable as error:
                if failures == 0:
                    log.error("buffer.unavailable", buffer=self._buffer.name, cause=str(error))  # noqa: TRY400
            except Exception:
                # A drain that ended here would leave the buffer to fill up in silence. What was taken comes again.
                log.exception("buffer.drain_failed", buffer=self._buffer.name)
            else:
                if failures:
                    log.info("buffer.available", buffer=self._buffer.name)
                failures = 0
                continue
            await self._pause(failures)
            failures += 1
        with contextlib.suppress(BufferUnavailable):
            await self._say_done()

    async def _turn(self) -> None:
        """One look into the buffer, and what follows from it."""
        if not self._begun:
            # A worker that starts while the record is away would take events only to give them back.
            self._begun = await self._until_ready(0)
            return
        await self._say_done()
        if self._gives_way is not None:
            await self._gives_way()
        if taken := await self._buffer.take(self._batch, self._wait):
            await self._keep(taken)

    async def _keep(self, taken: Sequence[Taken]) -> None:
        """Bring a batch into the record, however long that takes, or until a stop."""
        owed: list[_Owed] = []
        for one in taken:
            arrival = self._understand(one)
            if arrival is None:
                self._finished.append(one.token)
            else:
                owed.append(_Owed(one, arrival))
        async with self._holding(owed):
            while owed:
                failed = await self._commit(owed)
                self.drained += len(owed) - len(failed)
                metrics.drained(len(owed) - len(failed))
                owed[:] = failed
                with contextlib.suppress(BufferUnavailable):
                    # Or with the next batch: what comes again meanwhile is known to the record.
                    await self._say_done()
                if owed and not await self._until_ready(len(owed)):
                    break
        if owed:
            await self._give_back(owed)

    @contextlib.asynccontextmanager
    async def _holding(self, owed: Sequence[_Owed]) -> AsyncIterator[None]:
        """While the block runs, other workers leave alone what is owed: a commit, or proof of one, may take long."""

        async def hold() -> None:
            while True:
                await asyncio.sleep(self._hold_every)
                with contextlib.suppress(BufferUnavailable):
                    # Another worker may take them then: the record keeps each once all the same.
                    await self._buffer.hold([one.taken.token for one in owed])

        task = asyncio.create_task(hold(), name="buffer-hold")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _commit(self, owed: Sequence[_Owed]) -> list[_Owed]:
        """Offer everything to the record's next commit; returns what did not go in."""
        waiting: list[tuple[_Owed, asyncio.Future[Accepted] | None]] = []
        for one in owed:
            try:
                waiting.append((one, self._accept(one.arrival)))
            except RecordUnavailable:
                # Its line is full; those before stand in it.
                waiting.append((one, None))
        failed = []
        for one, accepted in waiting:
            try:
                if accepted is not None:
                    await accepted
                    self._finished.append(one.taken.token)
                else:
                    failed.append(one)
            except NotStorable:
                log.error("buffer.not_storable", event_id=one.arrival.event_id)  # noqa: TRY400
                failed.append(_Owed(one.taken, _quarantined(one.taken.event, NOT_STORABLE)))
            except RecordUnavailable:
                failed.append(one)
        return failed

    async def _until_ready(self, holding: int) -> bool:
        """Wait until the record commits, so many events at hand meanwhile; False when a stop came first.

        With any at hand, it pauses even before a record that is well: what failed for another reason must not spin.
        """
        attempt = 0
        while not self._stopping.is_set():
            if holding or attempt:
                await self._pause(attempt)
            attempt += 1
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await self._ready()
            except (RecordUnavailable, TimeoutError) as error:
                if attempt == 1:
                    cause = str(error) or "it does not answer"
                    log.error("buffer.record_unavailable", cause=cause, holding=holding)  # noqa: TRY400
                continue
            if attempt > 1:
                log.info("buffer.record_available", holding=holding)
            return True
        return False

    async def _pause(self, failures: int) -> None:
        """Wait, longer each time, but not beyond a stop."""
        seconds = self._pauses[min(failures, len(self._pauses) - 1)] * random.uniform(0.7, 1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _say_done(self) -> None:
        if self._finished:
            await self._buffer.done(self._finished)
            self._finished.clear()

    async def _give_back(self, owed: Sequence[_Owed]) -> None:
        log.warning("buffer.given_back", events=len(owed), hint="they wait in the buffer for the next start")
        with contextlib.suppress(BufferUnavailable):
            await self._buffer.release([one.taken.token for one in owed])

    def _understand(self, taken: Taken) -> Arrival | None:
        problem = taken.problem
        if problem is None and taken.deliveries > MAX_DELIVERIES:
            problem = f"taken from the buffer {taken.deliveries} times without reaching the record"
        if problem is None:
            return read_raw(taken.event, self._read)
        log.warning("buffer.not_understood", reason=problem, bytes=len(taken.event.body))
        return _quarantined(taken.event, problem)


def read_raw(event: RawEvent, read: Read) -> Arrival | None:
    """What the door would have made of a raw event; what cannot even be read is an arrival for the quarantine."""
    try:
        arrival = read(event.body, event.received_at)
    except Exception as error:
        log.exception("buffer.reading_failed", bytes=len(event.body))
        return _quarantined(event, f"reading it failed: {type(error).__name__}")
    return arrival if arrival is None or arrival.source == event.source else arrival._replace(source=event.source)


def _quarantined(event: RawEvent, reason: str) -> Arrival:
    arrival = to_quarantine(event.body, reason, received_at=event.received_at, event_id=None)
    return arrival._replace(source=event.source)
