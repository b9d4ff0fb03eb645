from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import ChurnRadarError, RecordLocked, RecordUnavailable, RecordUnusable
from churn_radar.store import thread
from churn_radar.store.arrivals import Accepted, Verdict, arrival_values
from churn_radar.store.record import Record, lock_record, open_record
from churn_radar.store.tables import signals
from tests.support.door import arrival, empty_disk, fill_disk, held, house, shop_window, tell_the_writer, unprivileged

HOLDER = """
import asyncio, sys
from churn_radar.store.record import open_record

async def hold():
    async with open_record(sys.argv[1]):
        print("open", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


async def opened(url: str) -> None:
    async with open_record(url):
        pass


def rows(path: Path) -> list[str]:
    """The event ids in the file, as any other program sees them."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [event_id for (event_id,) in connection.execute("SELECT event_id FROM signals ORDER BY seq")]


async def test_a_second_opening_of_the_same_file_is_refused_at_once_in_one_line(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with pytest.raises(RecordLocked) as caught:
            await opened(f"sqlite:///{home.path}")
        assert "in use by another churn_radar process" in str(caught.value)
        assert "CHURN_RADAR_DATABASE_URL" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        # The first one goes on as if nothing had been.
        assert (await home.record.accept(arrival("a"))).verdict is Verdict.ACCEPTED


async def test_the_lock_holds_whatever_name_leads_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "link.db").symlink_to("record.db")
    monkeypatch.chdir(tmp_path)
    async with house(tmp_path):
        for name in ("record.db", "./record.db", "folder/record.db", "link.db", f"{tmp_path}/link.db"):
            with pytest.raises(RecordLocked):
                await opened(f"sqlite:///{name}")


async def test_two_files_in_one_folder_do_not_lock_each_other_out(tmp_path: Path) -> None:
    async with house(tmp_path):
        await opened(f"sqlite:///{tmp_path / 'other.db'}")


async def test_the_lock_is_let_go_on_closing(tmp_path: Path) -> None:
    for _ in range(3):
        async with house(tmp_path):
            pass
    lock_record(tmp_path / "record.db").release()


async def test_the_lock_is_let_go_when_opening_fails(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(RecordUnusable):
        await opened(f"sqlite:///{path}")
    lock_record(path).release()


async def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'record.db'}"
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, url, stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"open\n"
    with pytest.raises(RecordLocked):
        await opened(url)
    holder.send_signal(signal.SIGKILL)
    await holder.wait()
    await opened(url)


@pytest.mark.parametrize("name", [":memory:", "file:x.db", "record.db?timeout=5"])
async def test_what_is_no_plain_file_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordUnusable):
        await opened(f"sqlite:///{name}")
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_folder_is_named_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(RecordUnusable, match="does not exist; create it"):
        await opened(f"sqlite:///{tmp_path}/missing/record.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    with shop_window() as folder:
        with unprivileged(), pytest.raises(RecordUnusable, match="cannot be written"):
            await opened(f"sqlite:///{folder}/record.db")
        assert list(folder.iterdir()) == []


async def test_what_the_door_acknowledges_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_here = _watch_connections(monkeypatch)
    async with house(tmp_path) as home:
        await home.record.accept(arrival("a"))
        [connection] = opened_here
        values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert values == ["wal", 2]
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


async def test_a_connection_that_could_not_be_set_up_whole_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_here = _watch_connections(monkeypatch)
    whole = thread.PRAGMAS
    async with house(tmp_path) as home:
        monkeypatch.setattr(thread, "PRAGMAS", (*whole[:1], "PRAGMA no.such_schema.synchronous"))
        with pytest.raises(RecordUnavailable):
            await home.record.accept(arrival("a"))
        monkeypatch.setattr(thread, "PRAGMAS", whole)
        assert (await home.record.accept(arrival("a"))).verdict is Verdict.ACCEPTED
        assert opened_here[-1].execute("PRAGMA foreign_keys").fetchone() == (1,)


def _watch_connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every connection that the writer's thread opens from here on."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def watch(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        if threading.current_thread().name.startswith("record-writer"):
            connections.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watch)
    return connections


async def test_what_is_committed_survives_a_power_cut(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        # Both are settings of a connection, so the one that writes is asked.
        mode, level = await home.record.write(
            lambda connection: _ask(connection, "PRAGMA journal_mode", "PRAGMA synchronous")
        )
        assert (mode, level) == ("wal", 2)
        assert home.path.read_bytes()[18:20] == b"\2\2"
        [keys] = await home.record.write(lambda connection: _ask(connection, "PRAGMA foreign_keys"))
        assert keys == 1


async def _ask(connection: AsyncConnection, *pragmas: str) -> list[object]:
    return [(await connection.execute(text(pragma))).scalar_one() for pragma in pragmas]


async def test_what_is_acknowledged_is_on_disk_for_everybody(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for key in "abc":
            await home.record.accept(arrival(key))
            assert rows(home.path)[-1] == key


async def test_the_worker_hears_of_a_commit_only_after_it(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    seen: list[list[str]] = []

    def hear(outcomes: Sequence[Accepted]) -> None:
        assert {outcome.public_id for outcome in outcomes} <= set(rows(path))
        seen.append(rows(path))

    async with open_record(f"sqlite:///{path}", on_accepted=hear) as record:
        await record.accept(arrival("a"))
        await record.accept(arrival("b"))
    assert seen == [["a"], ["a", "b"]]


async def test_a_worker_that_fails_to_hear_does_not_stop_the_record(tmp_path: Path) -> None:
    def fail(outcomes: Sequence[Accepted]) -> None:
        raise ZeroDivisionError

    async with open_record(f"sqlite:///{tmp_path / 'record.db'}", on_accepted=fail) as record:
        for key in "ab":
            assert (await record.accept(arrival(key))).verdict is Verdict.ACCEPTED
        await record.check()


@pytest.mark.usefixtures("everywhere")
async def test_one_event_is_one_event_after_a_restart_too(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert (await home.record.accept(arrival("a"))).verdict is Verdict.ACCEPTED
    async with house(tmp_path) as home:
        assert (await home.record.accept(arrival("a"))).verdict is Verdict.DUPLICATE
        assert (await home.record.accept(arrival("b"))).verdict is Verdict.ACCEPTED
        assert [signal.event_id for signal in await home.signals()] == ["a", "b"]


@pytest.mark.usefixtures("everywhere")
async def test_a_hundred_callers_with_the_same_event_at_once_are_one_event(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        outcomes = await asyncio.gather(*(home.record.accept(arrival("a")) for _ in range(100)))
        verdicts = [outcome.verdict for outcome in outcomes]
        assert verdicts.count(Verdict.ACCEPTED) == 1
        assert verdicts.count(Verdict.DUPLICATE) == 99
        assert len(await home.signals()) == 1


async def test_reading_goes_on_while_the_record_is_being_written(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.record.accept(arrival("a"))
        with held(home.path):
            assert [each.event_id for each in await home.signals()] == ["a"]


@pytest.mark.usefixtures("everywhere")
async def test_a_reader_sees_one_moment_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    count = select(func.count()).select_from(signals)
    async with house(tmp_path) as home:
        await home.record.accept(arrival("a"))
        async with home.record.read() as connection:
            assert (await connection.execute(count)).scalar_one() == 1
            await home.record.accept(arrival("b"))
            assert (await connection.execute(count)).scalar_one() == 1
        async with home.record.read() as connection:
            assert (await connection.execute(count)).scalar_one() == 2


@pytest.mark.usefixtures("everywhere")
async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with pytest.raises(RecordUnavailable):
            async with home.record.read() as connection:
                await connection.execute(insert(signals), [arrival_values(arrival("a"))])
        assert await home.signals() == []


async def test_a_database_that_another_program_holds_on_to_is_unavailable_and_then_available_again(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, commit_timeout_seconds=3) as home:
        with held(home.path):
            began = asyncio.get_running_loop().time()
            failed = await asyncio.gather(
                home.record.accept(arrival("a")), home.record.check(), _insert(home.record), return_exceptions=True
            )
            # Customer.io gives up after four seconds.
            assert asyncio.get_running_loop().time() - began < 3.9
        assert [type(each) for each in failed] == [RecordUnavailable] * 3
        assert rows(home.path) == []
        await home.record.check()
        assert (await home.record.accept(arrival("a"))).verdict is Verdict.ACCEPTED


async def _insert(record: Record, key: str = "unit", **told: object) -> None:
    """The same row as a piece of work would insert it."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(signals), [arrival_values(arrival(key, **told))])

    await record.write(work)


async def test_on_a_full_disk_nothing_is_acknowledged_and_nothing_is_half_written(tmp_path: Path) -> None:
    large = {"subject": "a" * 100_000}
    async with house(tmp_path) as home:
        await fill_disk(home.record)
        failures: list[BaseException | None] = []
        for attempt in (home.record.accept(arrival("a", facts=large)), _insert(home.record, facts=large)):
            with pytest.raises(RecordUnavailable, match="database or disk is full") as caught:
                await attempt
            failures.append(caught.value)
        # What failed is told in the database's own words, not in those of the row.
        assert all(isinstance(each, ChurnRadarError) and "aaa" not in str(each) for each in failures)
        assert rows(home.path) == []
        await empty_disk(home.record)
        assert (await home.record.accept(arrival("a", facts=large))).verdict is Verdict.ACCEPTED
        await _insert(home.record, facts=large)
        assert rows(home.path) == ["a", "unit"]


async def test_work_that_finds_the_database_read_only_is_told_that_the_record_is_unavailable(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await tell_the_writer(home.record, "PRAGMA query_only = ON")
        with pytest.raises(RecordUnavailable, match="attempt to write a readonly database"):
            await _insert(home.record)
        with pytest.raises(RecordUnavailable, match="attempt to write a readonly database"):
            await home.record.accept(arrival("a"))


async def test_work_on_a_database_that_turns_read_only_under_it_is_unavailable_too(tmp_path: Path) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("PRAGMA query_only = ON"))
        await connection.execute(insert(signals), [arrival_values(arrival("a"))])

    async with house(tmp_path) as home:
        with pytest.raises(RecordUnavailable, match="attempt to write a readonly database"):
            await home.record.write(work)


async def test_a_damaged_page_found_at_work_is_unavailable_and_no_crash(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.record.accept(arrival("a"))
    whole = bytearray(home.path.read_bytes())
    # The signals and their indexes alone: damage that no start finds out short of reading everything.
    with contextlib.closing(sqlite3.connect(home.path)) as connection:
        pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'signals'").fetchall()
    for (page,) in pages:
        whole[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    home.path.write_bytes(bytes(whole))
    async with house(tmp_path) as again:
        with pytest.raises(RecordUnavailable):
            await again.record.accept(arrival("b"))
        with pytest.raises(RecordUnavailable):
            await again.signals()


async def test_checking_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.record.accept(arrival("a"))
        before = _dump(home.path)
        await home.record.check()
        assert _dump(home.path) == before
        assert home.record.waiting == 0


def _dump(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.mark.usefixtures("everywhere")
async def test_a_closed_record_takes_nothing_more(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        pass
    with pytest.raises(RecordUnavailable):
        await home.record.accept(arrival("a"))
    with pytest.raises(RecordUnavailable):
        await home.record.check()
