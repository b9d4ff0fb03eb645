"""What is put off stands in the record and nowhere else; it goes on when its time has come, in its order, once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import OperatorMustAct, RecordUnavailable, RetryLater
from churn_radar.store.due import let_go, next_due
from churn_radar.store.record import open_record
from churn_radar.store.tables import Status, deliveries, signal_history, signals
from churn_radar.work.engine import Engine
from churn_radar.work.steps import utc_now
from churn_radar.work.tasks import Outcome, Step
from churn_radar.work.troubles import WAITS
from tests.support.shift import Shift, Upstreams, shift
from tests.support.work import NOON, Clock, ListSink, payload, settings_for, until

HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set by hand says nothing when it is set; without one nothing here depends on this."""
    monkeypatch.setattr("churn_radar.work.feeder.LOOK_EVERY", timedelta(seconds=0.02))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churn_radar.work.feeder.PAGE", 10)


async def fill(folder: Path, count: int, clock: Callable[[], datetime]) -> None:
    """Signals that are to be triaged, fresh."""
    async with open_record(settings_for(folder).database_url, max_waiting=count) as record:
        asked = Shift(record, None, clock)  # type: ignore[arg-type]
        await asyncio.gather(*(asked.arrive(payload(f"customer-{n}")) for n in range(count)))


async def put_off(folder: Path, until_when: datetime, table: Table = signals, **values: Any) -> None:
    """Put everything in a record that nobody works on off."""
    async with open_record(settings_for(folder).database_url) as record:
        await record.write(lambda c: c.execute(update(table).values(due_at=until_when, **values)))


def finished(at_work: Shift) -> Counter[Step]:
    """Counts from now on how often the engine runs each step."""
    counts: Counter[Step] = Counter()
    on_finished = at_work.worker._engine.on_finished

    def count(step: Step, seq: int, outcome: Outcome) -> None:
        counts[step] += 1
        on_finished(step, seq, outcome)

    at_work.worker._engine.on_finished = count
    return counts


async def due_times(at_work: Shift) -> list[datetime | None]:
    async with at_work.record.read() as connection:
        return list((await connection.execute(select(signals.c.due_at).order_by(signals.c.seq))).scalars())


def windows(at_work: Shift) -> dict[Step, Any]:
    """What the feeder holds of each step."""
    assert at_work.worker._feeder is not None
    return dict(at_work.worker._feeder._windows)


def jobs(at_work: Shift) -> Any:
    """What the engine holds."""
    engine = at_work.worker._engine
    assert isinstance(engine, Engine)
    return engine._queries._jobs


async def looked_again(at_work: Shift, times: int = 3) -> None:
    """Wait until the record has been asked what is due."""
    window = windows(at_work)[Step.DELIVER]
    for _ in range(times):
        before = window.look_at

        async def asked(before: float = before) -> bool:
            return bool(window.look_at != before)

        await until(asked, "a look at what is due")


async def test_thousands_that_are_put_off_leave_the_engine_empty(tmp_path: Path, clock: Clock) -> None:
    upstreams = Upstreams()
    await fill(tmp_path, 5000, clock)
    await put_off(tmp_path, NOON + HOUR)

    async with shift(tmp_path, upstreams, now=clock) as at_work:
        await looked_again(at_work)

        assert not jobs(at_work)
        assert not any(window.put_off or window.held for window in windows(at_work).values())
        assert upstreams.looked_up == []


async def test_what_the_steps_put_off_leaves_the_engine_empty(tmp_path: Path, clock: Clock) -> None:
    upstreams = Upstreams(errors=[RetryLater("mavera", "busy", status=503) for _ in range(40)])
    sink = ListSink(errors=[RuntimeError("down") for _ in range(20)])
    told: dict[str, Any] = {"retry_delays_seconds": (3600,), "mavera_concurrency": 60, "now": clock}
    async with shift(tmp_path, upstreams, sinks=[sink], **told) as at_work:
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(40)))
        await at_work.all_become(Status.WAITING, 40)

        async def all_put_off() -> bool:
            return None not in await due_times(at_work)

        await until(all_put_off, "every first attempt to fail")
        await at_work.arrive(*(payload(f"more-{n}") for n in range(20)))
        await at_work.all_become(Status.BRIEFED, 20)

        async def empty() -> bool:
            return bool(sink.calls == 20 and not jobs(at_work))

        await until(empty, "an empty engine")
        assert not any(window.put_off or window.held for window in windows(at_work).values())

        clock.forward(HOUR * 1.2)
        await at_work.all_become(Status.BRIEFED, 60)

        async def delivered() -> bool:
            return len(sink.briefs) == 60

        await until(delivered, "every delivery")


@pytest.mark.usefixtures("small_pages")
async def test_more_than_a_page_that_is_due_at_once_goes_dearest_first(tmp_path: Path, clock: Clock) -> None:
    names = [f"a{n:02d}z" for n in range(64)]
    prices = dict(zip(names, random.Random(3).sample(range(1, 1000), len(names)), strict=True))
    upstreams = Upstreams(mrr={name: str(price) for name, price in prices.items()})
    upstreams.may_answer.clear()
    told: dict[str, Any] = {"mavera_concurrency": 1, "aging_mrr_per_hour": 0, "now": clock}
    async with shift(tmp_path, upstreams, grace=timedelta(), **told) as at_work:
        await at_work.arrive(*(payload(name) for name in names))
        await at_work.all_become(Status.WAITING, 63)

    async def cheapest_first(connection: AsyncConnection) -> None:
        seqs = (await connection.execute(select(signals.c.seq).order_by(signals.c.priority))).scalars().all()
        for rank, seq in enumerate(seqs):
            due = NOON + timedelta(seconds=1 + rank)
            await connection.execute(
                update(signals).where(signals.c.seq == seq).values(status=Status.WAITING, due_at=due)
            )

    async with open_record(settings_for(tmp_path).database_url) as record:
        await record.write(cheapest_first)
    upstreams.asked.clear()
    upstreams.may_answer.set()

    async with shift(tmp_path, upstreams, **told) as at_work:
        await looked_again(at_work)
        assert upstreams.asked == []
        clock.forward(HOUR)

        async def some() -> bool:
            return len(upstreams.asked) >= 12

        await until(some, "the first calls")

    researched = [next(name for name in names if name[::-1] in line.lower()) for line in upstreams.asked]
    assert researched == sorted(names, key=lambda name: -prices[name])[: len(researched)]


async def test_dearer_ones_that_wait_are_not_overtaken_by_cheaper_ones_that_come_due(
    tmp_path: Path, clock: Clock
) -> None:
    upstreams = Upstreams(mrr={"first": "1", "later": "50", "small": "10", "large": "9000"})
    upstreams.may_answer.clear()
    told: dict[str, Any] = {"mavera_concurrency": 1, "aging_mrr_per_hour": 0, "now": clock}
    async with shift(tmp_path, upstreams, **told) as at_work:
        await at_work.arrive(payload("first"))
        await at_work.all_become(Status.RESEARCHING, 1)
        upstreams.errors.append(RetryLater("mavera", "busy", status=503))
        [later] = await at_work.arrive(payload("later"))
        await at_work.all_become(Status.WAITING, 1)
        await at_work.record.write(
            lambda c: c.execute(update(signals).where(signals.c.event_id == later).values(due_at=NOON + HOUR))
        )
        await at_work.arrive(payload("small"), payload("large"))
        await at_work.all_become(Status.WAITING, 3)
        clock.forward(HOUR)
        await looked_again(at_work)
        upstreams.errors.clear()
        upstreams.may_answer.set()
        await at_work.all_become(Status.BRIEFED, 4)

    order = [next(name for name in upstreams.mrr if name[::-1] in line.lower()) for line in upstreams.asked]
    assert order == ["first", "large", "later", "small"]


# -- clocks


async def test_a_clock_set_back_makes_nothing_due_and_nothing_twice(tmp_path: Path, clock: Clock) -> None:
    upstreams = Upstreams()
    await fill(tmp_path, 30, clock)
    await put_off(tmp_path, NOON + HOUR)

    async with shift(tmp_path, upstreams, now=clock) as at_work:
        clock.forward(timedelta(days=-1))
        await looked_again(at_work)
        assert upstreams.looked_up == []
        clock.now = NOON + HOUR
        await at_work.all_become(Status.BRIEFED, 30)
        clock.now = NOON
        await looked_again(at_work)

    assert len(upstreams.looked_up) == len(upstreams.asked) == 30


async def test_a_clock_set_forward_is_noticed_although_nothing_was_expected_so_soon(
    tmp_path: Path, clock: Clock
) -> None:
    upstreams = Upstreams(errors=[RetryLater("mavera", "busy", status=503)])
    async with shift(tmp_path, upstreams, now=clock, retry_delays_seconds=(86_400,)) as at_work:
        await at_work.arrive(payload("one"))

        async def failed() -> bool:
            return None not in await due_times(at_work)

        await until(failed, "the first attempt to fail")
        clock.forward(timedelta(days=2))
        await at_work.all_become(Status.BRIEFED, 1)


async def test_a_retry_does_not_wait_for_the_next_look_at_what_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("churn_radar.work.feeder.LOOK_EVERY", HOUR)
    upstreams = Upstreams(errors=[RetryLater("mavera", "busy", status=503) for _ in range(3)])
    sink = ListSink(errors=[RuntimeError("down") for _ in range(3)])
    async with shift(tmp_path, upstreams, sinks=[sink]) as at_work:
        await at_work.arrive(payload("one"))

        async def delivered() -> bool:
            return len(sink.briefs) == 1

        await until(delivered, "the fourth attempt of both", seconds=5)


# -- nothing is lost


async def test_what_was_let_go_and_not_begun_when_the_process_died_is_taken_up(tmp_path: Path, clock: Clock) -> None:
    upstreams = Upstreams()
    await fill(tmp_path, 20, clock)
    await put_off(tmp_path, NOON + HOUR)
    async with open_record(settings_for(tmp_path).database_url) as record:
        await record.write(lambda c: let_go(c, range(1, 11)))

    async with shift(tmp_path, upstreams, now=clock) as at_work:
        await at_work.all_become(Status.BRIEFED, 10)
        await looked_again(at_work)
        assert await at_work.counts() == {"briefed": 10, "received": 10}


async def test_a_record_that_fails_while_things_are_let_go_loses_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("churn_radar.work.feeder.RECORD_RETRY_SECONDS", 0.01)
    monkeypatch.setattr("churn_radar.work.feeder.LOOK_EVERY", HOUR)
    monkeypatch.setattr("churn_radar.work.due.let_go", fails_at(let_go, 1))
    # Asked at the start, when they are due, after the failure, and when all is let go.
    monkeypatch.setattr("churn_radar.work.due.next_due", fails_at(next_due, 4, of=Status.RECEIVED))
    upstreams = Upstreams()
    await fill(tmp_path, 15, utc_now)
    await put_off(tmp_path, utc_now() + timedelta(seconds=0.5))

    async with shift(tmp_path, upstreams) as at_work:
        await at_work.all_become(Status.BRIEFED, 15)
        assert at_work.worker.healthy

    assert len(upstreams.asked) == 15


def fails_at(query: Any, number: int, *, of: Status | None = None) -> Any:
    """The query, which fails the so-manieth time that it is asked (of a status)."""
    calls = itertools.count(1)

    async def asked(connection: AsyncConnection, *told: Any, **more: Any) -> Any:
        if of in (None, *told) and next(calls) == number:
            raise RecordUnavailable("locked")
        return await query(connection, *told, **more)

    return asked


async def test_deliveries_that_are_put_off_wait_for_their_time_through_a_restart(tmp_path: Path, clock: Clock) -> None:
    upstreams, sink = Upstreams(), ListSink(errors=[RuntimeError("down") for _ in range(12)])
    told: dict[str, Any] = {"sinks": [sink], "now": clock, "retry_delays_seconds": (3600,)}
    async with shift(tmp_path, upstreams, **told) as at_work:
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(12)))

        async def tried() -> bool:
            return sink.calls == 12

        await until(tried, "every first attempt")
    async with shift(tmp_path, upstreams, **told) as at_work:
        await looked_again(at_work)
        assert sink.calls == 12
        clock.forward(HOUR * 1.2)

        async def delivered() -> bool:
            return len(sink.briefs) == 12

        await until(delivered, "every delivery")
        async with at_work.record.read() as connection:
            assert set((await connection.execute(select(deliveries.c.due_at))).scalars()) == {None}
    assert sink.calls == 24


# -- a trouble that holds many


@pytest.mark.usefixtures("small_pages")
async def test_a_trouble_that_holds_many_costs_a_few_looks_at_each_probe_and_lets_all_go_when_it_ends(
    tmp_path: Path, clock: Clock
) -> None:
    spent = OperatorMustAct("mavera", "credits are spent", status=402)
    upstreams = Upstreams(errors=[spent] * 2)
    async with shift(tmp_path, upstreams, mavera_concurrency=20, now=clock) as at_work:
        at_work.worker.floor.troubles.report("mavera", "credits are spent", clock(), 402)
        event_ids = await at_work.arrive(*(payload(f"customer-{n}") for n in range(60)))

        async def all_held() -> bool:
            return await at_work.counts() == {"waiting": 60} and None not in await due_times(at_work)

        await until(all_held, "all to wait for the operator")
        runs = finished(at_work)
        for probe, minutes in ((1, 1), (2, 2)):
            told_before = await history_of_all(at_work)
            runs.clear()
            clock.forward(timedelta(minutes=minutes, seconds=1))

            async def probed(probe: int = probe) -> bool:
                return len(upstreams.asked) == probe and await all_held()

            await until(probed, "the next probe")
            await looked_again(at_work)
            # Three of each page of ten, and no more than that of what these leave to the next look.
            assert runs[Step.RESEARCH] <= 30
            # Claimed for the call, and back in the line; the others tell nothing new.
            assert await history_of_all(at_work) == told_before + 2
            assert min(due for due in await due_times(at_work) if due) > clock()
        assert ((await at_work.signal(event_ids[-1])).reason or "").startswith(WAITS)

        clock.forward(timedelta(minutes=5, seconds=1))
        await at_work.all_become(Status.BRIEFED, 60)
    assert len(upstreams.asked) == 2 + 60


async def history_of_all(at_work: Shift) -> int:
    async with at_work.record.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(signal_history))).scalar_one())


async def test_what_comes_due_as_the_trouble_ends_is_let_go_and_not_put_off_again(tmp_path: Path, clock: Clock) -> None:
    """Otherwise it would sleep to the next probe, half an hour perhaps, with nobody left to wake it."""
    upstreams = Upstreams()
    async with shift(tmp_path, upstreams, now=clock) as at_work:
        troubles = at_work.worker.floor.troubles
        troubles.report("mavera", "credits are spent", clock(), 402)
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(5)))

        async def all_held() -> bool:
            return await at_work.counts() == {"waiting": 5} and None not in await due_times(at_work)

        await until(all_held, "all to wait for the operator")
        # Before the next probe: those held are on their way to being put off further.
        before_the_probe = update(signals).values(due_at=clock() + timedelta(seconds=30))
        await at_work.record.write(lambda c: c.execute(before_the_probe))
        write = at_work.record.write

        async def ended_meanwhile(work: Any) -> Any:
            at_work.record.write = write  # type: ignore[method-assign]
            troubles.on_recovered = lambda service: None
            troubles.clear("mavera")
            return await write(work)

        at_work.record.write = ended_meanwhile  # type: ignore[method-assign]
        clock.forward(timedelta(seconds=30))

        await at_work.all_become(Status.BRIEFED, 5)
