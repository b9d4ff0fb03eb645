from __future__ import annotations

import asyncio
import io
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from churn_radar.research.brief import BriefSections
from churn_radar.settings import Environment, IsolatedSettings
from churn_radar.sinks import jsonl
from churn_radar.sinks.console import ConsoleSink, render
from churn_radar.sinks.jsonl import JsonlSink
from churn_radar.sinks.protocol import create_sinks
from tests.support.briefs import a_brief

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


brief = partial(
    a_brief, research_brief="## Why they churn\n\nThey do.", sections=BriefSections(churn_reasons="They do.")
)


# -- the console


async def test_the_alert_is_printed_exactly_as_the_rules_say(capsys: pytest.CaptureFixture[str]) -> None:
    [sink] = create_sinks(IsolatedSettings(environment=Environment.DEVELOPMENT, sinks=("console",)))

    await sink.deliver(brief())

    assert capsys.readouterr().out == (
        "============================================================\n"
        "CHURN ALERT: unsubscribed | jane@acme.co | High-MRR Fintech (Pro plan)\n"
        "MRR: $850 | Tenure: 342d | Plan: pro\n"
        "============================================================\n"
        "## Why they churn\n"
        "\n"
        "They do.\n"
        "Sources: 2\n"
    )


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"email": None}, "CHURN ALERT: unsubscribed | cust_1001 | High-MRR Fintech (Pro plan)"),
        ({"tenure_days": None}, "MRR: $850 | Tenure: N/A | Plan: pro"),
        ({"tenure_days": 0}, "MRR: $850 | Tenure: 0d | Plan: pro"),
        ({"mrr": 850.5, "currency": "EUR"}, "MRR: €850.50 | Tenure: 342d | Plan: pro"),
        ({"mrr": 0.0}, "MRR: $0 | Tenure: 342d | Plan: pro"),
        ({"mrr": 1e9, "currency": "JPY"}, "MRR: JPY 1,000,000,000 | Tenure: 342d | Plan: pro"),
        ({"mrr": 0.1 + 0.2}, "MRR: $0.30 | Tenure: 342d | Plan: pro"),
        ({"sources": []}, "Sources: 0"),
    ],
)
def test_each_value_of_the_alert_reads_as_the_rules_say(told: dict[str, Any], line: str) -> None:
    assert line in render(brief(**told), 2000).splitlines()


@pytest.mark.parametrize("characters", [0, 10, 2000])
def test_no_more_of_the_brief_is_printed_than_the_setting_says(characters: int) -> None:
    shown = render(brief(research_brief="x" * 5000), characters)

    assert shown.count("x") == characters


def test_a_hostile_attribute_cannot_steer_the_terminal() -> None:
    shown = render(brief(persona_type="\x1b[2J\x1b]0;owned\x07High", research_brief="a\x1b[31mb\x9b2J\rc"), 2000)

    assert not [c for c in shown if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)]
    assert shown.count("=" * 60) == 2


async def test_a_terminal_that_cannot_show_a_character_still_gets_the_alert() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    await ConsoleSink("console", 2000, stream).deliver(brief(research_brief="Über 5 € \U0001f600", currency="EUR"))

    assert b"?ber 5 ? ?" in raw.getvalue()


class SlowStream(io.StringIO):
    """Writes a character at a time, as a terminal may."""

    def write(self, text: str) -> int:
        for character in text:
            super().write(character)
            if character == "\n":
                time.sleep(0.0005)
        return len(text)


async def test_blocks_are_never_interleaved() -> None:
    stream = SlowStream()
    sink = ConsoleSink("console", 2000, stream)

    await asyncio.gather(*(sink.deliver(brief(n, research_brief=f"n{n}\n" * 5)) for n in range(20)))

    blocks = stream.getvalue().split("CHURN ALERT")[1:]
    assert len(blocks) == 20
    assert all(len({word for word in block.split() if word[:1] == "n" and word[1:].isdigit()}) == 1 for block in blocks)


async def test_a_pipe_that_nobody_reads_takes_no_thread_from_anybody_else(tmp_path: Path) -> None:
    """The shared pool has a few threads, and name resolution of the whole process needs them."""
    may_go_on = threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            may_go_on.wait(20)
            return super().write(text)

    stream = Blocked()
    sink = ConsoleSink("console", 2000, stream)
    stuck = [asyncio.create_task(sink.deliver(brief(n))) for n in range(40)]
    try:
        await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: "free") == "free"
            await JsonlSink("jsonl", tmp_path / "b.jsonl", 10**6).deliver(brief())
    finally:
        may_go_on.set()
        await asyncio.gather(*stuck)
    assert stream.getvalue().count("CHURN ALERT") == 40


async def test_a_delivery_that_was_given_up_before_it_began_is_not_printed_later() -> None:
    may_go_on = threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            may_go_on.wait(20)
            return super().write(text)

    stream = Blocked()
    sink = ConsoleSink("console", 2000, stream)
    first = asyncio.create_task(sink.deliver(brief(1, research_brief="first")))
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sink.deliver(brief(2, research_brief="second"))
    may_go_on.set()
    await first
    await sink.deliver(brief(3, research_brief="third"))

    assert [word for word in ("first", "second", "third") if word in stream.getvalue()] == ["first", "third"]


async def test_a_closed_pipe_is_an_error_to_try_again() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        with pytest.raises(BrokenPipeError):
            await ConsoleSink("console", 2000, stream).deliver(brief())
        # What could not be written would raise once more when the file is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


# -- jsonl


def lines_of(*paths: Path) -> list[str]:
    return [line for path in paths for line in path.read_text().splitlines()]


async def test_each_brief_is_one_line_of_json_with_everything_in_it(tmp_path: Path) -> None:
    sink = JsonlSink("jsonl", tmp_path / "briefs.jsonl", 10**6)
    briefs = [brief(n, research_brief="two\nlines \u2028 and \u0085 more") for n in range(3)]

    for each in briefs:
        await sink.deliver(each)

    raw = (tmp_path / "briefs.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    assert [json.loads(line) for line in raw.split(b"\n")[:-1]] == [each.as_record() for each in briefs]


async def test_the_file_is_private_since_briefs_name_customers(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await JsonlSink("jsonl", tmp_path / "briefs.jsonl", 10**6).deliver(brief())
    finally:
        os.umask(before)

    assert (tmp_path / "briefs.jsonl").stat().st_mode & 0o777 == 0o600


async def test_a_delivered_brief_is_synced_to_disk_name_and_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((Path(path).name, os.fstat(descriptor).st_size if path.endswith(".jsonl") else 0))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    sink = JsonlSink("jsonl", tmp_path / "briefs.jsonl", 10**6)

    await sink.deliver(brief(1))
    size = (tmp_path / "briefs.jsonl").stat().st_size
    await sink.deliver(brief(2))

    assert synced == [("briefs.jsonl", size), (tmp_path.name, 0), ("briefs.jsonl", 2 * size)]


async def test_a_brief_that_is_not_on_disk_was_not_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(OSError, match="Input/output"):
        await JsonlSink("jsonl", tmp_path / "briefs.jsonl", 10**6).deliver(brief())


async def test_rotation_by_size_neither_splits_nor_loses_nor_repeats_a_line(tmp_path: Path) -> None:
    sink = JsonlSink("jsonl", tmp_path / "briefs.jsonl", 4096)

    await asyncio.gather(*(sink.deliver(brief(n, research_brief="x" * (n * 37 % 1500))) for n in range(60)))

    files = sorted(tmp_path.iterdir())
    assert len(files) > 5
    assert all(file.suffix == ".jsonl" and file.stat().st_size <= 4096 for file in files)
    ids = [json.loads(line)["id"] for line in lines_of(*files)]
    assert Counter(ids) == Counter(brief(n).id for n in range(60))


async def test_the_dated_name_says_when_and_sorts_by_time(tmp_path: Path) -> None:
    sink = JsonlSink("jsonl", tmp_path / "briefs.jsonl", 4096)
    for n in range(12):
        await sink.deliver(brief(n, research_brief="x" * 3000))

    rotated = sorted(path.name for path in tmp_path.iterdir() if path.name != "briefs.jsonl")
    first_ids = [json.loads((tmp_path / name).read_text().splitlines()[0])["id"] for name in rotated]
    assert rotated[0].startswith(f"briefs-{datetime.now(UTC):%Y%m%d}T")
    assert first_ids == sorted(first_ids)


async def test_a_line_larger_than_the_limit_is_kept_whole_in_a_file_of_its_own(tmp_path: Path) -> None:
    sink = JsonlSink("jsonl", tmp_path / "briefs.jsonl", 4096)
    for n, size in enumerate((10, 20_000, 10)):
        await sink.deliver(brief(n, research_brief="x" * size))

    files = list(tmp_path.iterdir())
    assert len(files) == 3
    assert all(len(lines_of(file)) == 1 for file in files)


async def test_an_empty_file_is_not_rotated(tmp_path: Path) -> None:
    (tmp_path / "briefs.jsonl").touch()
    await JsonlSink("jsonl", tmp_path / "briefs.jsonl", 4096).deliver(brief(1, research_brief="x" * 20_000))

    assert [path.name for path in tmp_path.iterdir()] == ["briefs.jsonl"]


async def test_a_clock_that_stands_still_lets_no_file_take_another_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return NOW

    monkeypatch.setattr(jsonl, "datetime", Stopped)
    sink = JsonlSink("jsonl", tmp_path / "briefs.jsonl", 4096)
    for n in range(8):
        await sink.deliver(brief(n, research_brief="x" * 3000))

    assert len(lines_of(*tmp_path.iterdir())) == 8


@pytest.mark.parametrize("torn", [b"", b'{"id": "br', b'{"id": "whole"}\n{"id": "br', b'{"id": "whole"}'])
async def test_a_torn_last_line_is_kept_apart(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "briefs.jsonl"
    path.write_bytes(torn)
    sink = JsonlSink("jsonl", path, 10**6)

    await sink.deliver(brief(1))
    await sink.deliver(brief(2))

    raw = path.read_bytes()
    assert raw.startswith(torn)
    assert [json.loads(line)["id"] for line in raw.splitlines()[-2:]] == [brief(1).id, brief(2).id]
    assert len(raw.splitlines()) == len(torn.splitlines()) + 2


async def test_a_write_that_breaks_half_way_harms_no_other_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "briefs.jsonl"
    sink = JsonlSink("jsonl", path, 10**6)
    await sink.deliver(brief(1))
    real: Callable[[int, bytes], int] = os.write
    left = [40]

    def full_soon(descriptor: int, data: Any) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        written = real(descriptor, bytes(data)[: left[0]])
        left[0] -= written
        return written

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full_soon)
        with pytest.raises(OSError, match="No space"):
            await sink.deliver(brief(2))
    await sink.deliver(brief(2))

    first, torn, last = path.read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in (first, last)] == [brief(1).id, brief(2).id]
    assert len(torn) == 40


async def test_short_writes_of_the_system_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[int, bytes], int] = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:100]))
    path = tmp_path / "briefs.jsonl"

    await JsonlSink("jsonl", path, 10**6).deliver(brief(1, research_brief="x" * 5000))

    assert json.loads(path.read_text()) == brief(1, research_brief="x" * 5000).as_record()


async def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "briefs.jsonl"
    sink = JsonlSink("jsonl", path, 10**6)
    await sink.deliver(brief(1))
    path.rename(tmp_path / "moved.jsonl")
    await sink.deliver(brief(2))

    assert [len(lines_of(file)) for file in (path, tmp_path / "moved.jsonl")] == [1, 1]


async def test_a_folder_that_is_gone_is_an_error_to_try_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    sink = JsonlSink("jsonl", folder / "briefs.jsonl", 10**6)
    folder.rmdir()

    with pytest.raises(FileNotFoundError):
        await sink.deliver(brief())
