"""Credits: what joining the signals of one customer saves in a blast, and building upon earlier research."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.blast import letters
from benchmarks.figures import Figure, Result
from benchmarks.load import run
from benchmarks.processes import service, standins
from benchmarks.record import counts, nothing_unfinished, number_of, until

# Each way of spending credits, and the settings that make it.
ALONE, REUSED = {"CHURN_RADAR_COOL_DOWN_HOURS": "0"}, {"CHURN_RADAR_REUSE_RESEARCH_DAYS": "7"}
MANNERS: dict[str, dict[str, str]] = {
    "each signal by itself": ALONE,
    "each signal by itself, research reused": ALONE | REUSED,
    "joined (the default)": {},
    "joined, research reused": REUSED,
}
PER_MINUTE = "6000"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a blast, how often. Its shape is that of the large one: five events for four customers."""

    events: int = 1000
    customers: int = 800
    rounds: int = 5


QUICK = Sizes(events=250, customers=200, rounds=1)


@dataclass(frozen=True, slots=True)
class Bill:
    """What one blast cost: credits charged by Mavera's stand-in, briefs in the record.

    `followed_up` is how many of the briefs continue the thread of another.
    """

    credits: int
    briefs: int
    followed_up: int


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    bills: dict[str, list[Bill]] = {manner: [] for manner in MANNERS}
    for number in range(sizes.rounds):
        for place, (manner, settings) in enumerate(MANNERS.items()):
            bills[manner].append(await _bill(folder / f"cost-{number}-{place}", sizes, number + 1, settings))
    return Result(
        name="cost",
        title="What a blast costs",
        about=(
            f"{sizes.events:,} events of {sizes.customers:,} customers, all of them worth a brief. Credits are those "
            "that Mavera's stand-in charged (30 to 75 for a research, 30 to 50 % less in a thread, by the documented "
            "price list), briefs those in the record."
        ),
        figures=[
            *(
                Figure(
                    name=f"credits for a customer who gets a brief, {manner}",
                    unit="",
                    samples=[bill.credits / sizes.customers for bill in found],
                    plot="credits for a customer",
                )
                for manner, found in bills.items()
            ),
            *(
                Figure(
                    name=f"credits for a brief, {manner}",
                    unit="",
                    samples=[bill.credits / bill.briefs for bill in found],
                )
                for manner, found in bills.items()
            ),
            *(
                Figure(name=f"briefs, {manner}", unit="", samples=[bill.briefs for bill in found])
                for manner, found in bills.items()
            ),
            *(
                Figure(name=f"credits in all, {manner}", unit="", samples=[bill.credits for bill in found])
                for manner, found in bills.items()
            ),
            *(
                Figure(
                    name=f"share of briefs that continue a thread, {manner}",
                    unit="",
                    samples=[bill.followed_up / bill.briefs for bill in found],
                )
                for manner, found in bills.items()
                if MANNERS[manner].items() >= REUSED.items()
            ),
        ],
        notes=[
            f"{sizes.rounds} blasts for each manner, each on a new record.",
            "Joining makes briefs fewer, not cheaper: a brief costs the same, and a customer gets one for all signals.",
            "Reuse makes briefs cheaper, not fewer: it needs an earlier brief of the same persona, plan and kind of "
            "event whose thread is free. The fewer kinds of customer there are, the more it saves; what follow-ups are "
            "worth beside fresh research, a stand-in cannot tell.",
        ],
    )


async def _bill(folder: Path, sizes: Sizes, seed: int, settings: dict[str, str]) -> Bill:
    async with (
        standins(
            people=sizes.customers,
            worth_researching=1,
            mavera_latency="0.01,0.03",
            mavera_requests_per_minute=PER_MINUTE,
        ) as upstreams,
        service(folder, upstreams, CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE=PER_MINUTE, **settings) as running,
    ):
        (await run(running.port, letters(sizes.events, sizes.customers, seed))).all_answered()
        await until(running.record, nothing_unfinished, most_seconds=60 + sizes.events / 5)
        found = counts(running.record)
        if not set(found) <= {"briefed", "joined"} or sum(found.values()) != sizes.events:
            raise RuntimeError(f"{sizes.events} events came to {found}")
        state = await upstreams.mavera_state()
        return Bill(int(state["credits_used"]), number_of(running.record, "briefs"), int(state["followed_up"]))
