from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from churn_radar.research.brief import Brief
from tests.support.work import ListSink, Running, payload, service


@pytest.fixture
async def live(everywhere: str, tmp_path: Path) -> AsyncIterator[Running]:
    """A service at work, on either record."""
    async with service(tmp_path, sinks=[ListSink()]) as running:
        yield running


async def a_brief(live: Running, customer_id: str = "cust_1001", **told: Any) -> str:
    return str((await live.briefed(payload(customer_id, **told)))["brief_id"])


async def brief_of(live: Running, customer_id: str = "cust_1001") -> Any:
    return (await live.http.get(f"/briefs/{customer_id}")).json()["items"][0]


async def total(live: Running) -> Any:
    [counts] = (await live.http.get("/outcomes/summary")).json()["total"]
    return counts


async def test_what_is_said_last_counts_and_the_story_is_kept(live: Running) -> None:
    brief_id = await a_brief(live)
    before = await brief_of(live)
    assert (before["outcome"], before["owner"], before["snoozed_until"], before["hints"]) == (None, None, None, [])
    assert (await total(live))["open"] == 1

    for outcome, note in (("contacted", "left a message"), ("lost", None), ("saved", "  took the yearly plan ")):
        answer = await live.http.post(f"/outcomes/{brief_id}", json={"outcome": outcome, "note": note})
        assert answer.status_code == 200, answer.text

    told = (await live.http.get(f"/outcomes/{brief_id}")).json()
    assert told == answer.json()
    assert (told["outcome"], told["open"]) == ("saved", False)
    assert [(line["value"], line["note"]) for line in told["history"]] == [
        ("contacted", "left a message"),
        ("lost", None),
        ("saved", "took the yearly plan"),
    ]
    assert told["first_contact_at"] == told["history"][0]["at"]
    assert (await brief_of(live))["outcome"] == "saved"
    Brief.model_validate(await brief_of(live))
    counts = await total(live)
    assert (counts["briefs"], counts["open"], counts["saved"], counts["lost"]) == (1, 0, 1, 0)
    assert (counts["mrr_saved"], counts["customers_contacted"], counts["contacted_within_hour"]) == (850.0, 1, 1)


async def test_saying_the_same_again_changes_nothing_and_an_end_can_be_taken_back(live: Running) -> None:
    brief_id = await a_brief(live)
    for outcome in ("saved", "saved", None):
        told = (await live.http.post(f"/outcomes/{brief_id}", json={"outcome": outcome})).json()
    assert [line["value"] for line in told["history"]] == ["saved", None]
    assert (told["outcome"], told["outcome_at"], told["open"]) == (None, None, True)
    assert (await total(live))["open"] == 1


async def test_a_brief_is_given_to_somebody_and_put_aside_and_an_end_fetches_it_back(live: Running) -> None:
    brief_id = await a_brief(live)
    until = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)

    await live.http.put(f"/outcomes/{brief_id}/owner", json={"owner": " Ines "})
    told = (await live.http.put(f"/outcomes/{brief_id}/snooze", json={"until": until.isoformat()})).json()

    assert (told["owner"], datetime.fromisoformat(told["snoozed_until"])) == ("Ines", until)
    assert [line["what"] for line in told["history"]] == ["owner", "snoozed"]
    assert (await brief_of(live))["owner"] == "Ines"
    ended = (await live.http.post(f"/outcomes/{brief_id}", json={"outcome": "not_a_risk"})).json()
    assert (ended["snoozed_until"], ended["owner"]) == (None, "Ines")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"outcome": "perhaps"}),
        ("", {"outcome": "saved", "note": "x" * 2001}),
        ("/owner", {"owner": "x" * 121}),
        ("/snooze", {"until": "2020-01-01T00:00:00Z"}),
        ("/snooze", {"until": "9999-01-01T00:00:00Z"}),
        ("/snooze", {"until": "2999-12-01T00:00:00"}),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(tmp_path: Path, path: str, body: Any) -> None:
    async with service(tmp_path, sinks=[]) as live:
        brief_id = await a_brief(live)
        method = "PUT" if path else "POST"
        answer = await live.http.request(method, f"/outcomes/{brief_id}{path}", json=body)
        assert answer.status_code == 422, answer.text
        assert (await live.http.get(f"/outcomes/{brief_id}")).json()["history"] == []


async def test_readers_read_and_the_audit_trail_names_who_changed_what_but_no_customer(tmp_path: Path) -> None:
    reader = {"X-API-Key": "a-reader-key-of-the-tests"}
    async with service(tmp_path, sinks=[], reader_api_keys=reader["X-API-Key"]) as live:
        brief_id = await a_brief(live)
        read = await live.stranger.get(f"/outcomes/{brief_id}", headers=reader)
        assert (read.status_code, read.headers["cache-control"]) == (200, "no-store")
        refused = await live.stranger.post(f"/outcomes/{brief_id}", json={"outcome": "saved"}, headers=reader)
        assert refused.status_code == 403
        told = (await live.http.post(f"/outcomes/{brief_id}", json={"outcome": "saved", "note": "Priya agreed"})).json()
        assert told["history"][0]["who"].startswith("key ")
        [line, *_] = (await live.http.get("/audit")).json()["items"]
        assert (line["action"], line["subject"], line["detail"]) == ("outcome", brief_id, "saved")


async def test_a_brief_that_is_not_there_is_not_found_and_a_stranger_is_refused(tmp_path: Path) -> None:
    async with service(tmp_path, sinks=[]) as live:
        for answer in (
            await live.http.get("/outcomes/brf_none"),
            await live.http.post("/outcomes/brf_none", json={"outcome": "saved"}),
            await live.http.put("/outcomes/brf_none/owner", json={"owner": "Ines"}),
            await live.http.put("/outcomes/brf_none/snooze", json={"until": None}),
            await live.http.get("/outcomes/%00"),
            await live.http.put("/outcomes/jane@acme.co/owner", json={"owner": "Ines"}),
            await live.http.put("/outcomes/%00/owner", json={"owner": "Ines"}),
        ):
            assert answer.status_code == 404
        trail = (await live.http.get("/audit")).text
        assert "jane" not in trail, "whatever stands where an id belongs"
        assert r"\u0000" not in trail
        assert (await live.stranger.get("/outcomes/brf_none")).status_code == 401
        assert (await live.stranger.post("/outcomes/brf_none", json={"outcome": "saved"})).status_code == 401
        assert (await live.stranger.get("/outcomes/summary")).status_code == 401


async def test_the_summary_tells_persona_kind_and_offer_apart_and_holds_no_names(live: Running) -> None:
    first = await a_brief(live, "cust_1001")
    second = await a_brief(live, "cust_1003", metric="bounced")
    await live.http.post(f"/outcomes/{first}", json={"outcome": "saved"})
    await live.http.post(f"/outcomes/{second}", json={"outcome": "lost"})

    answer = await live.http.get("/outcomes/summary", params={"days": 1})

    told = answer.json()
    assert {(each["value"], each["saved"], each["lost"]) for each in told["by_kind"]} == {
        ("unsubscribed", 1, 0),
        ("bounced", 0, 1),
    }
    assert {each["value"] for each in told["by_persona"]} == {
        (await brief_of(live, customer))["persona_type"] for customer in ("cust_1001", "cust_1003")
    }
    assert all(each["value"] for each in told["by_offer"])
    assert told["credits_spent"] == sum(each["credits"] for each in told["total"])
    assert told["total"][0]["saved_share"] == 0.5
    assert "cust_" not in answer.text
    assert "@" not in answer.text
