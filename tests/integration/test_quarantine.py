"""The quarantine: bounded, exported rather than lost, dropped on request, brought back; retries stay duplicates."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from churn_radar import metrics
from churn_radar.errors import SettingsError
from churn_radar.intake.door import PATH
from churn_radar.intake.events import to_quarantine
from churn_radar.sending import signed_headers
from churn_radar.store.quarantine import load_bodies, oldest_bodies
from churn_radar.store.signals import quarantined_body
from churn_radar.store.tables import Status, quarantined_bodies, signals
from churn_radar.work import quarantine as room
from churn_radar.work.quarantine import DROPPED, Quarantine
from tests.support.postgres import Scratch
from tests.support.work import SECRET, Running, Workshop, logged, payload, service, until, workshop

NAME = "record-quarantine-20261124.jsonl"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Running]:
    async with service(tmp_path, with_worker=False) as running:
        yield running


def keeper(shop: Workshop, *, max_bytes: int = 1000, folder: Path | None = None) -> Quarantine:
    return Quarantine(shop.record, folder=folder, max_bytes=max_bytes, now=shop.clock)


async def keep(shop: Workshop, body: bytes) -> int:
    return await shop.accept(to_quarantine(body, "the body is not valid JSON", received_at=shop.clock(), event_id=None))


async def fill(shop: Workshop, count: int = 15, size: int = 100) -> list[int]:
    return [await keep(shop, b"%0*d" % (size, number)) for number in range(count)]


async def body_of(shop: Workshop, seq: int) -> bytes | None:
    async with shop.record.read() as connection:
        return await quarantined_body(connection, seq)


def exported(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


# -- the bound


async def test_its_size_is_told_and_known_to_prometheus(shop: Workshop) -> None:
    await fill(shop, 3)

    assert await keeper(shop).size() == (3, 300)
    assert b"churn_radar_quarantine_bytes 300.0" in metrics.exposition()
    assert b"churn_radar_quarantine_bodies 3.0" in metrics.exposition()


async def test_within_the_bound_nothing_is_exported(shop: Workshop, tmp_path: Path) -> None:
    await fill(shop, 10)

    assert await keeper(shop).tidy() == 0
    assert exported(tmp_path) == []


async def test_beyond_the_bound_the_oldest_are_exported_and_nothing_is_lost(shop: Workshop, tmp_path: Path) -> None:
    seqs = await fill(shop, 15)
    quarantine = keeper(shop)

    assert await quarantine.tidy() == 6

    assert await quarantine.size() == (9, 900)
    assert [line["body"] for line in exported(tmp_path)] == [f"{number:0100d}" for number in range(6)]
    for number, seq in enumerate(seqs):
        kept = await body_of(shop, seq)
        assert kept == (None if number < 6 else b"%0100d" % number)


async def test_the_file_can_be_read_by_nobody_else_and_is_named_after_the_record_and_the_day(
    shop: Workshop, tmp_path: Path
) -> None:
    await fill(shop)
    await keeper(shop).tidy()

    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


async def test_another_folder_may_be_chosen(shop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    await fill(shop)
    await keeper(shop, folder=folder).tidy()

    assert [path.name for path in folder.iterdir()] == [NAME]


async def test_a_file_that_has_grown_large_is_followed_by_another(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "FILE_BYTES", 1)
    quarantine = keeper(shop)
    for seq in await fill(shop, 3):
        await quarantine.export([seq])

    assert list(quarantine.exports()) == [
        NAME.replace(".jsonl", "-002.jsonl"),
        NAME.replace(".jsonl", "-003.jsonl"),
        NAME,
    ]
    assert len(exported(tmp_path)) == 3


async def test_bodies_larger_than_a_page_are_taken_one_by_one(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PAGE_BYTES", 50)
    loaded: list[int] = []

    async def noting(connection: Any, seqs: Any) -> Any:
        loaded.append(len(seqs))
        return await load_bodies(connection, seqs)

    monkeypatch.setattr(room, "load_bodies", noting)
    await fill(shop)
    await keeper(shop).tidy()

    assert loaded == [1] * 6
    assert len(exported(tmp_path)) == 6


async def test_what_was_exported_is_a_tombstone_that_says_where_it_is(shop: Workshop) -> None:
    [first, *_] = await fill(shop)
    await keeper(shop).tidy()

    signal = await shop.signal(first)
    assert (signal.status, NAME in (signal.reason or "")) == (Status.SKIPPED, True)
    assert await shop.story(first) == ["quarantined", "skipped"]
    replayed = await shop.replay(first)
    assert (replayed.status, NAME in replayed.effect) == (Status.SKIPPED, True)
    assert await shop.signal(first) == signal


async def test_a_retry_of_what_was_exported_or_dropped_is_no_news(shop: Workshop) -> None:
    first, second = await fill(shop, 2)
    await keeper(shop).export([first])
    await keeper(shop).drop([second])

    assert await fill(shop, 2) == [first, second]
    assert (await shop.signal(first)).status is Status.SKIPPED
    assert await keeper(shop).size() == (0, 0)


async def test_the_log_says_how_many_went_where_and_nothing_of_what_they_hold(shop: Workshop, tmp_path: Path) -> None:
    await keep(shop, b'{"email": "jane@acme.co"}')
    with logged(tmp_path) as out:
        await keeper(shop, max_bytes=10).tidy()

    [row] = [json.loads(line) for line in out.getvalue().splitlines() if "quarantine.exported" in line]
    assert (row["bodies"], row["bytes"], row["file"]) == (1, 25, str(tmp_path / NAME))
    assert "jane" not in out.getvalue()


async def test_a_body_is_deleted_only_after_it_is_synced(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first, *_] = await fill(shop, 16)
    # The file is there already, so that its own sync is the only one.
    await keeper(shop).export([first])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        await keeper(shop).tidy()
    monkeypatch.undo()

    assert await keeper(shop).size() == (15, 1500)


async def test_a_folder_that_cannot_be_written_to_loses_nothing_and_is_told_until_it_can(
    shop: Workshop, tmp_path: Path
) -> None:
    await fill(shop)
    folder = tmp_path / "missing"
    looked = 0

    async def sleep(_: float) -> None:
        nonlocal looked
        looked += 1
        if looked == 1:
            folder.mkdir()
        if looked == 2:
            raise asyncio.CancelledError

    with logged(tmp_path) as out, pytest.raises(asyncio.CancelledError):
        await keeper(shop, folder=folder).keep_bounded(sleep)

    [row] = [json.loads(line) for line in out.getvalue().splitlines() if "export_failed" in line]
    assert (row["level"], row["cause"]) == ("error", "No such file or directory")
    assert len(exported(folder)) == 6
    assert await keeper(shop).size() == (9, 900)


async def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CHURN_RADAR_QUARANTINE_FOLDER: .*create it"):
        async with service(tmp_path, with_worker=False, quarantine_folder=tmp_path / "missing"):
            pass


async def test_a_crash_between_file_and_record_exports_twice_and_brings_back_once(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqs = await fill(shop, 2)
    quarantine = keeper(shop)

    async def killed(*_: object) -> list[int]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_take_out", killed)
        with pytest.raises(KeyboardInterrupt):
            await quarantine.export(seqs)
    await quarantine.export(seqs)
    assert len(exported(tmp_path)) == 4

    done = await quarantine.bring_back(NAME)

    assert (done.brought_back, done.already_here, done.unreadable) == (2, 2, 0)
    assert [await body_of(shop, seq) for seq in seqs] == [b"%0100d" % number for number in range(2)]


@pytest.fixture
async def two(postgres: Scratch, tmp_path: Path) -> AsyncIterator[list[Workshop]]:
    """Two replicas, whose files go to folders of their own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with workshop(tmp_path) as one, workshop(tmp_path) as other:
        yield [one, other]


async def test_of_two_replicas_one_exports_and_the_other_leaves_it_to_it(
    two: list[Workshop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = keeper(two[0], folder=tmp_path / "one"), keeper(two[1], folder=tmp_path / "two")
    await fill(two[0], 15)
    append, reached, go_on = room._append, asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def held_up(path: Path, *more: Any) -> None:
        append(path, *more)
        if path.parent.name == "one":
            loop.call_soon_threadsafe(reached.set)
            go_on.wait(30)

    with monkeypatch.context() as patch:
        patch.setattr(room, "_append", held_up)
        exporting = asyncio.create_task(one.tidy())
        await reached.wait()
        assert await other.tidy() == 0
        by_hand = asyncio.create_task(other.export(await kept(two[1])))
        go_on.set()
        assert await exporting == 6
    # What somebody asks for by hand waits for its turn, and finds the rest.
    assert (await by_hand)[0] == 9
    told = [line["body"] for folder in ("one", "two") for line in exported(tmp_path / folder)]
    assert sorted(told) == [f"{number:0100d}" for number in range(15)]


async def test_what_one_replica_breaks_off_another_takes_up(
    two: list[Workshop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = keeper(two[0], folder=tmp_path / "one"), keeper(two[1], folder=tmp_path / "two")
    await fill(two[0], 15)

    async def killed(*_: object) -> list[int]:
        raise asyncio.CancelledError

    monkeypatch.setattr(one, "_take_out", killed)
    with pytest.raises(asyncio.CancelledError):
        await one.tidy()

    assert await other.tidy() == 6
    assert await other.size() == (9, 900)


async def kept(shop: Workshop) -> list[int]:
    async with shop.record.read() as connection:
        return [seq for seq, _ in await oldest_bodies(connection, 100)]


async def test_the_running_service_keeps_the_bound_by_itself(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, quarantine_max_megabytes=1) as live:
        for number in range(3):
            body = (b"%d" % number) * 600_000
            await live.service.record.accept(to_quarantine(body, "x", received_at=live.service.now(), event_id=None))
    async with service(tmp_path, with_worker=False, quarantine_max_megabytes=1) as live:

        async def bounded() -> bool:
            return bool((await live.http.get("/quarantine")).json()["bodies"] == 1)

        await until(bounded, "the bound to be kept")
        state = (await live.http.get("/quarantine")).json()
    assert (state["bytes"], state["max_bytes"], len(state["exports"])) == (600_000, 1024 * 1024, 1)


# -- megabytes


async def test_lines_are_made_and_read_beside_the_event_loop(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door answers on it; JSON of megabytes would make it wait."""
    threads: list[str] = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*told: Any) -> Any:
            threads.append(threading.current_thread().name)
            return work(*told)

        return noted

    for name in ("to_line", "from_line"):
        monkeypatch.setattr(room, name, noting(getattr(room, name)))
    quarantine = keeper(shop)
    await quarantine.export(await fill(shop, 2))
    assert (await quarantine.bring_back(NAME)).brought_back == 2

    assert len(threads) == 4
    assert threading.main_thread().name not in threads


# -- understood


async def test_a_body_that_turns_out_to_be_no_signal_is_kept_no_longer(shop: Workshop) -> None:
    seq = await keep(shop, b'{"metric": "opened", "data": {"identifiers": {"id": "1"}}}')

    await shop.replay(seq)

    assert (await shop.signal(seq)).status is Status.SKIPPED
    assert await keeper(shop).size() == (0, 0)


async def test_a_body_that_is_understood_at_last_is_kept_no_longer(shop: Workshop) -> None:
    seq = await keep(shop, json.dumps(payload("cust_1001")).encode())

    await shop.replay(seq)

    assert (await shop.signal(seq)).status is Status.RECEIVED
    assert await keeper(shop).size() == (0, 0)


async def test_bringing_back_what_has_been_understood_meanwhile_changes_nothing(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seq = await keep(shop, json.dumps(payload("cust_1001")).encode())
    quarantine = keeper(shop)
    await quarantine.export([seq])
    await quarantine.bring_back(NAME)
    await shop.replay(seq)
    before = await shop.signal(seq)
    assert before.kind == "unsubscribed"

    done = await quarantine.bring_back(NAME)

    assert (done.brought_back, done.already_here) == (0, 1)
    assert await shop.signal(seq) == before


# -- bringing back


async def test_an_exported_file_feeds_another_record(shop: Workshop, tmp_path: Path) -> None:
    event = payload("cust_1001")
    await keep(shop, json.dumps(event).encode())
    binary = await keep(shop, b"\xff\x00\xfe")
    quarantine = keeper(shop)
    await quarantine.export([1, binary])
    before = await shop.signal(binary)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    (other_folder / NAME).write_bytes((tmp_path / NAME).read_bytes())
    async with workshop(other_folder) as other:
        other.clock.forward(timedelta(days=3))

        done = await keeper(other).bring_back(NAME)

        assert (done.brought_back, done.offset) == (2, None)
        assert [await body_of(other, seq) for seq in (1, 2)] == [json.dumps(event).encode(), b"\xff\x00\xfe"]
        there = await other.signal(2)
        assert (there.signal_id, there.received_at, there.source) == (
            before.signal_id,
            before.received_at,
            before.source,
        )
        assert (there.status, there.reason) == (Status.QUARANTINED, "the body is not valid JSON")
        await other.run((await other.replay(1)).tasks)
        assert (await other.signal(1)).status is Status.WAITING


async def test_bringing_back_twice_does_what_once_does(shop: Workshop) -> None:
    seqs = await fill(shop, 3)
    quarantine = keeper(shop)
    await quarantine.export(seqs)
    await quarantine.bring_back(NAME)
    before = [await shop.signal(seq) for seq in seqs]

    done = await quarantine.bring_back(NAME)

    assert (done.brought_back, done.already_here) == (0, 3)
    assert [await shop.signal(seq) for seq in seqs] == before


async def test_a_large_file_is_read_part_by_part_and_a_line_cut_short_is_counted(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PAGE", 2)
    seqs = await fill(shop, 5)
    quarantine = keeper(shop)
    await quarantine.export(seqs[:3])
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"event_key": "q1", "sig')
    await quarantine.export(seqs[3:])

    parts = [await quarantine.bring_back(NAME)]
    while parts[-1].offset is not None:
        parts.append(await quarantine.bring_back(NAME, offset=parts[-1].offset))

    assert [part.brought_back for part in parts] == [2, 1, 2, 0]
    assert sum(part.unreadable for part in parts) == 1
    assert await quarantine.size() == (5, 500)


@pytest.mark.parametrize("name", ["nothing.jsonl", "../record.db", "/etc/passwd", ".", "..", ""])
async def test_only_a_file_of_the_folder_is_read(shop: Workshop, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        await keeper(shop).bring_back(name)


# -- dropping


async def test_a_dropped_body_is_gone_and_its_signal_says_so(shop: Workshop, tmp_path: Path) -> None:
    first, second = await fill(shop, 2)

    assert await keeper(shop).drop([first, 999]) == [first]

    assert await body_of(shop, first) is None
    assert await body_of(shop, second) is not None
    signal = await shop.signal(first)
    assert (signal.status, signal.reason) == (Status.SKIPPED, DROPPED)
    assert exported(tmp_path) == []
    assert DROPPED in (await shop.replay(first)).effect


# -- the API


async def quarantined(live: Running, *bodies: bytes) -> list[str]:
    ids = []
    for body in bodies:
        answer = await live.stranger.post(PATH, content=body, headers=signed_headers(body, SECRET))
        assert answer.json()["status"] == "quarantined"
        ids.append(answer.json()["event_id"])
    return ids


async def test_some_are_dropped_by_their_ids_and_the_others_are_told(idle: Running) -> None:
    first, second = await quarantined(idle, b"one", b"two")
    event_id = await idle.post(payload("cust_1001"))
    rehearsed = await idle.http.post("/quarantine/drop", json={"event_ids": [first, event_id], "dry_run": True})
    assert rehearsed.json()["count"] == 1

    answer = await idle.http.post("/quarantine/drop", json={"event_ids": [first, first, event_id, "unheard-of"]})

    assert answer.status_code == 200
    told = answer.json()
    assert (told["count"], told["unknown"], told["not_quarantined"]) == (1, ["unheard-of"], [event_id])
    assert (await idle.http.get(f"/signals/{first}")).json()["status"] == "skipped"
    assert (await idle.http.get(f"/signals/{second}")).json()["body"] == "two"
    assert (await idle.http.get(f"/signals/{event_id}")).json()["status"] == "received"
    [again] = await quarantined(idle, b"one")
    assert again == first
    assert (await idle.http.get("/quarantine")).json()["bodies"] == 1


async def test_some_are_chosen_by_conditions_rehearsed_and_taken_page_by_page(idle: Running) -> None:
    await quarantined(idle, b"one", b"two", b"three", b'{"metric": "unsubscribed"}')
    wanted: dict[str, Any] = {"reason": "not valid json", "limit": 2}

    rehearsed = (await idle.http.post("/quarantine/drop", json={**wanted, "dry_run": True})).json()
    assert (rehearsed["count"], (await idle.http.get("/quarantine")).json()["bodies"]) == (2, 4)
    first = (await idle.http.post("/quarantine/drop", json=wanted)).json()
    second = (await idle.http.post("/quarantine/drop", json={**wanted, "cursor": first["cursor"]})).json()

    assert (first["count"], second["count"], second["cursor"]) == (2, 1, None)
    [left] = (await idle.http.get("/signals", params={"status": "quarantined"})).json()["items"]
    assert "names no customer" in left["reason"]


async def test_an_export_and_an_import_go_round(idle: Running) -> None:
    first, _ = await quarantined(idle, b"one", b"two")

    told = (await idle.http.post("/quarantine/export", json={"all": True})).json()
    assert (told["count"], list((await idle.http.get("/quarantine")).json()["exports"])) == (2, [told["file"]])
    assert (await idle.http.get("/quarantine")).json()["bodies"] == 0
    back = (await idle.http.post("/quarantine/import", json={"file": told["file"]})).json()

    assert back == {"brought_back": 2, "already_here": 0, "kept_out": 0, "unreadable": 0, "offset": None}
    assert (await idle.http.get(f"/signals/{first}")).json()["body"] == "one"


async def test_what_chooses_nothing_or_reads_elsewhere_is_refused(idle: Running) -> None:
    await quarantined(idle, b"one")
    for path, body in (
        ("drop", {}),
        ("drop", {"event_ids": []}),
        ("drop", {"all": False}),
        ("drop", {"since": "never"}),
        ("export", {"dry_run": True}),
        ("import", {}),
        ("import", {"file": "../record.db"}),
        ("import", {"file": "nothing.jsonl"}),
        ("import", {"file": "x", "offset": -1}),
    ):
        answer = await idle.http.post(f"/quarantine/{path}", json=body)
        assert answer.status_code == 422, (path, body)
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await idle.http.get("/quarantine")).json()["bodies"] == 1


async def test_nobody_without_a_key_gets_in(idle: Running) -> None:
    assert (await idle.stranger.get("/quarantine")).status_code == 401
    for path in ("drop", "export", "import"):
        assert (await idle.stranger.post(f"/quarantine/{path}", json={"all": True})).status_code == 401


# -- records of earlier releases


async def test_every_body_has_its_size_noted_at_the_door(shop: Workshop) -> None:
    await fill(shop, 2, size=7)
    async with shop.record.read() as connection:
        sizes = (await connection.execute(select(quarantined_bodies.c.size))).scalars().all()
        total = (await connection.execute(select(func.sum(func.length(quarantined_bodies.c.body))))).scalar_one()
        assert (await connection.execute(select(func.count()).select_from(signals))).scalar_one() == 2

    assert (list(sizes), total) == ([7, 7], 14)
