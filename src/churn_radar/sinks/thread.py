"""A thread for one sink's blocking calls.

The shared thread pool has a handful of threads, and name resolution and file access of the whole process need
them: a pipe that nobody reads, or a hung network folder, would take them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class OwnThread:
    """Runs calls one after another, in the order in which they came, away from the event loop."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`; raises what it raises. A caller who gives up leaves no work behind unbegun."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
