"""Deliveries a second: signed webhooks to a receiver on this machine, alone and beside a sink that never answers."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import record
from benchmarks.figures import Figure, Result
from benchmarks.processes import reference, service, standins

GOOD, HANGING = "webhook:DESK", "webhook:STUCK"
SECRET = "whsec_" + "A" * 32
_OWE = (
    "INSERT INTO deliveries (brief_seq, sink, status, attempts, updated_at) SELECT seq, ?, 'pending', 0, 0 FROM briefs"
)
_ARRIVED = """
SELECT count(*), (max(updated_at) - min(updated_at)) / 1e6 FROM deliveries WHERE sink = ? AND status = 'delivered'
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many `briefs` are owed in each of the `rounds`."""

    briefs: int = 2000
    rounds: int = 5


QUICK = Sizes(briefs=300, rounds=2)
PATIENCE_SECONDS = 300
AT_ONCE = 8


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    alone: list[float] = []
    beside: list[float] = []
    posts: list[float] = []
    async with standins() as upstreams, reference() as port, _nobody_answers() as stuck:
        variables = {
            "DESK": f"http://127.0.0.1:{port}/webhooks/customerio",
            "DESK_SECRET": SECRET,
            "STUCK": f"http://127.0.0.1:{stuck}/",
            "STUCK_SECRET": SECRET,
            "CHURN_RADAR_SINKS_PRIVATE_NETWORKS": "127.0.0.0/8",
        }
        for number in range(sizes.rounds):
            posts.append(await _posts(port, sizes.briefs))
            for sinks, into in (((GOOD,), alone), ((HANGING, GOOD), beside)):
                home = folder / f"{number}-{len(sinks)}"
                path = await asyncio.to_thread(_owed, home, sizes.briefs, sinks)
                more = {**variables, "CHURN_RADAR_SINKS": ",".join(sinks)}
                async with service(home, upstreams, **more):
                    into.append(await _rate(path, sizes.briefs))
    ratios = [each / post for each, post in zip(alone, posts, strict=True)]
    isolated = [with_it / without for with_it, without in zip(beside, alone, strict=True)]
    return Result(
        name="deliveries",
        title="Delivering",
        about=(
            "Briefs owed to an outgoing webhook, from a record on SQLite to a receiver in a process of its own: read, "
            "signed, posted, and noted on disk, one by one. Beside it, the same with another sink that takes every "
            "connection and never answers."
        ),
        figures=[
            Figure(name="deliveries a second", unit="/s", samples=alone, plot="deliveries"),
            Figure(name="deliveries a second, beside a sink that hangs", unit="/s", samples=beside, plot="deliveries"),
            Figure(name="reference: bare POSTs of the same size", unit="/s", samples=posts, plot="deliveries"),
            Figure(name="deliveries, by bare POSTs", unit="", samples=ratios),
            Figure(name="beside a sink that hangs, by without it", unit="", samples=isolated),
        ],
        notes=[f"{sizes.briefs} briefs of about 2 KB each round; {AT_ONCE} under way at once for each sink."],
    )


def _owed(home: Path, briefs: int, sinks: tuple[str, ...]) -> Path:
    """A record in which every brief is owed to every sink."""
    home.mkdir(parents=True)
    path = home / "record.db"
    record.fill(path, briefs * record.BRIEF_EVERY)
    with closing(sqlite3.connect(path)) as connection, connection:
        for sink in sinks:
            connection.execute(_OWE, (sink,))
    return path


async def _rate(path: Path, briefs: int) -> float:
    """Deliveries a second to the sink that works, between the first and the last of them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            count, seconds = connection.execute(_ARRIVED, (GOOD,)).fetchone()
        if count == briefs:
            return float((briefs - 1) / seconds)
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{count} of {briefs} deliveries after {PATIENCE_SECONDS} seconds")


async def _posts(port: int, count: int) -> float:
    """POSTs a second, as many at once as a sink has under way."""
    body, url = b"x" * 3500, f"http://127.0.0.1:{port}/webhooks/customerio"
    left = iter(range(count))
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:

        async def some() -> None:
            for _ in left:
                (await http.post(url, content=body)).raise_for_status()

        began = time.monotonic()
        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return count / (time.monotonic() - began)


@asynccontextmanager
async def _nobody_answers() -> AsyncIterator[int]:
    """A port that takes connections and requests, and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
