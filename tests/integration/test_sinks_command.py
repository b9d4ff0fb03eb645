"""`churn-radar sinks`, without a service and beside one."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from churn_radar.cli_sinks import app
from churn_radar.errors import Gone, SettingsError, StartError
from churn_radar.sinks.protocol import Outlets, create_outlets
from churn_radar.trying import choose, sinks_in_words, try_sink
from tests.support.briefs import NOW
from tests.support.receivers import receiver
from tests.support.work import ListSink, payload, service, settings_for, until, workshop


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CHURN_RADAR_DATABASE_URL", f"sqlite:///{tmp_path / 'record.db'}")
    monkeypatch.setenv("CHURN_RADAR_SINKS", "console,jsonl:briefs.jsonl,webhook:DESK")
    monkeypatch.setenv("DESK", "https://desk.example/T0KEN")
    monkeypatch.setenv("DESK_SECRET", "whsec_" + "S" * 32)
    return CliRunner()


def shown(result: Result) -> str:
    assert result.exit_code == 0, result.output
    assert "T0KEN" not in result.output
    assert "SSSS" not in result.output
    return result.output


def test_without_a_record_the_configured_sinks_are_listed(command: CliRunner) -> None:
    output = shown(command.invoke(app, []))

    assert [line.split()[1] for line in output.splitlines() if "never" in line] == [
        "console",
        "jsonl:briefs.jsonl",
        "webhook:DESK",
    ]


def test_a_sample_goes_to_the_sink_that_is_named(command: CliRunner, tmp_path: Path) -> None:
    output = shown(command.invoke(app, ["test", "jsonl"]))

    assert "jsonl:briefs.jsonl took the sample" in output
    [line] = (tmp_path / "briefs.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert told["notes"] == ["This is a sample, sent by `churn-radar sinks test`; nobody is about to leave."]
    assert not (tmp_path / "record.db").exists()


def test_which_dead_deliveries_are_meant_has_to_be_said(command: CliRunner) -> None:
    assert command.invoke(app, ["replay"]).exit_code == 2
    assert command.invoke(app, ["replay", "desk", "--all"]).exit_code == 2


def test_every_mistake_is_told_before_any_sink_is_listed(command: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_RADAR_SINKS", "consol,slack:NOT_SET,webhook:DESK")
    monkeypatch.delenv("DESK_SECRET")

    refused = command.invoke(app, [])

    assert isinstance(refused.exception, SettingsError)
    assert len(refused.exception.problems) == 3


async def test_dead_deliveries_are_replayed_and_a_stopped_sink_resumed_without_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = ListSink("desk", [Gone("webhook", "gone", status=410)])
    async with workshop(tmp_path, sinks=[sink]) as shop:
        await shop.briefed(payload())
        await shop.deliver((await shop.deliveries())["desk"].seq)
        url = shop.settings.database_url
    monkeypatch.setenv("CHURN_RADAR_DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()

    async def invoke(*words: str) -> str:
        return shown(await asyncio.to_thread(runner.invoke, app, list(words)))

    listed = await invoke()
    # A table's cells are wrapped at the width of whoever ran first.
    assert re.search(r"stopped:.*410", listed, re.DOTALL)
    assert "1 delivery would start again" in await invoke("replay", "desk", "--dry-run")
    assert "desk: gets briefs again" in await invoke("resume", "desk")
    assert "desk: was not stopped" in await invoke("resume", "desk")
    assert "1 delivery starts again" in await invoke("replay", "--all")
    assert "0 deliveries start again" in await invoke("replay", "--all")


async def test_beside_a_running_service_it_is_asked(tmp_path: Path) -> None:
    sink = ListSink("desk")
    async with service(tmp_path, sinks=[sink]) as live:
        await live.briefed(payload())

        async def delivered() -> bool:
            return len(sink.briefs) == 1

        await until(delivered, "the delivery")
        [line] = await sinks_in_words(live.service.settings, Outlets([sink]), live.url)

    assert (line.name, line.waiting, line.dead, line.state) == ("desk", "0", "0", "fine")
    assert line.last.startswith("20")


async def test_a_sample_says_what_a_sink_answers(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, sinks=("webhook:DESK",), sinks_private_networks=("127.0.0.0/8",))
    async with receiver() as desk:
        variables = {"DESK": f"{desk.url}/T0KEN", "DESK_SECRET": "whsec_" + "S" * 32}
        [sink] = create_outlets(settings, variables).sinks
        assert await try_sink(settings, sink, NOW) == "took the sample"
        assert len(desk.requests) == 1
    with pytest.raises(StartError, match=r"webhook:DESK: webhook: no connection to 127\.0\.0\.1"):
        await try_sink(settings, sink, NOW)


def test_a_sink_is_chosen_by_its_name_or_by_its_kind_alone() -> None:
    one, two, three = ListSink("jsonl:a"), ListSink("jsonl:b"), ListSink("post:https://x.example/T0KEN")

    assert choose([one, two, three], "jsonl:a") is one
    assert choose([one, two, three], "post") is three
    with pytest.raises(StartError, match="several sinks are called 'jsonl'"):
        choose([one, two, three], "jsonl")
    with pytest.raises(StartError) as caught:
        choose([one, two, three], "slack")
    assert "T0KEN" not in str(caught.value)
