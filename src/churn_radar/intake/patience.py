"""One timer for everybody who waits: `asyncio.timeout` for each request costs the door as much as reading the event."""

from __future__ import annotations

import asyncio

# A sender may be waited for this much longer than said; it is for those that never come to an end.
LOOK_EVERY = 4


class Patience:
    """Cancels tasks that wait longer than `seconds`. For the tasks of one event loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> asyncio.Task[object]:
        """Start the clock of the task that calls; hand what this returns to `end`."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  there is one wherever something is awaited
        loop = task.get_loop()
        self._since[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self.seconds / LOOK_EVERY, self._look)
        return task

    def is_up(self, task: asyncio.Task[object]) -> bool:
        """Whether a cancelled task was cancelled for its time being up, and for nothing else; it may then go on."""
        return task in self._late and task.uncancel() == 0

    def end(self, task: asyncio.Task[object]) -> None:
        """Stop the clock of a task."""
        del self._since[task]
        self._late.discard(task)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, since in self._since.items():
            if now - since < self.seconds:
                break  # in the order of their coming: all after it have waited less
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        self._timer = loop.call_later(self.seconds / LOOK_EVERY, self._look) if self._since else None
