"""May this account's research be paid for this month? Pure: the ledger's sums come in, a decision goes out.

A budget is a number of Mavera credits for a calendar month in UTC. Once it is spent, research goes on for the dearest
accounts only; the others wait for the next month, for the operator who replays them, or for a higher limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

# How the reason of a signal begins that was put off for the budget; it is known again by this.
WAITS_FOR_BUDGET = "waits for the budget"
NEARLY_SPENT = Decimal("0.8")
# What a call is taken to have cost when nothing says what it did: the middle of the documented 30 to 50 credits for a
# complex question.
UNTOLD_CREDITS = 40
# More than any balance; a count that no column holds must not cost the brief that it came with.
MOST_CREDITS = 10**9
# No call is under way for longer: the longest wait for an answer is 15 minutes, and a question may be asked thrice.
LONGEST_CALL = timedelta(hours=1)

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class CreditsFor(StrEnum):
    """What an entry of the ledger was spent on. `under_way` and `unanswered` are estimates."""

    UNDER_WAY = "under_way"
    BRIEF = "brief"
    LOST = "lost"
    UNANSWERED = "unanswered"


class Standing(StrEnum):
    """How much of a budget is left, in the three degrees that matter."""

    FINE = "fine"
    NEARLY_SPENT = "nearly_spent"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC, from `start` to just before `end`."""

    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """For people: `November 2026`."""
        return f"{_MONTHS[self.start.month - 1]} {self.start.year}"

    @property
    def first_day_after(self) -> str:
        """For people: `1 December`."""
        return f"1 {_MONTHS[self.end.month - 1]}"


@dataclass(frozen=True, slots=True)
class Spent:
    """The sums of a month, in credits: spent, how much of that is an estimate, and reserved for calls under way."""

    credits: int = 0
    estimated: int = 0
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent: `monthly_credits` a month (None: no limit), and beyond that only for the dearest accounts.

    Those have an MRR of `over_budget_mrr` or more, in the account's currency per month.
    """

    monthly_credits: int | None = None
    over_budget_mrr: Decimal = Decimal(500)

    def standing(self, spent: Spent) -> Standing:
        """How much is left. Calls under way do not count before their price is known."""
        if self.monthly_credits is None or spent.credits < self.monthly_credits * NEARLY_SPENT:
            return Standing.FINE
        return Standing.NEARLY_SPENT if spent.credits < self.monthly_credits else Standing.SPENT

    def covers(self, spent: Spent, mrr: Decimal) -> bool:
        """Whether an account of this MRR may be researched now.

        What is spent is known when a call ends, so the budget can be overrun by the calls that are then under way.
        """
        return self.standing(spent) is not Standing.SPENT or mrr >= self.over_budget_mrr


@dataclass(frozen=True, slots=True)
class Charge:
    """One entry of the ledger."""

    credits: int
    purpose: CreditsFor


def month_of(now: datetime) -> Month:
    """The calendar month, in UTC, in which an aware datetime lies."""
    start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Month(start, (start + timedelta(days=31)).replace(day=1))


def waits_because(budget: Budget, spent: Spent, month: Month) -> str:
    """The reason of a signal that waits for the next month, in one line."""
    return (
        f"{WAITS_FOR_BUDGET}: {spent.credits:,} of {budget.monthly_credits or 0:,} credits of {month.name} spent; "
        f"goes on by itself on {month.first_day_after} (UTC), or when it is replayed or the limit is raised"
    )


def charges(*, brief: int | None, lost: int, unanswered: int) -> Sequence[Charge]:
    """What one attempt has cost, as entries of the ledger.

    `brief` are the credits of the brief that came (0: the answer does not tell), None when none came; `lost` those of
    answers that were no brief; `unanswered` is the number of calls that went out without a readable answer.
    """
    found = [] if brief is None else [Charge(min(brief, MOST_CREDITS) or UNTOLD_CREDITS, CreditsFor.BRIEF)]
    if lost:
        found.append(Charge(min(lost, MOST_CREDITS), CreditsFor.LOST))
    if unanswered:
        found.append(Charge(unanswered * UNTOLD_CREDITS, CreditsFor.UNANSWERED))
    return found
