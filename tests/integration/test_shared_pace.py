from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from churn_radar.errors import RecordUnavailable
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.upstream import WindowPace, shared
from churn_radar.upstream.shared import SharedPace, SharedTurn
from tests.support.jobs_database import cut_all_connections
from tests.support.work import until

LATE = 0.5


@pytest.fixture
async def paces(driver: PatientDriver) -> AsyncIterator[Paces]:
    made = Paces(driver)
    yield made
    for pace in made.made:
        await pace.aclose()


class Paces:
    """Makes paces that share one service's limits, as so many replicas."""

    def __init__(self, driver: PatientDriver) -> None:
        self._driver = driver
        self.made: list[SharedPace] = []

    def __call__(
        self,
        calls: int = 100,
        seconds: float = 60.0,
        *,
        concurrency: int | None = None,
        lease_seconds: float = 30.0,
        spread: float = 0.2,
        service: str = "mavera",
    ) -> SharedPace:
        own = WindowPace(calls, seconds, spread_seconds=spread)
        pace = SharedPace(self._driver, service, own, concurrency=concurrency, lease_seconds=lease_seconds)
        self.made.append(pace)
        return pace


async def taken_at_once(*paces: SharedPace, most: int = 20) -> list[SharedTurn]:
    """As many turns as there are without waiting, of the paces in turn."""
    turns: list[SharedTurn] = []
    for number in range(most):
        try:
            async with asyncio.timeout(LATE):
                turns.append(await paces[number % len(paces)].wait())
        except TimeoutError:
            break
    return turns


def most_in_any(window: float, moments: Sequence[float]) -> int:
    ordered = sorted(moments)
    return max(sum(first <= moment < first + window for moment in ordered) for first in ordered)


async def test_a_window_is_shared_by_all(paces: Paces) -> None:
    assert len(await taken_at_once(paces(5), paces(5), paces(5))) == 5


async def test_services_have_windows_of_their_own(paces: Paces) -> None:
    await taken_at_once(paces(3))

    assert len(await taken_at_once(paces(3, service="customerio"))) == 3


async def test_a_place_comes_free_when_the_window_has_passed(paces: Paces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SHORT_WINDOW_SECONDS", 0.0)  # a long window, run through fast
    one, other = paces(2, 0.8), paces(2, 0.8)
    began = time.monotonic()
    moments = []
    for number in range(5):
        await (one if number % 2 else other).wait()
        moments.append(time.monotonic() - began)

    # Two at once, the next two a window and its margin later.
    assert moments[1] < 1.0 <= moments[2]
    assert moments[3] - moments[2] < 1.0
    assert moments[4] >= 2.0


async def test_in_a_short_window_a_call_counts_until_its_answer_is_old_enough(paces: Paces) -> None:
    one, other = paces(1, 0.4, spread=0.05), paces(1, 0.4, spread=0.05)
    turn = await one.wait()
    await asyncio.sleep(0.5)  # longer than the window, and the answer is still to come
    assert await taken_at_once(other) == []
    turn.over()

    began = time.monotonic()
    await other.wait()
    assert 0.35 < time.monotonic() - began < 1


async def test_a_call_that_goes_out_late_counts_from_then_on_for_all(paces: Paces, driver: PatientDriver) -> None:
    one = paces(10, 60.0, spread=0.2)
    soon, late = await one.wait(), await one.wait()
    given = "SELECT id, granted_at FROM upstream_permits ORDER BY id"
    before = [row["granted_at"] for row in await driver.fetch(given)]
    soon.sent(0.05)
    late.sent(0.15)

    async def moved() -> bool:
        return [row["granted_at"] for row in await driver.fetch(given)][1] != before[1]

    await until(moved, "the late call's permit to be stamped anew")
    assert next(row["granted_at"] for row in await driver.fetch(given)) == before[0]


async def test_no_more_calls_are_under_way_than_the_concurrency(paces: Paces) -> None:
    one, other = paces(concurrency=3), paces(concurrency=3)
    turns = await taken_at_once(one, other)
    assert len(turns) == 3

    turns[0].over()
    turns[0].over()
    async with asyncio.timeout(20):
        await other.wait()
    assert await taken_at_once(one, other) == []


async def test_a_lease_is_renewed_while_its_call_is_under_way(paces: Paces) -> None:
    one, other = paces(concurrency=1, lease_seconds=0.6), paces(concurrency=1, lease_seconds=0.6)
    turn = await one.wait()
    await asyncio.sleep(1.2)
    assert await taken_at_once(other) == []
    turn.over()
    async with asyncio.timeout(20):
        await other.wait()


async def test_a_waiter_that_is_cancelled_leaves_its_place_to_others(paces: Paces) -> None:
    one, other = paces(concurrency=1), paces(concurrency=1)
    turn = await one.wait()
    waiting = asyncio.create_task(other.wait())
    await asyncio.sleep(0.1)
    waiting.cancel()
    turn.over()

    async with asyncio.timeout(20):
        await one.wait()


async def test_a_lower_limit_that_one_replica_learnt_holds_for_all(paces: Paces) -> None:
    one, other = paces(10), paces(10)
    await one.wait()
    one.keep_to(4)
    await asyncio.sleep(0.1)

    assert len(await taken_at_once(other)) == 3

    one.keep_to(10)
    await asyncio.sleep(0.1)
    assert len(await taken_at_once(other)) == 6


async def test_when_one_replica_is_told_to_stay_away_all_do(paces: Paces) -> None:
    one, other = paces(), paces()
    await one.wait()
    one.stay_away(0.6)
    await asyncio.sleep(0.1)
    assert await taken_at_once(other) == []

    await asyncio.sleep(0.5)
    assert len(await taken_at_once(other, most=2)) == 2


async def test_a_turn_tells_how_many_calls_everybody_made(paces: Paces) -> None:
    one, other = paces(), paces()
    await taken_at_once(other, most=3)
    await one.wait()

    assert one.taken == 4


async def test_a_permit_that_came_late_counts_from_when_it_came(paces: Paces, driver: PatientDriver) -> None:
    pace = paces(1, 60.0, spread=0.2)
    await pace.wait()
    [row] = await driver.fetch("SELECT id FROM upstream_permits")
    await driver.execute("UPDATE upstream_permits SET granted_at = granted_at - interval '1 min 10 s'")

    await pace._make_timely(int(str(row["id"])), time.monotonic() - 0.3)

    assert await taken_at_once(pace) == []


async def test_without_postgres_calls_wait_and_go_on_when_it_is_back(database: str, paces: Paces) -> None:
    one = paces(1000)
    for _ in range(3):
        await one.wait()
        await cut_all_connections(database)
    async with asyncio.timeout(20):
        await one.wait()


async def test_a_pace_whose_postgres_is_nowhere_gives_no_turn() -> None:
    driver = PatientDriver("postgresql://nobody@127.0.0.1:9/nothing")
    async with driver.opened():
        pace = SharedPace(driver, "mavera", WindowPace(5, 60, spread_seconds=1))
        assert await taken_at_once(pace) == []
        closing = asyncio.create_task(pace.wait())
        await asyncio.sleep(0.1)
        await driver.close()
        with pytest.raises(RecordUnavailable):
            await asyncio.wait_for(closing, 3)
        await pace.aclose()


_CALLING = """
import asyncio, json, sys, time
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.upstream import WindowPace, shared
from churn_radar.upstream.shared import SharedPace

async def main(url, calls, seconds, spread, concurrency, lease, for_seconds, call_seconds, short):
    shared.SHORT_WINDOW_SECONDS = short
    moments = []
    async with PatientDriver(url).opened() as driver:
        pace = SharedPace(driver, "mavera", WindowPace(calls, seconds, spread_seconds=spread),
                          concurrency=concurrency, lease_seconds=lease)
        print("ready", flush=True)
        sys.stdin.readline()
        ends_at = time.monotonic() + for_seconds

        async def caller():
            while time.monotonic() < ends_at:
                try:
                    async with asyncio.timeout(max(0.01, ends_at - time.monotonic())):
                        turn = await pace.wait()
                except TimeoutError:
                    return
                left = time.clock_gettime(time.CLOCK_MONOTONIC)
                await asyncio.sleep(call_seconds)
                moments.append((left, time.clock_gettime(time.CLOCK_MONOTONIC)))
                turn.over()

        await asyncio.gather(*(caller() for _ in range(4)))
        await pace.aclose()
    print(json.dumps(moments), flush=True)

asyncio.run(main(*json.loads(sys.argv[1])))
"""


class Callers:
    """Processes that call as fast as they are let."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []

    async def begin(self, count: int, *told: object) -> None:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _CALLING, json.dumps(told), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self.processes.append(process)
        for process in self.processes:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            await process.stdin.drain()

    async def calls(self) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        for process in self.processes:
            out, _ = await asyncio.wait_for(process.communicate(), 20)
            found += [(left, ended) for left, ended in json.loads(out or b"[]")]
        return found


def most_at_once(calls: Sequence[tuple[float, float]]) -> int:
    return max(sum(left <= moment < ended for left, ended in calls) for moment, _ in calls)


@pytest.mark.parametrize(("short", "least"), [(0.0, 60), (5.0, 45)], ids=["long window", "short window"])
async def test_three_processes_keep_to_one_rate_and_one_concurrency(
    database: str, driver: PatientDriver, short: float, least: int
) -> None:
    callers = Callers()
    # 40 calls in any 1.5 seconds, six at once; a call of 20 ms.
    await callers.begin(3, database, 40, 1.5, 0.2, 6, 10.0, 4.5, 0.02, short)
    calls = await callers.calls()

    moments = [left for left, _ in calls]
    assert most_in_any(1.5, moments) <= 40
    assert most_at_once(calls) <= 6
    # A quiet machine makes twice as many; but more than one window's are made on any.
    assert len(calls) >= least, "and the limit is made use of"


async def test_the_place_of_a_killed_process_comes_free_when_its_lease_has_run_out(
    database: str, driver: PatientDriver
) -> None:
    lease = timedelta(seconds=1)
    callers = Callers()
    await callers.begin(1, database, 100, 60.0, 0.2, 2, lease.total_seconds(), 60.0, 60.0, 5.0)
    pace = SharedPace(driver, "mavera", WindowPace(100, 60.0, spread_seconds=0.2), concurrency=2)

    async def both_taken() -> bool:
        return [row["count"] for row in await driver.fetch("SELECT count(*) FROM upstream_permits")] == [2]

    await until(both_taken, "two calls under way")
    await asyncio.sleep(lease.total_seconds() * 1.2)
    assert await taken_at_once(pace) == [], "while it lives, it keeps them"
    callers.processes[0].kill()
    await callers.processes[0].wait()

    # Long before its calls would have left the window.
    async with asyncio.timeout(20):
        await pace.wait()
    await pace.aclose()
