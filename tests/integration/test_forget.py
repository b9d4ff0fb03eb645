from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from churn_radar.intake.events import to_quarantine
from churn_radar.research.mave import MaveAnswer
from churn_radar.simulator.people import Person
from churn_radar.store.arrivals import Verdict
from churn_radar.store.tables import credits, metadata, signals
from churn_radar.work.forget import Erased, forget
from churn_radar.work.forgotten import Forgotten
from churn_radar.work.research import Researcher
from churn_radar.work.steps import utc_now
from churn_radar.work.tasks import Done
from tests.support.work import NOON, ListSink, Running, logged, payload, service, until, workshop

ROSA = Person(
    "rosa-4711", "0a0b0c0d4711", "rosa@bakery.example", {"plan_type": "pro", "mrr": "900", "first_name": "Rosa"}
)
OTHER = Person("other-1", "0a0b0c0d0001", "team@agency.example", {"plan_type": "pro", "mrr": "700"})
SHARES = Person("other-2", "0a0b0c0d0002", "team@agency.example", {"plan_type": "pro", "mrr": "700"})
NAMES = (ROSA.id or "", ROSA.cio_id or "", ROSA.email or "", "bakery.example")


@pytest.fixture
async def live(everywhere: str, tmp_path: Path) -> AsyncIterator[Running]:
    """A service at work, on either record, in which much is held on Rosa."""
    async with service(tmp_path, people=[ROSA, OTHER, SHARES], sinks=[ListSink()]) as running:
        yield running


async def live_with_rosa(live: Running) -> str:
    """Rosa's brief, worked on, with all that can hang on it; returns its id."""
    brief_id = str((await live.briefed(payload(ROSA.id)))["brief_id"])
    await live.becomes(await live.post(payload(None, "bounced", data={"identifiers": {"email": ROSA.email}})), "joined")
    await live.becomes(
        await live.post(payload(None, "bounced", data={"identifiers": {"cio_id": ROSA.cio_id}})), "joined"
    )
    await live.http.put(f"/outcomes/{brief_id}/owner", json={"owner": "Ines"})
    await live.http.put(f"/outcomes/{brief_id}/snooze", json={"until": str(utc_now() + timedelta(days=1))})
    await live.http.post(f"/outcomes/{brief_id}", json={"outcome": "contacted", "note": "Rosa of bakery.example"})
    await live.http.post("/events", json=payload(ROSA.id, "subscribed", object_type="customer"))
    for body in (json.dumps({"who": {"customer_id": ROSA.id}}).encode(), b"to ROSA@bakery.example, bounced", b"nobody"):
        await live.service.record.accept(to_quarantine(body, "no JSON", received_at=NOON, event_id=None))

    async def hinted() -> bool:
        return bool((await live.http.get(f"/outcomes/{brief_id}")).json()["hints"])

    await until(hinted, "the hint")
    return brief_id


async def held(live: Running) -> str:
    """Every value of every row of every table."""
    async with live.service.record.read() as connection:
        rows = [
            str(tuple(row)).lower()
            for table in metadata.sorted_tables
            for row in await connection.execute(select(table))
        ]
    return "\n".join(rows)


async def test_whoever_is_forgotten_is_gone_from_every_table_and_from_the_files(live: Running, tmp_path: Path) -> None:
    await live_with_rosa(live)
    await live.briefed(payload(OTHER.id))

    async def delivered() -> bool:
        return "'pending'" not in await held(live)

    await until(delivered, "the deliveries")
    before = await held(live)
    assert all(name in before for name in NAMES)
    spent = (await live.http.get("/outcomes/summary")).json()

    foreseen = (await live.http.delete(f"/customers/{ROSA.email}", params={"dry_run": "true"})).json()
    assert await held(live) == before, "a dry run changes nothing"
    told = (await live.http.delete(f"/customers/{ROSA.email}")).json()

    assert {**told, "dry_run": True, "tombstone": None} == foreseen
    assert (told["known"], told["signals"], told["briefs"], told["hints"]) == (True, 3, 1, 1)
    assert (told["quarantined_bodies"], told["notes"], told["scrubbed"]) == (2, 3, True)
    after = await held(live)
    assert [name for name in (*NAMES, "rosa") if name in after] == []
    for file in tmp_path.glob("record.db*"):
        content = file.read_bytes().lower()
        assert [name for name in NAMES if name.encode() in content] == [], file.name
    assert (await live.http.get(f"/briefs/{ROSA.id}")).status_code == 404
    assert len((await live.http.get(f"/briefs/{OTHER.id}")).json()["items"]) == 1
    assert (await live.http.get("/outcomes/summary")).json() == spent, "money and counts have no name"
    [line, *_] = (await live.http.get("/audit")).json()["items"]
    assert (line["action"], line["subject"]) == ("forget", None)


@pytest.mark.parametrize(
    "data",
    [
        {"customer_id": ROSA.id},
        {"identifiers": {"cio_id": ROSA.cio_id}},
        {"identifiers": {"email": "Rosa@Bakery.example"}},
        {"customer_id": "another-id-of-hers", "identifiers": {"cio_id": ROSA.cio_id}},
    ],
)
async def test_late_events_are_acknowledged_and_written_down_nowhere(live: Running, data: dict[str, Any]) -> None:
    await live.briefed(payload(ROSA.id))
    await live.http.delete(f"/customers/{ROSA.id}")
    before = await held(live)

    answer = await live.http.post("/events", json=payload(data=data))

    assert answer.json()["status"] == "ignored"
    accepted = await live.service.accept(
        to_quarantine(json.dumps({"data": data, "x": 1}).encode(), "odd", received_at=NOON, event_id="e")
    )
    assert (accepted.verdict, accepted.public_id) == (Verdict.IGNORED, "e")
    changed = set((await held(live)).splitlines()) - set(before.splitlines())
    assert all("post event" in line for line in changed), "the audit trail alone"
    assert "churn_radar_kept_out_total" in (await live.http.get("/metrics")).text


async def test_an_exported_body_of_a_forgotten_person_stays_out_and_one_that_is_here_is_not_read(live: Running) -> None:
    await live.briefed(payload(ROSA.id))
    bodies = (json.dumps({"who": {"customer_id": ROSA.id}}).encode(), b"nobody")
    for body in bodies:
        await live.service.record.accept(to_quarantine(body, "no JSON", received_at=NOON, event_id=None))
    file = (await live.http.post("/quarantine/export", json={"all": True})).json()["file"]
    await live.http.delete(f"/customers/{ROSA.id}")

    back = (await live.http.post("/quarantine/import", json={"file": file})).json()
    assert (back["brought_back"], back["kept_out"]) == (1, 1)

    # As another replica takes it in that has not heard yet.
    understood = json.dumps(payload(ROSA.id)).encode()
    late = to_quarantine(understood, "not understood then", received_at=NOON, event_id=None)
    accepted = await live.service.record.accept(late)
    [done] = (await live.http.post("/signals/replay", json={"event_ids": [accepted.public_id]})).json()["replayed"]
    assert done["status"] == "skipped"
    assert "its body named somebody who was forgotten" in done["effect"]
    assert [name for name in (*NAMES, "rosa") if name in await held(live)] == []


async def test_an_unexpected_failure_does_not_end_the_hearing_of_other_replicas(
    live: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = Forgotten(live.service.record)
    answers = iter([ZeroDivisionError("about rosa"), None])
    heard = 0

    async def load() -> None:
        nonlocal heard
        if error := next(answers):
            raise error
        heard += 1

    async def sleep(_: float) -> None:
        if heard:
            raise KeyboardInterrupt

    monkeypatch.setattr(forgotten, "load", load)
    with logged(tmp_path) as out, pytest.raises(KeyboardInterrupt):
        await forgotten.keep_fresh(sleep)
    assert heard == 1
    assert "forgotten.not_read" in out.getvalue()
    assert "ZeroDivisionError" in out.getvalue()


async def test_somebody_else_with_the_same_address_is_not_kept_out_and_not_erased(live: Running) -> None:
    await live.briefed(payload(OTHER.id))
    await live.briefed(payload(SHARES.id))
    refused = await live.http.delete("/customers/team@agency.example")
    assert refused.status_code == 409
    assert "other-1" in refused.json()["detail"]

    assert (await live.http.delete(f"/customers/{OTHER.id}")).json()["briefs"] == 1

    assert len((await live.http.get(f"/briefs/{SHARES.id}")).json()["items"]) == 1
    joined = await live.http.post(
        "/events", json=payload(SHARES.id, data={"customer_id": SHARES.id, "email": OTHER.email})
    )
    assert joined.json()["status"] == "accepted"
    assert (await live.http.post("/events", json=payload(OTHER.id))).json()["status"] == "ignored"


async def test_who_was_never_here_is_kept_out_as_well_and_can_be_let_in_again(live: Running) -> None:
    told = (await live.http.delete(f"/customers/{ROSA.id}")).json()
    assert (told["known"], told["signals"]) == (False, 0)
    assert (await live.http.post("/events", json=payload(ROSA.id))).json()["status"] == "ignored"

    assert (await live.http.post(f"/customers/{ROSA.id}/let-in")).json() == {"lifted": 1}
    assert (await live.http.post(f"/customers/{ROSA.id}/let-in")).status_code == 404
    await live.briefed(payload(ROSA.id))


async def test_a_look_up_that_shows_who_it_is_leaves_nothing_and_marks_the_new_names(live: Running) -> None:
    await live.http.delete(f"/customers/{ROSA.id}")

    event_id = await live.post(payload(data={"identifiers": {"email": ROSA.email}}))

    async def gone() -> bool:
        return (await live.http.get(f"/signals/{event_id}")).status_code == 404

    await until(gone, "the signal to be gone")
    assert NAMES[2] not in await held(live)
    assert (await live.http.post("/events", json=payload(data={"identifiers": {"email": ROSA.email}}))).json()[
        "status"
    ] == "ignored"
    assert (await live.http.post("/events", json=payload(data={"identifiers": {"cio_id": ROSA.cio_id}}))).json()[
        "status"
    ] == "ignored"


async def test_all_that_is_held_can_be_shown_before(live: Running) -> None:
    brief_id = await live_with_rosa(live)

    told = (await live.http.get(f"/customers/{ROSA.cio_id}")).json()

    assert told["names"] == {"id": [ROSA.id], "cio_id": [ROSA.cio_id], "email": [ROSA.email]}
    tables = told["tables"]
    assert {name: len(rows) for name, rows in tables.items() if rows} == {
        "customers": 1,
        "signals": 3,
        "signal_history": len(tables["signal_history"]),
        "briefs": 1,
        "brief_history": 3,
        "reminders": 1,
        "deliveries": 1,
        "hints": 1,
    }
    assert tables["briefs"][0]["brief_id"] == brief_id
    assert tables["briefs"][0]["prompt"]
    assert tables["customers"][0]["attributes"]["first_name"] == "Rosa"
    assert (await live.http.get("/customers/a stranger")).status_code == 404
    assert (await live.stranger.get(f"/customers/{ROSA.id}")).status_code == 401
    assert (await live.stranger.delete(f"/customers/{ROSA.id}")).status_code == 401


@dataclass
class ForgetsMeanwhile:
    """Mave, while whose answer is on its way the person is forgotten."""

    mave: Researcher
    forget: Callable[[], Awaitable[Erased]]

    async def ask(self, message: str) -> MaveAnswer:
        assert (await self.forget()).amounts.under_way == 1
        return await self.mave.ask(message)

    async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
        raise AssertionError("there is no thread")


async def test_research_under_way_ends_without_a_brief_and_what_it_cost_stays(everywhere: str, tmp_path: Path) -> None:
    async with workshop(tmp_path, people=[ROSA]) as shop:
        seq = await shop.arrive(payload(ROSA.id))
        await shop.triage(seq)
        forgotten = Forgotten(shop.record)
        mave = ForgetsMeanwhile(shop.research.mave, lambda: forget(shop.record, forgotten, NAMES[0], now=NOON))

        assert await replace(shop.research, mave=mave)(seq) == Done()

        assert await shop.briefs() == []
        async with shop.record.read() as connection:
            [entry] = (await connection.execute(select(credits))).mappings().all()
        assert (entry["purpose"], entry["signal_seq"]) == ("lost", None)
        assert entry["amount"] > 0


async def test_what_another_replica_took_in_before_it_heard_is_gone_before_anybody_is_looked_up(
    everywhere: str, tmp_path: Path
) -> None:
    async with workshop(tmp_path, people=[ROSA]) as shop:
        here, there = Forgotten(shop.record), Forgotten(shop.record)
        await there.load()
        await forget(shop.record, here, NAMES[0], now=NOON)
        seq = await shop.arrive(payload(ROSA.id))

        assert await replace(shop.triage, forgotten=there)(seq) == Done()

        async with shop.record.read() as connection:
            assert (await connection.execute(select(signals))).all() == []
        assert not shop.customerio.calls
