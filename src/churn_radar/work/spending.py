"""Keeps to the month's budget: puts signals off that it does not cover, lets them go again, warns when it runs low."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.research.budget import Budget, Month, Spent, Standing, month_of, waits_because
from churn_radar.store.credits import let_go, operator_decided, spent_in, waiting_for_budget
from churn_radar.store.due import Place
from churn_radar.store.signals import Signal, advance
from churn_radar.store.tables import Status
from churn_radar.work.steps import Floor
from churn_radar.work.tasks import Again, Step, Task

log = structlog.get_logger(__name__)

PAGE = 500


@dataclass(frozen=True)
class Spending:
    """The budget and the ledger, for one process. What is spent is always read from the ledger, never remembered."""

    floor: Floor
    budget: Budget = field(default_factory=Budget)
    _told: set[tuple[Month, Standing]] = field(default_factory=set)

    async def put_off(self, signal: Signal, mrr: Decimal) -> Again | None:
        """Put a signal off to the next month when the budget does not cover its research; None when it does.

        Costs no attempt. A signal that somebody replayed while it waited for the budget is researched all the same.
        """
        now = self.floor.now()
        if self.budget.monthly_credits is None or (signal.due_at is not None and signal.due_at > now):
            return None
        month = month_of(now)
        async with self.floor.record.read() as connection:
            spent = await spent_in(connection, month, now=now)
            covered = self.budget.covers(spent, mrr) or await operator_decided(connection, signal.seq)
        self.tell(month, spent)
        if covered:
            return None
        reason = waits_because(self.budget, spent, month)

        async def wait(connection: AsyncConnection) -> bool:
            return await advance(
                connection,
                signal.seq,
                expected=(Status.WAITING,),
                to=Status.WAITING,
                now=now,
                reason=reason,
                attempts=signal.attempts,
                due_at=month.end,
            )

        await self.floor.write(wait)
        log.info("signal.waits_for_budget", signal_id=signal.signal_id, event_id=signal.event_id)
        return Again(month.end - now, in_record=True)

    async def resume(self) -> int:
        """Let go, at a start, what waited for the budget and is covered now; returns how many signals that were.

        The limit may have been raised or lifted, or the month is over. The engine is told of what was let go.
        """
        now = self.floor.now()
        async with self.floor.record.read() as connection:
            spent = await spent_in(connection, month_of(now), now=now)
        count = 0
        after: Place | None = None
        while True:
            async with self.floor.record.read() as connection:
                waiters, further = await waiting_for_budget(connection, after=after, limit=PAGE)
            covered = [waiter for waiter in waiters if self.budget.covers(spent, waiter.mrr)]
            if covered:
                await self.floor.write(partial(let_go, seqs=[waiter.seq for waiter in covered], now=now))
                await self.floor.enqueue([Task(Step.RESEARCH, waiter.seq, waiter.priority) for waiter in covered])
                count += len(covered)
            if further is None:
                break
            after = further
        if count:
            log.info("budget.resumed", signals=count)
        return count

    async def sums(self, connection: AsyncConnection) -> tuple[Month, Spent] | None:
        """The month's sums, as `tell` takes them; None without a limit, for nothing asks for them then."""
        if self.budget.monthly_credits is None:
            return None
        now = self.floor.now()
        return month_of(now), await spent_in(connection, month_of(now), now=now)

    def tell(self, month: Month, spent: Spent) -> None:
        """Warn that the budget is nearly spent, or spent: each once a month and process."""
        standing = self.budget.standing(spent)
        if standing is Standing.FINE or (month, standing) in self._told:
            return
        self._told.add((month, standing))
        log.warning(
            f"budget.{standing.value}",
            month=month.name,
            credits=spent.credits,
            limit=self.budget.monthly_credits,
            researched_from_mrr=str(self.budget.over_budget_mrr) if standing is Standing.SPENT else None,
        )
