"""Queries that stay fast: none that the service really runs walks through a whole table as the record grows.

The statements are not listed here but overheard, from SQLAlchemy, while a service takes events in, works them off,
is asked for lists and is started again; then SQLite is asked how it would run each. There are no statistics
(ANALYZE has not run), as in a record that nobody tends.

A `SEARCH` finds its rows by an index or by the row number. A `SCAN` walks, and is let pass only where the walk is
as short as the answer: the newest-first pages walk the table or an index backwards in the order of its rows and
stop at their LIMIT, with no condition that could make them pass rows over and nothing to sort; a partial index
holds nothing but what is asked for; and the sizes of quarantined bodies are added up, once a minute, in an index that
holds nothing else, and as many of them as the quarantine's bound lets there be.

A replay of many selects by reason, by cause and by time. None of that is a condition of the query: it reads pages of
one status in the order of arrival, by the index of both, and the conditions are looked at afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from churn_radar.intake.events import ChurnEvent, to_arrival, to_quarantine, understand
from churn_radar.intake.payload import Event
from churn_radar.sinks.digest import Period
from churn_radar.store import arrivals
from churn_radar.store.at_risk import risk_since
from churn_radar.store.brief_search import Place, Wanted, search_briefs
from churn_radar.store.digests import claim, is_over, read_digest_figures
from churn_radar.store.known import known_events
from churn_radar.store.outcome_sums import count_new
from churn_radar.store.record import Record
from churn_radar.store.tables import Status, metadata
from churn_radar.store.waits import what_waits
from churn_radar.triage.customer import CustomerRef
from churn_radar.work.retention import Retention
from churn_radar.work.steps import utc_now
from tests.support import work
from tests.support.pages import browsing
from tests.torture.letters import crowd

TABLES = set(metadata.tables)
SIZES = "SCAN quarantined_bodies USING COVERING INDEX ix_quarantined_bodies_size"
UNFINISHED = ("received", "waiting", "researching")


@dataclass(frozen=True, slots=True)
class Overheard:
    """A statement as it was run."""

    text: str
    parameters: Any


def listen(record: Record, heard: dict[str, Overheard]) -> None:
    """Overhear both of a record's engines; of statements that differ in their values only, the first is kept."""

    def hear(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        told = parameters[0] if parameters and isinstance(parameters[0], tuple) else parameters
        heard.setdefault(re.sub(r"\?(, \?)+", "?, ...", statement), Overheard(statement, told))

    for engine in record.engines:
        event.listen(engine, "before_cursor_execute", hear)


async def live_through_everything(folder: Path) -> dict[str, Overheard]:
    """Some days of a service in a minute: a few hundred signals in every status, every list and every replay."""
    people = crowd(60, random.Random(1))
    heard: dict[str, Overheard] = {}
    told: dict[str, Any] = {
        "people": people,
        "retry_delays_seconds": (0.01,),
        "max_waiting_requests": 5000,
        # With these set, their queries run too; the limit is reached on the way.
        "monthly_credits": 1000,
        "over_budget_mrr": 0,
        "reuse_research_days": 1,
        "quarantine_folder": folder,
        "research_stronger_signals": True,
    }
    async with work.service(folder, sinks=[work.ListSink(), work.ListSink("other", [OSError()] * 9)], **told) as live:
        listen(live.service.record, heard)
        events = [
            work.payload(data={"identifiers": {name: getattr(person, name)}})
            for person in people
            for name in ("id", "cio_id", "email")
            if getattr(person, name)
        ]
        live.mavera_faults.add("status:400", 5)
        await asyncio.gather(*(live.service.record.accept(arrival_of(each, live)) for each in events))
        await live.service.record.accept(arrival_of(work.payload("nobody"), live))
        await live.http.post("/events", json=events[0])
        await live.http.post("/events", json=events[0], params={"force": "true"})
        await live.stranger.post("/webhooks/customerio", json={})

        async def worked_off() -> bool:
            pages = [(await live.http.get("/signals", params={"status": status})).json() for status in UNFINISHED]
            return not any(page["items"] for page in pages)

        await work.until(worked_off, "all to be worked off", seconds=60)
        for status in (None, *Status):
            params = {"limit": "3"} | ({"status": status.value} if status else {})
            cursor = (await live.http.get("/signals", params=params)).json()["cursor"]
            if cursor:
                await live.http.get("/signals", params={**params, "cursor": cursor})
        first = (await live.http.get("/briefs", params={"limit": "3"})).json()
        await live.http.get("/briefs", params={"limit": "3", "cursor": first["cursor"]})
        for name in ("crowd_1", "crowd1@torture.example", "07000001", "nobody at all"):
            await live.http.get(f"/briefs/{name}")
        for status in ("dead", "skipped", "briefed", "joined", "quarantined"):
            [item, *_] = (await live.http.get("/signals", params={"status": status})).json()["items"] or [{"id": "x"}]
            await live.http.get(f"/signals/{item['id']}")
            await live.http.post(f"/signals/{item['id']}/replay")
        outage = {
            "status": "dead",
            "failed_service": "mavera",
            "failed_status": "4xx",
            "reason": "no",
            "since": "2026-01-01",
        }
        await live.http.post("/signals/replay", json={**outage, "dry_run": True})
        await live.http.post("/signals/replay", json={"status": "dead"})
        await live_through_outcomes(live, [brief["id"] for brief in first["items"]])
        await live_through_a_quarantine(live)
        await live_through_a_farewell(live)
        await look_for_briefs(live)
        async with live.service.record.read() as connection:
            await known_events(connection, "bounced", [CustomerRef("crowd_1", "07000001", "crowd1@torture.example")])
        await live.http.get("/readyz")
        await look_at_the_pages(live)
        await live_through_deliveries(live)
    # A morning with Mave down: signals wait, are put off, and are listed so; then a restart takes them up.
    told["retry_delays_seconds"] = (300.0,) * 9
    async with work.service(folder, sinks=[work.ListSink()], **told) as live:
        listen(live.service.record, heard)
        live.mavera_faults.add("status:503", None)
        for person in people[-8:]:
            await live.http.post("/events", json=work.payload(person.id), params={"force": "true"})
        page: dict[str, Any] = {}

        async def put_off() -> bool:
            nonlocal page
            page = (await live.http.get("/signals", params={"status": "waiting", "limit": "2"})).json()
            return page["cursor"] is not None and all(item["next_attempt_at"] for item in page["items"])

        await work.until(put_off, "signals to be put off")
        await live.http.get("/signals", params={"status": "waiting", "cursor": page["cursor"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "__init__", listening_init(Record.__init__, heard))
        async with work.service(folder, sinks=[work.ListSink()], **told) as live:
            await live.http.get("/readyz")
    return heard


async def live_through_outcomes(live: work.Running, brief_ids: list[str]) -> None:
    """Briefs are put aside, given to somebody and come to an end; those of an older release are counted."""
    for brief_id in brief_ids:
        await live.http.put(f"/outcomes/{brief_id}/snooze", json={"until": str(utc_now() + timedelta(days=1))})
        await live.http.put(f"/outcomes/{brief_id}/owner", json={"owner": "Ines"})
        await live.http.post(f"/outcomes/{brief_id}", json={"outcome": "saved"})
        assert (await live.http.get(f"/outcomes/{brief_id}")).json()["outcome"] == "saved"
    assert (await live.http.get("/outcomes/summary", params={"days": 3660})).status_code == 200
    await live.service.record.write(lambda connection: count_new(connection, limit=100, now=work.NOON))


async def look_at_the_pages(live: work.Running) -> None:
    """Somebody logs in, looks, and logs out; the trail is read."""
    async with browsing(live) as browser:
        for path in (
            "/",
            "/desk/signals",
            "/desk/signals?status=waiting",
            "/desk/dead-letters",
            "/desk/dead-letters/of",
            "/desk/dead-letters/of?service=mavera&status=400",
            "/desk/quarantine",
            "/desk/health",
            "/desk/audit",
            "/desk/welcome",
        ):
            assert (await browser.get(path)).status_code in (200, 303), path
        await browser.post("/desk/logout")
    cursor = (await live.http.get("/audit", params={"limit": "1"})).json()["cursor"]
    await live.http.get("/audit", params={"limit": "1", "cursor": cursor})


async def live_through_deliveries(live: work.Running) -> None:
    """Sinks and deliveries are listed, what was given up starts again, a sink is resumed, a digest told."""
    await live.http.get("/sinks")
    for params in ({}, {"sink": "other"}, {"status": "delivered", "limit": "2"}):
        cursor = (await live.http.get("/deliveries", params=params)).json()["cursor"]
        if cursor:
            await live.http.get("/deliveries", params={**params, "cursor": cursor})
    for wanted in ({"sink": "other"}, {"all": True}, {"ids": [1, 2]}):
        await live.http.post("/deliveries/replay", json={**wanted, "dry_run": True})
        await live.http.post("/deliveries/replay", json={**wanted, "limit": 2} if "ids" not in wanted else wanted)
    await live.http.post("/sinks/resume", json={"name": "other"})
    month = Period("x", work.NOON - timedelta(days=30), work.NOON + timedelta(days=365))
    async with live.service.record.read() as connection:
        await read_digest_figures(connection, month, currency="USD", now=work.NOON, at_risk_days=30)
        await is_over(connection, "morning", "x")
    await live.service.record.write(
        lambda connection: claim(connection, "morning", "x", now=work.NOON, lease=timedelta(minutes=1))
    )


async def live_through_a_farewell(live: work.Running) -> None:
    """Somebody asks what is held on them, and is forgotten."""
    assert (await live.http.get("/customers/crowd_2")).status_code == 200
    assert (await live.http.delete("/customers/crowd2@torture.example", params={"dry_run": "true"})).status_code == 200
    assert (await live.http.delete("/customers/crowd_2")).json()["known"]
    assert (await live.http.post("/customers/crowd_2/let-in")).json() == {"lifted": 1}
    later = utc_now() + timedelta(days=99)
    assert await Retention(live.service.record, 98, lambda: later - timedelta(days=2)).once() == {}


async def live_through_a_quarantine(live: work.Running) -> None:
    """Bodies come in, are read again, dropped, exported, brought back, and exported because they are too many."""
    for number in range(4):
        body = b"no json %d" % number
        await live.service.record.accept(to_quarantine(body, "no JSON", received_at=work.NOON, event_id=None))
    await live.http.get("/quarantine")
    await live.http.post("/signals/replay", json={"status": "quarantined", "dry_run": True})
    await live.http.post("/quarantine/drop", json={"reason": "no json", "limit": 1})
    told = (await live.http.post("/quarantine/export", json={"all": True})).json()
    assert told["count"] == 3
    assert (await live.http.post("/quarantine/import", json={"file": told["file"]})).json()["brought_back"] == 3
    live.service.quarantine.max_bytes = 0
    assert await live.service.quarantine.tidy() == 3


async def look_for_briefs(live: work.Running) -> None:
    """What the pages ask of the briefs: sums, and pages of what is dearest, by every filter."""
    every = Wanted(persona="pro", plan="pro", kind="bounced", mrr_from=1, mrr_to=9, since=work.NOON, before=work.NOON)
    async with live.service.record.read() as connection:
        await risk_since(connection, 0, currency="USD")
        await what_waits(connection)
        for wanted in (Wanted(), every, Wanted(at_risk=True), Wanted(customer="crowd_12")):
            for after in (None, Place(500.0, 3)):
                await search_briefs(connection, wanted, after=after, limit=3)


def listening_init(init: Any, heard: dict[str, Overheard]) -> Any:
    """The record's own beginning, overheard from the first statement on."""

    def begin(self: Record, *parts: Any, **named: Any) -> None:
        init(self, *parts, **named)
        listen(self, heard)

    return begin


def arrival_of(payload: dict[str, Any], live: work.Running) -> arrivals.Arrival:
    """An event as the door keeps it."""
    understood = understand(Event.model_validate(payload), live.service.settings.alert_events)
    assert isinstance(understood, ChurnEvent)
    return to_arrival(understood, received_at=work.NOON, source="webhook")


def plan(connection: sqlite3.Connection, heard: Overheard) -> list[str]:
    """How SQLite would run a statement, one line a step."""
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {heard.text}", heard.parameters)]


def walks(heard: Overheard, steps: list[str]) -> list[str]:
    """The steps of a plan that grow with the record and not with the answer."""
    text = " ".join(heard.text.split())
    condition = text.partition(" WHERE ")[2]
    sorts = [step for step in steps if "TEMP B-TREE" in step]
    found = []
    for step in steps:
        scanned = re.match(r"SCAN (\w+)", step)
        if scanned and scanned[1] in TABLES:
            page = re.search(rf"FROM {scanned[1]} ORDER BY {scanned[1]}\.seq DESC LIMIT \?", text)
            if step == SIZES and not condition and not sorts:
                continue
            if page is None or sorts:
                found.append(step)
    if re.search(r"\b(customer_seq|customer_id|email|brief_seq|joined_to)\b", condition):
        # One customer's signals, one brief's deliveries: not to be looked for among all of a status.
        found += [step for step in steps if "(status=?" in step]
    if re.search(r"FROM (signals|briefs|deliveries) .* LIMIT \?", text):
        # A page, or the next ones of a queue: sorting would read all that could be in it, to keep a few.
        found += sorts
    return found


async def test_no_query_of_the_service_walks_through_a_table_or_sorts_what_it_takes_a_page_of(tmp_path: Path) -> None:
    heard = await live_through_everything(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "record.db")) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchall()
        plans = {
            text: (each, plan(connection, each))
            for text, each in heard.items()
            if text.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
        }
        # The door's own statement goes past SQLAlchemy, to the driver.
        assert plan(connection, Overheard(arrivals._insert_signals(1), (None,) * len(arrivals.COLUMNS))) == []
    for text, (each, steps) in plans.items():
        assert walks(each, steps) == [], text
    # When the next is due, what is due, and what is put off at all, is found among nothing else.
    for text, (_, steps) in plans.items():
        if "due_at IS NOT NULL" in text:
            assert any("_due (status=? AND due_at>?" in step for step in steps), text
    for searched in ("signals_due (status=? AND due_at>?)", "signals_due (status=? AND due_at>? AND due_at<?)"):
        assert any(searched in step for _, steps in plans.values() for step in steps), searched
    assert any("deliveries_due (status=? AND due_at>? AND due_at<?)" in s for _, steps in plans.values() for s in steps)
    # Whoever shares an address with thousands is not looked for among them, nor among all without an identifier.
    for text, searched in (("AND cio_id IS NULL", "_by_mail_alone"), ("seen_at DESC", "_email_seen_at (email=?)")):
        asked = [steps for told, (_, steps) in plans.items() if text in told]
        assert asked, text
        assert all(any(searched in step for step in steps) for steps in asked), text
    for table in TABLES - {"signal_history", "quarantined_bodies"}:
        assert any(f"SEARCH {table}" in step for _, steps in plans.values() for step in steps), table


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("SELECT * FROM signals WHERE reason = ?", ["SCAN signals"]),
        ("SELECT count(*) FROM customers", ["SCAN customers USING COVERING INDEX ix_customers_email"]),
        ("SELECT * FROM signals ORDER BY signals.updated_at LIMIT ?", ["SCAN signals", "USE TEMP B-TREE FOR ORDER BY"]),
        ("SELECT * FROM signals WHERE status = ? ORDER BY priority LIMIT ?", ["USE TEMP B-TREE FOR ORDER BY"]),
        ("SELECT * FROM signals WHERE email = ? AND status = ?", ["SEARCH signals USING INDEX x (status=?)"]),
    ],
)
def test_a_plan_that_grows_with_the_record_is_found_out(text: str, steps: list[str]) -> None:
    assert walks(Overheard(text, ()), steps) == steps


def test_the_newest_first_page_may_walk_backwards_to_its_limit() -> None:
    assert walks(Overheard("SELECT * FROM briefs ORDER BY briefs.seq DESC LIMIT ? OFFSET ?", ()), ["SCAN briefs"]) == []
