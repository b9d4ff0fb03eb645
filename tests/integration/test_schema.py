from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from churn_radar.errors import RecordUnusable
from churn_radar.store import migrations
from churn_radar.store.schema import SchemaState, alembic_config, inspect_record, sqlite_path, upgrade_record
from churn_radar.store.tables import metadata
from tests.support.door import arrival, house, shop_window, unprivileged


@contextlib.contextmanager
def sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


def refused(path: Path) -> str:
    """The one line with which a file is refused, by both entries, while not one of its bytes changes."""
    before = path.read_bytes()
    with contextlib.suppress(RecordUnusable):
        inspect_record(path)
    assert path.read_bytes() == before
    with pytest.raises(RecordUnusable) as caught:
        upgrade_record(path)
    assert path.read_bytes() == before
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_file_that_is_not_there_is_empty_and_looking_does_not_create_it(path: Path) -> None:
    assert inspect_record(path) is SchemaState.EMPTY
    assert list(path.parent.iterdir()) == []


def test_an_empty_file_becomes_a_record(path: Path) -> None:
    path.touch()
    assert upgrade_record(path) is SchemaState.EMPTY
    assert inspect_record(path) is SchemaState.CURRENT


def test_upgrading_says_what_it_found_and_upgrading_twice_changes_nothing(path: Path) -> None:
    assert upgrade_record(path) is SchemaState.EMPTY
    with sqlite(path) as connection:
        before = list(connection.iterdump())
    assert upgrade_record(path) is SchemaState.CURRENT
    with sqlite(path) as connection:
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("name", ["with space.db", "100%25.db", "ünïcode.db", "hash#.db", "a+b.db", "quote'.db"])
def test_the_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    assert upgrade_record(sqlite_path(f"sqlite:///{tmp_path / name}")) is SchemaState.EMPTY
    assert inspect_record(tmp_path / name) is SchemaState.CURRENT
    assert name in os.listdir(tmp_path)


def test_a_relative_path_is_relative_and_an_absolute_one_absolute() -> None:
    assert sqlite_path("sqlite:///./churn_radar.db") == Path("churn_radar.db")
    assert sqlite_path("sqlite:////data/churn_radar.db") == Path("/data/churn_radar.db")


@pytest.mark.parametrize("name", [":memory:", "file:record.db", "record.db?timeout=5", "record.db?mode=memory"])
def test_a_database_that_is_no_plain_file_is_refused(name: str) -> None:
    with pytest.raises(RecordUnusable, match="plain file"):
        sqlite_path(f"sqlite:///{name}")


def test_the_migrations_create_exactly_the_tables_of_the_code(path: Path) -> None:
    upgrade_record(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_migrations_and_the_code_agree_on_keys_cascades_indexes_and_numbering(path: Path) -> None:
    upgrade_record(path)
    declared = path.with_name("declared.db")
    engine = create_engine(f"sqlite:///{declared}")
    metadata.create_all(engine)
    engine.dispose()
    assert _anatomy(path) == _anatomy(declared)


def _anatomy(path: Path) -> dict[str, Any]:
    """What SQLite itself says of every table: columns, foreign keys, indexes, AUTOINCREMENT."""
    with sqlite(path) as connection:
        tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        anatomy: dict[str, Any] = {}
        for name, sql in tables:
            if name in ("alembic_version", "sqlite_sequence"):
                continue
            indexes = connection.execute(f"PRAGMA index_list({name})").fetchall()
            anatomy[name] = {
                "columns": connection.execute(f"PRAGMA table_info({name})").fetchall(),
                "keys": sorted(row[2:] for row in connection.execute(f"PRAGMA foreign_key_list({name})")),
                "indexes": {
                    tuple(row[2] for row in connection.execute(f"PRAGMA index_info('{index[1]}')")): (
                        index[2],
                        index[1] if index[3] == "c" else index[3],
                    )
                    for index in indexes
                },
                "numbered for good": "AUTOINCREMENT" in sql,
            }
        return anatomy


def test_a_first_start_that_breaks_off_half_way_leaves_an_empty_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table = op.create_table

    def break_off(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "deliveries":
            raise KeyboardInterrupt
        return create_table(name, *args, **kwargs)

    monkeypatch.setattr(op, "create_table", break_off)
    with pytest.raises(KeyboardInterrupt):
        upgrade_record(path)
    monkeypatch.undo()
    assert inspect_record(path) is SchemaState.EMPTY
    assert upgrade_record(path) is SchemaState.EMPTY
    assert inspect_record(path) is SchemaState.CURRENT


REVISIONS = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]


def record_of(path: Path, revision: str) -> None:
    """A record as the release with this revision left it, with a row in every table."""
    engine = create_engine(f"sqlite:///{path}")
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    values = {"INTEGER": 1, "BIGINT": 1, "BOOLEAN": 1, "FLOAT": 1.5, "BLOB": b"raw"}
    with sqlite(path) as connection:
        for table in tables_of(connection):
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            row = [values.get(column[2], "text") for column in columns]
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608


def tables_of(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return [name for (name,) in found if name not in ("alembic_version", "sqlite_sequence")]


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    with sqlite(path) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608
            for table in tables_of(connection)
        }


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_a_record_of_an_older_release_is_brought_up_to_date_with_its_rows_intact(path: Path, revision: str) -> None:
    record_of(path, revision)
    before = rows_of(path)
    assert inspect_record(path) is SchemaState.OLDER

    assert upgrade_record(path) is SchemaState.OLDER

    assert inspect_record(path) is SchemaState.CURRENT
    after = rows_of(path)
    for table, [row] in before.items():
        assert [{name: kept[name] for name in row} for kept in after[table]] == [row], table
    path.rename(path.with_name("upgraded.db"))
    upgrade_record(path)
    assert _anatomy(path.with_name("upgraded.db")) == _anatomy(path)


def test_what_the_briefs_of_an_older_release_cost_is_counted(path: Path) -> None:
    record_of(path, "0001")
    upgrade_record(path)
    [entry] = rows_of(path)["credits"]
    assert (entry["spent_at"], entry["amount"], entry["purpose"], entry["brief_seq"]) == (1, 1, "brief", 1)


def test_the_bodies_that_an_older_release_quarantined_have_their_sizes_noted(path: Path) -> None:
    record_of(path, "0002")
    upgrade_record(path)
    [body] = rows_of(path)["quarantined_bodies"]
    assert (body["body"], body["size"]) == (b"raw", 3)


@pytest.mark.parametrize("forced", [0, 1])
def test_what_an_older_release_has_taken_is_still_known_when_it_is_sent_again(path: Path, forced: int) -> None:
    record_of(path, "0014")
    key = "01e4c4ct6y" + "5" * 22
    with sqlite(path) as connection:
        # A replay forces a signal that keeps its key.
        old = ["5" * 32, "01E4C4CT6YDC", forced]
        connection.execute("UPDATE signals SET event_key = ?, event_id = ?, forced = ?", old)
    upgrade_record(path)
    [signal] = rows_of(path)["signals"]
    assert (signal["event_key"], signal["signal_id"]) == (key, "text")


@pytest.mark.parametrize("event_id", [None, "", "a b", "\u212aelvin"])
def test_keys_of_an_older_release_without_an_event_ids_time_stay(path: Path, event_id: str | None) -> None:
    record_of(path, "0014")
    with sqlite(path) as connection:
        connection.execute("UPDATE signals SET event_key = ?, event_id = ?", ["5" * 32, event_id])
    upgrade_record(path)
    assert rows_of(path)["signals"][0]["event_key"] == "5" * 32


def test_a_record_of_a_newer_release_is_refused_as_it_is(path: Path) -> None:
    upgrade_record(path)
    with sqlite(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert inspect_record(path) is SchemaState.NEWER
    assert "newer churn_radar" in refused(path)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE users (id INTEGER)"],
        ["CREATE TABLE signals (id INTEGER)"],
        ["CREATE TABLE users (id INTEGER)", "CREATE TABLE alembic_version (version_num TEXT)"],
        [
            "CREATE TABLE users (id INTEGER)",
            "CREATE TABLE alembic_version (version_num TEXT)",
            "INSERT INTO alembic_version VALUES ('0001')",
        ],
    ],
)
def test_a_database_of_another_program_is_refused_as_it_is(path: Path, statements: list[str]) -> None:
    with sqlite(path) as connection:
        for statement in statements:
            connection.execute(statement)
    assert inspect_record(path) is SchemaState.FOREIGN
    assert "another program" in refused(path)


# Not 1: to SQLite a file of one byte is an empty one.
@pytest.mark.parametrize("size", [2, 16, 99, 100, 512, 4096, 100_000])
def test_a_file_of_random_bytes_is_refused_as_it_is(path: Path, size: int) -> None:
    path.write_bytes(random.Random(size).randbytes(size))
    assert "damaged or not a SQLite database" in refused(path)


@pytest.mark.parametrize(
    "junk", [b"hello\n", b"\0" * 8192, b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 8192]
)
def test_what_only_looks_like_a_database_is_refused_as_it_is(path: Path, junk: bytes) -> None:
    path.write_bytes(junk)
    assert "damaged or not a SQLite database" in refused(path)


@pytest.mark.parametrize("left", [2, 50, 100, 1000, 4095, 4096, 4097, 0.5, -8192, -4096])
async def test_a_truncated_record_is_refused_as_it_is(tmp_path: Path, left: float) -> None:
    async with house(tmp_path) as home:
        await home.record.accept(arrival("a"))
    whole = home.path.read_bytes()
    home.path.write_bytes(whole[: int(left if left != 0.5 else len(whole) / 2)])
    assert "damaged or not a SQLite database" in refused(home.path)


async def test_a_record_copied_under_a_crash_is_looked_at_without_being_touched_and_loses_nothing(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    async with house(tmp_path) as home:
        await home.record.accept(arrival("a"))
        # What is on disk now is what a power cut would leave: the rows are in the write-ahead log alone.
        for name in ("record.db", "record.db-wal"):
            shutil.copy(tmp_path / name, copy / name)
    before = (copy / "record.db").read_bytes(), (copy / "record.db-wal").read_bytes()
    assert inspect_record(copy / "record.db") is SchemaState.CURRENT
    assert ((copy / "record.db").read_bytes(), (copy / "record.db-wal").read_bytes()) == before
    async with house(copy) as again:
        assert [signal.event_id for signal in await again.signals()] == ["a"]


def test_a_missing_folder_is_named_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "record.db"
    for enter in (inspect_record, upgrade_record):
        with pytest.raises(RecordUnusable, match="does not exist; create it"):
            enter(path)
    assert not path.parent.exists()


def test_a_folder_in_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RecordUnusable, match="cannot be read"):
        upgrade_record(path)


def test_a_record_that_may_not_be_read_is_not_called_damaged() -> None:
    with shop_window() as folder:
        path = folder / "record.db"
        folder.chmod(0o777)
        upgrade_record(path)
        path.chmod(0o000)
        with unprivileged(), pytest.raises(RecordUnusable, match="cannot be read"):
            inspect_record(path)
        path.chmod(0o600)


def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    with shop_window() as folder:
        with unprivileged(), pytest.raises(RecordUnusable, match="is not writable"):
            inspect_record(folder / "record.db")
        assert os.listdir(folder) == []


def test_a_record_that_cannot_be_written_to_is_refused_as_it_is() -> None:
    with shop_window() as folder:
        path = folder / "record.db"
        folder.chmod(0o777)
        upgrade_record(path)
        path.chmod(0o444)
        before = path.read_bytes()
        with unprivileged():
            if not os.access(migrations.__path__[0], os.R_OK, effective_ids=True):
                pytest.skip("only root can read the source here")
            with pytest.raises(RecordUnusable, match="cannot be written"):
                upgrade_record(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_what_an_older_release_writes_and_reads_is_taken_beside_the_new_schema(path: Path, revision: str) -> None:
    record_of(path, revision)
    before = rows_of(path)
    upgrade_record(path)
    with sqlite(path) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for table, [row] in before.items():
            # As a process of that release does, which knows no other columns; its own rows are there already.
            fresh = {
                name: 2 if value == 1 else f"{value}2" if value == "text" else value for name, value in row.items()
            }
            names, marks = ", ".join(f'"{name}"' for name in fresh), ", ".join("?" * len(fresh))
            connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', list(fresh.values()))  # noqa: S608
            read = connection.execute(f'SELECT {names} FROM "{table}" ORDER BY 1').fetchall()  # noqa: S608
            assert tuple(row.values()) in read, table
            assert tuple(fresh.values()) in read, table
