from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from churn_radar.errors import OperatorMustAct, RecordUnavailable, RetryLater
from churn_radar.intake.events import ChurnEvent, to_arrival, understand
from churn_radar.intake.payload import Event
from churn_radar.store.arrivals import Accepted, Verdict
from churn_radar.store.briefs import list_briefs
from churn_radar.store.deliveries import deliveries_of
from churn_radar.store.record import open_record
from churn_radar.store.signals import history
from churn_radar.store.tables import Status, signals
from churn_radar.work.due import PutOff
from churn_radar.work.engine import Engine
from churn_radar.work.feeder import Feeder, Source
from churn_radar.work.joining import JoinRule
from churn_radar.work.replay import replay
from churn_radar.work.steps import utc_now
from churn_radar.work.tasks import Again, Done, Outcome, Step, Task
from tests.support.shift import GRACE, Upstreams, shift
from tests.support.work import ListSink, payload, settings_for, until


async def test_what_the_door_accepts_is_carried_to_its_brief_and_its_sinks(tmp_path: Path) -> None:
    upstreams, sink = Upstreams(), ListSink()
    async with shift(tmp_path, upstreams, sinks=[sink]) as at_work:
        [event_id] = await at_work.arrive(payload("one"))
        await at_work.all_become(Status.BRIEFED, 1)

        async def delivered() -> bool:
            return len(sink.briefs) == 1

        await until(delivered, "the delivery")
        assert sink.briefs[0].event_ids == [event_id]


async def test_duplicates_and_quarantined_bodies_start_no_work(tmp_path: Path) -> None:
    async with shift(tmp_path, Upstreams()) as at_work:
        at_work.worker.accepted([Accepted(Verdict.DUPLICATE, "e"), Accepted(Verdict.QUARANTINED, "e")])
        await asyncio.sleep(0)

        assert sum((await at_work.worker.backlog()).values()) == 0


async def test_a_blast_comes_to_an_end_each_once(tmp_path: Path) -> None:
    upstreams = Upstreams()
    async with shift(tmp_path, upstreams, mavera_concurrency=50) as at_work:
        await asyncio.gather(*(at_work.arrive(payload(f"customer-{n}")) for n in range(60)))
        await at_work.all_become(Status.BRIEFED, 60)

    assert len(upstreams.looked_up) == len(upstreams.asked) == 60


async def test_the_dearest_customer_is_researched_first(tmp_path: Path) -> None:
    upstreams = Upstreams(mrr={"first": "1", "small": "10", "large": "9000", "middle": "300"})
    upstreams.may_answer.clear()
    async with shift(tmp_path, upstreams, mavera_concurrency=1) as at_work:
        await at_work.arrive(payload("first"))
        await at_work.all_become(Status.RESEARCHING, 1)
        await at_work.arrive(payload("small"), payload("large"), payload("middle"))
        await at_work.all_become(Status.WAITING, 3)
        upstreams.may_answer.set()
        await at_work.all_become(Status.BRIEFED, 4)

    order = [next(name for name in upstreams.mrr if name[::-1] in line.lower()) for line in upstreams.asked]
    assert order == ["first", "large", "middle", "small"]


async def test_no_more_calls_to_mave_are_under_way_than_the_setting_allows(tmp_path: Path) -> None:
    upstreams = Upstreams()
    upstreams.may_answer.clear()
    async with shift(tmp_path, upstreams, mavera_concurrency=3) as at_work:
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(8)))
        await at_work.all_become(Status.RESEARCHING, 3)
        await at_work.all_become(Status.WAITING, 5)
        assert len(upstreams.asked) == 3
        upstreams.may_answer.set()
        await at_work.all_become(Status.BRIEFED, 8)


async def test_a_failure_is_made_good_by_the_ladder_without_anybody_doing_anything(tmp_path: Path) -> None:
    upstreams = Upstreams(errors=[RetryLater("mavera", "busy", status=503) for _ in range(3)])
    async with shift(tmp_path, upstreams) as at_work:
        [event_id] = await at_work.arrive(payload("one"))
        await at_work.all_become(Status.BRIEFED, 1)

        async with at_work.record.read() as connection:
            story = await history(connection, await at_work.signal(event_id))
        assert [step.attempt for step in story if step.status == "waiting"] == [0, 1, 2, 3]


async def test_the_ladder_ends_in_a_dead_letter(tmp_path: Path) -> None:
    upstreams = Upstreams(errors=[RetryLater("mavera", "busy", status=503) for _ in range(4)])
    async with shift(tmp_path, upstreams) as at_work:
        [event_id] = await at_work.arrive(payload("one"))
        await at_work.all_become(Status.DEAD, 1)

        assert "gave up after 4 attempts" in ((await at_work.signal(event_id)).reason or "")


async def test_spent_credits_wait_for_the_operator_and_go_on_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("churn_radar.work.troubles.PROBE_DELAYS", (timedelta(seconds=0.2),))
    spent = OperatorMustAct("mavera", "credits are spent", status=402)
    upstreams = Upstreams(errors=[spent] * 3)
    async with shift(tmp_path, upstreams, mavera_concurrency=1) as at_work:
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(6)))

        async def troubled() -> bool:
            return at_work.worker.floor.troubles.current == {"mavera": "credits are spent"}

        await until(troubled, "the trouble")
        await at_work.all_become(Status.BRIEFED, 6)

        assert at_work.worker.floor.troubles.current == {}
    assert len(upstreams.asked) == 3 + 6


async def test_a_replay_by_hand_does_not_wait_for_the_next_probe(tmp_path: Path) -> None:
    upstreams = Upstreams(errors=[OperatorMustAct("mavera", "credits are spent", status=402)])
    async with shift(tmp_path, upstreams) as at_work:
        [event_id] = await at_work.arrive(payload("one"))

        async def troubled() -> bool:
            return bool(at_work.worker.floor.troubles.current)

        await until(troubled, "the trouble")
        await at_work.all_become(Status.WAITING, 1)
        signal = await at_work.signal(event_id)
        replayed = await at_work.record.write(
            lambda connection: replay(
                connection, signal, alert_events=("unsubscribed",), rule=JoinRule(), now=utc_now()
            )
        )
        await at_work.worker.replayed(replayed.tasks)

        await at_work.all_become(Status.BRIEFED, 1)


# -- restarts


@pytest.mark.parametrize("status", [Status.RECEIVED, Status.WAITING, Status.RESEARCHING])
async def test_a_restart_takes_up_what_was_unfinished(tmp_path: Path, status: Status) -> None:
    upstreams = Upstreams()
    upstreams.may_answer.clear()
    async with shift(tmp_path, upstreams, mavera_concurrency=1, grace=timedelta()) as at_work:
        await at_work.arrive(payload("one"))
        await at_work.all_become(Status.RESEARCHING, 1)
        if status is not Status.RESEARCHING:
            await at_work.record.write(lambda c: c.execute(update(signals).values(status=status)))
    upstreams.may_answer.set()

    async with shift(tmp_path, upstreams) as at_work:
        await at_work.all_become(Status.BRIEFED, 1)


async def test_an_interrupted_forced_research_is_taken_up_although_an_earlier_brief_is_there(tmp_path: Path) -> None:
    upstreams = Upstreams()
    async with shift(tmp_path, upstreams) as at_work:
        await at_work.arrive(payload("one"))
        await at_work.all_become(Status.BRIEFED, 1)
        await at_work.record.write(lambda c: c.execute(update(signals).values(status=Status.RESEARCHING)))

    async with shift(tmp_path, upstreams) as at_work:
        await at_work.all_become(Status.BRIEFED, 1)
        async with at_work.record.read() as connection:
            assert len(await list_briefs(connection, limit=10)) == 2


async def test_a_restart_after_the_commit_never_asks_again(tmp_path: Path) -> None:
    upstreams = Upstreams()
    async with shift(tmp_path, upstreams) as at_work:
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(5)))
        await at_work.all_become(Status.BRIEFED, 5)

    for _ in range(2):
        async with shift(tmp_path, upstreams) as at_work:
            assert sum((await at_work.worker.backlog()).values()) == 0
            await asyncio.sleep(0.05)

    assert (len(upstreams.asked), len(upstreams.looked_up)) == (5, 5)


async def test_a_restart_keeps_the_due_time_and_the_attempts(tmp_path: Path) -> None:
    upstreams = Upstreams(errors=[RetryLater("mavera", "busy", status=503)])
    async with shift(tmp_path, upstreams, retry_delays_seconds=(3600,)) as at_work:
        [event_id] = await at_work.arrive(payload("one"))

        async def failed() -> bool:
            return (await at_work.signal(event_id)).attempts == 1

        await until(failed, "the first attempt to fail")
        before = await at_work.signal(event_id)

    async with shift(tmp_path, upstreams, retry_delays_seconds=(3600,)) as at_work:
        await asyncio.sleep(0.1)
        assert await at_work.signal(event_id) == before
        assert (await at_work.worker.backlog())["research"] == 0
    assert len(upstreams.asked) == 1


async def test_a_restart_delivers_what_is_still_owed_and_nothing_twice(tmp_path: Path) -> None:
    upstreams = Upstreams()
    good, bad = ListSink("good"), ListSink("bad", errors=[RuntimeError("down")] * 3)
    async with shift(tmp_path, upstreams, sinks=[good, bad], retry_delays_seconds=(0.4,) * 9) as at_work:
        await at_work.arrive(payload("one"))

        async def tried() -> bool:
            async with at_work.record.read() as connection:
                owed = {d.sink: (d.status.value, d.attempts) for d in await deliveries_of(connection, 1)}
            return owed == {"good": ("delivered", 1), "bad": ("pending", 1)}

        await until(tried, "both sinks to be tried")
    bad.errors.clear()

    async with shift(tmp_path, upstreams, sinks=[good, bad]) as at_work:

        async def delivered() -> bool:
            async with at_work.record.read() as connection:
                return {d.status.value for d in await deliveries_of(connection, 1)} == {"delivered"}

        await until(delivered, "the delivery that was owed")
    assert (len(good.briefs), len(bad.briefs)) == (1, 1)


async def test_a_backlog_larger_than_any_window_is_carried_to_its_end_dearest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("TRIAGE_CONCURRENCY", 5), ("RESEARCH_WINDOW", 6), ("DELIVER_WINDOW", 4)):
        monkeypatch.setattr(f"churn_radar.work.worker.{name}", size)
    names = [f"customer-{n}" for n in range(25)]
    async with open_record(settings_for(tmp_path).database_url) as record:
        for name in names:
            understood = understand(Event.model_validate(payload(name)), ("unsubscribed",))
            assert isinstance(understood, ChurnEvent)
            record.accept_soon(to_arrival(understood, received_at=utc_now(), source="webhook"))
    upstreams, sink = Upstreams(mrr={name: str(n * 37 % 29) for n, name in enumerate(names)}), ListSink()
    upstreams.may_answer.clear()

    async with shift(tmp_path, upstreams, sinks=[sink], mavera_concurrency=1, aging_mrr_per_hour=0) as at_work:
        await at_work.all_become(Status.WAITING, 24)
        upstreams.may_answer.set()

        async def delivered() -> bool:
            return len(sink.briefs) == 25

        await until(delivered, "every delivery", seconds=30)

    researched = [brief.mrr for brief in sorted(sink.briefs, key=lambda brief: brief.created_at)]
    assert researched[1:] == sorted(researched[1:], reverse=True)
    assert len(upstreams.looked_up) == len(upstreams.asked) == 25


async def test_more_than_a_page_of_put_off_signals_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churn_radar.work.feeder.PAGE", 10)
    upstreams = Upstreams(errors=[RetryLater("mavera", "busy", status=503) for _ in range(35)])
    async with shift(tmp_path, upstreams, retry_delays_seconds=(3600,), mavera_concurrency=50) as at_work:
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(35)))

        async def all_failed() -> bool:
            return not upstreams.errors

        await until(all_failed, "every first attempt to fail")
        await at_work.all_become(Status.WAITING, 35)
        await at_work.record.write(lambda c: c.execute(update(signals).values(due_at=utc_now())))

    async with shift(tmp_path, upstreams, mavera_concurrency=50) as at_work:
        await at_work.all_become(Status.BRIEFED, 35)


# -- stops


async def test_a_stop_lets_research_finish_and_keeps_its_brief(tmp_path: Path) -> None:
    upstreams = Upstreams()
    upstreams.may_answer.clear()
    async with shift(tmp_path, upstreams) as at_work:
        await at_work.arrive(payload("one"))
        await at_work.all_become(Status.RESEARCHING, 1)
        stopping = asyncio.create_task(at_work.worker.stop(GRACE))
        await asyncio.sleep(0.02)
        assert not stopping.done()
        upstreams.may_answer.set()

        assert await stopping is True
        assert await at_work.counts() == {"briefed": 1}
        assert not at_work.worker.healthy


async def test_a_stop_whose_grace_is_over_leaves_nothing_half_done(tmp_path: Path) -> None:
    upstreams = Upstreams()
    upstreams.may_answer.clear()
    async with shift(tmp_path, upstreams) as at_work:
        await at_work.arrive(payload("one"))
        await at_work.all_become(Status.RESEARCHING, 1)

        assert await at_work.worker.stop(timedelta(seconds=0.05)) is False
        assert await at_work.counts() == {"researching": 1}


async def test_what_arrives_after_a_stop_waits_for_the_next_start(tmp_path: Path) -> None:
    upstreams = Upstreams()
    async with shift(tmp_path, upstreams) as at_work:
        await at_work.worker.stop(GRACE)
        await at_work.arrive(payload("one"))
        await asyncio.sleep(0.05)
        assert await at_work.counts() == {"received": 1}

    async with shift(tmp_path, upstreams) as at_work:
        await at_work.all_become(Status.BRIEFED, 1)


async def test_a_broken_sink_keeps_no_brief_from_the_others(tmp_path: Path) -> None:
    good, bad = ListSink("good"), ListSink("bad", errors=[RuntimeError("down") for _ in range(100)])
    async with shift(tmp_path, Upstreams(), sinks=[bad, good]) as at_work:
        await at_work.arrive(*(payload(f"customer-{n}") for n in range(10)))

        async def delivered() -> bool:
            return len(good.briefs) == 10 and bad.calls == 40

        await until(delivered, "ten briefs, and four attempts at each that is broken")
        await asyncio.sleep(0.15)
    assert (len(good.briefs), bad.calls) == (10, 40)


# -- the feeder


@dataclass
class Fed:
    """An engine fed from a list, as if that were the record; each job ends when it gets a permit.

    A job's priority is its number when they are `ranked`, else they are all alike. The engine alone puts off those that
    are `put_off`.
    """

    ranked: bool = False
    waiting: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    put_off: set[int] = field(default_factory=set)
    permits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    errors: list[Exception] = field(default_factory=list)

    def task(self, seq: int) -> Task:
        return Task(Step.TRIAGE, seq, seq if self.ranked else 0)

    def permit(self, count: int = 10_000) -> None:
        for _ in range(count):
            self.permits.release()

    async def handler(self, seq: int) -> Outcome:
        self.done.append(seq)
        if seq in self.put_off:
            return Again(timedelta(hours=1))
        await self.permits.acquire()
        if seq in self.waiting:
            self.waiting.remove(seq)
        return Done()

    async def next_tasks(self, _: object, limit: int) -> list[Task]:
        if self.errors:
            raise self.errors.pop()
        return [self.task(seq) for seq in self.waiting[:limit]]

    async def next_due(self, _: object) -> None:
        return None

    async def let_go(self, connection: object, *, now: object, limit: int) -> list[Task]:
        raise AssertionError("nothing is ever due")

    def source(self, window: int) -> Source:
        return Source(window, self.next_tasks, PutOff(self.next_due, self.let_go))


@asynccontextmanager
async def feeding(folder: Path, fed: Fed, *, window: int, concurrency: int = 100) -> AsyncIterator[Feeder]:
    engine = Engine()
    engine.register(Step.TRIAGE, fed.handler, concurrency=concurrency)
    async with open_record(settings_for(folder).database_url) as record:
        feeder = Feeder(engine, record, {Step.TRIAGE: fed.source(window)}, now=utc_now)
        engine.start()
        feeder.start()
        try:
            yield feeder
        finally:
            await feeder.stop()
            # Or the record would be closed under what it reads.
            assert not feeder.healthy
            await engine.stop(timedelta())


async def becomes_done(fed: Fed, seq: int, times: int = 1) -> None:
    async def done() -> bool:
        return fed.done.count(seq) == times

    await until(done, f"{seq} to be done {times} times, after {fed.done}")


async def test_a_replay_of_what_was_put_off_is_not_forgotten_when_the_window_is_full(tmp_path: Path) -> None:
    fed = Fed(waiting=[7], put_off={7})
    async with feeding(tmp_path, fed, window=2) as feeder:
        await becomes_done(fed, 7)
        fed.waiting.clear()
        await feeder.offer([fed.task(1), fed.task(2)])
        await becomes_done(fed, 2)
        fed.waiting.append(7)
        await feeder.offer([fed.task(7)])
        fed.permit()

        await becomes_done(fed, 7, times=2)


async def test_what_is_put_off_does_not_hide_what_comes_after_it(tmp_path: Path) -> None:
    """The deliveries of a sink that hangs are the oldest that are owed, and stay so."""
    fed = Fed(waiting=[*range(1, 31), 99], put_off=set(range(1, 31)))
    fed.permit()
    async with feeding(tmp_path, fed, window=4):
        await becomes_done(fed, 99)


async def held(feeder: Feeder) -> int:
    return (await feeder._engine.backlog())["triage"]


async def first_reading(fed: Fed, feeder: Feeder) -> None:
    async def over() -> bool:
        return not any(window.more_in_record for window in feeder._windows.values())

    await until(over, "the first reading of the record")


async def test_of_a_blast_the_engine_holds_the_best_and_not_all(tmp_path: Path) -> None:
    fed = Fed(ranked=True)
    async with feeding(tmp_path, fed, window=10, concurrency=1) as feeder:
        await first_reading(fed, feeder)
        order = [1 + n * 37 % 401 for n in range(400)]
        for seq in order:
            fed.waiting = sorted([*fed.waiting, seq], reverse=True)
            await feeder.offer([fed.task(seq)])

        assert await held(feeder) < 100
        fed.permit(30)
        await becomes_done(fed, max(order) - 20)
        assert fed.done[1:] == sorted(fed.done[1:], reverse=True)


async def test_ever_dearer_work_in_the_record_does_not_fill_the_engine(tmp_path: Path) -> None:
    """As when thousands come due, the cheapest first."""
    fed = Fed(ranked=True)
    async with feeding(tmp_path, fed, window=10, concurrency=1) as feeder:
        await first_reading(fed, feeder)
        window = feeder._windows[Step.TRIAGE]
        for dearest in range(40, 401, 40):
            fed.waiting = list(range(dearest, 0, -1))
            window.leave(dearest)
            feeder._hungry.set()

            async def read(dearest: int = dearest) -> bool:
                return dearest in window.held or dearest in fed.done

            await until(read, f"{dearest} to be read")

        assert await held(feeder) <= 10 * 10 + 1
        fed.permit(4)
        await becomes_done(fed, 397)
        assert fed.done == [40, 400, 399, 398, 397]


async def test_nobody_cheaper_overtakes_who_was_left_in_the_record(tmp_path: Path) -> None:
    fed = Fed(ranked=True)
    async with feeding(tmp_path, fed, window=4, concurrency=1) as feeder:
        await first_reading(fed, feeder)
        for seq in (50, 45, 42, 40, 39):
            fed.waiting.append(seq)
            await feeder.offer([fed.task(seq)])
        assert await held(feeder) == 4
        fed.permit(1)
        await becomes_done(fed, 45)
        fed.waiting.append(38)
        await feeder.offer([fed.task(38)])
        assert 38 not in feeder._windows[Step.TRIAGE].held
        fed.permit()
        await becomes_done(fed, 38)

    assert fed.done == [50, 45, 42, 40, 39, 38]


async def test_a_record_that_cannot_be_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churn_radar.work.feeder.RECORD_RETRY_SECONDS", 0.01)
    fed = Fed(waiting=[1], errors=[RecordUnavailable("locked"), RecordUnavailable("locked")])
    async with feeding(tmp_path, fed, window=4) as feeder:
        await becomes_done(fed, 1)
        assert feeder.healthy


async def test_a_feeder_that_dies_is_not_healthy_and_says_what_of(tmp_path: Path) -> None:
    fed = Fed(waiting=[1], errors=[ZeroDivisionError("jane@acme.co")])
    with capture_logs() as told:
        async with feeding(tmp_path, fed, window=4) as feeder:

            async def dead() -> bool:
                return not feeder.healthy

            await until(dead, "the feeder to die")
            await asyncio.sleep(0)

    assert "work.feeder_died" in [line["event"] for line in told]
