"""The month's budget: what is counted, who waits when it is spent, and how they go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from churn_radar.research.budget import UNTOLD_CREDITS, CreditsFor, Spent, month_of
from churn_radar.research.mave import MaveAnswer
from churn_radar.simulator.mavera import CHAT
from churn_radar.store.credits import spent_in
from churn_radar.store.due import let_go
from churn_radar.store.tables import Status, credits
from churn_radar.work.spending import Spending
from churn_radar.work.tasks import Again, Done
from tests.support.work import NOON, Workshop, logged, payload, service, until, workshop

DEAR, CHEAP, CHEAPER = "cust_1003", "cust_1005", "cust_1013"
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@asynccontextmanager
async def shop_with(folder: Path, *, spent: int, limit: int | None = 1000, **told: Any) -> AsyncIterator[Workshop]:
    """A workshop with a limit, and so much of it spent this month."""
    async with workshop(folder, monthly_credits=limit, retry_delays_seconds=(60, 300), **told) as shop:
        await spend(shop, spent)
        yield shop


async def spend(shop: Workshop, amount: int, *, at: datetime = NOON, purpose: CreditsFor = CreditsFor.LOST) -> None:
    await shop.record.write(
        lambda connection: connection.execute(insert(credits).values(spent_at=at, amount=amount, purpose=purpose))
    )


async def waiting(shop: Workshop, customer: str) -> int:
    seq = await shop.arrive(payload(customer))
    await shop.triage(seq)
    assert (await shop.signal(seq)).status is Status.WAITING
    return seq


async def sums(shop: Workshop) -> Spent:
    async with shop.record.read() as connection:
        return await spent_in(connection, month_of(shop.clock()), now=shop.clock())


async def ledger(shop: Workshop) -> Sequence[tuple[int, str, int | None, int | None]]:
    async with shop.record.read() as connection:
        rows = await connection.execute(
            select(credits.c.amount, credits.c.purpose, credits.c.signal_seq, credits.c.brief_seq).order_by(
                credits.c.seq
            )
        )
        return [tuple(row) for row in rows]


# -- the ledger


async def test_a_brief_and_what_it_cost_are_there_together(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        seq = await shop.briefed(payload(DEAR))

        [brief] = await shop.briefs()
        assert await ledger(shop) == [(brief.credits_used, "brief", seq, 1)]
        assert await sums(shop) == Spent(brief.credits_used)


async def test_what_is_under_way_is_reserved_and_stays_so_after_a_crash_until_it_counts_as_spent(
    tmp_path: Path,
) -> None:
    async with workshop(tmp_path) as shop:
        seq = await waiting(shop, DEAR)

        class Crash(BaseException):
            pass

        class Dying:
            async def ask(self, message: str) -> MaveAnswer:
                assert await sums(shop) == Spent(0, 0, UNTOLD_CREDITS)
                raise Crash

            async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
                raise AssertionError

        with pytest.raises(Crash):
            await replace(shop.research, mave=Dying())(seq)

        assert await sums(shop) == Spent(0, 0, UNTOLD_CREDITS)
        shop.clock.forward(timedelta(hours=1))
        assert await sums(shop) == Spent(UNTOLD_CREDITS, UNTOLD_CREDITS, 0)


@pytest.mark.parametrize("fault", ["status:503", "status:429", "status:400", "status:401"])
async def test_a_refusal_costs_nothing(tmp_path: Path, fault: str) -> None:
    async with workshop(tmp_path) as shop:
        seq = await waiting(shop, DEAR)
        shop.mavera_faults.add(fault)

        await shop.research(seq)

        assert await ledger(shop) == []


@pytest.mark.parametrize("fault", ["html", "garbage", "hang"])
async def test_a_call_without_a_readable_answer_is_counted_by_estimate(tmp_path: Path, fault: str) -> None:
    async with workshop(tmp_path, timeout_seconds=0.2) as shop:
        seq = await waiting(shop, DEAR)
        shop.mavera_faults.add(fault)

        await shop.research(seq)

        assert await ledger(shop) == [(UNTOLD_CREDITS, "unanswered", seq, None)]
        assert await sums(shop) == Spent(UNTOLD_CREDITS, UNTOLD_CREDITS)


async def test_an_answer_without_a_brief_is_counted_as_it_was_charged(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        seq = await waiting(shop, DEAR)
        shop.mavera_faults.add("empty")

        await shop.research(seq)

        assert await ledger(shop) == [(shop.mavera.credits_used, "lost", seq, None)]


async def test_each_month_begins_with_nothing_spent(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await spend(shop, 70, at=DECEMBER - timedelta(microseconds=1))
        await spend(shop, 5, at=DECEMBER)

        assert await sums(shop) == Spent(70)
        shop.clock.now = DECEMBER
        assert await sums(shop) == Spent(5)


# -- who waits


async def test_a_spent_budget_puts_the_others_off_to_the_next_month_and_says_so(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        seq = await waiting(shop, CHEAP)

        assert await shop.research(seq) == Again(DECEMBER - NOON, in_record=True)

        signal = await shop.signal(seq)
        assert (signal.status, signal.attempts, signal.due_at) == (Status.WAITING, 0, DECEMBER)
        assert signal.reason is not None
        assert signal.reason.startswith("waits for the budget: 1,000 of 1,000 credits of November 2026 spent; ")
        assert shop.mavera.calls[CHAT] == 0
        # The job in the engine may be asked again before that; nothing is told twice.
        before = await shop.story(seq)
        assert await shop.research(seq) == Again(DECEMBER - NOON, in_record=True)
        assert await shop.story(seq) == before


async def test_dear_accounts_are_researched_all_the_same(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000, over_budget_mrr=11_800) as shop:
        dear, next_dearest = await waiting(shop, DEAR), await waiting(shop, "cust_1010")

        assert await shop.research(dear) == Done()
        assert isinstance(await shop.research(next_dearest), Again)

        assert (await shop.signal(dear)).status is Status.BRIEFED
        assert (await shop.signal(next_dearest)).status is Status.WAITING


async def test_what_waits_for_the_next_month_is_researched_then(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        seq = await waiting(shop, CHEAP)
        outcome = await shop.research(seq)
        assert isinstance(outcome, Again)

        shop.clock.forward(outcome.delay)
        assert await shop.research(seq) == Done()

        assert (await shop.signal(seq)).status is Status.BRIEFED


async def test_attempts_that_were_made_before_are_neither_forgotten_nor_added_to(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=999) as shop:
        seq = await waiting(shop, CHEAP)
        shop.mavera_faults.add("status:503")
        failed = await shop.research(seq)
        assert isinstance(failed, Again)
        await spend(shop, 1)
        shop.clock.forward(failed.delay)

        await shop.research(seq)

        signal = await shop.signal(seq)
        assert (signal.status, signal.attempts, signal.due_at) == (Status.WAITING, 1, DECEMBER)


async def test_calls_under_way_do_not_put_off_those_that_come_after(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=999) as shop:
        await spend(shop, 500, purpose=CreditsFor.UNDER_WAY)
        seq = await waiting(shop, CHEAP)

        assert await shop.research(seq) == Done()


async def test_a_budget_is_overrun_by_no_more_than_the_calls_under_way(tmp_path: Path) -> None:
    async with service(tmp_path, monthly_credits=1, over_budget_mrr=10**6, mavera_concurrency=3) as live:
        event_ids = [
            await live.post(payload(f"cust_{number}")) for number in (1001, 1002, 1003, 1005, 1006, 1008, 1009)
        ]

        async def settled() -> bool:
            told = [(await live.http.get(f"/signals/{event_id}")).json() for event_id in event_ids]
            return all(each["status"] == "briefed" or each["next_attempt_at"] for each in told)

        await until(settled, "each to be briefed or put off")
        assert 1 <= live.mavera.calls[CHAT] <= 3


async def test_without_a_limit_nobody_waits(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=10**9, limit=None) as shop:
        assert await shop.research(await waiting(shop, CHEAP)) == Done()


async def test_a_signal_that_waits_for_the_budget_does_not_take_the_operators_probe(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        dear, cheap = await waiting(shop, DEAR), await waiting(shop, CHEAP)
        shop.mavera_faults.add("status:401")
        await shop.research(dear)
        shop.clock.forward(timedelta(hours=1))

        await shop.research(cheap)
        assert await shop.research(dear) == Done()


# -- how they go on


async def test_a_replay_by_hand_spends_beyond_the_budget_also_when_the_first_attempt_fails(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        seq = await waiting(shop, CHEAP)
        await shop.research(seq)
        shop.mavera_faults.add("status:503")

        [failed] = await shop.run((await shop.replay(seq)).tasks)
        assert isinstance(failed, Again)
        assert (await shop.signal(seq)).attempts == 1
        shop.clock.forward(failed.delay)
        assert await shop.research(seq) == Done()

        assert (await shop.signal(seq)).status is Status.BRIEFED


async def test_a_replay_by_hand_counts_also_when_the_signal_has_been_let_go_and_is_in_the_line(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        seq = await waiting(shop, CHEAP)
        await shop.research(seq)
        # As at the turn of the month, before its turn comes in a long line.
        await shop.record.write(lambda connection: let_go(connection, [seq]))

        assert await shop.run((await shop.replay(seq)).tasks) == [Done()]
        assert (await shop.signal(seq)).status is Status.BRIEFED


async def test_a_replay_of_something_else_does_not_decide_about_the_budget(tmp_path: Path) -> None:
    """Whoever replays all dead letters after an outage has not seen that these would cost more than the month has."""
    async with shop_with(tmp_path, spent=999) as shop:
        seq = await waiting(shop, CHEAP)
        shop.mavera_faults.add("status:400")
        await shop.research(seq)
        assert (await shop.signal(seq)).status is Status.DEAD
        await spend(shop, 1)

        [outcome] = await shop.run((await shop.replay(seq)).tasks)

        assert outcome == Again(DECEMBER - NOON, in_record=True)


async def test_a_replay_after_the_wait_for_the_budget_has_ended_does_not_decide_about_it_either(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        seq = await waiting(shop, CHEAP)
        await shop.research(seq)
        shop.clock.now = DECEMBER
        shop.mavera_faults.add("status:400")
        await shop.research(seq)
        assert (await shop.signal(seq)).status is Status.DEAD
        await spend(shop, 1000, at=DECEMBER)

        [outcome] = await shop.run((await shop.replay(seq)).tasks)

        assert isinstance(outcome, Again)
        assert (await shop.signal(seq)).status is Status.WAITING


async def test_a_decision_to_spend_ends_with_the_dead_letter_that_it_was_made_about(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        seq = await waiting(shop, CHEAP)
        await shop.research(seq)
        shop.mavera_faults.add("status:400")
        assert await shop.run((await shop.replay(seq)).tasks) == [Done()]
        assert (await shop.signal(seq)).status is Status.DEAD

        [outcome] = await shop.run((await shop.replay(seq)).tasks)

        assert outcome == Again(DECEMBER - NOON, in_record=True)


async def test_a_dead_letter_that_joins_one_waiting_for_the_budget_does_not_decide_about_that(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=999) as shop:
        dead = await waiting(shop, CHEAP)
        shop.mavera_faults.add("status:400")
        await shop.research(dead)
        await spend(shop, 1)
        leader = await waiting(shop, CHEAP)
        await shop.research(leader)
        before = await shop.signal(leader)

        for _ in range(2):
            replayed = await shop.replay(dead)
            assert (replayed.status, replayed.tasks) == (Status.JOINED, ())

        assert "waits for the budget" in replayed.effect
        assert await shop.signal(leader) == before
        assert await shop.run((await shop.replay(leader)).tasks) == [Done()]
        [brief] = await shop.briefs()
        assert len(brief.event_ids) == 2


async def test_a_raised_limit_lets_go_at_the_next_start(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        seq = await waiting(shop, CHEAP)
        await shop.research(seq)
        spending = shop.research.spending

        assert await spending.resume() == 0
        assert (await shop.signal(seq)).due_at == DECEMBER

        raised = Spending(shop.floor, replace(spending.budget, monthly_credits=1001))
        assert await raised.resume() == 1
        signal = await shop.signal(seq)
        assert (signal.status, signal.due_at, signal.reason) == (Status.WAITING, None, None)
        assert await replace(shop.research, spending=raised)(seq) == Done()


async def test_a_lowered_mrr_lets_those_go_that_it_now_covers(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=1000) as shop:
        covered, uncovered = await waiting(shop, CHEAP), await waiting(shop, CHEAPER)
        for seq in (covered, uncovered):
            await shop.research(seq)
        lowered = Spending(shop.floor, replace(shop.settings.budget, over_budget_mrr=shop.settings.high_mrr - 180))

        assert await lowered.resume() == 1

        assert (await shop.signal(covered)).due_at is None
        assert (await shop.signal(uncovered)).due_at == DECEMBER


async def test_what_was_put_off_for_other_reasons_is_left_alone_at_a_start(tmp_path: Path) -> None:
    async with shop_with(tmp_path, spent=0) as shop:
        seq = await waiting(shop, CHEAP)
        shop.mavera_faults.add("status:503")
        await shop.research(seq)
        due = (await shop.signal(seq)).due_at

        assert await shop.research.spending.resume() == 0

        assert due is not None
        assert (await shop.signal(seq)).due_at == due


async def test_after_a_restart_with_a_higher_limit_the_service_goes_on_by_itself(tmp_path: Path) -> None:
    async with service(tmp_path, monthly_credits=1) as live:
        await live.briefed(payload("cust_1001"))
        event_id = await live.post(payload(CHEAP))

        async def waits() -> bool:
            told = (await live.http.get(f"/signals/{event_id}")).json()
            return str(told["reason"]).startswith("waits for the budget")

        await until(waits, "the signal to wait for the budget")
        assert live.mavera.calls[CHAT] == 1
    async with service(tmp_path, monthly_credits=100_000) as live:
        assert (await live.becomes(event_id, "briefed"))["attempts"] == 0


async def test_a_replay_by_the_api_goes_through_at_once(tmp_path: Path) -> None:
    async with service(tmp_path, monthly_credits=1) as live:
        await live.briefed(payload("cust_1001"))
        event_id = await live.post(payload(CHEAP))

        async def waits() -> bool:
            return bool((await live.http.get(f"/signals/{event_id}")).json()["next_attempt_at"])

        await until(waits, "the signal to be put off")
        assert (await live.http.post(f"/signals/{event_id}/replay")).status_code == 202
        await live.becomes(event_id, "briefed")


# -- what is told


async def test_a_budget_that_runs_low_is_warned_of_once_and_once_more_when_it_is_spent(tmp_path: Path) -> None:
    with logged(tmp_path, log_level="warning") as out:
        async with shop_with(tmp_path, spent=799) as shop:
            for customer in ("cust_1001", "cust_1002"):
                await shop.briefed(payload(customer))
            await spend(shop, 1000)
            for customer in (CHEAP, CHEAPER):
                await shop.research(await waiting(shop, customer))
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
    told = [line for line in lines if line["event"].startswith("budget.")]
    assert [line["event"] for line in told] == ["budget.nearly_spent", "budget.spent"]
    assert told[0]["credits"] >= 800
    assert (told[0]["limit"], told[0]["month"]) == (1000, "November 2026")


async def test_the_sum_of_a_month_is_read_from_the_index_alone(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop, shop.record.read() as connection:
        plan = await connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT sum(CASE WHEN purpose = 'under_way' THEN 0 ELSE amount END) FROM credits"
            " WHERE spent_at >= 1 AND spent_at < 2"
        )
        assert [row["detail"] for row in plan.mappings()] == [
            "SEARCH credits USING COVERING INDEX ix_credits_spent_at (spent_at>? AND spent_at<?)"
        ]
