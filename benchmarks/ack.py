"""Acknowledged events a second, against a no-op FastAPI POST under the same server settings."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Result
from benchmarks.processes import reference, service, standins
from benchmarks.record import nothing_untriaged, until
from benchmarks.turns import QUICK, Contender, Sizes, figures_of, take_turns

__all__ = ["KINDS", "QUICK", "Sizes", "measure"]

ACCEPTED, IGNORED, WITHOUT_WORKER, ONE_WRITE = KINDS = (
    *("accepted", "ignored", "accepted without a worker"),
    "the reference over our own protocol",
)


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    async with (
        standins(people=sizes.people) as upstreams,
        reference() as port,
        reference("--one-write") as one_write,
        service(folder / "ack", upstreams) as running,
        service(folder / "ack-without-worker", upstreams, "--no-worker") as alone,
    ):

        async def quiet() -> None:
            await until(running.record, nothing_untriaged, most_seconds=30 + sizes.events / 50)

        contenders = [
            Contender(ACCEPTED, running.port, quiet=quiet),
            Contender(IGNORED, running.port, "opened"),
            Contender(WITHOUT_WORKER, alone.port),
            Contender(ONE_WRITE, one_write),
        ]
        turns = await take_turns(port, contenders, sizes)
        calls = await upstreams.look_ups()
    return Result(
        name="ack",
        title="Acknowledging",
        about=(
            "Signed, unique events over 64 connections to one process with its worker running, SQLite synced at every "
            "commit. The reference, in turn with it, is an empty FastAPI POST under the same server settings, without "
            "signature, parsing or storage, on uvicorn's own HTTP protocol; over the service's, which writes an answer "
            "in one piece, it is measured too. Before each reference leg the worker has triaged what it was sent."
        ),
        figures=figures_of(turns, ratios={ACCEPTED: 1.0, IGNORED: 2.0}, most_p99_ms={ACCEPTED: 40}),
        notes=[
            f"{sizes.events} events a leg, {sizes.rounds} rounds. The worker made {len(calls)} App API calls "
            f"meanwhile; {sum(call.status == 429 for call in calls)} of them were answered 429.",
            "Load generator, reference, service and stand-ins share the cores.",
        ],
    )
