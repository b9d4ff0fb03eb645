"""The schema on Postgres: made and upgraded by one at a time, looked at by everybody, altered by nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import HeadMaintainer, MigrationContext
from sqlalchemy import Connection, MetaData, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from churn_radar.app import running_service
from churn_radar.errors import RecordUnusable
from churn_radar.migrating import ENGINE
from churn_radar.store import postgres as postgres_module
from churn_radar.store import schema_postgres
from churn_radar.store.dialect import Held
from churn_radar.store.jobs import NAMES
from churn_radar.store.record import open_record
from churn_radar.store.schema import SchemaState, alembic_config
from churn_radar.store.schema_postgres import EngineSchema, inspect_postgres, migrate_postgres
from churn_radar.store.shared_tables import shared_metadata
from churn_radar.store.tables import metadata
from tests.integration.test_schema import REVISIONS
from tests.support.cutting import way_to
from tests.support.postgres import SERVER_URL, Scratch, url_of
from tests.support.service import clean_environment, run_command
from tests.support.work import settings_for

PASSWORD = "a-password-of-the-tests"


def with_password(url: str) -> str:
    return make_url(url).set(password=PASSWORD).render_as_string(hide_password=False)


async def refused(url: str) -> str:
    """The one line with which a start is refused."""
    with pytest.raises(RecordUnusable) as caught:
        async with open_record(url):
            pass
    [line] = str(caught.value).splitlines()
    assert PASSWORD not in line
    assert "postgres@" not in line
    return line


async def test_migrating_creates_the_record_and_then_finds_nothing_to_do(empty: Scratch) -> None:
    assert await inspect_postgres(empty.url) is SchemaState.EMPTY
    assert await migrate_postgres(empty.url) is SchemaState.EMPTY
    assert await inspect_postgres(empty.url) is SchemaState.CURRENT
    before = empty.rows("SELECT oid, relname FROM pg_class WHERE relname ~ '^(ix|pk|uq|signals)' ORDER BY 1")
    assert await migrate_postgres(empty.url) is SchemaState.CURRENT
    assert empty.rows("SELECT oid, relname FROM pg_class WHERE relname ~ '^(ix|pk|uq|signals)' ORDER BY 1") == before


def not_the_engines(name: str | None, kind: str, parents: Any) -> bool:
    """The engine creates its own tables."""
    return kind != "table" or not (name or "").startswith(NAMES.queue_table)


async def test_the_migrations_create_exactly_the_tables_of_the_code(postgres: Scratch) -> None:
    def compare(connection: Connection) -> list[Any]:
        every = MetaData()
        for table in (*metadata.sorted_tables, *shared_metadata.sorted_tables):
            table.to_metadata(every)
        options = {"compare_type": True, "compare_server_default": True, "include_name": not_the_engines}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), every)
        # Comments are for readers of the code; SQLite has none.
        return [each for each in found if not (isinstance(each, list) and each[0][0] == "modify_comment")]

    engine = create_async_engine(make_url(postgres.url).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
    await engine.dispose()


@pytest.mark.parametrize("count", [2, 5])
async def test_of_several_that_migrate_at_once_one_does_it_and_the_others_find_it_done(
    empty: Scratch, count: int
) -> None:
    states = await asyncio.gather(*(migrate_postgres(empty.url) for _ in range(count)))
    assert sorted(states) == [SchemaState.CURRENT] * (count - 1) + [SchemaState.EMPTY]


async def test_a_migration_may_take_longer_than_any_answer_of_a_running_service(
    empty: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "ANSWER_SECONDS", 0.2)
    other = await asyncpg.connect(empty.url)
    # As another replica that is at it, or an index on millions of rows.
    await other.execute("SELECT pg_advisory_lock($1, 0)", int(Held.SCHEMA))
    migrating = asyncio.create_task(migrate_postgres(empty.url))
    await asyncio.wait({migrating}, timeout=0.6)
    assert not migrating.done()
    await other.close()
    assert await migrating is SchemaState.EMPTY


class BrokenOff(Exception):
    """What a crash is to a migration."""


@contextlib.contextmanager
def at_revision(revision: str, do: Callable[[], None]) -> Iterator[None]:
    """Do something when a revision has altered all it wants to, and is not committed yet."""
    note = HeadMaintainer.update_to_step

    def noted(self: HeadMaintainer, step: Any) -> None:
        note(self, step)
        if step.revision.revision == revision:
            do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeadMaintainer, "update_to_step", noted)
        yield


@pytest.mark.parametrize(
    ("revision", "left"),
    [(REVISIONS[0], None), (REVISIONS[1], REVISIONS[0]), (REVISIONS[-1], REVISIONS[-2])],
)
async def test_a_migration_that_breaks_off_leaves_whole_revisions_from_which_the_next_goes_on(
    empty: Scratch, revision: str, left: str | None
) -> None:
    def break_off() -> None:
        raise BrokenOff

    with at_revision(revision, break_off), pytest.raises(BrokenOff):
        await migrate_postgres(empty.url)

    if left is None:
        assert await inspect_postgres(empty.url) is SchemaState.EMPTY
    else:
        assert await inspect_postgres(empty.url) is SchemaState.OLDER
        assert empty.rows("SELECT version_num FROM alembic_version") == [(left,)]
        assert "run `churn-radar migrate`" in await refused(empty.url)
    await migrate_postgres(empty.url)
    assert await inspect_postgres(empty.url) is SchemaState.CURRENT


async def test_a_migration_that_breaks_off_before_the_engines_tables_goes_on_with_them(empty: Scratch) -> None:
    async def break_off(connection: asyncpg.Connection) -> None:
        raise BrokenOff

    with pytest.raises(BrokenOff):
        await migrate_postgres(empty.url, EngineSchema(break_off, ENGINE.is_due))
    assert await inspect_postgres(empty.url, ENGINE) is SchemaState.OLDER
    assert await migrate_postgres(empty.url, ENGINE) is SchemaState.OLDER
    assert await inspect_postgres(empty.url, ENGINE) is SchemaState.CURRENT


async def test_the_engines_tables_of_a_release_without_our_index_are_given_it(empty: Scratch) -> None:
    await migrate_postgres(empty.url, ENGINE)
    assert await inspect_postgres(empty.url, ENGINE) is SchemaState.CURRENT
    empty.run(f"DROP INDEX {NAMES.queue_table}_next_due_idx")

    assert await migrate_postgres(empty.url, ENGINE) is SchemaState.OLDER

    assert await inspect_postgres(empty.url, ENGINE) is SchemaState.CURRENT
    assert await migrate_postgres(empty.url, ENGINE) is SchemaState.CURRENT


async def test_what_one_revision_has_locked_is_free_while_the_next_is_made_and_nobody_else_may_migrate(
    empty: Scratch,
) -> None:
    await record_of(empty, "0001")
    seen: list[tuple[list[str], bool]] = []

    def look() -> None:
        locked = empty.rows(
            "SELECT DISTINCT relation::regclass::text FROM pg_locks JOIN pg_class c ON c.oid = relation"
            " WHERE mode = 'AccessExclusiveLock' AND c.relkind = 'r' AND c.relname = ANY($1)",
            list(metadata.tables),
        )
        free = empty.run("SELECT pg_try_advisory_lock($1, 0)", int(Held.SCHEMA))
        seen.append(([name for (name,) in locked], free))

    # 0003 alters tables that are there already; of those, 0014 locks none against readers.
    with at_revision("0003", look), at_revision("0014", look):
        await migrate_postgres(empty.url)

    [(early, free_early), (late, free_late)] = seen
    assert early
    assert not late
    assert not free_early
    assert not free_late
    assert empty.run("SELECT pg_try_advisory_lock($1, 0)", int(Held.SCHEMA))


@pytest.mark.parametrize("revision", REVISIONS[:-1])
async def test_a_record_of_an_older_release_is_brought_up_to_date_with_its_rows_intact(
    empty: Scratch, revision: str
) -> None:
    await record_of(empty, revision)
    tables = [name for (name,) in empty.rows("SELECT relname FROM pg_class WHERE relname !~ '^pg_' AND relkind = 'r'")]
    ours = [name for name in tables if name in metadata.tables]
    before = {name: empty.rows(f"SELECT row_to_json(t)::text FROM {name} t") for name in ours}  # noqa: S608
    columns = [(table, column) for table, column in empty.rows(COLUMNS) if table in before]
    assert await inspect_postgres(empty.url) is SchemaState.OLDER
    assert "of an older release; run `churn-radar migrate`" in await refused(empty.url)

    assert await migrate_postgres(empty.url) is SchemaState.OLDER

    assert await inspect_postgres(empty.url) is SchemaState.CURRENT
    # An older release that is still running may go on: what it wrote it can write, since what is new may be left out.
    known = {(table, column) for table, column in columns}
    added = empty.rows(NEEDED)
    assert not [(table, column) for table, column in added if table in before and (table, column) not in known]
    assert known <= set(empty.rows(COLUMNS))
    for name, [(row,)] in before.items():
        [(after,)] = empty.rows(f"SELECT row_to_json(t)::text FROM {name} t LIMIT 1")  # noqa: S608
        assert after.startswith(row.removesuffix("}")), name


COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
# Columns that every insert has to name.
NEEDED = f"{COLUMNS} AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'"


async def record_of(database: Scratch, revision: str) -> None:
    """A record as the release with this revision left it, with a row in every table."""

    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_async_engine(make_url(database.url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()
    values = {"bigint": "1", "integer": "1", "boolean": "true", "double precision": "1.5", "bytea": "'raw'"}
    for table in metadata.sorted_tables:
        columns = database.rows(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1", table.name
        )
        if columns:
            names = ", ".join(name for name, _ in columns)
            row = ", ".join(values.get(kind, "'txt'") for _, kind in columns)
            database.run(f"INSERT INTO {table.name} ({names}) VALUES ({row})")  # noqa: S608


@pytest.mark.parametrize(
    ("event_id", "key"),
    [
        ("01E4C4CT6YDC", "01e4c4ct6y" + "5" * 22),
        ("EVENT_ID", "5" * 32),
        ("ITS", "its" + "5" * 29),
        ("", "5" * 32),
        ("a b", "5" * 32),
        ("ü", "5" * 32),
    ],
)
async def test_what_an_older_release_has_taken_is_still_known_when_it_is_sent_again(
    empty: Scratch, event_id: str, key: str
) -> None:
    await record_of(empty, "0014")
    # In Turkish the lower case of an I is none of ASCII's letters.
    empty.run('ALTER TABLE signals ALTER event_id TYPE text COLLATE "tr-x-icu"')
    # A replay forces a signal that keeps its key.
    empty.run("UPDATE signals SET event_key = $1, event_id = $2, forced = true", "5" * 32, event_id)
    await migrate_postgres(empty.url)
    assert empty.rows("SELECT event_key, signal_id FROM signals") == [(key, "txt")]


async def test_two_processes_that_migrate_at_once_make_one_schema(empty: Scratch, tmp_path: Path) -> None:
    env = {"CHURN_RADAR_DATABASE_URL": empty.url}
    ran = await asyncio.gather(*(run_command("migrate", cwd=tmp_path, env=env) for _ in range(2)))
    assert [code for code, _, _ in ran] == [0, 0], ran
    assert sorted(out.rpartition(": ")[2].strip() for _, out, _ in ran) == ["already current", "created"]


async def test_what_we_set_reaches_the_server_past_a_pooler_that_takes_no_parameters_at_the_start(
    postgres: Scratch,
) -> None:
    connection = await postgres_module.connect(postgres.url, lock_timeout="7s")
    try:
        rows = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name = ANY($1)",
            ["jit", "lock_timeout", "idle_in_transaction_session_timeout"],
        )
    finally:
        await connection.close()
    told = {row["name"]: row["setting"] for row in rows}
    assert told == {"jit": "off", "lock_timeout": "7000", "idle_in_transaction_session_timeout": "60000"}


async def test_a_start_asks_for_the_schema_once_and_before_anything_of_it_is_used(
    postgres: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def noting(url: str, engine: EngineSchema | None = None) -> SchemaState:
        asked.append(url)
        return await inspect_postgres(url, engine)

    monkeypatch.setattr(schema_postgres, "inspect_postgres", noting)
    settings = settings_for(tmp_path, database_url=postgres.url)
    async with running_service(settings, with_worker=False, sinks=()):
        pass
    assert asked == [postgres.url]


async def test_without_a_record_a_start_is_refused_with_the_command_to_run(empty: Scratch) -> None:
    assert "run `churn-radar migrate`" in await refused(with_password(empty.url))
    assert empty.rows("SELECT relname FROM pg_class WHERE relname = 'signals'") == []


async def test_a_record_of_a_newer_release_is_refused_as_it_is(empty: Scratch) -> None:
    await migrate_postgres(empty.url)
    empty.run("UPDATE alembic_version SET version_num = '9999'")
    assert await inspect_postgres(empty.url) is SchemaState.NEWER
    assert "newer churn_radar" in await refused(empty.url)
    with pytest.raises(RecordUnusable, match="newer churn_radar"):
        await migrate_postgres(empty.url)


async def test_tables_of_another_program_stay_as_they_are(empty: Scratch) -> None:
    empty.run("CREATE TABLE users (id int)")
    assert await migrate_postgres(empty.url) is SchemaState.EMPTY
    assert empty.run("SELECT count(*) FROM users") == 0


@pytest.mark.parametrize("table", ["signals", "customers", "alembic_version"])
async def test_tables_of_another_program_under_our_names_are_refused(empty: Scratch, table: str) -> None:
    empty.run(f"CREATE TABLE {table} (id int)")
    assert "another program" in await refused(empty.url)
    with pytest.raises(RecordUnusable, match="another program"):
        await migrate_postgres(empty.url)


async def test_what_else_lives_there_is_installed_and_asked_for_as_well(empty: Scratch) -> None:
    async def install(connection: asyncpg.Connection) -> None:
        await connection.execute("CREATE TABLE IF NOT EXISTS engine (id int)")

    async def is_due(connection: asyncpg.Connection) -> bool:
        return not await connection.fetchval("SELECT to_regclass('engine') IS NOT NULL")

    async def fail(connection: asyncpg.Connection) -> None:
        await install(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await migrate_postgres(empty.url, EngineSchema(fail, is_due))
    assert empty.run("SELECT to_regclass('engine') IS NULL")
    assert await inspect_postgres(empty.url, EngineSchema(install, is_due)) is SchemaState.OLDER
    assert await migrate_postgres(empty.url, EngineSchema(install, is_due)) is SchemaState.OLDER
    assert await inspect_postgres(empty.url, EngineSchema(install, is_due)) is SchemaState.CURRENT


async def test_tables_that_are_too_busy_are_left_alone(empty: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churn_radar.store.schema_postgres.TABLE_WAIT", "100ms")
    await record_of(empty, REVISIONS[0])
    busy = await asyncpg.connect(empty.url)
    try:
        async with busy.transaction():
            await busy.execute("LOCK TABLE briefs IN ACCESS SHARE MODE")
            with pytest.raises(RecordUnusable, match=r"in use.*run `churn-radar migrate` again"):
                await migrate_postgres(empty.url)
    finally:
        await busy.close()
    assert await inspect_postgres(empty.url) is SchemaState.OLDER


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (url_of("there_is_no_such_database"), "does not exist"),
        (SERVER_URL.replace("://postgres@", "://nobody_like_that@"), "refuses us"),
        ("postgresql://127.0.0.1:1/database", "connection refused"),
        ("postgresql://127.0.0.1:no/database", "cannot be used"),
    ],
)
async def test_a_database_that_cannot_be_used_is_told_in_one_line(postgres: Scratch, url: str, told: str) -> None:
    assert told in await refused(url)


async def test_a_database_in_another_encoding_is_refused(postgres: Scratch) -> None:
    name = f"{postgres.name}_latin"
    postgres.on_server(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(RecordUnusable, match="create it with ENCODING 'UTF8'"):
            await migrate_postgres(url_of(name))
    finally:
        postgres.on_server(f"DROP DATABASE {name}")


async def test_the_command_says_what_it_did_and_never_the_password(empty: Scratch) -> None:
    url = with_password(empty.url)
    told = [run("migrate", "--check", url=url), run("migrate", url=url), run("migrate", "--check", url=url)]
    assert [each.returncode for each in told] == [1, 0, 0]
    assert [each.stdout.rpartition(": ")[2].strip() for each in told] == ["empty", "created", "current"]
    wrong = run("migrate", url=url.replace(empty.name, "there_is_no_such_database"))
    assert wrong.returncode == 1
    assert len(wrong.stderr.splitlines()) == 1
    assert PASSWORD not in "".join(each.stdout + each.stderr for each in (*told, wrong))


def run(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "churn_radar", *arguments],
        env=clean_environment(CHURN_RADAR_DATABASE_URL=url),
        capture_output=True,
        text=True,
        check=False,
    )


async def test_a_plain_install_without_the_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert "pip install asyncpg" in await refused("postgresql://127.0.0.1/database")


async def test_a_database_that_goes_away_while_it_is_looked_at_is_told_so(postgres: Scratch) -> None:
    async with way_to(postgres.url) as way:
        way.cut_answers_to = b"server_encoding"
        assert "cannot be used now" in await refused(way.url)
