"""From acknowledgement to the research call, one event at a time, with nothing else to do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.load import run, webhooks
from benchmarks.people import customer_id
from benchmarks.processes import SECRET, Service, reference, service, standins
from benchmarks.record import counts, until


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many `events`, one at a time, between how many seconds of rest."""

    events: int = 30
    rest: tuple[float, float] = (0.5, 1.0)


QUICK = Sizes(events=12, rest=(0.1, 0.3))
WARM_UP = 2


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    events = WARM_UP + sizes.events
    async with (
        standins(
            people=events,
            worth_researching=1,
            customerio_latency="0,0",
            mavera_latency="0,0",
            mavera_requests_per_minute=600,
        ) as upstreams,
        reference() as port,
        service(folder / "idle", upstreams, CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE="600") as running,
    ):
        dice = random.Random(1)
        acknowledged, trips, references = [], [], []
        for number in range(events):
            # Of uneven length, so that no timer of the service's happens to keep step with it.
            await asyncio.sleep(dice.uniform(*sizes.rest))
            sent = time.monotonic()
            acknowledged.append(await _acknowledged(running, number))
            trips.append(acknowledged[-1] - sent)
            await until(running.record, _briefed(number + 1), most_seconds=30, every=0.03)
            sent = time.monotonic()
            (await run(port, webhooks([number], "opened", ["x"], SECRET), connections=1)).all_answered()
            references.append(time.monotonic() - sent)
        look_ups, researches = await upstreams.look_ups(), await upstreams.researches()
        left = counts(running.record)
    if not len(look_ups) == len(researches) == events or left != {"briefed": events}:
        raise RuntimeError(f"{events} events led to {len(look_ups)} look-ups, {len(researches)} research calls, {left}")
    rows = list(zip(acknowledged, look_ups, researches, strict=True))[WARM_UP:]
    whole = [(research.began - ack) * 1000 for ack, _, research in rows]
    look_up = [(call.answered - call.began) * 1000 for _, call, _ in rows]
    return Result(
        name="idle",
        title="At idle",
        about=(
            "One event at a time: from its acknowledgement in the sender's hands to the research call's arrival at "
            "Mavera's stand-in. The look-up is the App API call as its stand-in saw it, answered at once."
        ),
        figures=[
            Figure(
                name="from acknowledgement to research, less the look-up",
                unit="ms",
                samples=[a - b for a, b in zip(whole, look_up, strict=True)],
                wanted="median ≤ 50 ms",
                goal=50,
                plot="latency",
            ),
            Figure(name="from acknowledgement to research", unit="ms", samples=whole, plot="latency"),
            Figure(name="the look-up itself", unit="ms", samples=look_up, plot="latency"),
            Figure(
                name="acknowledgement of a lone event", unit="ms", samples=[trip * 1000 for trip in trips[WARM_UP:]]
            ),
            Figure(
                name="reference: a lone no-op POST", unit="ms", samples=[trip * 1000 for trip in references[WARM_UP:]]
            ),
        ],
        notes=[f"{sizes.events} events, {sizes.rest[0]:g} to {sizes.rest[1]:g} s of rest before each."],
    )


def _briefed(count: int) -> Callable[[dict[str, int]], bool]:
    return lambda found: found.get("briefed", 0) >= count


async def _acknowledged(running: Service, number: int) -> float:
    """Send one event; returns when its acknowledgement was there."""
    (
        await run(running.port, webhooks([number], "bounced", [customer_id(number)], SECRET), connections=1)
    ).all_answered()
    return time.monotonic()
