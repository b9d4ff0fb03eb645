from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import pytest

from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.work.shared_troubles import SharedTroubles
from churn_radar.work.steps import utc_now
from tests.support.jobs_database import connected, cut_all_connections, empty_tables
from tests.support.work import until

DELAYS = [timedelta(seconds=seconds) for seconds in (0.3, 0.6, 60)]


@pytest.fixture
async def replicas(database: str) -> AsyncIterator[list[SharedTroubles]]:
    """Three, each with connections of its own."""
    await empty_tables(database)
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(3):
            driver: PatientDriver = await stack.enter_async_context(connected(database, size=2))
            made.append(await stack.enter_async_context(SharedTroubles(driver, DELAYS).following()))
        yield made


def report(troubles: SharedTroubles, message: str = "the key was refused") -> timedelta:
    return troubles.report("mavera", message, utc_now(), 401)


async def all_know(replicas: list[SharedTroubles], *messages: str) -> None:
    async def they_do() -> bool:
        return all(set(troubles.current.values()) == set(messages) for troubles in replicas)

    await until(they_do, f"everybody to know {messages}")


async def turns(replicas: list[SharedTroubles]) -> list[timedelta | None]:
    return list(await asyncio.gather(*(troubles.turn("mavera", utc_now()) for troubles in replicas)))


async def test_all_see_the_pause(replicas: list[SharedTroubles]) -> None:
    assert await turns(replicas) == [None] * 3
    assert report(replicas[0]) == DELAYS[0]

    await all_know(replicas, "the key was refused")
    assert all(wait is not None and wait <= DELAYS[0] for wait in await turns(replicas))
    [seen] = replicas[2].standing
    assert (seen.status, seen.probes) == (401, 0)


async def test_one_of_all_makes_the_probe(replicas: list[SharedTroubles]) -> None:
    report(replicas[0])
    await all_know(replicas, "the key was refused")
    await asyncio.sleep(DELAYS[0].total_seconds())

    waits = await turns(replicas * 5)

    assert waits.count(None) == 1
    assert all(wait is None or DELAYS[0] < wait <= DELAYS[1] for wait in waits)


async def test_only_a_probe_that_failed_makes_the_interval_longer(replicas: list[SharedTroubles]) -> None:
    report(replicas[0])
    await all_know(replicas, "the key was refused")
    report(replicas[1])  # a call that was under way
    await asyncio.sleep(DELAYS[0].total_seconds())
    [prober] = [troubles for troubles in replicas if await troubles.turn("mavera", utc_now()) is None]
    report(prober)
    for troubles in replicas:
        report(troubles)
    await asyncio.gather(*(troubles.settled() for troubles in replicas))

    async def they_know() -> bool:
        return [troubles.standing[0].probes for troubles in replicas] == [1] * 3

    await until(they_know, "one probe that failed")
    await asyncio.sleep(DELAYS[1].total_seconds())
    waits = await turns(replicas)
    assert waits.count(None) == 1
    assert all(wait is None or wait > DELAYS[1] for wait in waits)


async def test_all_see_the_end_and_let_go_what_waits(replicas: list[SharedTroubles]) -> None:
    recovered: list[int] = []

    def note(number: int, service: str) -> None:
        recovered.append(number)

    for number, troubles in enumerate(replicas):
        troubles.on_recovered = partial(note, number)
    report(replicas[0])
    await all_know(replicas, "the key was refused")

    replicas[1].clear("mavera")

    await all_know(replicas)
    assert sorted(recovered) == [0, 1, 2]
    assert await turns(replicas) == [None] * 3


async def test_a_replay_by_hand_lets_one_call_of_whichever_replica_through(replicas: list[SharedTroubles]) -> None:
    report(replicas[0])
    await all_know(replicas, "the key was refused")
    replicas[0].probe_now(utc_now())
    await replicas[0].settled()

    assert (await turns(replicas)).count(None) == 1
    replicas[1].probe_now(utc_now())
    await replicas[1].settled()
    assert None not in await turns(replicas), "once in ten seconds, over all of them"


async def test_a_replica_that_starts_later_knows_what_stands(database: str, replicas: list[SharedTroubles]) -> None:
    report(replicas[0])
    await replicas[0].settled()
    async with connected(database) as driver, SharedTroubles(driver, DELAYS).following() as late:
        await all_know([late], "the key was refused")


async def test_a_replica_may_stop_in_the_moment_in_which_it_hears_something(database: str) -> None:
    async with (
        asyncio.timeout(30),
        connected(database) as driver,
        SharedTroubles(driver, DELAYS).following() as stopped,
    ):
        await until(lambda: _waits_for(stopped._news), "it to listen")
        stopped._news.set()


async def _waits_for(news: asyncio.Event) -> bool:
    return bool(news._waiters)


async def test_what_was_said_while_connections_were_cut_is_heard(database: str, replicas: list[SharedTroubles]) -> None:
    report(replicas[0])
    await all_know(replicas, "the key was refused")
    await cut_all_connections(database)
    replicas[2].clear("mavera")

    await all_know(replicas)
