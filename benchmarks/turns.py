"""Who takes turns with the no-op reference, and what came of it: the part that every benchmark of the door shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.load import Load, run, webhooks
from benchmarks.people import customer_id
from benchmarks.processes import SECRET


@dataclass(frozen=True, slots=True)
class Sizes:
    """`events` of a leg and `rounds` of legs: the reference at both ends and between each two of the others."""

    events: int = 8000
    rounds: int = 5
    warm_up: int = 500

    @property
    def people(self) -> int:
        """Customers that a workspace has to have."""
        return self.warm_up + self.rounds * self.events


QUICK = Sizes(events=1000, rounds=2, warm_up=200)


@dataclass(frozen=True, slots=True)
class Contender:
    """Someone who is sent events of a metric at a port. `quiet` waits until the work that a leg made is done."""

    name: str
    port: int
    metric: str = "unsubscribed"
    quiet: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One leg of a contender's, and the references right before and after it."""

    before: Load
    leg: Load
    after: Load

    @property
    def ratio(self) -> float:
        """The leg's rate by the mean of the references'."""
        return self.leg.per_second / ((self.before.per_second + self.after.per_second) / 2)


Turns = Mapping[str, Sequence[Turn]]


async def take_turns(reference: int, contenders: Sequence[Contender], sizes: Sizes) -> Turns:
    """Warm everybody up, then let each send as often as there are rounds, between two legs of the reference.

    A busy worker would slow the reference and flatter the ratio, so each leg's work is waited for.
    """
    turns: dict[str, list[Turn]] = {each.name: [] for each in contenders}
    await _leg(reference, "unsubscribed", range(sizes.warm_up))
    for each in contenders:
        await _leg_and_quiet(each, range(sizes.warm_up))
    for number in range(sizes.rounds):
        first = sizes.warm_up + number * sizes.events
        numbers = range(first, first + sizes.events)
        before = await _leg(reference, "unsubscribed", numbers)
        for each in contenders:
            leg = await _leg_and_quiet(each, numbers)
            after = await _leg(reference, each.metric, numbers)
            turns[each.name].append(Turn(before, leg, after))
            before = after
    return turns


async def _leg_and_quiet(each: Contender, numbers: range) -> Load:
    leg = await _leg(each.port, each.metric, numbers)
    if each.quiet is not None:
        await each.quiet()
    return leg


async def _leg(port: int, metric: str, numbers: range) -> Load:
    return (await run(port, webhooks(numbers, metric, map(customer_id, numbers), SECRET))).all_answered()


def figures_of(turns: Turns, *, ratios: Mapping[str, float], most_p99_ms: Mapping[str, float]) -> list[Figure]:
    """Ratios, rates and latencies. `ratios` and `most_p99_ms` are what is wanted of whom."""
    loads = {name: [turn.leg for turn in each] for name, each in turns.items()}
    loads["reference"] = [turn.after for each in turns.values() for turn in each]
    return [
        *(_ratio(name, each, ratios.get(name)) for name, each in turns.items()),
        *(
            Figure(name=f"{name}, a second", unit="/s", samples=[load.per_second for load in each], plot="rate")
            for name, each in loads.items()
        ),
        *(_latency(name, each, "p50", 0.5, None) for name, each in loads.items()),
        *(_latency(name, each, "p99", 0.99, most_p99_ms.get(name)) for name, each in loads.items()),
    ]


def _ratio(name: str, turns: Sequence[Turn], wanted: float | None) -> Figure:
    return Figure(
        name=f"{name}, ratio to the reference",
        unit="",
        samples=[turn.ratio for turn in turns],
        wanted=None if wanted is None else f"≥ {wanted}",
        goal=wanted,
        plot="ratio",
    )


def _latency(name: str, loads: Sequence[Load], label: str, share: float, wanted: float | None) -> Figure:
    return Figure(
        name=f"{name}, {label}",
        unit="ms",
        samples=[load.milliseconds(share) for load in loads],
        wanted=None if wanted is None else f"≤ {wanted:g} ms",
        goal=wanted,
        plot="latency",
    )
