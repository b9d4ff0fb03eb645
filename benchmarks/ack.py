"""Acknowledged events a second, against a no-op FastAPI POST under the same server settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.load import Load, run, webhooks
from benchmarks.people import customer_id
from benchmarks.processes import SECRET, Service, reference, service, standins
from benchmarks.record import nothing_untriaged, until


@dataclass(frozen=True, slots=True)
class Sizes:
    """`events` of a leg, `rounds` of nine legs: the reference at both ends and between each two of ours."""

    events: int = 8000
    rounds: int = 5
    warm_up: int = 500


QUICK = Sizes(events=1000, rounds=2, warm_up=200)
ACCEPTED, IGNORED, WITHOUT_WORKER, ONE_WRITE = KINDS = (
    *("accepted", "ignored", "accepted without a worker"),
    "the reference over our own protocol",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One leg of the service's, and the references right before and after it."""

    before: Load
    leg: Load
    after: Load

    @property
    def ratio(self) -> float:
        """The leg's rate by the mean of the references'."""
        return self.leg.per_second / ((self.before.per_second + self.after.per_second) / 2)


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    people = sizes.warm_up + sizes.rounds * sizes.events
    turns: dict[str, list[Turn]] = {kind: [] for kind in KINDS}
    async with (
        standins(people=people) as upstreams,
        reference() as port,
        reference("--one-write") as one_write,
        service(folder / "ack", upstreams) as running,
        service(folder / "ack-without-worker", upstreams, "--no-worker") as alone,
    ):
        for each in (port, one_write, running.port, alone.port):
            await _leg(each, "unsubscribed", 0, sizes.warm_up)
        await _quiet(running, sizes.warm_up)
        for number in range(sizes.rounds):
            first = sizes.warm_up + number * sizes.events
            before = await _leg(port, "unsubscribed", first, sizes.events)
            for kind, metric, where in (
                (ACCEPTED, "unsubscribed", running.port),
                (IGNORED, "opened", running.port),
                (WITHOUT_WORKER, "unsubscribed", alone.port),
                (ONE_WRITE, "unsubscribed", one_write),
            ):
                leg = await _leg(where, metric, first, sizes.events)
                await _quiet(running, sizes.events)
                after = await _leg(port, metric, first, sizes.events)
                turns[kind].append(Turn(before, leg, after))
                before = after
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
        figures=_figures(turns),
        notes=[
            f"{sizes.events} events a leg, {sizes.rounds} rounds. The worker made {len(calls)} App API calls "
            f"meanwhile; {sum(call.status == 429 for call in calls)} of them were answered 429.",
            "Load generator, reference, service and stand-ins share the cores.",
        ],
    )


async def _leg(port: int, metric: str, first: int, count: int) -> Load:
    numbers = range(first, first + count)
    requests = webhooks(numbers, metric, map(customer_id, numbers), SECRET)
    return (await run(port, requests)).all_answered()


async def _quiet(running: Service, events: int) -> None:
    """Wait until the worker has triaged what came: a busy one would slow the reference, and flatter the ratio."""
    await until(running.record, nothing_untriaged, most_seconds=30 + events / 50)


def _figures(turns: dict[str, list[Turn]]) -> list[Figure]:
    wanted = {ACCEPTED: ("≥ 1.0", 1.0), IGNORED: ("≥ 2.0", 2.0), WITHOUT_WORKER: (None, None), ONE_WRITE: (None, None)}
    loads = {kind: [turn.leg for turn in each] for kind, each in turns.items()}
    loads["reference"] = [turn.after for each in turns.values() for turn in each]
    ratios = [
        Figure(
            name=f"{kind}, ratio to the reference",
            unit="",
            samples=[turn.ratio for turn in each],
            wanted=wanted[kind][0],
            goal=wanted[kind][1],
            plot="ratio",
        )
        for kind, each in turns.items()
    ]
    rates = [
        Figure(name=f"{name}, a second", unit="/s", samples=[load.per_second for load in each], plot="rate")
        for name, each in loads.items()
    ]
    latencies = [
        Figure(
            name=f"{name}, {label}",
            unit="ms",
            samples=[load.milliseconds(share) for load in each],
            wanted="≤ 40 ms" if (name, label) == (ACCEPTED, "p99") else None,
            goal=40 if (name, label) == (ACCEPTED, "p99") else None,
            plot="latency",
        )
        for label, share in (("p50", 0.5), ("p99", 0.99))
        for name, each in loads.items()
    ]
    return [*ratios, *rates, *latencies]
