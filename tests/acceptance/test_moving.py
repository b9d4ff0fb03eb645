"""A newcomer follows docs/scaling.md, from one process with a file to two replicas on Postgres, and loses nothing."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from churn_radar.store.schema import upgrade_record
from tests.acceptance.conftest import Upstreams
from tests.acceptance.test_main_job import event
from tests.support.filling import fill_tables, rows_of_database, rows_of_file
from tests.support.postgres import Scratch
from tests.support.service import clean_environment, eventually, run_command, serving

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
IN_THE_DOCUMENT = "postgresql://churn_radar@db.example.com/churn_radar"


def commands_to_move(url: str) -> list[list[str]]:
    """What docs/scaling.md says to run, word for word but for the database's name."""
    text = (ROOT / "docs/scaling.md").read_text()
    section = text.partition("## How to move")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.strip().splitlines()]
    return [shlex.split(line.replace(IN_THE_DOCUMENT, url))[1:] for line in lines]


def without_deliveries(signal: dict[str, Any]) -> dict[str, Any]:
    """A signal less what goes on when its brief is there: that may have been under way when it was looked at."""
    return {name: value for name, value in signal.items() if name != "deliveries"}


@pytest.mark.only_on("sqlite", why="it begins on a file and ends on Postgres")
async def test_the_document_leads_from_one_process_to_two_replicas_without_losing_a_row(
    tmp_path: Path, upstreams: Upstreams, empty: Scratch
) -> None:
    settings = upstreams.settings(tmp_path)
    letters = [event(f"01M{n}", "bounced", f"cust_100{n}") for n in range(1, 4)]
    unfinished = event("01MX", "unsubscribed", "cust_1005")
    async with serving(tmp_path, settings) as service:
        for letter in letters:
            await service.post(letter)
        before = [await service.until(letter["event_id"], "briefed", "skipped") for letter in letters]
        upstreams.mavera_faults.add("hang")
        await service.post(unfinished)
        await service.until("01MX", "researching")
        await service.kill()
    upstreams.mavera_faults.clear()
    rows = rows_of_file(tmp_path / "record.db")

    copy, *starts = commands_to_move(empty.url)
    assert copy[:2] == ["copy-record", "--to"]
    assert starts == [["serve"], ["serve"]]
    code, out, err = await run_command(*copy, cwd=tmp_path, env=settings)
    assert (code, err) == (0, ""), err
    assert "the same on both sides" in out
    assert "pieces of unfinished work that go on there: 1" in out
    assert rows_of_file(tmp_path / "record.db") == rows
    copied = rows_of_database(empty)
    assert {table: len(found) for table, found in copied.items() if table != "signal_history"} == {
        table: len(found) for table, found in rows.items() if table != "signal_history"
    }

    settings["CHURN_RADAR_DATABASE_URL"] = empty.url
    (tmp_path / "second").mkdir()
    async with (
        serving(tmp_path, settings, *starts[0]) as first,
        serving(tmp_path / "second", settings, *starts[1]) as second,
    ):
        for replica in (first, second):
            for letter in (*letters, unfinished):
                assert (await replica.post(letter)).json()["status"] == "duplicate"
        after = [await second.signal(letter["event_id"]) for letter in letters]
        assert [without_deliveries(signal) for signal in after] == [without_deliveries(signal) for signal in before]
        await first.until("01MX", "briefed")
        await second.post(event("01MY", "bounced", "cust_1010"))
        await first.until("01MY", "briefed", "skipped")
    assert empty.run("SELECT count(*) FROM signals") == 5
    assert empty.run("SELECT count(*) - count(DISTINCT customer_seq) FROM briefs") == 0


async def test_a_copy_that_is_killed_goes_on_with_the_same_command(tmp_path: Path, empty: Scratch) -> None:
    record = tmp_path / "record.db"
    upgrade_record(record)
    fill_tables(record, 50)
    env = {"CHURN_RADAR_DATABASE_URL": f"sqlite:///{record}"}
    assert (await run_command("migrate", cwd=tmp_path, env={"CHURN_RADAR_DATABASE_URL": empty.url}))[0] == 0
    # Somebody holds one of the later tables, so the copy comes to a stand in the midst of it.
    holder = await asyncpg.connect(empty.url)
    await holder.execute("BEGIN; LOCK TABLE signal_history IN SHARE MODE")
    copying = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "churn_radar", "copy-record", "--to", empty.url),
        env=clean_environment(**env),
        stdout=asyncio.subprocess.DEVNULL,
    )

    async def arrived() -> bool:
        return int(empty.run("SELECT count(*) FROM signals")) == 50

    await eventually(arrived, "the signals to arrive")
    copying.kill()
    await copying.wait()
    await holder.close()

    env_there = {**env, "CHURN_RADAR_ENVIRONMENT": "development", "CIO_APP_KEY": "key", "MAVERA_API_KEY": "key"}
    env_there["CHURN_RADAR_DATABASE_URL"] = empty.url
    code, _, err = await run_command("serve", "--no-worker", cwd=tmp_path, env={**env_there, "CHURN_RADAR_PORT": "0"})
    assert code == 1
    assert "run the same `churn-radar copy-record` again" in err
    code, out, err = await run_command("copy-record", "--to", empty.url, cwd=tmp_path, env=env)
    assert code == 0, err
    assert "signals: 50 rows, checksum" in out
    assert rows_of_database(empty) == rows_of_file(record)
