"""The verifier itself: it has nothing to say of a sound run, and finds each way in which one can be unsound."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from churn_radar.store.schema import upgrade_record
from tests.torture.letters import Expected, Letter, Said
from tests.torture.reading import FileReading
from tests.torture.verifier import Evidence, unfinished, verify

BRIEF = {
    "brief_id": "brf_1",
    "customer_id": "cust_1",
    "persona_type": "Pro Media User",
    "research_brief": "Call them.",
}


def letter(name: str, verdict: str, expected: Expected, customer: str = "", *, researched: bool = False) -> Letter:
    return Letter(b"{}", {}, expected, customer, researched, [Said(verdict, name)])


def insert(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    """A row in which every column that must not be null, and is not told, is 0."""
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    needed = {name: 0 for _, name, _, not_null, default, key in columns if not_null and default is None and not key}
    told = {**needed, **values}
    marks = ",".join("?" * len(told))
    connection.execute(f"INSERT INTO {table} ({','.join(told)}) VALUES ({marks})", tuple(told.values()))  # noqa: S608


def signal(connection: sqlite3.Connection, seq: int, status: str, story: str, **values: Any) -> None:
    """A signal `E<seq>`, and its story after its arrival."""
    told = {"signal_id": f"sig_{seq}", "event_key": f"key_{seq}", "event_id": f"E{seq}", "kind": "bounced", **values}
    insert(connection, "signals", seq=seq, status=status, received_at=seq, **told)
    for at, step in enumerate(story.split(), seq):
        insert(connection, "signal_history", signal_seq=seq, at=at, status=step)


@pytest.fixture
def sound(tmp_path: Path) -> Evidence:
    """Two signals of one customer who got one brief after one kill, one skipped, one piece of junk, one of noise."""
    path, sink = tmp_path / "record.db", tmp_path / "briefs.jsonl"
    upgrade_record(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        for seq in (1, 2):
            insert(connection, "customers", seq=seq, attributes="{}")
        story = "waiting researching waiting researching briefed"
        signal(connection, 1, "briefed", story, customer_seq=1, brief_seq=1)
        signal(connection, 2, "joined", "joined", customer_seq=1, brief_seq=1, joined_to=1)
        signal(connection, 3, "skipped", "received skipped", customer_seq=2)
        signal(connection, 4, "quarantined", "", kind=None)
        insert(connection, "briefs", seq=1, signal_seq=1, customer_seq=1, **BRIEF)
        insert(connection, "deliveries", seq=1, brief_seq=1, sink="jsonl:x", status="delivered")
    told = {"id": BRIEF["brief_id"], **{name: value for name, value in BRIEF.items() if name != "brief_id"}}
    lines = [
        {**told, "event_ids": ["E1"], "consent": {"may_mail": "other_address"}},
        {**told, "event_ids": ["E1", "E2"], "consent": {"may_mail": "nothing"}},
    ]
    sink.write_text("".join(json.dumps(line) + "\n" for line in lines))
    letters = [
        letter("E1", "accepted", Expected.CHURN, "jane", researched=True),
        letter("E2", "duplicate", Expected.CHURN, "jane", researched=True),
        letter("E3", "accepted", Expected.CHURN, "bo"),
        letter("E4", "quarantined", Expected.JUNK),
        letter("E5", "ignored", Expected.NOISE),
    ]
    return Evidence(letters, FileReading(path), sink, research_calls=2, kills=1, concurrency=1)


def file_of(evidence: Evidence) -> Path:
    assert isinstance(evidence.record, FileReading)
    return evidence.record.path


def test_of_a_sound_run_there_is_nothing_to_say(sound: Evidence) -> None:
    assert verify(sound) == []
    assert unfinished(sound.record) == 0


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("DELETE FROM signals WHERE seq = 3", "E3: acknowledged, and in the record 0 times"),
        ("DELETE FROM signals WHERE seq = 4", "E4: acknowledged, and in the record 0 times"),
        ("UPDATE signals SET event_id = 'E1' WHERE seq = 2", "E1: acknowledged, and in the record 2 times"),
        ("UPDATE signals SET event_id = 'E5' WHERE seq = 3", "E5: ignored, and yet in the record"),
        ("UPDATE signals SET event_id = 'E9' WHERE seq = 3", "E9: in the record, but nobody sent it"),
        ("UPDATE signals SET status = 'received' WHERE seq = 3", "E3: ended as 'received'"),
        ("UPDATE signals SET status = 'dead' WHERE seq = 3", "E3: ended as 'dead'"),
        ("UPDATE signals SET status = 'waiting' WHERE seq = 1", "E1: stands at 'waiting', but its story ends"),
        ("UPDATE signals SET brief_seq = NULL WHERE seq = 2", "E2: 'joined' with no brief"),
        ("UPDATE signals SET brief_seq = 1 WHERE seq = 3", "E3: 'skipped' with a brief"),
        ("UPDATE signals SET customer_seq = 2 WHERE seq = 2", "E2: shares the brief of another customer"),
        ("UPDATE signals SET joined_to = 3 WHERE seq = 2", "E2: joined a signal that has another brief"),
        ("DELETE FROM signal_history WHERE status = 'briefed'", "E1: stands at 'briefed', but its story ends"),
        ("DELETE FROM signal_history WHERE status = 'researching'", "E1: went from 'waiting' to 'briefed'"),
        ("UPDATE signal_history SET at = 0 WHERE status = 'briefed'", "E1: its story goes back in time"),
        ("DELETE FROM briefs", "customer jane: 0 briefs, where 1 was due"),
        ("UPDATE briefs SET signal_seq = 3", "customer bo: 1 briefs, where 0 was due"),
        ("UPDATE briefs SET research_brief = 'Do not.'", "brf_1: the sink's file tells it differently"),
        ("UPDATE briefs SET brief_id = 'brf_2'", "brf_2: in the record, but not in the sink's file"),
        ("DELETE FROM deliveries", "brief 1: 0 deliveries 'delivered'"),
        ("UPDATE deliveries SET status = 'pending'", "brief 1: 1 deliveries 'pending'"),
        ("UPDATE signals SET customer_seq = 77 WHERE seq = 3", "a row of signals points to nothing"),
    ],
)
def test_a_doctored_record_is_found_out(sound: Evidence, damage: str, complaint: str) -> None:
    if "deliveries" in damage and "DELETE" in damage:
        with closing(sqlite3.connect(file_of(sound))) as connection, connection:
            insert(connection, "briefs", seq=2, signal_seq=1, customer_seq=1, **{**BRIEF, "brief_id": "brf_2"})
            insert(connection, "deliveries", seq=2, brief_seq=2, sink="jsonl:x", status="delivered")
        damage += " WHERE brief_seq = 1"
    with closing(sqlite3.connect(file_of(sound))) as connection, connection:
        connection.execute(damage)
    assert any(line.startswith(complaint) or complaint in line for line in verify(sound)), verify(sound)


def test_a_second_brief_of_a_customer_is_found_out_whatever_it_is_filed_under(sound: Evidence) -> None:
    with closing(sqlite3.connect(file_of(sound))) as connection, connection:
        second = {**BRIEF, "brief_id": "brf_2", "customer_id": "another name"}
        insert(connection, "briefs", seq=2, signal_seq=2, customer_seq=2, **second)
    found = verify(sound)
    assert "customer jane: 2 briefs, where 1 was due" in found
    assert "E2: 'joined', but a brief was written for it" in found


def test_two_briefs_under_one_row_or_one_id_are_found_out(sound: Evidence) -> None:
    with closing(sqlite3.connect(file_of(sound))) as connection, connection:
        insert(connection, "briefs", seq=2, signal_seq=1, customer_seq=1, **{**BRIEF, "brief_id": "brf_2"})
    found = verify(sound)
    assert {"customer_seq 1 has 2 briefs", "customer_id cust_1 has 2 briefs"} <= set(found)


def _without_lines(sink: Path) -> None:
    sink.write_text("")


def _told_differently(sink: Path) -> None:
    first, second = sink.read_text().splitlines()
    sink.write_text(f"{first}\n{second.replace('Call them', 'Write to them')}\n")


def _without_an_event(sink: Path) -> None:
    sink.write_text(sink.read_text().replace('["E1"]', '["E3"]'))


def _allowing_more(sink: Path) -> None:
    sink.write_text(sink.read_text().replace('"nothing"', '"anything"'))


def _one_too_many(sink: Path) -> None:
    sink.write_text(sink.read_text() + sink.read_text().replace("brf_1", "brf_7"))


def _torn_twice(sink: Path) -> None:
    sink.write_text('{"id": "brf\n{"id": "b\n' + sink.read_text())


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_without_lines, "brf_1: in the record, but not in the sink's file"),
        (_told_differently, "brf_1: the sink's file tells it differently: ['research_brief']"),
        (_without_an_event, "brf_1: the sink's file tells of other events each time"),
        (_allowing_more, "brf_1: the sink's file allows more after more events"),
        (_one_too_many, "brf_7: in the sink's file, but not in the record"),
        (_torn_twice, "the sink's file has 2 broken lines, after 1 kills"),
    ],
)
def test_a_doctored_sink_file_is_found_out(sound: Evidence, damage: Callable[[Path], None], complaint: str) -> None:
    damage(sound.sink)
    assert complaint in verify(sound)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"research_calls": 3}, "2 research calls in excess of 1 briefs, where 1 can be explained"),
        ({"research_calls": 0}, "1 briefs of 0 research calls"),
    ],
)
def test_research_that_cannot_be_explained_is_found_out(sound: Evidence, told: dict[str, int], complaint: str) -> None:
    assert verify(replace(sound, **told)) == [complaint]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([], "never acknowledged"),
        ([Said("accepted", "E1"), Said("accepted", "E1")], "E1: accepted again"),
        ([Said("duplicate", "E1"), Said("accepted", "E1")], "E1: accepted again"),
        ([Said("accepted", "E1"), Said("duplicate", "E2")], "E1: the door told several ids"),
        ([Said("ignored", "E1")], "E1: a churn event was answered ['ignored']"),
    ],
)
def test_an_answer_that_does_not_fit_is_found_out(sound: Evidence, said: list[Said], complaint: str) -> None:
    sound.letters[0].said = said
    assert any(line.startswith(complaint) for line in verify(sound)), verify(sound)
