"""The Mavera stand-in keeps to the public reference of the research agent's API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from churn_radar.simulator.limits import Clock
from churn_radar.simulator.mavera import CHAT, MaveraSimulation, MaveraState, create_mavera

KEY = {"Authorization": "Bearer mvra_live_demo"}
MESSAGE = "EVENT: unsubscribed\nPERSONA TYPE: High-MRR Fintech (Pro plan)\nMRR: $850\nPLAN: pro\nINDUSTRY: fintech"
START = 1_795_000_000.0


class StillTime:
    """A clock that a test moves: sleeping waits for `go`, and is written down."""

    def __init__(self) -> None:
        self.now = START
        self.slept: list[float] = []
        self.go = asyncio.Event()
        self.go.set()

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.go.wait()

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self._sleep)


@pytest.fixture
async def time() -> StillTime:
    return StillTime()


@pytest.fixture
def settings(time: StillTime) -> MaveraSimulation:
    return MaveraSimulation(clock=time.clock)


@pytest.fixture
def app(settings: MaveraSimulation) -> Starlette:
    return create_mavera(settings)


@asynccontextmanager
async def client_of(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://mave.test/api/v1", headers=KEY) as client:
        yield client


@pytest.fixture
async def api(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the state has counters, not events
            await asyncio.sleep(0)


async def chat(api: httpx.AsyncClient, message: str = MESSAGE, **more: object) -> httpx.Response:
    return await api.post("/mave/chat", json={"message": message, **more})


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    said = answer.json()["error"]
    assert said["message"]
    assert said["type"]
    return answer.status_code, said["code"], said["param"]


async def test_a_message_is_answered_with_every_documented_field(api: httpx.AsyncClient) -> None:
    answer: dict[str, Any] = (await chat(api)).json()
    assert (answer["object"], answer["role"]) == ("mave_message", "assistant")
    assert answer["id"]
    assert answer["thread_id"]
    assert answer["content"].count("\n## ") == 6
    assert 2 <= len(answer["sources"]) <= 6
    assert all({"title", "url", "domain", "type"} <= source.keys() for source in answer["sources"])
    assert {"confidence_score", "hallucination_risk", "unsupported_claims"} == answer["validation"].keys()
    assert all({"id", "name"} == persona.keys() for persona in answer["personas_used"])
    assert 30 <= answer["usage"]["credits_used"] <= 75
    assert answer["created_at"] == "2026-11-18T11:06:40.000Z"


async def test_the_same_message_gets_the_same_brief_and_another_seed_another(time: StillTime) -> None:
    briefs = []
    for seed in (1, 1, 2):
        async with client_of(create_mavera(MaveraSimulation(seed=seed, clock=time.clock))) as api:
            briefs.append((await chat(api)).json()["content"])
    assert briefs[0] == briefs[1] != briefs[2]


async def test_research_takes_between_5_and_90_seconds_scaled(time: StillTime, settings: MaveraSimulation) -> None:
    settings.requests_per_minute = 1000
    async with client_of(create_mavera(settings)) as api:
        for _ in range(100):
            await chat(api)
        settings.time_scale = 0
        await chat(api)
    *real, at_once = time.slept
    assert 5 <= min(real) < 20
    assert 40 < max(real) <= 90
    assert sum(seconds <= 45 for seconds in real) > 50
    assert at_once == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "missing_field", "message")),
        ({"message": None}, (400, "missing_field", "message")),
        ({"message": 5}, (400, "invalid_field", "message")),
        ({"message": "  "}, (400, "invalid_field", "message")),
        ({"message": "hello", "thread_id": 7}, (400, "invalid_field", "thread_id")),
        ({"message": "hello", "workspace_id": []}, (400, "invalid_field", "workspace_id")),
        ({"message": "hello", "stream": True}, (400, "invalid_field", "stream")),
        ({"message": "hello", "stream": "no"}, (400, "invalid_field", "stream")),
        ([], (400, "invalid_field", None)),
        ({"message": "hello", "thread_id": "mave_thread_unknown"}, (404, "resource_not_found", "thread_id")),
    ],
)
async def test_a_wrong_body_is_refused_by_name(
    api: httpx.AsyncClient, app: Starlette, body: object, expected: tuple[int, str, str | None]
) -> None:
    assert error(await api.post("/mave/chat", json=body)) == expected
    assert app.state.simulation.credits_used == 0


async def test_a_body_that_is_not_json_is_refused(api: httpx.AsyncClient) -> None:
    assert error(await api.post("/mave/chat", content=b"{")) == (400, "invalid_field", None)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "missing_api_key"),
        ("Basic abc", "missing_api_key"),
        ("Bearer ", "missing_api_key"),
        ("Bearer sk_123", "invalid_api_key"),
        ("Bearer mvra_live_other", "invalid_api_key"),
        ("Bearer mvra_live_revoked", "revoked_api_key"),
    ],
)
async def test_each_way_to_have_no_good_key_has_its_code(api: httpx.AsyncClient, authorization: str, code: str) -> None:
    answer = await api.get("/mave/threads", headers={"Authorization": authorization})
    assert error(answer) == (401, code, None)


async def test_every_answer_says_how_many_calls_are_left_and_until_when(
    api: httpx.AsyncClient, time: StillTime, settings: MaveraSimulation
) -> None:
    settings.faults.add("status:500")
    settings.faults.add("html")
    answers = [
        await chat(api),
        await chat(api),
        await chat(api),
        await api.post("/mave/chat", json={}),
        await api.get("/mave/threads/none"),
        await api.get("/nowhere"),
        await api.get("/mave/threads", headers={"Authorization": ""}),
    ]
    assert [answer.status_code for answer in answers] == [500, 200, 200, 400, 404, 404, 401]
    assert [answer.headers["x-ratelimit-limit"] for answer in answers] == ["60"] * 7
    left = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers]
    assert left == [59, 58, 57, 56, 55, 55, 55]
    assert {int(answer.headers["x-ratelimit-reset"]) for answer in answers} == {int(START) + 60}


async def test_calls_above_the_limit_of_any_minute_are_429_with_the_seconds_to_wait(
    time: StillTime, settings: MaveraSimulation
) -> None:
    settings.requests_per_minute = 3
    async with client_of(create_mavera(settings)) as api:
        for _ in range(3):
            assert (await chat(api)).status_code == 200
            time.now += 10
        refused = await chat(api)
        assert error(refused) == (429, "rate_limit_exceeded", None)
        assert refused.headers["retry-after"] == "30"
        assert refused.headers["x-ratelimit-remaining"] == "0"
        time.now += 30
        assert (await chat(api)).status_code == 200
        assert (await chat(api)).status_code == 429


async def test_an_eleventh_call_at_once_is_429_and_others_go_on(
    api: httpx.AsyncClient, app: Starlette, time: StillTime
) -> None:
    time.go.clear()
    under_way = [asyncio.create_task(chat(api)) for _ in range(10)]
    await until(lambda: len(time.slept) == 10)
    refused = await asyncio.wait_for(chat(api), 5)
    assert error(refused) == (429, "rate_limit_exceeded", None)
    assert refused.headers["retry-after"] == "5"
    assert (await api.get("/mave/threads")).status_code == 200
    time.go.set()
    assert [(await task).status_code for task in under_way] == [200] * 10
    assert (await chat(api)).status_code == 200
    assert app.state.simulation.most_in_flight[CHAT] == 11
    assert app.state.simulation.in_flight[CHAT] == 0


async def test_spent_credits_are_402_until_there_are_more(
    api: httpx.AsyncClient, app: Starlette, settings: MaveraSimulation
) -> None:
    settings.credits = 1
    assert (await chat(api)).status_code == 200
    assert error(await chat(api)) == (402, "credits_exhausted", None)
    spent = app.state.simulation.credits_used
    settings.credits = spent + 1
    assert (await chat(api)).status_code == 200


async def test_a_follow_up_in_a_thread_costs_30_to_50_per_cent_less(api: httpx.AsyncClient) -> None:
    for number in range(20):
        message = f"{MESSAGE}\nNOTE: {number}"
        first = (await chat(api, message)).json()
        second = (await chat(api, message, thread_id=first["thread_id"])).json()
        full, less = first["usage"]["credits_used"], second["usage"]["credits_used"]
        assert round(full * 0.5) <= less <= round(full * 0.7)
        assert second["thread_id"] == first["thread_id"]


async def test_a_follow_up_about_another_customer_is_answered_by_what_it_tells_and_else_by_the_first_message(
    api: httpx.AsyncClient,
) -> None:
    first = (await chat(api)).json()
    told = "Another one.\n\nEVENT: unsubscribed\nMRR: $1,000\nTENURE: N/A\n"
    second = (await chat(api, told, thread_id=first["thread_id"])).json()["content"]
    assert "$12,000 a year" in second
    assert "Tenure is unknown" in second
    assert "fintech" in second.lower()
    assert re.findall(r"^## .*$", second, re.MULTILINE) == re.findall(r"^## .*$", first["content"], re.MULTILINE)
    state = (await api.get("http://mave.test/_simulator/state")).json()
    assert (state["followed_up"], len(state["messages"])) == (1, 2)


async def test_a_question_is_asked_once_in_a_thread_and_then_the_brief_of_its_first_message_comes(
    api: httpx.AsyncClient, settings: MaveraSimulation
) -> None:
    settings.faults.add("question", times=None)
    asked = (await chat(api)).json()
    assert asked["content"].rstrip("*").endswith("?")
    assert "##" not in asked["content"]
    assert 10 <= asked["usage"]["credits_used"] <= 15
    brief = (await chat(api, "No further details.", thread_id=asked["thread_id"])).json()
    assert "fintech" in brief["sources"][0]["url"]
    assert brief["content"].count("\n## ") == 6
    settings.faults.clear()
    assert brief["content"] == (await chat(api)).json()["content"]


async def test_a_question_waits_for_a_new_thread(api: httpx.AsyncClient, settings: MaveraSimulation) -> None:
    settings.faults.add("question", times=2)
    first = (await chat(api)).json()
    await chat(api, "go on", thread_id=first["thread_id"])
    assert settings.faults.waiting() == ["question x1"]
    assert (await chat(api)).json()["content"].rstrip("*").endswith("?")


async def test_empty_is_an_answer_without_content(api: httpx.AsyncClient, settings: MaveraSimulation) -> None:
    settings.faults.add("empty")
    answer = (await chat(api)).json()
    assert answer["content"] == ""
    assert answer["thread_id"]


async def test_a_fault_of_a_status_has_the_documented_error_and_charges_nothing(
    api: httpx.AsyncClient, app: Starlette, settings: MaveraSimulation
) -> None:
    expected = {401: "invalid_api_key", 402: "credits_exhausted", 429: "rate_limit_exceeded", 500: "internal_error"}
    for status, code in expected.items():
        settings.faults.add(f"status:{status}")
        assert error(await chat(api)) == (status, code, None)
    assert app.state.simulation.credits_used == 0
    assert app.state.simulation.messages == []


async def test_a_caller_who_leaves_is_charged_all_the_same(
    api: httpx.AsyncClient, app: Starlette, time: StillTime
) -> None:
    time.go.clear()
    call = asyncio.create_task(chat(api))
    await until(lambda: bool(time.slept))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert app.state.simulation.credits_used >= 30


async def test_threads_are_listed_shown_and_deleted(api: httpx.AsyncClient) -> None:
    older, newer = (await chat(api)).json(), (await chat(api, workspace_id="ws_7")).json()
    listed = (await api.get("/mave/threads")).json()
    assert [thread["id"] for thread in listed["data"]] == [newer["thread_id"], older["thread_id"]]
    assert (listed["object"], listed["has_more"], listed["data"][0]["workspace_id"]) == ("list", False, "ws_7")
    await chat(api, "And in winter?", thread_id=older["thread_id"])
    shown = (await api.get(f"/mave/threads/{older['thread_id']}")).json()
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"] * 2
    assert shown["messages"][0]["content"] == MESSAGE
    assert shown["messages"][1]["id"] == older["id"]
    assert shown["credits_used"] > older["usage"]["credits_used"]
    assert (await api.delete(f"/mave/threads/{older['thread_id']}")).status_code == 200
    assert error(await api.get(f"/mave/threads/{older['thread_id']}")) == (404, "resource_not_found", "thread_id")
    assert error(await chat(api, thread_id=older["thread_id"]))[0] == 404


async def test_the_state_shows_what_was_told_and_what_it_cost(app: Starlette) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mave.test", headers=KEY) as api:
        cost = (await api.post("/api/v1/mave/chat", json={"message": MESSAGE})).json()["usage"]["credits_used"]
        shown = (await api.get("/_simulator/state", headers={"Authorization": ""})).json()
    assert shown["messages"] == [MESSAGE]
    assert shown["credits_used"] == cost
    assert shown["calls"] == {CHAT: 1}
    assert shown["statuses"] == {"200": 1}
    assert shown["most_in_flight"] == {CHAT: 1}
    assert isinstance(app.state.simulation, MaveraState)
