"""The benchmarks' own machinery, at sizes that take seconds: what they write, and that they measure what they say."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from benchmarks import __main__ as command
from benchmarks import blast, drain, load, plots, record, report, turns
from benchmarks.figures import Course, Figure, Machine, Result, Results, this_machine
from benchmarks.people import PAID, people
from benchmarks.processes import Call, service, standins

from tests.support.service import API_KEY

ROOT = Path(__file__).resolve().parents[2]
RATIO = Figure(name="a <ratio>", unit="", samples=[0.5, 1.5, 0.9], wanted="≥ 1.0", goal=1.0, plot="ratio")
LATENCY = Figure(name="latency", unit="ms", samples=[12.0, 10.0])
RESULT = Result(
    name="ack",
    title="Acknowledging",
    about="A test & nothing more.",
    figures=[RATIO, LATENCY],
    courses=[Course(title="The course", x="seconds", y="events", lines={"sent": [(0, 0), (1, 80)], "done": [(2, 80)]})],
    notes=["a note"],
    command="python -m benchmarks ack --rounds 3",
    date="2026-11-24",
    seconds=61.2,
    machine=Machine(cores=2, architecture="x86_64", system="Linux", python="3.11", sqlite="3.40", sync_milliseconds=1),
)
RESULTS = Results(benchmarks={"ack": RESULT})


def test_a_report_shows_median_spread_goal_command_and_machine(tmp_path: Path) -> None:
    report.write(tmp_path, RESULTS)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| a <ratio> | 0.900 | 0.500 to 1.50 | ≥ 1.0 |" in text
    assert "| latency | 11 ms | 10 to 12 |  |" in text
    assert "`python -m benchmarks ack --rounds 3`, 2026-11-24, 61 s in all." in text
    assert "2 cores (x86_64, Linux), Python 3.11, SQLite 3.40" in text


def test_every_picture_of_a_report_is_there_and_is_well_formed(tmp_path: Path) -> None:
    report.write(tmp_path, RESULTS)
    drawn = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert drawn == ["ack-ratio.svg", "ack-the-course.svg"]
    for name in drawn:
        assert f"](plots/{name})" in (tmp_path / "RESULTS.md").read_text()
        svg = (tmp_path / "plots" / name).read_text()
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314  it is our own text
        assert "prefers-color-scheme: dark" in svg
        assert "<script" not in svg


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    assert report.read(tmp_path) == Results()
    report.write(tmp_path, RESULTS)
    assert report.read(tmp_path) == RESULTS
    assert json.loads((tmp_path / "results.json").read_text())["benchmarks"]["ack"]["figures"][0]["goal"] == 1.0


def test_a_picture_of_a_figure_that_is_gone_goes_too(tmp_path: Path) -> None:
    report.write(tmp_path, RESULTS)
    report.write(tmp_path, Results(benchmarks={"ack": RESULT.model_copy(update={"courses": []})}))
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["ack-ratio.svg"]


def test_a_quick_result_says_that_it_is_one() -> None:
    quick = RESULT.model_copy(update={"quick": True})
    assert "a quick run" in report.markdown(Results(benchmarks={"ack": quick}))
    assert "a quick run" not in report.markdown(RESULTS)


def test_the_machine_is_told_without_its_name_or_paths(tmp_path: Path) -> None:
    told = this_machine(tmp_path).model_dump_json()
    assert str(tmp_path) not in told
    assert set(json.loads(told)) == {"cores", "architecture", "system", "python", "sqlite", "sync_milliseconds"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (3.0, "3"), (0.8734, "0.873"), (12.345, "12.3"), (4071.4, "4,071")],
)
def test_a_number_is_shown_with_the_digits_that_mean_something(value: float, shown: str) -> None:
    assert report.show(value) == shown


@pytest.mark.parametrize("most", [0.003, 0.9, 1, 1.7, 6, 99, 5000, 123_456])
def test_an_axis_reaches_the_largest_value_in_a_few_steps(most: float) -> None:
    ticks = plots.ticks_up_to(most)
    assert ticks[0] == 0
    assert ticks[-2] < most <= ticks[-1]
    assert 4 <= len(ticks) <= 10


def test_an_axis_of_nothing_is_an_axis_all_the_same() -> None:
    assert "</svg>" in plots.bars("none", [Figure(name="429s", unit="", samples=[0, 0])])


def test_a_load_knows_its_percentiles_and_refuses_other_answers() -> None:
    seen = load.Load(4, 2.0, [0.004, 0.001, 0.002, 0.003], {200: 4})
    assert (seen.per_second, seen.milliseconds(0.5), seen.milliseconds(0.99)) == (2.0, 3.0, 4.0)
    assert seen.all_answered() is seen
    with pytest.raises(RuntimeError, match="503"):
        replace(seen, statuses={200: 3, 503: 1}).all_answered()


def test_a_turn_is_judged_by_the_references_on_both_sides() -> None:
    def at(per_second: int) -> load.Load:
        return load.Load(per_second, 1.0, [0.1], {200: per_second})

    assert turns.Turn(at(80), at(50), at(120)).ratio == 0.5


def test_a_workspace_has_no_two_customers_of_one_revenue() -> None:
    made = people(4000)
    assert len({person.attributes["mrr"] for person in made}) == 4000
    worth = sum(person.attributes["plan_type"] in PAID for person in made)
    assert 0.55 < worth / 4000 < 0.65
    assert made == people(4000)


def test_a_blast_names_every_customer_and_no_event_twice() -> None:
    sent = blast.letters(50, 40, 1)
    bodies = [json.loads(letter.partition(b"\r\n\r\n")[2]) for letter in sent]
    assert {body["data"]["customer_id"] for body in bodies} == {f"c{number}" for number in range(40)}
    assert len({body["event_id"] for body in bodies}) == 50


def test_a_dear_customer_who_was_not_researched_stands_behind_all_who_were() -> None:
    sizes = blast.Sizes(customers=40, dearest=3)
    worth = sorted(
        (Decimal(each.attributes["mrr"]) for each in people(40) if each.attributes["plan_type"] in PAID), reverse=True
    )
    assert blast._places([worth[1], worth[5], worth[0]], sizes) == [3, 1, 4]


def test_research_is_counted_in_whole_minutes_from_the_first_call_on() -> None:
    sizes = blast.Sizes(minutes=1)
    calls = [Call(10.0, 11.0, 200), Call(69.0, 71.0, 200), Call(69.5, 69.6, 429), Call(71.0, 72.0, 200)]
    assert blast.Blast(load.Load(0, 1, [], {}), researches=calls).researched(sizes) == 2


def test_the_floor_of_triage_is_full_bulk_calls_at_the_allowed_rate() -> None:
    assert blast.Sizes(customers=4000).floor_seconds == 4.0
    assert blast.Sizes(customers=4001).floor_seconds == 4.1


@pytest.mark.parametrize("which", list(command.BENCHMARKS))
def test_every_benchmark_runs_five_rounds_or_more_unless_told(which: str) -> None:
    full = command.sizes_of(which, quick=False, rounds=None)
    assert getattr(full, "rounds", None) or full.events >= 5
    if hasattr(full, "rounds"):
        assert full.rounds == 5
        assert command.sizes_of(which, quick=True, rounds=7).rounds == 7


def test_a_quick_run_writes_nothing_unless_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "HERE", tmp_path / "here")
    monkeypatch.setattr(command, "run", lambda *_, **__: RESULT)
    assert command.main(["ack", "--quick"]) == 0
    assert "## Acknowledging" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert command.main(["ack", "--quick", "--into", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "RESULTS.md").exists()


def test_a_run_of_one_benchmark_keeps_the_results_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.write(tmp_path, RESULTS)
    monkeypatch.setattr(command, "run", lambda *_, **__: RESULT.model_copy(update={"name": "idle"}))
    command.main(["idle", "--into", str(tmp_path)])
    assert set(report.read(tmp_path).benchmarks) == {"ack", "idle"}


@pytest.mark.parametrize("status", ["done", "waiting", "received"])
def test_a_filled_record_is_sound(tmp_path: Path, status: str) -> None:
    path = tmp_path / "record.db"
    record.fill(path, 40, status=status)
    assert record.counts(path) == ({"briefed": 4, "skipped": 36} if status == "done" else {status: 40})
    assert record.nothing_unfinished(record.counts(path)) is (status == "done")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.acceptance
async def test_a_filled_record_is_served_like_one_that_grew(tmp_path: Path) -> None:
    record.fill(tmp_path / "record.db", 40)
    async with standins(people=1) as upstreams, service(tmp_path, upstreams) as running:
        async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}) as http:
            url = f"http://127.0.0.1:{running.port}/briefs/{record.customer_with_brief(3)}"
            found = (await http.get(url)).raise_for_status().json()
        assert found["customer_id"] == found["items"][0]["customer_id"] == "f30"
        assert found["items"][0]["event_ids"] == [f"01FILL{30:020d}"]
        assert running.resident_bytes() > 10_000_000


async def _accept_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(10_000):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    writer.close()


async def test_whoever_is_measured_takes_turns_with_the_reference() -> None:
    quiet = 0

    async def wait() -> None:
        nonlocal quiet
        quiet += 1

    sizes = turns.Sizes(events=40, rounds=2, warm_up=10)
    async with await asyncio.start_server(_accept_all, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        contenders = [turns.Contender("one", port, quiet=wait), turns.Contender("another", port, "opened")]
        taken = await turns.take_turns(port, contenders, sizes)
    assert {name: len(each) for name, each in taken.items()} == {"one": 2, "another": 2}
    assert all(turn.leg.requests == turn.before.requests == 40 and turn.ratio > 0 for turn in taken["one"])
    assert taken["another"][0].before is taken["one"][0].after
    assert quiet == 3, "once for the warm-up, once for each round"
    figures = {figure.name: figure for figure in turns.figures_of(taken, ratios={"one": 0.5}, most_p99_ms={"one": 40})}
    assert figures["one, ratio to the reference"].wanted == "≥ 0.5"
    assert figures["one, p99"].goal == 40
    assert len(figures["reference, a second"].samples) == 4


def test_calls_are_counted_in_whole_minutes_and_in_their_busiest_window() -> None:
    sizes = drain.Sizes(minutes=1, per_minute=4)
    calls = [Call(began, began + 1, status) for began, status in ((5.0, 200), (6.0, 200), (64.9, 429), (65.0, 200))]
    found = drain.Drained(calls, [Call(0.1 * number, 1, 200) for number in range(21)])
    assert found.share_of_mavera(sizes) == 0.75
    assert found.refused == 1
    assert drain.busiest(calls, 60) == 3
    assert drain.busiest(calls, 0.5) == 2
    assert found.share_of_app_api == pytest.approx(1.0)


@pytest.mark.parametrize("peer", ["procrastinate_queue", "taskiq_streams", "background_tasks"])
def test_a_peer_is_as_short_as_is_said(peer: str) -> None:
    assert len((ROOT / "benchmarks" / "peers" / f"{peer}.py").read_text().splitlines()) <= 60


async def test_what_was_acknowledged_before_a_kill_is_known_one_by_one() -> None:
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        while served < 7 and await reader.read(1000):
            served += 1
            writer.write(b"HTTP/1.1 %d -\r\nContent-Length: 2\r\n\r\n{}" % (503 if served == 2 else 200))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        requests = [b"request %d" % number for number in range(20)]
        answered = await load.run_until_it_dies(port, requests, kill=lambda: None, after=3, connections=1)
    assert answered == [requests[number] for number in (0, 2, 3, 4, 5, 6)]


def test_what_a_benchmark_starts_it_ends() -> None:
    async def started() -> int:
        async with standins(people=1) as upstreams:
            assert await upstreams.researches() == []
            return int(upstreams.mavera.rpartition(":")[2])

    port = asyncio.run(started())
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(load.run(port, [b""], connections=1))
