from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from churn_radar.errors import NotStorable, RecordUnavailable
from churn_radar.store.arrivals import Accepted, Verdict
from churn_radar.store.record import open_record
from churn_radar.store.thread import Work
from churn_radar.store.writer import MAX_BATCH, MAX_UNITS
from tests.support.door import House, arrival, fill_disk, held, house, insert_into, unstorable


def inserting(key: str, *, fails_with: Exception | None = None, runs: list[str] | None = None) -> Work[str]:
    """A unit of work that inserts one signal, and may fail afterwards."""

    async def work(connection: AsyncConnection) -> str:
        if runs is not None:
            runs.append(key)
        await insert_into(connection, [arrival(key)])
        if fails_with is not None:
            raise fails_with
        return f"done {key}"

    return work


async def kept(home: House) -> list[str | None]:
    return [signal.event_id for signal in await home.signals()]


async def all_of(*attempts: Any) -> list[Any]:
    """Everything at once, failures as values."""
    return list(await asyncio.gather(*attempts, return_exceptions=True))


async def begun() -> None:
    """Let the writer take what is queued into a commit: it needs a few turns of the loop, and no time."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_rows_that_wait_together_share_one_commit(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        outcomes = await all_of(*(home.record.accept(arrival(f"{i}")) for i in range(MAX_BATCH)))
        assert [each.verdict for each in outcomes] == [Verdict.ACCEPTED] * MAX_BATCH
        assert [len(commit) for commit in home.commits] == [MAX_BATCH]


async def test_a_blast_is_taken_in_batches_of_a_bounded_size(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await all_of(*(home.record.accept(arrival(f"{i}")) for i in range(2 * MAX_BATCH + 8)))
        assert [len(commit) for commit in home.commits] == [MAX_BATCH, MAX_BATCH, 8]
        assert len(await home.signals()) == 2 * MAX_BATCH + 8


async def test_each_caller_gets_its_own_outcome(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        keys = ["a", "b", "a", "c", "b"]
        outcomes = await all_of(*(home.record.accept(arrival(key)) for key in keys))
        assert [each.public_id for each in outcomes] == keys
        assert [each.verdict.value for each in outcomes] == [
            "accepted",
            "accepted",
            "duplicate",
            "accepted",
            "duplicate",
        ]
        numbers = {signal.event_id: signal.seq for signal in await home.signals()}
        assert [each.seq for each in outcomes] == [numbers["a"], numbers["b"], None, numbers["c"], None]


async def test_rows_and_units_of_work_share_a_commit(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        row, unit = await all_of(home.record.accept(arrival("row")), home.record.write(inserting("unit")))
        assert (row.verdict, unit) == (Verdict.ACCEPTED, "done unit")
        assert await kept(home) == ["row", "unit"]
        assert [len(commit) for commit in home.commits] == [1]


async def test_a_row_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with capture_logs() as lines:
            before, poison, after, unit = await all_of(
                home.record.accept(arrival("before")),
                home.record.accept(unstorable("poison")),
                home.record.accept(arrival("after")),
                home.record.write(inserting("unit")),
            )
        assert (before.verdict, after.verdict, unit) == (Verdict.ACCEPTED, Verdict.ACCEPTED, "done unit")
        assert isinstance(poison, NotStorable)
        assert await kept(home) == ["before", "after", "unit"]
        # Told by its kind: the driver's own words quote values.
        assert [line["cause"] for line in lines] == ["UnicodeEncodeError"]


async def test_a_full_disk_is_not_laid_at_the_rows_door(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await fill_disk(home.record)
        fates = await all_of(*(home.record.accept(arrival(str(n), facts={"subject": "x" * 5000})) for n in range(3)))
        # Else a worker would quarantine what only has to wait.
        assert {type(fate) for fate in fates} == {RecordUnavailable}


@pytest.mark.parametrize("told", [{"metric": "\ud800"}, {"metric": object()}, {"occurred_at": "now"}, {"kind": 2**70}])
async def test_the_writer_outlives_whatever_cannot_be_bound(tmp_path: Path, told: dict[str, Any]) -> None:
    async with house(tmp_path) as home:
        with pytest.raises(RecordUnavailable):
            await home.record.accept(arrival("poison", **told))
        assert (await home.record.accept(arrival("next"))).verdict is Verdict.ACCEPTED


async def test_a_failing_unit_of_work_is_rolled_back_alone_and_tells_its_caller_why(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first, failing, last, row = await all_of(
            home.record.write(inserting("first")),
            home.record.write(inserting("failing", fails_with=ValueError("no such plan"))),
            home.record.write(inserting("last")),
            home.record.accept(arrival("row")),
        )
        assert (first, last, row.verdict) == ("done first", "done last", Verdict.ACCEPTED)
        assert isinstance(failing, ValueError)
        assert str(failing) == "no such plan"
        assert sorted(filter(None, await kept(home))) == ["first", "last", "row"]


async def test_a_unit_of_work_whose_statement_is_refused_is_rolled_back_alone(tmp_path: Path) -> None:
    async def broken(connection: AsyncConnection) -> None:
        await insert_into(connection, [arrival("broken")])
        await connection.execute(
            text("INSERT INTO signal_history (signal_seq, at, status, attempt) VALUES (1, 1, NULL, 0)")
        )

    async with house(tmp_path) as home:
        good, bad = await all_of(home.record.write(inserting("good")), home.record.write(broken))
        assert good == "done good"
        assert isinstance(bad, Exception)
        assert await kept(home) == ["good"]


async def test_while_another_program_holds_the_record_the_event_loop_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - began)

        watching = asyncio.create_task(watch())
        with held(home.path):
            # The rows' failed commit leaves a trace, which is let go of while the work waits for the lock.
            rows = [home.record.accept(arrival(f"row {i}")) for i in range(3)]
            works = [home.record.write(inserting(f"{i}")) for i in range(3)]
            assert all(isinstance(each, RecordUnavailable) for each in await all_of(*works, *rows))
        watching.cancel()
        # The lock is waited for in pieces of a second and a half, on a thread of its own.
        assert longest < 1


async def test_work_that_has_to_run_twice_counts_once(tmp_path: Path) -> None:
    runs: list[str] = []
    async with house(tmp_path) as home:
        unit, poison = await all_of(
            home.record.write(inserting("unit", runs=runs)), home.record.accept(unstorable("poison"))
        )
        assert unit == "done unit"
        assert isinstance(poison, RecordUnavailable)
        assert await kept(home) == ["unit"]


async def test_a_slow_commit_answers_unavailable_in_time_and_the_retry_finds_what_was_kept(tmp_path: Path) -> None:
    async with house(tmp_path, commit_timeout_seconds=0.1) as home:
        with held(home.path):
            first = home.record.accept_soon(arrival("a"))
            await begun()
            # The second waits behind the first, and no longer than the first.
            second = home.record.accept_soon(arrival("b"))
            async with asyncio.timeout(30):
                failed = await all_of(first, second)
            assert [type(each) for each in failed] == [RecordUnavailable] * 2
            assert ["too long" in str(each) for each in failed] == [True] * 2
        retried = await all_of(home.record.accept(arrival("a")), home.record.accept(arrival("b")))
        # The one in the commit was kept after all; the one behind it was refused before its turn came, and left out.
        assert [each.verdict for each in retried] == [Verdict.DUPLICATE, Verdict.ACCEPTED]
        assert await kept(home) == ["a", "b"]
        # The work on what was committed begins all the same, and once.
        told = [outcome for commit in home.commits for outcome in commit]
        assert [each.public_id for each in told if each.verdict is Verdict.ACCEPTED] == ["a", "b"]


async def test_with_too_many_waiting_the_next_is_refused_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, max_waiting=3) as home:
        with held(home.path):
            waiting = [home.record.accept_soon(arrival("0"))]
            await begun()
            waiting += [home.record.accept_soon(arrival(f"{i}")) for i in (1, 2)]
            assert home.record.waiting == 3
            with pytest.raises(RecordUnavailable, match="too many"):
                home.record.accept_soon(arrival("3"))
            assert not any(each.done() for each in waiting)
        assert [each.verdict for each in await all_of(*waiting)] == [Verdict.ACCEPTED] * 3
        assert home.record.waiting == 0
        assert (await home.record.accept(arrival("3"))).verdict is Verdict.ACCEPTED


async def test_those_who_gave_up_waiting_still_count_until_their_rows_are_written(tmp_path: Path) -> None:
    async with house(tmp_path, max_waiting=1, commit_timeout_seconds=0.05) as home:
        with held(home.path):
            with pytest.raises(RecordUnavailable, match="too long"):
                await home.record.accept(arrival("0"))
            with pytest.raises(RecordUnavailable, match="too many"):
                await home.record.accept(arrival("1"))


async def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        rows = [home.record.accept_soon(arrival(f"{i}")) for i in range(MAX_BATCH + 5)]
        unit = asyncio.ensure_future(home.record.write(inserting("unit")))
        await asyncio.sleep(0)
    assert all(row.result().verdict is Verdict.ACCEPTED for row in rows)
    assert await unit == "done unit"
    async with house(tmp_path) as home:
        assert len(await home.signals()) == MAX_BATCH + 6


async def test_the_writer_outlives_callers_who_are_cancelled(tmp_path: Path) -> None:
    runs: list[str] = []
    async with house(tmp_path) as home:
        with held(home.path):
            leaving = [
                asyncio.ensure_future(home.record.accept(arrival("row in a commit"))),
                asyncio.ensure_future(home.record.write(inserting("unit in a commit", runs=runs))),
            ]
            staying = asyncio.ensure_future(home.record.write(inserting("neighbour", runs=runs)))
            await begun()
            leaving += [
                asyncio.ensure_future(home.record.accept(arrival("row in the queue"))),
                asyncio.ensure_future(home.record.write(inserting("unit in the queue", runs=runs))),
            ]
            await asyncio.sleep(0)
            for each in leaving:
                each.cancel()
            assert [type(each) for each in await all_of(*leaving)] == [asyncio.CancelledError] * 4
        async with asyncio.timeout(30):
            assert await staying == "done neighbour"
            assert await home.record.write(inserting("next", runs=runs)) == "done next"
        assert (await home.record.accept(arrival("row"))).verdict is Verdict.ACCEPTED
        assert len(runs) == len(set(runs))


async def test_a_failing_unit_whose_caller_was_cancelled_does_no_harm(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with held(home.path):
            unit = asyncio.ensure_future(home.record.write(inserting("unit", fails_with=ValueError())))
            await begun()
            unit.cancel()
        assert await home.record.write(inserting("next")) == "done next"
        assert await kept(home) == ["next"]


@contextlib.contextmanager
def broken_log() -> Iterator[None]:
    """Every line that is logged raises."""

    def raising(*_: object) -> str:
        raise BrokenPipeError(32, "Broken pipe")

    structlog.configure(processors=[raising], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.reset_defaults()


async def test_a_log_that_fails_does_not_end_the_writer_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    def not_handed_over(_: object) -> None:
        raise ValueError

    async def spoiling(connection: AsyncConnection) -> None:
        await connection.execute(text("ROLLBACK"))

    with broken_log():
        async with (
            asyncio.timeout(30),
            open_record(f"sqlite:///{tmp_path / 'r.db'}", on_accepted=not_handed_over) as it,
        ):
            assert (await it.accept(arrival("a"))).verdict is Verdict.ACCEPTED
            for failing in (it.accept(unstorable("poison")), it.write(spoiling)):
                with pytest.raises(RecordUnavailable):
                    await failing
            assert (await it.accept(arrival("b"))).verdict is Verdict.ACCEPTED
            assert await it.write(inserting("unit")) == "done unit"


async def test_when_the_writer_dies_everybody_who_waits_is_told_and_so_is_who_comes_later(tmp_path: Path) -> None:
    async with asyncio.timeout(30), house(tmp_path) as home:
        with held(home.path), capture_logs() as lines:
            waiting = [
                asyncio.ensure_future(home.record.accept(arrival("row in a commit"))),
                asyncio.ensure_future(home.record.write(inserting("unit in the queue"))),
            ]
            await begun()
            waiting.append(asyncio.ensure_future(home.record.accept(arrival("row in the queue"))))
            await asyncio.sleep(0)
            home.record._rows._task.cancel()  # type: ignore[union-attr]
            told = await all_of(*waiting, home.record.accept(arrival("later")), home.record.write(inserting("later")))
        assert [str(each) for each in told] == ["the record's writer has stopped; restart the service"] * 5
        assert {type(each) for each in told} == {RecordUnavailable}
        assert [line["event"] for line in lines] == ["record.writer_died"]
        with pytest.raises(RecordUnavailable, match="has stopped"):
            await home.record.check()


async def test_a_unit_of_work_under_way_is_told_when_the_writer_dies(tmp_path: Path) -> None:
    async with asyncio.timeout(30), house(tmp_path) as home:
        with held(home.path):
            unit = asyncio.ensure_future(home.record.write(inserting("unit")))
            await begun()
            home.record._rows._task.cancel()  # type: ignore[union-attr]
            with pytest.raises(RecordUnavailable, match="has stopped"):
                await unit


async def test_what_is_written_in_turn_is_kept_in_turn(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for i in range(20):
            accepted: Accepted = await home.record.accept(arrival(f"{i}"))
            assert accepted.seq == i + 1
        assert await kept(home) == [f"{i}" for i in range(20)]


def taking_its_time(done: list[str]) -> Work[None]:
    async def work(connection: AsyncConnection) -> None:
        time.sleep(0.05)  # noqa: ASYNC251  it stands for statements that take that long
        done.append("work")

    return work


async def test_the_doors_rows_go_before_work_that_has_waited_longer(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        order: list[str] = []
        works = [asyncio.create_task(home.record.write(taking_its_time(order))) for _ in range(MAX_UNITS + 3)]
        count = 0
        while not all(work.done() for work in works):
            await home.record.accept(arrival(f"{count}"))
            order.append("door")
            count += 1
        # A turn of work ends after the piece that has taken long.
        assert max(len(each) for each in "".join(each[0] for each in order).split("d")) == 1, order


async def test_events_that_come_one_by_one_do_not_hold_work_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        order: list[str] = []
        works = [asyncio.create_task(home.record.write(taking_its_time(order))) for _ in range(4)]
        count = 0
        while not all(work.done() for work in works):
            await home.record.accept(arrival(f"{count}"))
            order.append("door")
            count += 1
        between = "".join(each[0] for each in order).strip("d").split("w")[1:-1]
        assert max(map(len, between)) <= 2, order


async def test_work_does_not_wait_for_a_door_that_is_calm(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        order: list[str] = []
        await home.record.accept(arrival("0"))
        await all_of(*(home.record.write(taking_its_time(order)) for _ in range(3)))
        assert order == ["work"] * 3
