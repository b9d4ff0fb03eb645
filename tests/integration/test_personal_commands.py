from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from churn_radar.cli import app
from tests.support.work import payload, workshop


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a record with one brief, which no service has open."""

    async def fill() -> None:
        async with workshop(tmp_path) as shop:
            await shop.briefed(payload("cust_1001"))

    asyncio.run(fill())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHURN_RADAR_DATABASE_URL", f"sqlite:///{tmp_path / 'record.db'}")
    return tmp_path / "record.db"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_forget_tells_first_and_does_it_when_told_so(record: Path, tmp_path: Path) -> None:
    code, told = run("export", "jane@acme.co", "--output", str(tmp_path / "jane.json"))
    assert code == 0, told
    held = json.loads((tmp_path / "jane.json").read_text())
    assert held["names"]["id"] == ["cust_1001"]
    assert len(held["tables"]["briefs"]) == 1

    code, told = run("forget", "jane@acme.co")
    assert code == 0, told
    assert "briefs: 1" in told
    assert "nothing was changed; repeat with --yes" in told
    assert b"jane@acme.co" in record.read_bytes()

    code, told = run("forget", "jane@acme.co", "--yes")
    assert code == 0, told
    assert "forgotten; events about this person are kept out from now on" in told
    for file in tmp_path.glob("record.db*"):
        assert b"jane@acme.co" not in file.read_bytes(), file.name

    code, told = run("forget", "jane@acme.co", "--let-in")
    assert code == 0, told
    assert "let in again: events about this person are kept from now on\n" in told


def test_the_trail_knows_a_command_that_had_the_record_to_itself(record: Path) -> None:
    code, told = run("forget", "jane@acme.co", "--yes")
    assert code == 0, told
    with closing(sqlite3.connect(record)) as connection:
        lines = connection.execute("SELECT action, via FROM audit").fetchall()
    assert lines == [("forget", "command")]
