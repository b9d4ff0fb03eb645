"""The faults that both stand-ins can be told to have, seen by a client on a real socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.applications import Starlette

from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.server import running

ASKED = "/v1/customers/cust_1001/attributes"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the state has counters, not events
            await asyncio.sleep(0)


async def collect(answer: httpx.Response, received: bytearray) -> None:
    async for piece in answer.aiter_bytes():
        received += piece


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def app(faults: Faults) -> Starlette:
    settings = CustomerioSimulation(latency_seconds=(0, 0), requests_per_second=1000, faults=faults)
    return create_customerio(settings)


@pytest.fixture
async def api(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer demo-app-key"}
    async with running(app) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=5) as client:
        yield client


@pytest.mark.parametrize("status", [401, 402, 429, 500, 503])
async def test_a_status_fault_is_answered_once_and_then_all_is_well(
    api: httpx.AsyncClient, faults: Faults, status: int
) -> None:
    faults.add(f"status:{status}")
    refused = await api.get(ASKED)
    assert refused.status_code == status
    assert refused.json()["errors"]
    assert refused.headers.get("retry-after") == ("1" if status == 429 else None)
    assert (await api.get(ASKED)).status_code == 200


async def test_a_status_fault_can_say_how_long_to_wait(api: httpx.AsyncClient, faults: Faults) -> None:
    faults.add("status:503", retry_after_seconds=90)
    assert (await api.get(ASKED)).headers["retry-after"] == "90"


async def test_hang_answers_nothing_until_the_caller_leaves(
    api: httpx.AsyncClient, app: Starlette, faults: Faults
) -> None:
    faults.add("hang")
    with pytest.raises(httpx.ReadTimeout):
        await api.get(ASKED, timeout=0.1)
    await until(lambda: app.state.simulation.in_flight.total() == 0)
    assert app.state.simulation.statuses.total() == 0


async def test_cut_closes_the_connection_half_way_through_the_body(
    api: httpx.AsyncClient, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.add("cut")
    received = bytearray()
    async with api.stream("GET", ASKED) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            await collect(answer, received)
    assert 0 < len(received) < int(answer.headers["content-length"])
    assert (await api.get(ASKED)).status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_html_is_a_proxys_page_with_status_200(api: httpx.AsyncClient, faults: Faults) -> None:
    faults.add("html")
    answer = await api.get(ASKED)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


async def test_garbage_is_broken_json_with_status_200(api: httpx.AsyncClient, faults: Faults) -> None:
    faults.add("garbage")
    answer = await api.get(ASKED)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answer.json()


async def test_empty_has_nothing_in_it(api: httpx.AsyncClient, faults: Faults) -> None:
    faults.add("empty")
    answer = await api.get(ASKED)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_slow_drips_and_is_far_from_done_after_a_while(api: httpx.AsyncClient, faults: Faults) -> None:
    faults.add("slow")
    received = bytearray()
    async with api.stream("GET", ASKED) as answer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(collect(answer, received), 0.6)
    assert 16 <= len(received) < int(answer.headers["content-length"]) // 2


async def test_a_stop_does_not_wait_for_what_hangs_or_drips(faults: Faults, app: Starlette) -> None:
    headers = {"Authorization": "Bearer demo-app-key"}
    async with httpx.AsyncClient(headers=headers) as client:
        async with running(app) as url:
            faults.add("hang")
            faults.add("slow")
            calls = [asyncio.create_task(client.get(url + ASKED)) for _ in range(2)]
            await until(lambda: app.state.simulation.in_flight.total() == 2)
            started = time.monotonic()
        assert time.monotonic() - started < 2
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, httpx.TransportError) for answer in answers)


async def test_faults_are_switched_on_and_cleared_over_http_without_a_key(api: httpx.AsyncClient) -> None:
    no_key = {"Authorization": ""}
    ordered = await api.post("/_simulator/faults", json={"fault": "status:500", "times": 2}, headers=no_key)
    assert ordered.json() == {"faults": ["status:500 x2"]}
    assert [(await api.get(ASKED)).status_code for _ in range(3)] == [500, 500, 200]
    await api.post("/_simulator/faults", json={"fault": "html", "times": None}, headers=no_key)
    assert (await api.get("/_simulator/state")).json()["faults"] == ["html until cleared"]
    assert [(await api.get(ASKED)).headers["content-type"][:9] for _ in range(3)] == ["text/html"] * 3
    assert (await api.delete("/_simulator/faults", headers=no_key)).json() == {"faults": []}
    assert (await api.get(ASKED)).json()["customer"]["id"] == "cust_1001"


@pytest.mark.parametrize(
    "order",
    [
        {"fault": "explode"},
        {"fault": "status:200"},
        {"fault": "question"},
        {"fault": "status:abc"},
        {"fault": "hang", "times": 0},
        {"fault": "hang", "times": "often"},
        {"fault": "hang", "for": 2},
        {"times": 2},
        [],
        "hang",
    ],
)
async def test_a_bad_order_is_400_with_what_is_allowed(api: httpx.AsyncClient, order: object) -> None:
    answer = await api.post("/_simulator/faults", json=order)
    assert answer.status_code == 400
    assert "hang" in answer.json()["allowed"]
    assert "question" not in answer.json()["allowed"]
    assert answer.json()["error"]
    assert (await api.get("/_simulator/state")).json()["faults"] == []


def test_faults_come_in_the_order_in_which_they_were_added() -> None:
    faults = Faults()
    faults.add("hang", 2)
    faults.add("cut")
    taken = [faults.take() for _ in range(4)]
    assert [fault.name if fault else None for fault in taken] == ["hang", "hang", "cut", None]


def test_a_fault_that_does_not_apply_waits_for_a_call_that_it_applies_to() -> None:
    faults = Faults()
    faults.add("question")
    faults.add("html")
    first, second = faults.take(without=("question",)), faults.take()
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("html", "question")
