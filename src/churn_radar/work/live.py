"""What people watch as it happens: read once a second for all of them together, and only while somebody watches.

The newest signals are read, and their sums when those have changed or ten seconds have passed. It is the record that is
read, so on Postgres each replica tells of what the others do. Each state has a version made of what it tells: whoever
reconnects with the version they have seen last is told again only once there is news.

Whoever logs out, here or at another replica, is told nothing more: with the signals those log-ins are read that
have ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from churn_radar.errors import RecordUnavailable

log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
SUMS_AT_LEAST_EVERY = 10
MOST_VIEWERS = 200
# Then the browser connects anew, and whether its log-in still holds is looked at again.
LONGEST_SECONDS = 300.0


class Read(Protocol):
    """Reads the newest signals, each with what tells its state, the sums, and which log-ins have ended."""

    async def signals(self) -> Sequence[object]:
        """The newest first."""
        ...

    async def sums(self) -> object:
        """Whatever is shown beside them."""
        ...

    async def ended(self, sessions: Collection[str]) -> Collection[str]:
        """Those of these log-ins that somebody has logged out of."""
        ...


class LoggedOut(Exception):
    """Whoever watched has logged out, here or elsewhere."""


@dataclass(frozen=True, slots=True)
class State:
    """What is shown, and its version."""

    version: str
    signals: Sequence[object]
    sums: object


@dataclass
class Live:
    """Reads while somebody watches, and wakes who watches when there is news."""

    read: Read
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    most_viewers: int = MOST_VIEWERS
    viewers: int = 0
    _state: State | None = field(default=None, repr=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _task: asyncio.Task[None] | None = field(default=None, repr=False)
    _closed: bool = False
    _sessions: Counter[str] = field(default_factory=Counter, repr=False)
    _ended: set[str] = field(default_factory=set, repr=False)

    @property
    def is_full(self) -> bool:
        """Whether nobody more may watch."""
        return self._closed or self.viewers >= self.most_viewers

    async def watch(
        self, seen: str | None = None, *, session: str | None = None, longest: float = LONGEST_SECONDS
    ) -> AsyncIterator[State]:
        """Each new state, until the service stops or `longest` (five minutes at most) has passed.

        `seen` is the version known already. Raises LoggedOut as soon as the log-in `session` has ended.
        """
        self.viewers += 1
        ends_at = time.monotonic() + min(longest, LONGEST_SECONDS)
        if session is not None:
            self._sessions[session] += 1
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._keep_reading(), name="live")
            while not self._closed:
                if session in self._ended:
                    raise LoggedOut
                news, state = self._news, self._state
                if state is not None and state.version != seen:
                    seen = state.version
                    yield state
                    continue
                try:
                    async with asyncio.timeout(ends_at - time.monotonic()):
                        await news.wait()
                except TimeoutError:
                    return
        finally:
            self.viewers -= 1
            if session is not None:
                self._forget(session)

    def log_out(self, session: str) -> None:
        """Tell whoever watches by this log-in nothing more, from now on."""
        if session in self._sessions:
            self._ended.add(session)
            self._tell()

    def close(self) -> None:
        """Let everybody go, now: the server waits for them before it stops."""
        self._closed = True
        self._tell()
        if self._task is not None:
            self._task.cancel()

    async def _keep_reading(self) -> None:
        sums: object = None
        signals: Sequence[object] = ()
        age = SUMS_AT_LEAST_EVERY
        try:
            while self.viewers and not self._closed:
                try:
                    # Before what is read is shown.
                    for session in await self.read.ended(list(self._sessions)):
                        self.log_out(session)
                    found = await self.read.signals()
                    if found != signals or age >= SUMS_AT_LEAST_EVERY:
                        sums, age = await self.read.sums(), 0
                    signals = found
                    self._show(State(_version(signals, sums), signals, sums))
                except RecordUnavailable as error:
                    log.debug("live.not_read", cause=str(error))
                except Exception:
                    log.exception("live.failed")
                age += 1
                await self.sleep(EVERY_SECONDS)
        finally:
            self._task, self._state = None, None

    def _show(self, state: State) -> None:
        if self._state is None or state.version != self._state.version:
            self._state = state
            self._tell()

    def _forget(self, session: str) -> None:
        self._sessions[session] -= 1
        if not self._sessions[session]:
            del self._sessions[session]
            self._ended.discard(session)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _version(signals: Sequence[object], sums: object) -> str:
    return hashlib.blake2b(repr((signals, sums)).encode(errors="replace"), digest_size=12).hexdigest()
