"""Dead letters: what they died of as fields, where to read what to do, and what a replay makes of that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from churn_radar.simulator.people import PEOPLE
from churn_radar.store.signals import Signal
from churn_radar.store.tables import Status
from churn_radar.work.tasks import Again
from tests.support.work import Workshop, logged, payload, service, workshop

JANE = "cust_1001"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path, retry_delays_seconds=(3600,), people=list(PEOPLE)) as made:
        yield made


async def dead_of_research(shop: Workshop, fault: str) -> Signal:
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)
    shop.mavera_faults.add(fault, 2)
    for _ in range(2):
        outcome = await shop.research(seq)
        shop.clock.forward(outcome.delay * 1.2 if isinstance(outcome, Again) else timedelta())
    shop.mavera_faults.clear()
    return await shop.signal(seq)


@pytest.mark.parametrize(("fault", "answered"), [("status:400", 400), ("status:503", 503), ("garbage", 200)])
async def test_a_dead_letter_keeps_which_service_it_died_of_and_what_that_answered_last(
    shop: Workshop, fault: str, answered: int
) -> None:
    signal = await dead_of_research(shop, fault)

    assert signal.status is Status.DEAD
    assert (signal.failed_service, signal.failed_status) == ("mavera", answered)


async def test_where_no_answer_came_the_service_alone_is_named(tmp_path: Path) -> None:
    async with workshop(tmp_path, retry_delays_seconds=(3600,), timeout_seconds=0.05) as shop:
        signal = await dead_of_research(shop, "hang")

    assert (signal.status, signal.failed_service, signal.failed_status) == (Status.DEAD, "mavera", None)


async def test_one_dead_of_the_look_up_names_customerio(shop: Workshop) -> None:
    shop.customerio_faults.add("status:403")
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)

    signal = await shop.signal(seq)
    assert (signal.status, signal.failed_service, signal.failed_status) == (Status.DEAD, "customerio", 403)


async def test_one_that_is_still_tried_again_has_died_of_nothing(shop: Workshop) -> None:
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)
    shop.mavera_faults.add("status:503")
    await shop.research(seq)

    signal = await shop.signal(seq)
    assert (signal.status, signal.failed_service, signal.failed_status) == (Status.WAITING, None, None)


@pytest.mark.parametrize("fault", ["research", "triage"])
async def test_a_replayed_one_has_died_of_nothing_any_more(shop: Workshop, fault: str) -> None:
    if fault == "research":
        seq = (await dead_of_research(shop, "status:400")).seq
    else:
        shop.customerio_faults.add("status:403")
        seq = await shop.arrive(payload(JANE))
        await shop.triage(seq)
        assert (await shop.signal(seq)).failed_status == 403

    await shop.replay(seq)

    signal = await shop.signal(seq)
    assert (signal.failed_service, signal.failed_status) == (None, None)


async def test_the_log_line_of_its_death_says_where_to_read_what_to_do(shop: Workshop, tmp_path: Path) -> None:
    with logged(tmp_path) as out:
        await dead_of_research(shop, "status:503")

    first, last = [row for line in out.getvalue().splitlines() if (row := json.loads(line))["event"].endswith("failed")]
    assert "help" not in first
    assert (last["status"], last["failed_status"], last["help"]) == ("dead", 503, "docs/what-to-do.md#mavera-5xx")


async def test_the_api_tells_what_it_died_of_and_where_to_read_what_to_do(tmp_path: Path) -> None:
    async with service(tmp_path, help_url="https://wiki.example/what-to-do") as live:
        live.mavera_faults.add("status:400")
        event_id = await live.post(payload(JANE))
        await live.becomes(event_id, "dead")
        briefed = await live.briefed(payload("cust_1002"))

        for told in (
            (await live.http.get(f"/signals/{event_id}")).json(),
            (await live.http.get("/signals", params={"status": "dead"})).json()["items"][0],
        ):
            assert (told["failed_service"], told["failed_status"]) == ("mavera", 400)
            assert told["help"] == "https://wiki.example/what-to-do#mavera-4xx"
        assert (briefed["failed_service"], briefed["failed_status"], briefed["help"]) == (None, None, None)
