"""Killed at any instant: what was acknowledged is briefed, once, after the next start."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.conftest import Upstreams
from tests.acceptance.test_main_job import event
from tests.support.service import eventually, serving

pytestmark = [pytest.mark.acceptance, pytest.mark.journey]

CUSTOMERS = ("cust_1001", "cust_1002", "cust_1003", "cust_1005", "cust_1006", "cust_1008")


@pytest.fixture
def mave_seconds() -> tuple[float, float]:
    return (0.5, 0.8)


async def test_a_kill_between_acknowledgement_and_brief_loses_and_doubles_nothing(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    settings = upstreams.settings(tmp_path, CHURN_RADAR_MAVERA_CONCURRENCY="2")
    async with serving(tmp_path, settings) as service:
        for number, customer in enumerate(CUSTOMERS):
            assert (await service.post(event(f"01E{number}", "unsubscribed", customer))).json()["status"] == "accepted"

        async def some_are_done_and_some_are_not() -> bool:
            return bool(0 < len(service.delivered()) < len(CUSTOMERS) and upstreams.mavera.in_flight.total())

        await eventually(some_are_done_and_some_are_not, "a moment with finished and unfinished research")
        await service.kill()
        await service.start()
        for number in range(len(CUSTOMERS)):
            await service.until(f"01E{number}", "briefed")

        async def all_delivered() -> bool:
            return len({brief["customer_id"] for brief in service.delivered()}) == len(CUSTOMERS)

        await eventually(all_delivered, "every brief in the file")
        async with service.client() as http:
            stored = (await http.get("/briefs", params={"limit": 200})).json()["items"]
        assert Counter(brief["customer_id"] for brief in stored) == Counter(CUSTOMERS)
        # At least once at the sink, always under the same id.
        assert {brief["id"] for brief in service.delivered()} == {brief["id"] for brief in stored}
        # A stored brief was never asked for again: only what was under way when it died, two at most.
        assert len(upstreams.asked) <= len(CUSTOMERS) + 2
        # Byte-identical retries stay duplicates, after the brief and after the restart.
        again = await service.post(event("01E0", "unsubscribed", CUSTOMERS[0]))
        assert again.json()["status"] == upstreams.place.repeated


async def test_sigterm_lets_research_under_way_finish_and_exits_0(tmp_path: Path, upstreams: Upstreams) -> None:
    async with serving(tmp_path, upstreams.settings(tmp_path)) as service:
        await service.post(event("01E1", "unsubscribed", "cust_1001"))

        async def under_way() -> bool:
            return bool(upstreams.mavera.in_flight.total())

        await eventually(under_way, "the research call to be under way")
        assert await service.terminate() == 0
        await service.start()
        assert (await service.signal("01E1"))["status"] == "briefed"
        assert len(upstreams.asked) == 1


async def test_a_stop_is_bounded_and_what_it_cuts_off_is_taken_up_at_the_next_start(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    upstreams.mavera_faults.add("hang")
    async with serving(tmp_path, upstreams.settings(tmp_path, CHURN_RADAR_SHUTDOWN_GRACE_SECONDS="0.2")) as service:
        await service.post(event("01E1", "unsubscribed", "cust_1001"))
        await service.until("01E1", "researching")
        assert await service.terminate() == 0
        await service.start()
        await service.until("01E1", "briefed")
