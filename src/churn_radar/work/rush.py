"""Work gives way while events rush in at the door of the same process.

Door and work share one interpreter. Customer.io waits for the door and holds the feed back when it is slow; nobody
waits for triage by the second. So while a blast comes in, work goes on in small portions, and catches up right after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SLICE_SECONDS = 0.1
# 1,000 a second; what comes slower leaves time enough for everybody.
RUSH_EVENTS = 100
# Between two portions of work. Measured: docs/decisions/0018 and 0037.
PORTION_SECONDS = 1.0
LOOK_SECONDS = 0.05


class Rush:
    """Counts what comes in, by slices of time; `clock` is in seconds and never jumps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slice_ends = 0.0
        self._count = 0
        self._last = 0

    def noting(self, accept: Callable[P, T]) -> Callable[P, T]:
        """`accept`, with each call counted."""

        def noted(*args: P.args, **kwargs: P.kwargs) -> T:
            self._turn()
            self._count += 1
            return accept(*args, **kwargs)

        return noted

    @property
    def on(self) -> bool:
        """Whether events rush in: in this slice of time, or in the one before."""
        self._turn()
        return max(self._count, self._last) >= RUSH_EVENTS

    async def give_way(self) -> bool:
        """Wait while events rush in, as long as a portion of work has to; returns whether they still do."""
        began = self._clock()
        while self.on:
            if self._clock() - began >= PORTION_SECONDS:
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    def _turn(self) -> None:
        now = self._clock()
        if now < self._slice_ends:
            return
        self._last = self._count if now < self._slice_ends + SLICE_SECONDS else 0
        self._count = 0
        self._slice_ends = now + SLICE_SECONDS
