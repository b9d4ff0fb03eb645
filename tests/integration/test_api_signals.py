from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from churn_radar.intake.door import PATH
from churn_radar.intake.samples import SAMPLES
from churn_radar.quarantining import raw_body
from churn_radar.sending import signed_headers
from churn_radar.simulator.mavera import MaveraSimulation
from churn_radar.simulator.people import PEOPLE, Person
from tests.support.work import KEY, SECRET, ListSink, Running, known_by, payload, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROKEN = ListSink("broken")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    people = [*PEOPLE, *(Person(f"own-{n}", None, None, {"plan_type": "pro"}) for n in range(30))]
    async with service(
        tmp_path_factory.mktemp("signals"),
        people=people,
        sinks=[ListSink("good"), BROKEN],
        retry_delays_seconds=(0.01,),
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def idle(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A service without a worker: everything stays as it arrives."""
    async with service(tmp_path_factory.mktemp("idle"), with_worker=False) as running:
        yield running


async def knock(live: Running, body: bytes) -> dict[str, Any]:
    """One signed webhook; returns the door's answer."""
    answer = await live.stranger.post(PATH, content=body, headers=signed_headers(body, SECRET))
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


async def dead_in_research(live: Running, customer_id: str) -> str:
    live.mavera_faults.add("status:400")
    event_id = await live.post(payload(customer_id))
    await live.becomes(event_id, "dead")
    return event_id


# -- what became of each


async def test_a_briefed_signal_tells_its_whole_story(live: Running) -> None:
    event = payload("cust_1001", "bounced", timestamp=1_795_500_123)
    event["data"] |= {"delivery_id": "dg1", "campaign_id": 23, "failure_message": "550 5.1.1 User unknown"}
    event_id = await live.post(event)

    told = await live.becomes(event_id, "briefed")

    assert told["event_id"] == event_id == event["event_id"]
    assert told["id"].startswith("sig_")
    assert (told["event_type"], told["metric"], told["object_type"]) == ("bounced", "bounced", "email")
    assert (told["customer_id"], told["source"]) == ("cust_1001", "api")
    assert (told["reason"], told["attempts"], told["next_attempt_at"], told["joined_to"]) == (None, 0, None, None)
    assert (told["persona_type"], told["plan"], told["mrr"]) == ("High-MRR Fintech (Pro plan)", "pro", 850)
    assert told["attributes_source"] == "live"
    assert told["occurred_at"] == "2026-11-24T06:02:03Z"
    assert told["facts"] == {"delivery_id": "dg1", "campaign_id": "23", "failure_message": "550 5.1.1 User unknown"}
    assert [step["status"] for step in told["history"]] == ["received", "waiting", "researching", "briefed"]
    assert {delivery["sink"] for delivery in told["deliveries"]} == {"good", "broken"}
    assert told["brief_id"] == (await live.http.get("/briefs/cust_1001")).json()["items"][0]["id"]
    assert (await live.http.get(f"/signals/{told['id']}")).json()["event_id"] == event_id


async def test_a_skipped_signal_says_why(live: Running) -> None:
    told = await live.becomes(await live.post(payload("cust_1007")), "skipped")

    assert told["reason"] == 'plan "free" is not researched (business, enterprise, pro are)'
    assert (told["plan"], told["persona_type"], told["brief_id"], told["deliveries"]) == ("free", None, None, [])


async def test_a_joined_signal_names_the_one_it_joined(live: Running) -> None:
    first = await live.briefed(payload("cust_1002"))
    told = await live.becomes(await live.post(payload("cust_1002", "bounced")), "joined")

    assert told["brief_id"] == first["brief_id"]
    assert "cool-down" in told["reason"]


async def test_a_dead_signal_says_why(live: Running) -> None:
    told = (await live.http.get(f"/signals/{await dead_in_research(live, 'own-1')}")).json()

    assert told["reason"].startswith("mavera (400)")
    assert told["attempts"] == 1
    assert told["history"][-1]["status"] == "dead"


@pytest.mark.parametrize("body", [b"\\xff \xff", '{\t"Zoë": \x07\r\n'.encode(), b"", b"\xed\xa0\x80"])
async def test_a_quarantined_body_can_be_had_byte_for_byte(live: Running, body: bytes) -> None:
    told = (await live.http.get(f"/signals/{(await knock(live, body))['event_id']}")).json()

    assert raw_body(told) == body


async def test_a_quarantined_body_is_visible_as_it_came_to_whoever_has_a_key(live: Running) -> None:
    body = b'{"metric": "unsubscribed", "note": "\xff"}'
    event_id = (await knock(live, body))["event_id"]

    answer = await live.http.get(f"/signals/{event_id}")

    told = answer.json()
    assert told["status"] == "quarantined"
    assert told["reason"] == "the body is not valid JSON"
    assert told["body"] == '{"metric": "unsubscribed", "note": "\\xff"}'
    assert raw_body(told) == body
    assert (told["event_type"], told["customer_id"]) == (None, None)
    assert told["history"][0]["status"] == "quarantined"
    assert "xff" not in (await live.http.get("/signals")).text


async def test_by_an_id_that_kinds_share_the_newest_is_found(live: Running) -> None:
    shared = {"event_id": "01KSHARED"}
    for kind in ("unsubscribed", "bounced"):
        await live.post({**payload("own-2", kind), **shared})

    assert (await live.http.get("/signals/01KSHARED")).json()["event_type"] == "bounced"


@pytest.mark.parametrize("event_id", ["a/b", "a b", "50%", "..", "ünïcödé", "x/replay", "replay", "x" * 512])
async def test_any_event_id_works_in_the_path(idle: Running, event_id: str) -> None:
    await idle.post({**payload("own-3"), "event_id": event_id})
    path = f"/signals/{quote(event_id, safe='').replace('.', '%2E')}"

    assert (await idle.http.get(path)).json()["event_id"] == event_id
    replayed = await idle.http.post(f"{path}/replay")
    assert (replayed.status_code, replayed.json()["event_id"]) == (202, event_id)


@pytest.mark.parametrize("event_id", ["nothing", "", "%00", "%FF", "x" * 7000, "..%2F..%2Fetc"])
async def test_nothing_known_is_404_with_a_problem(live: Running, event_id: str) -> None:
    for answer in (await live.http.get(f"/signals/{event_id}"), await live.http.post(f"/signals/{event_id}/replay")):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


async def test_a_signal_without_an_event_id_goes_by_ours(live: Running) -> None:
    event = payload("own-4")
    del event["event_id"]

    event_id = await live.post(event)

    assert event_id.startswith("sig_")
    assert (await live.becomes(event_id, "briefed"))["id"] == event_id


# -- lists


async def test_signals_can_be_read_by_status(idle: Running) -> None:
    await idle.post(payload("own-5"))
    await knock(idle, b"not json")

    for status in ("received", "quarantined"):
        page = (await idle.http.get("/signals", params={"status": status})).json()
        assert page["items"]
        assert {item["status"] for item in page["items"]} == {status}
    assert (await idle.http.get("/signals", params={"status": "briefed"})).json() == {"items": [], "cursor": None}


@pytest.mark.parametrize("status", ["lost", "BRIEFED", "", "jane@acme.co"])
async def test_a_status_that_does_not_exist_is_422_and_is_not_echoed(idle: Running, status: str) -> None:
    answer = await idle.http.get("/signals", params={"status": status})

    assert answer.status_code == 422
    assert "quarantined" in answer.text
    assert "jane" not in answer.text


@pytest.mark.parametrize("status", [None, "received"])
async def test_signals_can_be_paged_through_completely_and_without_repeats_while_new_ones_arrive(
    idle: Running, status: str | None
) -> None:
    for n in range(7):
        await idle.post(payload(f"page-{n}"))
    chosen = {"status": status} if status else {}
    before = [i["id"] for i in (await idle.http.get("/signals", params={**chosen, "limit": 200})).json()["items"]]
    read: list[str] = []
    params: dict[str, Any] = {**chosen, "limit": 3}
    while True:
        page = (await idle.http.get("/signals", params=params)).json()
        read += [item["id"] for item in page["items"]]
        if page["cursor"] is None:
            break
        params = {**chosen, "limit": 3, "cursor": page["cursor"]}
        await idle.post(payload("late"))

    assert read == before


@pytest.mark.parametrize("cursor", ["junk", "djE6MA", "é"])
async def test_a_cursor_that_is_none_of_ours_is_400(idle: Running, cursor: str) -> None:
    answer = await idle.http.get("/signals", params={"cursor": cursor})

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_those_that_wait_for_research_are_shown_in_the_order_in_which_they_will_be_researched(
    tmp_path: Path,
) -> None:
    mavera = MaveraSimulation()
    mavera.faults.add("hang", None)
    people = [Person(f"own-{n}", None, None, {"plan_type": "pro", "mrr": str(n * 37 % 11 * 100)}) for n in range(11)]
    async with service(tmp_path, people=people, mavera=mavera, mavera_concurrency=1, shutdown_grace_seconds=0) as live:
        ids = [await live.post(payload(f"own-{n}")) for n in range(11)]
        for event_id in ids:
            await live.becomes(event_id, "waiting", "researching")
        read: list[float] = []
        params: dict[str, Any] = {"status": "waiting", "limit": 3}
        while True:
            page = (await live.http.get("/signals", params=params)).json()
            read += [item["mrr"] for item in page["items"]]
            if page["cursor"] is None:
                break
            params["cursor"] = page["cursor"]

    assert len(read) == 10
    assert read == sorted(read, reverse=True)


# -- replays


async def test_a_replay_is_taken_on_with_202_and_says_what_it_does(live: Running) -> None:
    event_id = await dead_in_research(live, "own-6")

    answer = await live.http.post(f"/signals/{event_id}/replay")

    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"id", "event_id", "status", "effect"}
    assert (body["event_id"], body["status"], body["effect"]) == (event_id, "waiting", "research starts again")
    await live.becomes(event_id, "briefed")


async def test_a_forced_replay_researches_anew(live: Running) -> None:
    event_id = (await live.briefed(payload("own-7")))["event_id"]

    plain = await live.http.post(f"/signals/{event_id}/replay")
    assert (plain.json()["status"], "force" in plain.json()["effect"]) == ("briefed", True)
    forced = await live.http.post(f"/signals/{event_id}/replay", params={"force": "true"})

    assert forced.json()["status"] == "waiting"
    await live.becomes(event_id, "briefed")
    assert len((await live.http.get("/briefs/own-7")).json()["items"]) == 2


async def test_two_people_who_press_at_once_make_one_brief(live: Running) -> None:
    event_id = (await live.briefed(payload("own-8")))["event_id"]

    answers = await asyncio.gather(
        *(live.http.post(f"/signals/{event_id}/replay", params={"force": "true"}) for _ in range(2))
    )

    assert [answer.status_code for answer in answers] == [202, 202]
    await live.becomes(event_id, "briefed")
    await asyncio.sleep(0.1)
    assert len((await live.http.get("/briefs/own-8")).json()["items"]) == 2


async def test_dead_deliveries_start_again_by_replay(live: Running) -> None:
    BROKEN.errors += [RuntimeError("down"), RuntimeError("down")]
    event_id = (await live.briefed(payload("own-9")))["event_id"]

    async def delivery(status: str) -> None:
        while True:
            told = (await live.http.get(f"/signals/{event_id}")).json()
            if {d["sink"]: d["status"] for d in told["deliveries"]} == {"good": "delivered", "broken": status}:
                return
            await asyncio.sleep(0.01)

    async with asyncio.timeout(30):
        await delivery("dead")
        answer = await live.http.post(f"/signals/{event_id}/replay")
        assert answer.json()["effect"] == "1 failed delivery starts again"
        await delivery("delivered")


async def test_many_signals_are_replayed_by_their_ids(live: Running) -> None:
    ids = [await dead_in_research(live, f"own-{n}") for n in (10, 11)]

    answer = await live.http.post("/signals/replay", json={"event_ids": [*ids, ids[0], "unheard-of"]})

    assert answer.status_code == 202
    body = answer.json()
    assert body["unknown"] == ["unheard-of"]
    assert [line["event_id"] for line in body["replayed"]] == [*ids, ids[0]]
    assert {line["status"] for line in body["replayed"][:2]} == {"waiting"}
    for event_id in ids:
        assert len((await live.becomes(event_id, "briefed"))["history"]) == 7


async def test_all_dead_letters_are_replayed_by_their_status(live: Running) -> None:
    ids = {await dead_in_research(live, f"own-{n}") for n in (12, 13)}

    body = (await live.http.post("/signals/replay", json={"status": "dead"})).json()

    assert ids <= {line["event_id"] for line in body["replayed"]}
    for event_id in ids:
        await live.becomes(event_id, "briefed")
    assert (await live.http.get("/signals", params={"status": "dead"})).json()["items"] == []


async def test_all_quarantined_bodies_are_read_again_and_those_understood_become_signals(live: Running) -> None:
    lost = (await knock(live, b"junk " * 3))["event_id"]

    body = (await live.http.post("/signals/replay", json={"status": "quarantined"})).json()

    [line] = [line for line in body["replayed"] if line["event_id"] == lost]
    assert line["status"] == "quarantined"
    assert "still not understood" in line["effect"]


async def test_nothing_to_replay_is_no_error(live: Running) -> None:
    answer = await live.http.post("/signals/replay", json={})

    assert (answer.status_code, answer.json()) == (202, {"replayed": [], "counts": [], "unknown": [], "cursor": None})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"event_ids": "jane@acme.co"}',
        b'{"event_ids": [{"jane@acme.co": 1}]}',
        b'{"status": "jane@acme.co"}',
        b'{"force": "jane@acme.co"}',
        json.dumps({"event_ids": ["x"] * 1001}).encode(),
    ],
)
async def test_a_bulk_replay_that_does_not_fit_is_422_and_echoes_nothing(idle: Running, body: bytes) -> None:
    answer = await idle.http.post("/signals/replay", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]
    assert "jane" not in answer.text


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}])
async def test_replays_need_the_key_whatever_the_body(idle: Running, headers: dict[str, str]) -> None:
    for path in ("/signals/x/replay", "/signals/replay"):
        for body in (b"", b"{", b'{"status": "dead"}'):
            answer = await idle.stranger.post(
                path, content=body, headers={**headers, "content-type": "application/json"}
            )
            assert answer.status_code == 401
            assert KEY not in answer.text


async def test_every_sample_is_shown_as_what_it_is(idle: Running) -> None:
    for sample in SAMPLES.values():
        answer = await idle.http.post("/events", json=dict(sample.payload))
        assert answer.status_code == 200
    kinds = {item["event_type"] for item in (await idle.http.get("/signals", params={"limit": 200})).json()["items"]}
    assert {"unsubscribed", "bounced", "complained"} <= kinds


async def test_a_signal_known_by_mail_is_shown_with_the_mail(idle: Running) -> None:
    event_id = await idle.post(known_by(email="Someone@Private.example"))

    assert (await idle.http.get(f"/signals/{event_id}")).json()["email"] == "someone@private.example"
