from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import sqlite

from churn_radar.intake.events import to_quarantine
from churn_radar.store.arrivals import Accepted, Arrival, Verdict, arrival_values
from churn_radar.store.signals import Signal, find_signal, history
from churn_radar.store.tables import Instant, Json, Status, signals
from churn_radar.triage.customer import CustomerRef
from tests.support.door import NOW, House, arrival, house, insert_into

pytestmark = pytest.mark.usefixtures("everywhere")

DIALECT = sqlite.dialect()


async def insert(home: House, *arrivals: Arrival) -> list[Accepted]:
    return await home.record.write(lambda connection: insert_into(connection, arrivals))


async def one_of(home: House) -> Signal:
    [signal] = await home.signals()
    return signal


def verdicts(outcomes: Sequence[Accepted]) -> list[str]:
    return [outcome.verdict.value for outcome in outcomes]


def quarantine(body: bytes, event_id: str | None = None) -> Arrival:
    return to_quarantine(body, "not understood", received_at=NOW, event_id=event_id)


async def test_a_signal_is_kept_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        kept = arrival(
            "a",
            object_type="email",
            customer=CustomerRef("42", "a3f0", "Jo@X.io"),
            occurred_at=NOW,
            facts={"campaign_id": "23", "subject": "Grüße 👋"},
        )
        await insert(home, kept)
        signal = await one_of(home)
        assert (signal.event_id, signal.signal_id, signal.kind, signal.metric) == ("a", "sig_a", "bounced", "bounced")
        assert signal.customer == CustomerRef("42", "a3f0", "jo@x.io")
        assert signal.facts == {"campaign_id": "23", "subject": "Grüße 👋"}
        assert (signal.occurred_at, signal.received_at, signal.updated_at) == (NOW, NOW, NOW)
        assert (signal.status, signal.reason, signal.attempts, signal.priority) == (Status.RECEIVED, None, 0, 0)
        assert (signal.source, signal.forced, signal.object_type) == ("webhook", False, "email")


async def test_the_story_of_a_signal_begins_with_its_arrival(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await insert(home, arrival("a"), quarantine(b"{"))
        async with home.record.read() as connection:
            stories = [await history(connection, signal) for signal in await home.signals()]
        assert [[(step.at, step.status) for step in story] for story in stories] == [
            [(NOW, "received")],
            [(NOW, "quarantined")],
        ]


async def test_the_first_arrival_of_a_key_stands_and_later_ones_change_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert verdicts(await insert(home, arrival("a", event_id="first"))) == ["accepted"]
        assert verdicts(await insert(home, arrival("a", event_id="second", signal_id="x"))) == ["duplicate"]
        assert (await one_of(home)).event_id == "first"


async def test_a_batch_is_answered_in_its_order_whatever_was_there_before(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await insert(home, arrival("b"), arrival("d"))
        outcomes = await insert(home, *(arrival(key) for key in "abcdab"), quarantine(b"{", "q"))
        assert verdicts(outcomes) == [
            "accepted",
            "duplicate",
            "accepted",
            "duplicate",
            "duplicate",
            "duplicate",
            "quarantined",
        ]
        assert [outcome.public_id for outcome in outcomes] == [*"abcdab", "q"]
        numbers = {signal.event_id: signal.seq for signal in await home.signals()}
        assert [outcome.seq for outcome in outcomes] == [numbers["a"], None, numbers["c"], None, None, None, None]


async def test_an_event_without_an_id_is_known_by_ours(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        [outcome] = await insert(home, arrival("a", event_id=None))
        assert outcome.public_id == "sig_a"
        async with home.record.read() as connection:
            found = await find_signal(connection, "sig_a")
        assert found is not None
        assert found.event_id is None


async def test_a_quarantined_body_is_kept_byte_for_byte_and_once(tmp_path: Path) -> None:
    bodies = [b"", b"\0", b"\xff\xfe", bytes(range(256)), b'{"a": NaN}', b"\xf0\x9f" * 2_000_000]
    async with house(tmp_path) as home:
        for _ in range(2):
            outcomes = await insert(
                home, *(quarantine(body) for body in bodies), *(quarantine(body) for body in bodies)
            )
            assert {outcome.verdict for outcome in outcomes} == {Verdict.QUARANTINED}
        kept = await home.signals(Status.QUARANTINED)
        assert [await home.kept_body(signal) for signal in kept] == bodies
        assert {(signal.kind, signal.reason) for signal in kept} == {(None, "not understood")}


@pytest.mark.parametrize("others", [0, 3])
async def test_a_body_that_a_newer_release_has_read_is_a_duplicate_to_an_older_one(tmp_path: Path, others: int) -> None:
    """Its row has the key of the event by then, and the id that the older release makes of the body."""
    read, unread = quarantine(b"{", "read"), quarantine(b"[", "unread")
    neighbours = [arrival(f"{i}") for i in range(others)]
    async with house(tmp_path) as home:
        await insert(home, read, unread)
        as_event = signals.update().where(signals.c.signal_id == read.signal_id).values(event_key="of the event")
        await home.record.write(lambda connection: connection.execute(as_event))

        outcomes = await insert(home, *neighbours, read, unread)
        assert verdicts(outcomes) == ["accepted"] * others + ["duplicate", "quarantined"]
        assert [outcome.public_id for outcome in outcomes][-2:] == ["read", "unread"]
        numbers = {signal.event_id: signal.seq for signal in await home.signals()}
        assert [outcome.seq for outcome in outcomes[:others]] == [numbers[f"{i}"] for i in range(others)]
        assert (await home.record.accept(read)).verdict is Verdict.DUPLICATE
        assert len(await home.signals()) == others + 2


async def test_a_row_that_lacks_what_it_must_have_is_refused_not_left_out(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with pytest.raises(Exception, match=r"(?i)not.null"):
            await insert(home, arrival("a", source=None))
        assert await home.signals() == []


async def test_the_worker_is_not_told_to_work_on_what_is_quarantined(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        [outcome] = await insert(home, quarantine(b"{"))
        assert (outcome.verdict, outcome.seq) == (Verdict.QUARANTINED, None)


async def test_rows_are_never_numbered_twice(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        [first] = await insert(home, arrival("a"))
        await home.record.write(lambda connection: connection.execute(signals.delete()))
        [second] = await insert(home, arrival("b"))
        assert first.seq is not None
        assert second.seq == first.seq + 1


@pytest.mark.parametrize(
    "kept",
    [
        arrival("a"),
        arrival("a", event_id=None, object_type="email", occurred_at=NOW, forced=True, source="api"),
        arrival("a", customer=CustomerRef("42", "a3f0", "Jo@X.io"), facts={"subject": "Grüße", "campaign_id": "23"}),
        quarantine(b"{", "q"),
    ],
)
async def test_the_driver_and_sqlalchemy_store_the_same_row(tmp_path: Path, kept: Arrival) -> None:
    async with house(tmp_path) as home:
        await home.record.accept(kept)
        values = arrival_values(kept) | {"event_key": "other", "signal_id": "other"}
        await home.record.write(lambda connection: connection.execute(signals.insert().values(values)))
        async with home.record.read() as connection:
            driver, sqlalchemy = (await connection.execute(select(signals).order_by(signals.c.seq))).mappings().all()
        differing = {name for name in driver if driver[name] != sqlalchemy[name]}
        assert differing == {"seq", "event_key", "signal_id"}


def test_json_that_is_stored_comes_back_as_it_was() -> None:
    values: list[Any] = [{}, [], "", 0, False, {"a": [1, 2.5, None, "ü👋\n", {"b": []}]}, {"a": 2**63}]
    for value in values:
        assert _stored(value) == value
    assert _stored(None) is None


def test_a_number_that_no_column_holds_is_kept_as_text() -> None:
    assert _stored({"account": 2**70, "plan": "pro", "mrr": 850}) == {"account": str(2**70), "plan": "pro", "mrr": 850}
    assert _stored([-(2**64), float("inf")]) == [str(-(2**64)), None]


def _stored(value: Any) -> Any:
    return Json().process_result_value(Json().process_bind_param(value, DIALECT), DIALECT)


def test_instants_are_whole_microseconds_and_sort_like_time() -> None:
    moments = [NOW, NOW.replace(microsecond=1), NOW.replace(year=1969), NOW.replace(year=2100)]
    stored = [Instant().process_bind_param(moment, DIALECT) for moment in moments]
    assert [Instant().process_result_value(each, DIALECT) for each in stored] == moments
    assert all(isinstance(each, int) for each in stored)
    assert stored[2] < stored[0] < stored[1] < stored[3]  # type: ignore[operator]
