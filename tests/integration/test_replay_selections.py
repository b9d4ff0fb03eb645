"""Replays of many: by reason, by what they died of, by time; rehearsed, page by page, and twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from churn_radar.intake.events import to_quarantine
from churn_radar.store.signals import find_signal
from churn_radar.store.tables import Status, signal_history, signals
from churn_radar.work.replay import AT_ONCE, replay_all
from churn_radar.work.selection import MOST_LOOKED_AT, PAGE, Selection, select_page
from tests.support.work import NOON, Running, Workshop, payload, service, workshop


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Running]:
    """A service without a worker: what is replayed stays where the replay puts it."""
    async with service(tmp_path, with_worker=False) as running:
        yield running


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


async def bury(live: Running, event_id: str, **told: Any) -> str:
    """Put a dead letter into the record, received so many `hours` after noon."""
    hours = told.pop("hours", 0)
    await live.post({**payload(f"customer-{event_id}"), "event_id": event_id})
    values = {"failed_service": "mavera", "failed_status": 503, "reason": "mavera (503): down", **told}
    await live.service.record.write(
        lambda c: c.execute(
            update(signals)
            .where(signals.c.event_id == event_id)
            .values(status=Status.DEAD, received_at=NOON + timedelta(hours=hours), **values)
        )
    )
    return event_id


async def asked(live: Running, **wanted: Any) -> dict[str, Any]:
    answer = await live.http.post("/signals/replay", json={"status": "dead", **wanted})
    assert answer.status_code == (200 if wanted.get("dry_run") else 202), answer.text
    told: dict[str, Any] = answer.json()
    return told


def ids(told: dict[str, Any]) -> list[str]:
    return [line["event_id"] for line in told["replayed"]]


async def standing(live: Running, event_id: str) -> Status:
    async with live.service.record.read() as connection:
        signal = await find_signal(connection, event_id)
    assert signal is not None
    return signal.status


async def everything(live: Running) -> tuple[object, ...]:
    async with live.service.record.read() as connection:
        rows = (await connection.execute(select(signals).order_by(signals.c.seq))).all()
        return (*rows, (await connection.execute(select(func.count()).select_from(signal_history))).scalar_one())


async def test_after_an_outage_what_died_of_it_is_replayed_and_nothing_else(idle: Running) -> None:
    await bury(idle, "before", hours=-3)
    await bury(idle, "bad-gateway", failed_status=502)
    await bury(idle, "down")
    await bury(idle, "refused", failed_status=400)
    await bury(idle, "look-up", failed_service="customerio")
    await bury(idle, "ours", failed_service=None, failed_status=None)
    await bury(idle, "after", hours=3)

    told = await asked(
        idle,
        failed_service="mavera",
        failed_status="5xx",
        since="2026-11-24T10:00:00Z",
        until="2026-11-24T16:00:00+02:00",
    )

    assert ids(told) == ["bad-gateway", "down"]
    assert told["cursor"] is None
    assert await standing(idle, "down") is Status.RECEIVED
    for other in ("before", "refused", "look-up", "ours", "after"):
        assert await standing(idle, other) is Status.DEAD


async def test_by_reason(idle: Running) -> None:
    await bury(idle, "one", reason="gave up after 7 attempts: mavera: the name app.mavera.io does not resolve")
    await bury(idle, "two", reason="mavera (400): no")

    assert ids(await asked(idle, reason="DOES NOT RESOLVE")) == ["one"]


async def test_a_rehearsal_tells_what_the_replay_then_does_and_changes_nothing(idle: Running) -> None:
    for number in range(3):
        await bury(idle, f"dead-{number}")
    await bury(idle, "refused", failed_status=400)
    before = await everything(idle)

    rehearsed = await asked(idle, dry_run=True)

    assert await everything(idle) == before
    assert rehearsed["replayed"] == []
    assert rehearsed["counts"] == [
        {"status": "received", "effect": "triage starts again", "help": "docs/what-to-do.md#mavera-5xx", "count": 3},
        {"status": "received", "effect": "triage starts again", "help": "docs/what-to-do.md#mavera-4xx", "count": 1},
    ]
    assert (await asked(idle))["counts"] == rehearsed["counts"]


async def test_a_rehearsal_of_quarantined_bodies_reads_them(idle: Running) -> None:
    for body in (b"not json", b'{"event_id":"E","metric":"unsubscribed","data":{"customer_id":"1"}}'):
        await idle.service.record.accept(to_quarantine(body, "a reason", received_at=NOON, event_id=None))
    before = await everything(idle)

    told = await asked(idle, status="quarantined", dry_run=True)

    assert await everything(idle) == before
    assert {(line["status"], line["count"]) for line in told["counts"]} == {("received", 1), ("quarantined", 1)}


async def test_a_second_replay_of_the_same_selection_finds_nothing_left_to_do(idle: Running) -> None:
    await bury(idle, "one")
    await bury(idle, "two")
    wanted = {"failed_service": "mavera", "since": "2026-11-24T00:00:00Z"}
    assert len(ids(await asked(idle, **wanted))) == 2
    before = await everything(idle)

    again = await asked(idle, **wanted)

    assert (again["replayed"], again["counts"], again["cursor"]) == ([], [], None)
    assert await everything(idle) == before


async def test_many_come_page_by_page_each_of_them_once(idle: Running) -> None:
    buried = [await bury(idle, f"dead-{number}") for number in range(7)]
    read: list[str] = []
    cursor = None
    for _ in range(4):
        told = await asked(idle, limit=2, cursor=cursor)
        read += ids(told)
        cursor = told["cursor"]

    assert read == buried
    assert cursor is None


async def test_ids_are_replayed_with_the_first_page_only(idle: Running) -> None:
    for number in range(3):
        await bury(idle, f"dead-{number}")
    await bury(idle, "named", failed_status=400)

    first = await asked(idle, event_ids=["named", "unheard-of"], failed_status="503", limit=2)
    second = await asked(idle, event_ids=["named", "unheard-of"], failed_status="503", limit=2, cursor=first["cursor"])

    assert (ids(first), first["unknown"]) == (["named", "dead-0", "dead-1"], ["unheard-of"])
    assert (ids(second), second["unknown"]) == (["dead-2"], [])


async def test_what_selects_nothing_sensible_is_refused_and_is_not_echoed(idle: Running) -> None:
    await bury(idle, "one")
    for wanted in (
        {"status": None, "reason": "x"},
        {"status": None, "since": "2026-11-24T10:00:00Z"},
        {"status": None, "failed_status": "5xx"},
        {"since": "2026-11-24T10:00:00Z", "until": "2026-11-24T09:00:00Z"},
        {"since": "jane@acme.co"},
        {"failed_service": "jane@acme.co"},
        {"failed_status": "jane@acme.co"},
        {"failed_status": "6xx"},
        {"reason": ""},
        {"limit": 0},
        {"limit": 1001},
    ):
        answer = await idle.http.post("/signals/replay", json={"status": "dead", **wanted})
        assert answer.status_code == 422, wanted
        assert "jane" not in answer.text
    assert (await idle.http.post("/signals/replay", json={"status": "dead", "cursor": "junk"})).status_code == 400

    assert await standing(idle, "one") is Status.DEAD


# -- large selections


async def graveyard(shop: Workshop, size: int, **told: Any) -> None:
    """So many dead letters, as fast as SQLite takes them."""
    rows = [
        {
            "signal_id": f"sig_{number}",
            "event_key": f"key_{number}",
            "kind": "unsubscribed",
            "received_at": NOON,
            "source": "webhook",
            "forced": False,
            "status": Status.DEAD,
            "reason": "mavera (503): down",
            "updated_at": NOON,
            "failed_service": "mavera",
            "failed_status": 503,
            **told,
        }
        for number in range(size)
    ]
    await shop.record.write(lambda c: c.execute(insert(signals), rows))


async def test_a_narrow_selection_looks_at_so_many_and_then_answers_with_where_it_is(shop: Workshop) -> None:
    await graveyard(shop, MOST_LOOKED_AT + 10)
    narrow = Selection(Status.DEAD, failed_status="400")

    found, after = await select_page(shop.record, narrow, after=0, most=10)

    assert (found, after) == ([], MOST_LOOKED_AT)
    assert await select_page(shop.record, narrow, after=MOST_LOOKED_AT, most=10) == ([], None)


async def test_a_wide_one_holds_a_page_at_most(shop: Workshop) -> None:
    await graveyard(shop, PAGE * 2)

    found, after = await select_page(shop.record, Selection(Status.DEAD), after=0, most=PAGE + 1)

    assert (len(found), after) == (PAGE + 1, PAGE + 1)


async def test_between_its_pieces_the_door_commits(shop: Workshop) -> None:
    """Replays share the thread that writes: no transaction of theirs is longer than a few."""
    await graveyard(shop, AT_ONCE * 3)
    found, _ = await select_page(shop.record, Selection(Status.DEAD), after=0, most=1000)
    sizes: list[int] = []
    write = shop.record.write

    async def noting(work: Any) -> Any:
        done = await write(work)
        sizes.append(len(done))
        return done

    shop.record.write = noting  # type: ignore[method-assign]

    await replay_all(shop.record, found, alert_events=("unsubscribed",), now=NOON)

    assert sizes == [AT_ONCE] * 3


async def test_a_rehearsal_of_several_pieces_tells_of_each_and_leaves_no_trace(shop: Workshop) -> None:
    await graveyard(shop, AT_ONCE + 1)
    found, _ = await select_page(shop.record, Selection(Status.DEAD), after=0, most=1000)

    done = await replay_all(shop.record, found, alert_events=("unsubscribed",), now=NOON, dry_run=True)

    assert len(done) == AT_ONCE + 1
    assert [s.status for s in await reread(shop, [s.seq for s in found])] == [Status.DEAD] * (AT_ONCE + 1)


async def reread(shop: Workshop, seqs: Sequence[int]) -> list[Any]:
    return [await shop.signal(seq) for seq in seqs]
