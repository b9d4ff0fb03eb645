"""Acknowledged events a second with the record on Postgres, against the no-op reference."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.figures import Result
from benchmarks.processes import StandIns, reference, service, standins, worker
from benchmarks.servers import database, redis, until_drained, until_triaged
from benchmarks.turns import QUICK, Contender, Sizes, figures_of, take_turns

__all__ = ["KINDS", "QUICK", "Sizes", "measure"]

INSIDE, OUTSIDE, REDIS = KINDS = (
    *("accepted, the worker inside", "accepted, the worker a process of its own"),
    "accepted into a Redis buffer, the worker inside",
)


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    async with standins(people=sizes.people) as upstreams, reference() as port, AsyncExitStack() as stack:
        contenders = [
            await _contender(stack, folder, upstreams, INSIDE, sizes),
            await _contender(stack, folder, upstreams, OUTSIDE, sizes),
            await _contender(stack, folder, upstreams, REDIS, sizes),
        ]
        turns = await take_turns(port, contenders, sizes)
        calls = await upstreams.look_ups()
    return Result(
        name="postgres",
        title="Acknowledging on Postgres",
        about=(
            "As above, with the record on Postgres on the same machine, which syncs every commit: one process with its "
            "worker running, a door beside a worker in a process of its own, and one process that acknowledges when a "
            "Redis of its own has synced the event, and brings it into Postgres afterwards."
        ),
        figures=figures_of(turns, ratios={INSIDE: 0.45, REDIS: 0.4}, most_p99_ms={}),
        notes=[
            f"{sizes.events} events a leg, {sizes.rounds} rounds. The workers made {len(calls)} App API calls "
            f"meanwhile; {sum(call.status == 429 for call in calls)} of them were answered 429.",
            "Load generator, reference, service, worker, Postgres and stand-ins share the cores.",
        ],
    )


async def _contender(
    stack: AsyncExitStack, folder: Path, upstreams: StandIns, name: str, sizes: Sizes, **more: str
) -> Contender:
    """A service on a database of its own."""
    record = stack.enter_context(database())
    more["CHURN_RADAR_DATABASE_URL"] = record.url
    buffer = await stack.enter_async_context(redis(folder / "redis")) if name == REDIS else None
    if buffer:
        more["CHURN_RADAR_BUFFER_URL"] = buffer
    alone = ["--no-worker"] if name == OUTSIDE else []
    running = await stack.enter_async_context(service(folder / record.name, upstreams, *alone, **more))
    if alone:
        await stack.enter_async_context(worker(folder / "worker", upstreams, **more))

    async def quiet() -> None:
        if buffer:
            await until_drained(buffer, most_seconds=30 + sizes.events / 50)
        await until_triaged(record, most_seconds=30 + sizes.events / 50)

    return Contender(name, running.port, quiet=quiet)
