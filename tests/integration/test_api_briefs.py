from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from churn_radar.research.prompt import ASKS
from churn_radar.simulator.mavera import MaveraSimulation
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.throttle import Throttle
from tests.support.work import KEY, Running, known_by, payload, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

ODD = (
    "team/42",
    "ops+eu@trailhead.example",
    "a b",
    "50%",
    "%2F",
    "..",
    "a/../b",
    "/",
    "what?x=1#here",
    "ünïcödé-客户-\U0001f600",
    "l" * 512,
    "' OR 1=1 --",
    "<script>",
    "back\\slash",
    "tab\there",
)


def person(customer_id: str) -> Person:
    return Person(customer_id, None, None, {"plan_type": "pro", "mrr": "100", "industry": "media"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A service at work; the customers with odd ids have a brief each."""
    late = [person(f"late-{n}") for n in range(4)]
    people = [*(p for p in PEOPLE if p.id not in ODD), *map(person, ODD), *late]
    async with service(tmp_path_factory.mktemp("briefs"), people=people) as running:
        await asyncio.gather(*(running.briefed(payload(customer_id)) for customer_id in ODD))
        yield running


OTHER_KEY = "второй-ключ-0123456789"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def idle(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A service without a worker, and with two keys."""
    async with service(tmp_path_factory.mktemp("idle"), with_worker=False, api_keys=f"{KEY},{OTHER_KEY}") as running:
        yield running


def path_of(customer_id: str) -> str:
    return "/briefs/" + quote(customer_id, safe="").replace(".", "%2E")


async def test_a_brief_can_be_read_with_everything_in_it(live: Running) -> None:
    told = await live.briefed(payload("cust_1001"))

    answer = await live.http.get("/briefs/cust_1001")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"customer_id", "items", "pending"}
    assert (body["customer_id"], body["pending"]) == ("cust_1001", 0)
    [brief] = body["items"]
    assert {
        *("id", "customer_id", "event_type", "event_ids", "persona_type", "research_brief", "sources", "sections"),
        *("plan", "mrr", "currency", "confidence", "hallucination_risk", "unsupported_claims", "credits_used"),
        *("mave_thread_id", "attributes_source", "signal_received_at", "created_at"),
    } <= set(brief)
    assert brief["id"] == told["brief_id"]
    assert brief["event_ids"] == [told["event_id"]]
    assert list(brief["sections"]) == [ask.key for ask in ASKS]
    assert brief["attributes_source"] == "live"
    assert brief["mrr"] == 850
    assert brief["created_at"].endswith("Z")


async def test_a_brief_tells_what_may_still_be_sent_by_every_signal_of_its_customer(live: Running) -> None:
    async def told() -> Any:
        return (await live.http.get("/briefs/cust_1009")).json()["items"][0]["consent"]

    await live.briefed(payload("cust_1009", "bounced"))
    assert (await told())["may_mail"] == "other_address"

    joined = await live.post(payload("cust_1009", "spammed"))
    await live.becomes(joined, "joined")

    assert (await told())["may_mail"] == "nothing"
    assert [line.split(":")[0] for line in (await told())["why"]] == ["complained", "bounced"]
    assert set(await told()) == {"may_mail", "mark", "why", "instead"}


@pytest.mark.parametrize("customer_id", ODD)
async def test_any_id_works_in_the_path(live: Running, customer_id: str) -> None:
    answer = await live.http.get(path_of(customer_id))

    assert answer.status_code == 200, answer.text
    assert answer.json()["customer_id"] == customer_id
    assert len(answer.json()["items"]) == 1


async def test_a_slash_and_a_plus_need_no_encoding(live: Running) -> None:
    for customer_id in ("team/42", "ops+eu@trailhead.example"):
        assert (await live.http.get(f"/briefs/{customer_id}")).json()["customer_id"] == customer_id


@pytest.mark.parametrize("name", ["cust_1003", "03000003", "priya@coinharbor.example", "PRIYA@CoinHarbor.example"])
async def test_a_customer_is_found_by_id_cio_id_and_mail_in_any_case(live: Running, name: str) -> None:
    if (await live.http.get("/briefs/cust_1003")).status_code == 404:
        await live.briefed(payload("cust_1003"))

    answer = await live.http.get(path_of(name))

    assert answer.status_code == 200
    assert answer.json()["customer_id"] == "cust_1003"
    assert len(answer.json()["items"]) == 1


async def test_an_id_is_not_found_in_another_case(live: Running) -> None:
    await live.briefed(payload("cust_1005"))

    assert (await live.http.get("/briefs/CUST_1005")).status_code == 404


async def test_who_is_known_by_cio_id_only_is_found_by_it(live: Running) -> None:
    await live.briefed(known_by(cio_id="03000024"))

    body = (await live.http.get("/briefs/03000024")).json()

    assert (body["customer_id"], len(body["items"])) == ("03000024", 1)


@pytest.mark.parametrize(
    "name", ["nobody", "", "%00", "%FF", "%C3%28", "..%2F..%2Fetc%2Fpasswd", "x" * 7000, "\U0001f600", "%0A", "null"]
)
async def test_nothing_known_is_404_with_a_problem(live: Running, name: str) -> None:
    answer = await live.http.get(f"/briefs/{name}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404


async def test_briefs_come_newest_first_and_no_more_than_asked_for(live: Running) -> None:
    ids = [(await live.briefed(payload("cust_1006")))["brief_id"]]
    for _ in range(2):
        event_id = await live.post(payload("cust_1006"), force=True)
        ids.append((await live.becomes(event_id, "briefed"))["brief_id"])

    items = (await live.http.get("/briefs/cust_1006")).json()["items"]
    assert [item["id"] for item in items] == ids[::-1]
    limited = (await live.http.get("/briefs/cust_1006", params={"limit": 2})).json()["items"]
    assert [item["id"] for item in limited] == ids[:0:-1]


async def test_a_skipped_customer_is_known_and_has_no_brief(live: Running) -> None:
    await live.becomes(await live.post(payload("cust_1007")), "skipped")

    assert (await live.http.get("/briefs/cust_1007")).json() == {"customer_id": "cust_1007", "items": [], "pending": 0}


async def test_an_event_that_is_ignored_makes_nobody_known(live: Running) -> None:
    answer = await live.http.post("/events", json=payload("cust_1008", "opened"))
    assert answer.json()["status"] == "ignored"

    assert (await live.http.get("/briefs/cust_1008")).status_code == 404


async def test_signals_under_way_are_counted_as_pending(idle: Running) -> None:
    await idle.post(payload("cust_1001"))
    await idle.post(known_by(email="Jane@Acme.co"))
    await idle.post(payload("cust_1002"))

    by_id = (await idle.http.get("/briefs/cust_1001")).json()
    by_mail = (await idle.http.get("/briefs/jane@acme.co")).json()

    assert (by_id["pending"], by_id["items"]) == (1, [])
    assert (by_mail["pending"], by_mail["customer_id"]) == (1, "jane@acme.co")


async def test_a_waiting_signal_is_pending_under_every_name_of_its_customer(tmp_path: Path) -> None:
    mavera = MaveraSimulation()
    mavera.faults.add("hang", None)
    async with service(tmp_path, mavera=mavera, shutdown_grace_seconds=0) as live:
        await live.becomes(await live.post(payload("cust_1001")), "researching")
        for name in ("cust_1001", "03000001", "jane@acme.co"):
            assert (await live.http.get(f"/briefs/{name}")).json()["pending"] == 1


# -- all briefs


async def test_all_briefs_can_be_paged_through_completely_and_without_repeats_while_new_ones_arrive(
    live: Running,
) -> None:
    before = [item["id"] for item in (await live.http.get("/briefs", params={"limit": 200})).json()["items"]]
    assert len(before) >= len(ODD)
    read: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    late = iter(range(4))
    while True:
        page = (await live.http.get("/briefs", params=params)).json()
        assert set(page) == {"items", "cursor"}
        assert len(page["items"]) <= 2
        read += [item["id"] for item in page["items"]]
        if page["cursor"] is None:
            break
        params = {"limit": 2, "cursor": page["cursor"]}
        if (n := next(late, None)) is not None:
            await live.briefed(payload(f"late-{n}"))

    assert next(late, None) is None
    assert read == before


async def test_a_page_that_holds_exactly_the_rest_is_the_last_one(live: Running) -> None:
    everything = (await live.http.get("/briefs", params={"limit": 200})).json()["items"]

    page = (await live.http.get("/briefs", params={"limit": len(everything)})).json()

    assert (len(page["items"]), page["cursor"]) == (len(everything), None)


async def test_without_briefs_there_is_one_empty_page(idle: Running) -> None:
    assert (await idle.http.get("/briefs")).json() == {"items": [], "cursor": None}


@pytest.mark.parametrize("cursor", ["", "junk", "djE6MA", "djE6LTE", "AAAA", "é", "' OR 1=1"])
async def test_a_cursor_that_is_none_of_ours_is_400(live: Running, cursor: str) -> None:
    answer = await live.http.get("/briefs", params={"cursor": cursor})

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/briefs", "/briefs/cust_1001", "/signals"])
@pytest.mark.parametrize("limit", ["0", "-1", "201", "1.5", "many", "", "9" * 30])
async def test_a_limit_out_of_range_is_422_and_is_not_echoed(live: Running, path: str, limit: str) -> None:
    answer = await live.http.get(path, params={"limit": limit})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["errors"][0]["where"] == "query.limit"
    assert "input" not in answer.text
    assert len(limit) < 4 or limit not in answer.text


async def test_a_cursor_longer_than_any_of_ours_is_422(live: Running) -> None:
    assert (await live.http.get("/briefs", params={"cursor": "x" * 101})).status_code == 422


# -- who may read


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"X-API-Key": KEY}, {"x-api-key": KEY}],
)
async def test_the_key_is_taken_in_either_header(live: Running, headers: dict[str, str]) -> None:
    assert (await live.stranger.get("/briefs", headers=headers)).status_code == 200


async def test_a_proxy_may_use_one_header_for_itself_while_the_key_comes_in_the_other(live: Running) -> None:
    for other in ("Bearer the-proxys-own-token", "Basic dXNlcjpwYXNz"):
        answer = await live.stranger.get("/briefs", headers={"X-API-Key": KEY, "Authorization": other})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY.upper()},
        {"X-API-Key": "ключ".encode()},
        {"X-API-Key": b"\xff\xfe"},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY} {KEY}"},
        {"Cookie": f"X-API-Key={KEY}"},
    ],
)
async def test_without_the_key_nobody_reads_anything(live: Running, headers: dict[str, str | bytes]) -> None:
    live.service.throttle = Throttle()
    raw = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers.items()]
    for path in ("/briefs", "/briefs/cust_1001", "/signals", "/signals/x"):
        answer = await live.stranger.get(path, headers=raw)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text


async def test_a_key_in_the_query_is_no_key(live: Running) -> None:
    assert (await live.stranger.get("/briefs", params={"X-API-Key": KEY, "api_key": KEY})).status_code == 401


async def test_any_of_several_keys_will_do_also_one_outside_ascii(idle: Running) -> None:
    for key in (KEY, OTHER_KEY):
        assert (await idle.http.get("/briefs", headers=[(b"X-API-Key", key.encode())])).status_code == 200
    assert (await idle.http.get("/briefs", headers={"X-API-Key": "third-key-0123456789"})).status_code == 401


async def test_many_can_read_at_once(live: Running) -> None:
    answers = await asyncio.gather(*(live.http.get("/briefs") for _ in range(50)))

    assert {answer.status_code for answer in answers} == {200}
