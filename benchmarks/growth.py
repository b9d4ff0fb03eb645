"""What stays the same when the record grows: the door, reading a brief, memory, and the start."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.figures import Figure, Result
from benchmarks.load import Load, request, run, webhooks
from benchmarks.people import customer_id
from benchmarks.processes import API_KEY, SECRET, Service, eventually, reference, service, standins
from benchmarks.record import BRIEF_EVERY, customer_with_brief, fill, nothing_untriaged, until

READERS = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """Records of so many `signals`; legs of so many `events` and `reads`; a start with so many `unfinished`."""

    signals: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    events: int = 4000
    reads: int = 1000
    unfinished: int = 100_000
    rounds: int = 5


QUICK = Sizes(signals=(1_000, 30_000), events=500, reads=200, unfinished=20_000, rounds=2)


@dataclass(frozen=True, slots=True)
class Leg:
    """One turn of one record, between two turns of the reference."""

    accepted_ratio: float
    read: Load


@dataclass(frozen=True, slots=True)
class Start:
    """One start. Seconds from the process's beginning; memory once the first research call is out."""

    ready_after: float
    researched_after: float
    resident_bytes: int


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    legs = await _grown(folder, sizes)
    few, many = await _starts(folder, sizes)
    return Result(
        name="growth",
        title="A record that grows",
        about=(
            f"The door and GET /briefs/{{id}} with {_list(sizes.signals)} signals in the record, one in "
            f"{BRIEF_EVERY} with a brief; the services run side by side and take turns, each turn between two of the "
            f"reference. Then a start with {sizes.unfinished:,} signals waiting for research, beside one with a "
            "single one waiting."
        ),
        figures=[*_flat(legs, sizes), *_started(few, many, sizes)],
        notes=[
            f"{sizes.events} events and {sizes.reads} reads a turn ({READERS} at a time), {sizes.rounds} rounds.",
            "Memory for a waiting signal: the difference of the two starts' resident memory after the first research "
            "call, by the number of signals.",
        ],
    )


async def _grown(folder: Path, sizes: Sizes) -> dict[int, list[Leg]]:
    for signals in sizes.signals:
        record = folder / f"grown-{signals}" / "record.db"
        record.parent.mkdir()
        await asyncio.to_thread(fill, record, signals)
    legs: dict[int, list[Leg]] = {signals: [] for signals in sizes.signals}
    # Nobody is worth a brief: what is left after the look-up would differ from turn to turn.
    people = (1 + sizes.rounds) * sizes.events
    async with AsyncExitStack() as stack:
        upstreams = await stack.enter_async_context(standins(people=people, worth_researching=0))
        port = await stack.enter_async_context(reference())
        running = {
            signals: await stack.enter_async_context(service(folder / f"grown-{signals}", upstreams))
            for signals in sizes.signals
        }
        for number in range(1 + sizes.rounds):
            for signals, one in running.items():
                leg = await _leg(port, one, signals, sizes, number)
                # The first round warms everybody up.
                legs[signals] += [leg] if number else []
    return legs


async def _leg(port: int, running: Service, signals: int, sizes: Sizes, number: int) -> Leg:
    numbers = range(number * sizes.events, (number + 1) * sizes.events)
    requests = webhooks(numbers, "unsubscribed", map(customer_id, numbers), SECRET)
    dice = random.Random(number)
    read = [_read(dice.randint(1, signals // BRIEF_EVERY)) for _ in range(sizes.reads)]
    before = (await run(port, requests)).all_answered()
    accepted = (await run(running.port, requests)).all_answered()
    await until(running.record, nothing_untriaged, most_seconds=30 + sizes.events / 50)
    reads = (await run(running.port, read, connections=READERS)).all_answered()
    after = (await run(port, requests)).all_answered()
    return Leg(accepted.per_second / ((before.per_second + after.per_second) / 2), reads)


def _read(number: int) -> bytes:
    return request(f"/briefs/{customer_with_brief(number)}", b"", {"X-API-Key": API_KEY}, method="GET")


async def _starts(folder: Path, sizes: Sizes) -> tuple[list[Start], list[Start]]:
    """Starts with one and with many signals waiting, in turn."""
    made = {}
    for waiting in (1, sizes.unfinished):
        made[waiting] = folder / f"waiting-{waiting}.db"
        await asyncio.to_thread(fill, made[waiting], waiting, status="waiting")
    starts: dict[int, list[Start]] = {waiting: [] for waiting in made}
    for number in range(sizes.rounds):
        for waiting, record in made.items():
            here = folder / f"start-{waiting}-{number}"
            here.mkdir()
            shutil.copyfile(record, here / "record.db")
            starts[waiting].append(await _start(here))
    return starts[1], starts[sizes.unfinished]


async def _start(folder: Path) -> Start:
    async with standins(people=1, mavera_latency="5,9") as upstreams, service(folder, upstreams) as running:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=60, trust_env=False) as http:

            async def is_ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            await eventually(is_ready, "readiness", every=0.005)
        ready = time.monotonic() - running.spawned
        seen = await eventually(upstreams.researches, "the first research call")
        await asyncio.sleep(1)
        return Start(ready, seen[0].began - running.spawned, running.resident_bytes())


def _flat(legs: dict[int, list[Leg]], sizes: Sizes) -> list[Figure]:
    smallest, largest = sizes.signals[0], sizes.signals[-1]
    figures = [
        Figure(
            name=f"accepted, ratio to the reference, {signals:,} signals",
            unit="",
            samples=[leg.accepted_ratio for leg in each],
            plot="acknowledging",
        )
        for signals, each in legs.items()
    ]
    figures += [
        Figure(
            name=f"GET /briefs/{{id}}, {label}, {signals:,} signals",
            unit="ms",
            samples=[leg.read.milliseconds(share) for leg in each],
            plot="reading a brief",
        )
        for label, share in (("p50", 0.5), ("p99", 0.99))
        for signals, each in legs.items()
    ]
    pairs = list(zip(legs[smallest], legs[largest], strict=True))
    figures.append(
        Figure(
            name=f"accepted, {largest:,} signals by {smallest:,}",
            unit="",
            samples=[large.accepted_ratio / small.accepted_ratio for small, large in pairs],
            wanted="≥ 0.8",
        )
    )
    figures.append(
        Figure(
            name=f"GET /briefs/{{id}}, p50, {largest:,} signals by {smallest:,}",
            unit="",
            samples=[large.read.milliseconds(0.5) / small.read.milliseconds(0.5) for small, large in pairs],
            wanted="≤ 1.2",
        )
    )
    return figures


def _started(few: list[Start], many: list[Start], sizes: Sizes) -> list[Figure]:
    figures = [
        Figure(name=f"{what}, {count:,} waiting", unit="s", samples=samples, plot="start")
        for count, starts in ((1, few), (sizes.unfinished, many))
        for what, samples in (
            ("start until /readyz", [start.ready_after for start in starts]),
            ("start until the first research call", [start.researched_after for start in starts]),
        )
    ]
    grown = [b.resident_bytes - a.resident_bytes for a, b in zip(few, many, strict=True)]
    figures.append(
        Figure(
            name="resident memory, one waiting", unit="MB", samples=[start.resident_bytes / 1_000_000 for start in few]
        )
    )
    figures.append(
        Figure(
            name=f"resident memory, {sizes.unfinished:,} waiting",
            unit="MB",
            samples=[start.resident_bytes / 1_000_000 for start in many],
        )
    )
    figures.append(
        Figure(
            name="memory for a waiting signal", unit="bytes", samples=[more / (sizes.unfinished - 1) for more in grown]
        )
    )
    return figures


def _list(numbers: tuple[int, ...]) -> str:
    *most, last = (f"{number:,}" for number in numbers)
    return f"{', '.join(most)} and {last}" if most else last
