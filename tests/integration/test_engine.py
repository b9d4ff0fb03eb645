from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from churn_radar.work import attempt as attempt_module
from churn_radar.work import engine as engine_module
from churn_radar.work.engine import Engine
from churn_radar.work.rush import Rush
from churn_radar.work.tasks import Again, Done, Outcome, Step, Task
from tests.support.work import logged, until

GRACE = timedelta(seconds=5)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop(GRACE)


async def seen(done: list[int], count: int, *, seconds: float = 10) -> list[int]:
    async def enough() -> bool:
        return len(done) >= count

    await until(enough, f"{count} jobs (there are {len(done)})", seconds=seconds)
    return done


async def test_the_dearest_goes_first_and_the_oldest_among_equals() -> None:
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=1)
    await engine.enqueue([Task(Step.RESEARCH, seq, priority) for seq, priority in ((1, 5), (2, 900), (3, 5), (4, 70))])

    async with running(engine):
        assert await seen(done, 4) == [2, 4, 1, 3]


async def test_who_comes_later_but_pays_more_overtakes_those_who_still_wait() -> None:
    done: list[int] = []
    first_may_end = asyncio.Event()
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        if seq == 1:
            await first_may_end.wait()
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=1)
    async with running(engine):
        await engine.enqueue([Task(Step.RESEARCH, 1, 10), Task(Step.RESEARCH, 2, 10)])
        await seen(done, 1)
        await engine.enqueue([Task(Step.RESEARCH, 3, 99)])
        first_may_end.set()

        assert await seen(done, 3) == [1, 3, 2]


async def test_a_delayed_task_waits_its_delay_while_others_go_on() -> None:
    done: list[tuple[int, float]] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append((seq, time.monotonic()))
        return Done()

    engine.register(Step.TRIAGE, handler, concurrency=5)
    began = time.monotonic()
    await engine.enqueue([Task(Step.TRIAGE, 1, delay=timedelta(seconds=0.3)), Task(Step.TRIAGE, 2)])

    async with running(engine):

        async def both() -> bool:
            return len(done) == 2

        await until(both, "both tasks")

    assert [seq for seq, _ in done] == [2, 1]
    assert done[1][1] - began >= 0.3


async def test_no_more_than_the_limit_run_at_once() -> None:
    running_now = most = 0
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.005)
        running_now -= 1
        done.append(seq)
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=3)
    await engine.enqueue([Task(Step.RESEARCH, seq) for seq in range(12)])

    async with running(engine):
        await seen(done, 12)

    assert most == 3


async def test_a_step_that_is_full_does_not_hold_up_the_others() -> None:
    done: list[int] = []
    never = asyncio.Event()
    engine = Engine()

    async def stuck(seq: int) -> Outcome:
        await never.wait()
        return Done()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(Step.RESEARCH, stuck, concurrency=2)
    engine.register(Step.TRIAGE, handler, concurrency=2)
    async with running(engine):
        await engine.enqueue([Task(Step.RESEARCH, seq, 1000) for seq in range(200)])
        await engine.enqueue([Task(Step.TRIAGE, seq) for seq in range(20)])
        await seen(done, 20)
        never.set()


async def test_again_comes_back_after_its_delay() -> None:
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Again(timedelta(seconds=0.01)) if len(done) < 3 else Done()

    engine.register(Step.DELIVER, handler, concurrency=1)
    await engine.enqueue([Task(Step.DELIVER, 7)])

    async with running(engine):
        assert await seen(done, 3) == [7, 7, 7]
        await asyncio.sleep(0.15)
        assert done == [7, 7, 7]


async def test_a_handler_that_raises_is_tried_again_and_harms_no_other_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "FAULT_DELAY", timedelta(seconds=0.01))
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        if seq == 1 and done.count(1) == 1:
            raise ValueError("jane@acme.co")
        return Done()

    engine.register(Step.TRIAGE, handler, concurrency=2)
    async with running(engine):
        await engine.enqueue([Task(Step.TRIAGE, 1), Task(Step.TRIAGE, 2)])
        await seen(done, 3)
        await engine.enqueue([Task(Step.TRIAGE, 3)])
        await seen(done, 4)

        assert engine.healthy
        assert sorted(done) == [1, 1, 2, 3]


async def test_the_trace_of_a_raising_handler_tells_no_values(tmp_path: Path) -> None:
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        raise ValueError("jane@acme.co")

    engine.register(Step.TRIAGE, handler, concurrency=2)
    with logged(tmp_path) as out:
        async with running(engine):
            await engine.enqueue([Task(Step.TRIAGE, 1)])
            await seen(done, 1)
            await asyncio.sleep(0.02)

    assert "work.step_failed" in out.getvalue()
    assert "ValueError" in out.getvalue()
    assert "jane" not in out.getvalue()


async def test_a_sinks_own_cancelled_error_is_no_cancelled_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "FAULT_DELAY", timedelta(seconds=0.01))
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        if len(done) == 1:
            raise asyncio.CancelledError
        return Done()

    engine.register(Step.DELIVER, handler, concurrency=1)
    await engine.enqueue([Task(Step.DELIVER, 1)])

    async with running(engine):
        await seen(done, 2)


async def test_what_the_record_brings_back_is_not_kept() -> None:
    done: list[int] = []
    told: list[Outcome] = []
    engine = Engine()
    engine.on_finished = lambda step, seq, outcome: told.append(outcome)

    async def handler(seqs: Sequence[int]) -> list[Outcome]:
        done.extend(seqs)
        return [Again(timedelta(), in_record=True)] * len(seqs)

    engine.register_batches(Step.TRIAGE, handler, concurrency=1, most=10)
    async with running(engine):
        await engine.enqueue([Task(Step.TRIAGE, seq) for seq in range(11)])
        await seen(done, 11)

        async def nothing_held() -> bool:
            return not engine._queries._jobs

        await until(nothing_held, "an empty engine")
    assert (len(done), told) == (11, [Again(timedelta(), in_record=True)] * 11)


async def test_the_same_step_of_the_same_row_never_runs_twice_at_once() -> None:
    running_now: list[int] = []
    clashes: list[int] = []
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        if seq in running_now:
            clashes.append(seq)
        running_now.append(seq)
        await asyncio.sleep(0.05)
        running_now.remove(seq)
        done.append(seq)
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=10)
    engine.register(Step.TRIAGE, handler, concurrency=10)
    await engine.enqueue([Task(Step.RESEARCH, seq) for seq in (1, 1, 1, 2, 2)])

    async with running(engine):
        await seen(done, 4)
        await asyncio.sleep(0.15)

    assert clashes == []
    # Once for all who asked before it began or while it was under way, and once more for the latter.
    assert sorted(done) == [1, 1, 2, 2]


@pytest.mark.parametrize("most", [1, 10])
async def test_a_row_that_is_asked_for_while_it_is_under_way_is_looked_at_once_more(most: int) -> None:
    done: list[int] = []
    may_end = asyncio.Event()
    engine = Engine()

    async def handler(seqs: Sequence[int]) -> list[Outcome]:
        done.extend(seqs)
        await may_end.wait()
        return [Again(timedelta(hours=1), in_record=True)] * len(seqs)

    engine.register_batches(Step.TRIAGE, handler, concurrency=5, most=most)
    async with running(engine):
        await engine.enqueue([Task(Step.TRIAGE, seq) for seq in (1, 2)])
        await seen(done, 2)
        await engine.enqueue([Task(Step.TRIAGE, 1, priority=7)])

        async def dropped() -> bool:
            return bool(engine._once_more)

        await until(dropped, "the second job to be picked up")
        may_end.set()

        await seen(done, 3)
        assert done == [1, 2, 1]


async def test_two_steps_of_the_same_row_do_not_get_into_each_others_way() -> None:
    both = asyncio.Barrier(2)
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        await both.wait()
        done.append(seq)
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=1)
    engine.register(Step.TRIAGE, handler, concurrency=1)
    await engine.enqueue([Task(Step.RESEARCH, 1), Task(Step.TRIAGE, 1)])

    async with running(engine):
        await seen(done, 2)


async def test_a_row_can_be_done_again_once_it_is_over() -> None:
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(Step.TRIAGE, handler, concurrency=1)
    async with running(engine):
        for count in (1, 2, 3):
            await engine.enqueue([Task(Step.TRIAGE, 1)])
            await seen(done, count)


async def test_a_stop_waits_for_what_is_running_and_begins_nothing_more() -> None:
    began: list[int] = []
    ended: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        began.append(seq)
        await asyncio.sleep(0.2)
        ended.append(seq)
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=1)
    engine.start()
    await engine.enqueue([Task(Step.RESEARCH, 1), Task(Step.RESEARCH, 2)])
    await seen(began, 1)

    assert await engine.stop(GRACE) is True
    assert ended == [1]
    assert began == [1]
    assert not engine.healthy


@pytest.mark.parametrize("grace", [0, 0.1])
async def test_a_stop_cancels_what_outlasts_the_grace(grace: float) -> None:
    began: list[int] = []
    cancelled: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        began.append(seq)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(seq)
            raise
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=5)
    engine.start()
    await engine.enqueue([Task(Step.RESEARCH, seq) for seq in (1, 2, 3)])
    await seen(began, 3)

    before = time.monotonic()
    assert await engine.stop(timedelta(seconds=grace)) is False
    assert time.monotonic() - before < grace + 30
    assert sorted(cancelled) == [1, 2, 3]
    assert not engine.healthy


async def test_an_engine_that_never_began_stops_at_once() -> None:
    assert await Engine().stop(GRACE) is True


async def test_the_engines_own_log_and_statistics_do_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CLEAR_LOGS_EVERY", timedelta(seconds=0.05))
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(Step.TRIAGE, handler, concurrency=50)
    queries = engine._queries
    async with running(engine):
        await engine.enqueue([Task(Step.TRIAGE, seq) for seq in range(100)])
        await seen(done, 100)
        await queries.aggregate_logs()

        async def emptied() -> bool:
            return not queries._log and not queries._statistics and not queries._jobs

        await until(emptied, "an empty log, empty statistics and no job left")


async def test_without_the_timer_the_log_would_grow() -> None:
    """The premise of the test above: nothing else empties them."""
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(Step.TRIAGE, handler, concurrency=50)
    async with running(engine):
        await engine.enqueue([Task(Step.TRIAGE, seq) for seq in range(10)])
        await seen(done, 10)

        async def logged() -> bool:
            return len(await engine._queries.queue_log()) >= 30

        await until(logged, "queued, picked and successful of each of ten jobs")


async def test_five_thousand_jobs_pass_each_once() -> None:
    done: list[int] = []
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(Step.TRIAGE, handler, concurrency=100)
    await engine.enqueue([Task(Step.TRIAGE, seq) for seq in range(5000)])

    async with running(engine):
        await seen(done, 5000, seconds=30)

    assert sorted(done) == list(range(5000))


async def test_the_backlog_tells_what_waits_and_runs_by_step() -> None:
    began: list[int] = []
    go_on = asyncio.Event()
    engine = Engine()

    async def handler(seq: int) -> Outcome:
        began.append(seq)
        await go_on.wait()
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=1)
    async with running(engine):
        await engine.enqueue([Task(Step.RESEARCH, seq) for seq in (1, 2, 3)])
        await seen(began, 1)
        assert await engine.backlog() == {"triage": 0, "research": 3, "deliver": 0}
        go_on.set()
        await seen(began, 3)

        async def empty() -> bool:
            return await engine.backlog() == {"triage": 0, "research": 0, "deliver": 0}

        await until(empty, "an empty backlog")


async def test_an_engine_that_dies_is_not_healthy_and_says_what_of(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()

    async def broken(*_: object, **__: object) -> list[object]:
        raise OSError("the queue is gone")

    monkeypatch.setattr(engine._queries, "dequeue", broken)
    with structlog.testing.capture_logs() as told:
        engine.start()

        async def dead() -> bool:
            return not engine.healthy

        await until(dead, "the engine to die")
        await asyncio.sleep(0)

    assert [line["event"] for line in told] == ["work.engine_died"]
    await engine.stop(GRACE)


async def test_nothing_to_enqueue_is_nothing_to_do() -> None:
    engine = Engine()
    await engine.enqueue([])
    assert await engine.backlog() == {"triage": 0, "research": 0, "deliver": 0}


class Gate(Rush):
    """A rush that lasts until it is let end, with a portion of work whenever one is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.portions = asyncio.Semaphore(0)
        self.asked = 0
        self.lasts = True

    async def give_way(self) -> bool:
        self.asked += 1
        if self.lasts:
            await self.portions.acquire()
        return self.lasts


async def test_while_events_rush_in_work_is_taken_job_by_job_and_all_of_it_right_after() -> None:
    done: list[int] = []
    gate = Gate()
    engine = Engine()
    engine.give_way_to(gate)

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=10)
    await engine.enqueue([Task(Step.RESEARCH, seq) for seq in range(6)])

    async def asked(times: int) -> None:
        async def often_enough() -> bool:
            return gate.asked >= times

        await until(often_enough, f"{times} looks for work")

    async with running(engine):
        await asked(1)
        assert done == []
        for portion in (1, 2):
            gate.portions.release()
            await asked(portion + 1)
            assert len(await seen(done, portion)) == portion
        gate.lasts = False
        gate.portions.release()
        assert await seen(done, 6) == [0, 1, 2, 3, 4, 5]
