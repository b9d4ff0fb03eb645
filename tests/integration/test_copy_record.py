"""A whole record copied into another database: complete, resumable, and never over somebody else's data."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from churn_radar.errors import RecordAway, RecordLocked, RecordUnusable
from churn_radar.migrating import ENGINE, inspect
from churn_radar.moving import copy_record
from churn_radar.store import copy_postgres, copying
from churn_radar.store.copying import Sum
from churn_radar.store.dialect import Held
from churn_radar.store.record import lock_record, open_record
from churn_radar.store.schema import COPY_TABLE, SchemaState, upgrade_record
from churn_radar.store.tables import metadata
from tests.integration.test_schema import record_of
from tests.support.filling import fill_tables, points_ahead, rows_of_database, rows_of_file
from tests.support.postgres import Scratch

ROWS = 40


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record with rows in every table, copied in small pieces."""
    monkeypatch.setattr(copying, "MOST_ROWS", 7)
    monkeypatch.setattr(copy_postgres, "LINGER_SECONDS", 0.5)
    path = tmp_path / "record.db"
    upgrade_record(path)
    fill_tables(path, ROWS)
    assert points_ahead(path) > 5
    return path


@dataclass
class Target:
    """An empty place, and how to look into it."""

    url: str
    rows: Callable[[], dict[str, list[tuple[Any, ...]]]]
    run: Callable[[str], Any]


@pytest.fixture(params=["postgres", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    if request.param == "postgres":
        database: Scratch = request.getfixturevalue("postgres")
        yield Target(database.url, lambda: rows_of_database(database), database.run)
        database.run(f"DROP TABLE IF EXISTS {COPY_TABLE}")
        return
    path = tmp_path / "target.db"

    def run(statement: str) -> Any:
        with closing(sqlite3.connect(path)) as connection, connection:
            found = connection.execute(statement).fetchone()
        return found and found[0]

    yield Target(f"sqlite:///{path}", lambda: rows_of_file(path), run)


@pytest.fixture
def database(postgres: Scratch) -> Iterator[Scratch]:
    """A record on Postgres without a row."""
    yield postgres
    postgres.run(f"DROP TABLE IF EXISTS {COPY_TABLE}")


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


async def copy(source: str, target: str, progress: copying.Progress = lambda table, there, total: None) -> list[Sum]:
    sums, _ = await copy_record(source, target, progress=progress, tell=lambda told: None)
    return sums


async def where_it_begins(record: Path, target: Target) -> dict[str, int]:
    """Copy; returns how many rows of each table were there already."""
    begun: dict[str, int] = {}

    def progress(table: str, there: int, total: int) -> None:
        begun.setdefault(table, there)

    await copy(url_of(record), target.url, progress)
    return begun


class Broken(Exception):
    """Stands for whatever ends a copy half way."""


def break_off(in_table: str, at: int) -> copying.Progress:
    def progress(table: str, there: int, total: int) -> None:
        if table == in_table and there >= at:
            raise Broken

    return progress


async def test_every_row_of_every_table_arrives_and_the_source_stays_as_it_was(record: Path, target: Target) -> None:
    before = record.read_bytes()
    sums = await copy(url_of(record), target.url)
    assert {each.table: each.rows for each in sums} == dict.fromkeys(metadata.tables, ROWS)
    assert target.rows() == rows_of_file(record)
    assert await inspect(target.url) is SchemaState.CURRENT
    assert record.read_bytes() == before


async def test_there_and_back_again_is_the_same_record(record: Path, database: Scratch) -> None:
    back = record.with_name("back.db")
    there = await copy(url_of(record), database.url)
    assert await copy(database.url, url_of(back)) == there
    assert rows_of_file(back) == rows_of_file(record)


async def test_new_rows_are_numbered_above_every_row_there_ever_was(record: Path, target: Target) -> None:
    with closing(sqlite3.connect(record)) as connection, connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 5000 WHERE name = 'customers'")
    await copy(url_of(record), target.url)
    if target.url.startswith("sqlite"):
        assert target.run("SELECT seq FROM sqlite_sequence WHERE name = 'customers'") == 5000
    for table in metadata.sorted_tables:
        if target.url.startswith("postgres") and table.autoincrement_column is not None:
            number = target.run(f"SELECT nextval(pg_get_serial_sequence('{table.name}', 'seq'))")
            assert number == (5001 if table.name == "customers" else 2 * ROWS + 2), table.name


async def test_an_empty_record_is_copied_and_its_first_row_is_number_one(tmp_path: Path, empty: Scratch) -> None:
    upgrade_record(tmp_path / "record.db")
    assert sum(each.rows for each in await copy(url_of(tmp_path / "record.db"), empty.url)) == 0
    assert empty.run("SELECT nextval('signals_seq_seq')") == 1


async def test_a_copy_that_was_broken_off_goes_on_behind_the_last_row_that_arrived(
    record: Path, target: Target
) -> None:
    with pytest.raises(Broken):
        await copy(url_of(record), target.url, break_off("signals", 14))
    assert len(target.rows()["signals"]) == 14
    begun = await where_it_begins(record, target)
    assert (begun["customers"], begun["signals"], begun["briefs"]) == (ROWS, 14, 0)
    assert target.rows() == rows_of_file(record)


async def test_a_copy_of_a_record_that_went_on_meanwhile_begins_anew(record: Path, target: Target) -> None:
    with pytest.raises(Broken):
        await copy(url_of(record), target.url, break_off("briefs", 14))
    with closing(sqlite3.connect(record)) as connection, connection:
        connection.execute("UPDATE signals SET reason = 'changed' WHERE seq = 3")
    begun = await where_it_begins(record, target)
    assert set(begun.values()) == {0}
    assert target.rows() == rows_of_file(record)


async def test_nothing_starts_on_half_a_copy(record: Path, target: Target) -> None:
    with pytest.raises(Broken):
        await copy(url_of(record), target.url, break_off("briefs", 14))
    assert await inspect(target.url) is SchemaState.COPYING
    with pytest.raises(RecordUnusable, match="run the same `churn-radar copy-record` again") as caught:
        async with open_record(target.url, engine_schema=ENGINE):
            pass
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RecordUnusable, match="unfinished copy"):
        await copy(target.url, url_of(record.with_name("third.db")))


async def test_a_row_that_differs_in_the_end_is_found_and_nothing_starts_on_the_copy(
    record: Path, target: Target
) -> None:
    def meddle(table: str, there: int, total: int) -> None:
        if table == "deliveries" and there == total:
            target.run("UPDATE briefs SET plan = 'other' WHERE seq = 3")

    with pytest.raises(RecordUnusable, match="the copy of briefs differs"):
        await copy(url_of(record), target.url, meddle)
    assert await inspect(target.url) is SchemaState.COPYING
    await copy(url_of(record), target.url)
    assert target.rows() == rows_of_file(record)


async def test_a_target_with_data_of_its_own_is_refused_as_it_is(record: Path, target: Target) -> None:
    await copy(url_of(record), target.url)
    before = target.rows()
    with pytest.raises(RecordUnusable, match=r"data of its own already \(40 rows in \w+\)"):
        await copy(url_of(record), target.url)
    assert target.rows() == before
    assert await inspect(target.url) is SchemaState.CURRENT


async def test_a_target_that_is_no_record_of_this_release_is_refused(record: Path, empty: Scratch) -> None:
    empty.run("CREATE TABLE signals (id int)")
    with pytest.raises(RecordUnusable, match="another program"):
        await copy(url_of(record), empty.url)
    older = record.with_name("older.db")
    record_of(older, "0001")
    with pytest.raises(RecordUnusable, match="of an older release; run `churn-radar migrate`"):
        await copy(url_of(record), url_of(older))


async def test_a_source_of_another_release_or_none_at_all_is_refused_with_what_to_do(
    record: Path, empty: Scratch
) -> None:
    older = record.with_name("older.db")
    record_of(older, "0001")
    with pytest.raises(RecordUnusable, match="of an older release; run `churn-radar migrate`"):
        await copy(url_of(older), empty.url)
    with pytest.raises(RecordUnusable, match="there is no record"):
        await copy(url_of(record.with_name("nowhere.db")), empty.url)
    assert await inspect(empty.url) is SchemaState.EMPTY


async def test_a_record_is_not_copied_onto_itself_however_it_is_written(record: Path, database: Scratch) -> None:
    before = rows_of_file(record)
    with pytest.raises(RecordUnusable, match="onto itself"):
        await copy(url_of(record), url_of(record.parent / "." / ".." / record.parent.name / record.name))
    with pytest.raises(RecordUnusable, match="onto itself"):
        await copy(database.url, database.url)
    assert rows_of_file(record) == before
    assert await inspect(database.url) is SchemaState.CURRENT


async def test_databases_of_one_name_on_two_servers_are_not_taken_for_one(tmp_path: Path) -> None:
    """What tells them apart may be a parameter, which is never printed."""
    one, other = (f"postgresql:///churn_radar?host={tmp_path / server}" for server in "ab")
    with pytest.raises(RecordAway):
        await copy(one, other)


async def test_a_record_that_is_in_use_is_not_copied(record: Path, database: Scratch) -> None:
    lock = lock_record(record)
    try:
        with pytest.raises(RecordLocked, match="in use by another churn_radar process"):
            await copy(url_of(record), database.url)
    finally:
        lock.release()
    await copy(url_of(record), database.url)
    running = await asyncpg.connect(database.url, server_settings={"application_name": "churn_radar"})
    try:
        with pytest.raises(RecordUnusable, match="stop every `serve` and `worker` first"):
            await copy(database.url, url_of(record.with_name("back.db")))
    finally:
        await running.close()


async def test_two_copies_at_once_do_not_mix(record: Path, database: Scratch) -> None:
    other = await asyncpg.connect(database.url)
    try:
        await other.execute("SELECT pg_advisory_lock($1, 0)", int(Held.COPY))
        with pytest.raises(RecordUnusable, match="another copy-record is at work"):
            await copy(url_of(record), database.url)
    finally:
        await other.close()
    assert sum(len(rows) for rows in rows_of_database(database).values()) == 0


async def test_a_value_that_the_target_cannot_hold_is_told_without_the_value(record: Path, database: Scratch) -> None:
    with closing(sqlite3.connect(record)) as connection, connection:
        connection.execute("UPDATE signals SET status = 'an-address@acme.example' WHERE seq = 3")
    with pytest.raises(RecordUnusable, match="does not take or give the rows") as caught:
        await copy(url_of(record), database.url)
    assert "acme" not in str(caught.value)
