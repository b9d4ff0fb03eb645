"""A campaign blast: how soon everything is triaged, how near to Mavera's limit research runs, and in which order."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from benchmarks.figures import Course, Figure, Result
from benchmarks.load import Load, run, webhooks
from benchmarks.people import PAID, customer_id, people
from benchmarks.processes import SECRET, Call, Service, eventually, service, standins
from benchmarks.record import counts
from churn_radar.simulator.facts import read_facts

BULK_IDS = 100
APP_CALLS_A_SECOND = 10
METRICS = ("unsubscribed", "bounced", "spammed")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a blast, how often; `minutes` of research against a limit of `per_minute` calls are watched."""

    events: int = 5000
    customers: int = 4000
    rounds: int = 5
    minutes: int = 2
    per_minute: int = 600
    dearest: int = 50

    @property
    def floor_seconds(self) -> float:
        """The least time in which the App API can show all the customers."""
        return -(-self.customers // BULK_IDS) / APP_CALLS_A_SECOND


QUICK = Sizes(rounds=1, minutes=1, per_minute=120)


@dataclass
class Blast:
    """What one blast came to. Times in seconds from the first event's leaving."""

    sent: Load
    began: float = 0.0
    triaged_after: float = 0.0
    researches: list[Call] = field(default_factory=list)
    refused: int = 0
    places: list[int] = field(default_factory=list)
    before_triaged: int = 0
    grown_bytes: int = 0
    course: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    def researched(self, sizes: Sizes) -> int:
        """Research calls in so many whole minutes from the first one on."""
        until = self.researches[0].began + sizes.minutes * 60
        return sum(call.began < until and call.status == 200 for call in self.researches)


def letters(events: int, customers: int, seed: int) -> list[bytes]:
    """A blast: every customer at least once, the rest of the events by customers drawn at random, shuffled."""
    dice = random.Random(seed)
    whose = [*range(customers), *(dice.randrange(customers) for _ in range(events - customers))]
    dice.shuffle(whose)
    return [
        webhooks([seed * events + number], dice.choice(METRICS), [customer_id(customer)], SECRET)[0]
        for number, customer in enumerate(whose)
    ]


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Run it."""
    blasts = [await _blast(folder / f"blast-{number}", sizes, number + 1) for number in range(sizes.rounds)]
    return Result(
        name="blast",
        title="A campaign blast",
        about=(
            f"{sizes.events:,} events of {sizes.customers:,} customers, six in ten of them worth a brief, sent as fast "
            f"as the door takes them. The floor of triage is what the App API allows: {sizes.customers // BULK_IDS} "
            f"bulk calls at {APP_CALLS_A_SECOND} a second, {sizes.floor_seconds:g} s. Research runs against a limit "
            f"of {sizes.per_minute} calls a minute and 10 at once, each taking 0.2 to 0.8 s. All of it is read from "
            "the record's file and at the stand-ins."
        ),
        figures=_figures(blasts, sizes),
        courses=[_course(blasts[0])],
        notes=[
            f"{sizes.rounds} blasts, each on a new record. Research is watched for {sizes.minutes} min from its first "
            "call on.",
            "Research begins with the first look-ups that are answered, so the dearest of all cannot be known at "
            f"once: {statistics.median(blast.before_triaged for blast in blasts):g} calls (median) had gone out when "
            "the last event was triaged.",
        ],
    )


async def _blast(folder: Path, sizes: Sizes, seed: int) -> Blast:
    limit = str(sizes.per_minute)
    async with (
        standins(people=sizes.customers, mavera_latency="0.2,0.8", mavera_requests_per_minute=limit) as upstreams,
        service(folder, upstreams, CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE=limit) as running,
    ):
        requests = letters(sizes.events, sizes.customers, seed)
        await asyncio.sleep(1)
        before = running.resident_bytes()
        began = time.monotonic()
        sending = asyncio.create_task(run(running.port, requests))
        blast = Blast(Load(0, 1, [], {}), began)
        await _triaged(running, sizes, blast)
        blast.sent = (await sending).all_answered()
        blast.grown_bytes = running.resident_bytes() - before
        seen = await eventually(upstreams.researches, "the first research call")
        until = seen[0].began + sizes.minutes * 60
        while time.monotonic() < until + 1:
            await asyncio.sleep(0.5)
            blast.course.append((time.monotonic() - began, counts(running.record)))
        blast.researches = await upstreams.researches()
        state = await upstreams.mavera_state()
        looked_up = await upstreams.look_ups()
    blast.refused = sum(call.status == 429 for call in (*blast.researches, *looked_up))
    blast.before_triaged = sum(call.began < began + blast.triaged_after for call in blast.researches)
    blast.places = _places([read_facts(message).mrr or Decimal() for message in state["messages"]], sizes)
    return blast


async def _triaged(running: Service, sizes: Sizes, blast: Blast) -> None:
    """Watch the record until every event has been triaged."""
    async with asyncio.timeout(60 + 10 * sizes.floor_seconds):
        while True:
            found = counts(running.record)
            now = time.monotonic() - blast.began
            if not blast.course or now - blast.course[-1][0] > 0.1:
                blast.course.append((now, found))
            if sum(found.values()) == sizes.events and "received" not in found:
                blast.triaged_after = now
                return
            await asyncio.sleep(0.02)


def _places(researched: Sequence[Decimal], sizes: Sizes) -> list[int]:
    """At which place (1 first) each of the workspace's dearest was researched; one past the end when not at all."""
    worth = [person for person in people(sizes.customers) if person.attributes["plan_type"] in PAID]
    revenues = sorted((Decimal(person.attributes["mrr"]) for person in worth), reverse=True)
    place = {revenue: number for number, revenue in enumerate(researched, start=1)}
    return [place.get(revenue, len(researched) + 1) for revenue in revenues[: sizes.dearest]]


def _figures(blasts: list[Blast], sizes: Sizes) -> list[Figure]:
    return [
        Figure(
            name="all triaged, ratio to the floor",
            unit="",
            samples=[blast.triaged_after / sizes.floor_seconds for blast in blasts],
            wanted="≤ 1.5",
            goal=1.5,
            plot="ratio",
        ),
        Figure(
            name="research drained, ratio to Mavera's limit",
            unit="",
            samples=[blast.researched(sizes) / (sizes.minutes * sizes.per_minute) for blast in blasts],
            wanted="≥ 0.95",
            goal=0.95,
            plot="ratio",
        ),
        Figure(name="answers of 429", unit="", samples=[blast.refused for blast in blasts], wanted="0"),
        Figure(name="all acknowledged after", unit="s", samples=[blast.sent.seconds for blast in blasts]),
        Figure(name="all triaged after", unit="s", samples=[blast.triaged_after for blast in blasts]),
        Figure(name="acknowledgement, p99", unit="ms", samples=[blast.sent.milliseconds(0.99) for blast in blasts]),
        Figure(
            name=f"place of the dearest {sizes.dearest}, middle one",
            unit="",
            samples=[statistics.median(blast.places) for blast in blasts],
        ),
        Figure(
            name=f"place of the dearest {sizes.dearest}, last one", unit="", samples=[max(b.places) for b in blasts]
        ),
        Figure(name="researched in the time watched", unit="", samples=[blast.researched(sizes) for blast in blasts]),
        Figure(
            name="memory grown by the blast, an event",
            unit="bytes",
            samples=[blast.grown_bytes / sizes.events for blast in blasts],
        ),
    ]


def _course(blast: Blast) -> Course:
    lines: dict[str, list[tuple[float, float]]] = {"acknowledged": [], "triaged": [], "briefed": []}
    for at, found in blast.course:
        every = sum(found.values())
        for name, value in zip(lines, (every, every - found.get("received", 0), found.get("briefed", 0)), strict=True):
            lines[name].append((round(at, 2), value))
    return Course(title="The first blast", x="seconds from the first event", y="events", lines=lines)
