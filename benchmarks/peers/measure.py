"""Events that other tools acknowledge a second with the same job, and the work they lose when killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import turns
from benchmarks.figures import Figure, Result
from benchmarks.load import run_until_it_dies, webhooks
from benchmarks.people import customer_id
from benchmarks.processes import SECRET, Peer, Service, StandIns, peer, reference, service, standins
from benchmarks.servers import Scratch, database, redis

OURS = "churn_radar"
MODULES = {
    "Procrastinate": "procrastinate_queue",
    "Taskiq on Redis streams": "taskiq_streams",
    "FastAPI BackgroundTasks": "background_tasks",
}
NAMES = (OURS, *MODULES)
# The events whose work has been done, as the database shows them.
_DONE = {OURS: "SELECT event_id FROM signals WHERE status <> 'received'"}
_DONE_BY_PEERS = "SELECT event_id FROM processed"


@dataclass(frozen=True, slots=True)
class Sizes(turns.Sizes):
    """As of every benchmark of the door; and `kills` of each, once half of `sent` events were answered.

    What is not done when for `patience_seconds` nothing more was, is lost, or waits for a person.
    """

    events: int = 1000
    warm_up: int = 100
    kills: int = 5
    sent: int = 1000
    patience_seconds: float = 60.0

    @property
    def people(self) -> int:
        """Customers that a workspace has to have."""
        return max(self.warm_up + self.rounds * self.events, self.sent)


QUICK = Sizes(events=200, rounds=1, warm_up=50, kills=1, sent=200, patience_seconds=20)


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    async with standins(people=sizes.people) as upstreams, redis(folder / "redis") as redis_url:
        taken = await _turns(folder / "acks", upstreams, redis_url, sizes)
    lost: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(sizes.kills):
        # The four wait side by side for what a dead process had begun.
        async with standins(people=sizes.people) as upstreams, redis(folder / f"redis-{number}") as redis_url:
            each = [_Killed(name, folder / f"kill-{number}", upstreams, redis_url, sizes) for name in NAMES]
            for killed in each:
                await killed.kill()
            for name, count in zip(NAMES, await asyncio.gather(*(killed.lost() for killed in each)), strict=True):
                lost[name].append(count)
    return Result(
        name="peers",
        title="Other tools",
        about=(
            "The same job with other tools, in at most 60 lines each (benchmarks/peers): check a webhook's signature, "
            "keep it, answer, and work on it in the same process; here a wait of 50 ms and a row. churn_radar does its "
            "own work, triage with a look-up. All on one Postgres, in turn with the reference; Taskiq's Redis syncs "
            f"before it answers. Then each is killed with SIGKILL after {sizes.sent // 2} answers, started again, and "
            f"watched until for {sizes.patience_seconds:g} s nothing more was done."
        ),
        figures=[
            *turns.figures_of(taken, ratios={}, most_p99_ms={}),
            *(
                Figure(
                    name=f"{name}, acknowledged and not done",
                    unit="",
                    samples=samples,
                    wanted="0" if name == OURS else None,
                    plot="lost",
                )
                for name, samples in lost.items()
            ),
        ],
        notes=[
            f"{sizes.events} events a leg, {sizes.rounds} rounds; {sizes.kills} kills of each.",
            "Only churn_radar knows a repeated event by its id; the others would do its work twice.",
            "Procrastinate and Taskiq look for the work of a dead process after 15 and 10 s here. By default Taskiq "
            "does after ten minutes, and Procrastinate leaves it to a task of one's own.",
        ],
    )


async def _turns(folder: Path, upstreams: StandIns, redis_url: str, sizes: Sizes) -> turns.Turns:
    async with reference() as port, AsyncExitStack() as stack:
        contenders = []
        for name in NAMES:
            record = stack.enter_context(database(migrated=name == OURS))
            running = await stack.enter_async_context(_running(name, folder, upstreams, record, redis_url))
            contenders.append(turns.Contender(name, running.port, quiet=_quiet(name, record)))
        return await turns.take_turns(port, contenders, sizes)


def _quiet(name: str, record: Scratch) -> Callable[[], Awaitable[None]]:
    """Waits until nothing more is done: all that was sent is, where nothing was lost."""

    async def quiet() -> None:
        await _until_nothing_more(name, record, 2.0)

    return quiet


async def _until_nothing_more(name: str, record: Scratch, seconds: float) -> set[str]:
    """The events that were done when for so long no other one was."""
    done: set[str] = set()
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        await asyncio.sleep(0.25)
        now = {row[0] for row in await asyncio.to_thread(record.rows, _DONE.get(name, _DONE_BY_PEERS))}
        if len(now) > len(done):
            done, since = now, time.monotonic()
    return done


@asynccontextmanager
async def _running(
    name: str, folder: Path, upstreams: StandIns, record: Scratch, redis_url: str
) -> AsyncIterator[Peer | Service]:
    if name == OURS:
        async with service(folder, upstreams, CHURN_RADAR_DATABASE_URL=record.url) as ours:
            yield ours
    else:
        module = f"benchmarks.peers.{MODULES[name]}"
        async with peer(module, "--postgres", record.url, "--redis", redis_url) as running:
            yield running


class _Killed:
    """One tool, killed in the middle, and what became of the events that it had acknowledged."""

    def __init__(self, name: str, folder: Path, upstreams: StandIns, redis_url: str, sizes: Sizes) -> None:
        self._name = name
        self._where = (folder, upstreams)
        self._redis_url = redis_url
        self._sizes = sizes
        self._acknowledged: set[str] = set()
        self._stack = AsyncExitStack()
        self._record: Scratch | None = None

    async def kill(self) -> None:
        """Start it, send, kill it, and start it again."""
        self._record = self._stack.enter_context(database(migrated=self._name == OURS))
        numbers = range(self._sizes.sent)
        requests = webhooks(numbers, "unsubscribed", map(customer_id, numbers), SECRET)
        async with _running(self._name, *self._where, self._record, self._redis_url) as running:
            answered = await run_until_it_dies(
                running.port,
                requests,
                kill=lambda: os.kill(running.pid, signal.SIGKILL),
                after=self._sizes.sent // 2,
            )
        self._acknowledged = {str(json.loads(each.partition(b"\r\n\r\n")[2])["event_id"]) for each in answered}
        again = _running(self._name, *self._where, self._record, self._redis_url)
        await self._stack.enter_async_context(again)

    async def lost(self) -> int:
        """Wait for what may still be done; returns how many acknowledged events were not."""
        assert self._record is not None
        async with self._stack:
            done = await _until_nothing_more(self._name, self._record, self._sizes.patience_seconds)
        return len(self._acknowledged - done)
