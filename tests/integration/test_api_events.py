from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from churn_radar.api.events import EXAMPLES
from churn_radar.errors import RecordUnavailable
from churn_radar.intake.door import PATH
from churn_radar.sending import signed_headers
from churn_radar.simulator.people import Person
from tests.support.work import KEY, SECRET, Running, payload, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 64 * 1024
SECRET_VALUE = "jane@acme.co"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    people = [Person(f"own-{n}", None, None, {"plan_type": "pro"}) for n in range(9)]
    jane = Person("cust_1001", "03000001", "jane@acme.co", {"plan_type": "pro", "mrr": "850"})
    async with service(tmp_path_factory.mktemp("events"), people=[jane, *people], max_body_bytes=LIMIT) as running:
        yield running


async def post(live: Running, body: bytes, **headers: str) -> Any:
    return await live.http.post("/events", content=body, headers={"content-type": "application/json", **headers})


@pytest.mark.parametrize("name", EXAMPLES)
async def test_every_example_is_accepted_or_ignored_as_its_summary_says(live: Running, name: str) -> None:
    example = EXAMPLES[name]

    answer = await live.http.post("/events", json=example["value"])

    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "event_id"}
    ignored = "ignored" in example["summary"]
    assert answer.json()["status"] == ("ignored" if ignored else "accepted")
    if not ignored:
        event_id = answer.json()["event_id"]
        await live.becomes(event_id, "briefed", "joined")
        assert event_id in (await live.http.get("/briefs/cust_1001")).json()["items"][0]["event_ids"]


async def test_the_same_event_again_is_a_duplicate_also_when_the_webhook_brings_it(live: Running) -> None:
    event = payload("own-1")
    event_id = await live.post(event)
    body = json.dumps(event).encode()

    by_hand = (await live.http.post("/events", json=event)).json()
    by_webhook = (await live.stranger.post(PATH, content=body, headers=signed_headers(body, SECRET))).json()

    assert by_hand == by_webhook == {"status": "duplicate", "event_id": event_id}


async def test_force_makes_the_same_event_count_as_new_with_a_brief_of_its_own(live: Running) -> None:
    event = payload("own-2")
    await live.briefed(event)

    for count in (2, 3):
        event_id = await live.post(event, force=True)
        await live.becomes(event_id, "briefed")
        assert len((await live.http.get("/briefs/own-2")).json()["items"]) == count


async def test_force_makes_no_signal_of_what_is_none(live: Running) -> None:
    answer = await live.http.post("/events", json=payload("own-3", "opened"), params={"force": "true"})

    assert answer.json()["status"] == "ignored"


@pytest.mark.parametrize("force", ["maybe", "", "2", SECRET_VALUE])
async def test_a_force_that_is_neither_yes_nor_no_is_422(live: Running, force: str) -> None:
    answer = await live.http.post("/events", json=payload("own-3"), params={"force": force})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"] == "query.force"
    assert SECRET_VALUE not in answer.text


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"metric": "unsubscribed"},
        {"metric": "unsubscribed", "data": None},
        {"metric": "unsubscribed", "data": {}},
        {"metric": "", "data": {"customer_id": "1"}},
        {"metric": "cio_subscription_preferences_changed", "data": {"customer_id": "1", "content": "{"}},
        {"metric": "cio_subscription_preferences_changed", "data": {"customer_id": "1"}},
    ],
)
async def test_what_is_not_understood_is_a_problem_that_says_why(live: Running, event: dict[str, Any]) -> None:
    answer = await live.http.post("/events", json=event)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("the event is not understood: ")


@pytest.mark.parametrize(
    "event",
    [
        {"metric": [SECRET_VALUE], "data": {"customer_id": "1"}},
        {"metric": {"x": SECRET_VALUE}},
        {"metric": "unsubscribed", "data": SECRET_VALUE},
        {"metric": "unsubscribed", "data": {"customer_id": {"x": SECRET_VALUE}}},
        {"metric": "unsubscribed", "data": {"identifiers": SECRET_VALUE}},
        {"metric": "unsubscribed", "timestamp": SECRET_VALUE, "data": {"customer_id": "1"}},
        {"metric": "unsubscribed", "event_id": SECRET_VALUE * 100, "data": {"customer_id": "1"}},
        {"metric": "unsubscribed", "timestamp": -5, "data": {"customer_id": SECRET_VALUE}},
        [SECRET_VALUE],
        SECRET_VALUE,
        7,
        None,
    ],
)
async def test_what_does_not_fit_is_422_and_no_value_is_echoed(live: Running, event: Any) -> None:
    answer = await live.http.post("/events", json=event)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(set(line) == {"where", "what"} and line["where"].startswith("body") for line in answer.json()["errors"])
    assert SECRET_VALUE not in answer.text
    assert "pydantic" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"metric": "jane@acme.co',
        b"[" * 60_000,
        b'{"metric": "\\ud800"}',
        b'{"metric": "unsubscribed", "data": {"customer_id": "a\\u0000b"}}',
        b'{"metric": "bounced", "data": {"customer_id": "1", "content": ' + b"9" * 5000 + b"}}",
    ],
)
async def test_no_body_at_all_leads_to_anything_but_a_problem(live: Running, body: bytes) -> None:
    answer = await post(live, body)

    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET_VALUE not in answer.text


async def test_a_number_longer_than_any_column_is_no_fault_of_ours(live: Running) -> None:
    body = b'{"metric": "bounced", "data": {"customer_id": "own-4", "campaign_id": %b, "content": %b}}'

    answer = await post(live, body % (b"9" * 40, b"9" * 40))

    assert (answer.status_code, answer.json()["status"]) == (200, "accepted")


async def test_a_body_of_another_type_is_422(live: Running) -> None:
    answer = await live.http.post("/events", content=b"metric=unsubscribed", headers={"content-type": "text/plain"})

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_a_body_over_the_limit_is_413_declared_or_not(live: Running) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * (LIMIT // 5)

    for content in (b" " * (LIMIT + 1), pieces()):
        answer = await live.http.post("/events", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(LIMIT) in answer.json()["detail"]


async def test_a_body_at_the_limit_is_read(live: Running) -> None:
    body = json.dumps(payload("own-5")).encode()

    assert (await post(live, body + b" " * (LIMIT - len(body)))).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": KEY + "x"}, {"Authorization": "Bearer wrong"}])
@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[" * 60_000])
async def test_without_the_key_nobody_posts_and_the_body_is_not_even_read(
    live: Running, headers: dict[str, str], body: bytes
) -> None:
    answer = await live.stranger.post("/events", content=body, headers={**headers, "content-type": "application/json"})

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_stranger_cannot_make_us_hold_a_large_body(live: Running) -> None:
    """Only the headers are sent; an answer that comes all the same shows that nobody waits for the body."""
    host, port = live.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n{"
    )
    async with asyncio.timeout(3):
        status = await reader.readline()
    writer.close()
    await writer.wait_closed()

    assert b" 401 " in status


async def test_an_event_that_cannot_be_stored_now_is_503_with_a_time_to_come_back(
    live: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(_: Any) -> Any:
        raise RecordUnavailable("the record cannot commit: disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(live.service.record, "accept_soon", unavailable)
        answer = await live.http.post("/events", json=payload("own-6"))

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "disk I/O error" in answer.json()["detail"]
