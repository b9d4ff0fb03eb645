"""Group sending: whoever waits at the same time shares one round trip to the buffer, as in the record a commit.

The first event goes out at once; those that come while it is under way go together in the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from churn_radar.errors import BufferUnavailable

T = TypeVar("T")

Send = Callable[[Sequence[T]], Awaitable[Sequence[BufferUnavailable | None]]]
"""Sends one batch; returns for each item None or why it is not held, in order. Raises when none is."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T]):
    item: T
    bytes: int
    done: asyncio.Future[None]


class GroupSender(Generic[T]):
    """Gathers items into batches of at most `max_items` and `max_bytes`, at most `lanes` of them under way at once."""

    def __init__(self, send: Send[T], *, max_items: int, max_bytes: int, lanes: int, max_waiting: int) -> None:
        self._send = send
        self._max_items = max_items
        self.max_bytes = max_bytes
        self._lanes = lanes
        self._max_waiting = max_waiting
        self._line: deque[_Waiting[T]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._sending = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Items whose fate is not known yet."""
        return len(self._line) + self._sending

    def add(self, item: T, size: int) -> asyncio.Future[None]:
        """Queue an item of `size` bytes; the future ends when it is held.

        Raises BufferUnavailable at once when too many wait already.
        """
        if self._closed:
            raise BufferUnavailable("the buffer is closing")
        if self.waiting >= self._max_waiting:
            raise BufferUnavailable("too many requests wait for the buffer")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._line.append(_Waiting(item, size, done))
        if len(self._under_way) < self._lanes:
            # It starts in the loop's next turn: whoever comes in this one goes along.
            self._under_way.add(loop.create_task(self._lane(), name="buffer-sender"))
        return done

    async def close(self) -> None:
        """Send what is queued, then take nothing more."""
        self._closed = True
        while self._under_way:
            await asyncio.gather(*self._under_way)

    async def _lane(self) -> None:
        try:
            while batch := self._next():
                await self._deliver(batch)
        finally:
            # Before anybody else runs: who adds to the line next must see that this lane is gone.
            self._under_way.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _deliver(self, batch: Sequence[_Waiting[T]]) -> None:
        self._sending += len(batch)
        try:
            outcomes = await self._send([waiting.item for waiting in batch])
            for waiting, refusal in zip(batch, outcomes, strict=True):
                _settle(waiting.done, refusal)
        except Exception as error:
            cause = error if isinstance(error, BufferUnavailable) else _fault(error)
            # Those in the line would wait as long again, in vain: their sender's patience is short.
            for waiting in (*batch, *self._line):
                _settle(waiting.done, cause)
            self._line.clear()
        finally:
            self._sending -= len(batch)

    def _next(self) -> list[_Waiting[T]]:
        batch: list[_Waiting[T]] = []
        size = 0
        while self._line and len(batch) < self._max_items:
            size += self._line[0].bytes
            if batch and size > self.max_bytes:
                break
            batch.append(self._line.popleft())
        return batch


def _fault(error: Exception) -> BufferUnavailable:
    return BufferUnavailable(f"putting into the buffer failed: {type(error).__name__}")


def _settle(done: asyncio.Future[None], refusal: BufferUnavailable | None) -> None:
    if done.done():
        return
    if refusal is None:
        done.set_result(None)
    else:
        # Each waiter raises one of its own: a raised exception carries its trace.
        done.set_exception(type(refusal)(*refusal.args))
