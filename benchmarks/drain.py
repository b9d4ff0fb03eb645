"""Three workers on one Postgres: how near to what both services allow they come together, and never beyond."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.load import run, webhooks
from benchmarks.people import customer_id
from benchmarks.processes import SECRET, Call, eventually, service, standins, worker
from benchmarks.servers import database

APP_CALLS_A_SECOND = 10
MAVERA_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """`workers` research for `minutes`, against a limit of `per_minute` calls; each of `customers` gets a brief."""

    customers: int = 1500
    workers: int = 3
    minutes: int = 2
    per_minute: int = 600
    rounds: int = 5


QUICK = Sizes(customers=80, minutes=1, per_minute=60, rounds=1)


@dataclass(frozen=True, slots=True)
class Drained:
    """The calls that both services saw in one round, in the order of their arrival."""

    researches: Sequence[Call]
    look_ups: Sequence[Call]

    def share_of_mavera(self, sizes: Sizes) -> float:
        """Research calls in whole minutes from the first on, by what the limit allows."""
        until = self.researches[0].began + sizes.minutes * MAVERA_SECONDS
        return sum(call.began < until for call in self.researches) / (sizes.minutes * sizes.per_minute)

    @property
    def share_of_app_api(self) -> float:
        """The least time that the limit allows for so many look-ups, by what they took; 0 where ten were enough."""
        taken = self.look_ups[-1].began - self.look_ups[0].began
        least = (len(self.look_ups) - 1) // APP_CALLS_A_SECOND
        return least / taken if least else 0.0

    @property
    def refused(self) -> int:
        """Answers of 429, of either."""
        return sum(call.status == 429 for call in (*self.researches, *self.look_ups))


def busiest(calls: Sequence[Call], seconds: float) -> int:
    """The most calls that ever arrived within so many seconds."""
    most = first = 0
    for place, call in enumerate(calls):
        while calls[first].began <= call.began - seconds:
            first += 1
        most = max(most, place - first + 1)
    return most


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    rounds = [await _drain(folder / f"drain-{number}", sizes) for number in range(sizes.rounds)]
    return Result(
        name="drain",
        title="Several workers, one limit",
        about=(
            f"{sizes.customers:,} customers who are worth a brief give a signal each; {sizes.workers} workers on one "
            f"Postgres work them off, against {sizes.per_minute} research calls in any minute, 10 at once, each taking "
            f"0.2 to 0.8 s, and {APP_CALLS_A_SECOND} App API calls in any second, each taking 20 to 80 ms. Counted "
            "where they arrive, at the stand-ins."
        ),
        figures=[
            Figure(
                name="research calls, share of Mavera's limit",
                unit="",
                samples=[each.share_of_mavera(sizes) for each in rounds],
                wanted="≥ 0.99",
                goal=0.99,
                plot="ratio",
            ),
            Figure(
                name="look-ups, share of the App API's limit",
                unit="",
                samples=[each.share_of_app_api for each in rounds],
                plot="ratio",
            ),
            Figure(name="answers of 429", unit="", samples=[each.refused for each in rounds], wanted="0"),
            Figure(
                name="research calls in the busiest minute",
                unit="",
                samples=[busiest(each.researches, MAVERA_SECONDS) for each in rounds],
                wanted=f"≤ {sizes.per_minute}",
            ),
            Figure(
                name="look-ups in the busiest second",
                unit="",
                samples=[busiest(each.look_ups, 1.0) for each in rounds],
                wanted=f"≤ {APP_CALLS_A_SECOND}",
            ),
            Figure(name="look-up calls", unit="", samples=[len(each.look_ups) for each in rounds]),
        ],
        notes=[
            f"{sizes.rounds} rounds, each on a new record; research is watched for {sizes.minutes} min from its first "
            "call on.",
            "A look-up carries up to a hundred customers, so few are needed; on a machine whose processor is the limit "
            "they come slower than they might.",
        ],
    )


async def _drain(folder: Path, sizes: Sizes) -> Drained:
    async with AsyncExitStack() as stack:
        record = stack.enter_context(database())
        upstreams = await stack.enter_async_context(
            standins(
                people=sizes.customers,
                worth_researching=1.0,
                mavera_latency="0.2,0.8",
                mavera_requests_per_minute=sizes.per_minute,
            )
        )
        more = {
            "CHURN_RADAR_DATABASE_URL": record.url,
            "CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE": str(sizes.per_minute),
        }
        door = await stack.enter_async_context(service(folder / "door", upstreams, "--no-worker", **more))
        numbers = range(sizes.customers)
        requests = webhooks(numbers, "unsubscribed", map(customer_id, numbers), SECRET)
        (await run(door.port, requests)).all_answered()
        for number in range(sizes.workers):
            await stack.enter_async_context(worker(folder / f"worker-{number}", upstreams, **more))
        seen = await eventually(upstreams.researches, "the first research call")
        await asyncio.sleep(max(0.0, seen[0].began + sizes.minutes * MAVERA_SECONDS + 1 - time.monotonic()))
        return Drained(await upstreams.researches(), await upstreams.look_ups())
