"""The main job, as a user runs it: signed webhooks in, briefs out, real processes and real sockets throughout."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from churn_radar.intake.door import PATH
from churn_radar.intake.samples import SAMPLES
from tests.acceptance.conftest import Upstreams
from tests.support.service import serving

pytestmark = [pytest.mark.acceptance, pytest.mark.journey]


def event(event_id: str, metric: str, customer_id: str, **data: Any) -> dict[str, Any]:
    """A reporting webhook of a mail."""
    return {
        "event_id": event_id,
        "object_type": "email",
        "metric": metric,
        "timestamp": 1_795_500_000,
        "data": {"customer_id": customer_id, "identifiers": {"id": customer_id}, **data},
    }


async def test_a_signed_unsubscribe_becomes_a_brief_in_the_api_and_at_every_sink(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    async with serving(tmp_path, upstreams.settings(tmp_path)) as service:
        answer = await service.post(event("01E1", "unsubscribed", "cust_1001"))
        assert answer.status_code == 200
        assert answer.json() == {"status": "accepted", "event_id": "01E1"}
        signal = await service.until("01E1", "briefed")
        async with service.client() as http:
            found = (await http.get("/briefs/cust_1001")).json()
        [brief] = found["items"]
        assert (found["customer_id"], found["pending"]) == ("cust_1001", 0)
        assert brief["persona_type"] == "High-MRR Fintech (Pro plan)"
        assert (brief["event_type"], brief["event_ids"]) == ("unsubscribed", ["01E1"])
        assert (brief["mrr"], brief["plan"], brief["currency"]) == (850, "pro", "USD")
        assert all(brief["sections"].values()), brief["sections"]
        assert brief["sources"]
        assert brief["credits_used"] > 0
        assert [step["status"] for step in signal["history"]] == ["received", "waiting", "researching", "briefed"]
        assert {d["sink"]: d["status"] for d in (await service.signal("01E1"))["deliveries"]}.keys() == {
            "console",
            f"jsonl:{tmp_path / 'briefs.jsonl'}",
        }
        assert await service.terminate() == 0
        assert [b["id"] for b in service.delivered()] == [brief["id"]]
        lines = service.output.splitlines()
        assert lines[:4] == [
            "=" * 60,
            "CHURN ALERT: unsubscribed | jane@acme.co | High-MRR Fintech (Pro plan)",
            "MRR: $850 | Tenure: 342d | Plan: pro",
            "=" * 60,
        ]
        assert lines[-1] == f"Sources: {len(brief['sources'])}"


async def test_mave_is_told_the_facts_and_never_who_it_is_about(tmp_path: Path, upstreams: Upstreams) -> None:
    async with serving(tmp_path, upstreams.settings(tmp_path)) as service:
        await service.post(event("01E1", "spammed", "cust_1001", recipient="jane@acme.co"))
        await service.until("01E1", "briefed")
    [prompt] = upstreams.asked
    for line in ("EVENT: complained", "PERSONA TYPE: High-MRR Fintech (Pro plan)", "PLAN: pro", "INDUSTRY: fintech"):
        assert line in prompt
    for private in ("jane@acme.co", "Jane", "Doe", "cust_1001", "03000001"):
        assert not re.search(rf"\b{re.escape(private)}\b", prompt, re.IGNORECASE), private


async def test_every_way_in_ends_as_the_rules_say(tmp_path: Path, upstreams: Upstreams) -> None:
    ends = {
        "01OPEN": (event("01OPEN", "opened", "cust_1001"), "ignored", None),
        "01FREE": (event("01FREE", "unsubscribed", "cust_1007"), "accepted", "skipped"),
        "01GONE": (event("01GONE", "unsubscribed", "cust_0815"), "accepted", "skipped"),
        "01BIZ": (event("01BIZ", "bounced", "cust_1002"), "accepted", "briefed"),
        "01SPAM": (event("01SPAM", "spammed", "cust_1003"), "accepted", "briefed"),
        "01ODD": ({"event_id": "01ODD", "what": "ever"}, "quarantined", "quarantined"),
        "01MAIL": (
            {
                "event_id": "01MAIL",
                "metric": "bounced",
                "object_type": "email",
                "data": {"customer_id": None, "identifiers": {"email": "ops+eu@trailhead.example"}},
            },
            "accepted",
            "briefed",
        ),
        "01CIO": (
            {"event_id": "01CIO", "event_type": "customer_unsubscribed", "identifiers": {"id": "team/42"}},
            "accepted",
            "briefed",
        ),
    }
    async with serving(tmp_path, upstreams.settings(tmp_path)) as service:
        for event_id, (payload, said, _) in ends.items():
            answer = await service.post(payload)
            assert answer.status_code == 200
            assert answer.json() == {"status": said, "event_id": event_id}
        for event_id, (_, _, end) in ends.items():
            if end:
                await service.until(event_id, end)
        assert (await service.post(ends["01BIZ"][0])).json()["status"] == upstreams.place.repeated
        assert (await service.signal("01FREE"))["reason"] == (
            'plan "free" is not researched (business, enterprise, pro are)'
        )
        async with service.client() as http:
            for name in ("ops+eu@trailhead.example", "OPS+EU@trailhead.example", "team/42", "team%2F42"):
                assert len((await http.get(f"/briefs/{name}")).json()["items"]) == 1, name
            assert (await http.get("/signals", params={"status": "quarantined"})).json()["items"][0]["event_id"] == (
                "01ODD"
            )
            assert (await http.get("/briefs/nobody")).status_code == 404
            assert (await http.get("/briefs", headers={"X-API-Key": "wrong"})).status_code == 401


async def test_a_forged_event_is_refused_and_the_likely_cause_is_logged_without_values(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    async with serving(tmp_path, upstreams.settings(tmp_path)) as service:
        body = json.dumps(event("01E1", "unsubscribed", "cust_1001")).encode()
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                f"{service.url}{PATH}",
                content=body,
                headers={"Content-Type": "application/json", "X-CIO-Timestamp": "1", "X-CIO-Signature": "ab" * 32},
            )
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        async with service.client() as http:
            assert (await http.get("/signals/01E1")).status_code == 404
        [line] = [json.loads(row) for row in service.log.splitlines() if "door.refused" in row]
        assert "clock" in line["likely_cause"]
        assert "abab" not in service.log


async def test_several_signals_of_one_customer_share_one_brief_that_names_them_all(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    upstreams.mavera_faults.add("status:503", None)
    settings = upstreams.settings(
        tmp_path, CHURN_RADAR_RETRY_DELAYS_SECONDS=",".join(["0.3"] * 200), CHURN_RADAR_IN_CALL_ATTEMPTS="1"
    )
    async with serving(tmp_path, settings) as service:
        await service.post(event("01E1", "bounced", "cust_1001"))
        await service.until("01E1", "waiting")
        for event_id, kind in (("01E2", "spammed"), ("01E3", "unsubscribed")):
            await service.post(event(event_id, kind, "cust_1001"))
            await service.until(event_id, "joined")
        upstreams.mavera_faults.clear()
        await service.until("01E1", "briefed")
        async with service.client() as http:
            [brief] = (await http.get("/briefs/jane@acme.co")).json()["items"]
        assert brief["event_ids"] == ["01E1", "01E2", "01E3"]
        assert upstreams.asked[-1].count("EVENT:") == 1
        assert all(kind in upstreams.asked[-1] for kind in ("bounced", "complained", "unsubscribed"))


async def test_while_the_app_api_is_down_the_attributes_last_seen_are_used_and_the_brief_says_so(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    settings = upstreams.settings(tmp_path, CHURN_RADAR_COOL_DOWN_HOURS="0", CHURN_RADAR_IN_CALL_ATTEMPTS="1")
    async with serving(tmp_path, settings) as service:
        await service.post(event("01E1", "bounced", "cust_1001"))
        await service.until("01E1", "briefed")
        upstreams.customerio_faults.add("status:503", None)
        await service.post(event("01E2", "spammed", "cust_1001"))
        await service.until("01E2", "briefed")
        async with service.client() as http:
            newest, oldest = (await http.get("/briefs/cust_1001")).json()["items"]
    assert (oldest["attributes_source"], newest["attributes_source"]) == ("live", "cached")
    assert any("last seen" in note for note in newest["notes"])


async def test_every_example_of_the_docs_page_can_be_executed(tmp_path: Path, upstreams: Upstreams) -> None:
    async with serving(tmp_path, upstreams.settings(tmp_path)) as service, service.client() as http:
        openapi = (await http.get("/openapi.json")).json()
        examples = openapi["paths"]["/events"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert examples.keys() == SAMPLES.keys()
        said = {}
        for name, example in examples.items():
            answer = await http.post("/events", json=example["value"])
            assert answer.status_code == 200, (name, answer.text)
            said[name] = answer.json()["status"]
        assert said.pop("opened") == "ignored"
        assert set(said.values()) == {"accepted"}
        for _ in range(300):
            found = (await http.get("/briefs/jane@acme.co")).json()
            if found["items"] and not found["pending"]:
                break
            await asyncio.sleep(0.05)
        assert len(found["items"]) == 1
        page = (await http.get("/docs")).text
        assert "https://" not in page.replace("https://fastapi.tiangolo.com", "")
